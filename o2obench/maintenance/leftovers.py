"""What runs left behind that nobody needs any more: killed writers, lost checkpoints, stale marks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import SoftFileLock

from ..runs.folder import NUMBERED, RunFolder
from ..runs.inventory import Entry, entries, is_old
from ..runs.owner import owner_of
from ..runs.verify import record_of
from ..util.files import is_file


@dataclass(frozen=True)
class Leftover:
    """A file, or a checkpoint's folder, that may go, and why."""

    path: Path
    size: int
    why: str


def of_run(folder: RunFolder) -> Iterator[Leftover]:
    """Yield a run's leftovers; they may go only while nobody computes the run."""
    done = is_file(folder.done)
    last = folder.final_checkpoint() if done else None
    corruption = json.dumps(record_of(folder).get("corruption", []))
    for entry in entries(folder.path):
        why = _why(entry, done, last, corruption)
        if why:
            yield Leftover(entry.path, entry.size, why)


def _why(entry: Entry, done: bool, last: Path | None, corruption: str) -> str:
    name = entry.path.name
    if entry.kind == "temporary":
        return "a temporary file of a process that was killed"
    if name == "publish.lock":  # held for an instant; `owner_of` cannot read it, for it is another kind
        pid = SoftFileLock(entry.path).pid
        return f"an old mark of process {pid}, which was publishing" if is_old(entry.path) else ""
    if entry.kind == "marker":
        owner = owner_of(entry.path)
        if owner is None:
            return "a mark without a readable owner" if is_old(entry.path) else ""
        return "" if owner.holds else f"a stale mark of {owner}"
    if done and name in ("FAILED", "progress.json"):
        return "an earlier attempt's; the run is done"
    if entry.kind == "checkpoint":
        return _why_checkpoint(entry.path, done, last, corruption)
    return ""


def _why_checkpoint(target: Path, done: bool, last: Path | None, corruption: str) -> str:
    match = NUMBERED.fullmatch(target.name)
    if match and match["corrupt"]:
        return "a corrupted checkpoint; run.json names it" if target.name in corruption else ""
    if done:
        superseded = last is not None and last.is_dir() and target != last
        return "a checkpoint that the finished run does not need" if superseded else ""
    return "" if (target / "manifest.json").exists() else "a checkpoint whose writer was killed"
