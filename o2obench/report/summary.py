"""The numbers of the report: per data set and algorithm, seeds first averaged over their episodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..plan import Plan
from ..results import seconds

DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Line:
    """One algorithm on one data set: scores of each seed at the switch and at the end."""

    label: str
    dataset: str
    seeds: tuple[int, ...]
    asked: int
    start: tuple[float, ...]
    final: tuple[float, ...]
    updates_per_step: int | None
    n_init: int | None
    updates: int
    env_steps: int
    hours: float

    @property
    def change(self) -> tuple[float, ...]:
        """Final minus start, seed by seed (paired: both belong to one pretrained policy)."""
        return tuple(b - a for a, b in zip(self.start, self.final, strict=True))


def lines(plan: Plan, table: pd.DataFrame, results: Path) -> list[Line]:
    """Return a line for every label and data set of the plan, also where no seed is usable."""
    found = []
    for label, dataset in dict.fromkeys((cell.label, cell.dataset) for cell in plan.cells):
        cells = [c for c in plan.cells if (c.label, c.dataset) == (label, dataset)]
        own = table[(table.label == label) & (table.dataset == dataset)]
        start, final, seeds, hours = [], [], [], 0.0
        run = plan.run(cells[0].run)
        config, (updates, steps) = run.spec["config"], plan.work(run)
        for cell in cells:
            rows = own[own.seed == cell.seed]
            if rows.empty:
                continue
            online = rows[rows.phase == "online"]
            shown = online if len(online) else rows
            seeds.append(cell.seed)
            start.append(float(shown.score.iloc[0]))
            final.append(float(shown.score.iloc[-1]))
            updates = int(shown.updates.iloc[-1])
            hours += seconds(plan.run(cell.run), results) / 3600
        learns = updates > 0 and steps > 0
        found.append(
            Line(
                *(label, dataset, tuple(seeds), len(cells), tuple(start), tuple(final)),
                updates_per_step=config.get("updates_per_step") if learns else None,
                n_init=config.get("n_init") if learns else None,
                updates=updates,
                env_steps=steps,
                hours=hours / max(1, len(seeds)),
            )
        )
    return found


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


def geometric(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values, as ratios want it; 0 where one of them is 0."""
    return math.exp(mean([math.log(value) for value in values])) if min(values) > 0 else 0.0


def number(
    values: Iterable[float], form: str = "{:.1f}", middle: Callable[[Sequence[float]], float] = mean
) -> str:
    """Return ``mean (least to greatest)``; for one seed the value alone, for none a dash."""
    values = list(values)
    if not values:
        return DASH
    text = form.format(middle(values))
    if len(values) == 1:
        return text
    return f"{text} ({form.format(min(values))} to {form.format(max(values))})"
