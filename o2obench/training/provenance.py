"""What a result depends on besides its identity: versions, hardware, threads, the state of the code."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from ..util import timers

ENGINE = 1
"""How the same arithmetic is carried out; raised by a change of rounding alone.

Such a change keeps golden numbers within 1e-4 after ten updates; anything else raises a learner's version. It
is no part of a run's identity, a run goes on with the engine of its start only, and a report says where runs
of several are compared. Runs that do not say are of engine 1.
"""
COMPILE_FROM = 10_000
"""Updates from which a run is compiled: it costs up to half a minute once, seconds when cached."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's malloc.h."""
CODE = ("o2obench", "algorithms")
"""The folders of a checkout that decide what is computed; suites are in a run's identity."""
PACKAGES = ("o2obench", "numpy", "torch", "gymnasium", "mujoco")


def prepare(threads: int) -> None:
    """Set what has to be set before torch's first parallel operation; called before anything else here.

    Numbers too small for a normal float count as zero: the moments of units that never fire decay
    into that range, where a CPU computes up to eight times more slowly. And freed memory is kept:
    by default glibc hands the arrays of each product back to the system and asks for them anew, page
    by page, which can double the time of a rollout.
    """
    if "torch" in sys.modules:
        import torch

        with contextlib.suppress(OSError, AttributeError):  # not glibc
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
            mallopt(M_TRIM_THRESHOLD, 512 * 2**20)
        torch.set_flush_denormal(True)
        torch.set_num_threads(threads)


def compute(
    device: str,
    threads: int,
    matmul_precision: str | None = None,
    compiled: bool = False,
    evaluation: str = "here",
) -> dict[str, Any]:
    """Return all that can change the last bit of a result; a resume must find the same again.

    ``matmul_precision`` None: choose that of float32 products by a measurement. ``compiled`` is granted where
    a compiler works; where not, one line says so. ``evaluation`` is "here" or "apart".
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES[1:]:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "device": device,
        "threads": threads,
        "matmul_precision": matmul_precision or _fastest_precision(device),
        "compiled": compiled and _compiler_works(device),
        "engine": ENGINE,
        "evaluation": evaluation,
        "processor": _processor() if device == "cpu" else _gpu(device),
        "versions": versions,
    }


def apply(settings: dict[str, Any], profile: bool = False) -> None:
    """Make this process compute as ``settings`` says; torch is touched only where it is in use.

    With ``profile`` the stopwatch waits for a GPU before each reading.
    """
    if "torch" in sys.modules:
        import torch

        from ..kit import compile

        torch.set_num_threads(settings["threads"])
        torch.set_float32_matmul_precision(settings["matmul_precision"])
        compile.use_compiler(settings["compiled"])
        if profile and settings["device"] != "cpu":
            timers.settle_with(torch.cuda.synchronize)


def _compiler_works(device: str) -> bool:
    if "torch" not in sys.modules:
        return False
    from ..kit import compile

    reason = compile.why_no_compiler(device)
    if reason:
        print(f"updates run uncompiled, up to twice as slowly: {reason}", file=sys.stderr)
    return reason is None


def _fastest_precision(device: str) -> str:
    return _measured_precision() if "torch" in sys.modules and device == "cpu" else "highest"


@functools.cache
def _measured_precision() -> str:
    """Return ``medium`` where that is exact in float32 and clearly faster, else ``highest``.

    On AMD CPUs torch's default library (MKL) multiplies at half speed; ``medium`` selects oneDNN, which
    there keeps full float32 accuracy, but rounds to bfloat16 on Intel CPUs with AMX: hence the check. It is
    measured once in a process: beside other work two measurements may differ, and with them the last bits of
    two runs that should be equal.
    """
    import torch

    former = torch.get_float32_matmul_precision()
    numbers = torch.Generator().manual_seed(0)
    a, b = (torch.randn((256, 256), generator=numbers) for _ in range(2))
    exact = a.double() @ b.double()
    seconds, error = {}, 0.0
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        error = float(((a @ b).double() - exact).norm() / exact.norm())
        seconds[precision] = min(_seconds_of(lambda: a @ b) for _ in range(20))
    torch.set_float32_matmul_precision(former)
    return "medium" if error < 1e-6 and seconds["medium"] < 0.8 * seconds["highest"] else "highest"


def _seconds_of(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    for _ in range(5):
        work()
    return time.perf_counter() - began


def mismatch(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what differs between the machine of a run's start and this one, one phrase each."""
    flat_then, flat_now = ({"engine": 1, **s, **s["versions"]} for s in (then, now))
    return [
        f"{key} was {flat_then.get(key)}, is {flat_now.get(key)}"
        for key in sorted(flat_then.keys() | flat_now.keys())
        if key != "versions" and flat_then.get(key) != flat_now.get(key)
    ]


def code() -> dict[str, Any]:
    """Return the version of o2obench and, in a checkout, its commit and whether its code was changed."""
    record: dict[str, Any] = {"version": metadata.version("o2obench"), "commit": None, "dirty": None}
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        record["commit"] = _git(root, "rev-parse", "HEAD")
        changes = ("status", "--porcelain", "--untracked-files=no", "--", *CODE)
        record["dirty"] = bool(_git(root, *changes))
    return record


def _git(root: Path, *arguments: str) -> str | None:
    try:
        process = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


def _gpu(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or os.name
