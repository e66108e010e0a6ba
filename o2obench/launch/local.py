"""The local pool: processes at work on a plan, pretraining before what starts from it."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import SoftFileLease

from ..errors import UserError
from ..planning.plan import Plan
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.lock import lock_on
from ..runs.spec import Run
from ..training.options import Options
from .worker import BUSY, DONE, INTERRUPTED, Worker, is_free, record_death

GRACE = 30.0
"""Seconds that a worker has for its last checkpoint before it is killed."""
ASK_AGAIN = 2.0
"""Seconds between two looks at a run that another process computes."""


@dataclass
class Outcome:
    """What a launch came to: runs by what happened to them."""

    skipped: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    """Cannot start, because the run that they start from is not to be had."""
    stopped: list[str] = field(default_factory=list)
    """Saved and ended by somebody else's wish; the next launch goes on with them."""
    interrupted: int = 0
    """The signal that ended the launch early; 0: none did."""


@dataclass(frozen=True)
class WorkerSettings:
    """How many processes work at once, and where.

    ``gpus``: their numbers; ``per_gpu`` processes share one. ``seed_batch``: seeds trained side by side in a
    process, 0: all on a GPU, one on a CPU. ``stall_minutes`` without progress, and a worker is killed and
    its runs resumed (0: never), at most ``retries`` times, as after a death by a signal.
    """

    jobs: int
    gpus: tuple[str, ...] = ()
    per_gpu: int = 1
    seed_batch: int = 0
    stall_minutes: float = 30.0
    retries: int = 2

    def device_slots(self) -> list[dict[str, str]]:
        """Return the environment variables of each device slot at which a worker may run."""
        shared = [{"CUDA_VISIBLE_DEVICES": gpu} for _ in range(self.per_gpu) for gpu in self.gpus]
        return shared[: self.jobs] if self.gpus else [{}] * self.jobs


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use; none where the driver's tool finds none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip())
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return tuple(process.stdout.split()) if process.returncode == 0 else ()


class Pool:
    """One launch of a plan, or of the runs of it that are named in ``only``."""

    def __init__(
        self,
        plan: Plan,
        plan_file: Path,
        results: ResultsFolder,
        settings: WorkerSettings,
        options: Options,
        only: Collection[str] | None = None,
    ) -> None:
        self.plan, self.plan_file, self.results = plan, plan_file, results
        self.settings, self.options, self.outcome = settings, options, Outcome()
        self.waiting: list[Run] = []
        self.workers: list[Worker] = []
        self.deaths: Counter[str] = Counter()
        self.elsewhere: dict[str, tuple[SoftFileLease, float]] = {}
        self.free_slots = settings.device_slots()
        if not self.free_slots:
            raise UserError("no GPU was found; name them with --gpus, or leave out --device")
        for run in sorted(plan.runs, key=lambda run: run.seed):  # whatever ends it, whole seeds are done
            if only is not None and run.id not in only:
                continue
            folder = results.run(run.id)
            state = folder.state()
            if state == "done":
                self.outcome.skipped.append(run.id)
            elif state == "diverged" or folder.obstacle():  # it would only come to this again
                self.outcome.failed.append(run.id)
            else:
                self.waiting.append(run)
        self.old_failures = {run.id: self._failure_of(run) for run in self.waiting}

    def launch(self, show: Callable[[], None] = lambda: None) -> Outcome:
        """Compute every run that is not done, and return what happened; ``show`` is called twice a second.

        A failed run stops only the runs that start from it. Ctrl-C lets every process save its state and
        end; a second one kills them.
        """
        with _interruptible() as interrupts:
            try:
                while self.workers or (self.waiting and not interrupts):
                    self._reap(bool(interrupts))
                    if interrupts:
                        self._wind_up(interrupts)
                    else:
                        self._kill_the_stalled()
                        self._start_what_is_ready()
                    show()
                    time.sleep(0.2)
            finally:
                self.stop(GRACE)
        return self.outcome

    def stop(self, seconds: float) -> None:
        """Ask all workers to save and end, kill those that take longer than ``seconds``, wait for all."""
        for worker in self.workers:
            worker.ask()
        deadline = time.monotonic() + seconds
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.process.wait()
            worker.clear()

    # ---- the end of a worker ------------------------------------------------------------------------------

    def _reap(self, ending: bool) -> None:
        for worker in list(self.workers):
            code = worker.process.poll()
            if code is None:
                continue
            worker.clear()
            self.workers.remove(worker)
            self.free_slots.append(dict(worker.slot))
            for run, folder in zip(worker.runs, worker.folders, strict=True):
                self._settle(run, folder, code, worker.stalled, ending)

    def _settle(self, run: Run, folder: RunFolder, code: int, stalled: bool, ending: bool) -> None:
        """Decide what the end of a worker means for one of its runs; its folder is the truth."""
        died = code < 0 or stalled
        if folder.done.exists():
            self.outcome.finished.append(run.id)
        elif code == BUSY:
            self.elsewhere[run.id] = (lock_on(folder), time.monotonic())
            self.waiting.append(run)
        elif code == INTERRUPTED or (ending and died):
            self.outcome.stopped.append(run.id)
        elif (died or code == DONE) and self.deaths[run.id] < self.settings.retries:
            self.deaths[run.id] += 1
            self.waiting.insert(0, run)
        elif not record_death(folder, code, stalled):
            self.elsewhere[run.id] = (lock_on(folder), time.monotonic())
            self.waiting.append(run)
        else:
            self.outcome.failed.append(run.id)

    def _wind_up(self, interrupts: list[int]) -> None:
        if not self.outcome.interrupted:
            self.outcome.interrupted, self._asked_at = interrupts[0], time.monotonic()
            for worker in self.workers:
                worker.ask()
        elif len(interrupts) > 1 or time.monotonic() - self._asked_at > GRACE:
            for worker in self.workers:
                worker.kill()

    def _kill_the_stalled(self) -> None:
        limit = 60 * self.settings.stall_minutes
        for worker in self.workers:
            if limit and not worker.stalled and worker.still_for() > limit:
                worker.stalled = True
                worker.kill()

    # ---- the start of a worker ----------------------------------------------------------------------------

    def _start_what_is_ready(self) -> None:
        if not self.free_slots:
            return
        ready = self._ready()
        if self.elsewhere:  # several launchers: do not all reach for the same run
            random.Random(os.getpid()).shuffle(ready)
        for runs in self._seed_batches(ready):
            if not self.free_slots:
                return
            if not all(self._is_free(run) for run in runs):
                continue
            if any(self._failed_elsewhere(run) for run in runs):
                continue
            for run in runs:
                self.waiting.remove(run)
                self.results.run(run.id).forget_failure()
            slot = self.free_slots.pop(0)
            self.workers.append(Worker(runs, self.plan_file, self.results, self.options, slot))

    def _ready(self) -> list[Run]:
        """Return the runs whose parent is done; drop those whose parent cannot be had any more."""
        ready = []
        pending = {run.id for run in self.waiting} | {run.id for w in self.workers for run in w.runs}
        is_done = functools.cache(lambda run_id: self.results.run(run_id).done.exists())
        for run in list(self.waiting):
            missing = [needed for needed in self.plan.needs(run) if not is_done(needed)]
            if missing:
                if not pending.issuperset(missing):
                    self.waiting.remove(run)
                    self.outcome.blocked.append(run.id)
            elif is_done(run.id):  # another launcher finished it
                self.waiting.remove(run)
                self.outcome.finished.append(run.id)
            else:
                ready.append(run)
        return ready

    def _failed_elsewhere(self, run: Run) -> bool:
        """Tell whether a run failed with another launcher since this one began: so it failed here, too."""
        if self._failure_of(run) in (0, self.old_failures[run.id]):
            return False
        self.waiting.remove(run)
        self.outcome.failed.append(run.id)
        return True

    def _failure_of(self, run: Run) -> int:
        """Return when a run's FAILED was written; 0 where there is none."""
        try:
            return self.results.run(run.id).failed.stat().st_mtime_ns
        except OSError:
            return 0

    def _is_free(self, run: Run) -> bool:
        """Tell whether nobody else computes a run, without waiting for an answer."""
        folder = self.results.run(run.id)
        if run.id not in self.elsewhere:
            if not folder.lock.exists():
                return True
            self.elsewhere[run.id] = (lock_on(folder), -ASK_AGAIN)
        lease, asked_at = self.elsewhere[run.id]
        if time.monotonic() - asked_at < ASK_AGAIN:
            return False
        self.elsewhere[run.id] = (lease, time.monotonic())
        if is_free(lease):
            del self.elsewhere[run.id]
            return True
        return False

    def _seed_batches(self, ready: Sequence[Run]) -> Iterator[list[Run]]:
        """Yield what a worker gets: seeds of one computation side by side where that pays, else one run."""
        size = self.settings.seed_batch or (len(ready) if self.settings.gpus else 1)
        alike: Mapping[str, list[Run]] = defaultdict(list)
        for run in ready:
            alike[run.group].append(run)
        batches = list[list[Run]]()
        for runs in alike.values():
            n = size if size > 1 and _can_batch(runs[0]) else 1
            batches += [runs[i : i + n] for i in range(0, len(runs), n)]
        place = {run.id: i for i, run in enumerate(ready)}
        yield from sorted(batches, key=lambda runs: place[runs[0].id])


def _can_batch(run: Run) -> bool:
    from .. import registry

    return not run.collects and registry.algorithm(run.spec.algorithm).seed_batches


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
