"""`o2obench clean`: where the space of a results folder goes, and what of it may go."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLock, Timeout
from pydantic import ByteSize

from ..errors import UserError
from ..planning.plan import Plan, require_plans
from ..runs import checkpoint, inventory
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.inventory import REMOVED, Inventory, entries
from ..runs.lock import lock_on
from ..runs.owner import owner_of
from ..runs.verify import record_of
from ..util.files import TEMPORARY, is_file, is_folder, shown, temporary_name, write_atomically
from . import leftovers
from .leftovers import Leftover

USES = (
    "records",
    "JSONL logs",
    "logs",
    "checkpoints of finished runs",
    "checkpoints of unfinished runs",
    "unplanned runs",
    "leftovers",
)
COST = (
    "without its last checkpoint a finished run cannot be diagnosed, "
    "and no new fine-tuning run can start from it"
)

Chooser = Callable[[RunFolder], Iterable[Leftover]]
"""Names what of a run may go."""


@dataclass(frozen=True)
class Choice:
    """What `clean` may remove beside leftovers, and whether it only says so."""

    dry_run: bool = False
    checkpoints: bool = False
    unplanned: bool = False


@dataclass
class Cleaning:
    """Bytes by use, what was removed (or would be), and what was left although it might go."""

    use: Counter[str] = field(default_factory=Counter)
    removed: list[Leftover] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def lines(self, choice: Choice) -> Iterator[str]:
        """Yield what a terminal shows: the uses, what went or would go, what was left, the sum."""
        for use in USES:
            yield f"{_size(self.use[use]):>10}  {use}"
        verb = "would go" if choice.dry_run else "removed"
        for leftover in self.removed:
            yield f"{shown(leftover.path)}: {verb}: {_size(leftover.size)}, {shown(leftover.why)}"
        yield from self.left
        if any(leftover.path.parent.name == "checkpoint" for leftover in self.removed) and choice.checkpoints:
            yield COST
        freed = sum(leftover.size for leftover in self.removed)
        yield f"{len(self.removed)} {verb}, {freed:,} bytes ({_size(freed)})"


def clean(results: ResultsFolder, choice: Choice) -> Cleaning:
    """Remove what nobody needs from a results folder; with ``dry_run`` change nothing."""
    contents = inventory.take(results)
    plans = _plans(results, choice)
    planned = None if plans is None else {run.id for plan in plans for run in plan.runs}
    cleaning = Cleaning()
    parents = _wanted(results, contents.runs, plans or []) if choice.checkpoints else set()
    with ExitStack() as stack:
        if not choice.dry_run:
            stack.enter_context(inventory.alone(results))
        _clean_beside_runs(results, contents, choice, cleaning)
        for run_id in contents.runs:
            folder = results.run(run_id)
            unplanned = planned is not None and run_id not in planned
            _measure(folder, unplanned, cleaning)
            if unplanned and choice.unplanned:
                _clean_run(folder, _whole_run, choice, cleaning)
            else:
                keep = not choice.checkpoints or run_id in parents
                _clean_run(folder, leftovers.of_run if keep else _leftovers_and_last, choice, cleaning)
    cleaning.left += [f"{shown(path)}: not ours; left alone" for path in contents.foreign]
    return cleaning


def _plans(results: ResultsFolder, choice: Choice) -> list[Plan] | None:
    """Return the plans; None where one cannot be read and nothing depends on them."""
    try:
        plans = require_plans(results)
    except UserError as error:
        if choice.checkpoints or choice.unplanned:
            raise UserError(*(f"{problem} (nothing was removed)" for problem in error.problems)) from None
        return None
    if choice.unplanned and not plans:
        raise UserError(
            f"{shown(results)}: holds no plan, so every run would go; remove the folder if you mean that"
        )
    return plans


def _wanted(results: ResultsFolder, runs: list[str], plans: list[Plan]) -> set[str]:
    """Return the runs from which one starts that is not done: by a plan, or as its folder says."""
    finished = {run_id for run_id in runs if is_file(results.run(run_id).done)}
    parents = {run.parent for plan in plans for run in plan.runs if run.id not in finished and run.parent}
    for run_id in set(runs) - finished:
        with contextlib.suppress(KeyError, TypeError):
            parents.add(record_of(results.run(run_id))["run"]["parent"])
    return {str(parent) for parent in parents}


def _measure(folder: RunFolder, unplanned: bool, cleaning: Cleaning) -> None:
    """Add a run's bytes to their uses."""
    gone = {leftover.path for leftover in leftovers.of_run(folder)}
    state = "finished" if is_file(folder.done) else "unfinished"
    names = {"record": "records", "jsonl": "JSONL logs", "log": "logs", "temporary": "leftovers"}
    for entry in entries(folder.path):
        use = names.get(
            entry.kind, f"checkpoints of {state} runs" if entry.kind == "checkpoint" else "records"
        )
        if entry.kind != "foreign":
            cleaning.use["leftovers" if entry.path in gone else "unplanned runs" if unplanned else use] += (
                entry.size
            )


def _leftovers_and_last(folder: RunFolder) -> Iterator[Leftover]:
    """Yield a run's leftovers and, when it is done, its last checkpoint."""
    yield from leftovers.of_run(folder)
    last = folder.final_checkpoint() if is_file(folder.done) else None
    for entry in entries(folder.path):
        if entry.kind == "checkpoint" and entry.path == last:
            yield Leftover(last, entry.size, "the last checkpoint of a finished run")


def _whole_run(folder: RunFolder) -> list[Leftover]:
    size = sum(entry.size for entry in entries(folder.path))
    return [Leftover(folder.path, size, "a run that no plan names")]


def _clean_run(folder: RunFolder, choose: Chooser, choice: Choice, cleaning: Cleaning) -> None:
    """Remove what ``choose`` names from a run, unless somebody computes it."""
    doomed = list(choose(folder))
    if not doomed:
        return
    foreign = [entry.path for entry in entries(folder.path) if entry.kind == "foreign"]
    if doomed[0].path == folder.path and foreign:
        cleaning.left.append(f"{shown(folder.path)}: left, for {shown(foreign[0].name)} in it is not ours")
        return
    try:
        with _looked_at(folder) if choice.dry_run else _held(folder):
            # giving the lock back removes it
            still = {leftover.path for leftover in choose(folder)} | {folder.lock}
            for leftover in (leftover for leftover in doomed if leftover.path in still):
                if not choice.dry_run:
                    _remove(leftover.path, folder)
                cleaning.removed.append(leftover)
    except _HeldError as error:
        cleaning.left.append(f"{shown(folder.path)}: left, {error}")


class _HeldError(Exception):
    """Somebody else has the run."""


@contextmanager
def _looked_at(folder: RunFolder) -> Iterator[None]:
    """Raise _HeldError when somebody seems to compute the run; nothing is acquired."""
    owner = owner_of(folder.lock)
    if owner and owner.holds:
        raise _HeldError(f"it is computed by {owner}")
    yield


@contextmanager
def _held(folder: RunFolder) -> Iterator[None]:
    """Hold a run's lock; raise _HeldError when it cannot be had at once."""
    lock = lock_on(folder)
    try:
        if any(
            leftover.path == folder.lock and not owner_of(leftover.path)
            for leftover in leftovers.of_run(folder)
        ):
            folder.lock.unlink()  # without a record it names nobody, and nobody could ever supersede it
        lock.acquire()
    except (Timeout, LeaseSettingsMismatch):
        raise _HeldError(f"it is held by {owner_of(folder.lock) or 'another process'}") from None
    except OSError as error:
        raise _HeldError(f"its lock cannot be had: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def _remove(path: Path, folder: RunFolder) -> None:
    if path == folder.path:
        _remove_run(path)
    elif path == folder.publish_lock:
        _remove_publishing(path)
    elif is_folder(path):
        if path == folder.final_checkpoint():  # it goes on purpose
            removed = {"checkpoint": path.name, "why": COST}
            write_atomically(path.with_name(REMOVED), json.dumps(removed) + "\n")
        checkpoint.remove(path)
    elif path != folder.lock:
        path.unlink(missing_ok=True)


def _remove_publishing(path: Path) -> None:
    """Remove the mark of a publisher that died; leave it where the process is not known to be dead."""
    pid = SoftFileLock(path).pid
    if pid is None:
        path.unlink()
        return
    try:
        with SoftFileLock(path, timeout=0):
            pass
    except Timeout:
        why = f"its {path.name} is of process {pid}, not known to be gone; remove that file if it is"
        raise _HeldError(why) from None


def _remove_run(path: Path) -> None:
    """Remove a run: at once out of sight, then file by file what is ours."""
    aside = path if TEMPORARY.fullmatch(path.name) else temporary_name(path)
    if aside != path:
        path.rename(aside)
    for entry in list(entries(aside)):
        if entry.kind == "checkpoint":
            checkpoint.remove(entry.path)
        elif entry.kind != "foreign":
            entry.path.unlink(missing_ok=True)
    _remove_empty(aside / "checkpoint", aside, *list(aside.parents)[:3])


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _clean_beside_runs(
    results: ResultsFolder, contents: Inventory, choice: Choice, cleaning: Cleaning
) -> None:
    """Remove what killed commands left beside the runs."""
    for file in results.plan_files():
        cleaning.use["records"] += file.stat().st_size
    owner = owner_of(results.maintenance) if choice.dry_run else None
    for path in contents.temporary:
        if owner and owner.holds:
            cleaning.left.append(f"{shown(path)}: left, {owner} is at work here")
            continue
        size = sum(file.lstat().st_size for file in [path, *path.rglob("*")] if is_file(file))
        cleaning.use["leftovers"] += size
        cleaning.removed.append(Leftover(path, size, "left by a process that was killed"))
        if not choice.dry_run:
            _remove_beside_runs(path)


def _remove_beside_runs(path: Path) -> None:
    if path.name == inventory.MAINTENANCE:
        return  # this command's own by now
    if not is_folder(path):
        path.unlink(missing_ok=True)
    elif path.name.startswith(".doctor."):
        for file in path.glob("*probe-*"):
            file.unlink()
        _remove_empty(path)
    else:
        _remove_run(path)


def _size(count: int) -> str:
    """Return bytes as ``12 B``, ``3.4 MiB``."""
    return ByteSize(count).human_readable(separator=" ")
