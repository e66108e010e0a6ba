"""Run folders to tables: every evaluation that a plan's cells can show, and what is missing."""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..planning.plan import Cell, Plan, read_plan
from ..runs import checkpoint
from ..runs.folder import Run, RunFolder
from ..runs.jsonl import read_journal, sound
from ..runs.read import Evaluations, Unusable, changed, damage, read_evaluations, require_whole
from ..util.files import is_number, read_json
from ..util.timers import PARTS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("label", "algorithm", "dataset", "seed", "phase", "stage", "env_steps", "updates"),
    *("episodes", "mean_return", "score"),
)


@dataclass(frozen=True)
class Problem:
    """A cell that cannot be used in full, and why."""

    label: str
    dataset: str
    seed: int
    what: str


def plans(results: Path, suite: str = "") -> list[Plan]:
    """Return the plans of a results folder; raise BadInput when there is none (of this name).

    A damaged plan is told on standard error and left out where others can be read.
    """
    files = sorted((results / "plans").glob("*.json"))
    chosen = [file for file in files if not suite or file.stem == suite]
    if not chosen:
        found = ", ".join(file.stem for file in files) or "none"
        wanted = f"no suite {suite}" if suite else "no suite"
        raise BadInput(f"{results}: {wanted} was run here (found: {found}); start one with `o2obench suite`")
    whole, problems = _readable(chosen)
    if not whole:
        raise BadInput(*problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    return whole


def _readable(files: Iterable[Path]) -> tuple[list[Plan], list[str]]:
    """Return the plans that can be read, and what is wrong with the others."""
    found, problems = list[Plan](), list[str]()
    for file in files:
        try:
            found.append(read_plan(file))
        except BadInput as error:
            problems += error.problems
    return found, problems


def table(results: str | Path, suite: str = "") -> pd.DataFrame:
    """Return one row per evaluation of every usable run that the suites of a results folder show.

    Columns: suite, label, algorithm, dataset, seed; phase (``offline`` before the switch, with the rows of
    the pretraining run under each label that starts from it, ``online`` from the switch on); stage,
    env_steps, updates; episodes (how many were averaged), mean_return (raw), score (normalised, x 100).

    Runs that cannot be used are left out with a warning; ``.attrs["problems"]`` names each of them.

    Args:
        results: The results folder.
        suite: Only this suite; default: all of them.

    Raises:
        BadInput: No suite (of this name) was run there.
    """
    import warnings

    import pandas as pd

    tables, problems = list[Any](), list[str]()
    for plan in plans(Path(results), suite):
        found, missing = table_of(plan, Path(results))
        found.insert(0, "suite", plan.suite)
        tables.append(found)
        problems += [
            f"{plan.suite}: {one.label}, {one.dataset}, seed {one.seed}: {one.what}" for one in missing
        ]
    filled = [one for one in tables if len(one)] or tables[:1]
    joined: pd.DataFrame = pd.concat(filled, ignore_index=True)
    joined.attrs["problems"] = problems
    if problems:
        warnings.warn(
            f"{len(problems)} runs are left out, the first is {problems[0]}; see .attrs['problems']",
            stacklevel=2,
        )
    return joined


@dataclass(frozen=True, eq=False)
class Shown:
    """A cell that may be shown: what its run evaluated, and what its pretraining run did."""

    cell: Cell
    own: Evaluations
    pretraining: Evaluations | None
    tunes: bool
    """Whether the run lives through a switch or interacts from the start."""


def read(
    plan: Plan, results: Path, watch: Callable[[Sequence[Cell], str], Iterable[Cell]] = lambda items, _: items
) -> tuple[list[Shown], list[Problem]]:
    """Read the folders of a plan, each run once; return the cells that may be shown, and the others.

    Runs that are not finished are listed and left out, and so is what must not be pooled: a seed that stands
    twice, a copied run, another computation or other data. ``watch`` may show how far it is.
    """
    reader, pool = _Reader(plan, results), _Pool(plan)
    shown, problems = list[Shown](), list[Problem]()
    for cell in watch(plan.cells, f"{plan.suite}: reading runs"):
        try:
            pool.admit(cell)
            shown.append(_shown(plan, reader, cell))
        except Unusable as error:
            problems.append(Problem(cell.label, cell.dataset, cell.seed, str(error)))
    return shown, problems


def table_of(plan: Plan, results: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Return one row per evaluation of every usable cell, and the cells that are not usable."""
    shown, problems = read(plan, results)
    return evaluations(plan, shown), problems


def evaluations(plan: Plan, shown: Iterable[Shown]) -> pd.DataFrame:
    """Return one row per evaluation of cells: COLUMNS.

    ``phase`` is ``offline`` for the pretraining run's rows, ``online`` from the switch on, also where a
    method tunes without the environment.
    """
    parts = []
    for one in shown:
        if one.pretraining:
            parts.append(_columns(plan, one.cell, one.pretraining, "offline"))
        parts.append(_columns(plan, one.cell, one.own, "online" if one.tunes else "offline"))
    return _joined(parts, COLUMNS)


def episodes(plan: Plan, shown: Iterable[Shown]) -> pd.DataFrame:
    """Return the training episodes of tuning runs: stage, env_steps, return, length, score."""
    parts = []
    for cell, played in ((one.cell, one.own.played) for one in shown if one.cell.parent):
        part: dict[str, Any] = {"label": cell.label, "dataset": cell.dataset, "seed": cell.seed}
        part |= {"stage": played.stages, "env_steps": played.env_steps, "length": played.lengths}
        part["return"], part["score"] = played.returns, plan.scores[cell.dataset].score(played.returns)
        parts.append(part)
    return _joined(parts, ["label", "dataset", "seed", "stage", "env_steps", "return", "length", "score"])


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
    """Reads each run once, however many cells show it; its faults are kept, too."""

    def __init__(self, plan: Plan, results: Path) -> None:
        self.plan, self.results = plan, results
        self.known: dict[str, Evaluations | str] = {}
        self.holders: dict[tuple[str, str], str] = {}
        self.machines: dict[str, Any] = {}

    def read(self, run_id: str) -> Evaluations:
        """Return a run's evaluations; raise Unusable when they must not be shown."""
        if run_id not in self.known:
            self.known[run_id] = self._read(run_id)
        found = self.known[run_id]
        if isinstance(found, str):
            raise Unusable(found)
        return found

    def _read(self, run_id: str) -> Evaluations | str:
        try:
            run = self.plan.run(run_id)
            found = read_evaluations(RunFolder(self.results, run_id), run, self.plan.work(run)[1])
        except Unusable as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  (one strange folder never ends the report of the others)
            return damage(error)
        holder = self.holders.setdefault((run.group, found.sha256), run_id)
        if holder != run_id:
            return f"{run.algorithm}: scores.jsonl is that of {holder}; one of both is a copy"
        return replace(found, compute=self.machines.setdefault(repr(found.compute), found.compute))


class _Pool:
    """Which cells may stand together: each seed once, one computation per label, one file per data set."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seen: set[tuple[str, str, int]] = set()
        self.specs: dict[tuple[str, str], Run] = {}
        self.data: dict[str, str] = {}

    def admit(self, cell: Cell) -> None:
        """Raise Unusable where a cell does not belong to those before it."""
        key = (cell.label, cell.dataset)
        if (*key, cell.seed) in self.seen:
            raise Unusable(f"{cell.algorithm}: the seed stands in the plan twice; it is counted once")
        self.seen.add((*key, cell.seed))
        run = self.plan.run(cell.run)
        if run.seed != cell.seed or (cell.parent or run.parent) != run.parent:
            raise Unusable(f"{cell.algorithm}: the plan's run is not that of this cell")
        first = self.specs.setdefault(key, run)
        if first.group != run.group:
            differing = sorted(_differing(first.spec, run.spec))
            raise Unusable(
                f"{cell.algorithm}: computes something else than seed {first.seed} ({', '.join(differing)})"
            )
        sha256 = (run.spec.get("data") or {}).get("sha256")
        if sha256 and self.data.setdefault(cell.dataset, sha256) != sha256:
            shown = f"{str(sha256)[:12]}, the others on {self.data[cell.dataset][:12]}"
            raise Unusable(f"{cell.algorithm}: was trained on other data of this name (SHA-256 {shown})")


def _differing(one: Any, other: Any, name: str = "") -> Iterator[str]:
    """Yield the names of what differs between two identities."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            yield from _differing(one.get(key), other.get(key), f"{name}.{key}" if name else key)
    elif one != other:
        yield name


def diagnoses(plan: Plan, results: Path) -> tuple[pd.DataFrame, list[Cell]]:
    """Return what `o2obench diagnose` kept of finished tuning runs, and those of which it is missing.

    A diagnosis of other checkpoints than those that lie there now does not count. A run that left no model
    behind is missing none.
    """
    import pandas as pd

    rows, lacking = [], []
    for cell in (cell for cell in dict.fromkeys(plan.cells) if cell.parent):
        folder = RunFolder(results, cell.run)
        left = checkpoint.manifest(folder.handover())
        if folder.state() != "done" or (left and "model" not in left["values"]["agent"]):
            continue
        found = read_json(folder.diagnosis)
        if not _is_diagnosis(found) or _outdated(found["checkpoints"], results):
            lacking.append(cell)
            continue
        clock = {"label": cell.label, "dataset": cell.dataset, "seed": cell.seed}
        rows += [{**judged, **clock} for judged in found["judged"]]
    names = ["label", "dataset", "seed", "rows", "model", "n", "mean", "median", "max"]
    return pd.DataFrame(rows, columns=names), lacking


def _is_diagnosis(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("checkpoints"), dict):
        return False
    judged, numbers = found.get("judged"), ("n", "mean", "median", "max")
    return isinstance(judged, list) and all(
        isinstance(row, dict) and all(is_number(row.get(name)) for name in numbers) for row in judged
    )


def _outdated(checkpoints: dict[str, str], results: Path) -> bool:
    """Tell whether a checkpoint has changed; of one that was removed nothing can be said."""
    now = {run: checkpoint.manifest(RunFolder(results, run).handover()) for run in checkpoints}
    return any(now[run] and now[run]["sha256"] != then for run, then in checkpoints.items())


def logged(cells: Iterable[Cell], results: Path, names: Collection[str]) -> pd.DataFrame:
    """Return what finished tuning runs logged: label, dataset, seed, env_steps, name, value."""
    import pandas as pd

    rows = []
    for cell in dict.fromkeys(cells):
        folder = RunFolder(results, cell.run)
        if not cell.parent or folder.state() != "done" or changed(folder, "train.jsonl"):
            continue
        for row in read_journal(folder.train):
            if isinstance(row, dict) and is_number(row.get("env_steps")):
                clock = (cell.label, cell.dataset, cell.seed, row["env_steps"])
                rows += [(*clock, name, float(row[name])) for name in names if is_number(row.get(name))]
    return pd.DataFrame(rows, columns=["label", "dataset", "seed", "env_steps", "name", "value"])


def _shown(plan: Plan, reader: _Reader, cell: Cell) -> Shown:
    tunes = bool(cell.parent) or any(stage.env_steps for stage in plan.stages[plan.run(cell.run).group])
    own, parent = reader.read(cell.run), reader.read(cell.parent) if cell.parent else None
    if parent and own.compute == parent.compute and own.first.tolist() != parent.last.tolist():
        raise Unusable(f"{cell.algorithm}: does not start where its pretraining run ended")
    return Shown(cell, own, parent, tunes)


def _columns(plan: Plan, cell: Cell, found: Evaluations, phase: str) -> dict[str, Any]:
    return {
        "label": cell.label,
        "algorithm": cell.algorithm,
        "dataset": cell.dataset,
        "seed": cell.seed,
        "phase": phase,
        "stage": found.stages,
        "env_steps": found.env_steps,
        "updates": found.updates,
        "episodes": found.episodes,
        "mean_return": found.mean_returns,
        "score": plan.scores[cell.dataset].score(found.mean_returns),
    }


def fault(run: Run, results: Path) -> str:
    """Return why a run cannot be used, an empty string where it is done and its files are as published."""
    try:
        require_whole(RunFolder(results, run.id), run)
    except Unusable as error:
        return str(error)
    return ""


def seconds(run: Run, results: Path) -> float:
    """Return how long a run took, lost work included."""
    return float(sum(row["seconds"] for row in _timings(run, results)))


def _timings(run: Run, results: Path) -> Iterator[dict[str, Any]]:
    """Yield what is noted of a run's time; a line that says nothing of it is passed over: it is only cost."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        for _, row in sound(RunFolder(results, run.id).timings):
            if isinstance(row, dict) and is_number(row.get("seconds")) and isinstance(row.get("parts"), dict):
                spent = {name: used for name, used in row["parts"].items() if is_number(used)}
                yield {"seconds": row["seconds"], "parts": spent}


def parts(runs: Iterable[Run], results: Path) -> dict[str, float]:
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


def rate(algorithm: str, results: Path) -> float | None:
    """Return updates and steps per second of an algorithm's finished runs, short ones left out, or None."""
    work, spent, known = 0, 0.0, set()
    for plan in _readable(sorted((results / "plans").glob("*.json")))[0]:
        for run in plan.runs:
            done = run.algorithm == algorithm and RunFolder(results, run.id).done.exists()
            if done and sum(plan.work(run)) >= ENOUGH and run.id not in known:
                known.add(run.id)
                work, spent = work + sum(plan.work(run)), spent + seconds(run, results)
    return work / spent if spent else None
