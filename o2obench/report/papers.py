"""What papers printed, beside our numbers where data set and budget are the same; never mixed into them.

``paper_scores.csv`` is this project's transcription. Cells that the source text damaged say so in their note.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from ..plan import Plan

UPDATES, STEPS = 3_000_000, 10_000
"""The offline updates of all sources, and DOOF's environment steps."""
DAMAGED = ("OCR", "damaged", "lost")


@dataclass(frozen=True)
class Printed:
    """A score as printed: ``stage`` is offline, on-10k (steps) or off-300k (updates after them)."""

    source: str
    place: str
    algorithm: str
    dataset: str
    stage: str
    score: str
    deviation: str
    note: str

    @property
    def doubtful(self) -> bool:
        """Whether the cell could not be read with certainty."""
        return any(word in self.note for word in DAMAGED)


@functools.cache
def printed() -> tuple[Printed, ...]:
    """Return all printed normalised scores."""
    text = resources.files("o2obench").joinpath("paper_scores.csv").read_text(encoding="utf-8")
    return tuple(
        Printed(
            *(row["source"], row["table_or_figure"], row["algorithm"], row["dataset"], row["stage"]),
            *(row["mean"], row["std"], row["note"] or ""),
        )
        for row in csv.DictReader(text.splitlines())
        if row["metric"] == "normalized_score" and row["mean"] and row["table_or_figure"] != "Table 7"
    )


def beside(plan: Plan, datasets: Iterable[str]) -> dict[str, list[Printed]]:
    """Return, by data set, what papers printed for the plan's budget; nothing for a reduced plan."""
    if plan.reduced:
        return {}
    budgets = [run.spec["budget"] for run in plan.runs]
    offline = any(budget["offline_updates"] == UPDATES for budget in budgets)
    online = offline and any(budget["online_steps"] == STEPS for budget in budgets)
    stages = (("offline",) if offline else ()) + (("on-10k", "off-300k") if online else ())
    found = {
        name: [row for row in printed() if row.dataset == name and row.stage in stages] for name in datasets
    }
    return {name: rows for name, rows in found.items() if rows}
