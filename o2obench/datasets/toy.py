"""The data sets of the point mass and its maze, made when they are asked for; always the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..envs.grid import Cell
from ..envs.pointmass import PointMass, good_action
from ..envs.pointmaze import FREE, PointMaze, towards
from ..transitions import Array, Transitions
from ..util.rng import Stream, generator


@functools.cache
def mixed_data(rows: int = 5000) -> Transitions:
    """Return the toy data set: episodes of controllers between random and a tenth good; always the same."""
    random, env, steps = generator(0, Stream.TOY_DATA), PointMass(), list[tuple[Any, ...]]()
    while len(steps) < rows:
        skill = random.uniform(0.0, 0.1)
        obs, _ = env.reset(seed=int(random.integers(2**31)))

        def act(obs: Array, skill: float = skill) -> Array:
            return skill * good_action(obs) + (1 - skill) * random.uniform(-1.0, 1.0, 2)

        _walk(env, obs, act, steps, rows)
    return _joined(steps)


@functools.cache
def play_data(rows: int = 20_000) -> Transitions:
    """Return the maze's data set: a noisy controller that walks from anywhere to one cell after another.

    Whoever passes the goal ends the episode, as everywhere; most episodes have no such end in mind.
    """
    random, env, steps = generator(0, Stream.MAZE_DATA), PointMaze(), list[tuple[Any, ...]]()
    while len(steps) < rows:
        cell, aims = _any_cell(random), [_any_cell(random)]
        env.set_state(np.concatenate([np.add(cell, random.uniform(0.3, 0.7, 2)), np.zeros(2)]))

        def act(obs: Array, aims: list[Cell] = aims) -> Array:
            if tuple(obs[:2].astype(int)) == aims[-1]:
                aims.append(_any_cell(random))
            return towards(obs, aims[-1]) + random.normal(0.0, 0.5, 2)

        _walk(env, env.state.astype(np.float32), act, steps, rows)
    return _joined(steps)


def _any_cell(random: np.random.Generator) -> Cell:
    return FREE[int(random.integers(len(FREE)))]


def _walk(
    env: PointMass | PointMaze,
    obs: Array,
    act: Callable[[Array], Array],
    steps: list[tuple[Any, ...]],
    rows: int,
) -> None:
    """Add an episode's steps from ``obs`` on, until it ends or there are ``rows`` steps."""
    ended, start = False, True
    while not ended and len(steps) < rows:
        action = np.clip(act(obs), -1, 1).astype(np.float32)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
        cut = truncated or len(steps) + 1 == rows
        steps.append((obs, action, reward, next_obs, terminated, cut, start))
        obs, start = next_obs, False


def _joined(steps: list[tuple[Any, ...]]) -> Transitions:
    obs, action, reward, next_obs, terminated, truncated, start = map(np.array, zip(*steps, strict=True))
    ends = (terminated, truncated & ~terminated, start)
    return Transitions(obs, action, reward.astype(np.float32), next_obs, *ends)


MADE = {"pointmass-mixed-v0": mixed_data, "pointmaze-play-v0": play_data}
"""The data sets that have no file, and what makes them."""
