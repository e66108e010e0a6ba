"""The second pair of critics of OPT (Shin et al. 2025, arXiv:2507.08387), and TD3 beside them.

In their own stage they learn alone, apart from the environment, so that a step on the offline error also
lowers the online one (section 4.2): L_off(psi) + s L_on(psi - rate x grad L_off(psi)), s = min(L_off, L_on)
/ L_on. After it they learn as TD3's critics do, from the same batches, with targets of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from ...agent import count
from ..networks import Mlp
from ..options import Count, Rate
from ..replay import Batch, halves
from .density_ratio import ByDensityRatio, DensityRatioOptions
from .td3 import Td3, Td3Options
from .template import NEXT_ACTIONS, Draw, Values

NEW, NEW_TARGETS = "new_critics", "new targets"
META = "meta"
"""The stage in which the new critics learn alone."""


class SecondCriticsOptions(Td3Options, DensityRatioOptions):
    """Options of the new critics."""

    meta_updates: Count = count(50_000)
    """Updates of the new critics before anything else is learnt."""
    inner_lr: Rate = 3e-4
    """Rate of the step on the offline error inside the loss."""


C = TypeVar("C", bound=SecondCriticsOptions)


class SecondCritics(ByDensityRatio[C], Td3[C], Generic[C]):
    """TD3 on batches by a density ratio, and new critics that were trained to learn online."""

    followers: ClassVar[Mapping[str, str]] = {**Td3.followers, NEW_TARGETS: NEW}
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **ByDensityRatio.metrics,
        NEW: ("new_critics/loss", "new_critics/q"),
    }

    def due_at_begin(self, stage: str) -> int:
        """Return the updates of the new critics in their stage."""
        return self.config.meta_updates if stage == META else super().due_at_begin(stage)

    def parts_of(self, stage: str) -> Sequence[str]:
        """Let only the new critics learn in their stage."""
        return [NEW] if stage == META else self.order

    def networks(self) -> dict[str, Mlp]:
        """Add the new critics and their targets, which begin as them."""
        return {**super().networks(), NEW: self.second_critics(), NEW_TARGETS: self.second_critics()}

    def second_critics(self) -> Mlp:
        """Return critics with first weights of their own."""
        inputs = self.task.obs_dim + self.task.act_dim
        return self.mlp(NEW, (self.config.num_critics,), inputs, 1, critic=True)

    def every(self) -> dict[str, int]:
        """Delay the policy and all targets."""
        return dict.fromkeys(("actor", *self.followers), self.config.policy_every)

    def widely(self) -> Sequence[str]:
        """Let the new critics learn from offline and online halves in their stage."""
        return (NEW,) if self.stage == META else super().widely()

    def row_numbers(self, updates: int) -> Tensor:
        """Return batches with both kinds behind them; in the new critics' stage nothing reads the batches."""
        if self.stage != META:
            return super().row_numbers(updates)
        rows = self.both_kinds(updates)
        return torch.cat([rows[..., : self.config.batch_size], rows], -1)

    def draws(self) -> dict[str, Draw]:
        """Draw the noise of the target policy, for both halves of the new critics' batches in their stage."""
        draws = super().draws()
        if self.stage != META:
            return draws
        return {NEXT_ACTIONS: ("normal", (2 * self.config.batch_size, self.task.act_dim))}

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return also what the new critics are fitted to online, (seeds, batch): with their own targets."""
        if self.stage == META:
            return {}
        return {**super().constants(batch, draws), "new y": self.new_target(batch, draws)}

    def new_target(self, batch: Batch, draws: Values) -> Tensor:
        """Return TD3's target with the new critics' targets, (seeds, batch)."""
        value = self.q(NEW_TARGETS, batch.next_obs, self.target_action(batch, draws)).amin(1)
        return batch.reward + self.config.gamma * (1.0 - batch.terminated) * value

    def new_critics_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the new critics' loss, that of their stage or TD3's, and their mean value, (2, seeds)."""
        if self.stage == META:
            return self.meta_loss(flat, batch, self.new_target(batch, draws))
        q = self.q(NEW, batch.obs, batch.action, flat)
        return torch.stack([self.error(flat, batch, constants["new y"]), q.mean((1, 2))])

    def error(self, flat: Tensor, batch: Batch, y: Tensor) -> Tensor:
        """Return the new critics' squared error to ``y``, summed over critics, (seeds,)."""
        q = self.q(NEW, batch.obs, batch.action, flat)
        return (q - y[:, None]).square().mean(-1).sum(-1)

    def meta_loss(self, flat: Tensor, batch: Batch, y: Tensor) -> Tensor:
        """Return the offline error and the scaled online error after a step on the former, and the value.

        The first half of the batch is offline, the second online.
        """
        (offline, online), (y_offline, y_online) = halves(batch), y.chunk(2, 1)
        step = torch.func.grad(lambda psi: self.error(psi, offline, y_offline).sum())(flat)
        before = self.error(flat, offline, y_offline)
        after = self.error(flat - self.config.inner_lr * step, online, y_online)
        scale = (torch.minimum(before, after) / after).detach()
        q = self.q(NEW, online.obs, online.action, flat)
        return torch.stack([before + scale * after, q.mean((1, 2))])
