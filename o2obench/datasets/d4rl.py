"""D4RL's HDF5 layout: flat arrays, one row per step.

``observations, actions, rewards, terminals, timeouts``: ``terminals`` are ends of the task, ``timeouts``
of the clock; a row that is both counts as an end of the task. The observation after a step is, in this
order: ``next_observations`` where stored (D4RL's v2 files); the next row's observation and, after an
episode's last row, ``final_observations`` (one row per episode, as this project writes it); without either
the last row of each episode, whose true successor is unknown, is left out (D4RL's own reader leaves out
timeouts and takes the next episode's start for a terminal's successor). Where nothing can roll out a model,
for want of a rule of termination, rows that are terminal stay: nothing is learnt from their successor, and in
mazes they hold all rewards.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.spec import EnvSpec
from ..transitions import Array
from ..util.files import sync_folder
from .validation import RATIO, Columns, Summary, array, flags, floats, open_hdf5

KEYS = (
    "observations",
    "actions",
    "rewards",
    "terminals",
    "timeouts",
    "next_observations",
    "final_observations",
)
NEEDED = KEYS[:5]
RENAMED = {"terminations": "terminals", "truncations": "timeouts"}
"""What Gymnasium and Minari call D4RL's flags."""


def read_columns(file: Path, env: EnvSpec, findings: Summary) -> Columns:
    """Return the arrays of a file; raise UserError when its headers are not those of the layout."""
    with open_hdf5(file) as root:
        nodes = _headers(root, env, findings)
        rows = nodes["observations"].shape[0]
        arrays = {
            key: np.empty(node.shape, np.float32) for key, node in nodes.items() if key not in NEEDED[3:]
        }
        for key, out in arrays.items():
            floats(nodes[key], out, key, findings)
        ends = {key: flags(nodes[key], rows, key, findings) for key in NEEDED[3:]}
    findings.settle()
    keep = env.terminal is None
    return _columns(arrays, ends["terminals"], ends["timeouts"], keep, findings)


def _headers(root: Any, env: EnvSpec, findings: Summary) -> dict[str, Any]:
    """Return the nodes of all keys, looked at but not read."""
    nodes = dict[str, Any]()
    for key in KEYS:
        kinds = {"terminals": "flags", "timeouts": "flags", "actions": "actions"}.get(key, "floats")
        before = len(findings.problems)
        node = array(root, key, findings, kinds)
        if node is not None:
            nodes[key] = node
        elif key in NEEDED and len(findings.problems) == before:
            findings.add(key, _missing(key, list(root)[:20]))
            if "episode_0" in root or not set(root) & set(KEYS):
                findings.settle()
            if set(RENAMED) & set(root):
                findings.settle()
    findings.settle()
    if all(node.ndim > 1 and node.shape[0] == 1 for node in nodes.values()):
        shape = nodes["observations"].shape
        findings.add("", f"every array has one more axis in front (observations: {shape}); write array[0]")
        findings.settle()
    rows = nodes["observations"].shape[0] if nodes["observations"].ndim else 0
    for key, node in nodes.items():
        _shape(key, node, rows, env, findings)
        if key == "observations":
            findings.settle()  # of another task: what other keys lack says no more
    total = sum(node.nbytes for node in nodes.values())
    if total > RATIO * root.id.get_filesize():
        findings.add("", f"declares {total:,} bytes in a file of {root.id.get_filesize():,}")
    if rows < 2:
        findings.add("observations", f"{rows} rows; a data set needs at least 2")
    _card(root, env, findings)
    findings.settle()
    return nodes


def _missing(key: str, present: list[str]) -> str:
    if "episode_0" in present:
        return "missing: this is Minari's layout; name the data set minari:ID"
    if not set(present) & set(KEYS):
        return f"missing, as is every key of D4RL's layout; found {', '.join(present) or 'nothing'}"
    named = [f"{other} to {own}" for other, own in RENAMED.items() if other in present]
    if named:
        return f"missing; rename {' and '.join(named)}"
    add = (
        "true in the last row of each episode that the clock ended" if key == "timeouts" else "one row a step"
    )
    return f"missing; D4RL's layout needs {', '.join(NEEDED)}; add {key}: {add}"


def _shape(key: str, node: Any, rows: int, env: EnvSpec, findings: Summary) -> None:
    width = {"actions": env.act_dim}.get(key, env.obs_dim if "observations" in key else 0)
    shape = node.shape
    if node.ndim > 2:
        findings.add(key, f"shape {shape}: images are not supported, only vectors")
    elif not width and node.ndim == 2 and shape[1] != 1:
        findings.add(key, f"shape {shape}: expected one number per row")
    elif width and (node.ndim != 2 or shape[1] != width):
        findings.add(key, f"shape {shape}: expected rows of {width} for {env.id}; name their own task")
    elif key != "final_observations" and node.shape[:1] != (rows,):
        findings.add(key, f"{shape[0] if shape else 0:,} rows, observations has {rows:,}")


def _card(root: Any, env: EnvSpec, findings: Summary) -> None:
    """Hold the environment named by the file's own card, where it has one, against ``env``."""
    text = root.attrs.get("card")
    if text is None:
        return
    try:
        card = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        findings.add("", "its attribute `card` is not JSON; remove it or mend it")
        return
    env_id = card.get("environment") if isinstance(card, dict) else None
    if isinstance(env_id, str) and env_id != env.id:
        findings.add("", f"was made in {env_id}, this is {env.id}")


def _columns(
    arrays: dict[str, Array], terminals: Array, timeouts: Array, keep: bool, findings: Summary
) -> Columns:
    """Return the columns; ``keep``: rows that are terminal stay where their successor is unknown."""
    both = int((terminals & timeouts).sum())
    if both:
        findings.notes.append(f"{both:,} rows are terminal and timeout; they count as terminal")
    truncated = timeouts & ~terminals
    if not (terminals[-1] or truncated[-1]):
        truncated[-1] = True
        findings.notes.append("the last episode is cut off; it counts as truncated")
    obs, ends = arrays["observations"], terminals | truncated
    next_obs, has_next = arrays.get("next_observations"), None
    if next_obs is None:
        next_obs, final = np.empty_like(obs), arrays.get("final_observations")
        next_obs[:-1], next_obs[-1] = obs[1:], obs[-1]
        if final is None:
            has_next = ~truncated if keep else ~ends
            left_out = int((~has_next).sum())
            findings.notes.append(f"the last rows of {left_out:,} episodes have no successor, left out")
            if keep:
                next_obs[terminals] = obs[terminals]
                findings.notes.append(
                    f"{int(terminals.sum()):,} terminal rows have no successor, their own observation stands "
                    "for it"
                )
        elif len(final) != ends.sum():
            findings.add("final_observations", f"{len(final):,} rows for {int(ends.sum()):,} episodes")
            findings.settle()
        else:
            next_obs[ends] = final
    columns = Columns(
        *(obs, arrays["actions"], arrays["rewards"].reshape(-1), next_obs, terminals, truncated, has_next)
    )
    if "next_observations" not in arrays:

        def place(column: str, row: int) -> str:
            if column != "next_observations":
                return f"{column}[{row}]"
            return f"final_observations[{ends[:row].sum()}]" if ends[row] else f"observations[{row + 1}]"

        columns.place, columns.stored = place, False
    return columns


def write(file: Path, arrays: dict[str, Array], card: dict[str, Any]) -> None:
    """Write a data set under a temporary name and rename it when it is whole; small and checksummed.

    ``arrays`` holds D4RL's keys. Next observations are stored where they do not follow, which is at the ends
    (all of them, if they do not follow within episodes either; none, if there are none). So is the
    simulator's state (``infos/qpos``, ``infos/qvel``): where observations are qpos without the root's
    position, then qvel clipped, only what the clipping cut off is stored, as ``infos/qvel_cut_off``.
    """
    import h5py

    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(temporary, "w", locking=False) as root:
        for key, values in _lean(arrays).items():
            stored = values if values.dtype == bool else values.astype(np.float32)
            root.create_dataset(
                key, data=stored, compression="gzip", compression_opts=9, shuffle=True, fletcher32=True
            )
        root.attrs["card"] = json.dumps(card)
    os.replace(temporary, file)
    sync_folder(file.parent)


def _lean(arrays: dict[str, Array]) -> dict[str, Array]:
    lean = {key: arrays[key].astype(np.float32) for key in NEEDED[:3]} | {
        key: arrays[key] for key in NEEDED[3:]
    }
    lean |= _next_observations(lean["observations"], arrays["terminals"] | arrays["timeouts"], arrays)
    qpos, qvel = arrays.get("infos/qpos"), arrays.get("infos/qvel")
    if qpos is None or qvel is None:
        return lean
    obs, split = lean["observations"], qpos.shape[1] - 1
    if split + qvel.shape[1] == obs.shape[1] and np.array_equal(
        qpos[:, 1:].astype(np.float32), obs[:, :split]
    ):
        return {**lean, "infos/qvel_cut_off": qvel.astype(np.float32) - obs[:, split:]}
    return {**lean, "infos/qpos": qpos, "infos/qvel": qvel}


def _next_observations(obs: Array, ends: Array, arrays: dict[str, Array]) -> dict[str, Array]:
    if "next_observations" not in arrays:
        return {}
    next_obs = arrays["next_observations"].astype(np.float32)
    ends = np.append(ends[:-1], True)  # of what is cut off the last observation is kept, too
    if np.array_equal(next_obs[:-1][~ends[:-1]], obs[1:][~ends[:-1]]):
        return {"final_observations": next_obs[ends]}
    return {"next_observations": next_obs}


def read_simulator(file: Path) -> tuple[Array, Array] | None:
    """Return the simulator's (qpos, qvel) before each row as float32, None where the file does not tell.

    The root's position along the track, on which neither dynamics nor rewards depend, is 0 where only the
    lean form is stored.
    """
    findings = Summary(file)
    with open_hdf5(file) as root:
        names = ("observations", "infos/qpos", "infos/qvel", "infos/qvel_cut_off")
        nodes = {name: array(root, name, findings) for name in names}
        findings.settle()
        arrays = {name: node[()].astype(np.float32) for name, node in nodes.items() if node is not None}
    if "infos/qpos" in arrays and "infos/qvel" in arrays:
        return arrays["infos/qpos"], arrays["infos/qvel"]
    if "infos/qvel_cut_off" not in arrays:
        return None
    obs, cut = arrays["observations"], arrays["infos/qvel_cut_off"]
    split = obs.shape[1] - cut.shape[1]
    return np.concatenate([np.zeros((len(obs), 1), np.float32), obs[:, :split]], axis=1), obs[:, split:] + cut
