"""What papers printed, beside our numbers where data set and budget are the same; never mixed into them.

``paper_scores.csv`` is this project's transcription. Cells that the source text damaged say so in their note.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from ..planning.plan import Plan
from .format import DASH

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
        """Whether the number could not be read with certainty."""
        return any(word in self.note for word in DAMAGED)


@functools.cache
def _transcribed() -> tuple[dict[str, str], ...]:
    """Return every row of the transcription."""
    text = resources.files("o2obench.report").joinpath("paper_scores.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def printed(metric: str = "normalized_score") -> tuple[Printed, ...]:
    """Return all rows of a metric that hold a number; by default the scores of single data sets."""
    return tuple(
        Printed(
            *(row["source"], row["table_or_figure"], row["algorithm"], row["dataset"], row["stage"]),
            *(row["mean"], row["std"], row["note"] or ""),
        )
        for row in _transcribed()
        if row["metric"] == metric and row["mean"]
    )


def beside(plan: Plan, datasets: Iterable[str]) -> dict[str, list[Printed]]:
    """Return, by data set, what papers printed for the plan's budget; nothing for a reduced plan."""
    stages = _stages(plan)
    by_dataset = {
        name: [row for row in printed() if row.dataset == name and row.stage in stages] for name in datasets
    }
    return {name: rows for name, rows in by_dataset.items() if rows}


def means_of_kind(plan: Plan, kind: str, datasets: Sequence[str]) -> list[Printed]:
    """Return DOOF's Table 7 for a kind of data where the plan has its three sets and its budget."""
    if set(datasets) != {f"{task}-{kind}-v2" for task in ("halfcheetah", "hopper", "walker2d")}:
        return []
    short = "".join(word[0] for word in kind.split("-"))
    name, stages = f"mean of HC-{short},HP-{short},WK-{short}", _stages(plan)
    rows = (row for row in printed("mean_normalized_score") if row.stage in stages)
    return [replace(row, dataset=kind) for row in rows if row.dataset == name and "derived" not in row.place]


def distance_ratios(plan: Plan, place: str, dataset: str, method: str) -> list[str]:
    """Return DOOF's printed ratios after / before of mean and maximum; a dash where it has none."""
    experiment = next(
        experiment
        for experiment in plan.experiments
        if (experiment.method, experiment.dataset) == (method, dataset)
    )
    ratio = plan.run(experiment.run).spec.config.get("ratio")
    after = f"after fine-tuning, ratio {ratio:g}" if ratio is not None and "off-300k" in _stages(plan) else ""
    ratios = []
    for metric in ("dynamics_distance_mean", "dynamics_distance_max"):
        rows = [row for row in printed(metric) if (row.place, row.dataset) == (place, dataset)]
        of = {row.stage: float(row.score) for row in rows}
        ratios.append(f"{of[after] / of['before fine-tuning']:.2f}" if after in of else DASH)
    return ratios


def _stages(plan: Plan) -> tuple[str, ...]:
    """Return the stages of the papers whose budget is the plan's."""
    if plan.reduced:
        return ()
    budgets = [run.spec.budget for run in plan.runs]
    offline = any(budget.offline_updates == UPDATES for budget in budgets)
    online = offline and any(budget.online_steps == STEPS for budget in budgets)
    return (("offline",) if offline else ()) + (("on-10k", "off-300k") if online else ())
