"""SAC+ML, the offline stage of ACA (Yu and Zhang 2023, actor-critic alignment): SAC held by likelihood.

The actor's SAC loss is scaled by ``ml_alpha`` over the mean absolute value and gets the likelihood of the
data's actions beside it. Two more values of the state alone, Z, learn in the critics' way what is left of the
action values once log pi(a | s) is taken off: Z(s) + log pi(a | s) is fitted to r + gamma (log pi(a' | s') +
min Z(s') - alpha log pi(a' | s')), without targets of its own. ``aca`` builds its critics from Z.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.template import ACTIONS, NEXT_ACTIONS, Offline, OffPolicy, Values
from o2obench.kit.networks import Mlp
from o2obench.kit.options import Weight
from o2obench.kit.replay import Batch


class SacMlConfig(OfflineConfig):
    """SAC+ML's options."""

    normalize_obs: bool = False
    ml_alpha: Weight = 30.0
    """Weight of SAC's loss over the mean absolute value, beside the likelihood."""


class SacMl(Offline[SacMlConfig]):
    """SAC, the likelihood of the data's actions, and state values beside the policy's density."""

    Config = SacMlConfig
    provides = ("actor", "critics", "states")
    order = ("critics", "actor", "alpha", "states")
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OffPolicy.metrics,
        "states": ("states/loss", "states/z"),
    }

    def networks(self) -> dict[str, Mlp]:
        """Add Z, two networks shaped as critics of the observation alone."""
        return {**super().networks(), "states": self.mlp("states", (2,), self.task.obs_dim, 1, critic=True)}

    def z(self, obs: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return both values of observations, (seeds, 2, batch)."""
        return self.nets["states"](obs.unsqueeze(1), flat).squeeze(-1)

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return also what Z is fitted to, (seeds, batch)."""
        constants = super().constants(batch, draws)
        _, log_prob = self.sample(batch.next_obs, draws[NEXT_ACTIONS])
        after = (1.0 - self.alpha()[:, None]) * log_prob + self.z(batch.next_obs).amin(1)
        y = batch.reward + self.config.gamma * (1.0 - batch.terminated) * after
        return {**constants, "z": y - self.log_prob(batch)}

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the scaled SAC loss less the likelihood of the data's actions, and log pi, (2, seeds)."""
        action, log_prob = self.sample(batch.obs, draws[ACTIONS], flat)
        value = self.actor_value(self.q("critics", batch.obs, action))
        scale = self.config.ml_alpha / value.detach().abs().mean(-1)
        loss = scale * (self.alpha()[:, None] * log_prob - value).mean(-1) - self.log_prob(batch, flat).mean(
            -1
        )
        return torch.stack([loss, log_prob.mean(-1)])

    def states_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the squared error of both Z, summed, and their mean, (2, seeds)."""
        z = self.z(batch.obs, flat)
        return torch.stack([(z - constants["z"][:, None]).square().mean(-1).sum(-1), z.mean((1, 2))])
