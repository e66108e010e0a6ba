"""Small data sets in OGBench's layout, played as OGBench's are: by its oracles, without the task in mind."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from o2obench.envs import ogbench
from o2obench.envs.spec import gymnasium_maker
from tests.helpers.datasets import Arrays

GOAL = (6, 6)
"""The cell of the first task's goal, where every trajectory goes first."""
MAZE = "ogbench:pointmaze-medium-navigate-singletask-v0"
CUBE = "ogbench:cube-single-play-singletask-v0"


@functools.cache
def maze_arrays(trajectories: int = 8, length: int = 151) -> Arrays:
    """Return rows of pointmaze-medium-navigate: the shortest ways to random cells, and noise."""
    env = _made("pointmaze-medium-v0", terminate_at_goal=False)
    core, random = env.unwrapped, np.random.default_rng(0)
    free = np.argwhere(core.maze_map == 0)
    rows: dict[str, list[Any]] = _no_rows()
    for number in range(trajectories):
        env.reset(seed=number)
        start = np.array(core.ij_to_xy(random.choice(free)))
        aim = np.array(core.ij_to_xy(GOAL))
        core.set_xy(start + random.uniform(-1, 1, 2))
        for step in range(length):
            if np.linalg.norm(core.get_xy() - aim) < 0.5:
                aim = np.array(core.ij_to_xy(random.choice(free)))
            way = core.get_oracle_subgoal(core.get_xy(), aim)[0] - core.get_xy()
            action = way / max(np.linalg.norm(way), 1e-6) + random.normal(0.0, 0.5, 2)
            action = np.clip(action, -1, 1).astype(np.float32)
            _append(rows, core, core.get_ob(), action, step == length - 1)
            env.step(action)
    return _as_arrays(rows)


@functools.cache
def cube_arrays(trajectories: int = 2, length: int = 151) -> Arrays:
    """Return rows of cube-single-play: OGBench's oracle carries the cube to random places."""
    env = _made("cube-single-v0", terminate_at_goal=False, mode="data_collection", max_episode_steps=1001)
    from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle

    core, random = env.unwrapped, np.random.default_rng(0)
    rows = _no_rows()
    for number in range(trajectories):
        obs, info = env.reset(seed=number)
        oracle = CubeMarkovOracle(env=env)
        oracle.reset(obs, info)
        for step in range(length):
            if oracle.done:
                obs, info = core.set_new_target()
                oracle.reset(obs, info)
            action = np.clip(oracle.select_action(obs, info) + random.normal(0.0, 0.1, 5), -1, 1)
            _append(rows, core, obs, action.astype(np.float32), step == length - 1)
            obs, _, _, _, info = env.step(action)
    return _as_arrays(rows)


def written(file: Path, arrays: Arrays, spoil: Callable[[Arrays], Any] = lambda arrays: None) -> Path:
    """Write arrays by their keys, after ``spoil`` has changed them."""
    arrays = {key: array.copy() for key, array in arrays.items()}
    spoil(arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=True, **arrays)
    return file


def _made(env_id: str, **options: Any) -> Any:
    ogbench.register()
    return ogbench.seeded(gymnasium_maker(env_id, **options))()


def _no_rows() -> dict[str, list[Any]]:
    return {key: [] for key in ("observations", "actions", "terminals", "qpos", "qvel")}


def _append(rows: dict[str, list[Any]], core: Any, obs: Any, action: Any, last: bool) -> None:
    values = (obs, action, last, core.data.qpos.copy(), core.data.qvel.copy())
    for key, value in zip(rows, values, strict=True):
        rows[key].append(value)


def _as_arrays(rows: dict[str, list[Any]]) -> Arrays:
    return {key: np.array(values, bool if key == "terminals" else np.float32) for key, values in rows.items()}
