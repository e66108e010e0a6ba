"""The losses of implicit Q-learning (IQL, Kostrikov et al. 2022, arXiv:2110.06169).

V fits an upper expectile of min Q' (eq. 5), Q bootstraps from V (eq. 6), the policy is fitted to the data's
actions with weights exp(beta (Q - V)), at most 100 (eq. 7). Training never asks the policy for an action.
The actor's hidden units may drop out of its loss (0.1 on Adroit); it acts with all of them.

Decided where released codes differ: V(s') and the advantage come from before V's step (CORL; the official
code takes V's step first, both score alike), and the critics' loss is the sum of the two squared errors
(official; CORL halves it, which Adam does not see).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from ..networks import Mlp
from ..options import Share, Weight
from ..policies import Gaussian
from ..replay import Batch
from .config import OffPolicyConfig
from .template import Draw, OffPolicy, Values

DROPOUT = "dropout"


def expectile_error(u: Tensor, expectile: float) -> Tensor:
    """Return |expectile - 1(u < 0)| u^2, like u."""
    return torch.where(u < 0, 1.0 - expectile, expectile) * u.square()


class InSampleOptions(OffPolicyConfig):
    """Options of learning from the data's actions alone."""

    target_critics: None = None
    """Nothing else: targets are the value network's, no subset of critics is drawn."""
    beta: Weight = 3.0
    """Inverse temperature of the policy's weights."""
    actor_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the actor's hidden units left out in training."""


class IqlOptions(InSampleOptions):
    """Options of the losses; the defaults are those of locomotion."""

    expectile: Share = 0.7
    """Expectile of the critics that the value learns; 0.5 is the mean."""


B = TypeVar("B", bound=InSampleOptions)
C = TypeVar("C", bound=IqlOptions)


class InSample(OffPolicy[B], Generic[B]):
    """Value, critics, actor; how the value is learnt is left open (``value_loss``)."""

    provides: ClassVar[tuple[str, ...]] = ("actor", "critics", "value")
    order: tuple[str, ...] = ("value", "critics", "actor")
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OffPolicy.metrics,
        "value": ("value/loss", "value/v"),
        "actor": ("actor/loss", "actor/weight"),
    }

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return a normal around a tanh mean, with one deviation for all states."""
        return Gaussian(act_dim)

    def networks(self) -> dict[str, Mlp]:
        """Add V."""
        return {**super().networks(), "value": self.mlp("value", (), self.task.obs_dim, 1)}

    def draws(self) -> dict[str, Draw]:
        """Draw nothing but the units that drop out: the policy is not asked."""
        if not self.config.actor_dropout:
            return {}
        return {DROPOUT: ("uniform", (self.config.batch_size, sum(self.config.hidden_dims)))}

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return also min Q'(s, a), its advantage and the log of the policy's weights, (seeds, batch)."""
        q = self.q("targets", batch.obs, batch.action).amin(1)
        advantage = q - self.v(batch.obs)
        own = {"q": q, "advantage": advantage, "log_weight": self.config.beta * advantage}
        return {**super().constants(batch, draws), **own}

    def next_value(self, batch: Batch, draws: Values) -> Tensor:
        """Return V(s'), (seeds, batch)."""
        return self.v(batch.next_obs)

    def v(self, obs: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return V, (seeds, batch)."""
        return self.nets["value"](obs, flat).squeeze(-1)

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the regression to the batch's actions, (2, seeds)."""
        return self.weighted_regression(flat, batch, constants["log_weight"], self.dropout(draws))

    def dropout(self, draws: Values) -> Tensor | None:
        """Return what multiplies the actor's hidden units: 0, or 1 / (1 - the share that drops out)."""
        share = self.config.actor_dropout
        return (0.5 * (draws[DROPOUT] + 1.0) >= share).float() / (1.0 - share) if share else None


class ImplicitQ(InSample[C], Generic[C]):
    """Its value is an expectile of the critics'."""

    def value_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the expectile loss |tau - 1(u < 0)| u^2 of u = min Q' - V, and the mean of V, (2, seeds)."""
        v = self.v(batch.obs, flat)
        error = expectile_error(constants["q"] - v, self.config.expectile)
        return torch.stack([error.mean(-1), v.mean(-1)])
