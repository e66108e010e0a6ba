"""What all figures share: style, colours, titles, where files go, and the values the page shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...planning.plan import Plan

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


def logarithmic(axis: Any, *marks: int) -> None:
    """Make an axis logarithmic, with plain numbers at these marks of each decade, since formulas are off."""
    from matplotlib.ticker import LogLocator

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=marks))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")


def heading(plan: Plan, subject: str, how: str) -> str:
    """Return a figure's title: what it shows and, in parentheses, how; a reduced plan says so everywhere."""
    return f"{subject}   ({how}{', reduced budget' if plan.reduced else ''})"


def seeds_of(counts: Iterable[int]) -> str:
    """Return how many seeds stand behind several lines."""
    distinct = sorted({*counts})
    if distinct == [1]:
        return "n = 1 seed"
    return f"n = {distinct[0]} seeds" if len(distinct) == 1 else f"n = {distinct[0]} to {distinct[-1]} seeds"


def finish(figure: Any, title: str, **layout: Any) -> None:
    """Give a figure its title, top left, and arrange it; what is too wide goes on in a second line."""
    head = figure.suptitle(title, x=0.01, ha="left", fontsize=10, color="#222222")
    if head.get_window_extent().width > 0.98 * figure.bbox.width:
        head.set_text(title.replace("   (", "\n(", 1))
    figure.tight_layout(**layout)


def beside() -> dict[str, Any]:
    """Return how a legend stands right of an axis."""
    return {"frameon": False, "loc": "center left", "bbox_to_anchor": (1.0, 0.5)}


def share_legend(figure: Any, axes: Iterable[Any]) -> dict[str, Any]:
    """Set one legend for several axes at a figure's right edge; return the room it takes from them."""
    shown = legend_of(axes)
    figure.legend(shown.values(), shown, frameon=False, loc="center right")
    inches = 0.6 + 0.075 * max(map(len, shown), default=0)
    return {"rect": (0, 0, 1 - inches / figure.get_figwidth(), 1)}


def legend_of(axes: Iterable[Any]) -> dict[str, Any]:
    """Return the entries of several axes as one legend shows them: handles by label, each once."""
    entries: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    return entries


def belongs(artist: Any, labels: Sequence[str], label: str) -> None:
    """Name an artist after its algorithm's place among the labels, for the page's filter."""
    if label in labels:
        artist.set_gid(f"series-{labels.index(label)}")


def save(figure: Any, target: Target, labels: Sequence[str] = ()) -> list[Panel]:
    """Write a figure, without a clock, and close it; return its panels, for reading values.

    Lines and bands of ``labels`` and their entries in legends are named, for the page's filter.
    """
    legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
    for legend in legends:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            belongs(handle, labels, text.get_text())
            belongs(text, labels, text.get_text())
    for axis in figure.axes:
        for artist in (*axis.lines, *axis.collections):
            belongs(artist, labels, str(artist.get_label()).removeprefix(BAND))
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    panels = [panel for axis in figure.axes if (panel := _panel(axis))]
    for kind in target.kinds:
        figure.savefig(target.file(kind), metadata=metadata[kind], dpi=160)
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
