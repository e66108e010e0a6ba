"""Two plans of one suite to one: the seeds, experiments and runs of both, in the order of a plan of all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from ..planning.plan import Experiment, Plan
from ..runs.spec import Run

SEEDS_CUT = re.compile(r"seeds = \S+ \(full: (?P<full>\d+)\)")
SEEDS_FLAG = re.compile(r" --seeds \S+")
Value = TypeVar("Value")


def unite(ours: Plan, theirs: Plan) -> Plan:
    """Return the plan of both; raise ValueError where they are not of one suite.

    A plan that has all that the other has is returned as it is.
    """
    for name in ("title", "protocol", "reporting_steps", "reference"):
        if getattr(ours, name) != getattr(theirs, name):
            raise ValueError(f"the two plans of suite {ours.suite} differ in {name}")
    if _cuts(ours) != _cuts(theirs):
        raise ValueError(f"the two plans of suite {ours.suite} differ in what is reduced")
    scores = _both("reference scores", ours.scores, theirs.scores)
    data = _both("returns of data sets", ours.data, theirs.data)
    stages = _both("stages", ours.stages, theirs.stages)
    schedules = _both("schedules", ours.schedules, theirs.schedules)
    tuning_runs = _both("tuning_runs", ours.tuning_runs, theirs.tuning_runs)
    runs = _both("runs", {run.id: run for run in ours.runs}, {run.id: run for run in theirs.runs})
    experiments = _ordered_experiments(ours, theirs)
    _same_groups(experiments, runs)
    if set(experiments) == set(ours.experiments) and tuning_runs == ours.tuning_runs:
        return ours
    seeds = tuple(sorted({*ours.seeds, *theirs.seeds}))
    ordered = tuple(_ordered_runs(experiments, runs))
    return replace(
        ours,
        command=_command(ours.command, theirs.command, seeds),
        seeds=seeds,
        reduced=_reduced(ours, theirs, len(seeds)),
        runs=ordered,
        experiments=tuple(experiments),
        stages={run.group: stages[run.group] for run in ordered},
        schedules={run.group: schedules[run.group] for run in ordered},
        scores=scores,
        data=data,
        verified=_verified(ours, theirs),
        tuning_runs=tuning_runs,
    )


def _verified(ours: Plan, theirs: Plan) -> tuple[tuple[str, str], ...]:
    """Return the methods and data sets that are the package's own in each of the two plans that has them."""
    others = {entry for plan in (ours, theirs) for entry in plan.groups.keys() - {*plan.verified}}
    return tuple(entry for entry in dict.fromkeys((*ours.verified, *theirs.verified)) if entry not in others)


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


def _both(noun: str, ours: Mapping[str, Value], theirs: Mapping[str, Value]) -> dict[str, Value]:
    for name in ours.keys() & theirs.keys():
        if ours[name] != theirs[name]:
            raise ValueError(f"the two plans differ in {noun} of {name}")
    return {**ours, **theirs}


def _ordered_experiments(ours: Plan, theirs: Plan) -> list[Experiment]:
    """Return the experiments of both by label, data set and seed, in the order in which they first came."""
    experiments = list(dict.fromkeys([*ours.experiments, *theirs.experiments]))
    methods = _ranks(experiment.method for experiment in experiments)
    datasets = _ranks(experiment.dataset for experiment in experiments)
    return sorted(
        experiments,
        key=lambda experiment: (methods[experiment.method], datasets[experiment.dataset], experiment.seed),
    )


def _ranks(names: Iterable[str]) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(dict.fromkeys(names))}


def _same_groups(experiments: Iterable[Experiment], runs: Mapping[str, Run]) -> None:
    """Raise ValueError where one entry of the grid would hold runs with other options or versions."""
    groups: dict[tuple[str, str], str] = {}
    for experiment in experiments:
        if experiment.run not in runs:
            raise ValueError(f"a plan names {experiment.run} and does not say what it is")
        group = runs[experiment.run].group
        if groups.setdefault((experiment.method, experiment.dataset), group) != group:
            raise ValueError(
                f"{experiment.method} on {experiment.dataset} has other options, data or versions "
                "in the two plans"
            )


def _ordered_runs(experiments: Iterable[Experiment], runs: Mapping[str, Run]) -> Iterator[Run]:
    """Yield the runs behind experiments, each once and after the run it starts from."""
    yielded = set[str]()

    def with_parents(run: Run) -> Iterator[Run]:
        if run.id not in yielded:
            yielded.add(run.id)
            if run.parent:
                yield from with_parents(runs[run.parent])
            yield run

    for experiment in experiments:
        yield from with_parents(runs[experiment.run])


def _command(ours: str, theirs: str, seeds: tuple[int, ...]) -> str:
    """Return a command that asks for what both asked for."""
    if ours == theirs:
        return ours
    if SEEDS_FLAG.sub("", ours) == SEEDS_FLAG.sub("", theirs):
        flag = f" --seeds {','.join(map(str, seeds))}" + ("," if len(seeds) == 1 else "")
        return SEEDS_FLAG.sub("", ours) + flag
    return " && ".join(dict.fromkeys([*ours.split(" && "), *theirs.split(" && ")]))
