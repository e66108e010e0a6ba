"""IQL, CQL and RLPD as the field usually writes them: what the engine is compared with.

Plain eager PyTorch with modules and torch.optim, in the style of CORL (IQL, CQL: separate critics, losses
read after every update) and of RLPD (critics stacked, layers normalised); nothing is copied. An update takes
its batch and its random numbers, so a test holds it to what the engine computes
(tests/kit/model_free/test_baselines.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""obs, action, reward, next_obs, terminated; the last but one axis is the batch."""


def mlp(inputs: int, outputs: int, width: int = 256) -> nn.Sequential:
    """Return two hidden layers."""
    hidden = (nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


def follow(target: nn.Module, source: nn.Module) -> None:
    """Move a target by 0.005."""
    with torch.no_grad():
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            mine.mul_(0.995).add_(theirs, alpha=0.005)


def step(optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
    """Do one step and read the loss."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


class Iql:
    """Expectile 0.7, beta 3, one deviation for all states."""

    def __init__(self, obs: int, act: int, width: int = 256) -> None:
        self.value, self.actor = mlp(obs, 1, width), mlp(obs, act, width)
        self.critics = nn.ModuleList(mlp(obs + act, 1, width) for _ in range(2))
        self.targets = nn.ModuleList(mlp(obs + act, 1, width) for _ in range(2))
        self.targets.load_state_dict(self.critics.state_dict())
        self.log_std = nn.Parameter(torch.zeros(act))
        self.of_value = torch.optim.Adam(self.value.parameters(), lr=3e-4)
        self.of_critics = torch.optim.Adam(self.critics.parameters(), lr=3e-4)
        self.of_actor = torch.optim.Adam([*self.actor.parameters(), self.log_std], lr=3e-4)

    def update(self, batch: Batch) -> list[float]:
        """Do one update."""
        obs, action, reward, next_obs, terminated = batch
        pair = torch.cat([obs, action], -1)
        with torch.no_grad():
            q = torch.min(*(net(pair).squeeze(-1) for net in self.targets))
            next_v = self.value(next_obs).squeeze(-1)
        u = q - self.value(obs).squeeze(-1)
        losses = [step(self.of_value, (torch.abs(0.7 - (u < 0).float()) * u.square()).mean())]
        y = reward + 0.99 * (1 - terminated) * next_v
        losses.append(
            step(self.of_critics, sum((net(pair).squeeze(-1) - y).square().mean() for net in self.critics))
        )
        weight = (3.0 * u.detach()).exp().clamp(max=100)
        normal = torch.distributions.Normal(torch.tanh(self.actor(obs)), self.log_std.exp())
        losses.append(step(self.of_actor, -(weight * normal.log_prob(action).sum(-1)).mean()))
        follow(self.targets, self.critics)
        return losses


def sample(actor: nn.Module, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return actions of a tanh-Gaussian and their log densities."""
    mean, log_std = actor(obs).chunk(2, -1)
    log_std = log_std.clamp(-20, 2)
    raw = mean + log_std.exp() * noise
    density = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    slope = 2.0 * (math.log(2.0) - raw - nn.functional.softplus(-2.0 * raw))
    return torch.tanh(raw), (density - slope).sum(-1)


class Cql:
    """CQL(H), weight 5, n sampled actions of each of three kinds, separate critics."""

    def __init__(self, obs: int, act: int, width: int = 256, n: int = 10) -> None:
        self.n, self.act = n, act
        self.actor = mlp(obs, 2 * act, width)
        self.critics = nn.ModuleList(mlp(obs + act, 1, width) for _ in range(2))
        self.targets = nn.ModuleList(mlp(obs + act, 1, width) for _ in range(2))
        self.targets.load_state_dict(self.critics.state_dict())
        self.log_alpha = nn.Parameter(torch.zeros(1))
        self.of_critics = torch.optim.Adam(self.critics.parameters(), lr=3e-4)
        self.of_actor = torch.optim.Adam(self.actor.parameters(), lr=1e-4)
        self.of_alpha = torch.optim.Adam([self.log_alpha], lr=1e-4)

    def update(self, batch: Batch, noise: dict[str, Tensor]) -> list[float]:
        """Do one update with the noise of next actions, actions, and the penalty's (kind, n, batch, act)."""
        obs, action, reward, next_obs, terminated = batch
        pair = torch.cat([obs, action], -1)
        with torch.no_grad():
            after = torch.cat([next_obs, sample(self.actor, next_obs, noise["next"])[0]], -1)
            value = torch.min(*(net(after).squeeze(-1) for net in self.targets))
            y = reward + 0.99 * (1 - terminated) * value
            now = sample(self.actor, obs.expand(self.n, -1, -1), noise["policy"][0])
            then = sample(self.actor, next_obs.expand(self.n, -1, -1), noise["policy"][1])
            even = noise["uniform"], torch.full(noise["uniform"].shape[:-1], -math.log(2) * self.act)
        loss = torch.zeros(())
        for net in self.critics:
            q = net(pair).squeeze(-1)
            each = [
                net(torch.cat([obs.expand(self.n, -1, -1), a], -1)).squeeze(-1) - density
                for a, density in (even, now, then)
            ]
            gap = torch.cat(each).logsumexp(0) - q
            loss = loss + (q - y).square().mean() + 5.0 * gap.mean()
        losses = [step(self.of_critics, loss)]
        a, log_prob = sample(self.actor, obs, noise["now"])
        chosen = torch.cat([obs, a], -1)
        least = torch.min(*(net(chosen).squeeze(-1) for net in self.critics))
        losses.append(step(self.of_actor, (self.log_alpha.exp().detach() * log_prob - least).mean()))
        losses.append(step(self.of_alpha, -(self.log_alpha * (log_prob.detach() - self.act)).mean()))
        follow(self.targets, self.critics)
        return losses


class Stacked(nn.Module):
    """Critics as stacked weights, each layer normalised before its activation."""

    def __init__(self, count: int, inputs: int, width: int = 256) -> None:
        super().__init__()
        shapes = ((inputs, width), (width, width), (width, 1))
        bounds = [math.sqrt(6.0 / (i + o)) for i, o in shapes]
        self.weights = nn.ParameterList(
            nn.Parameter((2 * torch.rand(count, i, o) - 1) * bound)
            for (i, o), bound in zip(shapes, bounds, strict=True)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, o)) for _, o in shapes)
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(count, 1, width)) for _ in range(2))
        self.shifts = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, width)) for _ in range(2))

    def forward(self, x: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return values (critics, batch) of inputs (batch, n), of the chosen critics if given."""
        pick = (lambda p: p) if chosen is None else (lambda p: p[chosen])
        x = x.expand(len(pick(self.biases[0])), -1, -1)
        for i in range(3):
            x = torch.baddbmm(pick(self.biases[i]), x, pick(self.weights[i]))
            if i < 2:
                x = nn.functional.layer_norm(x, x.shape[-1:]) * pick(self.gains[i]) + pick(self.shifts[i])
                x = torch.relu(x)
        return x.squeeze(-1)


class Rlpd:
    """Ten critics, targets from two of them, one update of the policy after the critics' updates."""

    def __init__(self, obs: int, act: int, width: int = 256, count: int = 10) -> None:
        self.act, self.actor = act, mlp(obs, 2 * act, width)
        self.critics, self.targets = Stacked(count, obs + act, width), Stacked(count, obs + act, width)
        self.targets.load_state_dict(self.critics.state_dict())
        self.log_alpha = nn.Parameter(torch.zeros(1))
        self.of_critics = torch.optim.Adam(self.critics.parameters(), lr=3e-4)
        self.of_actor = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.of_alpha = torch.optim.Adam([self.log_alpha], lr=3e-4)

    def update(self, batches: Iterable[tuple[Batch, Tensor, Tensor]], noise: Tensor) -> list[float]:
        """Do one step's updates: each batch with its noise and two critics, the policy on the last one."""
        losses = []
        for batch, of_next, chosen in batches:
            obs, action, reward, next_obs, terminated = batch
            with torch.no_grad():
                after, log_prob = sample(self.actor, next_obs, of_next)
                least = self.targets(torch.cat([next_obs, after], -1), chosen).amin(0)
                y = reward + 0.99 * (1 - terminated) * (least - self.log_alpha.exp() * log_prob)
            error = self.critics(torch.cat([obs, action], -1)) - y
            losses.append(step(self.of_critics, error.square().mean(-1).sum()))
            follow(self.targets, self.critics)
        a, log_prob = sample(self.actor, obs, noise)
        mean = self.critics(torch.cat([obs, a], -1)).mean(0)
        losses.append(step(self.of_actor, (self.log_alpha.exp().detach() * log_prob - mean).mean()))
        losses.append(step(self.of_alpha, -(self.log_alpha * (log_prob.detach() - 0.5 * self.act)).mean()))
        return losses
