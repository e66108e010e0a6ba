"""What lies around the runs of a plan and does not belong, and what differs between those that are shown.

Experiments that cannot be used are named by ``results.read``. This module names the rest: runs and files that
no plan knows, plans that cannot be read, mixed versions. Names only; nothing here is ever pooled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..datasets.reference_scores import known_reference
from ..planning.plan import Plan, readable_plans
from ..runs import inventory
from ..runs.folder import ResultsFolder
from ..util.files import read_json
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


def look(results: ResultsFolder) -> Surroundings:
    """Look at a results folder as a whole, by names alone."""
    plans, problems = readable_plans(results.plan_files())
    broken = [problem.replace(f"{results}/", "") for problem in problems]
    found = inventory.look(results)
    known = {run.id for plan in plans for run in plan.runs}
    unplanned = tuple(run for run in found.runs if run not in known)
    foreign = tuple(str(path.relative_to(results.path)) for path in found.foreign)
    return Surroundings(tuple(plans), tuple(broken), unplanned, foreign)


def notes(plan: Plan, results: ResultsFolder, around: Surroundings) -> list[str]:
    """Return what a reader of this plan's page has to know, a sentence each."""
    said = [f"plan not read: {problem}" for problem in around.broken]
    said += _few("a run of no readable plan, not used", around.unplanned)
    said += _few("not a part of a results folder, not used", around.foreign)
    strange = [
        str(entry.path.relative_to(results.path))
        for run in plan.runs
        if inventory.is_folder(results.run(run.id).path)
        for entry in inventory.entries(results.run(run.id).path)
        if entry.kind == "foreign"
    ]
    said += _few("a foreign file in a run's folder, not used", strange)
    for name, held in plan.scores.items():
        known = known_reference(name)
        if known and (known.ref_min, known.ref_max) != (held.ref_min, held.ref_max):
            said.append(
                f"{name}: the plan's reference scores ({held.ref_min:g}, {held.ref_max:g}) are not those of "
                f"this version ({known.ref_min:g}, {known.ref_max:g}); scores of other reports may differ"
            )
    return said


def records(plan: Plan, results: ResultsFolder) -> dict[str, dict[str, Any]]:
    """Return run.json of every run that has a whole one: compute, code and mismatch are there."""
    found = {run.id: read_json(results.run(run.id).record) for run in plan.runs}
    return {run: record for run, record in found.items() if _whole(record)}


def mixtures(records: Mapping[str, dict[str, Any]]) -> list[str]:
    """Name versions that differ between runs: their numbers may, too."""
    said = []
    for package in COMPARED:
        versions = Counter(
            str(record["compute"]["versions"].get(package, "none")) for record in records.values()
        )
        if len(versions) > 1:
            parts = ", ".join(f"{version} ({count(n, 'run')})" for version, n in sorted(versions.items()))
            said.append(f"runs were computed with several versions of {package}: {parts}")
    return said


def _whole(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    compute, code = record.get("compute"), record.get("code")
    return (
        isinstance(compute, dict)
        and isinstance(compute.get("versions"), dict)
        and {"processor", "device", "threads", "matmul_precision", "compiled"} <= compute.keys()
        and isinstance(code, dict)
        and {"version", "commit", "dirty"} <= code.keys()
        and isinstance(record.get("mismatch"), list)
    )


def _few(what: str, names: Iterable[str]) -> list[str]:
    names = sorted(names)
    said = [f"{name}: {what}" for name in names[:MOST]]
    return [*said, f"{len(names) - MOST:,} more: {what}"] if len(names) > MOST else said
