"""EQL, exponential Q-learning (Xu et al. 2023, arXiv:2303.15810), trained offline: IQL with a Gumbel value.

V is the soft maximum of min Q' over the data's actions at temperature 1 / ``beta``: it minimises
exp(z) - z - 1 of z = beta (min Q' - V), at most 7 (eq. 14; extreme Q-learning, arXiv:2301.02328), divided by
the exponential of the batch's largest z, which only keeps the numbers in range. Policy and critics learn as
in IQL. It is the pretraining of ``proto`` (arXiv:2305.15669), whose values these are: temperature 2, layer
norms (not on halfcheetah), batches of raw observations, log deviations of at least -5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.iql import InSample, InSampleOptions
from o2obench.kit.model_free.template import Offline, Values
from o2obench.kit.options import Normed, Weight
from o2obench.kit.policies import Gaussian
from o2obench.kit.replay import Batch

MOST = 7.0
"""Of z: its exponential is the weight of a transition's gradient."""


class EqlOptions(InSampleOptions):
    """Options of the losses; the defaults are those of locomotion."""

    beta: Weight = 0.5
    """Inverse temperature of the value and of the policy's weights."""
    layer_norm: Normed = "all"


class EqlConfig(EqlOptions, OfflineConfig):
    """EQL's options offline."""

    normalize_obs: bool = False
    normalize_reward: bool = True


class Eql(Offline[EqlConfig], InSample[EqlConfig]):
    """Its value is a soft maximum of the critics'."""

    Config = EqlConfig

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return IQL's policy, its log deviation at least -5."""
        return Gaussian(act_dim, log_std_min=-5.0)

    def value_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the Gumbel loss and the mean of V, (2, seeds)."""
        v = self.v(batch.obs, flat)
        z = (self.config.beta * (constants["q"] - v)).clamp(max=MOST)
        scale = z.detach().amax(-1, keepdim=True).clamp(min=-1.0)
        loss = torch.exp(z - scale) - (z + 1.0) * torch.exp(-scale)
        return torch.stack([loss.mean(-1), v.mean(-1)])
