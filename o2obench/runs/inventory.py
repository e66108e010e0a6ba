"""What lies in a results folder: its runs, the files of a run by kind, and what is not ours.

Recognising is by name and kind of entry alone. Links are never followed and count as foreign.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from ..errors import UserError
from ..util.files import TEMPORARY, is_folder, shown
from .checkpoint import PARTS, is_part
from .folder import NUMBERED, ResultsFolder
from .owner import LOCK_SECONDS
from .spec import LEVELS

RECORDS = ("run.json", "DONE", "FAILED", "progress.json", "diagnosis.json")
LOGS = ("evaluations.jsonl", "episodes.jsonl", "train.jsonl", "timings.jsonl")
KINDS = {**dict.fromkeys(RECORDS, "record"), **dict.fromkeys(LOGS, "jsonl"), "log.txt": "log"}
REMOVED = "REMOVED"
"""Stands in a checkpoint folder whose last checkpoint `clean --checkpoints` took away."""
MAINTENANCE = ".maintenance"
"""The lock of the commands that change a results folder as a whole."""
BESIDE = ("plans", "jobs", "policies", "README.md")
"""What else may lie in a results folder."""

MARKERS = ("lock", "publish.lock")
SET_ASIDE = r"\.(break|restore)\.\d+\.[0-9a-f]{32}"


@dataclass(frozen=True)
class Entry:
    """A file of a run, or one of its checkpoints' folders, by kind.

    Kinds: record, jsonl, log, checkpoint, marker, temporary, foreign.
    """

    path: Path
    kind: str
    size: int = 0


@dataclass
class Inventory:
    """The runs of a results folder by id, what commands that were killed left beside them, and the rest."""

    runs: list[str] = field(default_factory=list)
    temporary: list[Path] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)


def take(results: ResultsFolder) -> Inventory:
    """Return what a folder holds; raise UserError when it does not look like a results folder."""
    inventory = look(results)
    if not (inventory.runs or inventory.temporary or results.plan_files()):
        raise UserError(f"{shown(results)}: holds no run and no plan; name a results folder")
    return inventory


def look(results: ResultsFolder) -> Inventory:
    """Return what a folder holds, whatever it is."""
    inventory = Inventory()
    if results.path.is_dir():
        _descend(results.path, 0, "", inventory)
        _look_at_plans(results.plans, inventory)
    return inventory


def require_outside(results: ResultsFolder, out: Path) -> None:
    """Raise UserError where a folder to write to lies in the results folder."""
    if results.path.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"{shown(out)}: lies in the results folder; name one outside of it")


def entries(run: Path) -> Iterator[Entry]:
    """Yield all that a run's folder holds."""
    for entry in _scan(run):
        path = Path(entry.path)
        if entry.name == "checkpoint" and entry.is_dir(follow_symlinks=False):
            yield from _checkpoints(path)
        else:
            yield Entry(path, _kind(entry), _size(entry))


def _kind(entry: os.DirEntry[str]) -> str:
    if not entry.is_file(follow_symlinks=False):
        return "foreign"
    temporary = TEMPORARY.fullmatch(entry.name)
    if temporary and temporary["name"] in KINDS:
        return "temporary"
    if any(re.fullmatch(f"{marker}{SET_ASIDE}", entry.name) for marker in MARKERS):
        return "temporary"
    return "marker" if entry.name in MARKERS else KINDS.get(entry.name, "foreign")


def _checkpoints(folder: Path) -> Iterator[Entry]:
    """Yield the folders of checkpoints, and what lies in and beside them and is none of their parts."""
    for entry in _scan(folder):
        path = Path(entry.path)
        if NUMBERED.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            size = 0
            for part in _scan(path):
                plain = part.is_file(follow_symlinks=False)
                if plain and part.name in PARTS:
                    size += _size(part)
                elif plain and is_part(part.name):
                    yield Entry(Path(part.path), "temporary", _size(part))
                else:
                    yield Entry(Path(part.path), "foreign")
            yield Entry(path, "checkpoint", size)
        elif entry.name == REMOVED and entry.is_file(follow_symlinks=False):
            yield Entry(path, "record", _size(entry))
        else:
            yield Entry(path, "foreign")


def _descend(folder: Path, level: int, above: str, inventory: Inventory) -> None:
    """Collect the runs below a folder; ``level`` says which part of a run's id its entries are."""
    for entry in _scan(folder):
        path, temporary = Path(entry.path), TEMPORARY.fullmatch(entry.name)
        if level == 0 and (entry.name in BESIDE or _is_results(path)):
            continue
        if level == 0 and re.fullmatch(rf"\{MAINTENANCE}({SET_ASIDE})?", entry.name):
            inventory.temporary.append(path)
        elif temporary and entry.is_dir(follow_symlinks=False) and _is_ours(temporary["name"], level):
            if level > 0 or is_old(path):
                inventory.temporary.append(path)
        elif not entry.is_dir(follow_symlinks=False) or not re.fullmatch(LEVELS[level], entry.name):
            inventory.foreign.append(path)
        elif level == len(LEVELS) - 1:
            inventory.runs.append(above + entry.name)
        else:
            _descend(path, level + 1, f"{above}{entry.name}/", inventory)


def _is_results(path: Path) -> bool:
    """Tell whether a folder is a results folder of its own, as results/published is."""
    return is_folder(path) and bool(ResultsFolder(path).plan_files())


def _is_ours(name: str, level: int) -> bool:
    """Tell whether a temporary folder was made by `doctor` or `merge`."""
    return (level == 0 and name == "doctor") or (level == 3 and bool(re.fullmatch(LEVELS[3], name)))


def _look_at_plans(folder: Path, inventory: Inventory) -> None:
    """Collect what lies among the plans and is none."""
    if not is_folder(folder):
        inventory.foreign += [folder] if os.path.lexists(folder) else []
        return
    for entry in _scan(folder):
        plain, temporary = entry.is_file(follow_symlinks=False), TEMPORARY.fullmatch(entry.name)
        if plain and temporary and temporary["name"].endswith(".json"):
            inventory.temporary += [Path(entry.path)] if is_old(Path(entry.path)) else []
        elif not (plain and entry.name.endswith(".json")):
            inventory.foreign.append(Path(entry.path))


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """Return a folder's entries by name; those of a folder that vanished meanwhile are none."""
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    """Return a file's size; of one that vanished meanwhile, 0."""
    with contextlib.suppress(OSError):
        return entry.stat(follow_symlinks=False).st_size
    return 0


def is_old(path: Path) -> bool:
    """Tell whether a file has not changed for so long that whoever wrote it must be gone."""
    with contextlib.suppress(OSError):
        return time.time() - path.lstat().st_mtime > LOCK_SECONDS
    return False


@contextmanager
def alone(results: ResultsFolder) -> Iterator[None]:
    """Keep other commands that change a results folder as a whole away from it."""
    try:
        with SoftFileLease(results.maintenance, lease_duration=LOCK_SECONDS, timeout=0):
            yield
    except (Timeout, LeaseSettingsMismatch):
        raise UserError(
            f"{shown(results)}: another clean or merge is at work here; wait for its end"
        ) from None
