"""Transitions: experience as arrays that share their leading axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Transitions:
    """Experience as arrays that share their leading axes; float32 and bool.

    A data set has one leading axis (transitions, in the order they were made), one environment step of a
    seed batch has the seeds. ``episode_start`` marks the first row of each episode. ``terminated`` is an
    end that belongs to the task, ``truncated`` one that belongs to the clock. Actions lie in [-1, 1].
    """

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array
    truncated: Array
    episode_start: Array

    def __len__(self) -> int:
        return len(self.reward)

    def __getitem__(self, rows: Any) -> Transitions:
        return Transitions(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def stack_steps(steps: Sequence[Transitions]) -> Transitions:
    """Join single steps along a new first axis: the seeds of a seed batch."""
    names = Transitions.__dataclass_fields__
    return Transitions(**{name: np.stack([getattr(step, name) for step in steps]) for name in names})


def episode_returns(data: Transitions) -> tuple[Array, Array]:
    """Return raw return and length of every episode, the last and possibly cut one included."""
    starts = np.flatnonzero(data.episode_start)
    returns = np.add.reduceat(data.reward.astype(np.float64), starts)
    return returns, np.diff([*starts, len(data)])
