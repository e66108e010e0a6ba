"""Optional mirrors of a results folder's journals in TensorBoard or Weights & Biases; nothing needs them.

Points of stages with environment steps stand over ``env_steps``, those of other stages over ``updates``; the
names say which (``by_env_steps/score``). How far a journal was mirrored is kept beside the mirror, so that a
second time adds only what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from ..datasets.reference_scores import Reference
from ..errors import BadInput
from ..planning.plan import Plan
from ..runs import inventory
from ..runs.folder import Run, RunFolder
from ..runs.inventory import is_file, shown
from ..util.files import is_number, read_json, write_atomically
from .results import plans

JOURNALS = ("scores", "episodes", "train")
CLOCK = ("stage", "env_steps", "updates")
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Point:
    """Values at one place of one axis, ``env_steps`` or ``updates``."""

    axis: str
    at: int
    values: dict[str, float]

    def named(self) -> dict[str, float]:
        """Return the values by names that say the axis."""
        return {f"by_{self.axis}/{name}": value for name, value in self.values.items()}


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
                for name, value in point.named().items():
                    summary = self.scalar(name, value)
                    writer.write_event(self.event(wall_time=now, step=point.at, summary=summary))
        finally:
            writer.close()


class WandB:
    """Runs of Weights & Biases; their ids are the identities, so that a later batch goes on."""

    def __init__(self, out: Path) -> None:
        if os.environ.get("WANDB_MODE") == "disabled":
            raise BadInput("WANDB_MODE=disabled: nothing would be logged; set it to offline or online")
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
            config={**run.spec, "seed": run.seed},
            dir=str(self.out),
            resume="allow",
        )
        for axis in ("env_steps", "updates"):
            logged.define_metric(f"by_{axis}/*", step_metric=axis)
        for point in points:
            logged.log({point.axis: point.at, **point.named()})
        logged.finish()


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": TensorBoard, "wandb": WandB}


def _missing(kind: str, package: str) -> BadInput:
    return BadInput(f"--to {kind}: {package} is not installed; pip install 'o2obench[{kind}]'")


def mirror(
    results: Path,
    kind: str,
    out: Path,
    suite: str = "",
    stop: Callable[[], bool] = lambda: True,
    say: Callable[[str], None] = lambda text: print(text, flush=True),
) -> None:
    """Mirror the runs of a results folder's plans, again every few seconds until ``stop`` says so."""
    if kind not in SINKS:
        raise BadInput(f"--to {kind}: not known; one of {', '.join(SINKS)}")
    inventory.take(results)
    if results.resolve() in (out.resolve(), *out.resolve().parents):
        raise BadInput(f"{shown(out)}: lies in the results folder; name one outside of it")
    sink = SINKS[kind](out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{shown(out)}: cannot be used as a folder: {error.strerror}; name another") from None
    try:
        with SoftFileLease(out / f".{kind}.lease", timeout=0):
            _repeat(_Mirror(results, suite, sink, out / f".{kind}.json"), stop, say)
    except (Timeout, LeaseSettingsMismatch):
        raise BadInput(f"{shown(out)}: another mirror writes here; wait for its end") from None


def _repeat(one: _Mirror, stop: Callable[[], bool], say: Callable[[str], None]) -> None:
    said = ""
    while True:
        runs, count, problems = one.go_on()
        for problem in problems:
            say(problem)
        told = f"{runs} runs, {count:,} new points; x is env_steps in online stages, updates in offline ones"
        if count or not said:
            say(told)
        said = told
        end = time.monotonic() + POLL_SECONDS
        while time.monotonic() < end:
            if stop():
                return
            time.sleep(0.1)


class _Mirror:
    """What was mirrored so far, and the way to go on from there."""

    def __init__(self, results: Path, suite: str, sink: Sink, file: Path) -> None:
        self.results, self.suite, self.sink, self.file = results, suite, sink, file
        self.known = read_json(file) if file.exists() else {}
        if not isinstance(self.known, dict):
            raise BadInput(f"{shown(file)}: cannot be read; mirror into another folder")
        self.told = set[str]()

    def go_on(self) -> tuple[int, int, list[str]]:
        """Mirror what is new; return how many runs there are, how many points were new, and new problems."""
        seen, count, problems = set[str](), 0, list[str]()
        here = set(inventory.take(self.results).runs)
        for plan in plans(self.results, self.suite):
            for run in (run for run in plan.runs if run.id in here and run.id not in seen):
                seen.add(run.id)
                count += self._run(plan, run, problems)
        return len(seen), count, problems

    def _run(self, plan: Plan, run: Run, problems: list[str]) -> int:
        """Mirror one run's new rows and, once they are kept, remember how far that was."""
        folder, before = RunFolder(self.results, run.id), self.known.get(run.id, {})
        points, after = list[Point](), {"batch": before.get("batch", 0) + 1}
        for name in JOURNALS:
            try:
                rows, reached = _new_rows(getattr(folder, name), before.get(name, _NOTHING))
                points += _points(name, rows, plan, run)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                what = str(error) if isinstance(error, _RewrittenError) else "damaged; see `o2obench doctor`"
                line = f"{shown(getattr(folder, name))}: {what}"
                problems += [line] if line not in self.told else []
                self.told.add(line)
                reached = before.get(name, _NOTHING)
            after[name] = reached
        if points:
            self.sink.write(run, before.get("batch", 0), points)
            self.known[run.id] = after
            write_atomically(self.file, json.dumps(self.known))
        return len(points)


_NOTHING = {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}


class _RewrittenError(ValueError):
    """A journal's beginning is not what was mirrored."""


def _new_rows(file: Path, before: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows after those that were mirrored, and how far that is; an unfinished line waits.

    A journal that was cut back to a checkpoint gets the same rows again: until then there is nothing new.
    """
    content = file.read_bytes() if is_file(file) else b""
    known = before["bytes"]
    if len(content) < known:
        return [], before
    if hashlib.sha256(content[:known]).hexdigest() != before["sha256"]:
        raise _RewrittenError("was rewritten since it was mirrored; mirror into another folder")
    end = content.rfind(b"\n") + 1
    rows = [json.loads(line) for line in content[known:end].splitlines()]
    return rows, {"bytes": end, "sha256": hashlib.sha256(content[:end]).hexdigest()}


def _points(journal: str, rows: Sequence[dict[str, Any]], plan: Plan, run: Run) -> Iterator[Point]:
    online = {stage.name for stage in plan.stages[run.group] if stage.env_steps}
    if online or run.parent:
        online.add("start")  # the evaluation at the switch
    reference = _reference(plan, run)
    for row in rows:
        axis = "env_steps" if row["stage"] in online or journal == "episodes" else "updates"
        yield Point(axis, int(row[axis]), VALUES[journal](row, reference))


def _reference(plan: Plan, run: Run) -> Reference:
    """Return the reference scores of the data set that shows the run."""
    return next(plan.scores[cell.dataset] for cell in plan.cells if run.id in (cell.run, cell.parent))


def _evaluation(row: dict[str, Any], reference: Reference) -> dict[str, float]:
    mean = sum(row["returns"]) / len(row["returns"])
    return {"return": mean, "score": float(reference.score(mean))}


def _episode(row: dict[str, Any], reference: Reference) -> dict[str, float]:
    return {"episode_return": float(row["return"]), "episode_length": float(row["length"])}


def _metrics(row: dict[str, Any], reference: Reference) -> dict[str, float]:
    found = {name: value for name, value in row.items() if name not in CLOCK and is_number(value)}
    return {f"train_{name}": float(value) for name, value in found.items()}


VALUES: dict[str, Callable[[dict[str, Any], Reference], dict[str, float]]] = {
    "scores": _evaluation,
    "episodes": _episode,
    "train": _metrics,
}
