"""The figures of a data set: learning curves, what agents logged, how the penalty fades.

Learning curves: offline left of the switch, online right of it. Where a method learns without interacting,
environment steps do not show when; then the same curves stand beside it over updates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..plan import Plan
from ..results import episodes, logged
from .statistics import FEW, MANY, mean_curve

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "o2obench",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "grid.color": "#e6e6e6",
}
OFFLINE = "#777777"


def colours(plan: Plan) -> dict[str, Any]:
    """Give every label its colour, the same in all figures; seaborn's colour-blind palette."""
    import seaborn

    labels = list(dict.fromkeys(cell.label for cell in plan.cells))
    palette = seaborn.color_palette("colorblind", max(10, len(labels)))
    return dict(zip(labels, palette, strict=False))


DASHES = ("-", "--", ":", "-.")


def lines_of(plan: Plan) -> dict[str, tuple[Any, str]]:
    """Give every label its colour and, where there are more labels than colours, its dashes."""
    every = enumerate(colours(plan).items())
    return {label: (colour, DASHES[i // 10 % len(DASHES)]) for i, (label, colour) in every}


def prepared() -> Any:
    """Return pyplot, drawing to files only."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


@dataclass(frozen=True)
class Target:
    """Where a figure goes: the files' path without suffix, and their kinds."""

    stem: Path
    kinds: tuple[str, ...] = ("svg", "pdf", "png")

    def file(self, kind: str) -> Path:
        """Return the path of one kind."""
        return self.stem.with_name(f"{self.stem.name}.{kind}")


BAND = "_band of "
"""Begins the label of a band; a legend leaves out what begins with an underscore."""
Panel = dict[str, Any]
"""One axis as the page needs it to show values under the pointer: its place, limits and series."""


@dataclass(frozen=True)
class Drawing:
    """What was drawn: panels to read values from, and what has to be said about it."""

    panels: list[Panel]
    note: str = ""


def save(figure: Any, target: Target, labels: Iterable[str] = (), **options: Any) -> list[Panel]:
    """Write a figure, without a clock, and close it; return its panels, for reading values.

    Lines and bands of ``labels`` get their place among them as a name, by which the page's filter hides them.
    """
    places = {label: i for i, label in enumerate(labels)}
    for axis in figure.axes:
        for artist in (*axis.lines, *axis.collections):
            place = places.get(artist.get_label().removeprefix(BAND))
            if place is not None:
                artist.set_gid(f"series-{place}")
    known = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    panels = [] if options else [panel for axis in figure.axes if (panel := _panel(axis))]
    for kind in target.kinds:
        figure.savefig(target.file(kind), metadata=known[kind], dpi=160, **options)
    prepared().close(figure)
    return panels


def _series(line: Any) -> dict[str, Any]:
    """Return the finite points of a line, as few digits as a reader can use."""
    points = zip(line.get_xdata(), line.get_ydata(), strict=True)
    whole = [(float(f"{x:.6g}"), float(f"{y:.4g}")) for x, y in points if math.isfinite(y)]
    return {"label": line.get_label(), "x": [x for x, _ in whole], "y": [y for _, y in whole]}


def _panel(axis: Any) -> Panel | None:
    """Return place (in shares of the figure, from its top left), limits and labelled lines of an axis."""
    box, lines = (
        axis.get_position(),
        [line for line in axis.get_lines() if not line.get_label().startswith("_")],
    )
    if not lines or axis.get_xscale() != "linear" or axis.get_yscale() != "linear":
        return None
    return {
        "box": [round(float(v), 5) for v in (box.x0, 1 - box.y1, box.x1, 1 - box.y0)],
        "x": [float(v) for v in axis.get_xlim()],
        "name": axis.get_xlabel(),
        "series": [_series(line) for line in lines],
    }


def curves(plan: Plan, table: pd.DataFrame, dataset: str, target: Target) -> Drawing | None:
    """Draw means over seeds with a band, whose kind the title names."""
    plt = prepared()
    own = table[table.dataset == dataset]
    fewest = int(own.groupby("label").seed.nunique().min())
    sure = fewest >= FEW
    offline, online = (own[own.phase == phase] for phase in ("offline", "online"))
    panels = ["offline"] if len(offline) else []
    panels += ["env_steps"] if len(online) else []
    panels += ["updates"] if learns_apart(plan, set(online.label)) else []
    with plt.rc_context(STYLE):
        widths = [1 if name == "offline" else 2 for name in panels]
        size = (11.5 if "updates" in panels else 8.4, 3.5)
        figure, axes = plt.subplots(
            *(1, len(panels)), sharey=True, squeeze=False, width_ratios=widths, figsize=size
        )
        for axis, name in zip(axes[0], panels, strict=True):
            if name == "offline":
                _offline(axis, offline, sure)
            else:
                _online(axis, online, colours(plan), name, sure)
        found = [axis.get_legend_handles_labels() for axis in axes[0][len(offline) > 0 :]]
        shown = {label: line for lines, labels in found for line, label in zip(lines, labels, strict=True)}
        if shown:
            ordered = [label for label in colours(plan) if label in shown]
            lines = [shown[label] for label in ordered]
            beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
            axes[0][-1].legend(lines, ordered, frameon=False, **beside)
        axes[0][0].set_ylabel("normalised score")
        figure.suptitle(
            _said(plan, dataset, own, f"; line: mean, band: {band_kind(fewest)}"),
            x=0.01,
            ha="left",
            fontsize=10,
            color="#222222",
        )
        figure.tight_layout(w_pad=0.6)
        return Drawing(save(figure, target, colours(plan)))


def learns_apart(plan: Plan, labels: set[str]) -> bool:
    """Tell whether one of these tuning methods has updates in a stage without the environment."""
    tuned = {plan.run(cell.run).group for cell in plan.cells if cell.parent and cell.label in labels}
    return any(stage.updates and not stage.env_steps for group in tuned for stage in plan.stages[group])


MEAN = "uncertainty/mean"
KL, DOUBT, SHARE, ERROR = "moved/online/kl", "uncertainty", "rows/offline", "held_out/online/mse"
LOGGED = (KL, *(f"{DOUBT}/{name}" for name in ("q20", "q50", "q80")), SHARE, ERROR)
LEAST = 1e-4
"""What has not moved at all is drawn here on a logarithmic axis."""
PANELS = {
    KL: f"KL(old || new), online rows (nats, at least {LEAST:g})",
    ERROR: "held-out squared error, online rows",
    f"{DOUBT}/q50": "uncertainty of model rows (20, 50, 80 %)",
    SHARE: "share of offline rows",
}


def diagnostics(plan: Plan, results: Path, dataset: str, target: Target) -> Drawing | None:
    """Draw what was logged at each model training; None where there is nothing."""
    plt, rows = prepared(), logged(plan, results, LOGGED)
    own = rows[rows.dataset == dataset]
    panels = [name for name in PANELS if own[own.name == name].value.nunique() > 1]
    if not panels:
        return None
    with plt.rc_context(STYLE):
        width = max(7.0, 0.6 + 3.2 * len(panels))
        figure, axes = plt.subplots(1, len(panels), squeeze=False, figsize=(width, 3.3))
        for axis, name in zip(axes[0], panels, strict=True):
            for label, colour in colours(plan).items():
                _logged(axis, own[own.label == label], name, label, colour)
            axis.set_title(PANELS[name], loc="left", fontsize=8, color="#555555")
            axis.set_xlabel("environment steps")
            axis.grid(True, axis="y")
            if name in (KL, ERROR):
                axis.set_yscale("log")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        cut = ", reduced budget" if plan.reduced else ""
        title = f"{dataset}   (at each model training; line: mean, band: least to greatest seed{cut})"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color="#222222")
        figure.tight_layout(w_pad=0.8)
        return Drawing(save(figure, target, bbox_inches="tight"))


def fading(plan: Plan, results: Path, dataset: str, target: Target) -> Drawing | None:
    """Draw MOORe's Fig. 4: how the penalty fades, and its relative error; None where there is nothing.

    Left: mean over seeds of the 50 % quantile, band from the 20 % to the 80 % quantile. Right: the
    distribution of ``relative_error`` over all pairs of successive model trainings and all seeds.
    """
    plt = prepared()
    rows = logged(plan, results, (MEAN, *(f"{DOUBT}/{name}" for name in ("q20", "q50", "q80"))))
    own, played = rows[rows.dataset == dataset], episodes(plan, results)
    errors = relative_error(own, played[played.dataset == dataset])
    if errors.empty:
        return None
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.5))
        for label, colour in colours(plan).items():
            _logged(left, own[own.label == label], f"{DOUBT}/q50", label, colour)
            values = errors[errors.label == label].value
            if len(values):
                said = f"{label}: median {values.median():.2g}, 95 % below {values.quantile(0.95):.2g}"
                right.hist(values, bins=40, density=True, color=colour, alpha=0.35, label=said)
                right.axvline(values.median(), ymax=0.8, color=colour, lw=1.4)
        left.set(xlabel="environment steps", ylabel="uncertainty u of model rows")
        left.set_title("line: 50 %, band: 20 to 80 % of the rows", loc="left", fontsize=8, color="#555555")
        right.set(xlabel="|change of mean u| / reward per step", ylabel="density")
        left.set_ylim(bottom=0)
        left.locator_params(axis="x", nbins=5)
        right.set_xlim(left=0)
        right.set_ylim(top=1.25 * right.get_ylim()[1])
        right.set_title("between successive model trainings", loc="left", fontsize=8, color="#555555")
        for axis in (left, right):
            axis.grid(True, axis="y")
            axis.legend(frameon=False, loc="upper right")
        figure.suptitle(_said(plan, dataset, errors, ""), x=0.01, ha="left", fontsize=10, color="#222222")
        figure.tight_layout(w_pad=1.2)
        return Drawing(save(figure, target))


def relative_error(rows: pd.DataFrame, played: pd.DataFrame) -> pd.DataFrame:
    """Return MOORe's relative uncertainty error of each model training but the first: label, seed, value.

    The paper's |U_t - U_{t+1}| / eta_t prints its indices in two ways; Theorem 2 needs each U under its own
    model and policy, which is what a rollout after each training logs. There U and the return are both sums
    over an occupancy measure; what is logged is a mean over model rows. So the return is taken per step, too:
    of the training episodes that ended in the same 1,000 steps, or in the nearest such before (else after).
    A mean per step over the return of a whole episode would be smaller by its length, and mean nothing.
    """
    found = []
    for (label, seed), own in rows[rows.name == MEAN].groupby(["label", "seed"], sort=False):
        mine = played[(played.label == label) & (played.seed == seed)]
        epochs = mine.groupby((mine.env_steps - 1) // 1000)[["return", "length"]].sum()
        if epochs.empty:
            continue
        now = ((own.env_steps - 1).clip(lower=0) // 1000).to_numpy()[1:]
        wanted = range(max(now.max(initial=0), epochs.index.max()) + 1)
        per_step = (epochs["return"] / epochs.length).reindex(wanted).ffill().bfill()
        change = own.value.diff().abs().to_numpy()[1:]
        found += [(label, seed, a / abs(b)) for a, b in zip(change, per_step[now], strict=True) if b]
    return pd.DataFrame(found, columns=["label", "seed", "value"])


def _logged(axis: Any, rows: pd.DataFrame, name: str, label: str, colour: Any) -> None:
    """Draw one quantity of one method; of uncertainty the mean quantiles, of all else the range of seeds."""
    of = {
        key: part.pivot_table(index="env_steps", columns="seed", values="value")
        for key, part in rows.groupby("name")
    }
    if name not in of:
        return
    wide = of[name].clip(lower=LEAST) if name == KL else of[name]
    low, high = wide.min(axis=1), wide.max(axis=1)
    if name.startswith(DOUBT):
        low, high = (of[f"{DOUBT}/{edge}"].mean(axis=1) for edge in ("q20", "q80"))
    axis.fill_between(wide.index, low, high, color=colour, alpha=0.12, lw=0)
    axis.plot(wide.index, wide.mean(axis=1), color=colour, label=label, lw=1.4)


def band_kind(n: int) -> str:
    """Return what the band around a mean over n seeds is."""
    if n < FEW:
        return "least to greatest seed"
    return "95 % bootstrap interval, pointwise" + (", small n" if n < MANY else "")


def _said(plan: Plan, dataset: str, own: pd.DataFrame, how: str) -> str:
    """Return a figure's title: data set, seeds, how they are shown, and whether the budget was cut."""
    counts = own.groupby("label").seed.nunique()
    n = f"n = {counts.min()}" if counts.min() == counts.max() else f"n = {counts.min()} to {counts.max()}"
    cut = ", reduced budget" if plan.reduced else ""
    return f"{dataset}   ({n} seeds{how}{cut})"


def _offline(axis: Any, rows: pd.DataFrame, sure: bool) -> None:
    """Draw each pretraining run once, however many algorithms start from it."""
    once = rows.drop_duplicates(["seed", "stage", "updates", "mean_return"])
    unit, words = _unit(once.updates)
    _band(axis, once, "updates", OFFLINE, "pretraining", unit, sure)
    axis.set_xlabel(f"offline updates{words}")
    axis.set_title("offline", loc="left", fontsize=9, color="#555555")
    axis.margins(x=0.02)
    axis.grid(True, axis="y")


ONLINE = {
    "env_steps": ("online", "environment steps"),
    "updates": ("the same, over updates", "updates after the switch"),
}


def _online(axis: Any, rows: pd.DataFrame, palette: dict[str, Any], x: str, sure: bool) -> None:
    """Draw the methods that move along ``x``: one that takes no step has no curve over steps."""
    title, name = ONLINE[x]
    unit, words = _unit(rows[x])
    for label, own in rows.groupby("label", sort=False):
        if own[x].nunique() > 1:
            _band(axis, own, x, palette[str(label)], str(label), unit, sure)
    axis.set_xlabel(f"{name}{words}")
    axis.set_title(title, loc="left", fontsize=9, color="#555555")
    axis.margins(x=0.02)
    axis.grid(True, axis="y")


def _band(axis: Any, rows: pd.DataFrame, x: str, colour: Any, label: str, unit: int, sure: bool) -> None:
    """Draw the mean over the seeds at the clocks that all of them have reached, and a band around it.

    The band is the pointwise interval of the mean where all lines of the figure have one (``sure``), else it
    goes from the least to the greatest seed.

    What changes while a clock stands still is a vertical line there, from the first to the last row.
    """
    ends = [rows.drop_duplicates(["seed", x], keep=end).assign(end=end) for end in ("first", "last")]
    wide = pd.concat(ends).pivot(index=[x, "end"], columns="seed", values="score").sort_index().dropna()
    at, values = wide.index.get_level_values(x) / unit, wide.to_numpy()
    low, high = values.min(axis=1), values.max(axis=1)
    if sure:
        band = mean_curve(values.T)
        assert band.low is not None
        assert band.high is not None
        low, high = band.low, band.high
    axis.fill_between(at, low, high, color=colour, alpha=0.15, lw=0, label=BAND + label)
    axis.plot(at, values.mean(axis=1), color=colour, label=label, lw=1.8)


def _unit(clock: Any) -> tuple[int, str]:
    """Return the unit of an axis and how to say it."""
    return (1000, " (thousands)") if clock.max() > 20_000 else (1, "")
