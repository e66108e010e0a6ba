"""Run folders to tables: every evaluation that a plan's experiments can show, and what is missing."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..planning.plan import Experiment, Plan, readable_plans
from ..runs import checkpoint
from ..runs.folder import ResultsFolder
from ..runs.jsonl import read_jsonl, valid_lines
from ..runs.read import (
    Evaluations,
    Unusable,
    read_evaluations,
    read_unfinished,
    require_intact,
    unreadable,
)
from ..runs.spec import Run
from ..runs.spec import differing as spec_differences
from ..util.files import is_number, read_json
from ..util.timers import PARTS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("method", "algorithm", "pretraining", "dataset", "seed", "phase", "stage", "env_steps", "updates"),
    *("episodes", "mean_return", "score"),
)


@dataclass(frozen=True)
class Problem:
    """An experiment that cannot be used in full, and why."""

    method: str
    dataset: str
    seed: int
    what: str


@dataclass(frozen=True, eq=False)
class Shown:
    """An experiment that may be shown: what its run evaluated, and what its pretraining run did."""

    experiment: Experiment
    own: Evaluations
    pretraining: Evaluations | None
    is_online: bool
    """Whether the run starts from a pretraining or interacts with the environment."""


def read(
    plan: Plan,
    results: ResultsFolder,
    watch: Callable[[Sequence[Experiment], str], Iterable[Experiment]] = lambda items, _: items,
) -> tuple[list[Shown], list[Problem]]:
    """Read the folders of a plan, each run once; return the experiments that may be shown, and the others.

    Runs that are not finished are listed and left out, and so is what must not be pooled: a seed that stands
    twice, a copied run, another computation or other data. ``watch`` may show how far it is.
    """
    reader, pool = _Reader(plan, results), _Pool(plan)
    shown, problems = list[Shown](), list[Problem]()
    for experiment in watch(plan.experiments, f"{plan.suite}: reading runs"):
        try:
            pool.admit(experiment)
            result = _shown(plan, reader, experiment)
            pool.admit_data(experiment, result.own.data)
            shown.append(result)
        except Unusable as error:
            problems.append(Problem(experiment.method, experiment.dataset, experiment.seed, str(error)))
    return shown, problems


UNFINISHED = ("running", "stale", "interrupted", "diverged")


def read_parts(plan: Plan, results: ResultsFolder) -> Iterator[tuple[Experiment, str, Evaluations]]:
    """Yield the experiments whose runs have begun and are not done, their state, and what they evaluated."""
    for experiment in dict.fromkeys(plan.experiments):
        folder = results.run(experiment.run)
        state = folder.state()
        if state in UNFINISHED:
            part = read_unfinished(folder, plan.run(experiment.run))
            if part is not None:
                yield experiment, state, part


def table_of(plan: Plan, results: ResultsFolder) -> tuple[pd.DataFrame, list[Problem]]:
    """Return one row per evaluation of every usable experiment, and the experiments that are not usable."""
    shown, problems = read(plan, results)
    return evaluations(plan, shown), problems


def evaluations(plan: Plan, shown: Iterable[Shown]) -> pd.DataFrame:
    """Return one row per evaluation of experiments: COLUMNS.

    ``phase`` is ``offline`` for the pretraining run's rows, ``online`` from the online start on, also where a
    method fine-tunes without the environment.
    """
    parts = []
    for result in shown:
        if result.pretraining:
            parts.append(_columns(plan, result.experiment, result.pretraining, "offline"))
        parts.append(
            _columns(plan, result.experiment, result.own, "online" if result.is_online else "offline")
        )
    return _joined(parts, COLUMNS)


def episodes(plan: Plan, shown: Iterable[Shown]) -> pd.DataFrame:
    """Return the training episodes of fine-tuning runs: stage, env_steps, return, length, score."""
    parts = []
    for experiment, played in (
        (result.experiment, result.own.played) for result in shown if result.experiment.parent
    ):
        part: dict[str, Any] = {
            "method": experiment.method,
            "dataset": experiment.dataset,
            "seed": experiment.seed,
        }
        part |= {"stage": played.stages, "env_steps": played.env_steps, "length": played.lengths}
        part["return"], part["score"] = played.returns, plan.scores[experiment.dataset].score(played.returns)
        parts.append(part)
    return _joined(parts, ["method", "dataset", "seed", "stage", "env_steps", "return", "length", "score"])


def _joined(parts: Sequence[dict[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """Return one table of parts whose columns are arrays, or one value for all rows; "score" is an array."""
    import numpy as np
    import pandas as pd

    if not parts:
        return pd.DataFrame([], columns=list(names))
    lengths = [len(part["score"]) for part in parts]
    columns: dict[str, Any] = {}
    for name in names:
        values = [part[name] for part in parts]
        if isinstance(values[0], np.ndarray):
            columns[name] = np.concatenate(values)
        else:
            kind = object if isinstance(values[0], str) else None
            columns[name] = np.repeat(np.array(values, kind), lengths)
    return pd.DataFrame(columns)


class _Reader:
    """Reads each run once, however many experiments show it; its faults are kept, too."""

    def __init__(self, plan: Plan, results: ResultsFolder) -> None:
        self.plan, self.results = plan, results
        self.known: dict[str, Evaluations | str] = {}
        self.holders: dict[tuple[str, str], str] = {}
        self.machines: dict[str, Any] = {}

    def read(self, run_id: str) -> Evaluations:
        """Return a run's evaluations; raise Unusable when they must not be shown."""
        if run_id not in self.known:
            self.known[run_id] = self._read(run_id)
        outcome = self.known[run_id]
        if isinstance(outcome, str):
            raise Unusable(outcome)
        return outcome

    def _read(self, run_id: str) -> Evaluations | str:
        try:
            run = self.plan.run(run_id)
            evaluated = read_evaluations(self.results.run(run_id), run, self.plan.work(run)[1])
        except Unusable as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  (one strange folder never ends the report of the others)
            return unreadable(error)
        holder = self.holders.setdefault((run.group, evaluated.content), run_id)
        if evaluated.content and holder != run_id:
            return f"{run.algorithm}: all its values are those of {holder}; one of both is a copy"
        return replace(
            evaluated, compute=self.machines.setdefault(repr(evaluated.compute), evaluated.compute)
        )


class _Pool:
    """What may stand together: each seed once, one computation per method, one file per data set."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seen: set[tuple[str, str, int]] = set()
        self.specs: dict[tuple[str, str], Run] = {}
        self.data: dict[str, str] = {}

    def admit(self, experiment: Experiment) -> None:
        """Raise Unusable where an experiment does not belong to those before it."""
        key = (experiment.method, experiment.dataset)
        if (*key, experiment.seed) in self.seen:
            raise Unusable(f"{experiment.algorithm}: the seed stands in the plan twice; it is counted once")
        self.seen.add((*key, experiment.seed))
        run = self.plan.run(experiment.run)
        if run.seed != experiment.seed or (experiment.parent or run.parent) != run.parent:
            raise Unusable(f"{experiment.algorithm}: the plan's run is not that of this experiment")
        first = self.specs.setdefault(key, run)
        if first.group != run.group:
            differing = sorted(spec_differences(first.spec.to_json(), run.spec.to_json()))
            raise Unusable(
                f"{experiment.algorithm}: computes something else than seed {first.seed} "
                f"({', '.join(differing)})"
            )
        self.admit_data(experiment, run.spec.data.sha256 if run.spec.data else "")

    def admit_data(self, experiment: Experiment, sha256: str) -> None:
        """Raise Unusable where an experiment was trained on another file than those before it."""
        if sha256 and self.data.setdefault(experiment.dataset, sha256) != sha256:
            shown = f"{sha256[:12]}, the others on {self.data[experiment.dataset][:12]}"
            raise Unusable(
                f"{experiment.algorithm}: was trained on other data of this name (SHA-256 {shown})"
            )


def diagnoses(plan: Plan, results: ResultsFolder) -> tuple[pd.DataFrame, list[Experiment]]:
    """Return what `o2obench diagnose` kept of finished fine-tuning runs, and those of which it is missing.

    A diagnosis of other checkpoints than those that lie there now does not count. A run that left no model
    behind is missing none.
    """
    import pandas as pd

    rows, lacking = [], []
    for experiment in (experiment for experiment in dict.fromkeys(plan.experiments) if experiment.parent):
        folder = results.run(experiment.run)
        manifest = checkpoint.manifest(folder.final_checkpoint())
        if folder.state() != "done" or (manifest and "model" not in manifest["values"]["agent"]):
            continue
        diagnosis = read_json(folder.diagnosis)
        if not _is_diagnosis(diagnosis) or _outdated(diagnosis["checkpoints"], results):
            lacking.append(experiment)
            continue
        clock = {"method": experiment.method, "dataset": experiment.dataset, "seed": experiment.seed}
        rows += [{**evaluated, **clock} for evaluated in diagnosis["evaluated"]]
    names = ["method", "dataset", "seed", "source", "model", "n", "mean", "median", "max"]
    return pd.DataFrame(rows, columns=names), lacking


def _is_diagnosis(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("checkpoints"), dict):
        return False
    evaluated, numbers = value.get("evaluated"), ("n", "mean", "median", "max")
    return isinstance(evaluated, list) and all(
        isinstance(row, dict) and all(is_number(row.get(name)) for name in numbers) for row in evaluated
    )


def _outdated(checkpoints: dict[str, str], results: ResultsFolder) -> bool:
    """Tell whether a checkpoint has changed; of one that was removed nothing can be said."""
    now = {run: checkpoint.manifest(results.run(run).final_checkpoint()) for run in checkpoints}
    return any(now[run] and now[run]["sha256"] != then for run, then in checkpoints.items())


def logged(experiments: Iterable[Experiment], results: ResultsFolder, names: Collection[str]) -> pd.DataFrame:
    """Return what finished fine-tuning runs logged: method, dataset, seed, env_steps, name, value."""
    import pandas as pd

    rows = []
    for experiment in dict.fromkeys(experiments):
        folder = results.run(experiment.run)
        if not experiment.parent or folder.state() != "done" or folder.is_changed("train.jsonl"):
            continue
        for row in read_jsonl(folder.train):
            if isinstance(row, dict) and is_number(row.get("env_steps")):
                clock = (experiment.method, experiment.dataset, experiment.seed, row["env_steps"])
                rows += [(*clock, name, float(row[name])) for name in names if is_number(row.get(name))]
    return pd.DataFrame(rows, columns=["method", "dataset", "seed", "env_steps", "name", "value"])


def _shown(plan: Plan, reader: _Reader, experiment: Experiment) -> Shown:
    own, parent = reader.read(experiment.run), reader.read(experiment.parent) if experiment.parent else None
    if parent and own.compute == parent.compute and own.first.tolist() != parent.last.tolist():
        raise Unusable(f"{experiment.algorithm}: does not start where its pretraining run ended")
    return Shown(experiment, own, parent, plan.is_online(plan.run(experiment.run)))


def _columns(plan: Plan, experiment: Experiment, evaluated: Evaluations, phase: str) -> dict[str, Any]:
    return {
        "method": experiment.method,
        "algorithm": experiment.algorithm,
        "pretraining": experiment.pretraining,
        "dataset": experiment.dataset,
        "seed": experiment.seed,
        "phase": phase,
        "stage": evaluated.stages,
        "env_steps": evaluated.env_steps,
        "updates": evaluated.updates,
        "episodes": evaluated.episodes,
        "mean_return": evaluated.mean_returns,
        "score": plan.scores[experiment.dataset].score(evaluated.mean_returns),
    }


def fault(run: Run, results: ResultsFolder) -> str:
    """Return why a run cannot be used, an empty string where it is done and its files are as published."""
    try:
        require_intact(results.run(run.id), run)
    except Unusable as error:
        return str(error)
    return ""


def seconds(run: Run, results: ResultsFolder) -> float:
    """Return how long a run took, lost work included."""
    return float(sum(row["seconds"] for row in _timings(run, results)))


def hours_by_progress(run: Run, results: ResultsFolder) -> list[tuple[int, float]]:
    """Return (environment steps plus updates, hours so far, lost work included) at each note of the time."""
    noted, hours, furthest = [(0, 0.0)], 0.0, 0
    for row in _timings(run, results):
        hours += row["seconds"] / 3600
        furthest = max(furthest, row["progress"])
        noted.append((furthest, hours))
    return noted


def _timings(run: Run, results: ResultsFolder) -> Iterator[dict[str, Any]]:
    """Yield what is noted of a run's time; a line that says nothing of it is passed over: it is only cost."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        for _, row in valid_lines(results.run(run.id).timings):
            if isinstance(row, dict) and is_number(row.get("seconds")) and isinstance(row.get("parts"), dict):
                spent = {name: used for name, used in row["parts"].items() if is_number(used)}
                clocks = [row.get(name) for name in ("env_steps", "updates")]
                progress = sum(clock for clock in clocks if is_number(clock))
                yield {"seconds": row["seconds"], "parts": spent, "progress": progress}


def parts(runs: Iterable[Run], results: ResultsFolder) -> dict[str, float]:
    """Return where the time of runs went, seconds by kind of work; "other" is what nobody claimed."""
    spent: dict[str, float] = defaultdict(float)
    for run in runs:
        for row in _timings(run, results):
            for part, used in row["parts"].items():
                spent[part] += used
            spent["other"] += max(0.0, row["seconds"] - sum(row["parts"].values()))
    return {part: spent[part] for part in (*PARTS, "other")}


ENOUGH = 1000
"""Updates and steps of a run below which its time is that of starting, and says nothing of a longer one's."""


def rate(algorithm: str, results: ResultsFolder) -> float | None:
    """Return updates and steps per second of an algorithm's finished runs, short ones left out, or None."""
    work, spent, counted = 0, 0.0, set()
    for plan in readable_plans(results.plan_files())[0]:
        for run in plan.runs:
            done = run.algorithm == algorithm and results.run(run.id).done.exists()
            if done and sum(plan.work(run)) >= ENOUGH and run.id not in counted:
                counted.add(run.id)
                work, spent = work + sum(plan.work(run)), spent + seconds(run, results)
    return work / spent if spent else None
