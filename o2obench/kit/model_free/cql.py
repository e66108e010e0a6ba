"""The losses of CQL, conservative Q-learning (Kumar et al. 2020, arXiv:2006.04779): SAC and a penalty.

Each critic's loss gets cql_alpha (log sum exp Q(s, a) - Q(s, a of the batch)), the sum over n uniform
actions, n of the policy at s and n of the policy at s', each weighted by its density (CQL(H), eq. 4 with
importance sampling, appendix F). With ``target_gap`` cql_alpha is multiplied by a learnt factor, exp of a
parameter that begins at 1, which rises while the penalty's gap is above it (section 3.2, Lagrange form;
CORL's and the official code's). The target has no entropy; the temperature is learnt as in SAC.

The values are WSRL's row for locomotion with two critics (cql_alpha 5, n 10, actor rate 1e-4, orthogonal
first weights). Decided where released codes differ: the critics take their step before the actor computes
its loss, as all methods here do (CORL and WSRL compute all gradients first; the difference is of the order
of the rate); no learnt affine map of log deviations (CORL); locomotion takes one next action, mazes the best
of ten (WSRL: ten everywhere, ``next_actions``); the penalty counts for all critics (WSRL averages it over
two drawn ones).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from ...agent import Task
from ...transitions import Transitions
from ..options import Rate, Size, Weight
from ..replay import Batch
from .sac import SacOptions, SoftActorCritic
from .template import NEXT_ACTIONS, Draw, OffPolicy, Values

UNIFORM, POLICY = "uniform actions", "conservative actions"


class CqlOptions(SacOptions):
    """Options of the losses; the defaults are those of locomotion."""

    actor_lr: Rate = 1e-4
    entropy_in_target: bool = False
    init: Literal["uniform", "orthogonal", "xavier"] = "orthogonal"
    cql_alpha: Weight = 5.0
    """Weight of the penalty; at 0 it is not computed."""
    cql_actions: Size = 10
    """Sampled actions of each of the three kinds."""
    target_gap: Weight | None = None
    """The gap that the learnt factor of cql_alpha holds; null: there is no such factor."""
    gap_min: float | None = None
    """Least gap of a transition; null: none."""
    next_actions: Size = 1
    """Actions of the policy at the next observation, of which the best one's value is the target."""


C = TypeVar("C", bound=CqlOptions)


class Conservative(SoftActorCritic[C], Generic[C]):
    """SAC's parts, with the penalty on the critics."""

    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OffPolicy.metrics,
        "critics": ("critics/loss", "critics/q", "critics/gap"),
        "multiplier": ("multiplier/loss", "multiplier/factor"),
    }

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        if config.cql_alpha and config.target_gap is not None:
            self.order = (*self.order, "multiplier")
        super().__init__(task, config, data)

    def scalars(self) -> dict[str, float]:
        """Add the logarithm of the penalty's factor."""
        return {**super().scalars(), "multiplier": 1.0}

    def draws(self) -> dict[str, Draw]:
        """Draw also the actions of the penalty."""
        batch, act_dim = self.config.batch_size, self.task.act_dim
        n_pushed = self.config.cql_actions * self.pushed_count()
        draws = super().draws()
        draws[NEXT_ACTIONS] = ("normal", (self.config.next_actions * batch, act_dim))
        if self.config.cql_alpha:
            draws[UNIFORM] = ("uniform", (n_pushed, act_dim))
            draws[POLICY] = ("normal", (2, n_pushed, act_dim))
        return draws

    def next_value(self, batch: Batch, draws: Values) -> Tensor:
        """Return SAC's value, or that of the best of several next actions, (seeds, batch)."""
        count = self.config.next_actions
        if count == 1:
            return super().next_value(batch, draws)
        many = batch._replace(next_obs=batch.next_obs.repeat(1, count, 1))
        values: Tensor = super().next_value(many, draws).unflatten(-1, (count, -1))
        return values.amax(1)

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return also the penalty's actions and their log densities.

        ``actions`` is (seeds, 3 n batch, act_dim), ``log_density`` (seeds, 3 n batch).
        """
        constants = super().constants(batch, draws)
        if self.config.cql_alpha:
            density = torch.full_like(draws[UNIFORM][..., 0], -math.log(2) * self.task.act_dim)
            parts = [(draws[UNIFORM], density)]
            some = self.pushed(batch, draws)
            for obs, noise in zip((some.obs, some.next_obs), draws[POLICY].unbind(1), strict=True):
                parts.append(self.sample(self._repeated(obs, 1), noise))
            actions, log_density = zip(*parts, strict=True)
            constants |= {"actions": torch.cat(actions, 1), "log_density": torch.cat(log_density, 1)}
        return constants

    def critics_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return SAC's loss and the penalty, the means of value and gap, and more to log, (3 + k, seeds)."""
        loss, q = super().critics_loss(flat, batch, draws, constants)
        if not self.config.cql_alpha:
            nothing = torch.zeros_like(q)
            return torch.stack([loss, q, *(nothing for _ in self.metrics["critics"][2:])])
        gap, logged = self.gap(flat, self.pushed(batch, draws), constants)
        if self.config.gap_min is not None:
            gap = gap.clamp(min=self.config.gap_min)
        penalty = self.config.cql_alpha * gap.mean(-1).sum(-1)
        if self.config.target_gap is not None:
            penalty = self.factor(self.parameters["multiplier"]) * penalty
        return torch.stack([loss + penalty, q, gap.mean((1, 2)), *logged])

    def gap(self, flat: Tensor, batch: Batch, constants: Values) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return log sum exp (Q - log density) - Q of the batch's actions, (seeds, critics, batch).

        And what ``raised`` logs.
        """
        pushed_down = self.q("critics", self._repeated(batch.obs, 3), constants["actions"], flat)
        q, logged = self.raised(pushed_down, batch)
        weighted = (q - constants["log_density"][:, None]).unflatten(-1, (-1, batch.reward.shape[-1]))
        return torch.logsumexp(weighted, 2) - self.q("critics", batch.obs, batch.action, flat), logged

    def pushed_count(self) -> int:
        """Return how many transitions of a batch the penalty counts for: all."""
        return self.config.batch_size

    def pushed(self, batch: Batch, draws: Values) -> Batch:
        """Return the transitions for which the penalty counts."""
        return batch

    def raised(self, q: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the values of the penalty's actions, (seeds, critics, 3 n batch), uniform ones first.

        An algorithm may put a floor under them. Returns also what it logs, (seeds,) each.
        """
        return q, ()

    def multiplier_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return -factor x cql_alpha x (gap - target_gap) summed over critics, and the factor, (2, seeds)."""
        above = constants["critics"][2] - (self.config.target_gap or 0.0)
        factor = self.factor(flat)
        return torch.stack([-factor * self.config.cql_alpha * self.config.num_critics * above, factor])

    def factor(self, log_factor: Tensor) -> Tensor:
        """Return what multiplies cql_alpha, at most 1e6, (seeds,)."""
        return log_factor.exp().clamp(max=1e6)

    def _repeated(self, obs: Tensor, kinds: int) -> Tensor:
        return obs.repeat(1, kinds * self.config.cql_actions, 1)
