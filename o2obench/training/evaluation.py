"""Evaluating a policy: episodes side by side, from start states that all algorithms share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..envs.spec import EnvSpec
from ..transitions import Array
from ..util.rng import Stream, derive


class Arena:
    """The evaluation environments: ``width`` per seed, made once and reset for every episode."""

    def __init__(self, spec: EnvSpec, seeds: tuple[int, ...], width: int = 10) -> None:
        self.spec, self.seeds, self.width = spec, seeds, width
        self.envs = spec.vector_env(len(seeds) * width)

    def returns(self, act: Callable[[Array], Array], clock: tuple[str | int, ...], episodes: int) -> Array:
        """Return the raw returns (seeds, episodes) of a policy that maps obs (seeds, width, d) to actions.

        Episode i starts from the state derived from (seed, clock, i): equal for every algorithm at the
        same clock. All episodes of a wave step together; the batch keeps its shape when one ends.
        """
        waves = [self._wave(act, clock, first) for first in range(0, episodes, self.width)]
        return np.concatenate(waves, axis=1)[:, :episodes]

    def _wave(self, act: Callable[[Array], Array], clock: tuple[str | int, ...], first: int) -> Array:
        count = len(self.seeds) * self.width
        returns, running = np.zeros(count), np.ones(count, bool)
        obs = np.zeros((count, self.spec.obs_dim), np.float32)
        for i in range(count):
            seed, episode = self.seeds[i // self.width], first + i % self.width
            obs[i] = self.envs.reset(i, derive(seed, Stream.EVALUATION, *clock, episode))
        while running.any():
            actions = self.spec.from_unit(act(obs.reshape(len(self.seeds), self.width, -1)))
            next_obs, reward, ended = self.envs.step(actions.reshape(count, -1), running)
            chosen = np.flatnonzero(running)
            obs[chosen], running[chosen] = next_obs, ~ended
            returns[chosen] += reward
        return returns.reshape(len(self.seeds), self.width)
