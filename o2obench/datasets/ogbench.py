"""OGBench's npz layout, read as the data of one of its single tasks (arXiv 2410.20092).

``observations, actions, terminals``, one row per observation, and what says where the task is solved:
``qpos`` and, where there are buttons, ``button_states``. ``terminals`` are the ends of trajectories; the last
row of each only supplies the observation after the row before it. Trajectories were recorded without the task
in mind. OGBench's own rule labels each row with its reward and whether the task is solved there, which ends
an episode (``envs.ogbench``); the trajectory goes on.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..envs.ogbench import labels_from, relabel
from ..envs.spec import EnvSpec
from ..errors import UserError
from ..transitions import Array
from ..util.files import folder_of_user
from .validation import Columns, Summary, as_flags, has_type, read_npz

FOLDER = "OGBENCH_DATASET_DIR"
SCHEME = "ogbench:"
NPZ = ".npz"
NAME = re.compile(r"(?P<task>[a-z0-9-]+)-(?P<kind>[a-z]+)-singletask(?P<number>(?:-task[1-5])?)-v0")
KINDS = {"observations": "floats", "actions": "actions", "terminals": "flags"}
"""The keys of every file, and what they hold."""


def root_folder() -> Path:
    """Return where OGBench keeps its data sets: $OGBENCH_DATASET_DIR, else ~/.ogbench/data."""
    return folder_of_user(FOLDER, ".ogbench", "data")


def place_of(name: str) -> tuple[str, Path]:
    """Return the environment's id and the file of ``ogbench:TASK-KIND-singletask-v0``, or ``-taskN`` of it.

    Raises UserError when it is not the name of a single-task set.
    """
    rest = name.removeprefix(SCHEME)
    match = NAME.fullmatch(rest)
    if match is None or len(rest) > 200:
        example = f"{SCHEME}pointmaze-medium-navigate-singletask-v0, or ...-singletask-task2-v0"
        raise UserError(f"dataset {name[:80]}: not one of OGBench's single-task sets; for example {example}")
    environment = f"{match['task']}-singletask{match['number']}-v0"
    return environment, root_folder() / f"{match['task']}-{match['kind']}-v0{NPZ}"


def local_names() -> list[str]:
    """Return the names of the files that are here, each with its default task."""
    files = sorted(root_folder().glob(f"*-v0{NPZ}"))
    return [f"{SCHEME}{file.stem.removesuffix('-v0')}-singletask-v0" for file in files]


def read_columns(file: Path, env: EnvSpec, findings: Summary) -> Columns:
    """Return the arrays of a file, labelled for the task of ``env``; raise UserError when it is none."""
    if not file.is_file():
        raise UserError(f"{file}: not found; give the path of an .npz file")
    labels = labels_from(env)
    arrays = read_npz(file, {*KINDS, *labels})
    _shapes(arrays, env, labels, findings)
    findings.settle()
    last = _last_rows(arrays["terminals"], findings)
    for key in labels:
        bad = np.flatnonzero(~np.isfinite(arrays[key]).all(axis=1))
        if len(bad):
            findings.add(f"{key}[{bad[0]}]", f"not a number or infinite ({len(bad):,} such rows)")
    rows = np.flatnonzero(~last)
    if len(rows) < 2:
        findings.add("observations", f"{len(rows)} rows have a next one; a data set needs at least 2")
    findings.settle()
    reward, success = relabel(env, {key: arrays[key][rows] for key in labels})
    findings.notes.append(
        f"{int(success.sum()):,} rows lie where the task is solved, which ends an episode; trajectories go on"
    )
    obs, truncated = arrays["observations"].astype(np.float32), last[rows + 1] & ~success
    action = arrays["actions"][rows].astype(np.float32)

    def place(column: str, row: int) -> str:
        if column == "next_observations":
            return f"observations[{rows[row] + 1}]"
        return f"{'qpos' if column == 'rewards' else column}[{rows[row]}]"

    columns = Columns(obs[rows], action, reward, obs[rows + 1], success, truncated, stored=False, place=place)
    columns.task_agnostic = True
    return columns


def _shapes(arrays: dict[str, Array], env: EnvSpec, labels: dict[str, int], findings: Summary) -> None:
    """Look at types and shapes."""
    widths = {"observations": env.obs_dim, "actions": env.act_dim, "terminals": 0, **labels}
    count = len(arrays["observations"]) if np.ndim(arrays.get("observations", 0)) else 0
    for key, width in widths.items():
        if key not in arrays and key in labels:
            why = "single-task rewards come from it"
            findings.add(key, f"missing: {why}; get OGBench's file, or save yours with what info holds")
        elif key not in arrays:
            findings.add(key, f"missing; OGBench's layout needs {', '.join(widths)}")
        elif has_type(arrays[key], key, findings, KINDS.get(key, "flags")):
            shape = arrays[key].shape
            if not shape or shape[1:] != ((width,) if width else ()):
                expected = f"rows of {width}" if width else "one number per row"
                findings.add(key, f"shape {shape}: expected {expected} for {env.id}; name their own task")
            elif shape[0] != count:
                findings.add(key, f"{shape[0]:,} rows, observations has {count:,}")


def _last_rows(terminals: Array, findings: Summary) -> Array:
    """Return which rows are the last of a trajectory (rows,); that of the file is, marked or not."""
    last = as_flags(terminals, "terminals", findings)
    findings.settle()
    twice = np.flatnonzero(last[1:] & last[:-1])
    if not last.any():
        findings.add(
            "terminals", f"is 0 in all {len(last):,} rows; set it in the last row of each trajectory"
        )
    elif len(twice):
        findings.add(
            f"terminals[{twice[0]}]",
            f"ends a trajectory, and so does the next row ({len(twice):,} such rows); set it in the last",
        )
    elif not last[-1]:
        findings.notes.append("the last trajectory is cut off; it counts as truncated")
    findings.settle()
    last[-1] = True
    return last
