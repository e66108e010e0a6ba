"""From a run's spec to its finished folder: lock, restore, fix compute settings, build, train, publish."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from .. import registry
from ..errors import Diverged, Interrupted, LostLock, UserError
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.lock import Busy, RunLock
from ..runs.spec import Run
from ..runs.writer import RunWriter
from ..util import timers
from .build import agent_class, build
from .collect_run import collect_data
from .foreign import begun_anew, bridge
from .loop import Training
from .options import DEFAULT, Options, Stop, never
from .restore import (
    CheckpointMismatch,
    fix_compute_settings,
    pretrained_state,
    require_same_start,
    saved_state,
)

__all__ = ["Busy", "CheckpointMismatch", "Options", "execute"]


def execute(
    runs: Sequence[Run], results: ResultsFolder, options: Options = DEFAULT, stop: Stop = never
) -> None:
    """Compute ``runs``, equal but for their seeds, to their end.

    Raises Interrupted when asked to stop, Busy when another process computes one of them, CheckpointMismatch
    when a seed batch cannot go on together, UserError when nothing was started, and what stopped a run
    otherwise (its folder then holds FAILED).
    """
    with ExitStack() as cleanup:
        writers = [_locked(run, results, cleanup) for run in runs]
        if all(writer.folder.done.exists() for writer in writers):
            return
        try:
            if runs[0].collects:
                collect_data(writers[0], options, stop)
                return
            if _compute(writers, results, options, stop, cleanup):
                return
        except (Interrupted, LostLock, UserError, Busy, CheckpointMismatch):
            raise
        except Exception as error:
            for writer in writers:
                writer.fail(error, isinstance(error, Diverged))
            for writer in writers:
                if writer.lock.is_superseded():  # so that is what went wrong
                    raise LostLock(
                        f"{writer.folder.path}: another process has taken this run over"
                    ) from error
            raise
    lost = [f"{writer.run.id}: {writer.reason}" for writer in writers if not writer.alive]
    if lost:
        raise Diverged("; ".join(lost))


def _locked(run: Run, results: ResultsFolder, cleanup: ExitStack) -> RunWriter:
    """Return the writer of a run that this process holds."""
    folder = results.run(run.id)
    lock = RunLock(folder)
    cleanup.callback(lock.release)
    writer = RunWriter(run, folder, lock)
    cleanup.callback(writer.close)
    return writer


def _compute(
    writers: Sequence[RunWriter], results: ResultsFolder, options: Options, stop: Stop, cleanup: ExitStack
) -> bool:
    """Compute the runs; return True where there was nothing left to compute."""
    parents = [results.run(writer.run.parent) for writer in writers if writer.run.parent]
    saved = saved_state(writers)
    first = writers[0].run
    agent_class(first.spec)
    if first.parent:  # settings hold for what is imported: frozen needs torch only as its pretraining does
        registry.algorithm(first.parent.split("/")[1])
    for i, writer in enumerate(writers):
        writer.record = fix_compute_settings(writer, parents[i] if parents else None, options, saved)
        if not agent_class(first.spec).resumes:
            writer.record["restarts"] = begun_anew(writer.folder)
    for writer in writers:
        with writer.lock.publish_lock():
            if writer.folder.done.exists():  # by an owner that was thought dead
                if len(writers) == 1:
                    return True
                raise CheckpointMismatch
            writer.begin(saved["seeds"][writer.run.id] if saved else None)
    if saved and "final" in saved:  # killed between the last checkpoint and DONE
        for writer in writers:
            final = {"agent": saved["seeds"][writer.run.id]["agent"], "final": True}
            writer.finish(saved["number"] + 1, final)
        return True
    timers.take()  # what a run before this one left
    program = bridge(first, options, stop)
    if program:
        cleanup.callback(program.close)
    agent = build([writer.run for writer in writers], results, options.device, program=program)
    training = Training(writers, results, agent, options, stop)
    cleanup.callback(training.close)
    states = [] if saved else [pretrained_state(parent) for parent in parents]
    training.run(saved, states, lambda: _require_same_starts(writers, parents))
    training.finish()
    return False


def _require_same_starts(writers: Sequence[RunWriter], parents: Sequence[RunFolder]) -> None:
    for writer, parent in zip(writers, parents, strict=bool(parents)):
        require_same_start(writer, parent)
