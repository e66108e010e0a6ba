"""One seed's place in a process: its folder, its journals, its lease, and whether it is still alive."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, SoftFileLease, SoftFileLock, Timeout

from ..agent import Array, State
from ..envs.spec import Episode
from ..errors import LostLease, RunFailed
from ..util.files import naming, read_json, sweep, write_atomically
from . import checkpoint
from .folder import Run, RunFolder
from .jsonl import Journal, Mark, read_journal, sealed, sound

CUT = ("scores", "episodes", "train")
"""The journals that are cut back to a checkpoint's marks; timings are not: what was lost cost time too."""
LEASE_SECONDS = float(os.environ.get("O2OBENCH_LEASE_SECONDS", "60"))
"""After so many seconds without a sign of life another process may take a run over; equal for all that share
a results folder."""


UNSIGNED_SECONDS = 2.0
"""A lock that is still empty after so long was left by a maker that did not live to sign it."""


class RunLease(SoftFileLease):
    """A lease that is not held up for ever by an unsigned one."""

    def acquire(self, *arguments: Any, **named: Any) -> AcquireReturnProxy[Any]:
        """Acquire the lease."""
        drop_unsigned(Path(self.lock_file))
        return super().acquire(*arguments, **named)


def lease_on(folder: RunFolder) -> SoftFileLease:
    """Return the lease of a run, not yet acquired. Who cannot have it at once gets filelock's Timeout.

    An owner that died on this machine is superseded at once, any other after the same object has seen no sign
    of life for LEASE_SECONDS.
    """
    return RunLease(folder.lease, lease_duration=LEASE_SECONDS, timeout=0)


def drop_unsigned(lock: Path) -> None:
    """Remove an empty lock, whose maker was killed between making and signing it.

    filelock waits for its end for ever. Should its maker live after all, it finds out when it asks whether it
    owns the run. The file system's own clock tells the age.
    """
    with contextlib.suppress(OSError):
        if lock.stat().st_size == 0:
            with tempfile.NamedTemporaryFile(dir=lock.parent) as now:
                age = os.fstat(now.fileno()).st_ctime - lock.stat().st_ctime
            if age > UNSIGNED_SECONDS and lock.stat().st_size == 0:
                lock.unlink()


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
        self.record: dict[str, Any] = {}
        """What run.json says; every checkpoint holds a copy."""
        self.damage: list[str] = []
        """What was found damaged on the way to a usable state."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.lease = lease_on(self.folder)
        try:
            with naming(self.folder.lease):
                self.lease.acquire()
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
        mark = SoftFileLock(self.folder.publishing, timeout=LEASE_SECONDS)
        try:
            with naming(self.folder.publishing), contextlib.suppress(Timeout):
                mark.acquire(timeout=2 * UNSIGNED_SECONDS)
            if not mark.is_locked:
                drop_unsigned(self.folder.publishing)
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

    def begin(self, saved: State | None) -> None:
        """Go on from a checkpoint, or from nothing; belongs inside the fence.

        Forgets what came after it, cuts the journals, writes run.json.
        """
        folder = self.folder
        sweep(folder.path)
        folder.failed.unlink(missing_ok=True)
        self.since = saved["number"] if saved else 0
        checkpoint.drop_after(folder.checkpoint, self.since)
        marks = marks_in(saved) if saved else {}
        kept = {name: marks.get(name, Mark()).cut(self._file(name)) or b"" for name in CUT}
        timings = b"".join(line for line, _ in sound(folder.timings))
        if folder.timings.exists() and folder.timings.stat().st_size > len(timings):
            self.record["damage"].append("timings.jsonl was damaged: what could be read was kept")
        self.write_record()
        self.scores, self.episodes, self.train = (Journal(self._file(name), kept[name]) for name in CUT)
        self.timings = Journal(folder.timings, timings)

    def write_record(self) -> None:
        """Write run.json."""
        write_atomically(self.folder.record, json.dumps(self.record, indent=1) + "\n")

    def marks(self) -> dict[str, Any]:
        """Return what a checkpoint has to know of the journals."""
        return {name: vars(getattr(self, name).mark()) for name in CUT}

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
        self.timings.append(sealed({**clock, "seconds": round(now - self.began_at, 3), "parts": seconds}))
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

    def superseded(self) -> bool:
        """Tell whether the lease on the disk is certainly another's."""
        owner = self.lease.owner
        return owner is not None and owner.token != self.lease.token

    def own(self) -> None:
        """Raise LostLease when another process has taken the run over, or its folder is gone."""
        if not self.owns():
            with contextlib.suppress(FileNotFoundError):
                self.folder.lease.read_bytes()  # what cannot be read is not lost: its OSError says more
            gone = not self.folder.path.is_dir()
            why = "its folder is gone" if gone else "another process has taken this run over"
            raise LostLease(f"{self.folder.path}: {why}")

    def save(self, number: int, state: State) -> Path:
        """Write a checkpoint and return its folder; the journals reach the disk before it does.

        Who was taken over meanwhile leaves none behind: its successor may have published the run.
        """
        self.own()
        for name in CUT:
            getattr(self, name).sync()
        whole = {**state, "journals": self.marks(), "record": self.record}
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
        """Tell whether the journals still hold what a checkpoint knows of them; note those that do not."""
        lost = [name for name, mark in marks_in(state).items() if mark.cut(self._file(name)) is None]
        said = [f"{name}.jsonl was damaged" for name in lost]
        self.damage = [*dict.fromkeys([*self.damage, *said])]
        return not lost

    def finish(self, number: int, state: State) -> None:
        """Write the last state and publish the run."""
        self.publish(self.save(number, state))

    def publish(self, last: Path) -> None:
        """Keep only the last checkpoint, and write DONE.

        What DONE will vouch for is read once more: it must be what this process has written.
        """
        with self.fence():
            published = self.folder.done.exists()
            changed = [name for name in CUT if getattr(self, name).mark().cut(self._file(name)) is None]
            if changed and not published:
                raise RunFailed(
                    f"{self._file(changed[0])} was changed by somebody else while the run wrote it"
                )
            for folder in () if published else self.folder.checkpoint.iterdir():
                self.own()
                if folder != last:
                    shutil.rmtree(folder, ignore_errors=True)
            if not published:
                self.write_record()
            if published or not self.folder.finish(last.name, self.own):
                raise LostLease(f"{self.folder.path}: another process has published this run")

    def fail(self, error: BaseException, diverged: bool) -> None:
        """Say in FAILED what stopped the run, where it is this process's and there is room to say it."""
        with contextlib.suppress(OSError):
            if self.alive and self.owns() and not self.folder.done.exists():
                self.folder.fail(f"{type(error).__name__}: {error}", diverged)

    def _file(self, name: str) -> Path:
        file: Path = getattr(self.folder, name)
        return file

    def check_start(self) -> None:
        """Assert that a tuning run starts exactly where its pretraining run ended.

        Row 0 must hold the returns of the parent's last row, where both were computed on equal machines.
        """
        if not (self.alive and self.parent):
            return
        mine, theirs = self.record, read_json(self.parent.record, strict=True)
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
        theirs = read_json(self.parent.record, strict=True) if self.parent else None
        if not theirs or theirs["compute"]["device"] != device:
            return None
        return str(theirs["compute"]["matmul"])

    def handover(self) -> State:
        """Return the state that the parent run left behind; raise RunFailed when there is none."""
        assert self.parent is not None
        if not self.parent.done.exists():
            raise RunFailed(f"the pretraining run {self.parent.id} is not finished")
        damage = self.parent.damage()
        last = self.parent.handover()
        state = checkpoint.read(last) if last and not damage else None
        if state is None or not state.get("final"):
            raise RunFailed(
                f"the pretraining run {self.parent.path}: {damage or 'its state is missing or damaged'}; "
                "remove that folder, and the suite computes it again"
            )
        agent: State = state["agent"]
        return agent

    def close(self) -> None:
        """Give the run back."""
        try:
            for name in (*CUT, "timings"):
                if hasattr(self, name):
                    getattr(self, name).close()
            if self.owns():
                self.folder.progress.unlink(missing_ok=True)
        finally:
            self.lease.release()


def marks_in(state: State) -> dict[str, Mark]:
    """Return what a checkpoint knows of the journals; older versions noted their lengths only."""
    if "journals" in state:
        return {name: Mark(**mark) for name, mark in state["journals"].items()}
    return {name: Mark(length) for name, length in state["lengths"].items()}
