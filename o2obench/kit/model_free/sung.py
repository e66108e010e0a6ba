"""What SUNG (Guo et al. 2023, arXiv:2306.07541) adds to a method that goes on: uncertainty, twice.

A variational autoencoder of observations and actions together says how unlike the data a pair is, its
negative evidence bound U. It learns from offline transitions first, then once with every batch.

- Acting (section 3.2): of ``candidates`` actions of the policy the ``kept`` of the highest first score stay,
  and one of these is drawn by a softmax of the second; the scores are Q and U, or U and Q.
- Learning (section 3.3): the base's pull towards the data counts for a share of a batch only, its most
  uncertain transitions.
- Batches: nine tenths come from the newest 20,000 online transitions (as many as there are), the rest from
  all transitions, offline and online (the released code's buffer).

Softmaxes have temperature 1 on raw scales, as released. The decoder's tanh cannot rebuild components beyond
+-1, so U grows with the size of standardised observations: an artefact of the released code, kept here.
Targets begin as the online networks, as there. No learning in the first 1,000 steps, as for all methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

from ...agent import Budget, Stage, State, later
from ...util.rng import Stream
from ..options import Share, Size
from .config import OnlineConfig
from .density import DENSITY, DensityOptions, HasDensity
from .online import Online

CANDIDATE_LATENTS, CHOSEN = "candidate latents", "chosen candidate"


class SungOptions(DensityOptions, OnlineConfig):
    """Options of exploring, of the share that is held to the data, and of the batches."""

    replay_data: Literal["union"] = "union"
    replay_window: Size | None = 20_000
    replay_on_policy: None = later(None)
    """Batches are SUNG's own."""
    recent_share: Share = 0.9
    """Share of a batch that comes from the newest online transitions."""
    candidates: Size = 100
    """Actions to choose from where data are collected."""
    kept: Size = 10
    """Those of the highest first score, of which one is drawn."""
    uncertain_share: Share = 0.05
    """Share of a batch that is held to the data: its most uncertain transitions."""


C = TypeVar("C", bound=SungOptions)


class Sung(HasDensity[C], Online[C], Generic[C]):
    """A density of observations and actions beside the base's parts; what it says is used twice."""

    of_obs = True

    @classmethod
    def stages(cls, config: C, budget: Budget) -> tuple[Stage, ...]:
        """Fit the density to the offline transitions, then learn with the environment."""
        return (Stage(DENSITY), *super().stages(config, budget))

    def due_at_begin(self, stage: str) -> int:
        """Return the updates of the density in its stage."""
        return self.config.density_updates if stage == DENSITY else super().due_at_begin(stage)

    def begin(self, stage: str) -> None:
        """Enter a stage; the density's optimiser begins anew online."""
        super().begin(stage)
        self.adams[DENSITY].forget()

    def parts_of(self, stage: str) -> Sequence[str]:
        """Let all parts learn online."""
        return [DENSITY] if stage == DENSITY else self.order

    def warm_start(self, states: Sequence[State]) -> None:
        """Take the base's networks, moments and maps over; targets begin as the online networks."""
        own = (*self.joint[DENSITY], *self.followers)
        self.take_networks(states, **{name: name for name in self.nets if name not in own})
        self.take_networks(states, **{n: leader for n, leader in self.followers.items() if n in self.nets})
        self.take_moments(states, *(name for name in self.order if name != DENSITY))

    def uncertainty(self, obs: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        """Return U of (obs, action), (seeds, n), with one latent each."""
        return self.negative_bound(obs, action, noise)[0].detach()

    def window(self) -> int:
        """Return how many of the newest online transitions there are to draw from."""
        return min(self.replay.online, self.config.replay_window or self.replay.online)

    def recent(self) -> int:
        """Return how many of a batch's transitions come from them."""
        return min(int(self.config.recent_share * self.config.batch_size), self.window())

    def batches(self, updates: int) -> Tensor:
        """Return row numbers, (seeds, updates, batch): newest online transitions first, then any."""
        if not self.replay.online:
            return super().batches(updates)
        uniform = self.streams.uniform(Stream.REAL_BATCH, updates, self.config.batch_size)
        newest, rest = uniform.split([self.recent(), self.config.batch_size - self.recent()], -1)
        every, window = self.replay.offline + self.replay.online, self.window()
        places = torch.cat([every - window + (newest * window).long(), (rest * every).long()], -1)
        return self.rows_at(places)

    def chosen(self, obs: Tensor, actions: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return one action for each obs: of those of the best ``first`` scores, by a softmax of the second.

        ``actions`` is (seeds, n, candidates, act_dim), the scores (seeds, n, candidates).
        """
        best = first.topk(min(self.config.kept, first.shape[-1]), -1).indices
        drawn = self.streams.uniform(CHOSEN, *obs.shape[1:-1])
        within = second.gather(-1, best).double().softmax(-1).cumsum(-1)
        place = (within < drawn[..., None] * within[..., -1:]).sum(-1, keepdim=True)
        index = best.gather(-1, place.clamp(max=best.shape[-1] - 1))
        return actions.gather(-2, index[..., None].expand(*index.shape, actions.shape[-1])).squeeze(-2)

    def judged_candidates(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return candidate actions of the policy for each obs, their least Q and U.

        Actions are (seeds, n, candidates, act_dim), both scores (seeds, n, candidates).
        """
        (seeds, n, _), many = obs.shape, self.config.candidates
        repeated, actions = self.candidates(obs, many)
        latents = self.streams.normal(CANDIDATE_LATENTS, n * many, 2 * self.task.act_dim)
        scores = (
            self.actor_value(self.q("critics", repeated, actions)),
            self.uncertainty(repeated, actions, latents),
        )
        q, uncertainty = (score.view(seeds, n, many) for score in scores)
        return actions.view(seeds, n, many, -1), q, uncertainty
