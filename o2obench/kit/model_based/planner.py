"""Acting by plans in a latent world model, away from what it does not know (arXiv:2310.16029, section 3.3).

Sequences of ``horizon`` actions are drawn, most of them wide normals, some along the policy. A sequence is
worth the discounted sum of its predicted rewards and the critics' value behind it, less ``penalty_coef``
times the deviation of the critics at every step. The best ``elites`` are kept; to explore, one is drawn by
the exponential of its worth, and noise of the elites' spread is added.

Decided here: a plan begins anew at each step (released code: at the last one, shifted by a step; its draws
have a deviation of 2 around it, where actions lie in [-1, 1]). In evaluation the best sequence is taken
(code: drawn), with the same random numbers for every observation, so that what is evaluated is a function of
the observation. The least of two drawn critics behind a sequence is replaced by its mean over all draws.
"""

from __future__ import annotations

import functools
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ...agent import count
from ...util.rng import derive
from ..model_free.template import CANDIDATES
from ..options import Members, Rate, Size, Weight
from .latent_model import POLICY_STD, LatentModel, LatentOptions

ELITE, SPREAD = "elite of a plan", "spread of a plan"


class PlannerOptions(LatentOptions):
    """Options of the planner; the defaults are those of Hopper."""

    penalty_coef: Weight = 20.0
    """Weight of the critics' deviation (AntMaze: 3)."""
    plan_samples: Size = count(512)
    """Sequences that are drawn freely."""
    plan_policies: Members = count(51)
    """Sequences along the policy."""
    elites: Members = count(50)
    """Best sequences, one of which is taken."""
    plan_std: Rate = 2.0
    """Deviation of freely drawn actions, and the most of the noise in exploring."""
    plan_std_min: Rate = 0.05
    """The least of it."""
    plan_temperature: Weight = 0.5
    """Factor of a sequence's worth in the exponent."""


C = TypeVar("C", bound=PlannerOptions)


class Planner(LatentModel[C], Generic[C]):
    """Acts by the best of many imagined sequences of actions."""

    def explore(self, obs: Tensor) -> Tensor:
        """Return the first action of an elite drawn by its worth, with noise of the elites' spread."""
        n = obs.shape[1]
        noise = self.streams.normal(CANDIDATES, n, *self._plan_shape())
        action, worth = self.elites(obs, noise)
        weight = torch.softmax(self.config.plan_temperature * worth, -1)
        mean = (weight[..., None] * action).sum(2)
        variance = (weight[..., None] * (action - mean[:, :, None]).square()).sum(2)
        spread = variance.sqrt().clamp(self.config.plan_std_min, self.config.plan_std)
        uniform = self.streams.uniform(ELITE, n, 1).float()
        drawn = torch.searchsorted(weight.cumsum(-1), uniform).clamp(max=weight.shape[-1] - 1)
        chosen = action.gather(2, drawn[..., None].expand(-1, -1, -1, action.shape[-1])).squeeze(2)
        return (chosen + spread * self.streams.normal(SPREAD, n, self.task.act_dim)).clamp(-1.0, 1.0)

    def judge(self, obs: Tensor) -> Tensor:
        """Return the first action of the best sequence."""
        action, worth = self.elites(obs, self._same_noise.expand(*obs.shape[:2], -1, -1, -1))
        best = worth.argmax(-1)[..., None, None].expand(-1, -1, 1, action.shape[-1])
        return action.gather(2, best).squeeze(2)

    def elites(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first actions of the best sequences, and their worths (seeds, n, elites).

        Actions are (seeds, n, elites, act_dim); ``noise`` (seeds, n, sequences, horizon, act_dim) is
        standard normal.
        """
        free, along = noise.split([self.config.plan_samples, self.config.plan_policies], 2)
        drawn = (self.config.plan_std * free).clamp(-1.0, 1.0)
        z = self.encode(obs)
        plans = torch.cat([drawn, self.policy_plans(z, along)], 2)
        worth = self.worth(z, plans)
        best = worth.topk(min(self.config.elites, worth.shape[-1]), -1)
        index = best.indices[..., None].expand(-1, -1, -1, plans.shape[-1])
        return plans[..., 0, :].gather(2, index), best.values

    def policy_plans(self, z: Tensor, noise: Tensor) -> Tensor:
        """Return sequences of the policy's actions along its own path, with noise of its deviation."""
        n, many = noise.shape[1:3]
        z, steps = z.repeat_interleave(many, 1), list[Tensor]()
        for t in range(self.config.horizon):
            action = self.proposed(z) + POLICY_STD * noise[..., t, :].flatten(1, 2)
            steps.append(action.clamp(-1.0, 1.0))
            z = self.imagined(z, steps[-1])
        plans: Tensor = torch.stack(steps, -2).unflatten(1, (n, many))
        return plans

    def worth(self, z: Tensor, plans: Tensor) -> Tensor:
        """Return what sequences are worth, (seeds, n, sequences), from z (seeds, n, latents).

        ``plans``: (seeds, n, sequences, horizon, act_dim).
        """
        n, many = plans.shape[1:3]
        z, steps = z.repeat_interleave(many, 1), plans.flatten(1, 2)
        worth = torch.zeros(z.shape[:2], device=z.device)
        for t in range(self.config.horizon):
            action = steps[..., t, :]
            penalty = self.config.penalty_coef * doubt(self.q("critics", z, action))
            worth = worth + self.config.gamma**t * (self.reward(z, action) - penalty)
            z = self.imagined(z, action)
        q = self.q("critics", z, self.proposed(z))
        behind = least_of_two(q) - self.config.penalty_coef * doubt(q)
        whole: Tensor = (worth + self.config.gamma**self.config.horizon * behind).unflatten(1, (n, many))
        return whole

    def _plan_shape(self) -> tuple[int, int, int]:
        sequences = self.config.plan_samples + self.config.plan_policies
        return sequences, self.config.horizon, self.task.act_dim

    @functools.cached_property
    def _same_noise(self) -> Tensor:
        generator = torch.Generator().manual_seed(derive(0, CANDIDATES))
        return torch.randn((1, 1, *self._plan_shape()), generator=generator).to(self.task.device)

    def network(self) -> None:
        """Return None: a planner is no single network."""


def doubt(q: Tensor) -> Tensor:
    """Return the deviation of critics, (seeds, n), of (seeds, critics, n); a single one has no doubt."""
    return q.std(1) if q.shape[1] > 1 else torch.zeros_like(q[:, 0])


def least_of_two(q: Tensor) -> Tensor:
    """Return the mean over all pairs of critics of the least of both, (seeds, n); q: (seeds, critics, n)."""
    critics = q.shape[1]
    if critics == 1:
        return q[:, 0]
    above = torch.arange(critics - 1, -1, -1, device=q.device, dtype=q.dtype)
    pairs = critics * (critics - 1) / 2
    return (q.sort(1).values * (above / pairs)[:, None]).sum(1)
