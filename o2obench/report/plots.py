"""The figures by name: those of one data set and those of all; a text says why one is left out."""

from __future__ import annotations

from collections.abc import Callable

from . import closeups, figures, overviews
from .figures import Drawing, Target
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
FADES = (
    "Right: the relative uncertainty error, |change of the mean uncertainty of model rows from one model "
    "training to the next| over the reward per step of the training episodes that ended in the same 1,000 "
    "steps; all seeds and trainings together, line: median. The paper divides sums over an occupancy "
    "measure, these are means per step."
)


def curves(found: Findings, dataset: str, target: Target) -> Drawing | None:
    """Learning curves, offline left of the switch."""
    if not (found.table.dataset == dataset).any():
        return None
    return figures.curves(found.plan, found.table, dataset, target)


def diagnostics(found: Findings, dataset: str, target: Target) -> Drawing | None:
    """What agents logged at each model training."""
    return figures.diagnostics(found.plan, found.results, dataset, target)


def uncertainty(found: Findings, dataset: str, target: Target) -> Drawing | None:
    """How the penalty fades."""
    drawn = figures.fading(found.plan, found.results, dataset, target)
    return Drawing(drawn.panels, FADES) if drawn else None


EACH: dict[str, Plot] = {
    "curves": curves,
    "drop": closeups.drop,
    "seeds": closeups.seeds,
    "diagnostics": diagnostics,
    "uncertainty": uncertainty,
}
OVERALL: dict[str, Plot] = {
    "aggregates": overviews.aggregates,
    "efficiency": overviews.efficiency,
    "profiles": overviews.profiles,
    "improvement": overviews.improvement,
    "grid": overviews.curves,
    "ablation": overviews.ablation,
}
