"""Who holds a run, read from its lease without touching it."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import SoftFileLease

from .writer import LEASE_SECONDS


@dataclass(frozen=True)
class Owner:
    """The process that a lease names, and the seconds since its last sign of life.

    ``alive`` is None where it cannot be told: the process is, or was, one of another machine.
    """

    pid: int
    host: str
    age: float
    alive: bool | None

    @property
    def holds(self) -> bool:
        """Tell whether the run must be taken to be computed now."""
        return self.alive is not False and self.age < LEASE_SECONDS

    def __str__(self) -> str:
        said = {True: "alive", False: "gone", None: "on another machine"}[self.alive]
        return f"process {self.pid} on {self.host} ({said}, last seen {max(0.0, self.age):.0f} s ago)"


def owner_of(lease: Path, now: float | None = None) -> Owner | None:
    """Return who holds this lease, None where nobody does or the record cannot be read.

    ``now`` is the time by the clock of the folder's file system, which may be another than this machine's.
    """
    if lease.is_symlink():
        return None
    record = SoftFileLease(lease).owner
    if record is None:
        return None
    try:
        age = (time.time() if now is None else now) - lease.stat().st_mtime
    except OSError:
        return None
    here = record.hostname == _this_host()
    return Owner(record.pid, record.hostname.partition("?")[0], age, _alive(record.pid) if here else None)


@functools.cache
def _this_host() -> str:
    """Return this machine's name as leases write it, containers told apart."""
    with tempfile.TemporaryDirectory() as folder, SoftFileLease(Path(folder) / "lease") as lease:
        return lease.owner.hostname if lease.owner else ""


def _alive(pid: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
