"""Minari's ``D4RL/antmaze`` and ``D4RL/kitchen``: short episodes of the environments, written by Minari."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

from o2obench.envs.kitchen import GOALS
from o2obench.envs.robotics import register
from o2obench.util.interpreter import variable

UMAZE: list[list[Any]] = [
    [1, 1, 1, 1, 1],
    [1, "g", 0, 0, 1],
    [1, 1, 1, 0, 1],
    [1, "r", 0, 0, 1],
    [1, 1, 1, 1, 1],
]
TASKS = ("microwave", "kettle", "bottom burner", "light switch")
EPISODES, STEPS = 3, 12
Act = Callable[[Any, int, np.random.Generator], Any]
"""Takes the environment, the step in its episode and a generator; may change the state, returns an action."""


def ant_maze(maze: list[list[Any]] = UMAZE, steps: int = 700, **arguments: Any) -> Any:
    """Return gymnasium-robotics' AntMaze."""
    return made("AntMaze_UMaze-v4", maze_map=maze, max_episode_steps=steps, **arguments)


def kitchen(**arguments: Any) -> Any:
    """Return gymnasium-robotics' kitchen with four tasks."""
    return made("FrankaKitchen-v1", **{"tasks_to_complete": list(TASKS), **arguments})


def made(name: str, **arguments: Any) -> Any:
    """Return an environment of gymnasium-robotics."""
    register(name)
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    return gymnasium.make(name, disable_env_checker=True, **arguments)


def towards_the_goal(env: Any, step: int, random: np.random.Generator) -> Any:
    """Act at random; after a third of the steps the ant is at its goal, after two thirds away again."""
    core = env.unwrapped
    if step in (STEPS // 3, 2 * STEPS // 3):
        qpos, qvel = core.data.qpos.copy(), core.data.qvel.copy()
        qpos[:2] = core.goal + (0.0 if step == STEPS // 3 else 2.0)
        core.ant_env.set_state(qpos, qvel)
    return random.uniform(-1, 1, 8).astype(np.float32)


def task_by_task(env: Any, step: int, random: np.random.Generator) -> Any:
    """Act at random; every second step moves the objects of a task to where they should be."""
    if step % 2 == 1 and step // 2 < len(TASKS):
        joints, values = GOALS[TASKS[step // 2]]
        env.unwrapped.data.qpos[joints] = values
    return random.uniform(-1, 1, 9)


def episodes(env: Any, act: Act, count: int = EPISODES, steps: int = STEPS) -> list[EpisodeBuffer]:
    """Play episodes, the k-th from seed k; they are cut off after so many steps."""
    buffers = []
    for number in range(count):
        random, rows = np.random.default_rng(number), list[Any]()
        observed = [env.reset(seed=number)[0]]
        while len(rows) < steps and not (rows and (rows[-1][2] or rows[-1][3])):
            action = act(env, len(rows), random)
            obs, *row, _ = env.step(action)
            observed.append(obs)
            rows.append((action, *row))
        actions, rewards, terminations, truncations = map(np.array, zip(*rows, strict=True))
        truncations[-1] = not terminations[-1]
        buffers.append(
            EpisodeBuffer(
                *(number, number, None, stacked(observed), actions),
                *(rewards, terminations, truncations, {}),
            )
        )
    return buffers


def stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return dictionaries of observations as one of arrays."""
    return {
        key: stacked([row[key] for row in rows])
        if isinstance(rows[0][key], dict)
        else np.array([row[key] for row in rows])
        for key in rows[0]
    }


def write(name: str, root: Path, env: Any, buffers: list[EpisodeBuffer], **more: Any) -> Path:
    """Write a set through Minari; return its main file."""
    root.mkdir(parents=True, exist_ok=True)
    with variable("MINARI_DATASETS_PATH", str(root)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(name, buffers, env=env.spec, data_format="hdf5", **more)
    return root / name / "data" / "main_data.hdf5"
