"""The tables and figures that a suite can ask the report for, by name; ``report`` makes them.

A package adds figures of its own by the entry point group ``o2obench.figures``: name -> a function
``draw(summary, dataset, target)`` like those in ``report.plots``.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from importlib import metadata

from ..util.config import nearest
from ..util.plugins import entry_points

GROUP = "o2obench.figures"

USUAL_FIGURES = {
    "aggregates": "Aggregates",
    "efficiency": "Sample efficiency",
    "profiles": "Performance profiles",
    "improvement": "How likely a run is better than one of the reference",
    "grid": "Learning curves of all data sets",
    "ablation": "One option swept",
    "curves": "Learning curves",
    "drop": "What was lost, and where it ended",
    "seeds": "Every seed",
    "diagnostics": "What the agents logged",
}
FIGURES = {
    **USUAL_FIGURES,
    "tuning": "The price of tuning",
    "uncertainty": "How the penalty fades (MOORe Fig. 4)",
    "explorer": "What the explorer returns (DOOF Fig. 3)",
}
"""Name -> title."""
USUAL_TABLES = ("final", "aggregates", "improvement", "regimes", "scores", "measures")
TABLES = (*USUAL_TABLES, "pairs", "explorer", "distance_uniform", "distance_rollout", "kinds")


@functools.cache
def plugin_figures() -> dict[str, metadata.EntryPoint]:
    """Return the figures of installed packages by name, not loaded; the names of ours are ours."""
    return {name: entry for name, entry in entry_points(GROUP).items() if name not in FIGURES}


def known_figure(name: str) -> str:
    """Return the name of a figure; raise ValueError when the report has none of it."""
    return _known(name, {*FIGURES, *plugin_figures()})


def known_table(name: str) -> str:
    """Return the name of a table; raise ValueError when the report has none of it."""
    return _known(name, TABLES)


def _known(name: str, names: Collection[str]) -> str:
    if name not in names:
        raise ValueError(f"{name} is not known; {nearest(name, names)}")
    return name
