"""The data sets of the point mass and its maze, made when they are asked for; always the same."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..envs.pointmass import PointMass, good_action
from ..envs.pointmaze import FREE, PointMaze, towards
from ..transitions import Transitions
from ..util.rng import Stream, generator


@functools.cache
def mixed_data(rows: int = 5000) -> Transitions:
    """Return the toy data set: episodes of controllers between random and a tenth good; always the same."""
    random, env, steps = generator(0, Stream.TOY_DATA), PointMass(), list[tuple[Any, ...]]()
    while len(steps) < rows:
        skill = random.uniform(0.0, 0.1)
        obs, _ = env.reset(seed=int(random.integers(2**31)))
        ended, start = False, True
        while not ended and len(steps) < rows:
            noise = random.uniform(-1.0, 1.0, 2)
            action = np.clip(skill * good_action(obs) + (1 - skill) * noise, -1, 1).astype(np.float32)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
            steps.append(
                (obs, action, reward, next_obs, terminated, truncated or len(steps) + 1 == rows, start)
            )
            obs, start = next_obs, False
    return _joined(steps)


@functools.cache
def play_data(rows: int = 20_000) -> Transitions:
    """Return the maze's data set: a noisy controller that walks from anywhere to one cell after another.

    Whoever passes the goal ends the episode, as everywhere; most episodes have no such end in mind.
    """
    random, env, steps = generator(0, Stream.MAZE_DATA), PointMaze(), list[tuple[Any, ...]]()
    while len(steps) < rows:
        cell, aim = (FREE[int(random.integers(len(FREE)))] for _ in range(2))
        env.set_state(np.concatenate([np.add(cell, random.uniform(0.3, 0.7, 2)), np.zeros(2)]))
        obs, ended, start = env.state.astype(np.float32), False, True
        while not ended and len(steps) < rows:
            if tuple(obs[:2].astype(int)) == aim:
                aim = FREE[int(random.integers(len(FREE)))]
            noise = random.normal(0.0, 0.5, 2)
            action = np.clip(towards(obs, aim) + noise, -1, 1).astype(np.float32)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
            steps.append(
                (obs, action, reward, next_obs, terminated, truncated or len(steps) + 1 == rows, start)
            )
            obs, start = next_obs, False
    return _joined(steps)


def _joined(steps: list[tuple[Any, ...]]) -> Transitions:
    obs, action, reward, next_obs, terminated, truncated, start = map(np.array, zip(*steps, strict=True))
    ends = (terminated, truncated & ~terminated, start)
    return Transitions(obs, action, reward.astype(np.float32), next_obs, *ends)


MADE = {"pointmass-mixed-v0": mixed_data, "pointmaze-play-v0": play_data}
"""The data sets that have no file, and what makes them."""
