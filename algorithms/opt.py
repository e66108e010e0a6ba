"""OPT, online pre-training (Shin et al. 2025, arXiv:2507.08387) on TD3+BC: a second pair of critics.

First the pretrained policy collects ``learning_starts`` steps. Then, apart from the environment, new critics
are trained so that a step on the offline error also lowers the online one (section 4.2): the loss is
L_off(psi) + s L_on(psi - rate x grad L_off(psi)), with s = min(L_off, L_on) / L_on. Then both pairs learn by
TD3 from batches that a density ratio draws, each pair with its own targets, and the actor climbs (1 - k)
times the old value plus k times the new one, without TD3+BC's regression; k rises evenly from ``blend_from``
to ``blend_to``.

Decided where sources differ: k reaches its end at online step ``blend_until`` (others count from the end of
the collection); s is a factor without a gradient; exploration noise is not clipped; TD3+BC standardises
observations, the paper's does not; the old critics and the actor begin with fresh moments, the new critics
keep theirs; what was collected has half of the first batches, however much it is. Within 10,000 steps the
paper's 25,000 steps of collection cannot be had: 2,500 here, 25,000 in suites of 100,000 steps. Its version
on SPOT is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from o2obench.agent import KEPT, Budget, Stage, State, count
from o2obench.kit.model_free.density_ratio import RATIO, ByDensityRatio, DensityRatioOptions
from o2obench.kit.model_free.td3 import Td3, Td3Options
from o2obench.kit.model_free.template import NEXT_ACTIONS, Draw, Values
from o2obench.kit.networks import Mlp
from o2obench.kit.options import Count, Rate, Share, Size
from o2obench.kit.replay import Batch, halves

NEW, NEW_TARGETS = "new_critics", "new targets"
COLLECT, META = "collect", "meta"


class OptConfig(Td3Options, DensityRatioOptions):
    """OPT's options; the defaults are those of medium-replay sets."""

    learning_starts: Annotated[int, Field(ge=1)] = count(2500)
    """Environment steps that the pretrained policy collects."""
    utd_ratio: Size = count(5)
    meta_updates: Count = count(50_000)
    """Updates of the new critics before anything else is learnt."""
    inner_lr: Rate = 3e-4
    """Rate of the step on the offline error inside the loss."""
    blend_from: Share = 0.1
    """Share of the new critics in what the actor climbs, after the collection."""
    blend_to: Share = 0.9
    """That share in the end."""
    blend_until: Size = count(150_000)
    """Environment step at which it is reached."""


class Opt(ByDensityRatio[OptConfig], Td3[OptConfig]):
    """TD3 with old critics, and new ones that were trained to learn online."""

    Config = OptConfig
    pretrain = "td3_bc"
    requires = ("actor", "critics")
    order = ("critics", NEW, "actor", RATIO)
    followers: ClassVar[Mapping[str, str]] = {**Td3.followers, NEW_TARGETS: NEW}
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **ByDensityRatio.metrics,
        NEW: ("new_critics/loss", "new_critics/q"),
        "actor": ("actor/loss", "actor/share"),
    }

    @classmethod
    def stages(cls, config: OptConfig, budget: Budget) -> tuple[Stage, ...]:
        """Collect, train the new critics, then learn with the environment."""
        collected = min(config.learning_starts, budget.online_steps)
        left = budget.online_steps - collected
        fine_tune = Stage("fine-tune", left, config.utd_ratio * left)
        return (Stage(COLLECT, collected), Stage(META), fine_tune)

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

    def over_time(self, step: int) -> dict[str, float]:
        """Let the share of the new critics rise."""
        config = self.config
        way = (step - config.learning_starts) / max(1, config.blend_until - config.learning_starts)
        rise = config.blend_to - config.blend_from
        return {"blend": config.blend_from + min(1.0, max(0.0, way)) * rise}

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

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return minus the blend of both first critics, and the new ones' share, (2, seeds)."""
        action = torch.tanh(self.nets["actor"](batch.obs, flat))
        old, new = (self.q(name, batch.obs, action)[:, 0].mean(-1) for name in ("critics", NEW))
        share = self.now["blend"]
        return torch.stack([-(1.0 - share) * old - share * new, share.expand_as(old)])

    def warm_start(self, states: Sequence[State]) -> None:
        """Take the pretraining's networks over; the new critics and all optimisers begin anew."""
        own = {name: name for name in self.nets if name not in (NEW, NEW_TARGETS, RATIO)}
        self.take_networks(states, **own)

    def taken_over(self) -> Mapping[str, str]:
        """Say what begins anew."""
        return dict.fromkeys(("actor", "critics"), f"{KEPT}, moments forgotten; new critics beside them")
