"""One seed's place in a process: its folder, its journals, its lease, and whether it is still alive."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from filelock import SoftFileLease, Timeout

from . import checkpoint
from .agent import Array, State
from .env import Episode
from .errors import LostLease, RunFailed
from .files import read_json, write_atomically
from .journal import Journal, read_journal
from .run import Run, RunFolder

LEASE_SECONDS = 60.0


class Busy(Exception):
    """Another process computes this run."""


class Slot:
    """The harness's side of one run while it is computed."""

    def __init__(self, run: Run, results: Path) -> None:
        self.run, self.folder = run, RunFolder(results, run.id)
        self.parent = RunFolder(results, run.parent) if run.parent else None
        self.alive, self.reason = True, ""
        self.shown_at, self.began_at = 0.0, time.monotonic()
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.lease = SoftFileLease(self.folder.lease, lease_duration=LEASE_SECONDS, timeout=0)
        try:
            self.lease.acquire()
        except Timeout:
            raise Busy(self.folder.id) from None

    def open(self, lengths: dict[str, int] | None) -> None:
        """Open the journals, cut back to the lengths that a checkpoint knows."""
        lengths = lengths or {}
        folder = self.folder
        self.scores = Journal(folder.scores, lengths.get("scores", 0))
        self.episodes = Journal(folder.episodes, lengths.get("episodes", 0))
        self.train = Journal(folder.train, lengths.get("train", 0))
        self.timings = Journal(folder.timings, _whole_lines(folder.timings))  # what was lost cost time too

    def lengths(self) -> dict[str, int]:
        """Return the journals' lengths in bytes, which a checkpoint stores."""
        return {name: getattr(self, name).length for name in ("scores", "episodes", "train")}

    def evaluation(
        self, stage: str, env_steps: int, updates: int, returns: Array, seconds: dict[str, float]
    ) -> None:
        """Write one evaluation: raw returns per episode. What is not finite ends the run.

        ``seconds`` says where the process's time went since the last one, by kind of work.
        """
        if not self.alive:
            return
        clock = {"stage": stage, "env_steps": env_steps, "updates": updates}
        try:
            self.scores.append({**clock, "returns": [float(value) for value in returns]})
        except ValueError:
            self.diverge(f"an evaluation after {updates} updates and {env_steps} steps is not finite")
        now = time.monotonic()
        self.timings.append({**clock, "seconds": round(now - self.began_at, 3), "parts": seconds})
        self.began_at = now

    def episode(self, stage: str, env_steps: int, episode: Episode) -> None:
        """Write one finished training episode."""
        record = {"return": episode.env_return, "length": episode.length, "terminated": episode.terminated}
        self.episodes.append({"stage": stage, "env_steps": env_steps, **record})

    def metrics(self, stage: str, env_steps: int, updates: int, values: dict[str, float]) -> None:
        """Write what the agent says of its learning. What is not finite ends the run."""
        if not self.alive:
            return
        clock = {"stage": stage, "env_steps": env_steps, "updates": updates}
        try:
            self.train.append({**clock, **values})
        except ValueError:
            bad = [name for name, value in values.items() if value - value != 0]
            self.diverge(f"{', '.join(bad)} after {updates} updates in stage {stage} is not finite")

    def diverge(self, reason: str) -> None:
        """End this seed's run; the others of its pack go on."""
        self.alive, self.reason = False, reason
        self.folder.fail(reason, diverged=True)

    def breathe(self, progress: dict[str, Any]) -> None:
        """Show progress about once a second, and notice when the run was taken over."""
        now = time.monotonic()
        if now - self.shown_at < 1.0 or not self.alive:
            return
        self.own()
        self.shown_at = now
        write_atomically(self.folder.progress, json.dumps({**progress, "time": time.time()}), durable=False)

    def own(self) -> None:
        """Raise LostLease when another process has taken the run over."""
        if self.lease.compromise is not None:
            raise LostLease(f"{self.folder.id}: another process has taken this run over")

    def save(self, number: int, state: State) -> None:
        """Write a checkpoint; the journals reach the disk before it does."""
        self.own()
        for journal in (self.scores, self.episodes, self.train):
            journal.sync()
        checkpoint.save(self.folder.checkpoint, number, {**state, "lengths": self.lengths()})

    def finish(self, number: int, state: State) -> None:
        """Write the last state and publish the run."""
        self.save(number, state)
        self.publish(number)

    def publish(self, number: int) -> None:
        """Keep only the last checkpoint and write DONE."""
        for folder in self.folder.checkpoint.iterdir():
            if folder.name != f"{number:08d}":
                shutil.rmtree(folder)
        self.own()
        self.folder.finish()

    def check_start(self) -> None:
        """Assert that a tuning run starts exactly where its pretraining run ended.

        Row 0 must hold the returns of the parent's last row, where both were computed on equal machines.
        """
        if not (self.alive and self.parent):
            return
        mine, theirs = read_json(self.folder.record), read_json(self.parent.record)
        if not theirs:
            return
        ours, parents = (dict(record["compute"], compiled=None) for record in (mine, theirs))
        if ours != parents:  # (policies act uncompiled)
            return
        *_, end = read_journal(self.parent.scores)
        if next(read_journal(self.folder.scores))["returns"] != end["returns"]:
            raise RunFailed(
                "row 0 differs from the last row of the pretraining run: the policy was not taken over"
            )

    def route_of_parent(self, device: str) -> str | None:
        """Return the parent's matmul route on the same device: a measurement must not split a family."""
        theirs = read_json(self.parent.record) if self.parent else None
        if not theirs or theirs["compute"]["device"] != device:
            return None
        return str(theirs["compute"]["matmul"])

    def handover(self) -> State:
        """Return the state that the parent run left behind; raise RunFailed when there is none."""
        assert self.parent is not None
        found = checkpoint.load(self.parent.checkpoint) if self.parent.done.exists() else None
        if found is None:
            raise RunFailed(f"the pretraining run {self.parent.id} is not finished")
        agent: State = found[1]["agent"]
        return agent

    def close(self) -> None:
        """Give the run back."""
        for name in ("scores", "episodes", "train", "timings"):
            if hasattr(self, name):
                getattr(self, name).close()
        self.folder.progress.unlink(missing_ok=True)
        self.lease.release()


def _whole_lines(path: Path) -> int:
    try:
        return path.read_bytes().rfind(b"\n") + 1
    except FileNotFoundError:
        return 0
