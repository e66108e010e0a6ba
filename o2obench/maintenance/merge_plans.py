"""Two plans of one suite to one: the seeds, cells and runs of both, in the order of a plan of all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from ..planning.plan import Cell, Plan
from ..runs.folder import Run

SEEDS_CUT = re.compile(r"seeds = \S+ \(full: (?P<full>\d+)\)")
SEEDS_FLAG = re.compile(r" --seeds \S+")
Value = TypeVar("Value")


def unite(ours: Plan, theirs: Plan) -> Plan:
    """Return the plan of both; raise ValueError where they are not of one suite.

    A plan that has all that the other has is returned as it is.
    """
    for name in ("title", "marks"):
        if getattr(ours, name) != getattr(theirs, name):
            raise ValueError(f"the two plans of suite {ours.suite} differ in {name}")
    if _cuts(ours) != _cuts(theirs):
        raise ValueError(f"the two plans of suite {ours.suite} differ in what is reduced")
    scores = _both("reference scores", ours.scores, theirs.scores)
    stages = _both("stages", ours.stages, theirs.stages)
    runs = _both("runs", {run.id: run for run in ours.runs}, {run.id: run for run in theirs.runs})
    cells = _ordered_cells(ours, theirs)
    _same_groups(cells, runs)
    if set(cells) == set(ours.cells):
        return ours
    seeds = tuple(sorted({*ours.seeds, *theirs.seeds}))
    ordered = tuple(_ordered_runs(cells, runs))
    return replace(
        ours,
        command=_command(ours.command, theirs.command, seeds),
        seeds=seeds,
        reduced=_reduced(ours, theirs, len(seeds)),
        runs=ordered,
        cells=tuple(cells),
        stages={run.group: stages[run.group] for run in ordered},
        scores=scores,
    )


def _cuts(plan: Plan) -> list[str]:
    return [line for line in plan.reduced if not SEEDS_CUT.fullmatch(line)]


def _reduced(ours: Plan, theirs: Plan, seeds: int) -> tuple[str, ...]:
    """Return what is reduced in both; that seeds are missing is said only where some still are."""
    full = {
        match["full"] for plan in (ours, theirs) for match in map(SEEDS_CUT.fullmatch, plan.reduced) if match
    }
    line = [f"seeds = {seeds} (full: {count})" for count in full if seeds < int(count)]
    return tuple(
        new
        for old in (ours.reduced if any(map(SEEDS_CUT.fullmatch, ours.reduced)) else theirs.reduced)
        for new in (line if SEEDS_CUT.fullmatch(old) else [old])
    )


def _both(what: str, ours: Mapping[str, Value], theirs: Mapping[str, Value]) -> dict[str, Value]:
    for name in ours.keys() & theirs.keys():
        if ours[name] != theirs[name]:
            raise ValueError(f"the two plans differ in {what} of {name}")
    return {**ours, **theirs}


def _ordered_cells(ours: Plan, theirs: Plan) -> list[Cell]:
    """Return the cells of both by label, data set and seed, labels and data sets as they first came."""
    cells = list(dict.fromkeys([*ours.cells, *theirs.cells]))
    labels = _ranks(cell.label for cell in cells)
    datasets = _ranks(cell.dataset for cell in cells)
    return sorted(cells, key=lambda cell: (labels[cell.label], datasets[cell.dataset], cell.seed))


def _ranks(names: Iterable[str]) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(dict.fromkeys(names))}


def _same_groups(cells: Iterable[Cell], runs: Mapping[str, Run]) -> None:
    """Raise ValueError where one entry of the grid would hold runs with other options or versions."""
    groups: dict[tuple[str, str], str] = {}
    for cell in cells:
        if cell.run not in runs:
            raise ValueError(f"a plan names {cell.run} and does not say what it is")
        group = runs[cell.run].group
        if groups.setdefault((cell.label, cell.dataset), group) != group:
            raise ValueError(
                f"{cell.label} on {cell.dataset} has other options, data or versions in the two plans"
            )


def _ordered_runs(cells: Iterable[Cell], runs: Mapping[str, Run]) -> Iterator[Run]:
    """Yield the runs behind cells, each once and after the run it starts from."""
    known = set[str]()

    def with_parents(run: Run) -> Iterator[Run]:
        if run.id not in known:
            known.add(run.id)
            if run.parent:
                yield from with_parents(runs[run.parent])
            yield run

    for cell in cells:
        yield from with_parents(runs[cell.run])


def _command(ours: str, theirs: str, seeds: tuple[int, ...]) -> str:
    """Return a command that asks for what both asked for."""
    if ours == theirs:
        return ours
    if SEEDS_FLAG.sub("", ours) == SEEDS_FLAG.sub("", theirs):
        flag = f" --seeds {','.join(map(str, seeds))}" + ("," if len(seeds) == 1 else "")
        return SEEDS_FLAG.sub("", ours) + flag
    return " && ".join(dict.fromkeys([*ours.split(" && "), *theirs.split(" && ")]))
