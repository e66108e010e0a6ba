"""`o2obench doctor`: is a results folder whole, what lies about in it, and can its file system be trusted?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from ..planning.plan import read_plan
from ..runs import inventory, verify
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.inventory import Inventory, entries
from ..runs.owner import Owner, owner_of
from ..runs.verify import Finding
from ..util.files import is_file, shown
from . import leftovers
from .file_system import Ability, measure

CLEAN = "`o2obench clean` removes it"
LEAVE = "not ours, left alone; move it away if nobody needs it"
STATES = ("done and intact", "running", "unfinished", "failed", "not begun", "corrupted")


@dataclass
class Diagnosis:
    """What was found, how many runs are in which state, and what the file system can do."""

    folder: ResultsFolder
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    abilities: list[Ability] = field(default_factory=list)
    owners: dict[str, Owner] = field(default_factory=dict)
    stateless: int = 0

    @property
    def whole(self) -> bool:
        """Tell whether nothing is corrupted and the file system does what runs rely on."""
        return all(finding.kind != "corruption" for finding in self.findings) and all(
            ability.works for ability in self.abilities
        )

    @property
    def summary(self) -> str:
        """Return one line: how many runs are in which state, and what else was found."""
        states = [f"{self.counts[state]} {state}" for state in STATES if self.counts[state]]
        kinds = Counter(finding.kind for finding in self.findings)
        rest = f"; {kinds['leftover']} leftovers" if kinds["leftover"] else ""
        rest += f"; {self.stateless} without their last state" if self.stateless else ""
        return f"{self.counts.total()} runs: {', '.join(states) or 'none'}{rest}"

    def lines(self) -> Iterator[str]:
        """Yield what a terminal shows: a line for each finding and ability, then the summary."""
        yield from map(str, self.findings)
        for ability in self.abilities:
            verdict = "" if ability.works else "NOT as runs need it: "
            yield f"{shown(self.folder)}: {ability.name}: {verdict}{shown(ability.seen)}"
        yield self.summary

    def to_json(self) -> dict[str, Any]:
        """Return all of it as a JSON value."""
        return {
            "folder": str(self.folder),
            "whole": self.whole,
            "runs": dict(self.counts),
            "without_last_state": self.stateless,
            "findings": [{**vars(finding), "path": str(finding.path)} for finding in self.findings],
            "file_system": [vars(ability) for ability in self.abilities],
            "locks": {run: vars(owner) for run, owner in self.owners.items()},
        }


def examine(results: ResultsFolder) -> Diagnosis:
    """Verify a results folder; nothing in it is changed."""
    contents = inventory.take(results)
    diagnosis = Diagnosis(results)
    diagnosis.findings += [*_plans(results), *_beside_runs(results, contents)]
    for run_id in contents.runs:
        _examine_run(results.run(run_id), diagnosis)
    diagnosis.abilities = measure(results)
    return diagnosis


def _plans(results: ResultsFolder) -> Iterator[Finding]:
    for file in results.plan_files():
        try:
            suite = read_plan(file).suite
        except UserError as error:
            problem, _, do = str(error).removeprefix(f"{file}: ").partition("; ")
            yield Finding(file, problem, do)
        else:
            if suite != file.stem:
                yield Finding(file, f"is the plan of {suite}", "give it that name again, or remove it")


def _beside_runs(results: ResultsFolder, contents: Inventory) -> Iterator[Finding]:
    owner = owner_of(results.maintenance)
    for path in contents.temporary:
        if owner and owner.holds:
            yield Finding(path, f"a clean or merge is at work: {owner}", "wait for its end", "note")
        else:
            yield Finding(path, "left by a process that was killed", CLEAN, "leftover")
    for path in contents.foreign:
        yield Finding(
            path, "a link" if path.is_symlink() else "is no part of a results folder", LEAVE, "note"
        )


def _examine_run(folder: RunFolder, diagnosis: Diagnosis) -> None:
    """Add what a run's folder shows; one that is being computed changes meanwhile and is only counted."""
    owner = owner_of(folder.lock)
    if owner and owner.holds and not is_file(folder.done):
        diagnosis.owners[folder.id] = owner
        diagnosis.counts["running"] += 1
        diagnosis.findings.append(Finding(folder.path, f"is computed by {owner}", "leave it", "note"))
        return
    faults = list(_faults(folder))
    diagnosis.findings += faults
    for entry in entries(folder.path):
        if entry.kind == "foreign":
            diagnosis.findings.append(Finding(entry.path, "is no part of a run", LEAVE, "note"))
    for leftover in leftovers.of_run(folder):
        diagnosis.findings.append(Finding(leftover.path, leftover.why, CLEAN, "leftover"))
    diagnosis.counts["corrupted" if faults else _state(folder)] += 1
    diagnosis.stateless += is_file(folder.done) and not faults and verify.is_stateless(folder)


def _faults(folder: RunFolder) -> Iterator[Finding]:
    if folder.done.exists() or folder.done.is_symlink():
        yield from verify.published(folder, folder.id)
    else:
        yield from verify.unfinished(folder, folder.id)


def _state(folder: RunFolder) -> str:
    if is_file(folder.done):
        return "done and intact"
    if is_file(folder.failed):
        return "failed"
    return "unfinished" if folder.record.exists() else "not begun"
