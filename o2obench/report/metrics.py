"""The numbers of a run by name: their units, how they are written, and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass

from ..analysis import measures
from ..analysis.measures import LEVELS

OFFLINE, START, FINAL, CHANGE = "offline score", "score at the online start", "final score", "change"
AREA, GAINED, WINDOW = "area", "area above the start", "last window"
LOSS, DRAWDOWN, COLLAPSE = "loss on the way", "maximum drawdown", "collapse"
RECOVER, NOISE = "steps to recover", "evaluation noise"
SIGNED = (CHANGE, GAINED, LOSS, "improvement per 1,000 steps")


def reaching(level: float) -> str:
    """Return the name of the steps to a score."""
    return f"steps to {level:g}"


@dataclass(frozen=True)
class Metric:
    """What a number of a run is: its unit, how it is written, which direction is better (None: neither)."""

    name: str
    unit: str = "score"
    form: str = "{:.1f}"
    higher_is_better: bool | None = True


METRICS = {
    metric.name: metric
    for metric in (
        Metric(OFFLINE, higher_is_better=None),
        Metric(START, higher_is_better=None),
        *(
            Metric(
                m.name,
                m.unit,
                "{:+.1f}" if m.name in SIGNED else "{:.1f}",
                m.higher_is_better,
            )
            for m in measures.MEASURES
        ),
        Metric(COLLAPSE, "runs", "{:.0%}", False),
        Metric(RECOVER, "steps", "{:,.0f}", False),
        *(Metric(reaching(level), "steps", "{:,.0f}", False) for level in LEVELS),
        Metric(NOISE, higher_is_better=None),
    )
}


def at(steps: int) -> str:
    """Return the name of the score at a number of environment steps."""
    return f"score at {steps:,} steps"


def metric_of(name: str) -> Metric:
    """Return what a number is; scores at reporting steps are scores."""
    return METRICS.get(name, Metric(name))
