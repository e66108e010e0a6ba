"""Run folders to tables: every evaluation that a plan's cells can show, and what is missing."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import checkpoint
from .errors import BadInput
from .files import read_json
from .journal import read_journal, sound
from .plan import Cell, Plan, read_plan
from .run import Run, RunFolder
from .stopwatch import PARTS

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


def table(plan: Plan, results: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Return one row per evaluation of every usable cell, and the cells that are not (fully) usable.

    ``phase`` is ``offline`` for the pretraining run's rows, ``online`` from the switch on, also where a
    method tunes without the environment. Runs that are not finished are listed and left out.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for cell in plan.cells:
        try:
            rows += _cell_rows(plan, results, cell)
        except _Unusable as error:
            problems.append(Problem(cell.label, cell.dataset, cell.seed, str(error)))
    return pd.DataFrame(rows, columns=list(COLUMNS)), problems


def episodes(plan: Plan, results: Path) -> pd.DataFrame:
    """Return the training episodes of finished tuning runs: stage, env_steps, return, length, score."""
    import pandas as pd

    rows = []
    for cell in plan.cells:
        folder = RunFolder(results, cell.run)
        if cell.parent and is_whole(plan, cell.run, results):
            for row in read_journal(folder.episodes):
                score = float(plan.scores[cell.dataset].score(row["return"]))
                clock = (row["stage"], row["env_steps"], row["return"], row["length"])
                rows.append((cell.label, cell.dataset, cell.seed, *clock, score))
    names = ["label", "dataset", "seed", "stage", "env_steps", "return", "length", "score"]
    return pd.DataFrame(rows, columns=names)


def diagnoses(plan: Plan, results: Path) -> tuple[pd.DataFrame, list[Cell]]:
    """Return what `o2obench diagnose` kept of finished tuning runs, and those of which it is missing.

    A diagnosis of other checkpoints than those that lie there now does not count. A run that left no model
    behind is missing none.
    """
    import pandas as pd

    rows, lacking = [], []
    for cell in (cell for cell in plan.cells if cell.parent):
        folder = RunFolder(results, cell.run)
        left = checkpoint.manifest(folder.handover())
        if folder.state() != "done" or (left and "model" not in left["values"]["agent"]):
            continue
        found = read_json(folder.diagnosis)
        if not isinstance(found, dict) or _outdated(found["checkpoints"], results):
            lacking.append(cell)
            continue
        clock = {"label": cell.label, "dataset": cell.dataset, "seed": cell.seed}
        rows += [{**judged, **clock} for judged in found["judged"]]
    names = ["label", "dataset", "seed", "rows", "model", "n", "mean", "median", "max"]
    return pd.DataFrame(rows, columns=names), lacking


def _outdated(checkpoints: dict[str, str], results: Path) -> bool:
    """Tell whether a checkpoint has changed; of one that was removed nothing can be said."""
    now = {run: checkpoint.manifest(RunFolder(results, run).handover()) for run in checkpoints}
    return any(now[run] and now[run]["sha256"] != then for run, then in checkpoints.items())


def logged(plan: Plan, results: Path, names: Collection[str]) -> pd.DataFrame:
    """Return what finished tuning runs logged: label, dataset, seed, env_steps, name, value."""
    import pandas as pd

    rows = []
    for cell in plan.cells:
        folder = RunFolder(results, cell.run)
        if not cell.parent or not is_whole(plan, cell.run, results):
            continue
        for row in read_journal(folder.train):
            clock = (cell.label, cell.dataset, cell.seed, row["env_steps"])
            rows += [(*clock, name, float(row[name])) for name in names if name in row]
    return pd.DataFrame(rows, columns=["label", "dataset", "seed", "env_steps", "name", "value"])


def fault(run: Run, results: Path) -> str:
    """Return why a run cannot be used, an empty string where it is done and its files are as published."""
    try:
        _require_whole(RunFolder(results, run.id), run)
    except _Unusable as error:
        return str(error)
    return ""


class _Unusable(Exception):
    """Why a cell is left out."""


def _cell_rows(plan: Plan, results: Path, cell: Cell) -> list[dict[str, Any]]:
    """Return a cell's rows, the pretraining run's first."""
    rows = []
    tunes = bool(cell.parent) or any(stage.env_steps for stage in plan.stages[plan.run(cell.run).group])
    if cell.parent:
        rows += [{**row, "phase": "offline"} for row in _rows(plan, cell.parent, results, cell)]
    for row in _rows(plan, cell.run, results, cell):
        rows.append({**row, "phase": "online" if tunes else "offline"})
    return rows


def _rows(plan: Plan, run_id: str, results: Path, cell: Cell) -> Iterator[dict[str, Any]]:
    folder = RunFolder(results, run_id)
    _require_whole(folder, plan.run(run_id))
    refs = plan.scores[cell.dataset]
    for row in read_journal(folder.scores):
        mean = sum(row["returns"]) / len(row["returns"])
        yield {
            "label": cell.label,
            "algorithm": cell.algorithm,
            "dataset": cell.dataset,
            "seed": cell.seed,
            "stage": row["stage"],
            "env_steps": row["env_steps"],
            "updates": row["updates"],
            "episodes": len(row["returns"]),
            "mean_return": mean,
            "score": float(refs.score(mean)),
        }


def _require_whole(folder: RunFolder, run: Run) -> None:
    """Refuse a run that is not done, or whose files are not those it was published with."""
    state = folder.state()
    if state != "done":
        error = folder.failure()
        raise _Unusable(f"{run.algorithm}: {state}{': ' + error if error else ''}")
    try:
        damage = folder.damage()
    except OSError as error:
        damage = str(error)
    if damage:
        raise _Unusable(f"{run.algorithm}: {damage}")
    record = read_json(folder.record)
    if not isinstance(record, dict) or record.get("identity") != run.identity:
        raise _Unusable(f"{run.algorithm}: run.json belongs to another run")


def is_whole(plan: Plan, run_id: str, results: Path) -> bool:
    """Tell whether a run is finished and its files are those that it was published with."""
    try:
        _require_whole(RunFolder(results, run_id), plan.run(run_id))
    except _Unusable:
        return False
    return True


def seconds(run: Run, results: Path) -> float:
    """Return how long a run took, lost work included."""
    return float(sum(row["seconds"] for _, row in sound(RunFolder(results, run.id).timings)))


def parts(runs: Iterable[Run], results: Path) -> dict[str, float]:
    """Return where the time of runs went, seconds by kind of work; "other" is what nobody claimed."""
    spent: dict[str, float] = defaultdict(float)
    for run in runs:
        for _, row in sound(RunFolder(results, run.id).timings):
            for part, used in row["parts"].items():
                spent[part] += used
            spent["other"] += max(0.0, row["seconds"] - sum(row["parts"].values()))
    return {part: spent[part] for part in (*PARTS, "other")}


def rate(algorithm: str, results: Path) -> float | None:
    """Return updates and steps per second of an algorithm's finished runs; None where there are none."""
    work, spent, known = 0, 0.0, set()
    for plan in _readable(sorted((results / "plans").glob("*.json")))[0]:
        for run in plan.runs:
            done = run.algorithm == algorithm and RunFolder(results, run.id).done.exists()
            if done and run.id not in known:
                known.add(run.id)
                work, spent = work + sum(plan.work(run)), spent + seconds(run, results)
    return work / spent if spent else None
