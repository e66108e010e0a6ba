"""Episodes of a replay buffer as ranges of its rows, and pieces of them with their returns-to-go.

A piece is up to ``length`` consecutive steps of an episode from a uniformly drawn step on; shorter ones are
filled up on the left. So an episode is drawn in proportion to its length.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..transitions import Array, Transitions


class Trajectories:
    """Episodes, each a range of rows: begin and end, both int64."""

    def __init__(self, data: Transitions) -> None:
        """Begin with all episodes of a data set; their rows are numbered as its transitions are."""
        begins = np.flatnonzero(data.episode_start)
        self.ranges = np.stack([begins, np.append(begins[1:], len(data))[: len(begins)]], 1).astype(np.int64)
        self.replaced = 0
        """Episodes in whose place others came."""

    def keep_best(self, to_go: Array, most: int) -> None:
        """Keep the ``most`` episodes of the highest return, the lowest of them first.

        ``to_go``: the return-to-go of each row.
        """
        returns = to_go[self.ranges[:, 0]]
        self.ranges = self.ranges[np.argsort(returns, kind="stable")[-most:]]

    def add(self, begin: int, end: int, most: int) -> None:
        """Add an episode at the end; once there are ``most``, in the place of the first, the second, .."""
        added = np.array([[begin, end]], np.int64)
        if len(self.ranges) < most:
            self.ranges = np.concatenate([self.ranges, added])
        else:
            self.ranges[self.replaced % most] = added
            self.replaced += 1

    def pieces(self, uniform: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Return row numbers of pieces, (n, length), and where they are steps of an episode, bool.

        ``uniform`` (n,) float64 in [0, 1) says which; where a piece is filled up its first row is repeated.
        """
        ranges = torch.from_numpy(self.ranges).to(uniform.device)
        lengths = ranges[:, 1] - ranges[:, 0]
        ends = lengths.cumsum(0)
        step = (uniform * ends[-1]).long()
        episode = torch.searchsorted(ends, step, right=True)
        first = ranges[episode, 0] + step - (ends[episode] - lengths[episode])
        many = (ranges[episode, 1] - first).clamp(max=length)
        place = torch.arange(length, device=uniform.device) - (length - many)[:, None]
        return first[:, None] + place.clamp(min=0), place >= 0


def returns_to_go(reward: Array, ranges: Array) -> Array:
    """Return the undiscounted sum of rewards from each row to its episode's end, float32; 0 elsewhere."""
    out = np.zeros(len(reward), np.float32)
    for begin, end in ranges:
        out[begin:end] = np.cumsum(reward[begin:end][::-1], dtype=np.float64)[::-1]
    return out
