"""The Online Decision Transformer (Zheng, Zhang & Grover 2022, arXiv:2202.05607): actions by wanted returns.

A transformer reads the last steps of an episode, (return-to-go, observation, action) each, and gives a
tanh-Gaussian of each step's action. It learns by likelihood, with an entropy whose temperature alpha holds it
at -act_dim (eq. 4, 5):

    loss = - mean log pi(a_t | ..) - alpha x entropy,

on pieces of episodes with the returns that followed. To act it asks for a return: it is told what of it is
left, step by step. There are no values and nothing is bootstrapped.

Decided here: no entropy of steps that are filled up (released code: theirs, too), all episodes of the data
(code: all but the worst). One seed at a time: seeds' episodes end at different times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from ..agent import Config, Task, count
from ..transitions import Array, Transitions
from .lamb import Lamb
from .options import Members, Rate, Size, Weight
from .policies import TanhGaussian
from .torch_agent import TorchModules
from .trajectories import Trajectories, returns_to_go
from .transformer import HALF, LEAST, DecisionTransformer

SMALLEST = 1e-6


class OdtOptions(Config):
    """Options of network and losses."""

    layers: Members = count(4)
    """Blocks of the transformer."""
    heads: Members = count(4)
    """Of its attention."""
    head_dim: Size = count(128)
    """Width of a head; the network is as wide as all heads."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of attention and of what blocks add that is left out in training."""
    context: Size = count(20)
    """Steps of a piece in training."""
    acting_context: Size = count(5)
    """Steps that it looks back on, the present one included, where it acts."""
    batch_size: Size = 256
    """Pieces of a batch."""
    lr: Rate = 1e-4
    """Learning rate of the transformer."""
    weight_decay: Weight = 5e-4
    """Pull of its weights to 0."""
    warmup_updates: Size = 10_000
    """Updates over which the rate rises to ``lr``, offline ones included."""
    max_grad_norm: Rate = 0.25
    """A longer gradient is shortened to it."""
    alpha: Rate = 0.1
    """First temperature of the entropy; its rate is 1e-4."""
    reward_scale: Rate = 0.001
    """Of returns-to-go."""
    wanted_return: float | None = None
    """The return that is asked for in evaluation, raw; null: that of the best offline episode."""


C = TypeVar("C", bound=OdtOptions)


class DecisionAgent(TorchModules[C], Generic[C]):
    """Learns a transformer on pieces of episodes, and acts by a wanted return."""

    provides = ("transformer",)

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.trajectories = Trajectories(data)
        self.to_go = np.zeros(len(self.replay.rows), np.float32)
        if len(data):
            self.to_go[: len(data)] = returns_to_go(data.reward, self.trajectories.ranges)
            self.obs_mean.copy_(torch.from_numpy(data.obs.mean(0, dtype=np.float64)))
            self.obs_std.copy_(torch.from_numpy(data.obs.std(0, dtype=np.float64) + SMALLEST))
            self.best_return.fill_(float(self.to_go[self.trajectories.ranges[:, 0]].max()))

    def build(self) -> None:
        """Make the transformer, the temperature and their optimisers."""
        task, config, device = self.task, self.config, self.task.device
        shape = (config.heads * config.head_dim, config.layers, config.heads, config.dropout)
        self.net = DecisionTransformer(task.obs_dim, task.act_dim, *shape).to(device)
        self.log_alpha = nn.Parameter(torch.tensor(np.log(config.alpha), dtype=torch.float32, device=device))
        self.optimiser = Lamb(self.net.parameters(), config.lr, config.weight_decay)
        self.alpha_optimiser = torch.optim.Adam([self.log_alpha], lr=1e-4)
        self.obs_mean, self.obs_std = (of(task.obs_dim, device=device) for of in (torch.zeros, torch.ones))
        self.best_return, self.taken = (torch.zeros((), device=device) for _ in range(2))
        """Of the best offline episode; updates so far, those of the pretraining among them."""
        self.head = TanhGaussian(task.act_dim, LEAST, LEAST + 2.0 * HALF)

    # ---- learning ---------------------------------------------------------------------------------------

    def learn(self) -> Mapping[str, Tensor]:
        """Do one update on pieces of the episodes."""
        uniform = torch.rand(self.config.batch_size, dtype=torch.float64)
        rows, valid = self.trajectories.pieces(uniform, self.config.context)
        to_go = torch.from_numpy(self.to_go[rows.numpy()]).to(self.task.device)
        rows, valid = rows.to(self.task.device), valid.to(self.task.device)
        self.net.train()
        loss, entropy = self.losses(rows, to_go, valid)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.lr * min(1.0, (float(self.taken) + 1.0) / self.config.warmup_updates)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.config.max_grad_norm)
        self.optimiser.step()
        alpha_loss = self.log_alpha.exp() * (entropy.detach() + self.task.act_dim)
        self.alpha_optimiser.zero_grad()
        alpha_loss.backward()
        self.alpha_optimiser.step()
        self.taken += 1.0
        return {"actor/loss": loss, "actor/entropy": entropy, "alpha/alpha": self.log_alpha.exp()}

    def losses(self, rows: Tensor, to_go: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of pieces, (n, steps) each, and the entropy in it."""
        batch = self.replay.unpack(self.replay.rows[rows])
        of = self._distribution(to_go, batch.obs, batch.action, valid)
        log_prob = self.head.log_prob(of, batch.action)[valid].mean()
        _, of_sample = self.head.sample(of, torch.randn_like(of[0]))
        entropy = -of_sample[valid].mean()
        return -log_prob - self.log_alpha.exp().detach() * entropy, entropy

    def _distribution(
        self, to_go: Tensor, obs: Tensor, action: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log deviation of each step's action, of raw returns-to-go and observations."""
        standard = (obs - self.obs_mean) / self.obs_std
        found: tuple[Tensor, Tensor] = self.net(
            self.config.reward_scale * to_go[..., None], standard, action, valid
        )
        return found

    # ---- acting -----------------------------------------------------------------------------------------

    def wanted(self, explore: bool) -> float:
        """Return the return that is asked for."""
        asked = self.config.wanted_return
        return float(self.best_return) if asked is None else asked

    @torch.no_grad()
    def decide(self, to_go: Tensor, obs: Tensor, action: Tensor, explore: bool) -> Tensor:
        """Return the actions (n, act_dim) of the last of some steps of n episodes.

        ``to_go`` (n, steps), ``obs`` (n, steps, obs_dim) raw, ``action`` (n, steps - 1, act_dim).
        """
        action = torch.cat([action, torch.zeros_like(obs[:, :1, : self.task.act_dim])], 1)
        to_go, obs, action = (x[:, -self.config.acting_context :] for x in (to_go, obs, action))
        self.net.eval()
        of = self._distribution(to_go, obs, action, torch.ones_like(to_go, dtype=torch.bool))
        mean, log_std = (x[:, -1] for x in of)
        return torch.tanh(mean + log_std.exp() * torch.randn_like(mean)) if explore else torch.tanh(mean)

    def action(self, obs: Tensor, explore: bool) -> Tensor:
        """Return the actions of an episode's first step."""
        to_go = torch.full_like(obs[:, :1], self.wanted(explore))
        return self.decide(to_go, obs[:, None], obs[:, :0, None].expand(-1, -1, self.task.act_dim), explore)

    def player(self) -> OdtPlayer:
        """Return the policy that is evaluated, at the beginning of episodes."""
        return OdtPlayer(self)


class OdtPlayer:
    """Plays episodes side by side: keeps their last steps, and what is left of the wanted return."""

    def __init__(self, agent: DecisionAgent[Any]) -> None:
        self.agent = agent
        self.steps: list[tuple[Tensor, ...]] = []
        """Return-to-go (n, 1), observation (n, 1, obs_dim) and action (n, 1, act_dim) of past steps."""
        self.left: Tensor | None = None

    def __call__(self, obs: Array) -> Array:
        """Return the next actions (1, n, act_dim)."""
        now = torch.from_numpy(np.array(obs[0], np.float32)).to(self.agent.task.device)[:, None]
        if self.left is None:
            self.left = torch.full_like(now[:, 0, :1], self.agent.wanted(explore=False))
        before = [torch.cat(parts, 1) for parts in zip(*self.steps, strict=True)]
        to_go, past, done = before or (self.left[:, :0], now[:, :0], self._nothing(now))
        to_go, past = torch.cat([to_go, self.left], 1), torch.cat([past, now], 1)
        action = self.agent.decide(to_go, past, done, explore=False)
        self.steps = [*self.steps, (self.left, now, action[:, None])][-self.agent.config.acting_context :]
        return action.clamp(-1.0, 1.0)[None].cpu().numpy()

    def observe(self, reward: Array) -> None:
        """Subtract the rewards (1, n) from what is wanted."""
        if self.left is not None:
            self.left = self.left - torch.from_numpy(np.array(reward[0], np.float32)).to(self.left)[:, None]

    def _nothing(self, obs: Tensor) -> Tensor:
        return torch.zeros((len(obs), 0, self.agent.task.act_dim), device=obs.device)
