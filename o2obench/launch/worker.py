"""A worker: a process that computes a run, or a seed batch, and dies with the one that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import SoftFileLease, Timeout

from ..envs.own import own_arguments
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.lock import lock_on
from ..runs.spec import Run
from ..training.options import Options
from ..util.files import open_plain
from ..util.interpreter import PYTHON

DONE, FAILED, BAD_INPUT, BUSY, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes of a worker."""
LAST_BYTES = 4096
"""Of a log, in which its last line is looked for."""


class Worker:
    """A process at work on ``runs``; what it prints is appended to the first run's log.txt.

    It stops when its standard input closes, that is, when this process is gone.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        plan_file: Path,
        results: ResultsFolder,
        options: Options,
        slot: Mapping[str, str],
    ) -> None:
        self.runs, self.slot, self.stalled = tuple(runs), slot, False
        self.folders = [results.run(run.id) for run in runs]
        for folder in self.folders:
            folder.make()
        ids = [run.id for run in runs]
        command = [*PYTHON, "-m", "o2obench", *own_arguments(), "work", str(plan_file), *ids]
        command += ["--results", str(results)]
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        threads = dict.fromkeys(names, str(options.threads))
        with open(self.folders[0].log, "ab", opener=_no_link) as log, _deaf_to_the_scheduler():
            self.process = subprocess.Popen(
                command + options.flags(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONSAFEPATH": "1", **threads, **slot},
                start_new_session=True,
            )
        self._seen, self._since = self._signs_of_life(), time.monotonic()

    def still_for(self) -> float:
        """Return the seconds since its training loop last showed progress."""
        now = self._signs_of_life()
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        return time.monotonic() - self._since

    def _signs_of_life(self) -> list[int]:
        times = []
        for folder in self.folders:
            with contextlib.suppress(OSError):
                times.append(folder.progress.stat().st_mtime_ns)
        return times

    def ask(self) -> None:
        """Ask it to save its state and to end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def clear(self) -> None:
        """Clear away what an ended worker may have left: processes of its own, and our end of its input."""
        self.kill()
        if self.process.stdin:
            self.process.stdin.close()


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


@contextlib.contextmanager
def _deaf_to_the_scheduler() -> Iterator[None]:
    """Start processes that do not hear SIGUSR1 and SIGUSR2, which would end them.

    A scheduler sends its warning to every process of a job; the pool hears it and asks its workers to save.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def is_free(lease: SoftFileLease) -> bool:
    """Tell whether nobody holds a run: try its lock, and give it back.

    The same object, asked again and again, notices when an owner elsewhere has shown no sign of life.
    """
    with contextlib.suppress(Timeout):
        lease.acquire()
        lease.release()
        return True
    return False


def record_death(folder: RunFolder, code: int, stalled: bool) -> bool:
    """Write FAILED for a worker that died without a word; return False where another owner has the run."""
    if folder.obstacle():
        return True  # nothing can be written there
    lease = lock_on(folder)
    try:
        lease.acquire()
    except Timeout:
        return False
    try:
        if not folder.failed.exists() and not folder.done.exists():
            folder.fail(f"the process {how_it_ended(code, stalled)}{_last_words(folder)}")
    finally:
        lease.release()
    return True


def how_it_ended(code: int, stalled: bool) -> str:
    """Say how a process ended."""
    if stalled:
        return "made no progress and was killed"
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _last_words(folder: RunFolder) -> str:
    with contextlib.suppress(OSError):
        with open_plain(folder.log, most=None) as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return f"; its last words: {lines[-1]}" if lines else ""
    return ""
