"""Optional mirrors of a results folder's logs in TensorBoard or Weights & Biases; nothing needs them.

Points of stages with environment steps stand over ``env_steps``, those of other stages over ``updates``; the
names say which (``by_env_steps/score``). How far a log was mirrored is kept beside the mirror, so that a
second time adds only what is new.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..datasets.reference_scores import Reference
from ..errors import UserError
from ..planning.plan import Plan, read_plans
from ..runs import inventory
from ..runs.folder import ResultsFolder
from ..runs.read import is_clocked, is_episode, is_evaluation
from ..runs.spec import Run
from ..util.files import is_number, is_readable, open_plain, read_json, shown, usable, write_atomically

LOGS = ("evaluations", "episodes", "train")
CLOCK = ("stage", "env_steps", "updates")
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Point:
    """Values at one place of one axis, ``env_steps`` or ``updates``; their names say which."""

    axis: str
    at: int
    values: dict[str, float]


class Sink(Protocol):
    """Where points go. ``write`` returns when they are kept; ``batch`` counts a run's writes from 0."""

    def write(self, run: Run, batch: int, points: Sequence[Point]) -> None:
        """Keep the points; a batch that is written again replaces what a killed attempt left of it."""


class TensorBoard:
    """Event files, one folder per run, one file per batch."""

    def __init__(self, out: Path) -> None:
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.summary import scalar
        except ImportError:
            raise _missing("tensorboard", "tensorboardX") from None
        self.out, self.writer, self.event, self.scalar = out, EventsWriter, Event, scalar

    def write(self, run: Run, batch: int, points: Sequence[Point]) -> None:
        """Write the batch's event file; its name says the batch."""
        folder, suffix = self.out / run.id, f".o2obench.{batch:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob(f"events.out.tfevents.*{suffix}"):
            half.unlink()
        writer, now = self.writer(str(folder / "events"), suffix), time.time()
        try:
            for point in points:
                for name, value in point.values.items():
                    summary = self.scalar(name, value)
                    writer.write_event(self.event(wall_time=now, step=point.at, summary=summary))
        finally:
            writer.close()


class WandB:
    """Runs of Weights & Biases; their ids are the identities, so that a later batch goes on."""

    def __init__(self, out: Path) -> None:
        if os.environ.get("WANDB_MODE") == "disabled":
            raise UserError("WANDB_MODE=disabled: nothing would be logged; set it to offline or online")
        try:
            import wandb
        except ImportError:
            raise _missing("wandb", "wandb") from None
        self.out, self.wandb = out, wandb

    def write(self, run: Run, batch: int, points: Sequence[Point]) -> None:
        """Log the batch; each point brings its axis along, for steps of W&B only ever grow."""
        logged = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", "o2obench"),
            id=run.identity,
            name=run.id,
            group=run.id.rpartition("/")[0],
            config={**run.spec.to_json(), "seed": run.seed},
            dir=str(self.out),
            resume="allow",
        )
        for axis in ("env_steps", "updates"):
            logged.define_metric(f"by_{axis}/*", step_metric=axis)
        for point in points:
            logged.log({point.axis: point.at, **point.values})
        logged.finish()


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": TensorBoard, "wandb": WandB}


def _missing(kind: str, package: str) -> UserError:
    return UserError(f"--to {kind}: {package} is not installed; pip install 'o2obench[{kind}]'")


def mirror(
    results: ResultsFolder,
    kind: str,
    out: Path,
    suite: str = "",
    stop: Callable[[], bool] = lambda: True,
    say: Callable[[str], None] = lambda text: print(text, flush=True),
) -> None:
    """Mirror the runs of a results folder's plans, again every few seconds until ``stop`` says so."""
    if kind not in SINKS:
        raise UserError(f"--to {kind}: not known; one of {', '.join(SINKS)}")
    inventory.take(results)
    inventory.require_outside(results, out)
    sink = SINKS[kind](out)
    usable(out)
    reported, first = set[str](), True
    while True:
        runs, count, problems = _go_on(results, suite, sink, out / f".{kind}.json")
        for problem in (problem for problem in problems if problem not in reported):
            say(problem)
        reported.update(problems)
        if count or first:
            x = "x is env_steps in online stages, updates in offline ones"
            say(f"{runs} runs, {count:,} new points; {x}")
        first, end = False, time.monotonic() + POLL_SECONDS
        while time.monotonic() < end:
            if stop():
                return
            time.sleep(0.1)


def _go_on(results: ResultsFolder, suite: str, sink: Sink, file: Path) -> tuple[int, int, list[str]]:
    """Mirror what is new since ``file`` was written; return how many runs and new points, and problems."""
    mirrored = read_json(file) if file.exists() else {}
    if not isinstance(mirrored, dict):
        raise UserError(f"{shown(file)}: cannot be read; mirror into another folder")
    run_ids, seen, count, problems = set(inventory.take(results).runs), set[str](), 0, list[str]()
    planned = [(plan, run) for plan in read_plans(results, suite) for run in plan.runs if run.id in run_ids]
    for plan, run in planned:
        if run.id in seen:
            continue
        seen.add(run.id)
        folder, points = results.run(run.id), list[Point]()
        before = mirrored.get(run.id) or {"batch": 0, **dict.fromkeys(LOGS, 0)}
        after = {**before, "batch": before["batch"] + 1}
        for name in LOGS:
            try:
                rows, reached = _new_rows(getattr(folder, name), before[name])
                points += list(_points(name, rows, plan, run))  # all of them or none
            except (ValueError, KeyError, TypeError, RecursionError):
                problems.append(f"{shown(getattr(folder, name))}: corrupted; see `o2obench doctor`")
            else:
                after[name] = reached
        if points:
            sink.write(run, before["batch"], points)
            mirrored[run.id] = after
            write_atomically(file, json.dumps(mirrored))
            count += len(points)
    return len(seen), count, problems


def _new_rows(file: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """Return the rows after the first ``start`` bytes, and where they end; an unfinished line waits.

    A log that was cut back to a checkpoint gets the same rows again: until then there is nothing new.
    """
    if not is_readable(file):
        return [], start
    with open_plain(file) as log:
        log.seek(start)
        content = log.read()
    end = content.rfind(b"\n") + 1
    return [json.loads(line) for line in content[:end].splitlines()], start + end


FORMS = {"evaluations": is_evaluation, "episodes": is_episode, "train": is_clocked}
"""What a line of each log has to be."""


def _points(log: str, rows: Sequence[dict[str, Any]], plan: Plan, run: Run) -> Iterator[Point]:
    online = {stage.name for stage in plan.stages[run.group] if stage.env_steps}
    if online or run.parent:
        online.add("start")  # the evaluation at the online start
    reference = _reference(plan, run)
    for row in rows:
        if not FORMS[log](row):
            raise ValueError("not a line of such a log")
        axis = "env_steps" if row["stage"] in online or log == "episodes" else "updates"
        values = VALUES[log](row, reference)
        yield Point(axis, int(row[axis]), {f"by_{axis}/{name}": value for name, value in values.items()})


def _reference(plan: Plan, run: Run) -> Reference:
    """Return the reference scores of the data set that shows the run."""
    return next(
        plan.scores[experiment.dataset]
        for experiment in plan.experiments
        if run.id in (experiment.run, experiment.parent)
    )


def _evaluation(row: dict[str, Any], reference: Reference) -> dict[str, float]:
    mean = sum(row["returns"]) / len(row["returns"])
    return {"return": mean, "score": float(reference.score(mean))}


def _episode(row: dict[str, Any], reference: Reference) -> dict[str, float]:
    return {"episode_return": float(row["return"]), "episode_length": float(row["length"])}


def _metrics(row: dict[str, Any], reference: Reference) -> dict[str, float]:
    metrics = {name: value for name, value in row.items() if name not in CLOCK and is_number(value)}
    return {f"train_{name}": float(value) for name, value in metrics.items()}


VALUES: dict[str, Callable[[dict[str, Any], Reference], dict[str, float]]] = {
    "evaluations": _evaluation,
    "episodes": _episode,
    "train": _metrics,
}
