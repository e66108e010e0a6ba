"""Good data files in both layouts, which tests then spoil."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from o2obench.envs.kitchen import GOALS, KITCHENS
from o2obench.envs.spec import EnvSpec

Arrays = dict[str, Any]
D4RL_KEYS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")


def hopper_arrays(rows: int = 60) -> Arrays:
    """Return episodes of 20 transitions in D4RL's layout: falls and time-outs in turn, the last one cut off.

    States are drawn, not simulated, but upright where Hopper-v4 goes on and fallen where it ends.
    """
    random = np.random.default_rng(0)
    obs = random.normal(size=(rows + 1, 11)).astype(np.float32)
    obs[:, 0], obs[:, 1] = random.uniform(0.9, 1.4, rows + 1), random.uniform(-0.15, 0.15, rows + 1)
    terminals, timeouts = np.zeros(rows, bool), np.zeros(rows, bool)
    terminals[19::40], timeouts[39::40] = True, True
    terminals[-1] = timeouts[-1] = False
    next_obs = obs[1:].copy()
    next_obs[19::20, 2:] += 1.0  # the true successor of an episode's last row is not the next episode's start
    next_obs[terminals, 0] = 0.6
    return {
        "observations": obs[:-1],
        "actions": random.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "rewards": random.normal(size=rows).astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": next_obs,
    }


def write(path: Path, arrays: Arrays) -> Path:
    """Write arrays by their keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return path


def hopper_file(path: Path, rows: int = 3000) -> bytes:
    """Write a good file in D4RL's layout and return its bytes."""
    return write(path, hopper_arrays(rows)).read_bytes()


def minari_episodes(rows: int = 60) -> list[Arrays]:
    """Return the same rows as Minari's episodes, T + 1 observations each."""
    flat, episodes = hopper_arrays(rows), []
    for start in range(0, rows, 20):
        part = slice(start, start + 20)
        observations = np.concatenate([flat["observations"][part], flat["next_observations"][part][-1:]])
        episodes.append(
            {
                "observations": observations,
                "actions": flat["actions"][part],
                "rewards": flat["rewards"][part],
                "terminations": flat["terminals"][part],
                "truncations": flat["timeouts"][part],
            }
        )
    return episodes


def minari_metadata(episodes: list[Arrays]) -> dict[str, Any]:
    """Return what Minari writes beside the episodes, with an entry point that must never be called."""
    return {
        "total_episodes": len(episodes),
        "total_steps": sum(len(episode["rewards"]) for episode in episodes),
        "data_format": "hdf5",
        "env_spec": json.dumps({"id": "Hopper-v4", "entry_point": "os:mkdir", "kwargs": {}}),
    }


def write_minari(folder: Path, episodes: list[Arrays], metadata: dict[str, Any] | None = None) -> Path:
    """Write a Minari data set; return its main file."""
    file = folder / "data" / "main_data.hdf5"
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w", track_order=True) as root:
        for number, episode in enumerate(episodes):
            group = root.create_group(f"episode_{number}")
            for key, array in episode.items():
                group[key] = array
    value = minari_metadata(episodes) if metadata is None else metadata
    file.with_name("metadata.json").write_text(json.dumps(value))
    return file


def played_arrays(
    spec: EnvSpec,
    rows: int,
    seed: int = 0,
    act: Callable[[Any, np.random.Generator], Any] | None = None,
    at_start: Callable[[Any, np.random.Generator], Any] | None = None,
    longest: int | None = None,
) -> Arrays:
    """Return steps of an environment in D4RL's layout, with the simulator's state.

    ``act`` (env, random) chooses an action, random ones where it is None; ``at_start`` changes the state that
    an episode starts in and returns its observation; ``longest`` cuts episodes off.
    """
    env, random = spec.make(), np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {}
    obs, ended, length = env.reset(seed=seed)[0], False, 0
    for _ in range(rows):
        obs, length = (env.reset()[0], 1) if ended else (obs, length + 1)
        obs = at_start(env, random) if at_start and (ended or not columns) else obs
        action = act(env, random) if act else spec.from_unit(random.uniform(-1, 1, spec.act_dim))
        data = env.unwrapped.data
        state = {"infos/qpos": data.qpos.copy(), "infos/qvel": data.qvel.copy()}
        next_obs, reward, terminated, truncated, _ = env.step(action)
        truncated = truncated or length == longest
        row = (obs, action, reward, terminated, truncated and not terminated, next_obs)
        named = zip(D4RL_KEYS, row, strict=True)
        for key, value in {**dict(named), **state}.items():
            columns.setdefault(key, []).append(value)
        obs, ended = next_obs, terminated or truncated
    arrays = {key: np.asarray(values) for key, values in columns.items()}
    return {key: a if a.dtype == bool else a.astype(np.float32) for key, a in arrays.items()}


def ant_maze_arrays(spec: EnvSpec, rows: int = 500, gear: float | None = None) -> Arrays:
    """Return steps of an AntMaze whose episodes start around its goals; some come to them.

    ``gear`` makes another ant of it.
    """

    def near_the_goal(env: Any, random: np.random.Generator) -> Any:
        core, place = env.unwrapped, env.goal + random.uniform(-1.2, 1.2, 2)
        if gear is not None:
            core.model.actuator_gear[:] = gear
        core.set_state(np.concatenate([place, core.init_qpos[2:]]), random.normal(0, 0.5, 14))
        return np.concatenate([core.data.qpos, core.data.qvel])

    return played_arrays(spec, rows, at_start=near_the_goal, longest=20)


def kitchen_arrays(spec: EnvSpec, rows: int = 40) -> Arrays:
    """Return steps of a Kitchen in which every fifth does a task, by moving its objects."""
    tasks, step = KITCHENS[spec.id], iter(range(rows))

    def act(env: Any, random: np.random.Generator) -> Any:
        number = next(step)
        if number % 5 == 4:
            joints, values = GOALS[tasks[number // 5 % 4]]
            env.unwrapped.data.qpos[joints] = values
        return random.uniform(-1, 1, 9)

    return played_arrays(spec, rows, act=act)
