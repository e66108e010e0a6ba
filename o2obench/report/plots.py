"""The figures by name: those of one data set and those of all; a text says why one is left out."""

from __future__ import annotations

from collections.abc import Callable

from . import closeups, curves, inside, overviews
from .canvas import Drawing, Target
from .findings import Findings

Plot = Callable[[Findings, str, Target], Drawing | str | None]
"""Draws a figure of a data set ("" for all); a text says why it is left out, None that there is nothing."""

TITLES = {
    "aggregates": "Aggregates",
    "efficiency": "Sample efficiency",
    "profiles": "Performance profiles",
    "improvement": "Probability of improvement",
    "grid": "Learning curves of all data sets",
    "ablation": "One option swept",
    "curves": "Learning curves",
    "drop": "What was lost, and where it ended",
    "seeds": "Every seed",
    "diagnostics": "What the agents logged",
    "uncertainty": "How the penalty fades (MOORe Fig. 4)",
}
EACH: dict[str, Plot] = {
    "curves": curves.curves,
    "drop": closeups.drop,
    "seeds": closeups.seeds,
    "diagnostics": inside.diagnostics,
    "uncertainty": inside.fading,
}
OVERALL: dict[str, Plot] = {
    "aggregates": overviews.aggregates,
    "efficiency": overviews.efficiency,
    "profiles": overviews.profiles,
    "improvement": overviews.improvement,
    "grid": overviews.curves,
    "ablation": overviews.ablation,
}
