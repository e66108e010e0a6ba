"""The losses of TD3+BC (Fujimoto and Gu 2021, arXiv:2106.06860); without its regression, those of TD3.

A deterministic policy climbs the first critic's value, divided by its mean absolute value over the batch and
multiplied by ``td3_alpha``, and is held to the batch's actions by a squared error (eq. 3, 5). Targets: the
least of the critics at the target policy's action, smoothed by clipped noise (TD3, arXiv:1802.09477, section
5.3). Policy and targets move in every second update.

It explores with normal noise of deviation 0.1, not clipped (CORL's SPOT and OPT clip it at 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from ...agent import later
from ..networks import Mlp
from ..options import Size, Weight
from ..policies import Gaussian
from ..replay import Batch
from .config import OffPolicyConfig
from .template import ACTIONS, NEXT_ACTIONS, Draw, OffPolicy, Values


class Td3Options(OffPolicyConfig):
    """Options of the losses; the defaults are those of locomotion."""

    td3_alpha: Weight = 2.5
    """Weight of the normalised value."""
    bc_weight: Weight = 1.0
    """Weight of the squared error to the batch's actions; 0 is TD3."""
    policy_noise: Weight = 0.2
    """Deviation of the noise on the target's action."""
    noise_clip: Weight = 0.5
    """The most of that noise, either way."""
    policy_every: Size = 2
    """Updates of the critics for one of the policy and all targets."""
    actor_value: Literal["first", "min", "mean"] = later("first")
    """What the actor climbs: the value of the first critic, the least of all, or their mean."""


C = TypeVar("C", bound=Td3Options)


class Td3(OffPolicy[C], Generic[C]):
    """Critics, and a deterministic actor with a target of its own."""

    order: tuple[str, ...] = ("critics", "actor")
    followers: ClassVar[Mapping[str, str]] = {"targets": "critics", "target actor": "actor"}
    entropy_in_target = False
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OffPolicy.metrics,
        "actor": ("actor/loss", "actor/bc"),
    }

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return tanh of the outputs; exploring adds noise."""
        return Gaussian(act_dim, std=0.1)

    def networks(self) -> dict[str, Mlp]:
        """Add the target policy."""
        return {**super().networks(), "target actor": self.new_actor()}

    def every(self) -> dict[str, int]:
        """Delay the policy and all targets."""
        return dict.fromkeys(("actor", "targets", "target actor"), self.config.policy_every)

    def draws(self) -> dict[str, Draw]:
        """Draw the noise of the target policy."""
        draws = super().draws()
        return {name: draws[name] for name in draws if name != ACTIONS}

    def target_action(self, batch: Batch, draws: Values) -> Tensor:
        """Return the target policy's action at the next obs, with clipped noise, (seeds, batch, act_dim)."""
        noise = self.config.policy_noise * draws[NEXT_ACTIONS]
        noise = noise.clamp(-self.config.noise_clip, self.config.noise_clip)
        return (torch.tanh(self.nets["target actor"](batch.next_obs)) + noise).clamp(-1.0, 1.0)

    def next_value(self, batch: Batch, draws: Values) -> Tensor:
        """Return the least target value at the target policy's action, (seeds, batch)."""
        return self.target_value(batch.next_obs, self.target_action(batch, draws), draws)

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return -td3_alpha Q / mean |Q| + bc_weight x ``distance``, means over the batch, and the latter."""
        action = torch.tanh(self.nets["actor"](batch.obs, flat))
        q = self.actor_value(self.q("critics", batch.obs, action))
        scale = self.config.td3_alpha / q.detach().abs().mean(-1)
        distance = self.distance(action, batch, draws)
        return torch.stack([self.bc_weight() * distance - scale * q.mean(-1), distance])

    def actor_value(self, q: Tensor) -> Tensor:
        """Return what the actor climbs, (seeds, batch), as the option says."""
        which = self.config.actor_value
        return q[:, 0] if which == "first" else q.amin(1) if which == "min" else q.mean(1)

    def bc_weight(self) -> Tensor | float:
        """Return the weight of the distance now, for all seeds or for each (seeds,)."""
        return self.config.bc_weight

    def distance(self, action: Tensor, batch: Batch, draws: Values) -> Tensor:
        """Return how far the policy's actions (seeds, batch, act_dim) are from the data, (seeds,).

        The squared error to the batch's actions, a mean over components, too.
        """
        return (action - batch.action).square().mean((1, 2))
