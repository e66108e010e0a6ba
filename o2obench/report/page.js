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
  for (const one of document.querySelectorAll("[data-method], [data-dataset]")) {
    one.hidden = methods.has(one.dataset.method) || datasets.has(one.dataset.dataset);
  }
  for (const box of filters.querySelectorAll("input[data-filter=method]")) {
    const series = document.querySelectorAll(`.series-${box.dataset.index}`);
    for (const one of series) one.style.display = box.checked ? "" : "none";
  }
}

if (filters) {
  filters.hidden = false;
  filters.addEventListener("change", applyFilters);
}

// ---- zoom: a click makes a figure fill the window, another one or Escape puts it back -------------------

for (const figure of document.querySelectorAll("figure")) {
  figure.classList.add("zoomable");
  figure.addEventListener("click", () => figure.classList.toggle("large"));
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
