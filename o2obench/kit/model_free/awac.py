"""The losses of AWAC, advantage-weighted actor-critic (Nair et al. 2020, arXiv:2006.09359).

Twin critics learn the policy's own values (r + gamma min Q'(s', a'), a' of the policy, no entropy); the
policy is fitted to the batch's actions with weights exp(A / lambda), at most 100, A = min Q(s, a) - min
Q(s, a~) with one a~ of the policy (section 4, eq. 13).

As CORL has it: the weights are not normalised over the batch, three hidden layers, a normal around the
outputs themselves with one deviation for all states, actions cut to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Generic, TypeVar

from pydantic import Field
from torch import Tensor

from ..options import Widths
from ..policies import Gaussian
from ..replay import Batch
from .config import OffPolicyConfig
from .template import ACTIONS, OffPolicy, Values


class AwacOptions(OffPolicyConfig):
    """Options of the losses; the defaults are those of locomotion."""

    hidden_dims: Widths = (256, 256, 256)
    awac_lambda: Annotated[float, Field(gt=0)] = 0.3333
    """Temperature of the policy's weights."""


C = TypeVar("C", bound=AwacOptions)


class AdvantageWeighted(OffPolicy[C], Generic[C]):
    """Critics, then the actor, with the critics just updated."""

    order = ("critics", "actor")
    entropy_in_target = False
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OffPolicy.metrics,
        "actor": ("actor/loss", "actor/weight"),
    }

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return a normal around the outputs."""
        return Gaussian(act_dim, tanh_mean=False)

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the regression to the batch's actions, (2, seeds)."""
        action, _ = self.sample(batch.obs, draws[ACTIONS])
        q, v = (self.q("critics", batch.obs, a).amin(1) for a in (batch.action, action))
        return self.weighted_regression(flat, batch, (q - v) / self.config.awac_lambda)
