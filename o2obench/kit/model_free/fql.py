"""The losses of FQL, flow Q-learning (Park et al. 2025, arXiv:2502.02538): a flow, and a one-step policy.

A flow model of the data's actions learns the velocity from noise z to an action a along the straight line
between them: v(s, (1 - t) z + t a, t) is fitted to a - z, t uniform. The policy mu(s, z) takes noise to an
action in one step; it climbs the mean of the critics and is held to where the flow takes the same noise in
``flow_steps`` Euler steps, by ``flow_alpha`` times the squared error (eq. 8). Critics bootstrap from mu at
the next observation, with fresh noise; their values are averaged, not minimised.

Evaluation takes z = 0 (released code: fresh noise), since what is evaluated here is a function of the
observation. Four hidden layers of 512 with GELU; critics have layer norms, after the activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from ...util.rng import Stream
from ..networks import Mlp
from ..options import Normed, Size, Weight, Widths
from ..policies import Gaussian
from ..replay import Batch
from .config import OffPolicyConfig
from .template import ACTIONS, NEXT_ACTIONS, Draw, OffPolicy, Values

FLOW, FLOW_NOISE, FLOW_TIME = "flow", "flow noise", "flow time"


class FqlOptions(OffPolicyConfig):
    """Options of the losses; on locomotion nothing is published."""

    target_critics: None = None
    """Nothing else: targets are the mean of all critics."""
    hidden_dims: Widths = (512, 512, 512, 512)
    layer_norm: Normed = "critics"
    init: Literal["uniform", "orthogonal", "xavier"] = "xavier"
    flow_alpha: Weight = 10.0
    """Weight of the squared distance from the flow's action."""
    flow_steps: Size = 10
    """Euler steps in which the flow takes noise to an action."""
    normalize_q: bool = True
    """Whether the value that the policy climbs is divided by its mean absolute value over the batch."""


C = TypeVar("C", bound=FqlOptions)


class Flow(OffPolicy[C], Generic[C]):
    """Critics, a flow model of the data's actions, and a policy that takes noise to actions."""

    order = ("critics", FLOW, "actor")
    norm_place = "after"
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OffPolicy.metrics,
        FLOW: ("flow/loss", "flow/velocity"),
        "actor": ("actor/loss", "actor/distance"),
    }

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return what has an output for each action component; the noise is an input."""
        return Gaussian(act_dim, std=1.0)

    def networks(self) -> dict[str, Mlp]:
        """Add the velocity of (obs, point, time)."""
        inputs = self.task.obs_dim + self.task.act_dim + 1
        return {**super().networks(), FLOW: self.mlp(FLOW, (), inputs, self.task.act_dim)}

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        """Return GELU."""
        return torch.nn.functional.gelu(x)

    def new_actor(self) -> Mlp:
        """Return a policy of (obs, noise)."""
        return self.mlp(Stream.ACTOR, (), self.task.obs_dim + self.task.act_dim, self.task.act_dim)

    def draws(self) -> dict[str, Draw]:
        """Draw noise for both policies' actions, for the flow's lines, and where on them."""
        batch = self.config.batch_size
        noise: Draw = ("normal", (batch, self.task.act_dim))
        names = (NEXT_ACTIONS, ACTIONS, FLOW_NOISE)
        return {**dict.fromkeys(names, noise), FLOW_TIME: ("uniform", (batch, 1))}

    def one_step(self, obs: Tensor, noise: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return mu(s, z) before it is cut, (seeds, n, act_dim)."""
        return self.nets["actor"](torch.cat([obs, noise], -1), flat)

    def velocity(self, obs: Tensor, point: Tensor, time: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return v(s, x, t), (seeds, n, act_dim); ``time`` is (seeds, n, 1)."""
        return self.nets[FLOW](torch.cat([obs, point, time], -1), flat)

    def flown(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Return where the flow takes noise, cut to [-1, 1], (seeds, n, act_dim)."""
        point, steps = noise, self.config.flow_steps
        for i in range(steps):
            time = torch.full_like(point[..., :1], i / steps)
            point = point + self.velocity(obs, point, time) / steps
        return point.clamp(-1.0, 1.0)

    def next_value(self, batch: Batch, draws: Values) -> Tensor:
        """Return the mean target at the policy's next action, (seeds, batch)."""
        action = self.one_step(batch.next_obs, draws[NEXT_ACTIONS]).clamp(-1.0, 1.0)
        return self.q("targets", batch.next_obs, action).mean(1)

    def flow_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the squared error of the velocity, a mean over components, and its mean size, (2, seeds)."""
        noise, time = draws[FLOW_NOISE], 0.5 * (draws[FLOW_TIME] + 1.0)
        point = (1.0 - time) * noise + time * batch.action
        velocity = self.velocity(batch.obs, point, time, flat)
        error = (velocity - (batch.action - noise)).square()
        return torch.stack([error.mean((1, 2)), velocity.abs().mean((1, 2))])

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return flow_alpha x the squared distance from the flow's action - Q, and the former, (2, seeds)."""
        action = self.one_step(batch.obs, draws[ACTIONS], flat)
        distance = (action - self.flown(batch.obs, draws[ACTIONS])).square().mean((1, 2))
        q = self.q("critics", batch.obs, action.clamp(-1.0, 1.0)).mean(1)
        scale = 1.0 / q.detach().abs().mean(-1) if self.config.normalize_q else 1.0
        return torch.stack([self.config.flow_alpha * distance - scale * q.mean(-1), distance])

    def explore(self, obs: Tensor) -> Tensor:
        """Return the policy's action for fresh noise."""
        noise = self.streams.normal(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim)
        return self.one_step(obs, noise).clamp(-1.0, 1.0)

    def judge(self, obs: Tensor) -> Tensor:
        """Return the policy's action for noise 0."""
        return self.one_step(obs, torch.zeros_like(obs[..., : self.task.act_dim])).clamp(-1.0, 1.0)

    def network(self) -> None:
        """Return None: plain arrays have no GELU."""
