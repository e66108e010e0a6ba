"""A variational autoencoder as a density of actions (SPOT), or of observations and actions (SUNG).

Its negative evidence bound is low where the data are dense: the mean squared error of what it rebuilds plus
``kl_weight`` times the divergence of its latent from a standard normal, both means over components
(arXiv:2202.06239, eq. 11; released code). Encoder and decoder are one part, ``density``, with one optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from ...agent import count
from ..networks import Mlp
from ..options import Count, Rate, Weight, Widths
from ..replay import Batch
from .config import OffPolicyConfig
from .template import Draw, OffPolicy, Values

DENSITY = "density"
"""The part, and the stage in which it learns."""
ENCODER, DECODER, LATENT = "encoder", "decoder", "latent"
LOG_STD_MIN, LOG_STD_MAX = -4.0, 15.0


class DensityOptions(OffPolicyConfig):
    """Options of the density."""

    density_updates: Count = count(100_000)
    """Updates of the density in its stage."""
    density_hidden_dims: Widths = (750, 750)
    """Widths of encoder and decoder."""
    density_lr: Rate = 1e-3
    """Its learning rate."""
    kl_weight: Weight = 0.5
    """Weight of the latent's divergence."""


C = TypeVar("C", bound=DensityOptions)


class HasDensity(OffPolicy[C], Generic[C]):
    """Adds encoder and decoder to a method's networks. ``of_obs``: whether observations are rebuilt, too."""

    of_obs: ClassVar[bool] = False
    joint: ClassVar[Mapping[str, tuple[str, ...]]] = {DENSITY: (ENCODER, DECODER)}
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OffPolicy.metrics,
        DENSITY: ("density/loss", "density/error"),
    }

    def networks(self) -> dict[str, Mlp]:
        """Add an encoder of (obs, action) and a decoder with twice as many latents as action components."""
        obs_dim, act_dim = self.task.obs_dim, self.task.act_dim
        latents, hidden = 2 * act_dim, self.config.density_hidden_dims
        given, rebuilt = (0, obs_dim + act_dim) if self.of_obs else (obs_dim, act_dim)
        encoder = self.mlp(ENCODER, (), obs_dim + act_dim, 2 * latents, hidden=hidden)
        decoder = self.mlp(DECODER, (), given + latents, rebuilt, hidden=hidden)
        return {**super().networks(), ENCODER: encoder, DECODER: decoder}

    def parts_of(self, stage: str) -> Sequence[str]:
        """Let the density learn in its stage, the others in theirs."""
        return [name for name in super().parts_of(stage) if (name == DENSITY) == (stage == DENSITY)]

    def draws(self) -> dict[str, Draw]:
        """Draw a latent for each transition, and what the other parts need outside the density's stage."""
        latent: Draw = ("normal", (self.config.batch_size, 2 * self.task.act_dim))
        return {LATENT: latent} if self.stage == DENSITY else {**super().draws(), LATENT: latent}

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return nothing in the density's stage, else what the other parts need."""
        return {} if self.stage == DENSITY else super().constants(batch, draws)

    def rates(self, update: int) -> dict[str, float]:
        """Give the density its own rate."""
        rates = super().rates(update)
        return {**rates, DENSITY: self.config.density_lr} if DENSITY in rates else rates

    def negative_bound(
        self, obs: Tensor, action: Tensor, noise: Tensor, flat: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the negative evidence bound of (obs, action), and the error in it, (seeds, batch) each.

        ``noise`` (seeds, batch, latents) makes one latent of each.
        """
        of_encoder, of_decoder = self.parted(DENSITY, flat)
        pair = torch.cat([obs, action], -1)
        mean, log_std = self.nets[ENCODER](pair, of_encoder).chunk(2, -1)
        log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        latent = mean + log_std.exp() * noise
        given, target = (latent, pair) if self.of_obs else (torch.cat([obs, latent], -1), action)
        error = (torch.tanh(self.nets[DECODER](given, of_decoder)) - target).square().mean(-1)
        divergence = -0.5 * (1.0 + 2.0 * log_std - mean.square() - (2.0 * log_std).exp()).mean(-1)
        return error + self.config.kl_weight * divergence, error

    def density_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the means of the negative bound and of the error in it, (2, seeds)."""
        bound, error = self.negative_bound(batch.obs, batch.action, draws[LATENT], flat)
        return torch.stack([bound.mean(-1), error.mean(-1)])
