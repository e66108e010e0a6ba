"""The parts of model-based offline RL as the field usually writes them: what the engine is compared with.

Plain eager PyTorch with modules, separate critics, numpy replay buffers, and
rollouts in numpy float64 over all 50,000 transitions at once, after the style of OfflineRL-Kit
(github.com/yihaosun1124/OfflineRL-Kit, MIT; nothing is copied). It computes what the engine computes.
The benchmark checks that this is no straw man: its SAC update has to keep up with Stable-Baselines3's,
its rollout with OfflineRL-Kit's.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

OBS, ACT, BATCH, ROLLOUT, HORIZON = 11, 3, 256, 50_000, 5
REAL = 12
"""Real transitions of a batch; the others come from the model."""


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    """Return two hidden layers of 256."""
    return nn.Sequential(
        nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs)
    )


class Buffer:
    """A numpy replay buffer with one array per column."""

    def __init__(self, size: int) -> None:
        self.columns = {
            name: np.zeros((size, width), np.float32)
            for name, width in (("obs", OBS), ("action", ACT), ("reward", 1), ("next_obs", OBS), ("end", 1))
        }
        self.size, self.head, self.fill = size, 0, 0

    def add(self, rows: dict[str, Any]) -> None:
        """Append rows, the oldest out first."""
        count = len(rows["obs"])
        places = np.arange(self.head, self.head + count) % self.size
        for name, column in self.columns.items():
            column[places] = rows[name]
        self.head, self.fill = (self.head + count) % self.size, min(self.fill + count, self.size)

    def sample(self, count: int) -> dict[str, Tensor]:
        """Return a batch of tensors."""
        rows = np.random.randint(0, self.fill, count)
        return {name: torch.from_numpy(column[rows]) for name, column in self.columns.items()}


class Sac:
    """Soft actor-critic with two critic modules."""

    def __init__(self) -> None:
        self.actor = mlp(OBS, 2 * ACT)
        self.critics = [mlp(OBS + ACT, 1) for _ in range(2)]
        self.targets = [mlp(OBS + ACT, 1) for _ in range(2)]
        for target, critic in zip(self.targets, self.critics, strict=True):
            target.load_state_dict(critic.state_dict())
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=1e-4)
        both = [parameter for critic in self.critics for parameter in critic.parameters()]
        self.critic_adam = torch.optim.Adam(both, lr=3e-4)
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.alpha_adam = torch.optim.Adam([self.log_alpha], lr=1e-4)

    def policy(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return sampled actions and their log densities."""
        mean, log_std = self.actor(obs).chunk(2, -1)
        std = log_std.clamp(-5, 2).exp()
        noise = torch.randn_like(mean)
        action = torch.tanh(mean + std * noise)
        log_prob = -0.5 * noise.square() - std.log() - 0.5 * math.log(2 * math.pi)
        return action, (log_prob - torch.log(1 - action.square() + 1e-6)).sum(-1, keepdim=True)

    def act(self, obs: np.ndarray, sample: bool = False) -> np.ndarray:
        """Return actions for a batch of observations."""
        with torch.no_grad():
            seen = torch.as_tensor(obs, dtype=torch.float32)
            if sample:
                return self.policy(seen)[0].numpy()
            return torch.tanh(self.actor(seen).chunk(2, -1)[0]).numpy()

    def update(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Do one update and read its losses."""
        with torch.no_grad():
            alpha = self.log_alpha.exp().clamp(max=1.0)
            action, log_prob = self.policy(batch["next_obs"])
            after = torch.cat([batch["next_obs"], action], -1)
            value = torch.min(self.targets[0](after), self.targets[1](after)) - alpha * log_prob
            y = batch["reward"] + 0.99 * (1 - batch["end"]) * value
        seen, losses = torch.cat([batch["obs"], batch["action"]], -1), {}
        loss = sum((critic(seen) - y).square().mean() for critic in self.critics)
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()
        losses["critic"] = loss.item()
        action, log_prob = self.policy(batch["obs"])
        chosen = torch.cat([batch["obs"], action], -1)
        loss = (alpha * log_prob - torch.min(self.critics[0](chosen), self.critics[1](chosen))).mean()
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()
        losses["actor"] = loss.item()
        loss = -(self.log_alpha * (log_prob.detach() - ACT)).mean()
        self.alpha_adam.zero_grad()
        loss.backward()
        self.alpha_adam.step()
        losses["alpha"] = loss.item()
        with torch.no_grad():
            for target, critic in zip(self.targets, self.critics, strict=True):
                for mine, theirs in zip(target.parameters(), critic.parameters(), strict=True):
                    mine.mul_(0.995).add_(theirs, alpha=0.005)
        return losses


class Ensemble(nn.Module):
    """Seven Gaussian networks in stacked layers."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (OBS + ACT, 200, 200, 200, 200, 2 * (OBS + 1))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(7, i, o) / (2 * math.sqrt(i))) for i, o in itertools.pairwise(sizes)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(7, 1, o)) for o in sizes[1:])
        self.high = nn.Parameter(torch.full((OBS + 1,), 0.5))
        self.low = nn.Parameter(torch.full((OBS + 1,), -10.0))
        self.decay = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
        self.adam = torch.optim.Adam(self.parameters(), lr=1e-3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances, (7, batch, outputs)."""
        if x.dim() == 2:
            x = x.expand(7, *x.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.einsum("nbi,nio->nbo", x, weight) + bias
            if i < 4:
                x = x * torch.sigmoid(x)
        mean, log_var = x.chunk(2, -1)
        log_var = self.high - nn.functional.softplus(self.high - log_var)
        return mean, self.low + nn.functional.softplus(log_var - self.low)

    def learn(self, inputs: Tensor, targets: Tensor) -> float:
        """Do one gradient step on (7, 256, ...) batches and read its loss."""
        mean, log_var = self(inputs)
        error = ((mean - targets).square() * (-log_var).exp() + log_var).mean((1, 2)).sum()
        decay = sum(0.5 * rate * w.square().sum() for rate, w in zip(self.decay, self.weights, strict=True))
        loss = error + decay + 0.01 * (self.high.sum() - self.low.sum())
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return loss.item()


class Agent:
    """All parts on random data of Hopper's shape."""

    def __init__(self, rows: int) -> None:
        self.sac, self.model = Sac(), Ensemble()
        self.real, self.made = Buffer(rows), Buffer(ROLLOUT * HORIZON * 5)
        random = np.random.default_rng(0)
        columns = {name: column.shape for name, column in self.real.columns.items()}
        self.real.add({name: random.standard_normal(shape, np.float32) for name, shape in columns.items()})
        self.real.columns["end"][:] = 0
        self.inputs = torch.randn(7, 20 * BATCH, OBS + ACT)
        self.targets = torch.randn(7, 20 * BATCH, OBS + 1)

    def update(self) -> None:
        """Sample a mixed batch and do one SAC update."""
        real, made = self.real.sample(REAL), self.made.sample(BATCH - REAL)
        self.sac.update({name: torch.cat([real[name], made[name]]) for name in real})

    def fit(self) -> None:
        """Do 20 gradient steps of the ensemble."""
        for k in range(20):
            part = slice(k * BATCH, (k + 1) * BATCH)
            self.model.learn(self.inputs[:, part], self.targets[:, part])

    def roll_out(self) -> None:
        """Branch from 50,000 transitions for five steps."""
        obs = self.real.sample(ROLLOUT)["obs"].numpy()
        for _ in range(HORIZON):
            action = self.sac.act(obs, sample=True)
            with torch.no_grad():
                inputs = torch.from_numpy(np.concatenate([obs, action], -1).astype(np.float32))
                mean, log_var = (part.numpy() for part in self.model(inputs))
            mean[..., :-1] += obs
            std = np.sqrt(np.exp(log_var))
            samples = (mean + np.random.normal(size=mean.shape) * std).astype(np.float32)
            member = np.random.randint(0, 5, len(obs))
            chosen = samples[member, np.arange(len(obs))]
            next_obs, reward = chosen[:, :-1], chosen[:, -1:]
            reward = reward - 0.5 * np.amax(np.linalg.norm(std, axis=2), axis=0)[:, None]
            end = next_obs[:, :1] > 1e9
            rows = {"obs": obs, "action": action, "reward": reward, "next_obs": next_obs, "end": end}
            self.made.add(rows)
            obs = next_obs[~end[:, 0]]

    def evaluate(self) -> None:
        """Play ten episodes of 1,000 steps, one after another."""
        import gymnasium

        gymnasium.logger.min_level = gymnasium.logger.ERROR
        env = gymnasium.make("Hopper-v4", terminate_when_unhealthy=False)
        for episode in range(10):
            obs, _ = env.reset(seed=episode)
            over = False
            while not over:
                obs, _, terminated, truncated, _ = env.step(self.sac.act(obs[None])[0])
                over = terminated or truncated
