"""Sweeps of faults over the toy chain; one process that forks a child for each fault.

    python -m tests.faults.sweep syscalls|calls|full-disk|few-handles FOLDER [--points N] [--seed N]

prints a JSON object: what was injected, and a line for each point after which something was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from . import calls, syscalls, toy

ROOT = Path(__file__).parents[2]

T = TypeVar("T")

FAULTS = {
    "KILL": {"syscall": "signal=KILL", "killed": True},
    "ENOSPC": {"syscall": "error=ENOSPC", "killed": False},
    "EIO": {"syscall": "error=EIO", "killed": False},
    "ESTALE": {"syscall": "error=ESTALE", "killed": False},
    "EINTR": {"syscall": "error=EINTR", "killed": False},
}


@dataclass
class Found:
    """What a sweep came to. ``wrong`` holds a line for each point that broke a promise."""

    injections: int = 0
    """Points at which the fault struck."""
    ended: int = 0
    """Runs that the fault ended; the others went on without harm."""
    runs_lost: int = 0
    not_identical: int = 0
    messages_without_path_or_errno: int = 0
    half_published: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Judge:
    """Compares what is left after a fault, and after a resume, with an undisturbed computation."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.found = folder, Found()
        straight = folder / "straight"
        assert toy.in_child(toy.compute, straight, said=folder / "said") == 0, (folder / "said").read_text()
        self.wanted = toy.final_bytes(straight)

    def judge(self, where: str, results: Path, code: int, said: str, killed: bool) -> None:
        """Note what a fault at ``where`` left in ``results``, resume, and compare."""
        found = self.found
        found.injections += 1
        found.ended += code != 0
        if code != 0 and not killed:
            self._message(where, results, said)
        for folder in toy.folders(results):
            if folder.done.exists() and folder.corruption():
                found.half_published += 1
                found.wrong.append(f"{where}: published, but {folder.corruption()}")
        again = results.with_name(f"{results.name}.said")
        if toy.in_child(toy.compute_patiently, results, said=again):
            found.runs_lost += 1
            found.wrong.append(f"{where}: cannot be resumed: {again.read_text().splitlines()[-1]}")
        elif toy.final_bytes(results) != self.wanted:
            found.not_identical += 1
            found.wrong.append(f"{where}: other bytes after the resume")
        elif any(folder.failed.exists() for folder in toy.folders(results)):
            found.wrong.append(f"{where}: FAILED stands beside DONE")
        shutil.rmtree(results)

    def _message(self, where: str, results: Path, said: str) -> None:
        """A run that an error ended says path and errno in one line: in FAILED, or at least when it ends."""
        line = toy.failure(results)[1] or said.splitlines()[-1]
        named = "|".join(
            re.escape(str(place)) for place in (results, ROOT)
        )  # its own files may be what fails
        if not re.search(rf"\[Errno \d+\].*({named})", line) or "\n" in line:
            self.found.messages_without_path_or_errno += 1
            self.found.wrong.append(f"{where}: says only: {line}")


def sweep_syscalls(
    folder: Path, points: int, chance: random.Random, faults: tuple[str, ...] = ("KILL", "ENOSPC", "EIO")
) -> Found:
    """Let every writing system call of the chain (or ``points`` of them) meet each fault."""
    judge, said = Judge(folder), folder / "said"
    counted = folder / "counted"
    calls = syscalls.places(counted, toy.compute, counted)
    places = [(name, call, k) for call, k, writes in calls for name in faults if writes or name == "EIO"]
    for name, call, k in _some(places, points, chance):
        results, fault = folder / f"{name}-{call}-{k}", FAULTS[name]
        said.write_text("")
        code = syscalls.with_fault(str(fault["syscall"]), call, k, toy.compute, results, said=said)
        judge.judge(f"{name} at {call} {k}", results, code, said.read_text(), bool(fault["killed"]))
    return judge.found


def sweep_interruptions(folder: Path, points: int, chance: random.Random) -> Found:
    """Let system calls end as on a network file system: interrupted, or with a stale handle."""
    return sweep_syscalls(folder, points, chance, ("ESTALE", "EINTR"))


def sweep_calls(folder: Path, points: int, chance: random.Random) -> Found:
    """The portable twin: Python's own calls that write meet each fault."""
    judge, said = Judge(folder), folder / "said"
    total = calls.count(toy.compute, folder / "counted")
    places = [(name, k + 1) for k in range(total) for name in calls.FAULTS]
    for name, k in _some(places, points, chance):
        results = folder / f"{name}-{k}"
        said.write_text("")
        code = toy.in_child(calls.with_fault, calls.FAULTS[name], k, toy.compute, results, said=said)
        judge.judge(f"{name} at call {k}", results, code, said.read_text(), name == "KILL")
    return judge.found


def sweep_full_disk(folder: Path, points: int, chance: random.Random) -> Found:
    """Fill the (small) disk on which ``folder`` lies to ``points`` levels before the chain starts."""
    judge, said, filler = Judge(folder), folder / "said", folder / "filler"
    before = shutil.disk_usage(folder).free
    toy.in_child(toy.compute, folder / "measured")
    needed = before - shutil.disk_usage(folder).free
    shutil.rmtree(folder / "measured")
    for k in range(points):
        results, free = folder / f"{k}", needed * k // points
        said.write_text(" " * 8192)  # has its room before the disk is full
        with open(filler, "wb") as file:
            file.write(bytes(shutil.disk_usage(folder).free - free))
        code = toy.in_child(toy.compute, results, said=said)
        filler.unlink()
        judge.judge(f"{free} bytes free", results, code, said.read_text().rstrip(), killed=False)
    return judge.found


def sweep_few_handles(folder: Path, points: int, chance: random.Random) -> Found:
    """Let the chain open only a few file handles at once: 0 to ``points`` - 1."""
    judge, said = Judge(folder), folder / "said"
    for k in range(points):
        results = folder / f"{k}"
        said.write_text("")
        code = toy.in_child(_with_handles, k, results, said=said)
        judge.judge(f"{k} handles", results, code, said.read_text(), killed=False)
    return judge.found


def _with_handles(more: int, results: Path) -> None:
    """Compute the chain where only ``more`` handles can be opened."""
    handles = Path("/proc/self/fd")
    taken = {int(handle.name) for handle in list(handles.iterdir()) if handle.exists()}
    free = [number for number in range(len(taken) + more + 1) if number not in taken]
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[more], most))
    try:
        toy.compute(results)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))


def _some(places: list[T], points: int, chance: random.Random) -> list[T]:
    """Return all places in order, or ``points`` of them by chance."""
    if not points or points >= len(places):
        return places
    return [places[i] for i in sorted(chance.sample(range(len(places)), points))]


SWEEPS: dict[str, Callable[[Path, int, random.Random], Found]] = {
    "syscalls": sweep_syscalls,
    "interruptions": sweep_interruptions,
    "calls": sweep_calls,
    "full-disk": sweep_full_disk,
    "few-handles": sweep_few_handles,
}


def main() -> None:
    """Run a sweep and print what it found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sweep", choices=SWEEPS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with toy.settled():
        began = time.monotonic()
        found = SWEEPS[given.sweep](given.folder, given.points, random.Random(given.seed))
    found.seconds = round(time.monotonic() - began, 1)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
