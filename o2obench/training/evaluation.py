"""Evaluating a policy: episodes side by side, from start states that all algorithms share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..agent import Agent, new_player
from ..envs.spec import EnvSpec
from ..transitions import Array
from ..util.rng import Stream, derive

Act = Callable[[Array], Array]
"""Observations (seeds, n, obs_dim) -> actions (seeds, n, act_dim)."""


@dataclass(frozen=True)
class Remembering:
    """The evaluated policy of an agent that remembers its episode."""

    agent: Agent[Any]


def evaluated(agent: Agent[Any]) -> Act | Remembering:
    """Return an agent's policy to be evaluated, as ``Arena.returns`` takes it."""
    return Remembering(agent) if new_player(agent) else functools.partial(agent.act, explore=False)


class Arena:
    """The evaluation environments: ``width`` per seed, made once and reset for every episode."""

    def __init__(self, spec: EnvSpec, seeds: tuple[int, ...], width: int = 10) -> None:
        self.spec, self.seeds, self.width = spec, seeds, width
        self.envs = spec.vector_env(len(seeds) * width)

    def returns(self, act: Act | Remembering, clock: tuple[str | int, ...], episodes: int) -> Array:
        """Return the outcomes (seeds, episodes) of a policy: raw returns, or success as 1 and 0.

        The policy is a function, or one that has memory. What counts is the environment's (``outcome``).
        Episode i starts from the state derived from (seed, clock, i): equal for every algorithm at the
        same clock. All episodes of a wave step together; the batch keeps its shape when one ends.
        """
        waves = [self._wave(act, clock, first) for first in range(0, episodes, self.width)]
        return np.concatenate(waves, axis=1)[:, :episodes]

    def _wave(self, policy: Act | Remembering, clock: tuple[str | int, ...], first: int) -> Array:
        player = new_player(policy.agent) if isinstance(policy, Remembering) else None
        act: Any = player or policy
        count = len(self.seeds) * self.width
        returns, ended_by_task, running = np.zeros(count), np.zeros(count, bool), np.ones(count, bool)
        obs = np.zeros((count, self.spec.obs_dim), np.float32)
        for i in range(count):
            seed, episode = self.seeds[i // self.width], first + i % self.width
            obs[i] = self.envs.reset(i, derive(seed, Stream.EVALUATION, *clock, episode))
        while running.any():
            actions = self.spec.from_unit(act(obs.reshape(len(self.seeds), self.width, -1)))
            next_obs, reward, terminated, truncated = self.envs.step(actions.reshape(count, -1), running)
            chosen = np.flatnonzero(running)
            obs[chosen], running[chosen] = next_obs, ~(terminated | truncated)
            ended_by_task[chosen] = terminated
            returns[chosen] += reward
            if player:
                heard = np.zeros(count, np.float32)
                heard[chosen] = reward
                player.observe(heard.reshape(len(self.seeds), self.width))
        outcomes: Array = self.spec.outcome(returns, ended_by_task)
        return outcomes.reshape(len(self.seeds), self.width)
