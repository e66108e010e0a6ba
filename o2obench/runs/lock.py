"""The lock of a run: one process computes it; another may take over when that one gives no sign of life."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, SoftFileLease, SoftFileLock, Timeout

from ..errors import LostLock
from ..util.files import naming
from .folder import RunFolder
from .owner import LOCK_SECONDS

UNSIGNED_SECONDS = 2.0
"""A lock file that is still empty after so long was left by a maker that did not live to sign it."""


class Busy(Exception):
    """Another process computes this run."""


class _Lease(SoftFileLease):
    """A lock file that is not held up for ever by an unsigned one."""

    def acquire(self, *arguments: Any, **named: Any) -> AcquireReturnProxy[Any]:
        """Acquire it."""
        drop_unsigned(Path(self.lock_file))
        return super().acquire(*arguments, **named)


def lock_on(folder: RunFolder) -> SoftFileLease:
    """Return the lock of a run, not yet acquired. Who cannot have it at once gets filelock's Timeout.

    An owner that died on this machine is superseded at once, any other after the same object has seen no sign
    of life for LOCK_SECONDS.
    """
    return _Lease(folder.lock, lease_duration=LOCK_SECONDS, timeout=0)


def drop_unsigned(lock: Path) -> None:
    """Remove an empty lock file, whose maker was killed between making and signing it.

    filelock waits for its end for ever. Should its maker live after all, it finds out when it asks whether it
    owns the run. The file system's own clock tells the age.
    """
    with contextlib.suppress(OSError):
        if lock.stat().st_size == 0:
            with tempfile.NamedTemporaryFile(dir=lock.parent) as now:
                age = os.fstat(now.fileno()).st_ctime - lock.stat().st_ctime
            if age > UNSIGNED_SECONDS and lock.stat().st_size == 0:
                lock.unlink()


class RunLock:
    """The lock of a run, acquired; raises Busy where another process computes the run."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        folder.make()
        self.lease = lock_on(folder)
        try:
            with naming(folder.lock):
                self.lease.acquire()
        except Timeout:
            raise Busy(f"{folder.id}: another process computes this run") from None
        self.owner = (self.lease.token or "")[:8]
        """Names this process's checkpoints."""

    def is_held(self) -> bool:
        """Tell whether the lock on the disk is this process's; the heartbeat thread would notice too late."""
        owner = self.lease.owner
        if owner is None:  # a contender that looks at a lease moves it aside for an instant
            time.sleep(0.1)
            owner = self.lease.owner
        return owner is not None and owner.token == self.lease.token

    def is_superseded(self) -> bool:
        """Tell whether the lock on the disk is certainly another's."""
        owner = self.lease.owner
        return owner is not None and owner.token != self.lease.token

    def require(self) -> None:
        """Raise LostLock when another process has taken the run over, or its folder is gone."""
        if not self.is_held():
            with contextlib.suppress(FileNotFoundError):
                self.folder.lock.read_bytes()  # what cannot be read is not lost: its OSError says more
            gone = not self.folder.path.is_dir()
            why = "its folder is gone" if gone else "another process has taken this run over"
            raise LostLock(f"{self.folder.path}: {why}")

    @contextmanager
    def publish_lock(self) -> Iterator[None]:
        """Hold what only one owner may do at a time: begin a run, and publish it.

        The run's lock alone lets two owners overlap when the first was paused longer than LOCK_SECONDS.
        Inside, it is checked again: either the former owner published before the next began, or it stops
        here. A publish lock of another machine that its owner finds there for LOCK_SECONDS goes: that process
        has not refreshed its lock for longer, and checks it before each change. One of this machine is waited
        for.
        """
        file = self.folder.publish_lock
        mark = SoftFileLock(file, timeout=LOCK_SECONDS)
        try:
            with naming(file), contextlib.suppress(Timeout):
                mark.acquire(timeout=2 * UNSIGNED_SECONDS)
            if not mark.is_locked:
                drop_unsigned(file)
                mark.acquire()
        except Timeout:
            self.require()
            if not _from_elsewhere(file):
                raise Busy(f"{file}: another process begins or publishes this run") from None
            file.unlink(missing_ok=True)
            mark.acquire()
        try:
            self.require()
            yield
        finally:
            mark.release()

    def release(self) -> None:
        """Give the run back."""
        self.lease.release()


def _from_elsewhere(mark: Path) -> bool:
    """Tell whether a mark was set on another machine, whose processes cannot be asked whether they live."""
    try:
        host = mark.read_text().splitlines()[1]
    except (OSError, IndexError, UnicodeDecodeError):
        return False
    return not host.startswith(socket.gethostname())
