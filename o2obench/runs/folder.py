"""A results folder and the folders of its runs: the one place that knows where things lie."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError
from ..util.files import (
    kind_of,
    make_below,
    read_json,
    read_plain,
    sha256,
    shown,
    write_atomically,
    write_once,
)
from .owner import owner_of

NUMBERED = re.compile(r"\d{8}(-[0-9a-f]+)?(?P<corrupt>\.corrupt)?", re.ASCII)
"""The names of checkpoints; those that were found corrupted are set aside."""


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
        """Return the file of a user's own policy; raise UserError where that is no hash."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise UserError(f"{self.policies}: {sha256!r} is no SHA-256 of a policy; start the suite again")
        return self.policies / f"{sha256}.npz"

    def job_file(self, name: str) -> Path:
        """Return the note of a launcher or of a scheduler's jobs."""
        return self.jobs / f"{name}.json"


FILES = {
    *("run.json", "evaluations.jsonl", "episodes.jsonl", "train.jsonl", "timings.jsonl", "log.txt"),
    *("progress.json", "diagnosis.json", "lock", "publish.lock", "DONE", "FAILED"),
}
"""The names of a run's files."""


class _Inside:
    """The path of a name inside a run's folder, made when it is asked for: plans have 100,000 runs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunFolder, owner: type[RunFolder]) -> Path:
        return folder.path / self.name


class RunFolder:
    """The files of a run and what they say about it."""

    record = _Inside("run.json")
    evaluations = _Inside("evaluations.jsonl")
    episodes = _Inside("episodes.jsonl")
    train = _Inside("train.jsonl")
    timings = _Inside("timings.jsonl")
    log = _Inside("log.txt")
    progress = _Inside("progress.json")
    checkpoint = _Inside("checkpoint")
    diagnosis = _Inside("diagnosis.json")
    lock = _Inside("lock")
    publish_lock = _Inside("publish.lock")
    done = _Inside("DONE")
    failed = _Inside("FAILED")

    def __init__(self, path: Path, run_id: str) -> None:
        self.id = run_id
        self.path = path

    @property
    def vouched(self) -> tuple[Path, ...]:
        """The files whose content DONE vouches for."""
        return (self.record, self.evaluations, self.episodes, self.train, self.timings)

    def obstacle(self) -> str:
        """Return what is not what it should be where this run's folders and files belong; empty: nothing.

        Nothing in a results folder is followed out of it: a link is neither read nor written through, and
        neither is a pipe or a device.
        """
        try:
            for folder in (*reversed(self.path.parents[:3]), self.path, self.checkpoint):
                mode = folder.lstat().st_mode
                if not stat.S_ISDIR(mode):
                    return f"{folder}: is {kind_of(mode)} where a folder belongs; move it away"
        except FileNotFoundError:
            pass  # what is missing is made
        except OSError as error:
            return str(error)
        try:
            with os.scandir(self.path) as listing:
                strange = [e for e in listing if e.name in FILES and not e.is_file(follow_symlinks=False)]
            if strange:
                kind = kind_of(strange[0].stat(follow_symlinks=False).st_mode)
                return f"{strange[0].path}: is {kind} where a file belongs; move it away"
        except FileNotFoundError:
            pass
        except OSError as error:
            return str(error)
        return ""

    def make(self) -> None:
        """Make the folder; raise UserError where something else stands in its way."""
        make_below(self.path.parents[3], self.path)
        if obstacle := self.obstacle():
            raise UserError(obstacle)

    def state(self) -> str:
        """Return done, failed, diverged, running, stale, interrupted or waiting.

        Stale: its owner died or shows no sign of life; the next launch takes it over. Failed: also where
        something else stands in the place of its folders and files.
        """
        if self.obstacle():
            return "failed"
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
        """Return what went wrong in a line fit for a terminal, or an empty string."""
        failure = self.obstacle() or read_json(self.failed)
        return shown(failure.get("error", "") if isinstance(failure, dict) else failure or "")

    def forget_failure(self) -> bool:
        """Remove the record of a failure; return False where something else stands in its way."""
        if self.obstacle():
            return False
        self.failed.unlink(missing_ok=True)
        return True

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
            hashes = json.loads(read_plain(self.done))["sha256"]
            return name in hashes and hashes[name] != sha256(self.path / name)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return True

    def corruption(self) -> str:
        """Return what is wrong with the files of a finished run; empty: they are intact.

        Raises OSError when they cannot be read: a disk that is out of reach is no corruption.
        """
        if obstacle := self.obstacle():
            return obstacle
        try:
            hashes = json.loads(read_plain(self.done))["sha256"]
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
        try:
            return "" if record["run"]["id"] == self.id else "run.json belongs to another run"
        except (KeyError, TypeError):
            return "run.json belongs to another run"

    def final_checkpoint(self) -> Path | None:
        """Return the checkpoint that a finished run vouches for; None where there is none."""
        done = read_json(self.done, strict=True)
        named = str(done.get("checkpoint")) if isinstance(done, dict) else ""
        match = NUMBERED.fullmatch(named)
        return self.checkpoint / named if match and not match["corrupt"] else None

    def fail(self, error: str, diverged: bool = False) -> None:
        """Record why the run stopped; `o2obench retry` removes the record."""
        record = {"error": error, "diverged": diverged}
        write_atomically(self.failed, json.dumps(record, indent=1) + "\n")
