"""Checkpoints: folders that are complete or do not count.

    checkpoint/<number>/state.safetensors    every array of the state
    checkpoint/<number>/manifest.json        every plain value, and the size and SHA-256 of the arrays

The manifest is written last; its rename is the commit. The newest two checkpoints are kept. Nothing
is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from .agent import Array, State
from .files import read_json, sync_folder, write_atomically

KEEP = 2
FORMAT = 1


def save(folder: Path, number: int, state: State) -> None:
    """Write ``state`` as checkpoint ``number`` and drop all but the newest two."""
    target = folder / f"{number:08d}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    arrays: dict[str, Array] = {}
    values = _take_out_arrays(state, "", arrays)
    write_arrays(target / "state.safetensors", arrays)
    write_manifest(target, values)
    for old in _numbered(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write the arrays and force them to the disk."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_manifest(target: Path, values: Any) -> None:
    """Commit the checkpoint: describe its arrays and store its plain values, in one atomic write."""
    file = target / "state.safetensors"
    manifest = {
        "format": FORMAT,
        "bytes": file.stat().st_size,
        "sha256": _sha256(file),
        "values": values,
    }
    write_atomically(target / "manifest.json", json.dumps(manifest))
    sync_folder(target.parent)


def load(folder: Path, limit: int | None = None) -> tuple[int, State] | None:
    """Return the newest whole checkpoint (number, state), or None when there is none.

    A damaged one is set aside as ``<number>.corrupt`` and the one before it is taken. ``limit`` skips
    checkpoints with a higher number.
    """
    for target in reversed(_numbered(folder)):
        if limit is not None and int(target.name) > limit:
            continue
        manifest = read_json(target / "manifest.json")
        if not (target / "manifest.json").exists():
            continue  # the writer was killed before the commit
        file = target / "state.safetensors"
        with contextlib.suppress(OSError, SafetensorError, KeyError, TypeError):
            if manifest["format"] == FORMAT and manifest["sha256"] == _sha256(file):
                return int(target.name), _put_back_arrays(manifest["values"], load_file(file))
        target.rename(target.with_name(f"{target.name}.corrupt"))
    return None


def manifest(folder: Path) -> dict[str, Any]:
    """Return the newest checkpoint's manifest, unchecked, without reading its arrays; {} if there is none."""
    found = (read_json(target / "manifest.json") for target in reversed(_numbered(folder)))
    return next((one for one in found if isinstance(one, dict)), {})


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
