"""ENOTO, also called E2O (Zhao et al. 2024, arXiv:2306.06871): an ensemble without its pessimism.

The ten critics of ``cql_n`` go on without CQL's penalty. What they are worth together is the mean, over all
pairs of critics, of the pair's lesser value (WeightedMinPair). An error counts the less the more the targets
differ, by sigmoid(-``weighting`` x their deviation) + 1/2, and of ``candidates`` samples of the policy the
one with the greatest mean plus ``optimism`` deviations is taken (the forms of SUNRISE, arXiv:2007.04938).

This is a reconstruction. Published is the target and that the penalty goes; the number of critics, weighting
and optimism, the mix of the batches and where the temperature begins are not. Decided here: 10, 10 and 1, one
actor with ten candidates, half of each batch offline, the pretraining's temperature, the same value of the
critics for the actor, entropy in the target; no learning in the first 1,000 steps, as for all methods.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.online import Online
from o2obench.kit.model_free.template import NEXT_ACTIONS, Values
from o2obench.kit.options import Members, Rate, Share, Size, Weight
from o2obench.kit.replay import Batch


class EnotoConfig(OnlineConfig):
    """ENOTO's options."""

    num_critics: Members = 10
    init: Literal["uniform", "orthogonal", "xavier"] = "orthogonal"
    actor_lr: Rate = 1e-4
    replay_data: Literal["union", "online"] | Share = 0.5
    weighting: Weight = 10.0
    """How fast an error's weight falls with the deviation of the targets (T); 0: all weigh 1."""
    optimism: Weight = 1.0
    """Deviations that an action to explore with is worth (lambda)."""
    candidates: Size = 10
    """Samples of the policy to choose from; 1: no choice."""


class Enoto(Online[EnotoConfig]):
    """SAC with an ensemble that neither holds back nor pushes down."""

    Config = EnotoConfig
    pretrain = "cql_n"
    requires = ("actor", "critics")

    def actor_value(self, q: Tensor) -> Tensor:
        """Return the mean over all pairs of critics of the lesser value, (seeds, batch).

        ``q`` is (seeds, n, batch); the i-th smallest is the lesser one in n - i of the n (n - 1) / 2 pairs.
        """
        n = q.shape[1]
        weights = torch.arange(n - 1, -1, -1, device=q.device) * (2.0 / (n * (n - 1)))
        return (q.sort(1).values * weights[:, None]).sum(1)

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return SAC's target with the pairs' value, and how much each error weighs, (seeds, batch)."""
        action, log_prob = self.sample(batch.next_obs, draws[NEXT_ACTIONS])
        q = self.q("targets", batch.next_obs, action)
        after = self.actor_value(q) - self.alpha()[:, None] * log_prob
        y = batch.reward + self.config.gamma * (1.0 - batch.terminated) * after
        return {"y": y, "weight": torch.sigmoid(-self.config.weighting * q.std(1)) + 0.5}

    def critics_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the weighted squared error, summed over critics, and the mean value, (2, seeds)."""
        q = self.q("critics", batch.obs, batch.action, flat)
        error = constants["weight"][:, None] * (q - constants["y"][:, None]).square()
        return torch.stack([error.mean(-1).sum(-1), q.mean((1, 2))])

    def explore(self, obs: Tensor) -> Tensor:
        """Return the candidate of the greatest optimistic value."""
        (seeds, n, _), many = obs.shape, self.config.candidates
        repeated, actions = self.candidates(obs, many)
        q = self.q("critics", repeated, actions)
        best = (q.mean(1) + self.config.optimism * q.std(1)).view(seeds, n, many).argmax(-1)
        index = best[..., None, None].expand(-1, -1, 1, self.task.act_dim)
        return actions.view(seeds, n, many, -1).gather(2, index).squeeze(2)
