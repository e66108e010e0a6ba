"""A run: what is computed (its identity), and the folder that holds it.

The identity is a plain dict of all that decides the numbers: algorithm and versions, resolved
options, budgets, evaluation protocol, data, the parent's identity, seed. Not paths, times, devices
or the suite that asked. Its hash names the folder::

    results/<dataset>/<algorithm>/<hash without the seed>/seed-<n>/
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..util.files import read_json, sha256, write_atomically, write_once


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def folder_name(dataset: str) -> str:
    """Return a data set's name as a folder's: without ``:`` and ``/``, of ``file:PATH`` the file's name."""
    name = f"file-{Path(dataset).name}" if dataset.startswith("file:") else dataset
    return re.sub(r"[^A-Za-z0-9._()=-]+", "-", name)


@dataclass(frozen=True)
class Run:
    """One algorithm on one data set with one seed.

    ``spec`` is the identity without the seed; ``parent`` is the id of the pretraining run.
    """

    algorithm: str
    dataset: str
    seed: int
    spec: Mapping[str, Any]
    parent: str | None = None

    @functools.cached_property
    def group(self) -> str:
        """The hash shared by all seeds of this computation."""
        return digest(self.spec)

    @property
    def identity(self) -> str:
        """The full hash, seed included."""
        return digest([self.spec, self.seed])

    @functools.cached_property
    def id(self) -> str:
        """The folder's path below the results folder; also the run's name."""
        return f"{folder_name(self.dataset)}/{self.algorithm}/{self.group[:8]}/seed-{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Return the run as a JSON value; ``from_json`` reads it back."""
        return {
            "id": self.id,
            "algorithm": self.algorithm,
            "dataset": self.dataset,
            "seed": self.seed,
            "parent": self.parent,
            "spec": dict(self.spec),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Run:
        """Rebuild a run; raise ValueError when the id does not belong to the contents."""
        run = cls(value["algorithm"], value["dataset"], value["seed"], value["spec"], value["parent"])
        if run.id != value["id"]:
            raise ValueError(f"{value['id']}: the contents belong to {run.id}; the record was edited")
        return run


class RunFolder:
    """The files of a run and what they say about it."""

    def __init__(self, results: Path, run_id: str) -> None:
        self.id = run_id
        self.path = results / run_id
        self.record = self.path / "run.json"
        self.scores = self.path / "scores.jsonl"
        self.episodes = self.path / "episodes.jsonl"
        self.train = self.path / "train.jsonl"
        self.timings = self.path / "timings.jsonl"
        self.log = self.path / "log.txt"
        self.progress = self.path / "progress.json"
        self.checkpoint = self.path / "checkpoint"
        self.diagnosis = self.path / "diagnosis.json"
        self.lease = self.path / "lease"
        self.publishing = self.path / "publishing"
        self.done = self.path / "DONE"
        self.failed = self.path / "FAILED"
        self.vouched = (self.record, self.scores, self.episodes, self.train, self.timings)

    def state(self) -> str:
        """Return done, failed, diverged, running, stale, interrupted or waiting.

        Stale: its owner died or shows no sign of life; the next launch takes it over.
        """
        if self.done.exists():
            return "done"
        if self.failed.exists():
            failure = read_json(self.failed)
            return "diverged" if isinstance(failure, dict) and failure.get("diverged") else "failed"
        if self.lease.exists():
            return "running" if _alive(self.lease) else "stale"
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

    def damage(self) -> str:
        """Return what is wrong with the files of a finished run; empty: they are as they were published.

        Raises OSError when they cannot be read: a disk that is out of reach is no damage.
        """
        try:
            hashes = json.loads(self.done.read_bytes())["sha256"]
            names = [file for file in self.vouched if file.name in hashes]
            if not {"run.json", "scores.jsonl"} <= hashes.keys() or len(names) < len(hashes):
                raise ValueError
            changed = [file.name for file in names if hashes[file.name] != sha256(file)]
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return "DONE is damaged"
        if changed:
            return f"{changed[0]} was changed after the run was finished"
        record = read_json(self.record, strict=True)
        return "" if record and record["run"]["id"] == self.id else "run.json belongs to another run"

    def handover(self) -> Path | None:
        """Return the checkpoint that a finished run vouches for; None where there is none."""
        done = read_json(self.done, strict=True)
        named = done.get("checkpoint") if isinstance(done, dict) else None
        if named and re.fullmatch(r"[0-9]{8}(-[0-9a-f]+)?", str(named)):
            return self.checkpoint / str(named)
        found = sorted(self.checkpoint.glob("[0-9]*[0-9a-f]")) if done and not named else []
        return found[-1] if found else None

    def fail(self, error: str, diverged: bool = False) -> None:
        """Record why the run stopped; a later launch with ``--retry`` removes the record."""
        record = {"error": error, "diverged": diverged}
        write_atomically(self.failed, json.dumps(record, indent=1) + "\n")


def _alive(lease: Path) -> bool:
    """Tell whether a lease was refreshed lately and its owner, if on this machine, lives.

    A hint, for display: clocks of several machines differ. Who may take a run over is decided by filelock.
    """
    try:
        fresh = time.time() - os.stat(lease).st_mtime < 60
        fields = dict(line.partition("=")[::2] for line in lease.read_text().splitlines())
        if fresh and fields.get("host") == socket.gethostname():
            os.kill(int(fields["pid"]), 0)
        return fresh
    except PermissionError:  # somebody else's process lives
        return True
    except (OSError, ValueError, KeyError):
        return False
