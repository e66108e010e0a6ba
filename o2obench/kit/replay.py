"""All transitions of an agent in one packed matrix: offline rows, online rows, rows made by the model.

A row is ``obs | action | reward | next_obs | terminated`` in float32. The offline rows come first and
are shared; behind them each seed has its online rows, its ring of model rows, and room for rows that an
algorithm makes itself. A batch is one
``index_select`` with row numbers of shape (seeds, ...), whatever mix of sources they point to.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..agent import State, Transitions
from .networks import to_array


class Batch(NamedTuple):
    """Views of packed rows: obs, action, next_obs (..., dim); reward, terminated (...)."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor


class Replay:
    """The packed matrix and its counts. ``online`` is equal for all seeds, the ring's fill is not."""

    def __init__(
        self,
        data: Transitions,
        seeds: int,
        dims: tuple[int, int],
        online_capacity: int,
        ring_capacity: int,
        device: str,
        extra: int = 0,
    ) -> None:
        self.obs_dim, self.act_dim = dims
        self.seeds, self.offline, self.online = seeds, len(data), 0
        self.online_capacity, self.ring_capacity = online_capacity, ring_capacity
        self.ring_size = ring_capacity
        """How much of the ring is in use; it grows with the horizon."""
        self.extra = extra
        stride = online_capacity + ring_capacity + extra
        width = 2 * self.obs_dim + self.act_dim + 2
        self.rows = torch.zeros((self.offline + seeds * stride + 1, width), device=device)
        offline = self.unpack(self.rows[: self.offline])
        for name, column in offline._asdict().items():  # one by one: data sets are large
            column.copy_(torch.from_numpy(np.asarray(getattr(data, name))))
        self.nowhere = len(self.rows) - 1
        self.online_base = self.offline + stride * torch.arange(seeds, device=device)
        self.ring_base = self.online_base + online_capacity
        self.extra_base = self.ring_base + ring_capacity
        self.head = torch.zeros(seeds, dtype=torch.int64, device=device)
        self.fill = torch.zeros(seeds, dtype=torch.int64, device=device)

    def pack(self, steps: Transitions) -> Tensor:
        """Return transitions as rows (..., width)."""
        columns = (
            steps.obs,
            steps.action,
            steps.reward[..., None],
            steps.next_obs,
            steps.terminated[..., None],
        )
        return torch.from_numpy(np.concatenate([np.asarray(c, np.float32) for c in columns], -1))

    def unpack(self, rows: Tensor) -> Batch:
        """Return the columns of rows (..., width) as views."""
        widths = [self.obs_dim, self.act_dim, 1, self.obs_dim, 1]
        obs, action, reward, next_obs, terminated = torch.split(rows, widths, -1)
        return Batch(obs, action, reward.squeeze(-1), next_obs, terminated.squeeze(-1))

    def take(self, index: Tensor) -> Batch:
        """Return the rows with the numbers ``index`` (any shape)."""
        return self.unpack(self.rows.index_select(0, index.flatten()).view(*index.shape, -1))

    def offline_index(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1) of shape (seeds, ...) to offline row numbers."""
        return (uniform * self.offline).long()

    def online_index(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1) of shape (seeds, ...) to online row numbers of that seed."""
        return (uniform * self.online).long() + _per_seed(self.online_base, uniform)

    def ring_index(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1) of shape (seeds, ...) to row numbers of that seed's ring."""
        return (uniform * _per_seed(self.fill, uniform)).long() + _per_seed(self.ring_base, uniform)

    def extra_index(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1) of shape (seeds, ...) to numbers of the rows that an algorithm made."""
        return (uniform * self.extra).long() + _per_seed(self.extra_base, uniform)

    def set_extra(self, rows: Tensor) -> None:
        """Store rows (seeds, extra, width) that an algorithm made."""
        for start, of_seed in zip(self.extra_base.tolist(), rows, strict=True):
            self.rows[start : start + self.extra] = of_seed

    def append(self, step: Transitions) -> None:
        """Store one environment step of every seed."""
        self.rows[self.online_base + self.online] = self.pack(step).to(self.rows.device)
        self.online += 1

    def resize_ring(self, size: int) -> None:
        """Use ``size`` rows of the ring from now on; what it holds is kept when it grows.

        New rows then fill the new space first, and after that replace old rows from the ring's start, in
        MBPO's way: right after a growth these need not be the oldest.
        """
        if size > self.ring_size:
            self.head = torch.where(self.fill == self.ring_size, self.fill, self.head)
        self.ring_size = min(size, self.ring_capacity)

    def clear_ring(self) -> None:
        """Forget all rows made by a model."""
        self.head.zero_()
        self.fill.zero_()

    def push(self, rows: Tensor, alive: Tensor) -> None:
        """Write the living ones of rows (seeds, n, width) into each seed's ring, the oldest first out."""
        rank = alive.long().cumsum(1) - 1
        place = (self.head[:, None] + rank) % self.ring_size + self.ring_base[:, None]
        place = torch.where(alive, place, self.nowhere)
        self.rows.index_copy_(0, place.flatten(), rows.flatten(0, 1))
        count = alive.sum(1)
        self.head = (self.head + count) % self.ring_size
        self.fill = (self.fill + count).clamp(max=self.ring_size)

    def online_rows(self) -> np.ndarray:
        """Return the online rows (seeds, n, width)."""
        return self._of_each_seed(self.online_base, self.online)

    def state_dict(self) -> State:
        """Return everything but the offline rows."""
        filled = int(self.fill.max())
        return {
            "online": self.online,
            "online_rows": self.online_rows(),
            "ring_size": self.ring_size,
            "ring_rows": self._of_each_seed(self.ring_base, filled),
            "head": to_array(self.head),
            "fill": to_array(self.fill),
            "extra": self._of_each_seed(self.extra_base, self.extra),
        }

    def load_state_dict(self, state: State) -> None:
        """Take the rows back."""
        self.online, self.ring_size = state["online"], state["ring_size"]
        for base, rows in ((self.online_base, state["online_rows"]), (self.ring_base, state["ring_rows"])):
            for start, of_seed in zip(base.tolist(), rows, strict=True):
                self.rows[start : start + len(of_seed)] = torch.from_numpy(of_seed)
        self.set_extra(torch.from_numpy(state["extra"]).to(self.rows))
        self.head.copy_(torch.from_numpy(state["head"]))
        self.fill.copy_(torch.from_numpy(state["fill"]))

    def _of_each_seed(self, base: Tensor, count: int) -> np.ndarray:
        return np.stack([to_array(self.rows[start : start + count]) for start in base.tolist()])


def _per_seed(values: Tensor, like: Tensor) -> Tensor:
    """Shape (seeds,) values so that they broadcast along the first axis of ``like``."""
    return values.view(-1, *(1,) * (like.dim() - 1))
