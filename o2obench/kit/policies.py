"""Stochastic policies: what the outputs of an actor mean.

A policy turns an actor's outputs into a mean and a log deviation, both (seeds, n, act_dim), and these into
actions in [-1, 1] and log densities (seeds, n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..agent import Network
from .networks import Mlp, to_array

Distribution = tuple[Tensor, Tensor]
"""Mean and log deviation, each (seeds, n, act_dim)."""
INSIDE = 1.0 - 1e-6
"""Actions are moved so far inside their bounds before tanh is inverted; at a bound it has no value."""


def normal_log_prob(noise: Tensor, log_std: Tensor) -> Tensor:
    """Return the log density of mean + deviation x noise, component by component."""
    return -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)


def tanh_log_slope(raw: Tensor) -> Tensor:
    """Return log(1 - tanh(raw)^2), component by component, without a loss of digits."""
    return 2.0 * (math.log(2.0) - raw - softplus(-2.0 * raw))


@dataclass(frozen=True)
class TanhGaussian:
    """tanh of a normal with a deviation for each state (SAC, arXiv:1812.05905, appendix C)."""

    act_dim: int
    log_std_min: float = -20.0
    log_std_max: float = 2.0

    @property
    def outputs(self) -> int:
        """Outputs that the actor has."""
        return 2 * self.act_dim

    @property
    def free(self) -> int:
        """Parameters that do not depend on the observation."""
        return 0

    def distribution(
        self, actor: Mlp, obs: Tensor, flat: Tensor | None = None, mask: Tensor | None = None
    ) -> Distribution:
        """Return mean and log deviation before tanh, with actor parameters ``flat`` and a mask if given."""
        mean, log_std = actor(obs, flat, mask).chunk(2, -1)
        return mean, log_std.clamp(self.log_std_min, self.log_std_max)

    def sample(self, of: Distribution, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions and their log densities."""
        mean, log_std = of
        raw = mean + log_std.exp() * noise
        # the density first: gradients are added up in the reverse order, and another one rounds otherwise
        log_prob = (normal_log_prob(noise, log_std) - tanh_log_slope(raw)).sum(-1)
        return torch.tanh(raw), log_prob

    def log_prob(self, of: Distribution, action: Tensor) -> Tensor:
        """Return the log density of given actions."""
        mean, log_std = of
        raw = torch.atanh(action.clamp(-INSIDE, INSIDE))
        noise = (raw - mean) * (-log_std).exp()
        return (normal_log_prob(noise, log_std) - tanh_log_slope(raw)).sum(-1)

    def mode(self, of: Distribution) -> Tensor:
        """Return tanh of the mean."""
        return torch.tanh(of[0])

    def network(self, actor: Mlp) -> Network | None:
        """Return the mode as plain arrays: the actor without the outputs for deviations; None with norms."""
        if actor.norm:
            return None
        *hidden, (weight, bias) = actor.layers()
        layers = [*hidden, (weight[..., : self.act_dim], bias[..., : self.act_dim])]
        return Network([(to_array(weight), to_array(bias)) for weight, bias in layers])


@dataclass(frozen=True)
class MomentMatched(TanhGaussian):
    """One tanh-Gaussian for several actors of a seed: mean and variance of the mixture of their normals.

    The actor is a stack with (members,) for each seed (arXiv:2107.00591, section 4.2).
    """

    def distribution(
        self, actor: Mlp, obs: Tensor, flat: Tensor | None = None, mask: Tensor | None = None
    ) -> Distribution:
        """Return mean and log deviation of the mixture before tanh."""
        means, log_stds = super().distribution(actor, obs.unsqueeze(1), flat, mask)
        mean = means.mean(1)
        variance = (means.square() + (2.0 * log_stds).exp()).mean(1) - mean.square()
        least, most = math.exp(2.0 * self.log_std_min), math.exp(2.0 * self.log_std_max)
        return mean, 0.5 * variance.clamp(least, most).log()

    def network(self, actor: Mlp) -> None:
        """Return None: several networks are no single one."""


@dataclass(frozen=True)
class Gaussian:
    """A normal with one deviation for all states, around tanh of the outputs or the outputs themselves.

    IQL (arXiv:2110.06169) has the former, AWAC (arXiv:2006.09359) the latter; TD3 (arXiv:1802.09477) explores
    with a given deviation ``std``. Actions are cut to [-1, 1]; the density is that of the uncut normal.
    """

    act_dim: int
    tanh_mean: bool = True
    std: float | None = None
    log_std_min: float = -20.0
    log_std_max: float = 2.0

    @property
    def outputs(self) -> int:
        """Outputs that the actor has."""
        return self.act_dim

    @property
    def free(self) -> int:
        """Parameters that do not depend on the observation: the log deviations, 0 at first."""
        return self.act_dim if self.std is None else 0

    def distribution(
        self, actor: Mlp, obs: Tensor, flat: Tensor | None = None, mask: Tensor | None = None
    ) -> Distribution:
        """Return mean and log deviation, with actor parameters ``flat`` and a dropout mask if given."""
        outputs = actor(obs, flat, mask)
        mean = torch.tanh(outputs) if self.tanh_mean else outputs
        if self.std is not None:
            return mean, torch.full_like(mean, math.log(self.std))
        log_std = actor.free(flat).unsqueeze(-2).clamp(self.log_std_min, self.log_std_max)
        return mean, log_std.expand_as(mean)

    def sample(self, of: Distribution, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions and the log densities of the uncut ones."""
        mean, log_std = of
        raw = mean + log_std.exp() * noise
        return raw.clamp(-1.0, 1.0), normal_log_prob(noise, log_std).sum(-1)

    def log_prob(self, of: Distribution, action: Tensor) -> Tensor:
        """Return the log density of given actions."""
        mean, log_std = of
        return normal_log_prob((action - mean) * (-log_std).exp(), log_std).sum(-1)

    def mode(self, of: Distribution) -> Tensor:
        """Return the mean, cut to [-1, 1]."""
        return of[0].clamp(-1.0, 1.0)

    def network(self, actor: Mlp) -> Network | None:
        """Return the mode as plain arrays; None where it is cut, not squashed, and with norms."""
        if actor.norm or not self.tanh_mean:
            return None
        return Network([(to_array(weight), to_array(bias)) for weight, bias in actor.layers()])


Policy = TanhGaussian | Gaussian
