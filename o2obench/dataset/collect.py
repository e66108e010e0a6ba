"""Collect a data set: train SAC from scratch and record every step it takes, in D4RL's layout."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import provenance, registry
from ..agent import Agent, Array, Budget, Task, Transitions, stack_steps
from ..env import EnvSpec, Interaction, find_env
from ..errors import BadInput
from ..files import sync_folder

COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")


def collect_replay(
    env_id: str, file: Path, steps: int, seed: int, threads: int, until: float = math.inf
) -> None:
    """Write ``steps`` rows of SAC's replay to ``file`` (HDF5) and a data card beside it (JSON).

    A training ends when the mean return of its last ten episodes reaches ``until``, D4RL's way to a
    medium-replay set; the next seed goes on until all rows are recorded. Raises BadInput when the file
    exists: a data set is never overwritten.
    """
    if file.exists():
        raise BadInput(f"{file}: exists; a data set is never overwritten, choose another name")
    spec = find_env(env_id)
    agent_class = registry.algorithm("sac")
    machine = provenance.compute("cpu", threads)
    provenance.apply(machine)
    rows: dict[str, list[Any]] = {key: [] for key in (*COLUMNS, "infos/qpos", "infos/qvel")}
    returns: list[float] = []
    trainings: list[dict[str, int]] = []
    while len(rows["rewards"]) < steps:
        left = steps - len(rows["rewards"])
        agent = _new_agent(agent_class, spec, seed + len(trainings), left)
        own = _live(agent, spec, rows, left, until)
        trainings.append({"seed": seed + len(trainings), "rows": left - steps + len(rows["rewards"])})
        returns += own
        print(
            f"training {len(trainings)}: {len(own)} episodes, {len(rows['rewards'])}/{steps} rows", flush=True
        )
    arrays = {key: np.array(value) for key, value in rows.items() if value}
    card = {
        "dataset": file.stem,
        "environment": env_id,
        "command": "o2obench " + shlex.join(sys.argv[1:]),
        "collector": {"algorithm": "sac", "config": agent.config.model_dump(mode="json")},
        "trainings": trainings,
        "rows": steps,
        "episodes": len(returns),
        "returns": {
            "mean": round(float(np.mean(returns)), 2),
            "min": round(min(returns), 2),
            "median": round(float(np.median(returns)), 2),
            "max": round(max(returns), 2),
        },
        "terminated": int(arrays["terminals"].sum()),
        "compute": machine,
        "code": provenance.code(),
        "licence": "CC0-1.0",
    }
    _write(file, arrays, card)
    file.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    print(f"{file}: {steps} rows, {len(returns)} episodes, returns {card['returns']}")


def _new_agent(agent_class: type[Agent[Any]], spec: EnvSpec, seed: int, steps: int) -> Agent[Any]:
    none, flags = np.zeros((0, spec.obs_dim), np.float32), np.zeros(0, bool)
    actions = np.zeros((0, spec.act_dim), np.float32)
    data = Transitions(none, actions, none[:, 0], none, flags, flags, flags)
    assert spec.terminal is not None
    budget = Budget(0, steps)
    task = Task(spec.obs_dim, spec.act_dim, spec.horizon, (seed,), spec.terminal, budget)
    return agent_class(task, agent_class.Config(), data)


def _live(
    agent: Agent[Any], spec: EnvSpec, rows: dict[str, list[Any]], steps: int, until: float
) -> list[float]:
    """Let the agent live and learn, append every step to ``rows``; return its episodes' returns."""
    life = Interaction(spec, agent.task.seeds[0])
    simulator = getattr(life.env, "unwrapped", life.env)
    returns: list[float] = []
    for _ in range(steps):
        if hasattr(simulator, "data"):
            rows["infos/qpos"].append(simulator.data.qpos.copy())
            rows["infos/qvel"].append(simulator.data.qvel.copy())
        step, finished = life.step(agent.act(life.obs[None, None], explore=True)[0, 0])
        action = spec.from_unit(step.action)
        values = (step.obs, action, step.reward, step.terminated, step.truncated, step.next_obs)
        for key, value in zip(COLUMNS, values, strict=True):
            rows[key].append(value)
        agent.observe(stack_steps([step]))
        for _ in agent.work("tune"):
            pass
        if len(rows["rewards"]) % 2000 == 0:
            recent = f"{np.mean(returns[-10:]):.1f}" if returns else "none yet"
            print(f"{len(rows['rewards'])} rows, last ten episodes return {recent}", flush=True)
        if finished:
            returns.append(finished.env_return)
            if len(returns) >= 10 and np.mean(returns[-10:]) >= until:
                return returns
    rows["timeouts"][-1] = np.asarray(not rows["terminals"][-1])
    return returns


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
