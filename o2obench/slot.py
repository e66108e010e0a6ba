"""One seed's place in a process: its folder, its journals, its lease, and whether it is still alive."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import SoftFileLease, SoftFileLock, Timeout

from . import checkpoint
from .agent import Array, State
from .env import Episode
from .errors import LostLease, RunFailed
from .files import read_json, write_atomically
from .journal import Journal, read_journal
from .run import Run, RunFolder

LEASE_SECONDS = float(os.environ.get("O2OBENCH_LEASE_SECONDS", "60"))
"""After so many seconds without a sign of life another process may take a run over; equal for all that share
a results folder."""


def lease_on(folder: RunFolder) -> SoftFileLease:
    """Return the lease of a run, not yet acquired. Who cannot have it at once gets filelock's Timeout.

    An owner that died on this machine is superseded at once, any other after the same object has seen no sign
    of life for LEASE_SECONDS.
    """
    return SoftFileLease(folder.lease, lease_duration=LEASE_SECONDS, timeout=0)


UNWRITTEN_SECONDS = 2.0
"""So old is the empty marker of an owner that was killed before it wrote its name; one is written at once."""


def take(lease: SoftFileLease) -> None:
    """Acquire a lease, or raise filelock's Timeout."""
    remove_unwritten(Path(lease.lock_file))
    lease.acquire()


def remove_unwritten(marker: Path) -> None:
    """Remove a marker without a name, which filelock would respect for ever.

    Its age is that of a file made now, in the same folder: the clocks of machines differ. An owner that was
    only paused and loses its marker so stops like any other that was superseded.
    """
    with contextlib.suppress(FileNotFoundError):
        if marker.read_bytes():
            return
        made = marker.stat().st_mtime
        probe = marker.with_name(f".{marker.name}.{os.getpid()}.now.tmp")
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        if now - made > UNWRITTEN_SECONDS and not marker.read_bytes():
            marker.unlink()


def _from_elsewhere(mark: Path) -> bool:
    """Tell whether a mark was set on another machine, whose processes cannot be asked whether they live."""
    try:
        host = mark.read_text().splitlines()[1]
    except (OSError, IndexError, UnicodeDecodeError):
        return False
    return not host.startswith(socket.gethostname())


class Busy(Exception):
    """Another process computes this run."""


class Slot:
    """The harness's side of one run while it is computed."""

    def __init__(self, run: Run, results: Path) -> None:
        self.run, self.folder = run, RunFolder(results, run.id)
        self.parent = RunFolder(results, run.parent) if run.parent else None
        self.alive, self.reason = True, ""
        self.shown_at, self.began_at = 0.0, time.monotonic()
        self.first: tuple[int, float] | None = None
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.lease = lease_on(self.folder)
        try:
            take(self.lease)
        except Timeout:
            raise Busy(f"{self.folder.id}: another process computes this run") from None
        self.owner, self.since = (self.lease.token or "")[:8], 0

    @contextmanager
    def fence(self) -> Iterator[None]:
        """Hold what only one owner may do at a time: begin a run, and publish it.

        A lease alone lets two owners overlap when the first was paused longer than LEASE_SECONDS. Inside, the
        lease is checked again: either the former owner published before the next began, or it stops here.
        A mark of another machine that its owner finds there for LEASE_SECONDS goes: that process has not
        refreshed its lease for longer, and checks it before each change. One of this machine is waited for.
        """
        remove_unwritten(self.folder.publishing)
        mark = SoftFileLock(self.folder.publishing, timeout=LEASE_SECONDS)
        try:
            mark.acquire()
        except Timeout:
            self.own()
            if not _from_elsewhere(self.folder.publishing):
                raise Busy(
                    f"{self.folder.publishing}: another process begins or publishes this run"
                ) from None
            self.folder.publishing.unlink(missing_ok=True)
            mark.acquire()
        try:
            self.own()
            yield
        finally:
            mark.release()

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
        if self.owns():
            self.folder.fail(reason, diverged=True)

    def breathe(self, progress: dict[str, Any]) -> None:
        """Show progress about once a second, and notice when the run was taken over."""
        now = time.monotonic()
        if now - self.shown_at < 1.0 or not self.alive:
            return
        self.own()
        self.shown_at = now
        work = progress["updates"] + progress["env_steps"]
        if self.first is None:
            self.first = (work, now)
        spent = now - self.first[1]
        rate = (work - self.first[0]) / spent if spent else 0.0
        shown = {**progress, "rate": round(rate, 3), "time": time.time()}
        write_atomically(self.folder.progress, json.dumps(shown), durable=False)

    def owns(self) -> bool:
        """Tell whether the lease on the disk is this process's; the heartbeat would notice too late."""
        owner = self.lease.owner
        if owner is None:  # a contender that looks at a lease moves it aside for an instant
            time.sleep(0.1)
            owner = self.lease.owner
        return owner is not None and owner.token == self.lease.token

    def own(self) -> None:
        """Raise LostLease when another process has taken the run over, or its folder is gone."""
        if not self.owns():
            gone = not self.folder.path.is_dir()
            why = "its folder is gone" if gone else "another process has taken this run over"
            raise LostLease(f"{self.folder.path}: {why}")

    def save(self, number: int, state: State) -> Path:
        """Write a checkpoint and return its folder; the journals reach the disk before it does.

        Who was taken over meanwhile leaves none behind: its successor may have published the run.
        """
        self.own()
        for journal in (self.scores, self.episodes, self.train):
            journal.sync()
        whole = {**state, "lengths": self.lengths()}
        try:
            written = checkpoint.save(self.folder.checkpoint, number, whole, self.owner, self.since)
        except Exception:
            self.own()
            raise
        if not self.owns():
            shutil.rmtree(written, ignore_errors=True)
        self.own()
        return written

    def holds(self, state: State) -> bool:
        """Tell whether the journals still hold all that a checkpoint knows of them."""
        return all(
            length <= (file.stat().st_size if file.exists() else 0)
            for name, length in state["lengths"].items()
            for file in [getattr(self.folder, name)]
        )

    def finish(self, number: int, state: State) -> None:
        """Write the last state and publish the run."""
        self.publish(self.save(number, state))

    def publish(self, last: Path) -> None:
        """Keep only the last checkpoint, and write DONE."""
        with self.fence():
            published = self.folder.done.exists()
            for folder in () if published else self.folder.checkpoint.iterdir():
                self.own()
                if folder != last:
                    shutil.rmtree(folder, ignore_errors=True)
            if published or not self.folder.finish(last.name, self.own):
                raise LostLease(f"{self.folder.path}: another process has published this run")

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
        if not self.parent.done.exists():
            raise RunFailed(f"the pretraining run {self.parent.id} is not finished")
        last = self.parent.handover()
        state = checkpoint.read(last) if last else None
        if state is None:
            raise RunFailed(
                f"the last state of the pretraining run {self.parent.path} is missing or damaged; "
                "remove that folder, and the suite computes it again"
            )
        agent: State = state["agent"]
        return agent

    def close(self) -> None:
        """Give the run back."""
        for name in ("scores", "episodes", "train", "timings"):
            if hasattr(self, name):
                getattr(self, name).close()
        if self.owns():
            self.folder.progress.unlink(missing_ok=True)
        self.lease.release()


def _whole_lines(path: Path) -> int:
    try:
        return path.read_bytes().rfind(b"\n") + 1
    except FileNotFoundError:
        return 0
