"""Faults at the border to the system: strace makes the k-th call of a kind fail, or kills its caller."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .toy import ended, start_child

WRITING = (
    *("openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2"),
    *("link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate"),
)
"""The calls by which a run changes its folder; openat also reads."""
PR_SET_PTRACER = 0x59616D61


def available() -> bool:
    """Tell whether strace is here and may watch our own children."""
    return shutil.which("strace") is not None and bool(places(Path("/dev/null"), _write_nothing))


def _write_nothing() -> None:
    with open(os.devnull, "wb", buffering=0) as file:
        file.write(b"1")


def places(below: Path, work: Callable[..., Any], *arguments: Any) -> list[tuple[str, int, bool]]:
    """Return the calls of ``work`` on paths below a folder: which, the how manieth, whether it writes."""
    lines, _ = _traced(["-y", "-e", f"trace={','.join(WRITING)}"], work, *arguments)
    seen, found = Counter[str](), []
    for line in lines:
        call = line.partition("(")[0]
        seen[call] += call in WRITING
        if call in WRITING and str(below) in line:
            reads = call == "openat" and "O_RDONLY" in line
            found.append((call, seen[call], not reads))
    return found


def with_fault(fault: str, call: str, k: int, work: Callable[..., Any], *arguments: Any, said: Path) -> int:
    """Run ``work`` in a child whose k-th ``call`` meets ``fault``; return its exit status."""
    inject = f"inject={call}:{fault}:when={k}"
    return _traced(["-e", f"trace={call}", "-e", inject], work, *arguments, said=said)[1]


def _traced(
    options: Sequence[str], work: Callable[..., Any], *arguments: Any, said: Path | None = None
) -> tuple[list[str], int]:
    """Run ``work`` in a child under strace; return the main thread's lines and the exit status."""
    child = start_child(_when_watched, work, *arguments, said=said)
    watcher = subprocess.run(
        ["strace", "-p", str(child), "-qq", "-s", "0", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    code = ended(child)
    return watcher.stderr.splitlines(), code


def _when_watched(work: Callable[..., Any], *arguments: Any) -> None:
    """Wait until strace watches this process, then do the work."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
    deadline = time.monotonic() + 10
    while _tracer() == 0:
        if time.monotonic() > deadline:
            raise TimeoutError("strace did not attach")
        time.sleep(0.002)
    work(*arguments)


def _tracer() -> int:
    found = re.search(r"TracerPid:\t(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0
