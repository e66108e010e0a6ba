"""The local pool: at most ``jobs`` processes, one run each, pretraining before what starts from it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..options import Options
from ..plan import Plan
from ..run import Run, RunFolder

DONE, FAILED, BAD_INPUT, BUSY, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes of a worker."""
GRACE = 30.0


@dataclass
class Outcome:
    """What a launch came to: runs by what happened to them."""

    skipped: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    interrupted: bool = False


def launch(
    plan: Plan,
    plan_file: Path,
    results: Path,
    jobs: int,
    options: Options,
    show: Callable[[], None] = lambda: None,
) -> Outcome:
    """Compute every run of the plan that is not done, and return what happened.

    A failed run stops only the runs that start from it. Ctrl-C lets every process save its state and
    end; a second one kills them. ``show`` is called about twice a second.
    """
    outcome, waiting = Outcome(), list(plan.runs)
    for run in plan.runs:
        state = RunFolder(results, run.id).state()
        if state in ("done", "diverged"):  # a run that diverged would only diverge again
            (outcome.skipped if state == "done" else outcome.failed).append(run.id)
            waiting.remove(run)
    workers: dict[str, subprocess.Popen[bytes]] = {}
    elsewhere: dict[str, float] = {}
    with _terminate_on_exit(workers), _interruptible() as interrupts:
        while workers or (waiting and not interrupts):
            for run_id, worker in list(workers.items()):
                code = worker.poll()
                if code is None:
                    continue
                del workers[run_id]
                if code == BUSY:
                    elsewhere[run_id] = time.monotonic()
                    waiting.append(plan.run(run_id))
                elif code == DONE or RunFolder(results, run_id).done.exists():
                    outcome.finished.append(run_id)
                elif not (interrupts and code in (INTERRUPTED, -signal.SIGKILL, -signal.SIGTERM)):
                    _record_death(RunFolder(results, run_id), code)
                    outcome.failed.append(run_id)
            if interrupts:
                outcome.interrupted = True
                _pass_on(interrupts, workers)
            else:
                for run in _ready(waiting, results, outcome, elsewhere)[: jobs - len(workers)]:
                    waiting.remove(run)
                    workers[run.id] = start(run, plan_file, results, options)
            show()
            time.sleep(0.2)
    return outcome


def start(run: Run, plan_file: Path, results: Path, options: Options) -> subprocess.Popen[bytes]:
    """Start a worker process for one run; its output is appended to the run's log.txt.

    The worker stops when its standard input closes, that is, when this process is gone.
    """
    folder = RunFolder(results, run.id)
    folder.path.mkdir(parents=True, exist_ok=True)
    threads = str(options.threads)
    command = [sys.executable, "-m", "o2obench", "work", str(plan_file), run.id, "--results", str(results)]
    command += options.flags()
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, "PYTHONSAFEPATH": "1", **dict.fromkeys(names, threads)}
    with open(folder.log, "ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def _ready(waiting: list[Run], results: Path, outcome: Outcome, elsewhere: dict[str, float]) -> list[Run]:
    """Return the runs whose parent is done; drop those whose parent cannot be had any more."""
    ready = []
    for run in list(waiting):
        folder = RunFolder(results, run.id)
        if folder.done.exists():  # another launcher finished it
            waiting.remove(run)
            outcome.finished.append(run.id)
        elif run.parent in outcome.failed or run.parent in outcome.blocked:
            waiting.remove(run)
            outcome.blocked.append(run.id)
        elif time.monotonic() - elsewhere.get(run.id, -60.0) < 5.0:
            continue
        elif run.parent is None or RunFolder(results, run.parent).done.exists():
            ready.append(run)
    return ready


def _record_death(folder: RunFolder, code: int) -> None:
    """Write FAILED for a worker that died without a word (a signal, out of memory)."""
    if not folder.failed.exists():
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        last = ""
        with contextlib.suppress(OSError):
            lines = folder.log.read_text(errors="replace").strip().splitlines()
            last = f"; its last words: {lines[-1]}" if lines else ""
        folder.fail(f"the process {how}{last}")


def _pass_on(interrupts: list[int], workers: dict[str, subprocess.Popen[bytes]]) -> None:
    """Ask the workers to save and end; kill them at the second Ctrl-C."""
    for worker in workers.values():
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(signal.SIGKILL if len(interrupts) > 1 else signal.SIGTERM)


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying from them."""
    caught: list[int] = []
    former = {
        number: signal.signal(number, lambda signum, frame: caught.append(signum))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield caught
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _terminate_on_exit(workers: dict[str, subprocess.Popen[bytes]]) -> Iterator[None]:
    """Leave no process behind, whatever happens."""
    try:
        yield
    finally:
        for worker in workers.values():
            worker.terminate()
        deadline = time.monotonic() + GRACE
        for worker in workers.values():
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
