"""Soft actor-critic (arXiv:1812.05905) over a pack of seeds.

Numbers and details follow OfflineRL-Kit, the reference of the model-based family: twin critics, soft
backup, mean squared error per critic, a tanh-Gaussian actor whose log deviation is clamped to [-5, 2],
a learnt temperature clamped to at most 1, targets that follow after every update.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..agent import State
from .nets import Adam, Mlp, gradients, to_array
from .replay import Batch

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


@dataclass(frozen=True)
class SacOptions:
    """What SAC needs to know; learning rates are given at each update."""

    hidden: tuple[int, ...]
    gamma: float
    tau: float
    target_entropy: float


class Sac:
    """Actor, critics, their targets and the temperature of each seed."""

    def __init__(
        self, seeds: tuple[int, ...], obs_dim: int, act_dim: int, options: SacOptions, device: str
    ) -> None:
        self.options, self.act_dim = options, act_dim
        actor_sizes = (obs_dim, *options.hidden, 2 * act_dim)
        critic_sizes = (obs_dim + act_dim, *options.hidden, 1)
        self.actor = Mlp("actor", seeds, (), actor_sizes, torch.relu, device)
        self.critics = Mlp("critics", seeds, (2,), critic_sizes, torch.relu, device)
        self.targets = Mlp("critics", seeds, (2,), critic_sizes, torch.relu, device)
        self.log_alpha = torch.zeros(len(seeds), device=device, requires_grad=True)
        self.new_optimisers()

    def new_optimisers(self) -> None:
        """Forget all moments, as at the hand-over from offline to online."""
        self.actor_adam = Adam(self.actor.parameters())
        self.critic_adam = Adam(self.critics.parameters())
        self.alpha_adam = Adam([self.log_alpha])

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Return actions (seeds, n, act_dim) for obs (seeds, n, obs_dim); without noise tanh(mean)."""
        mean, log_std = self._gaussian(obs)
        return torch.tanh(mean if noise is None else mean + log_std.exp() * noise)

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions and their log densities (seeds, batch)."""
        mean, log_std = self._gaussian(obs)
        raw = mean + log_std.exp() * noise
        normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        squash = 2.0 * (math.log(2.0) - raw - torch.nn.functional.softplus(-2.0 * raw))
        return torch.tanh(raw), (normal - squash).sum(-1)

    def q(self, critics: Mlp, obs: Tensor, action: Tensor) -> Tensor:
        """Return the values of both critics, (seeds, 2, batch)."""
        return critics(torch.cat([obs, action], -1).unsqueeze(1)).squeeze(-1)

    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Return r + gamma (1 - terminated) (min Q' - alpha log pi), (seeds, batch)."""
        action, log_prob = self.sample(batch.next_obs, noise)
        value = self.q(self.targets, batch.next_obs, action).amin(1) - self.alpha()[:, None] * log_prob
        return batch.reward + self.options.gamma * (1.0 - batch.terminated) * value

    def alpha(self) -> Tensor:
        """Return the temperature of each seed, at most 1."""
        return self.log_alpha.detach().exp().clamp(max=1.0)

    def update(self, batch: Batch, noise: Tensor, rates: tuple[float, float, float]) -> Tensor:
        """Do one update with noise (seeds, 2, batch, act_dim) and rates (actor, critics, temperature).

        Returns (4, seeds): critic loss, actor loss, mean Q, temperature; still on the device.
        """
        actor_rate, critic_rate, alpha_rate = rates
        y = self.target(batch, noise[:, 1])
        q = self.q(self.critics, batch.obs, batch.action)
        critic_loss = (q - y[:, None]).square().mean(-1).sum(-1)
        self.critic_adam.step(gradients(critic_loss.sum(), self.critics.parameters()), critic_rate)

        action, log_prob = self.sample(batch.obs, noise[:, 0])
        value = self.q(self.critics, batch.obs, action).amin(1)
        alpha = self.alpha()
        actor_loss = (alpha[:, None] * log_prob - value).mean(-1)
        self.actor_adam.step(gradients(actor_loss.sum(), self.actor.parameters()), actor_rate)

        surplus = log_prob.detach().mean(-1) + self.options.target_entropy
        self.alpha_adam.step(gradients(-(self.log_alpha * surplus).sum(), [self.log_alpha]), alpha_rate)
        self.targets.follow(self.critics, self.options.tau)
        return torch.stack([critic_loss.detach(), actor_loss.detach(), q.detach().mean((1, 2)), alpha])

    def _gaussian(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(obs).chunk(2, -1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def networks(self) -> State:
        """Return what a hand-over carries: networks and temperature, without moments."""
        return {
            "actor": self.actor.state_dict(),
            "critics": self.critics.state_dict(),
            "targets": self.targets.state_dict(),
            "log_alpha": to_array(self.log_alpha),
        }

    def load_networks(self, state: State) -> None:
        """Take networks and temperature over."""
        self.actor.load_state_dict(state["actor"])
        self.critics.load_state_dict(state["critics"])
        self.targets.load_state_dict(state["targets"])
        with torch.no_grad():
            self.log_alpha.copy_(torch.from_numpy(state["log_alpha"]))

    def state_dict(self) -> State:
        """Return networks and optimisers."""
        return {
            **self.networks(),
            "actor_adam": self.actor_adam.state_dict(),
            "critic_adam": self.critic_adam.state_dict(),
            "alpha_adam": self.alpha_adam.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take networks and optimisers back."""
        self.load_networks(state)
        self.actor_adam.load_state_dict(state["actor_adam"])
        self.critic_adam.load_state_dict(state["critic_adam"])
        self.alpha_adam.load_state_dict(state["alpha_adam"])
