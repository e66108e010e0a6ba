"use strict";
// The page reads well without this script. It adds sorting, filters, zoom, and values under the pointer.
// Names of algorithms only ever pass through textContent and dataset: nothing here makes markup from text.

// ---- sorting: a click on a heading; rows keep their line of seeds -------------------------------------

function sortTable(heading) {
  const table = heading.closest("table"), body = table.tBodies[0];
  const column = heading.cellIndex, down = heading.getAttribute("aria-sort") !== "descending";
  const groups = [];
  for (const row of body.rows) {
    if (row.classList.contains("main")) groups.push([row]);
    else groups[groups.length - 1].push(row);
  }
  const key = (group) => group[0].cells[column].dataset.value;
  const text = (group) => group[0].cells[column].textContent;
  groups.sort((a, b) => {
    const x = key(a), y = key(b);
    if (x !== undefined && y !== undefined) return down ? y - x : x - y;
    if (x === undefined && y === undefined) return down ? text(b).localeCompare(text(a)) : text(a).localeCompare(text(b));
    return x === undefined ? 1 : -1;  // what has no number stands last, both ways
  });
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...groups.flat());
}

for (const heading of document.querySelectorAll("table.sortable th")) {
  const button = document.createElement("button");
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => sortTable(heading));
}

// ---- filters: rows of algorithms, sections of data sets, lines of figures ------------------------------

const filters = document.querySelector(".filters");

function applyFilters() {
  const off = (what) => new Set([...filters.querySelectorAll(`input[data-filter=${what}]`)]
    .filter((box) => !box.checked).map((box) => box.value));
  const methods = off("method"), datasets = off("dataset");
  view.off = methods;
  for (const one of document.querySelectorAll("tr[data-method], section[data-dataset], nav [data-dataset], tr[data-dataset]")) {
    one.hidden = methods.has(one.dataset.method) || datasets.has(one.dataset.dataset);
  }
  for (const box of filters.querySelectorAll("input[data-filter=method]")) {
    const series = document.querySelectorAll(`.series-${box.dataset.index}`);
    for (const one of series) one.style.display = box.checked ? "" : "none";
  }
}

if (filters) filters.hidden = false;

// ---- zoom: a click makes a figure fill the window, another one or Escape puts it back -------------------

for (const figure of document.querySelectorAll("figure[data-stem]")) {
  figure.classList.add("zoomable");
  figure.addEventListener("click", () => figure.classList.toggle("large"));
  figure.addEventListener("keydown", (event) => { if (event.key === "Enter") figure.classList.toggle("large"); });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const one of document.querySelectorAll("figure.large")) one.classList.remove("large");
});

// ---- values under the pointer: the page's data island holds place, limits and lines of every axis -------

const panels = JSON.parse(document.getElementById("panels").textContent);
const tip = document.getElementById("tip");

function nearest(series, x) {
  let best = 0;
  series.x.forEach((value, i) => { if (Math.abs(value - x) <= Math.abs(series.x[best] - x)) best = i; });
  return best;
}

function readValues(figure, event) {
  const box = figure.querySelector("svg").getBoundingClientRect();
  const u = (event.clientX - box.left) / box.width, v = (event.clientY - box.top) / box.height;
  const panel = (panels[figure.dataset.stem] || [])
    .find((one) => u >= one.box[0] && u <= one.box[2] && v >= one.box[1] && v <= one.box[3]);
  if (!panel) return "";
  const x = panel.x[0] + (u - panel.box[0]) / (panel.box[2] - panel.box[0]) * (panel.x[1] - panel.x[0]);
  const off = filters ? new Set([...filters.querySelectorAll("input[data-filter=method]")]
    .filter((input) => !input.checked).map((input) => input.value)) : new Set();
  const shown = panel.series.filter((one) => one.x.length && !off.has(one.label))
    .map((one) => ({ label: one.label, at: nearest(one, x), of: one }))
    .sort((a, b) => b.of.y[b.at] - a.of.y[a.at]);
  if (!shown.length) return "";
  const rows = shown.map((one) => `${one.of.y[one.at].toFixed(1).padStart(7)}  ${one.label}`);
  return [`${panel.name}: ${shown[0].of.x[shown[0].at].toLocaleString("en")}`, ...rows].join("\n");
}

for (const figure of document.querySelectorAll("figure[data-stem]")) {
  figure.addEventListener("pointermove", (event) => {
    const text = readValues(figure, event);
    tip.hidden = !text;
    tip.textContent = text;
    tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8)}px`;
  });
  figure.addEventListener("pointerleave", () => { tip.hidden = true; });
}

// ---- learning curves: drawn from the page's data island, steps, updates or hours across -----------------

const charts = JSON.parse(document.getElementById("charts").textContent);
const DASH = { "-": "", "--": "7 4", ":": "2 3", "-.": "8 3 2 3" };
const AXES = { steps: "environment steps", updates: "updates after the online start", hours: "hours" };
const view = { x: "steps", median: false, off: new Set(), set: Object.keys(charts)[0] || "", hovered: "" };

function svgElement(name, attributes, parent, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function niceTicks(low, high, many) {
  const raw = (high - low) / many || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw);
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) ticks.push(value);
  return ticks;
}

const short = (value) => Math.abs(value) >= 1000 ? `${+(value / 1000).toPrecision(4)}k` : `${+value.toPrecision(4)}`;
const measured = (name) => view.median ? `${name}3` : name;

function curvesOf(chart) {
  return chart.order.filter((method) => !view.off.has(method)).map((method) => {
    const of = chart.series[method];
    const x = of[view.x], y = of[measured("mean")] || of.mean;
    const drawable = x && new Set(x).size > 1;
    return { method, of, x, y, low: of[measured("low")] || of.low, high: of[measured("high")] || of.high, drawable };
  }).filter((one) => one.drawable);
}

function drawChart(figure) {
  const chart = charts[figure.classList.contains("top") ? view.set : figure.dataset.chart];
  const plot = figure.querySelector(".plot"), curves = curvesOf(chart);
  const width = Math.max(plot.clientWidth, 280), wide = width >= 620, height = wide ? 430 : 300;
  const strip = wide && chart.offline.length ? Math.round(width * 0.13) : 0;
  const names = wide ? Math.min(200, 14 + 6.6 * Math.max(0, ...curves.map((one) => one.method.length))) : 12;
  const left = 42 + strip, right = width - names, top = 12, bottom = height - 40;
  const parts = view.x === "hours" ? [] : chart.parts.filter((part) => !view.off.has(part.method));
  const all = [...curves, ...parts.map((part) => ({ x: part[view.x], y: part.mean, low: part.mean, high: part.mean }))];
  if (!all.length) { plot.textContent = "Nothing moves along this axis."; figure.querySelector(".values").textContent = ""; return; }
  const xMax = Math.max(...all.flatMap((one) => one.x)), offline = strip ? chart.offline : [];
  const ys = [...all.flatMap((one) => one.y), ...curves.filter((one) => !one.of.control).slice(0, 3).flatMap((one) => [...one.low, ...one.high]), ...offline.flatMap((one) => one.mean)];
  const spread = Math.max(...ys) - Math.min(...ys) || 1;
  const yMin = Math.max(Math.min(...ys) - 0.04 * spread, Math.min(...all.flatMap((one) => one.y)) - 0.6 * spread);
  const yMax = Math.max(...ys) + 0.04 * spread;
  const sx = (x) => left + (x / xMax) * (right - left), sy = (y) => bottom - ((y - yMin) / (yMax - yMin)) * (bottom - top);
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  for (const tick of niceTicks(yMin, yMax, 6)) {
    svgElement("line", { x1: left - strip, x2: right, y1: sy(tick), y2: sy(tick), class: "grid" }, svg);
    svgElement("text", { x: left - strip - 6, y: sy(tick) + 4, "text-anchor": "end" }, svg, short(tick));
  }
  for (const tick of niceTicks(0, xMax, wide ? 8 : 4)) {
    svgElement("text", { x: sx(tick), y: bottom + 16, "text-anchor": "middle" }, svg, short(tick));
    svgElement("line", { x1: sx(tick), x2: sx(tick), y1: bottom, y2: bottom + 4, class: "axis" }, svg);
  }
  svgElement("line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "axis" }, svg);
  svgElement("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, svg, AXES[view.x]);
  svgElement("text", { x: 12, y: (top + bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(top + bottom) / 2})` }, svg, "normalised score");
  if (strip) {
    const uMax = Math.max(...offline.flatMap((one) => one.updates));
    svgElement("line", { x1: left, x2: left, y1: top, y2: bottom, class: "axis" }, svg);
    svgElement("text", { x: left - strip / 2, y: bottom + 16, "text-anchor": "middle" }, svg, "offline");
    svgElement("text", { x: left - strip / 2, y: bottom + 30, "text-anchor": "middle" }, svg, `${short(uMax)} updates`);
    offline.forEach((one, i) => path(svg, one.updates.map((u) => left - strip + (u / uMax) * strip), one.mean.map(sy),
      { stroke: one.colour, "stroke-width": 1.6, "stroke-dasharray": Object.values(DASH)[i % 4] }));
  }
  const learning = curves.filter((one) => !one.of.control);
  const banded = view.hovered ? curves.filter((one) => one.method === view.hovered) : learning.slice(0, 3);
  for (const one of banded) {
    const points = one.x.map((x, i) => `${sx(x)},${sy(one.high[i])}`).concat(one.x.map((x, i) => `${sx(x)},${sy(one.low[i])}`).reverse());
    svgElement("polygon", { points: points.join(" "), fill: one.of.colour, opacity: 0.16, class: "band", "data-method": one.method }, svg);
  }
  for (const part of parts) {
    path(svg, part[view.x].map(sx), part.mean.map(sy), { stroke: part.colour, "stroke-width": 1, "stroke-dasharray": "1 3", class: "part" });
  }
  for (const one of [...curves].reverse()) {
    const line = path(svg, one.x.map(sx), one.y.map(sy), { stroke: one.of.colour, "stroke-width": one.method === view.hovered ? 3.4 : 2.1,
      "stroke-dasharray": DASH[one.of.dash], opacity: view.hovered && one.method !== view.hovered ? 0.3 : 1, "data-method": one.method, class: "curve" });
    svgElement("title", {}, line, one.method);
  }
  if (wide) label(svg, curves, sx, sy, right, top, bottom);
  svgElement("line", { x1: -9, x2: -9, y1: top, y2: bottom, class: "cross" }, svg);
  plot.replaceChildren(svg);
  figure.scale = { left, right, xMax, width, curves };
  showValues(figure, figure.at === undefined ? xMax : figure.at);
}

function path(svg, xs, ys, attributes) {
  const d = xs.map((x, i) => `${i ? "L" : "M"}${x.toFixed(1)} ${ys[i].toFixed(1)}`).join("");
  return svgElement("path", { d, fill: "none", ...attributes }, svg);
}

function label(svg, curves, sx, sy, right, top, bottom) {
  const ends = curves.map((one) => ({ one, y: sy(one.y[one.y.length - 1]), from: sy(one.y[one.y.length - 1]), x: sx(one.x[one.x.length - 1]) }));
  ends.sort((a, b) => a.y - b.y);
  for (let i = 1; i < ends.length; i++) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + 14);
  const over = ends.length ? Math.max(0, ends[ends.length - 1].y - bottom) : 0;
  for (let i = ends.length - 1, limit = bottom; over && i >= 0; i--) { ends[i].y = Math.min(ends[i].y, limit); limit = ends[i].y - 14; }
  for (const end of ends) {
    svgElement("line", { x1: end.x, x2: right + 8, y1: end.from, y2: end.y, stroke: end.one.of.colour, "stroke-width": 1, opacity: 0.6 }, svg);
    svgElement("text", { x: right + 12, y: end.y + 4, class: "name", "data-method": end.one.method }, svg, end.one.method);
  }
}

function showValues(figure, x) {
  const { curves, left, right, xMax } = figure.scale, values = figure.querySelector(".values");
  const table = document.createElement("table"), unit = view.x === "hours" ? 2 : 0;
  const at = curves.map((one) => ({ one, i: nearest({ x: one.x }, x) })).sort((a, b) => b.one.y[b.i] - a.one.y[a.i]);
  table.createCaption().textContent = `at ${x.toLocaleString("en", { maximumFractionDigits: unit })} ${AXES[view.x]}${view.median ? ", medians of 3" : ""}`;
  for (const { one, i } of at) {
    const row = table.insertRow(), swatch = document.createElement("i"), name = row.insertCell();
    swatch.style.borderTopColor = one.of.colour;
    swatch.style.borderTopStyle = one.of.dash === "-" ? "solid" : one.of.dash === ":" ? "dotted" : "dashed";
    name.append(swatch, one.method);
    row.dataset.method = one.method;
    row.classList.toggle("faded", Boolean(view.hovered) && view.hovered !== one.method);
    row.insertCell().textContent = one.y[i].toFixed(1);
    const span = `${one.low[i].toFixed(1)}, ${one.high[i].toFixed(1)}`;
    row.insertCell().textContent = one.of.n === 1 ? "" : one.of.sure ? `[${span}]` : `(${span})`;
    row.insertCell().textContent = `n ${one.of.n}`;
  }
  values.replaceChildren(table);
  const cross = figure.querySelector(".cross"), place = left + (x / xMax) * (right - left);
  if (cross && figure.at !== undefined) { cross.setAttribute("x1", place); cross.setAttribute("x2", place); }
}

function move(figure, x) {
  const steps = [...new Set(figure.scale.curves.flatMap((one) => one.x))].sort((a, b) => a - b);
  figure.at = steps.reduce((best, step) => Math.abs(step - x) < Math.abs(best - x) ? step : best, steps[0]);
  showValues(figure, figure.at);
}

function hover(method) {
  if (view.hovered !== method) { view.hovered = method; drawCharts(); }
}

const drawCharts = () => document.querySelectorAll("figure.chart").forEach(drawChart);

document.querySelectorAll("figure.chart").forEach((figure, i) => {
  figure.classList.toggle("top", i === 0);
  const plot = figure.querySelector(".plot");
  plot.addEventListener("pointermove", (event) => {
    if (!figure.scale) return;
    const box = plot.getBoundingClientRect(), { left, right, xMax } = figure.scale;
    move(figure, Math.min(Math.max((event.clientX - box.left - left) / (right - left), 0), 1) * xMax);
    const over = event.target.closest("[data-method]");
    hover(over ? over.dataset.method : "");
  });
  figure.addEventListener("pointerleave", () => { figure.at = undefined; view.hovered = ""; drawChart(figure); });
  figure.querySelector(".values").addEventListener("pointerover", (event) => {
    const row = event.target.closest("tr");
    if (row && row.dataset.method) hover(row.dataset.method);
  });
  figure.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way || !figure.scale || !figure.scale.curves.length) return;
    event.preventDefault();
    const steps = [...new Set(figure.scale.curves.flatMap((one) => one.x))].sort((a, b) => a - b);
    const now = figure.at === undefined ? (way > 0 ? -1 : steps.length) : steps.indexOf(figure.at);
    move(figure, steps[Math.min(Math.max(now + way, 0), steps.length - 1)]);
  });
});

// ---- the address keeps what was chosen, so that a link shows the same ------------------------------------

function remember() {
  const kept = new URLSearchParams();
  if (view.x !== "steps") kept.set("x", view.x);
  if (view.median) kept.set("median", "1");
  if (view.set !== Object.keys(charts)[0]) kept.set("data", view.set);
  for (const box of filters ? filters.querySelectorAll("input:not(:checked)") : []) kept.append(`no-${box.dataset.filter}`, box.value);
  const text = kept.toString();
  history.replaceState(null, "", text ? `#?${text}` : location.hash.startsWith("#?") ? "#" : location.hash || "#");
}

function recall() {
  if (!location.hash.startsWith("#?")) return;
  const kept = new URLSearchParams(location.hash.slice(2));
  view.x = kept.get("x") in AXES ? kept.get("x") : "steps";
  view.median = kept.has("median");
  if (kept.get("data") in charts) view.set = kept.get("data");
  for (const box of filters ? filters.querySelectorAll("input") : []) box.checked = !kept.getAll(`no-${box.dataset.filter}`).includes(box.value);
  if (filters && filters.querySelector("input:not(:checked)")) filters.querySelector("details").open = true;
}

function showChoice() {
  for (const radio of document.querySelectorAll("[data-axis]")) radio.checked = radio.dataset.axis === view.x;
  for (const box of document.querySelectorAll("[data-median]")) box.checked = view.median;
  for (const select of document.querySelectorAll("[data-choose]")) select.value = view.set;
  if (filters) applyFilters();
  drawCharts();
}

for (const controls of document.querySelectorAll(".controls")) {
  controls.hidden = false;
  controls.addEventListener("change", (event) => {
    const chosen = event.target;
    if (chosen.dataset.axis) view.x = chosen.dataset.axis;
    else if ("median" in chosen.dataset) view.median = chosen.checked;
    else view.set = chosen.value;
    for (const figure of document.querySelectorAll("figure.chart")) figure.at = undefined;
    showChoice();
    remember();
  });
}
if (filters) filters.addEventListener("change", () => { applyFilters(); drawCharts(); remember(); });
recall();
showChoice();
window.addEventListener("resize", drawCharts);
window.addEventListener("hashchange", () => { recall(); showChoice(); });
