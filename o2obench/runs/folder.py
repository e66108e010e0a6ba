"""A results folder and the folders of its runs: the one place that knows where things lie."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from ..util.files import read_json, sha256, write_atomically, write_once
from .owner import owner_of


class ResultsFolder:
    """Plans, runs and jobs.

    ::

        plans/SUITE.json      the plan of a suite
        jobs/                 launchers at work, and jobs of a scheduler
        policies/HASH.npz     users' own policies that runs start from
        DATASET/ALGORITHM/HASH/seed-N/     the folder of a run
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.plans = self.path / "plans"
        self.jobs = self.path / "jobs"
        self.policies = self.path / "policies"
        self.maintenance = self.path / ".maintenance"
        """The lock of the commands that change a results folder as a whole."""

    def __str__(self) -> str:
        return str(self.path)

    def run(self, run_id: str) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.path / run_id, run_id)

    def plan_file(self, suite: str) -> Path:
        """Return the file of a suite's plan."""
        return self.plans / f"{suite}.json"

    def plan_files(self) -> list[Path]:
        """Return the files of all plans; a link is none."""
        if self.plans.is_symlink() or not self.plans.is_dir():
            return []
        return sorted(f for f in self.plans.glob("*.json") if f.is_file() and not f.is_symlink())

    def policy_file(self, sha256: str) -> Path:
        """Return the file of a user's own policy."""
        return self.policies / f"{sha256}.npz"

    def job_file(self, name: str) -> Path:
        """Return the note of a launcher or of a scheduler's jobs."""
        return self.jobs / f"{name}.json"


class RunFolder:
    """The files of a run and what they say about it."""

    def __init__(self, path: Path, run_id: str) -> None:
        self.id = run_id
        self.path = path
        self.record = path / "run.json"
        self.evaluations = path / "evaluations.jsonl"
        self.episodes = path / "episodes.jsonl"
        self.train = path / "train.jsonl"
        self.timings = path / "timings.jsonl"
        self.log = path / "log.txt"
        self.progress = path / "progress.json"
        self.checkpoint = path / "checkpoint"
        self.diagnosis = path / "diagnosis.json"
        self.lock = path / "lock"
        self.publish_lock = path / "publish.lock"
        self.done = path / "DONE"
        self.failed = path / "FAILED"
        self.vouched = (self.record, self.evaluations, self.episodes, self.train, self.timings)

    def state(self) -> str:
        """Return done, failed, diverged, running, stale, interrupted or waiting.

        Stale: its owner died or shows no sign of life; the next launch takes it over.
        """
        if self.done.exists():
            return "done"
        if self.failed.exists():
            failure = read_json(self.failed)
            return "diverged" if isinstance(failure, dict) and failure.get("diverged") else "failed"
        if self.lock.exists():
            owner = owner_of(self.lock)
            return "running" if owner and owner.holds else "stale"
        return "interrupted" if self.record.exists() else "waiting"

    def failure(self) -> str:
        """Return the last line of what went wrong, or an empty string."""
        failure = read_json(self.failed)
        return str(failure.get("error", "")) if isinstance(failure, dict) else ""

    def finish(self, checkpoint: str = "", check: Callable[[], None] = lambda: None) -> bool:
        """Publish the run unless it is published; return whether this call did.

        DONE holds the SHA-256 of the files that it vouches for, and the name of the last checkpoint.
        ``check`` is called at the last instant, and raises where the run is somebody else's by now.
        """
        hashes = {file.name: sha256(file) for file in self.vouched if file.exists()}
        self.failed.unlink(missing_ok=True)
        check()
        return write_once(
            self.done, json.dumps({"sha256": hashes, "checkpoint": checkpoint}, indent=1) + "\n"
        )

    def is_changed(self, name: str) -> bool:
        """Tell whether a file is other than published; of one that DONE does not name nothing can be said."""
        try:
            hashes = json.loads(self.done.read_bytes())["sha256"]
            return name in hashes and hashes[name] != sha256(self.path / name)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return True

    def corruption(self) -> str:
        """Return what is wrong with the files of a finished run; empty: they are intact.

        Raises OSError when they cannot be read: a disk that is out of reach is no corruption.
        """
        try:
            hashes = json.loads(self.done.read_bytes())["sha256"]
            names = [file for file in self.vouched if file.name in hashes]
            needed = {self.record.name, self.evaluations.name, self.episodes.name}
            if not needed <= hashes.keys() or len(names) < len(hashes):
                raise ValueError
            changed = [file.name for file in names if hashes[file.name] != sha256(file)]
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return "DONE is corrupted"
        if changed:
            return f"{changed[0]} was changed after the run was finished"
        record = read_json(self.record, strict=True)
        return "" if record and record["run"]["id"] == self.id else "run.json belongs to another run"

    def final_checkpoint(self) -> Path | None:
        """Return the checkpoint that a finished run vouches for; None where there is none."""
        done = read_json(self.done, strict=True)
        named = str(done.get("checkpoint")) if isinstance(done, dict) else ""
        return self.checkpoint / named if re.fullmatch(r"[0-9]{8}(-[0-9a-f]+)?", named) else None

    def fail(self, error: str, diverged: bool = False) -> None:
        """Record why the run stopped; `o2obench retry` removes the record."""
        record = {"error": error, "diverged": diverged}
        write_atomically(self.failed, json.dumps(record, indent=1) + "\n")
