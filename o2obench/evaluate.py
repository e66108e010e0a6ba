"""Judging a policy: episodes in lockstep, batched actions, and start states that all algorithms share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .agent import Array
from .env import EnvSpec
from .seeds import derive


class Arena:
    """The evaluation environments: ``width`` per seed, made once and reset for every episode."""

    def __init__(self, spec: EnvSpec, seeds: tuple[int, ...], width: int = 10) -> None:
        self.spec, self.seeds, self.width = spec, seeds, width
        self.envs = [[spec.make() for _ in range(width)] for _ in seeds]

    def returns(self, act: Callable[[Array], Array], clock: tuple[str | int, ...], episodes: int) -> Array:
        """Return the raw returns (seeds, episodes) of a policy that maps obs (seeds, width, d) to actions.

        Episode i starts from the state derived from (seed, clock, i): equal for every algorithm at the
        same clock. All episodes of a wave step together; the batch keeps its shape when one ends.
        """
        waves = [self._wave(act, clock, first) for first in range(0, episodes, self.width)]
        return np.concatenate(waves, axis=1)[:, :episodes]

    def _wave(self, act: Callable[[Array], Array], clock: tuple[str | int, ...], first: int) -> Array:
        shape = (len(self.seeds), self.width)
        obs = np.zeros((*shape, self.spec.obs_dim), np.float32)
        returns, running = np.zeros(shape), np.ones(shape, bool)
        for s, seed in enumerate(self.seeds):
            for e, env in enumerate(self.envs[s]):
                obs[s, e], _ = env.reset(seed=derive(seed, "evaluation", *clock, first + e))
        while running.any():
            actions = self.spec.from_unit(act(obs))
            for s, e in np.argwhere(running):
                raw, reward, terminated, truncated, _ = self.envs[s][e].step(actions[s, e])
                obs[s, e] = raw
                returns[s, e] += float(reward)
                running[s, e] = not (terminated or truncated)
        return returns
