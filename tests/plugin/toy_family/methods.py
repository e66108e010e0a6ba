"""Two methods: ``toy_clone`` imitates the data, ``toy_refine`` goes on with what paid, old and new.

Both are made up, to show how methods of one family share a template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from o2obench import Budget, Metrics, Stage, Transitions
from o2obench.agent import count
from o2obench.kit.networks import to_array
from o2obench.transitions import Array
from o2obench.util.rng import Stream

from .template import Cloning, CloningConfig


class ToyClone(Cloning[CloningConfig]):
    """Behaviour cloning: all transitions of the data are equally likely."""

    Config = CloningConfig
    version = 1

    @classmethod
    def stages(cls, config: CloningConfig, budget: Budget) -> tuple[Stage, ...]:
        """Learn without the environment."""
        return (Stage("clone", updates=budget.offline_updates),)

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do all updates."""
        while self.updates < self.task.budget.offline_updates:
            self.learn(self.replay.offline_index(self._uniform()))
            yield {}

    def _uniform(self) -> Tensor:
        return self.streams.uniform(Stream.REAL_BATCH, self.config.batch_size)


class ToyRefineConfig(CloningConfig):
    """The template's options and how much is learnt online."""

    learning_starts: int = count(20, ge=0)
    utd_ratio: int = count(2, gt=0)
    least: float = 0.01
    """The priority of a transition that paid nothing."""


class ToyRefine(Cloning[ToyRefineConfig]):
    """Self-imitation: a transition is drawn the more often the more it paid."""

    Config = ToyRefineConfig
    version = 1
    pretrain: ClassVar[str | None] = "toy_clone"
    requires = ("actor",)

    @classmethod
    def stages(cls, config: ToyRefineConfig, budget: Budget) -> tuple[Stage, ...]:
        """Learn with the environment."""
        updates = config.utd_ratio * max(0, budget.online_steps - config.learning_starts)
        return (Stage("fine-tune", budget.online_steps, updates),)

    @classmethod
    def schedule(cls, config: ToyRefineConfig) -> Mapping[str, int]:
        """Return when learning starts, and the updates per environment step."""
        return {"learning_starts": config.learning_starts, "utd_ratio": config.utd_ratio}

    def columns(self, data: Transitions) -> Mapping[str, Array]:
        """Keep a priority beside each transition: a column of this method's own."""
        return {"priority": self._priority(data.reward)}

    def observe(self, step: Transitions) -> None:
        """Store the step with its priority."""
        self.replay.append(step, priority=self._priority(step.reward))
        if self.replay.online > self.config.learning_starts:
            self.due = self.config.utd_ratio

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do the updates that are due; log what the last batch paid."""
        while self.due:
            index = self.drawn()
            self.learn(index)
            self.due -= 1
            yield {} if self.due else {"batch/reward": to_array(self.replay.take(index).reward.mean(1))}

    def drawn(self) -> Tensor:
        """Draw transitions (seeds, batch) in proportion to their priorities."""
        replay, device = self.replay, self.task.device
        offline = torch.arange(replay.offline, device=device).expand(replay.seeds, -1)
        online = replay.online_base[:, None] + torch.arange(replay.online, device=device)
        rows = torch.cat([offline, online], dim=1)
        sums = replay.take(rows).columns["priority"].double().cumsum(1)
        wanted = self.streams.uniform(Stream.REAL_BATCH, self.config.batch_size) * sums[:, -1:]
        return rows.gather(1, torch.searchsorted(sums, wanted, right=True).clamp(max=rows.shape[1] - 1))

    def _priority(self, reward: Array) -> Array:
        return np.maximum(reward, self.config.least)
