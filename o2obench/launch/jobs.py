"""Who is at work on a results folder: launchers on machines, and jobs of a scheduler.

    results/jobs/<suite>.<host>.<process>.json    a launcher, as long as it runs
    results/jobs/<suite>.slurm.json               SLURM's jobs: which array task computes which runs

Nothing here says how a run stands; its own folder does.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..runs.folder import ResultsFolder
from ..util.files import is_folder, make_below, read_json, shown, write_atomically

JOB = re.compile(r"[0-9]+(_[0-9]+)?")
"""A job's id, and an array task's; nothing else may reach the scheduler's programs, which take options."""


@contextmanager
def announced(results: ResultsFolder, suite: str) -> Iterator[None]:
    """Note that this process launches a suite, for as long as it does."""
    note = results.job_file(f"{suite}.{socket.gethostname()}.{os.getpid()}")
    make_below(results.path, results.jobs)
    content = {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}
    write_atomically(note, json.dumps(content) + "\n", durable=False)
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def submitted(results: ResultsFolder, suite: str) -> dict[str, list[str]]:
    """Return the array tasks (or jobs) that were submitted for a suite, and the runs of each."""
    noted = read_json(_slurm_file(results, suite))
    jobs = noted.get("jobs") if isinstance(noted, dict) else None
    return {
        job: [run for run in runs if isinstance(run, str)]
        for job, runs in (jobs.items() if isinstance(jobs, dict) else ())
        if JOB.fullmatch(job) and isinstance(runs, list)
    }


def note_submitted(results: ResultsFolder, suite: str, jobs: Mapping[str, list[str]]) -> None:
    """Write down the array tasks of a suite, all of them."""
    file = _slurm_file(results, suite)
    make_below(results.path, results.jobs)
    write_atomically(file, json.dumps({"jobs": dict(jobs)}, indent=1) + "\n")


def cancel(results: ResultsFolder, suite: str) -> list[str]:
    """Ask a suite's launchers on this machine to save and end, cancel its SLURM jobs; say what was done."""
    if not is_folder(results.jobs):
        return []
    notes = sorted(results.jobs.glob(f"{glob.escape(suite)}.*.json"))
    lines = [_end_launcher(note, suite) for note in notes if note != _slurm_file(results, suite)]
    lines = [shown(line) for line in lines if line]
    jobs = submitted(results, suite)
    if jobs:
        whole = sorted({job.split("_")[0] for job in jobs})
        try:
            process = subprocess.run(["scancel", *whole], capture_output=True, text=True, timeout=120)
            lines.append(f"SLURM jobs {', '.join(whole)}: {shown(process.stderr.strip()) or 'cancelled'}")
        except OSError:
            lines.append(
                f"SLURM jobs {', '.join(whole)}: scancel was not found; run this where they were submitted"
            )
        except subprocess.TimeoutExpired:
            lines.append(f"SLURM jobs {', '.join(whole)}: scancel did not answer; run this again later")
        if lines[-1].endswith("cancelled"):
            _slurm_file(results, suite).unlink(missing_ok=True)
    return lines


def _end_launcher(note: Path, suite: str) -> str:
    """Send SIGTERM to a launcher that lives on this machine; return nothing of another suite's."""
    launcher = read_json(note)
    launcher = launcher if isinstance(launcher, dict) else {}
    host, pid = launcher.get("host"), launcher.get("pid")
    if not isinstance(pid, int) or pid < 2:
        return f"{note}: not the note of a launcher; left alone"
    if note.stem != f"{suite}.{host}.{pid}":
        return ""
    if host != socket.gethostname():
        return f"launcher {pid} on {host}: run this command there"
    if _began(pid) is None or _began(pid) != launcher.get("began"):
        note.unlink(missing_ok=True)
        return f"launcher {pid}: is gone already"
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return f"launcher {pid}: asked to save and end"


def _began(pid: int) -> str | None:
    """Return when a process began, in the kernel's ticks: a number used again is another process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def _slurm_file(results: ResultsFolder, suite: str) -> Path:
    return results.job_file(f"{suite}.slurm")
