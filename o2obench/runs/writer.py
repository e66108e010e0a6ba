"""The writer of a run: its logs, its checkpoints, its record, and its publication."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from ..agent import State
from ..errors import LostLock, RunFailed
from ..transitions import Array
from ..util.files import sweep, write_atomically
from . import checkpoint
from .folder import RunFolder
from .jsonl import JsonlLog, LogMark, valid_lines, with_checksum
from .lock import RunLock
from .spec import Run

TRUNCATED = ("evaluations", "episodes", "train")
"""The logs that are cut back to a checkpoint's marks; timings are not: what was lost cost time too."""


class RunWriter:
    """What a process that holds the lock of a run writes while it computes it."""

    def __init__(self, run: Run, folder: RunFolder, lock: RunLock) -> None:
        self.run, self.folder, self.lock = run, folder, lock
        self.alive, self.reason = True, ""
        self.shown_at, self.began_at = 0.0, time.monotonic()
        self.first: tuple[int, float] | None = None
        self.since = 0
        """The checkpoint that it began from."""
        self.record: dict[str, Any] = {}
        """What run.json holds; every checkpoint has a copy."""
        self.corruption: list[str] = []
        """What was found corrupted on the way to a usable state."""

    def begin(self, saved: State | None) -> None:
        """Go on from a checkpoint, or from nothing; belongs inside the publish lock.

        Forgets what came after it, truncates the logs, writes run.json.
        """
        folder = self.folder
        sweep(folder.path)
        folder.failed.unlink(missing_ok=True)
        self.since = saved["number"] if saved else 0
        checkpoint.drop_after(folder.checkpoint, self.since)
        marks = log_marks_in(saved) if saved else {}
        contents = {name: marks.get(name, LogMark()).truncated(self._file(name)) or b"" for name in TRUNCATED}
        timings = b"".join(line for line, _ in valid_lines(folder.timings))
        if folder.timings.exists() and folder.timings.stat().st_size > len(timings):
            self.record["corruption"].append("timings.jsonl was corrupted: what could be read was kept")
        self.write_record()
        self.evaluations, self.episodes, self.train = (
            JsonlLog(self._file(name), contents[name]) for name in TRUNCATED
        )
        self.timings = JsonlLog(folder.timings, timings)

    def write_record(self) -> None:
        """Write run.json."""
        write_atomically(self.folder.record, json.dumps(self.record, indent=1) + "\n")

    def note(self, key: str, facts: dict[str, str]) -> None:
        """Add what the training found to run.json, if it found anything."""
        if facts:
            self.record[key] = facts
            self.write_record()

    def log_marks(self) -> dict[str, Any]:
        """Return what a checkpoint has to know of the logs."""
        return {name: vars(getattr(self, name).mark()) for name in TRUNCATED}

    def write_evaluation(
        self, stage: str, env_steps: int, updates: int, returns: Array, seconds: dict[str, float]
    ) -> None:
        """Write one evaluation: raw returns per episode. What is not finite ends the run.

        ``seconds`` says where the process's time went since the last one, by kind of work.
        """
        if not self.alive:
            return
        clock = {"stage": stage, "env_steps": env_steps, "updates": updates}
        try:
            self.evaluations.append({**clock, "returns": [float(value) for value in returns]})
        except ValueError:
            self.diverge(f"an evaluation after {updates} updates and {env_steps} steps is not finite")
        now = time.monotonic()
        spent = {"seconds": round(now - self.began_at, 3), "parts": seconds}
        self.timings.append(with_checksum({**clock, **spent}))
        self.began_at = now

    def write_episode(
        self, stage: str, env_steps: int, env_return: float, length: int, terminated: bool
    ) -> None:
        """Write one finished training episode; ``env_return`` is raw."""
        played = {"return": env_return, "length": length, "terminated": terminated}
        self.episodes.append({"stage": stage, "env_steps": env_steps, **played})

    def write_metrics(self, stage: str, env_steps: int, updates: int, values: dict[str, float]) -> None:
        """Write what the agent logs of its learning. What is not finite ends the run."""
        if not self.alive:
            return
        clock = {"stage": stage, "env_steps": env_steps, "updates": updates}
        try:
            self.train.append({**clock, **values})
        except ValueError:
            bad = [name for name, value in values.items() if value - value != 0]
            self.diverge(f"{', '.join(bad)} after {updates} updates in stage {stage} is not finite")

    def diverge(self, reason: str) -> None:
        """End this seed's run; the others of its seed batch go on."""
        self.alive, self.reason = False, reason
        if self.lock.is_held():
            self.folder.fail(reason, diverged=True)

    def heartbeat(self, progress: dict[str, Any]) -> None:
        """Show progress about once a second, and notice when the run was taken over."""
        now = time.monotonic()
        if now - self.shown_at < 1.0 or not self.alive:
            return
        self.lock.require()
        self.shown_at = now
        work = progress["updates"] + progress["env_steps"]
        if self.first is None:
            self.first = (work, now)
        spent = now - self.first[1]
        rate = (work - self.first[0]) / spent if spent else 0.0
        shown = {**progress, "rate": round(rate, 3), "time": time.time()}
        write_atomically(self.folder.progress, json.dumps(shown), durable=False)

    def save(self, number: int, state: State) -> Path:
        """Write a checkpoint and return its folder; the logs reach the disk before it does.

        Who was taken over meanwhile leaves none behind: its successor may have published the run.
        """
        self.lock.require()
        for name in TRUNCATED:
            getattr(self, name).sync()
        whole = {**state, "logs": self.log_marks(), "record": self.record}
        try:
            written = checkpoint.save(self.folder.checkpoint, number, whole, self.lock.owner, self.since)
        except Exception:
            self.lock.require()
            raise
        if not self.lock.is_held():
            checkpoint.remove(written)
        self.lock.require()
        return written

    def agrees_with(self, state: State) -> bool:
        """Tell whether the logs still hold what a checkpoint knows of them; note those that do not."""
        lost = [
            name for name, mark in log_marks_in(state).items() if mark.truncated(self._file(name)) is None
        ]
        self.corruption = [
            *dict.fromkeys([*self.corruption, *(f"{name}.jsonl was corrupted" for name in lost)])
        ]
        return not lost

    def finish(self, number: int, state: State) -> None:
        """Write the last state, keep only that checkpoint, and write DONE.

        What DONE will vouch for is read once more: it must be what this process has written.
        """
        last = self.save(number, state)
        with self.lock.publish_lock():
            published = self.folder.done.exists()
            changed = [n for n in TRUNCATED if getattr(self, n).mark().truncated(self._file(n)) is None]
            if changed and not published:
                raise RunFailed(
                    f"{self._file(changed[0])} was changed by somebody else while the run wrote it"
                )
            if not published:
                checkpoint.keep_only(self.folder.checkpoint, last, self.lock.require)
                self.write_record()
            if published or not self.folder.finish(last.name, self.lock.require):
                raise LostLock(f"{self.folder.path}: another process has published this run")

    def fail(self, error: BaseException, diverged: bool) -> None:
        """Say in FAILED what stopped the run, where it is this process's and there is room to say it."""
        with contextlib.suppress(OSError):
            if self.alive and self.lock.is_held() and not self.folder.done.exists():
                self.folder.fail(f"{type(error).__name__}: {error}", diverged)

    def close(self) -> None:
        """Close the logs."""
        for name in (*TRUNCATED, "timings"):
            if hasattr(self, name):
                getattr(self, name).close()
        if self.lock.is_held():
            self.folder.progress.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        file: Path = getattr(self.folder, name)
        return file


def log_marks_in(state: State) -> dict[str, LogMark]:
    """Return what a checkpoint knows of the logs."""
    return {name: LogMark(**mark) for name, mark in state["logs"].items()}
