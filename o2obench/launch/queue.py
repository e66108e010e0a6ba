"""What SLURM's programs say of a suite's jobs; nobody waits for them in silence."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import UserError
from ..util.files import shown

PATIENCE = 60.0
SLOW, AGAIN = 5.0, 30.0
"""Seconds after which it is said what is being waited for, and until it is said again."""
HELD = re.compile(
    r"JobHeld|held|JobHoldMaxRequeue|DependencyNeverSatisfied|BadConstraints|Invalid(Account|QOS)"
    r"|Partition(Down|Inactive|TimeLimit|NodeLimit)|(Account|QOS)NotAllowed"
)
"""Reasons for which a job that waits will not start by itself."""


@dataclass(frozen=True)
class Job:
    """A job, or an array task, that waits or runs."""

    id: str
    name: str
    state: str
    reason: str
    comment: str


def queue() -> list[Job] | None:
    """Return this user's jobs; None where SLURM does not say. Raises UserError where it is not installed."""
    command = ["squeue", "--noheader", "--array", "--format", "%i|%j|%t|%r|%k", "--user", str(os.getuid())]
    try:
        with aloud("squeue"):
            process = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except OSError:
        raise UserError("squeue was not found; launch with SLURM where its commands are installed") from None
    except subprocess.TimeoutExpired:
        print("squeue does not answer; its jobs are taken to be at work", file=sys.stderr, flush=True)
        return None
    if process.returncode != 0:  # the controller is busy: nothing is known
        return None
    lines = (line.split("|", 4) for line in process.stdout.splitlines())
    return [Job(*fields) for fields in lines if len(fields) == 5]


def still(jobs: Sequence[str], found: Sequence[Job] | None) -> list[str]:
    """Return those of these jobs that wait or run, by SLURM's answer; all of them where there was none."""
    if found is None:
        return list(jobs)
    named = {job.id: job.name for job in found}
    return [job for job in jobs if named.get(job, "").startswith("o2obench-")]


def held(jobs: Sequence[str], found: Sequence[Job] | None) -> dict[str, list[str]]:
    """Return those of these jobs that will not start by themselves, by SLURM's reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for job in found or []:
        if job.id in jobs and job.state == "PD" and HELD.search(job.reason):
            by_reason[job.reason].append(job.id)
    return dict(by_reason)


def told(reason: str, jobs: Sequence[str]) -> str:
    """Say that SLURM holds jobs, and what helps."""
    whole = " ".join(sorted({job.split("_")[0] for job in jobs}))
    helps = f"`scontrol release {whole}` lets them go on" if "eld" in reason else "mend it, or ask the site"
    return f"SLURM holds {len(jobs)} array tasks ({shown(reason)}): {helps}; `scancel {whole}` ends them"


def site_limit() -> int:
    """Return how many tasks an array may have here."""
    with contextlib.suppress(OSError, subprocess.SubprocessError), aloud("scontrol"):
        command = ["scontrol", "show", "config"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if match := re.search(r"^MaxArraySize\s*=\s*(\d+)", process.stdout, re.MULTILINE):
            return max(1, int(match[1]))
    return 1000


@contextlib.contextmanager
def aloud(what: str) -> Iterator[None]:
    """Say what has not answered yet, after some seconds and then again and again."""
    over = threading.Event()

    def say() -> None:
        waited = SLOW
        while not over.wait(SLOW if waited == SLOW else AGAIN):
            print(f"{what} has not answered for {waited:.0f} s; waiting", file=sys.stderr, flush=True)
            waited += AGAIN

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
