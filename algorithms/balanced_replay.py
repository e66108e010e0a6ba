"""Balanced Replay (Off2OnRL, Lee et al. 2021, arXiv:2107.00591): offline data in proportion to their fit.

Five CQL trainings (``cql_ensemble``) go on as five SAC with twin critics each, and one policy: the
tanh-Gaussian with the moments of the mixture of their actors. The actors are trained together through it and
climb the mean of the members' least values; each member's critics have their own target (section 4.2).

Batches are drawn from all transitions by priorities that a learnt density ratio gives them (section 4.1,
``o2obench.kit.model_free.density_ratio``).

Decided where paper, code and this benchmark differ: an update each step after the first 1,000 (code: 1,000
after each 1,000 steps, ten times as many at first). As in the code alpha begins at 1, targets as copies of
the critics, optimisers anew, and online no critic is pushed down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from o2obench.agent import KEPT, State
from o2obench.kit.model_free.density_ratio import ByDensityRatio, DensityRatioOptions
from o2obench.kit.model_free.template import NEXT_ACTIONS, Values
from o2obench.kit.networks import Mlp
from o2obench.kit.options import Members
from o2obench.kit.policies import MomentMatched
from o2obench.kit.replay import Batch
from o2obench.util.rng import Stream


class BalancedReplayConfig(DensityRatioOptions):
    """Balanced Replay's options."""

    members: Members = 5
    """Actors, and pairs of critics: the pretraining's."""


class BalancedReplay(ByDensityRatio[BalancedReplayConfig]):
    """An ensemble of SAC, and a density ratio that says which transitions it learns from."""

    Config = BalancedReplayConfig
    pretrain = "cql_ensemble"
    requires = ("actor", "critics")

    def policy_of(self, act_dim: int) -> MomentMatched:
        """Return one policy for all actors."""
        return MomentMatched(act_dim)

    def new_actor(self) -> Mlp:
        """Return an actor for each member."""
        return self.mlp(Stream.ACTOR, (self.config.members,), self.task.obs_dim, self.policy_kind.outputs)

    def new_critics(self) -> Mlp:
        """Return ``num_critics`` for each member."""
        critics = self.config.members * self.config.num_critics
        return self.mlp(Stream.CRITICS, (critics,), self.task.obs_dim + self.task.act_dim, 1, critic=True)

    def of_members(self, q: Tensor) -> Tensor:
        """Return each member's least value, (seeds, members, batch)."""
        of_members: Tensor = q.unflatten(1, (self.config.members, -1))
        return of_members.amin(2)

    def target_value(self, obs: Tensor, action: Tensor, draws: Values) -> Tensor:
        """Return each member's least target, (seeds, members, batch)."""
        return self.of_members(self.q("targets", obs, action))

    def actor_value(self, q: Tensor) -> Tensor:
        """Return the mean of the members' least values, (seeds, batch)."""
        return self.of_members(q).mean(1)

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return ``y`` of each critic, (seeds, critics, batch): SAC's, of its member."""
        action, log_prob = self.sample(batch.next_obs, draws[NEXT_ACTIONS])
        value = self.target_value(batch.next_obs, action, draws)
        after = value - (self.alpha()[:, None] * log_prob)[:, None]
        left = self.config.gamma * (1.0 - batch.terminated[:, None])
        y = batch.reward[:, None] + left * after
        return {"y": y.repeat_interleave(self.config.num_critics, 1)}

    def critics_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the squared errors of critics to their own targets, summed, and the value, (2, seeds)."""
        q = self.q("critics", batch.obs, batch.action, flat)
        return torch.stack([(q - constants["y"]).square().mean(-1).sum(-1), q.mean((1, 2))])

    def warm_start(self, states: Sequence[State]) -> None:
        """Take actors, critics and maps over; targets begin as the critics."""
        self.take_networks(states, actor="actor", critics="critics", targets="critics")

    def taken_over(self) -> Mapping[str, str]:
        """Say what begins anew."""
        forgotten = f"{KEPT}, moments forgotten"
        return {"actor": forgotten, "critics": f"{forgotten}; targets are copies of them"}
