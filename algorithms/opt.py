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
from o2obench.kit.model_free.density_ratio import RATIO
from o2obench.kit.model_free.second_critics import META, NEW, NEW_TARGETS, SecondCritics, SecondCriticsOptions
from o2obench.kit.model_free.template import Values
from o2obench.kit.options import Share, Size
from o2obench.kit.replay import Batch

COLLECT = "collect"


class OptConfig(SecondCriticsOptions):
    """OPT's options; the defaults are those of medium-replay sets."""

    learning_starts: Annotated[int, Field(ge=1)] = count(2500)
    """Environment steps that the pretrained policy collects."""
    utd_ratio: Size = count(5)
    blend_from: Share = 0.1
    """Share of the new critics in what the actor climbs, after the collection."""
    blend_to: Share = 0.9
    """That share in the end."""
    blend_until: Size = count(150_000)
    """Environment step at which it is reached."""


class Opt(SecondCritics[OptConfig]):
    """TD3 with old critics, and new ones that were trained to learn online."""

    Config = OptConfig
    pretrain = "td3_bc"
    requires = ("actor", "critics")
    order = ("critics", NEW, "actor", RATIO)
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **SecondCritics.metrics,
        "actor": ("actor/loss", "actor/share"),
    }

    @classmethod
    def stages(cls, config: OptConfig, budget: Budget) -> tuple[Stage, ...]:
        """Collect, train the new critics, then learn with the environment."""
        collected = min(config.learning_starts, budget.online_steps)
        left = budget.online_steps - collected
        fine_tune = Stage("fine-tune", left, config.utd_ratio * left)
        return (Stage(COLLECT, collected), Stage(META), fine_tune)

    def over_time(self, step: int) -> dict[str, float]:
        """Let the share of the new critics rise."""
        config = self.config
        way = (step - config.learning_starts) / max(1, config.blend_until - config.learning_starts)
        rise = config.blend_to - config.blend_from
        return {"blend": config.blend_from + min(1.0, max(0.0, way)) * rise}

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
