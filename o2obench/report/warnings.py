"""What lies around the runs of a plan and does not belong, and what differs between those that are shown.

Experiments that cannot be used are named by ``results.read``. This module names the rest: runs and files that
no plan knows, plans that cannot be read, mixed versions. Names only; nothing here is ever pooled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..agent import KEPT
from ..datasets.reference_scores import known_reference
from ..planning.plan import Plan, readable_plans
from ..runs import inventory
from ..runs.folder import ResultsFolder
from ..runs.read import computed_record
from ..util.files import is_folder
from .format import count

MOST = 20
"""Names in a list; the rest is counted."""
COMPARED = ("numpy", "torch", "gymnasium", "mujoco")
"""Packages whose version decides numbers."""


@dataclass(frozen=True)
class Surroundings:
    """What a results folder holds: its plans, those that cannot be read, runs of no plan, foreign names."""

    plans: tuple[Plan, ...]
    broken: tuple[str, ...]
    unplanned: tuple[str, ...]
    foreign: tuple[str, ...]


NOTHING_AROUND = Surroundings((), (), (), ())


def look(results: ResultsFolder) -> Surroundings:
    """Look at a results folder as a whole, by names alone."""
    plans, problems = readable_plans(results.plan_files())
    broken = [problem.replace(f"{results}/", "") for problem in problems]
    contents = inventory.look(results)
    planned = {run.id for plan in plans for run in plan.runs}
    unplanned = tuple(run for run in contents.runs if run not in planned)
    foreign = tuple(str(path.relative_to(results.path)) for path in contents.foreign)
    return Surroundings(tuple(plans), tuple(broken), unplanned, foreign)


def notes(plan: Plan, results: ResultsFolder, around: Surroundings) -> list[str]:
    """Return what a reader of this plan's page has to know, a sentence each."""
    sentences = [f"plan not read: {problem}" for problem in around.broken]
    sentences += _few("a run of no readable plan, not used", around.unplanned)
    sentences += _few("not a part of a results folder, not used", around.foreign)
    strange = [
        str(entry.path.relative_to(results.path))
        for run in plan.runs
        if is_folder(results.run(run.id).path)
        for entry in inventory.entries(results.run(run.id).path)
        if entry.kind == "foreign"
    ]
    sentences += _few("a foreign file in a run's folder, not used", strange)
    for name, reference in plan.scores.items():
        current = known_reference(name)
        if current and (current.ref_min, current.ref_max) != (reference.ref_min, reference.ref_max):
            sentences.append(
                f"{name}: the plan's reference scores ({reference.ref_min:g}, {reference.ref_max:g}) are not "
                f"those of this version ({current.ref_min:g}, {current.ref_max:g}); scores of other reports "
                "may differ"
            )
    return sentences


def records(plan: Plan, results: ResultsFolder) -> dict[str, dict[str, Any]]:
    """Return run.json of every run that has a whole one: compute, code and mismatch are there."""
    by_run = {run.id: computed_record(results.run(run.id)) for run in plan.runs}
    return {run: record for run, record in by_run.items() if record}


def uncounted(plan: Plan, records: Mapping[str, dict[str, Any]]) -> list[str]:
    """Say what of a standing protocol does not count, and that an older one is closed."""
    if not plan.protocol:
        return []
    sentences = _few(
        "does not count: it was resumed with a mismatch, or computed from changed code",
        (run for run, record in records.items() if record["mismatch"] or record["code"].get("dirty")),
    )
    if plan.is_kept:
        sentences.append(
            f"protocol {plan.protocol} is closed: its rows stay, and no command computes it again"
        )
    return sentences


def mixtures(plan: Plan, records: Mapping[str, dict[str, Any]]) -> list[str]:
    """Name versions and engines that differ between runs: their numbers may, too."""
    sentences = []
    for package in COMPARED:
        versions = [str(record["compute"]["versions"].get(package, "none")) for record in records.values()]
        if len(set(versions)) > 1:
            sentences.append(f"runs were computed with several versions of {package}: {_counted(versions)}")
    for dataset in dict.fromkeys(run.dataset for run in plan.runs):
        runs = [run.id for run in plan.runs if run.dataset == dataset and run.id in records]
        engines = [str(records[run]["compute"]["engine"]) for run in runs]
        if len(set(engines)) > 1:
            sentences.append(
                f"{dataset}: seeds are compared across engines, which round differently: {_counted(engines)}"
            )
    return sentences


def restarted(plan: Plan, records: Mapping[str, dict[str, Any]]) -> list[str]:
    """Say which runs cannot be resumed and were begun anew, and what that cost."""
    found: dict[str, None] = {}
    for experiment in plan.experiments:
        restarts = records.get(experiment.run, {}).get("restarts")
        if isinstance(restarts, dict) and restarts.get("count"):
            often, steps = count(restarts["count"], "time"), restarts.get("env_steps", 0)
            who = f"{experiment.method} on {experiment.dataset}, seed {experiment.seed}"
            found[f"{who}: begun anew {often} after {steps:,} environment steps in vain"] = None
    return list(found)


def _counted(values: Iterable[str]) -> str:
    return ", ".join(f"{value} ({count(n, 'run')})" for value, n in sorted(Counter(values).items()))


def taken_over(plan: Plan, records: Mapping[str, dict[str, Any]]) -> list[str]:
    """Say which methods did not take all of their pretraining over as it was, as run.json has it."""
    found: dict[str, None] = {}
    for experiment in plan.experiments:
        parts = records.get(experiment.run, {}).get("taken_over")
        changed = parts.items() if isinstance(parts, dict) else ()
        told = "; ".join(f"{part} {text}" for part, text in changed if text != KEPT)
        if told:
            found[f"{experiment.method}: of its pretraining ({experiment.pretraining}): {told}"] = None
    return list(found)


def _few(remark: str, names: Iterable[str]) -> list[str]:
    names = sorted(names)
    lines = [f"{name}: {remark}" for name in names[:MOST]]
    return [*lines, f"{len(names) - MOST:,} more: {remark}"] if len(names) > MOST else lines
