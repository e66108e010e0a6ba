"""D4RL's HDF5 layout to transitions, refused with the key's name when anything about it is wrong.

The layout: flat arrays ``observations, actions, rewards, terminals, timeouts, next_observations`` and
``infos/qpos, infos/qvel``. ``terminals`` are ends of the task, ``timeouts`` of the clock. Where
``next_observations`` is stored it is used. Where it is not, the next row's observation takes its
place, and the last row of each episode, whose true successor is unknown, is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..agent import Array, Transitions
from ..env import EnvSpec
from ..errors import BadInput

LARGEST = 64 * 2**30
BOUND_SLACK = 1e-4


def read_transitions(file: Path, env: EnvSpec) -> Transitions:
    """Return the checked transitions of a file, actions mapped to [-1, 1].

    Raises BadInput listing every problem as ``file:/key: what is wrong; what to do``.
    """
    import h5py

    if not file.is_file():
        raise BadInput(f"{file}: not found; give the path of an HDF5 file")
    try:
        with h5py.File(file, "r") as root:
            arrays = _read_arrays(file, root, env)
    except OSError as error:
        raise BadInput(f"{file}: not a whole HDF5 file ({error}); delete it and get it again") from None
    _check_values(file, arrays, env)
    return _transitions(file, arrays, env)


def _read_arrays(file: Path, root: Any, env: EnvSpec) -> dict[str, Array]:
    """Check keys, kinds, shapes and sizes before a single value is read, then read."""
    problems: list[str] = []
    wanted: dict[str, tuple[int, ...]] = {
        "observations": (env.obs_dim,),
        "actions": (env.act_dim,),
        "rewards": (),
        "terminals": (),
        "timeouts": (),
        "next_observations": (env.obs_dim,),
    }
    rows: int | None = None
    found: dict[str, Any] = {}
    for key, width in wanted.items():
        problem, node = _node(root, key)
        if problem:
            problems.append(f"{file}:/{key}: {problem}")
        if node is None:
            if key != "next_observations" and not problem:
                problems.append(f"{file}:/{key}: missing; the D4RL layout needs it")
            continue
        shape = node.shape[:-1] if not width and node.ndim == 2 and node.shape[1] == 1 else node.shape
        rows = shape[0] if rows is None and shape else rows
        if shape != (rows, *width):
            expected = f"({rows}, {width[0]})" if width else f"({rows},)"
            problems.append(f"{file}:/{key}: shape {node.shape}, expected {expected} for {env.id}")
        if node.dtype.kind not in ("b" if key in ("terminals", "timeouts") else "f") + "iu":
            problems.append(f"{file}:/{key}: type {node.dtype}, expected numbers")
        if node.nbytes > LARGEST or node.nbytes > 2000 * max(1, file.stat().st_size):
            problems.append(f"{file}:/{key}: declares {node.nbytes} bytes in a file of {file.stat().st_size}")
        found[key] = node
    if rows is not None and rows < 2:
        problems.append(f"{file}:/observations: {rows} rows; a data set needs at least 2")
    if problems:
        raise BadInput(*problems)
    return {key: np.asarray(node[()]).reshape(rows, *wanted[key]) for key, node in found.items()}


def _node(root: Any, key: str) -> tuple[str, Any]:
    import h5py

    link = root.get(key, getlink=True)
    if link is None:
        return "", None
    if not isinstance(link, h5py.HardLink):
        return "is a link to another place; links are refused", None
    node = root[key]
    if not isinstance(node, h5py.Dataset):
        return "is a group, expected an array", None
    if node.external or node.is_virtual:
        return "stores its values in another file; refused", None
    return "", node


def _check_values(file: Path, arrays: dict[str, Array], env: EnvSpec) -> None:
    problems = []
    for key, array in arrays.items():
        bad = np.argwhere(~np.isfinite(array)) if array.dtype.kind == "f" else np.zeros((0, 1), int)
        if len(bad):
            problems.append(f"{file}:/{key}{bad[0].tolist()}: not finite ({len(bad)} such values)")
    actions = arrays["actions"]
    outside = np.argwhere((actions < env.low - BOUND_SLACK) | (actions > env.high + BOUND_SLACK))
    if len(outside):
        value = actions[tuple(outside[0])]
        problems.append(
            f"{file}:/actions{outside[0].tolist()}: {value} is outside [{env.low}, {env.high}] of {env.id} "
            f"({len(outside)} such values)"
        )
    for key in ("terminals", "timeouts"):
        other = np.flatnonzero((arrays[key] != 0) & (arrays[key] != 1))
        if len(other):
            problems.append(f"{file}:/{key}[{other[0]}]: {arrays[key][other[0]]}, expected 0 or 1")
    if not problems and "next_observations" in arrays:
        ends = (arrays["terminals"] != 0) | (arrays["timeouts"] != 0)
        gap = np.abs(arrays["next_observations"][:-1] - arrays["observations"][1:]).max(axis=1)
        broken = np.flatnonzero(
            ~ends[:-1] & (gap > 1e-3 * (1 + np.abs(arrays["observations"][1:]).max(axis=1)))
        )
        if len(broken):
            problems.append(
                f"{file}:/next_observations[{broken[0]}]: differs from observations[{broken[0] + 1}] "
                f"although no episode ends there ({len(broken)} such rows); an episode's end is not marked"
            )
    if problems:
        raise BadInput(*problems)


def _transitions(file: Path, arrays: dict[str, Array], env: EnvSpec) -> Transitions:
    terminated = arrays["terminals"].astype(bool)
    truncated = arrays["timeouts"].astype(bool) & ~terminated
    truncated[-1] |= not terminated[-1]
    ends = terminated | truncated
    start = np.concatenate([[True], ends[:-1]])
    obs = arrays["observations"].astype(np.float32)
    stored = arrays.get("next_observations")
    next_obs = np.roll(obs, -1, axis=0) if stored is None else stored.astype(np.float32)
    data = Transitions(
        obs=obs,
        action=np.clip(env.to_unit(arrays["actions"]), -1.0, 1.0).astype(np.float32),
        reward=arrays["rewards"].astype(np.float32),
        next_obs=next_obs,
        terminated=terminated,
        truncated=truncated,
        episode_start=start,
    )
    if stored is not None:
        return data
    if ends.all():
        raise BadInput(f"{file}:/next_observations: missing, and every row ends an episode")
    return data[~ends]
