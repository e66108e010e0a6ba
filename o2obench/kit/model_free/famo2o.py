"""The losses of FamO2O (Wang et al. 2023, arXiv:2310.17966) on IQL: a family of policies, and who picks one.

The universal policy pi(a | s, b) is IQL's for every inverse temperature b in [``beta_low``, ``beta_high``] at
once: b enters as six sines and cosines beside the observation and weighs the advantage (eq. 3). The balance
policy says which b a state takes: a squashed normal of its own that climbs min Q' at the universal policy's
action and keeps some entropy (eq. 4), with a temperature that is learnt for an entropy of -0.5.

Offline b is uniform in its range, online it is a sample of the balance policy as it was before the update.
Acting takes the balance's mode, evaluation the mode of both. As in the released code the balance learns in
both stages and its entropy is that of the squashed number before it is stretched to the range. As in ``iql``
V(s') and the advantage come from before V's step, and first weights are torch's (released code: after it, and
orthogonal). ``beta`` has no effect: the range takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from ...util.rng import Stream
from ..networks import Mlp
from ..options import Size, Weight
from ..policies import Gaussian, normal_log_prob, tanh_log_slope
from ..replay import Batch
from .iql import ImplicitQ, IqlOptions
from .template import ACTIONS, Draw, Values

BALANCE, TEMPERATURE, PICKED = "balance", "balance_alpha", "picked balance"
FEATURES, WAVE = 6, 10_000.0
"""Numbers that b enters as; their longest wave."""
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0
TARGET_ENTROPY = -0.5


class FamO2oOptions(IqlOptions):
    """Options of the losses; the defaults are those of locomotion."""

    beta_low: Weight = 1.0
    """The least inverse temperature of the family."""
    beta_high: Weight = 5.0
    """The greatest."""
    balance_every: Size = 5
    """Updates for one of the balance policy and its temperature."""


C = TypeVar("C", bound=FamO2oOptions)


class FamO2o(ImplicitQ[C], Generic[C]):
    """IQL with a policy for every inverse temperature."""

    provides = ("actor", "critics", "value", BALANCE)
    order = ("value", "critics", BALANCE, TEMPERATURE, "actor")
    judged = ("actor", BALANCE)
    picks: ClassVar[bool]
    """Whether the balance policy picks b for the universal policy's regression, or chance does."""
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **ImplicitQ.metrics,
        BALANCE: ("balance/loss", "balance/log_prob", "balance/beta"),
        TEMPERATURE: ("balance_alpha/loss", "balance_alpha/alpha"),
    }

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return IQL's policy, its log deviation at least -5."""
        return Gaussian(act_dim, log_std_min=-5.0)

    def networks(self) -> dict[str, Mlp]:
        """Add the balance policy: a mean, and a deviation for all states."""
        return {**super().networks(), BALANCE: self.mlp(BALANCE, (), self.task.obs_dim, 1, free=1)}

    def new_actor(self) -> Mlp:
        """Return an actor that knows b."""
        policy = self.policy_kind
        return self.mlp(Stream.ACTOR, (), self.task.obs_dim + FEATURES, policy.outputs, policy.free)

    def scalars(self) -> dict[str, float]:
        """Add the logarithm of the balance's temperature."""
        return {**super().scalars(), TEMPERATURE: 0.0}

    def every(self) -> dict[str, int]:
        """Let the balance and its temperature rest in between."""
        return dict.fromkeys((BALANCE, TEMPERATURE), self.config.balance_every)

    def draws(self) -> dict[str, Draw]:
        """Draw b for the regression, and the balance's own sample with the action that follows."""
        batch = self.config.batch_size
        own: dict[str, Draw] = {
            PICKED: ("normal" if self.picks else "uniform", (batch, 1)),
            BALANCE: ("normal", (batch, 1)),
            ACTIONS: ("normal", (batch, self.task.act_dim)),
        }
        return {**super().draws(), **own}

    def stretched(self, x: Tensor) -> Tensor:
        """Return b of a number in [-1, 1]."""
        low, high = self.config.beta_low, self.config.beta_high
        return low + 0.5 * (x + 1.0) * (high - low)

    def with_beta(self, obs: Tensor, beta: Tensor) -> Tensor:
        """Return observations beside the sines and cosines of b (..., 1), (..., obs_dim + 6)."""
        waves = [WAVE ** (-2.0 * i / FEATURES) for i in range(FEATURES // 2)]
        features = [of(beta * wave) for wave in waves for of in (torch.sin, torch.cos)]
        return torch.cat([obs, *features], -1)

    def balanced(self, obs: Tensor, noise: Tensor, flat: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return a sample of the balance policy in [-1, 1], (seeds, batch, 1), and its log density."""
        mean = self.nets[BALANCE](obs, flat)
        log_std = self.nets[BALANCE].free(flat).unsqueeze(-2).clamp(LOG_STD_MIN, LOG_STD_MAX).expand_as(mean)
        raw = mean + log_std.exp() * noise
        return torch.tanh(raw), (normal_log_prob(noise, log_std) - tanh_log_slope(raw)).sum(-1)

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return also b of each transition for the regression, (seeds, batch, 1), and its weights."""
        picked = self.balanced(batch.obs, draws[PICKED])[0] if self.picks else draws[PICKED]
        constants = super().constants(batch, draws)
        beta = self.stretched(picked)
        return {**constants, "beta": beta, "log_weight": beta.squeeze(-1) * constants["advantage"]}

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the regression of the policy that knows b, (2, seeds)."""
        known = batch._replace(obs=self.with_beta(batch.obs, constants["beta"]))
        return super().actor_loss(flat, known, draws, constants)

    def balance_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return temperature x log density - min Q' at the policy's action, log density, b, (3, seeds)."""
        x, log_prob = self.balanced(batch.obs, draws[BALANCE], flat)
        beta = self.stretched(x)
        action, _ = self.sample(self.with_beta(batch.obs, beta), draws[ACTIONS])
        value = self.q("targets", batch.obs, action).amin(1)
        loss = self.parameters[TEMPERATURE].exp()[:, None] * log_prob - value
        return torch.stack([loss.mean(-1), log_prob.mean(-1), beta.mean((1, 2))])

    def balance_alpha_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return temperature x (entropy - its target), and the temperature, (2, seeds)."""
        entropy = -constants[BALANCE][1]
        return torch.stack([flat.exp() * (entropy - TARGET_ENTROPY), flat.exp()])

    def actor_inputs(self, obs: Tensor) -> Tensor:
        """Return observations beside the features of the balance's mode."""
        return self.with_beta(obs, self.stretched(torch.tanh(self.nets[BALANCE](obs))))
