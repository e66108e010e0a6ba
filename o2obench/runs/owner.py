"""Who holds a run, read without touching its lock."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import SoftFileLease

LOCK_SECONDS = float(os.environ.get("O2OBENCH_LOCK_SECONDS", "60"))
"""After so many seconds without a sign of life another process may take a run over; equal for all that share
a results folder."""


@dataclass(frozen=True)
class Owner:
    """The process that a lock names, and the seconds since its last sign of life.

    ``alive`` is None where it cannot be told: the process is, or was, one of another machine.
    """

    pid: int
    host: str
    age: float
    alive: bool | None

    @property
    def holds(self) -> bool:
        """Tell whether the run must be taken to be computed now."""
        return self.alive is not False and self.age < LOCK_SECONDS

    def __str__(self) -> str:
        states = {True: "alive", False: "gone", None: "on another machine"}
        age = f"last seen {max(0.0, self.age):.0f} s ago"
        return f"process {self.pid} on {self.host} ({states[self.alive]}, {age})"


def owner_of(lock: Path) -> Owner | None:
    """Return who holds this lock, None where nobody does or the record cannot be read."""
    if lock.is_symlink():
        return None
    record = SoftFileLease(lock).owner
    if record is None:
        return None
    try:
        age = time.time() - lock.stat().st_mtime
    except OSError:
        return None
    is_local = record.hostname == _this_host()
    return Owner(record.pid, record.hostname.partition("?")[0], age, _alive(record.pid) if is_local else None)


@functools.cache
def _this_host() -> str:
    """Return this machine's name as lock files hold it, containers told apart."""
    with tempfile.TemporaryDirectory() as folder, SoftFileLease(Path(folder) / "lock") as lease:
        return lease.owner.hostname if lease.owner else ""


def _alive(pid: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
