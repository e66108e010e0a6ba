"""Soft actor-critic (arXiv:1812.05905) over a seed batch.

Numbers and details follow OfflineRL-Kit, the reference of the model-based family: twin critics, soft
backup, mean squared error per critic, a tanh-Gaussian actor whose log deviation is clamped to [-5, 2],
a learnt temperature clamped to at most 1, targets that follow after every update.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..agent import Config, Metrics, Network, State, stack_seeds
from ..util.rng import Stream
from .compile import Repeat, compiled
from .networks import Adam, Mlp, gradients, to_array
from .options import Share, Size, Widths
from .policies import TanhGaussian
from .replay import Batch, Replay
from .rng import Streams

VERSION = 2
"""Raise it whenever the numbers that the learner computes change."""
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0

Rates = tuple[float, float, float]
"""Learning rates of actor, critics and temperature."""


class SacOptions(Config):
    """Options of the learner; learning rates are given at each update."""

    hidden_dims: Widths = (256, 256)
    """Widths of the hidden layers of actor and critics."""
    batch_size: Size = 256
    """Transitions of a batch."""
    gamma: Share = 0.99
    """Discount."""
    tau: Share = 0.005
    """Share of the critics that the targets take over in each update."""
    target_entropy: float | None = None
    """null: minus the number of action components."""


class Sac:
    """Actor, critics, their targets and the temperature of each seed."""

    def __init__(
        self, seeds: tuple[int, ...], obs_dim: int, act_dim: int, options: SacOptions, device: str
    ) -> None:
        self.options, self.act_dim = options, act_dim
        self.policy = TanhGaussian(act_dim, LOG_STD_MIN, LOG_STD_MAX)
        entropy = options.target_entropy
        self.target_entropy = -float(act_dim) if entropy is None else entropy
        actor_sizes = (obs_dim, *options.hidden_dims, self.policy.outputs)
        critic_sizes = (obs_dim + act_dim, *options.hidden_dims, 1)
        self.actor = Mlp(Stream.ACTOR, seeds, (), actor_sizes, torch.relu, device)
        self.critics = Mlp(Stream.CRITICS, seeds, (2,), critic_sizes, torch.relu, device)
        self.targets = Mlp(Stream.CRITICS, seeds, (2,), critic_sizes, torch.relu, device)
        self.log_alpha = torch.zeros(len(seeds), device=device)
        self.losses = torch.zeros((4, len(seeds)), device=device)
        """Sums over updates since they were last read: critic loss, actor loss, mean Q, temperature."""
        self.actor_adam = Adam([self.actor.flat])
        self.critic_adam = Adam([self.critics.flat])
        self.alpha_adam = Adam([self.log_alpha])
        self._update, self._repeat = compiled(self.update), Repeat(self._one)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Return actions (seeds, n, act_dim) for obs (seeds, n, obs_dim); without noise tanh(mean)."""
        of = self.policy.distribution(self.actor, obs)
        return self.policy.mode(of) if noise is None else torch.tanh(of[0] + of[1].exp() * noise)

    def sample(self, obs: Tensor, noise: Tensor, flat: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return actions and their log densities (seeds, batch), with actor parameters ``flat`` if given."""
        return self.policy.sample(self.policy.distribution(self.actor, obs, flat), noise)

    def q(self, critics: Mlp, obs: Tensor, action: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return the values of both critics, (seeds, 2, batch), with parameters ``flat`` if given."""
        return critics(torch.cat([obs, action], -1).unsqueeze(1), flat).squeeze(-1)

    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Return r + gamma (1 - terminated) (min Q' - alpha log pi), (seeds, batch)."""
        action, log_prob = self.sample(batch.next_obs, noise)
        value = self.q(self.targets, batch.next_obs, action).amin(1) - self.alpha()[:, None] * log_prob
        return batch.reward + self.options.gamma * (1.0 - batch.terminated) * value

    def alpha(self) -> Tensor:
        """Return the temperature of each seed, at most 1."""
        return self.log_alpha.exp().clamp(max=1.0)

    def noise(self, streams: Streams, updates: int) -> Tensor:
        """Draw what ``learn`` needs for so many updates, (updates, seeds, 2, batch, act_dim)."""
        drawn = streams.normal(Stream.SAC_NOISE, updates, 2, self.options.batch_size, self.act_dim)
        return drawn.movedim(1, 0)

    def learn(self, replay: Replay, index: Tensor, noise: Tensor, rates: Sequence[Rates]) -> None:
        """Do as many updates as there are rates.

        ``index`` (updates, seeds, batch) are row numbers, ``noise`` is as ``noise`` draws it; the losses are
        added up in ``losses``.
        """
        actor, critics, alpha = zip(*rates, strict=True)
        schedules = (
            self.actor_adam.schedule(actor),
            self.critic_adam.schedule(critics),
            self.alpha_adam.schedule(alpha),
        )
        self._repeat(replay, index, noise, torch.stack(schedules, 1))

    def _one(self, replay: Replay, index: Tensor, noise: Tensor, scales: Tensor) -> None:
        self.losses += self._update(replay.take(index), noise, scales)

    def update(self, batch: Batch, noise: Tensor, scales: Tensor) -> Tensor:
        """Do one update: a function of this object's tensors, a batch, its noise and its step sizes.

        ``noise`` is (seeds, 2, batch, act_dim), ``scales`` (3, seeds, 2) what Adam's schedules say for
        actor, critics and temperature. Returns (4, seeds): critic loss, actor loss, mean Q, temperature.
        """
        y = self.target(batch, noise[:, 1])

        def critic_loss(critics: Tensor) -> tuple[Tensor, Tensor]:
            q = self.q(self.critics, batch.obs, batch.action, critics)
            loss = (q - y[:, None]).square().mean(-1).sum(-1)
            return loss.sum(), torch.stack([loss, q.mean((1, 2))])

        grads, (critic_report, q_report) = gradients(critic_loss, [self.critics.flat])
        self.critic_adam.step(grads, scales[1])

        alpha = self.alpha()

        def actor_loss(actor: Tensor) -> tuple[Tensor, Tensor]:
            action, log_prob = self.sample(batch.obs, noise[:, 0], actor)
            value = self.q(self.critics, batch.obs, action).amin(1)
            loss = (alpha[:, None] * log_prob - value).mean(-1)
            return loss.sum(), torch.stack([loss, log_prob.mean(-1)])

        grads, (actor_report, log_prob) = gradients(actor_loss, [self.actor.flat])
        self.actor_adam.step(grads, scales[0])

        # the loss of the temperature is -log_alpha (log pi + target entropy)
        self.alpha_adam.step([-(log_prob + self.target_entropy)], scales[2])
        self.targets.follow(self.critics, self.options.tau)
        return torch.stack([critic_report, actor_report, q_report, alpha])

    def report(self, updates: int) -> Metrics:
        """Read the losses from the device, means over the last ``updates``, and start new sums."""
        critic, actor, q, alpha = to_array(self.losses / updates)
        self.losses.zero_()
        return {"sac/critic_loss": critic, "sac/actor_loss": actor, "sac/q": q, "sac/alpha": alpha}

    def forget(self) -> None:
        """Start the optimisers afresh."""
        for adam in (self.actor_adam, self.critic_adam, self.alpha_adam):
            adam.forget()

    def network(self) -> Network | None:
        """Return the mean action as plain arrays: the actor without the outputs for deviations."""
        return self.policy.network(self.actor)

    def networks(self) -> State:
        """Return what a warm start carries: networks and temperature, without moments."""
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
        self.log_alpha.copy_(torch.from_numpy(state["log_alpha"]))

    def state_dict(self) -> State:
        """Return networks, optimisers and the sums of losses."""
        return {
            **self.networks(),
            "losses": to_array(self.losses.T),
            "actor_adam": self.actor_adam.state_dict(),
            "critic_adam": self.critic_adam.state_dict(),
            "alpha_adam": self.alpha_adam.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take networks, optimisers and the sums of losses back."""
        self.load_networks(state)
        self.losses.copy_(torch.from_numpy(state["losses"]).T)
        self.actor_adam.load_state_dict(state["actor_adam"])
        self.critic_adam.load_state_dict(state["critic_adam"])
        self.alpha_adam.load_state_dict(state["alpha_adam"])


class SacPolicy:
    """What agents have in common whose evaluation policy is the mean of a SAC learner's actor."""

    sac: Sac

    def policy(self) -> State:
        """Return the actor."""
        return {"actor": self.sac.actor.state_dict()}

    def load_policy(self, policy: State) -> None:
        """Take an actor over."""
        self.sac.actor.load_state_dict(policy["actor"])

    def network(self) -> Network | None:
        """Return the actor as plain arrays."""
        return self.sac.network()

    def warm_start(self, states: Sequence[State]) -> None:
        """Take over the networks and temperatures of pretrained states."""
        self.sac.load_networks(stack_seeds(states)["sac"])
