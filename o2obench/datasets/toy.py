"""The toy data set of the point mass, made when it is asked for; always the same."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..envs.pointmass import PointMass, good_action
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
    obs_, action_, reward_, next_obs_, terminated_, truncated_, start_ = map(
        np.array, zip(*steps, strict=True)
    )
    return Transitions(
        *(obs_, action_, reward_.astype(np.float32), next_obs_),
        *(terminated_, truncated_ & ~terminated_, start_),
    )
