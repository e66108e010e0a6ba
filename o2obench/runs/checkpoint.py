"""Checkpoints: folders that are complete or do not count.

    checkpoint/<number>-<owner>/state.safetensors    every array of the state
    checkpoint/<number>-<owner>/manifest.json        every plain value, and the size and SHA-256 of the arrays

The manifest is written last; its rename is the commit. An owner keeps its newest two and leaves alone what
other owners wrote since it began: a process that was paused, taken over and wakes up again cannot destroy
its successor's state. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..agent import State
from ..transitions import Array
from ..util.files import (
    TEMPORARY,
    NotPlain,
    is_file,
    is_folder,
    naming,
    read_json,
    read_plain,
    sha256,
    sync_folder,
    write_atomically,
)
from .folder import NUMBERED

KEEP = 2
FORMAT = 2
PARTS = ("manifest.json", "state.safetensors")
UNFINISHED = re.compile(r"\.tmp[A-Za-z0-9]{6}")
"""What safetensors writes to, before it renames it."""


def save(folder: Path, number: int, state: State, owner: str = "", since: int = 0) -> Path:
    """Write ``state`` as checkpoint ``number`` of ``owner`` and return its folder.

    Drops all but the newest two of the owner's own and of those up to ``since``, where it began.
    """
    target = folder / (f"{number:08d}-{owner}" if owner else f"{number:08d}")
    remove(target)
    with naming(target):
        target.mkdir(parents=True)
    arrays: dict[str, Array] = {}
    values = _take_out_arrays(state, "", arrays)
    write_arrays(target / "state.safetensors", arrays)
    write_manifest(target, values)
    mine = [path for path in numbered(folder) if path.name[9:] == owner or number_of(path) <= since]
    for old in mine[:-KEEP]:
        remove(old)
    return target


def is_part(name: str) -> bool:
    """Tell whether a file of this name in a checkpoint's folder was written by this code."""
    temporary = TEMPORARY.fullmatch(name)
    return (temporary["name"] if temporary else name) in PARTS or bool(UNFINISHED.fullmatch(name))


def remove(target: Path) -> None:
    """Remove a checkpoint's parts, its manifest first, and its folder where nothing else is in it.

    What is neither is left, and a link is not followed.
    """
    if not is_folder(target):
        return
    with contextlib.suppress(OSError):
        for part in sorted(target.iterdir(), key=lambda part: part.name != PARTS[0]):
            if is_file(part) and is_part(part.name):
                part.unlink()
        target.rmdir()


def keep_only(folder: Path, last: Path, check: Callable[[], None]) -> None:
    """Remove all checkpoints but ``last``, those that were set aside too; ``check`` is called before each."""
    for target in folder.iterdir():
        check()
        if target != last and NUMBERED.fullmatch(target.name):
            remove(target)


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write the arrays and force them to the disk."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with naming(path, sum(array.nbytes for array in whole.values())):
        with _system_errors():
            save_file(whole, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """Turn back into OSError what safetensors puts into words: ``... (os error 28)``.

    Whatever keeps it from opening a file it calls absent, without a number; ours was there a moment ago.
    """
    try:
        yield
    except FileNotFoundError as error:
        if error.errno is not None:
            raise
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def write_manifest(target: Path, values: Any) -> None:
    """Commit the checkpoint: describe its arrays and store its plain values, in one atomic write."""
    file = target / "state.safetensors"
    manifest = {
        "format": FORMAT,
        "bytes": file.stat().st_size,
        "sha256": sha256(file, most=None),
        "values_sha256": _digest(values),
        "values": values,
    }
    write_atomically(target / "manifest.json", json.dumps(manifest))
    sync_folder(target.parent)


def load(
    folder: Path, limit: int | None = None, usable: Callable[[State], bool] = lambda state: True
) -> tuple[int, State] | None:
    """Return the newest whole and usable checkpoint (number, state), or None when there is none.

    A corrupted one is set aside as ``<name>.corrupt`` and the one before it is taken. ``limit`` skips
    checkpoints with a higher number.
    """
    for target in reversed(numbered(folder)):
        if limit is not None and number_of(target) > limit:
            continue
        if not (target / "manifest.json").exists():
            continue  # the writer was killed before the commit
        state = read(target)
        if state is None:
            with contextlib.suppress(OSError):
                target.rename(target.with_name(f"{target.name}.corrupt"))
        elif usable(state):
            return number_of(target), state
    return None


def read(target: Path) -> State | None:
    """Return the state in a checkpoint's folder, or None when its bytes are not those that were written.

    Raises OSError when they cannot be read at all: a disk that is out of reach is no corruption.
    """
    broken = (FileNotFoundError, NotPlain, SafetensorError, KeyError, TypeError, ValueError, RecursionError)
    with contextlib.suppress(*broken), naming(target), _system_errors():
        record, file = _load_manifest(target), target / "state.safetensors"
        if not _fault_in(record, file):
            state: State = _put_back_arrays(record["values"], load_file(file))
            return state
    return None


def fault(target: Path) -> str:
    """Return what is wrong with a checkpoint's folder, or an empty string; its arrays are only hashed."""
    try:
        return _fault_in(_load_manifest(target), target / "state.safetensors")
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        return "manifest.json or state.safetensors is missing or unreadable"


def _load_manifest(target: Path) -> Any:
    return json.loads(read_plain(target / "manifest.json"))


def _fault_in(manifest: Any, file: Path) -> str:
    """Compare a checkpoint's parts with the hashes in its manifest."""
    if (manifest["format"], manifest["values_sha256"]) != (FORMAT, _digest(manifest["values"])):
        return "manifest.json is not what was written"
    if manifest["bytes"] != file.lstat().st_size or manifest["sha256"] != sha256(file, most=None):
        return "state.safetensors is not what was written"
    return ""


def manifest(target: Path | None) -> dict[str, Any]:
    """Return the manifest in a checkpoint's folder, unchecked; {} if there is none."""
    record = read_json(target / "manifest.json") if target else None
    return record if isinstance(record, dict) else {}


def progress(folder: Path) -> dict[str, Any]:
    """Return how far a run was at its newest checkpoint that says so, unchecked; {} where there is none."""
    values = (manifest(target).get("values") for target in reversed(numbered(folder)))
    known = (value["progress"] for value in values if isinstance(value, dict) and "progress" in value)
    found = next(known, None)
    return found if isinstance(found, dict) else {}


def drop_after(folder: Path, number: int) -> None:
    """Remove checkpoints beyond ``number``: unfinished ones, and those that a resume could not use."""
    for target in numbered(folder):
        if number_of(target) > number:
            remove(target)


def corrupted(folder: Path) -> list[str]:
    """Return the names of checkpoints that were set aside because they were corrupted."""
    return sorted(path.name for path in folder.glob("*.corrupt"))


def numbered(folder: Path) -> list[Path]:
    """Return the checkpoints' folders, the oldest first, committed or not."""
    if not folder.is_dir():
        return []
    matches = {path: NUMBERED.fullmatch(path.name) for path in folder.iterdir()}
    return sorted(
        path for path, match in matches.items() if match and not match["corrupt"] and is_folder(path)
    )


def number_of(target: Path) -> int:
    """Return the number of a checkpoint's folder."""
    return int(target.name[:8])


def _digest(values: Any) -> str:
    """Return the SHA-256 of plain values, equal before and after they were written as JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _take_out_arrays(value: Any, place: str, arrays: dict[str, Array]) -> Any:
    """Return ``value`` with each array replaced by a reference, the arrays collected by place."""
    if isinstance(value, dict):
        return {key: _take_out_arrays(item, f"{place}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        arrays[place] = value
        return {"$array": place}
    if isinstance(value, (list, tuple)):
        return [_take_out_arrays(item, f"{place}/{i}", arrays) for i, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{place}: {type(value).__name__} cannot stand in a state; use arrays and JSON values")


def _put_back_arrays(value: Any, arrays: dict[str, Array]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$array"}:
            return arrays[value["$array"]]
        return {key: _put_back_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_back_arrays(item, arrays) for item in value]
    return value
