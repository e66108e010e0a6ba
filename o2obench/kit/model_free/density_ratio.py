"""Batches by priorities that a learnt density ratio gives (Lee et al. 2021, arXiv:2107.00591, section 4.1).

A network learns the ratio w of the densities of online and offline transitions; those of a batch get the
priority (w^(1/T) / its mean over offline transitions), within 1e-3 and 1e3. Offline transitions begin at 1,
new online ones at the greatest priority so far, which begins such that the online transitions of the first
batch are drawn with probability ``online_share`` together.

Decided here: draws are independent (released code: stratified), priorities are those after the ratio's step.
Batches of one environment step are drawn together, so with ``utd_ratio`` above 1 priorities count from the
next step on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from ...agent import State, Task, later
from ...transitions import Transitions
from ..networks import Initialiser, Mlp, to_array, uniform_init
from ..options import Rate
from ..replay import Batch, Replay
from .config import OnlineConfig
from .online import Online
from .template import OffPolicy, Values

RATIO, RATIO_BATCH = "ratio", "transitions of the ratio"
LEAST, MOST, TINY = 1e-3, 1e3, 1e-10


class DensityRatioOptions(OnlineConfig):
    """Options of the priorities."""

    replay_data: Literal["union"] = "union"
    online_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the first batches that is online."""
    ratio_temperature: Rate = 5.0
    """Root of the density ratio that is a priority (T)."""
    replay_on_policy: None = later(None)
    """Transitions have these priorities; there are no others."""


C = TypeVar("C", bound=DensityRatioOptions)


def one_at_first(inputs: int, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return torch's first weights and biases of 1: the density ratio begins near 1."""
    weight, bias = uniform_init(inputs, shape, generator)
    return weight, torch.ones_like(bias)


class ByDensityRatio(Online[C], Generic[C]):
    """Adds the density ratio to a method's parts, and draws batches by it."""

    order = (*OffPolicy.order, RATIO)
    heads: ClassVar[Mapping[str, Initialiser]] = {RATIO: one_at_first}
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OffPolicy.metrics,
        RATIO: ("ratio/loss", "ratio/offline", "ratio/online"),
    }

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        odds = config.online_share / (1.0 - config.online_share)
        first = odds * len(data) / config.learning_starts
        self.greatest = torch.full((len(task.seeds),), first, device=task.device)
        """The priority of a new transition."""
        if self.priorities:
            self.priorities.set_all(torch.ones((len(task.seeds), len(data)), device=task.device))

    def networks(self) -> dict[str, Mlp]:
        """Add the density ratio."""
        ratio = self.mlp(RATIO, (), self.task.obs_dim + self.task.act_dim, 1)
        return {**super().networks(), RATIO: ratio}

    def ratio(self, batch: Batch, flat: Tensor | None = None) -> Tensor:
        """Return w >= 0 of transitions, (seeds, n)."""
        return torch.relu(self.nets[RATIO](torch.cat([batch.obs, batch.action], -1), flat).squeeze(-1))

    def ratio_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the loss whose minimum is the density ratio, and the means of w of both kinds, (3, seeds).

        The first half of the batch is offline, the second online: -log 2 / (1 + w) of the former and
        -log 2 w / (1 + w) of the latter (the Jensen-Shannon bound, eq. 4).
        """
        offline, online = self.ratio(batch, flat).chunk(2, -1)
        of_offline = -(2.0 / (offline + 1.0) + TINY).log().mean(-1)
        of_online = -(2.0 * online / (online + 1.0) + TINY).log().mean(-1)
        return torch.stack([of_offline + of_online, offline.mean(-1), online.mean(-1)])

    def widely(self) -> Sequence[str]:
        """Let the ratio learn from transitions of its own."""
        return (RATIO,)

    def row_numbers(self, updates: int) -> Tensor:
        """Return the batches, and behind each as many offline and online transitions for the ratio."""
        return torch.cat([self.batches(updates), self.both_kinds(updates)], -1)

    def both_kinds(self, updates: int) -> Tensor:
        """Return row numbers, (seeds, updates, 2 n): a batch of offline and one of online transitions."""
        uniform = self.streams.uniform(RATIO_BATCH, updates, 2 * self.config.batch_size)
        offline, online = uniform.chunk(2, -1)
        return torch.cat([self.replay.offline_index(offline), self.replay.online_index(online)], -1)

    def _one(
        self, moving: tuple[str, ...], replay: Replay, index: Tensor, scales: Tensor, *drawn: Tensor
    ) -> None:
        super()._one(moving, replay, index, scales, *drawn)
        if RATIO not in moving:
            return
        w = self.ratio(self.mapped(replay.take(index))) ** (1.0 / self.config.ratio_temperature)
        batch, offline, _ = w.chunk(3, -1)
        priority = (batch / (offline.mean(-1, keepdim=True) + TINY)).clamp(LEAST, MOST)
        rows = index[:, : self.config.batch_size]
        if self.priorities:
            self.priorities.set(self.places_of(rows), priority)
        self.greatest.copy_(torch.maximum(self.greatest, priority.amax(-1)))

    def prioritised(self) -> bool:
        """Return True."""
        return True

    def new_weight(self) -> Tensor:
        """Return the greatest priority so far, (seeds,)."""
        return self.greatest

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        return {**super().state_dict(), "greatest": to_array(self.greatest)}

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        self.greatest.copy_(torch.from_numpy(state["greatest"]))
