"""Batches of windows: transitions that follow each other within an episode, drawn by their last errors.

A window is ``horizon`` transitions from a drawn one on; those beyond the end of its episode, or beyond what
is stored, do not count (``alive``). It is drawn by the priority of its first transition (prioritised replay,
arXiv:1511.05952): the size of its error when it was last learnt from, to the power 0.6; transitions that
come later begin with the greatest that there is. The loss of a window is weighted by the -0.4th power of its
probability, divided by the greatest of its kind in the batch.

Batches of an online run have an exact share of offline windows, whose priorities begin at 1. Up to 100
offline batches are drawn together, by the priorities before the first of them; weights are by those of the
moment.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...agent import State, Task
from ...transitions import Array, Transitions
from ...util.rng import Stream
from ..model_free.config import OffPolicyConfig
from ..model_free.priority import Priorities
from ..model_free.template import OffPolicy
from ..options import Members
from ..replay import Replay

FIRST, WEIGHT = "first", "weight"
"""Columns: whether a transition begins an episode; how much its window's loss counts."""
TO_PRIORITY, TO_WEIGHT = 0.6, -0.4
LEAST_ERROR, MOST_ERROR = 1e-6, 1e4


class WindowOptions(OffPolicyConfig):
    """Options of the windows; ``batch_size`` counts windows."""

    horizon: Members = 5
    """Transitions of a window."""


C = TypeVar("C", bound=WindowOptions)


class ByWindows(OffPolicy[C], Generic[C]):
    """Draws windows; a loss finds their transitions one after another in its batch, (seeds, windows horizon).

    A loss leaves the size of each window's error in ``errors`` (seeds, windows).
    """

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.replay.unpack(self.replay.rows[self.replay.nowhere]).columns[FIRST].fill_(1.0)
        seeds = len(task.seeds)
        self.offline = Priorities(seeds, len(data), task.device)
        self.online = Priorities(seeds, self.replay.online_capacity, task.device)
        self.offline.set_all(torch.ones((seeds, len(data)), device=task.device))
        self.errors = torch.zeros((seeds, config.batch_size), device=task.device)

    def offline_share(self) -> float:
        """Return the share of offline windows in a batch once there are online ones."""
        return 0.0

    def columns(self, data: Transitions) -> dict[str, Array]:
        """Keep where episodes begin."""
        return {FIRST: data.episode_start.astype(np.float32)}

    def columns_of(self, step: Transitions) -> dict[str, Array]:
        """Return whether a step begins an episode."""
        return {FIRST: np.asarray(step.episode_start, np.float32)}

    def batches(self, updates: int) -> Tensor:
        """Return row numbers of windows, (seeds, updates, windows horizon)."""
        uniform = self.streams.uniform(Stream.REAL_BATCH, updates, self.config.batch_size)
        of_offline, of_online = uniform.split(self._kinds(), -1)
        base = self.replay.online_base[:, None, None]
        drawn = [  # update by update, which keeps the search small
            torch.stack([of.draw(part) for part in numbers.unbind(1)], 1)
            for of, numbers in ((self.offline, of_offline), (self.online, of_online))
        ]
        first = torch.cat([drawn[0], drawn[1] + base], -1)
        ahead = torch.arange(self.config.horizon, device=first.device)
        end = torch.where(first < self.replay.offline, self.replay.offline, base + self.replay.online)
        rows = first[..., None] + ahead
        return torch.where(rows < end[..., None], rows, self.replay.nowhere).flatten(-2)

    def _kinds(self) -> list[int]:
        """Return how many windows of a batch are offline and how many online."""
        windows = self.config.batch_size
        share = self.offline_share() if self.replay.offline else 0.0
        offline = int(share * windows) if self.replay.online else windows
        return [offline, windows - offline]

    def alive(self, first: Tensor) -> Tensor:
        """Return what of windows counts, 1 or 0; ``first`` (seeds, windows, horizon) begins episodes."""
        goes_on = torch.cat([torch.ones_like(first[..., :1]), 1.0 - first[..., 1:]], -1)
        return goes_on.cumprod(-1)

    def _one(
        self, moving: tuple[str, ...], replay: Replay, index: Tensor, scales: Tensor, *drawn: Tensor
    ) -> None:
        batch, first = replay.take(index), index.unflatten(-1, (-1, self.config.horizon))[..., 0]
        offline, online = first.split(self._kinds(), -1)
        online = online - replay.online_base[:, None]
        batch.columns[WEIGHT] = torch.cat(
            [self._weights(self.offline, offline), self._weights(self.online, online)], -1
        )
        self.losses += self._update(moving)(batch, None, scales, *drawn)
        priority = self.errors.clamp(LEAST_ERROR, MOST_ERROR) ** TO_PRIORITY
        of_offline, of_online = priority.split(self._kinds(), -1)
        self.offline.set(offline, of_offline)
        self.online.set(online, of_online)

    def _weights(self, of: Priorities, places: Tensor) -> Tensor:
        """Return the weights of windows (seeds, n) that were drawn from ``of``."""
        if not places.shape[-1]:
            return torch.zeros_like(places, dtype=torch.float32)
        weight = of.weights.flatten(1).gather(1, places) ** TO_WEIGHT
        return (weight / weight.amax(-1, keepdim=True)).float()

    def rank_newest(self) -> None:
        """Give the step that was just stored the greatest priority that there is, 1 where there is none."""
        place = torch.full((len(self.task.seeds), 1), self.replay.online - 1, device=self.task.device)
        greatest = torch.maximum(self.offline.weights.amax((1, 2)), self.online.weights.amax((1, 2)))
        self.online.set(place, torch.where(greatest > 0, greatest, 1.0)[:, None])

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        return {
            **super().state_dict(),
            "offline_priorities": self.offline.state_dict(),
            "online_priorities": self.online.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        self.offline.load_state_dict(state["offline_priorities"])
        self.online.load_state_dict(state["online_priorities"])
