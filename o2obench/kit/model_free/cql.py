"""The losses of CQL, conservative Q-learning (Kumar et al. 2020, arXiv:2006.04779): SAC and a penalty.

Each critic's loss gets cql_alpha (log sum exp Q(s, a) - Q(s, a of the batch)), the sum over n uniform
actions, n of the policy at s and n of the policy at s', each weighted by its density (CQL(H), eq. 4 with
importance sampling, appendix F). The target has no entropy; the temperature is learnt as in SAC.

The values are WSRL's row for locomotion with two critics (cql_alpha 5, n 10, actor rate 1e-4). Decided
where released codes differ: the critics take their step before the actor computes its loss, as all methods
here do (CORL and WSRL compute all gradients first; the difference is of the order of the rate); no maximum
over next actions (WSRL has one); no learnt affine map of log deviations (CORL); no Lagrange form of the
penalty, so mazes have no row yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from ..options import Rate, Size, Weight
from ..replay import Batch
from .config import OffPolicyConfig
from .template import ACTIONS, NEXT_ACTIONS, Draw, OffPolicy, Values

UNIFORM, POLICY = "uniform actions", "conservative actions"


class CqlOptions(OffPolicyConfig):
    """Options of the losses; the defaults are those of locomotion."""

    actor_lr: Rate = 1e-4
    cql_alpha: Weight = 5.0
    """Weight of the penalty; at 0 it is not computed."""
    cql_actions: Size = 10
    """Sampled actions of each of the three kinds."""


C = TypeVar("C", bound=CqlOptions)


class Conservative(OffPolicy[C], Generic[C]):
    """SAC's parts, with the penalty on the critics."""

    entropy_in_target = False
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OffPolicy.metrics,
        "critics": ("critics/loss", "critics/q", "critics/gap"),
    }

    def draws(self) -> dict[str, Draw]:
        """Draw an action for each observation and next observation, and those of the penalty."""
        n, batch, act_dim = self.config.cql_actions, self.config.batch_size, self.task.act_dim
        draws: dict[str, Draw] = {name: ("normal", (batch, act_dim)) for name in (NEXT_ACTIONS, ACTIONS)}
        if self.config.cql_alpha:
            draws[UNIFORM] = ("uniform", (n * batch, act_dim))
            draws[POLICY] = ("normal", (2, n * batch, act_dim))
        return draws

    def action_noise(self, draws: Values) -> tuple[Tensor, Tensor]:
        """Return the noise of actions at observations and at next observations."""
        return draws[ACTIONS], draws[NEXT_ACTIONS]

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return also the penalty's actions and their log densities.

        ``actions`` is (seeds, 3 n batch, act_dim), ``log_density`` (seeds, 3 n batch).
        """
        constants = super().constants(batch, draws)
        if self.config.cql_alpha:
            density = torch.full_like(draws[UNIFORM][..., 0], -math.log(2) * self.task.act_dim)
            parts = [(draws[UNIFORM], density)]
            for obs, noise in zip((batch.obs, batch.next_obs), draws[POLICY].unbind(1), strict=True):
                parts.append(self.sample(self._repeated(obs, 1), noise))
            actions, log_density = zip(*parts, strict=True)
            constants |= {"actions": torch.cat(actions, 1), "log_density": torch.cat(log_density, 1)}
        return constants

    def critics_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return SAC's loss and the penalty, the mean value, and the mean gap, (3, seeds)."""
        loss, q = super().critics_loss(flat, batch, draws, constants)
        if not self.config.cql_alpha:
            return torch.stack([loss, q, torch.zeros_like(q)])
        gap = self.gap(flat, batch, constants).mean(-1)
        return torch.stack([loss + self.config.cql_alpha * gap.sum(-1), q, gap.mean(-1)])

    def gap(self, flat: Tensor, batch: Batch, constants: Values) -> Tensor:
        """Return log sum exp (Q - log density) - Q of the batch's actions, (seeds, critics, batch)."""
        q = self.q("critics", self._repeated(batch.obs, 3), constants["actions"], flat)
        weighted = (q - constants["log_density"][:, None]).unflatten(-1, (-1, batch.reward.shape[-1]))
        return torch.logsumexp(weighted, 2) - self.q("critics", batch.obs, batch.action, flat)

    def _repeated(self, obs: Tensor, kinds: int) -> Tensor:
        return obs.repeat(1, kinds * self.config.cql_actions, 1)
