"""Collect a data set: train SAC from scratch and record every step it takes, in D4RL's layout."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import provenance, registry
from ..agent import Array, Budget, Task, Transitions
from ..env import EnvSpec, Interaction, find_env
from ..errors import BadInput
from ..files import sync_folder

COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")


def collect_replay(env_id: str, file: Path, steps: int, seed: int, threads: int) -> None:
    """Write the replay of ``steps`` steps of SAC to ``file`` (HDF5) and a data card beside it (JSON).

    Raises BadInput when the file exists: a data set is never overwritten.
    """
    if file.exists():
        raise BadInput(f"{file}: exists; a data set is never overwritten, choose another name")
    spec = find_env(env_id)
    agent_class = registry.algorithm("sac")
    machine = provenance.compute("cpu", threads)
    provenance.apply(machine)
    none = np.zeros((0, spec.obs_dim), np.float32)
    flags = np.zeros(0, bool)
    data = Transitions(none, np.zeros((0, spec.act_dim), np.float32), none[:, 0], none, flags, flags, flags)
    assert spec.terminal is not None
    task = Task(spec.obs_dim, spec.act_dim, spec.horizon, (seed,), spec.terminal, Budget(0, steps))
    agent = agent_class(task, agent_class.Config(), data)
    arrays, returns = _live(agent, spec, seed, steps)
    card = {
        "dataset": file.stem,
        "environment": env_id,
        "command": "o2obench " + shlex.join(sys.argv[1:]),
        "collector": {"algorithm": "sac", "config": agent.config.model_dump(mode="json"), "seed": seed},
        "rows": steps,
        "episodes": len(returns),
        "returns": {
            "mean": round(float(np.mean(returns)), 2),
            "min": round(min(returns), 2),
            "median": round(float(np.median(returns)), 2),
            "max": round(max(returns), 2),
            "last 20 episodes": round(float(np.mean(returns[-20:])), 2),
        },
        "terminated": int(arrays["terminals"].sum()),
        "compute": machine,
        "code": provenance.code(),
        "licence": "CC0-1.0",
    }
    _write(file, arrays, card)
    file.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    print(f"{file}: {steps} rows, {len(returns)} episodes, returns {card['returns']}")


def _live(agent: Any, spec: EnvSpec, seed: int, steps: int) -> tuple[dict[str, Array], list[float]]:
    """Let the agent live and learn; return the recorded arrays and the returns of finished episodes."""
    life = Interaction(spec, seed)
    simulator = getattr(life.env, "unwrapped", life.env)
    rows: dict[str, list[Any]] = {key: [] for key in (*COLUMNS, "infos/qpos", "infos/qvel")}
    returns: list[float] = []
    for k in range(steps):
        if hasattr(simulator, "data"):
            rows["infos/qpos"].append(simulator.data.qpos.copy())
            rows["infos/qvel"].append(simulator.data.qvel.copy())
        action = agent.act(life.obs[None, None], explore=True)[0, 0]
        step, finished = life.step(action)
        values = (
            step.obs,
            spec.from_unit(step.action),
            step.reward,
            step.terminated,
            step.truncated,
            step.next_obs,
        )
        for key, value in zip(COLUMNS, values, strict=True):
            rows[key].append(value)
        if finished:
            returns.append(finished.env_return)
        agent.observe(Transitions(*(np.asarray(getattr(step, n))[None] for n in step.__dataclass_fields__)))
        for _ in agent.work("tune"):
            pass
        if (k + 1) % 2000 == 0:
            recent = np.mean(returns[-10:]) if returns else float("nan")
            print(f"{k + 1}/{steps} steps, {len(returns)} episodes, last ten return {recent:.1f}", flush=True)
    return {key: np.array(value) for key, value in rows.items() if value}, returns


def _write(file: Path, arrays: dict[str, Array], card: dict[str, Any]) -> None:
    """Write the file under a temporary name and rename it when it is whole."""
    import h5py

    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(temporary, "w") as root:
        for key, array in arrays.items():
            kept = array if array.dtype == bool else array.astype(np.float32)
            root.create_dataset(
                key, data=kept, compression="gzip", compression_opts=9, shuffle=True, fletcher32=True
            )
        root.attrs["card"] = json.dumps(card)
    os.replace(temporary, file)
    sync_folder(file.parent)
