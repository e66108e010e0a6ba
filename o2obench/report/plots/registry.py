"""The figures by name: those of one data set and those of all; a text says why one is left out."""

from __future__ import annotations

from collections.abc import Callable

from ..summary import Findings
from . import aggregate, curves, per_run, training_logs
from .style import Drawing, Target

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
    "drop": per_run.drop,
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
}
