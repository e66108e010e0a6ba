"""The replay buffer: all transitions of an agent in one matrix, offline, online and made by the model.

A row is ``obs | action | reward | next_obs | terminated`` in float32, and whatever columns an algorithm adds
by name (a return-to-go, the next action, a weight). The offline transitions come first and are shared; behind
them each seed has its online transitions, its model buffer, and room for transitions that an algorithm makes
itself. A batch is one ``index_select`` with row numbers of shape (seeds, ...), whatever mix of sources they
point to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..agent import State
from ..transitions import Array, Transitions
from ..util.config import nearest
from .networks import to_array


class Batch(NamedTuple):
    """Views of rows: obs, action, next_obs (..., dim); reward, terminated (...).

    ``columns`` holds an algorithm's own by name, (..., width), or (...) where the width is 1.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    columns: dict[str, Tensor] = {}  # noqa: RUF012  (empty, and never written to)


def gathered(batch: Batch, index: Tensor) -> Batch:
    """Return some transitions of a batch (seeds, n): those with the numbers ``index`` (seeds, k)."""

    def some(part: Tensor) -> Tensor:
        wide = index.view(*index.shape, *(1,) * (part.dim() - 2))
        return part.gather(1, wide.expand(*index.shape, *part.shape[2:]))

    obs, action, reward, next_obs, terminated = (some(part) for part in batch[:5])
    columns = {name: some(part) for name, part in batch.columns.items()}
    return Batch(obs, action, reward, next_obs, terminated, columns)


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Return the first and the second half of a batch (seeds, 2 n)."""
    half = torch.arange(batch.reward.shape[1] // 2, device=batch.reward.device).expand(len(batch.reward), -1)
    return gathered(batch, half), gathered(batch, half + half.shape[1])


class Replay:
    """The matrix and its counts. ``online`` is equal for all seeds, the fill of the model buffer is not.

    Args:
        data: The offline transitions.
        seeds: How many seeds there are.
        dims: (obs_dim, act_dim).
        online_capacity: Environment steps that a seed may store.
        model_capacity: Model transitions that a seed may store.
        device: Where the matrix lies.
        extra: Transitions of its own that an algorithm makes for each seed.
        columns: Columns of its own: their values (rows,) or (rows, width) for the offline transitions.
    """

    def __init__(
        self,
        data: Transitions,
        seeds: int,
        dims: tuple[int, int],
        online_capacity: int,
        model_capacity: int,
        device: str,
        extra: int = 0,
        columns: Mapping[str, Array] | None = None,
    ) -> None:
        self.obs_dim, self.act_dim = dims
        self.seeds, self.offline, self.online = seeds, len(data), 0
        self.online_capacity, self.model_capacity = online_capacity, model_capacity
        self.model_buffer_size = model_capacity
        """How much of the model buffer is in use; it grows with the rollout length."""
        self.extra = extra
        if taken := [name for name in columns or {} if name in Batch._fields]:
            raise ValueError(f"column {taken[0]}: a name of the buffer's own; call it something else")
        own = {name: np.atleast_2d(np.asarray(values).T).T for name, values in (columns or {}).items()}
        self.columns = {name: values.shape[1] for name, values in own.items()}
        """Name -> width of the algorithm's own columns."""
        stride = online_capacity + model_capacity + extra
        width = 2 * self.obs_dim + self.act_dim + 2 + sum(self.columns.values())
        self.rows = torch.zeros((self.offline + seeds * stride + 1, width), device=device)
        offline = self.unpack(self.rows[: self.offline])
        for name in ("obs", "action", "reward", "next_obs", "terminated"):  # one by one: data sets are large
            getattr(offline, name).copy_(torch.from_numpy(np.asarray(getattr(data, name))))
        for name, values in own.items():
            offline.columns[name].copy_(torch.from_numpy(values).view(offline.columns[name].shape))
        self.nowhere = len(self.rows) - 1
        self.online_base = self.offline + stride * torch.arange(seeds, device=device)
        self.model_base = self.online_base + online_capacity
        self.extra_base = self.model_base + model_capacity
        self.head = torch.zeros(seeds, dtype=torch.int64, device=device)
        self.fill = torch.zeros(seeds, dtype=torch.int64, device=device)

    def rows_of(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, terminated: Tensor, **own: Tensor
    ) -> Tensor:
        """Return transitions as rows (..., width); columns of an algorithm's own that are not given are 0.

        Raises ValueError for a column that the buffer was not built with.
        """
        for name in sorted(own.keys() - self.columns.keys()):
            raise ValueError(f"column {name}: not known; {nearest(name, self.columns)}")
        parts = [obs, action, reward[..., None], next_obs, terminated[..., None].float()]
        for name, width in self.columns.items():
            empty = torch.zeros((*reward.shape, width), device=reward.device)
            parts.append(own[name].view(*reward.shape, width) if name in own else empty)
        return torch.cat(parts, -1)

    def unpack(self, rows: Tensor) -> Batch:
        """Return the columns of rows (..., width) as views."""
        widths = [self.obs_dim, self.act_dim, 1, self.obs_dim, 1, *self.columns.values()]
        obs, action, reward, next_obs, terminated, *own = torch.split(rows, widths, -1)
        named = {
            name: part.squeeze(-1) if width == 1 else part
            for (name, width), part in zip(self.columns.items(), own, strict=True)
        }
        return Batch(obs, action, reward.squeeze(-1), next_obs, terminated.squeeze(-1), named)

    def take(self, index: Tensor) -> Batch:
        """Return the transitions with the row numbers ``index`` (any shape)."""
        return self.unpack(self.rows.index_select(0, index.flatten()).view(*index.shape, -1))

    def offline_index(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1) of shape (seeds, ...) to row numbers of offline transitions."""
        return (uniform * self.offline).long()

    def online_index(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1) of shape (seeds, ...) to row numbers of that seed's online transitions."""
        return (uniform * self.online).long() + _per_seed(self.online_base, uniform)

    def model_index(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1) of shape (seeds, ...) to row numbers of that seed's model buffer."""
        return (uniform * _per_seed(self.fill, uniform)).long() + _per_seed(self.model_base, uniform)

    def extra_index(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1) of shape (seeds, ...) to row numbers of what an algorithm made itself."""
        return (uniform * self.extra).long() + _per_seed(self.extra_base, uniform)

    def set_extra(self, rows: Tensor, first: int = 0) -> None:
        """Store rows (seeds, n, width) that an algorithm made, from the ``first`` of its own on."""
        for start, of_seed in zip((self.extra_base + first).tolist(), rows, strict=True):
            self.rows[start : start + len(of_seed)] = of_seed

    def append(self, step: Transitions, **own: Array) -> None:
        """Store one environment step of every seed, and the algorithm's own columns of it (seeds, ...)."""
        named = {name: np.asarray(values, np.float32) for name, values in own.items()}
        parts = (step.obs, step.action, step.reward, step.next_obs, step.terminated)
        floats = (torch.from_numpy(np.asarray(part, np.float32)) for part in parts)
        more = {name: torch.from_numpy(values) for name, values in named.items()}
        rows = self.rows_of(*floats, **more)
        self.rows[self.online_base + self.online] = rows.to(self.rows.device)
        self.online += 1

    def resize_model_buffer(self, size: int) -> None:
        """Use ``size`` rows of the model buffer from now on; what it holds is kept when it grows.

        New transitions then fill the new space first, and after that replace old ones from the start, in
        MBPO's way: right after a growth these need not be the oldest.
        """
        if size > self.model_buffer_size:
            self.head = torch.where(self.fill == self.model_buffer_size, self.fill, self.head)
        self.model_buffer_size = min(size, self.model_capacity)

    def clear_model_buffer(self) -> None:
        """Forget all model transitions."""
        self.head.zero_()
        self.fill.zero_()

    def push(self, rows: Tensor, alive: Tensor) -> None:
        """Write the living ones of rows (seeds, n, width) into each seed's model buffer, over its oldest."""
        rank = alive.long().cumsum(1) - 1
        place = (self.head[:, None] + rank) % self.model_buffer_size + self.model_base[:, None]
        place = torch.where(alive, place, self.nowhere)
        self.rows.index_copy_(0, place.flatten(), rows.flatten(0, 1))
        count = alive.sum(1)
        self.head = (self.head + count) % self.model_buffer_size
        self.fill = (self.fill + count).clamp(max=self.model_buffer_size)

    def online_transitions(self) -> Array:
        """Return the rows of the online transitions (seeds, n, width)."""
        return self._of_each_seed(self.online_base, self.online)

    def state_dict(self) -> State:
        """Return everything but the offline transitions."""
        filled = int(self.fill.max())
        return {
            "online": self.online,
            "online_transitions": self.online_transitions(),
            "model_buffer_size": self.model_buffer_size,
            "model_transitions": self._of_each_seed(self.model_base, filled),
            "head": to_array(self.head),
            "fill": to_array(self.fill),
            "extra": self._of_each_seed(self.extra_base, self.extra),
        }

    def load_state_dict(self, state: State) -> None:
        """Take the transitions back."""
        self.online, self.model_buffer_size = state["online"], state["model_buffer_size"]
        parts = ((self.online_base, "online_transitions"), (self.model_base, "model_transitions"))
        for base, name in parts:
            for start, of_seed in zip(base.tolist(), state[name], strict=True):
                self.rows[start : start + len(of_seed)] = torch.from_numpy(of_seed)
        self.set_extra(torch.from_numpy(state["extra"]).to(self.rows))
        self.head.copy_(torch.from_numpy(state["head"]))
        self.fill.copy_(torch.from_numpy(state["fill"]))

    def _of_each_seed(self, base: Tensor, count: int) -> Array:
        return np.stack([to_array(self.rows[start : start + count]) for start in base.tolist()])


def _per_seed(values: Tensor, like: Tensor) -> Tensor:
    """Shape (seeds,) values so that they broadcast along the first axis of ``like``."""
    return values.view(-1, *(1,) * (like.dim() - 1))
