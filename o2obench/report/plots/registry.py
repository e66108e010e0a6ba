"""The figures by name: those of one data set and those of all; a text says why one is left out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import cast

from ...planning.report_items import FIGURES, plugin_figures
from ...util.plugins import load
from ..summary import Summary
from . import aggregate, curves, per_run, training_logs
from .style import Drawing, Target

Plot = Callable[[Summary, str, Target], Drawing | str | None]
"""Draws a figure of a data set ("" for all); a text says why it is left out, None that there is nothing."""

EACH: dict[str, Plot] = {
    "curves": curves.curves,
    "drop": per_run.lost,
    "seeds": per_run.seeds,
    "diagnostics": training_logs.diagnostics,
    "uncertainty": training_logs.fading,
}
OVERALL: dict[str, Plot] = {
    "aggregates": aggregate.aggregates,
    "efficiency": aggregate.efficiency,
    "profiles": aggregate.profiles,
    "improvement": aggregate.improvement,
    "grid": aggregate.curves,
    "ablation": aggregate.ablation,
    "tuning": aggregate.tuning,
}


def of_dataset(name: str) -> Plot | None:
    """Return the figure of this name of one data set, ours or an installed package's; None: no such."""
    if name in EACH:
        return EACH[name]
    entry = plugin_figures().get(name)
    return cast(Plot, load(entry)) if entry else None


def title_of(name: str) -> str:
    """Return a figure's title; a package's is its function's first line of documentation."""
    if name in FIGURES:
        return FIGURES[name]
    text = inspect.getdoc(load(plugin_figures()[name])) or name
    return text.split("\n")[0].rstrip(".")
