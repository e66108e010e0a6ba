"""The losses of Cal-QL, calibrated Q-learning (Nakamoto et al. 2023, arXiv:2303.05479): CQL with a floor.

The penalty pushes the values of the policy's actions down no further than the return that followed in the
data: Q becomes max(Q, G) for actions of the policy (eq. 5.1), not for uniform ones; everything else is CQL's.

G is the discounted sum of the rewards to the end of the episode, without a bootstrap where the clock ends it.
An episode whose rewards all are ``failure_reward`` counts as failing for ever: G = r / (1 - gamma) (official
code and WSRL; CORL asks the last reward only). Online, G of a transition is known when its episode ends, so
batches take finished episodes only (WSRL); official code learns after each episode. CORL sets G to 0 online
and leaves the floor out; ``calibrated: false`` has G at 0, too, but keeps the floor there.

``critics/floored`` is the share of the policy's values that the floor lifts: at 0 Cal-QL is CQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...transitions import Array, Transitions
from ..replay import Batch
from .cql import Conservative, CqlOptions

RETURN, STEPS = "return_to_go", "steps_to_go"


class CalQlOptions(CqlOptions):
    """Options of the losses."""

    failure_reward: float | None = None
    """The raw reward of every step of an episode that fails; null: returns are sums."""


C = TypeVar("C", bound=CalQlOptions)


class Calibrated(Conservative[C], Generic[C]):
    """CQL, its penalty with a floor."""

    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **Conservative.metrics,
        "critics": ("critics/loss", "critics/q", "critics/gap", "critics/floored"),
    }

    def columns(self, data: Transitions) -> dict[str, Array]:
        """Return the discounted sums of rewards and of ones to the end of each episode.

        The map of rewards is linear, so the two give the return in rewards as the networks know them.
        """
        columns = {name: np.zeros(len(data), np.float32) for name in (RETURN, STEPS)}
        ends = np.append(np.flatnonzero(data.episode_start)[1:], len(data)) if len(data) else ()
        start = 0
        for end in ends:
            columns[RETURN][start:end], columns[STEPS][start:end] = self.to_go(data.reward[start:end])
            start = end
        return columns

    def to_go(self, reward: Array) -> tuple[Array, Array]:
        """Return the discounted sums of an episode's raw rewards (n,) and of ones, from each step on."""
        gamma, failure = self.config.gamma, self.config.failure_reward
        if failure is not None and (reward == np.float32(failure)).all():
            for_ever = np.full(len(reward), 1.0 / (1.0 - gamma), np.float32)
            return np.float32(failure) * for_ever, for_ever
        returns, steps = np.zeros(len(reward)), np.zeros(len(reward))
        following, left = 0.0, 0.0
        for i, value in reversed(list(enumerate(reward.tolist()))):
            returns[i], steps[i] = following, left = value + gamma * following, 1.0 + gamma * left
        return returns.astype(np.float32), steps.astype(np.float32)

    def floor(self, batch: Batch) -> Tensor:
        """Return the returns that followed, in rewards as the networks know them, (seeds, batch)."""
        scale, shift = self.maps["reward_scale"], self.maps["reward_shift"]
        return scale * batch.columns[RETURN] + shift * batch.columns[STEPS]

    def raised(self, q: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the values, those of the policy's actions at least G, and the share that it lifts."""
        of_uniform, of_policy = q.tensor_split((self.config.cql_actions * self.config.batch_size,), -1)
        floor = self.floor(batch).repeat(1, 2 * self.config.cql_actions)[:, None]
        lifted = (of_policy < floor).float().mean((1, 2))
        return torch.cat([of_uniform, torch.maximum(of_policy, floor)], -1), (lifted,)
