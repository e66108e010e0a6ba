"""BC: behaviour cloning. The policy maximises the likelihood of the data's actions; nothing else is learnt.

The policy is IQL's (tanh mean, one deviation for all states), so that IQL with ``beta`` 0 has BC's gradient.
CORL's BC regresses a deterministic policy instead; the mean is fitted by the same squared error up to the
weight that the learnt deviation gives each component.
"""

from __future__ import annotations

import torch
from torch import Tensor

from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.template import Draw, Offline, Values
from o2obench.kit.networks import Mlp
from o2obench.kit.policies import Gaussian
from o2obench.kit.replay import Batch


class Bc(Offline[OfflineConfig]):
    """The actor alone."""

    Config = OfflineConfig
    provides = ("actor",)
    order = ("actor",)

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return IQL's policy."""
        return Gaussian(act_dim)

    def networks(self) -> dict[str, Mlp]:
        """Return the actor."""
        return {"actor": self.new_actor()}

    def draws(self) -> dict[str, Draw]:
        """Draw nothing."""
        return {}

    def constants(self, batch: Batch, draws: Values) -> Values:
        """There are none."""
        return {}

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the mean of -log pi of the data's actions, and that of log pi, (2, seeds)."""
        log_prob = self.log_prob(batch, flat).mean(-1)
        return torch.stack([-log_prob, log_prob])
