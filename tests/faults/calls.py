"""The portable twin of ``syscalls``: Python's functions that write fail at the k-th call, or kill."""

from __future__ import annotations

import builtins
import errno
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from safetensors import SafetensorError
from safetensors.numpy import save_file

FAULTS: dict[str, int | None] = {"KILL": None, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
"""None: the caller is killed."""
IN_OS = ("replace", "rename", "link", "fsync", "mkdir", "unlink", "rmdir")


def count(work: Callable[..., Any], *arguments: Any) -> int:
    """Return at how many places ``work`` can be hit."""
    with _counted(lambda k, *path: None) as calls:
        work(*arguments)
        return next(calls) - 1


def with_fault(fault: int | None, k: int, work: Callable[..., Any], *arguments: Any) -> None:
    """Do ``work``; its k-th writing call meets ``fault``."""

    def strike(number: int, *path: str) -> None:
        if number == k and fault is None:
            os.kill(os.getpid(), signal.SIGKILL)
        elif number == k and fault is not None:
            raise OSError(fault, os.strerror(fault), *path)

    with _counted(strike):
        work(*arguments)


@contextmanager
def _counted(strike: Callable[..., None]) -> Iterator[Iterator[int]]:
    """Call ``strike`` with a running number at every writing call, and after each file of arrays."""
    calls = itertools.count(1)

    def struck(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            strike(next(calls), *[str(path) for path in arguments[:1] if not isinstance(path, int)])
            return function(*arguments, **named)

        return call

    def opened(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        handle = open_(file, mode, *arguments, **named)
        return _Struck(handle, lambda: strike(next(calls))) if set(mode) & set("wax") else handle

    def saved(arrays: Any, path: Any) -> None:
        try:
            strike(next(calls))
            save_file(arrays, path)
            strike(next(calls))
        except OSError as error:  # as the library puts it
            raise SafetensorError(f"I/O error: (os error {error.errno})") from None

    open_ = builtins.open
    with ExitStack() as patches:
        for name in IN_OS:
            patches.enter_context(mock.patch.object(os, name, struck(getattr(os, name))))
        patches.enter_context(mock.patch.object(builtins, "open", opened))
        patches.enter_context(mock.patch("o2obench.runs.checkpoint.save_file", saved))
        yield calls


class _Struck:
    """A file whose every write is counted; of a write that is hit, the first half reaches the disk."""

    def __init__(self, file: Any, strike: Callable[[], None]) -> None:
        self._file, self._strike = file, strike

    def write(self, data: Any) -> int:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._strike()
        self._file.write(data[len(data) // 2 :])
        return len(data)

    def __enter__(self) -> _Struck:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
