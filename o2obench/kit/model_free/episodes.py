"""Length and return of each seed's running training episode, for methods that act on them."""

from __future__ import annotations

import numpy as np

from ...agent import State
from ...transitions import Array, Transitions


class Episodes:
    """Counts the episodes of ``seeds`` seeds; ``length`` (steps) and ``total`` (raw return) are (seeds,)."""

    def __init__(self, seeds: int) -> None:
        self.length = np.zeros(seeds, np.int64)
        self.total = np.zeros(seeds)

    def step(self, step: Transitions) -> tuple[Array, Array, Array]:
        """Count a step of every seed; return which episodes it ended, their lengths and returns.

        Those that ended begin anew. Arrays are (seeds,); those of episodes that go on are the counts so far.
        """
        ended = np.asarray(step.terminated | step.truncated)
        lengths, returns = self.length + 1, self.total + step.reward
        self.length, self.total = np.where(ended, 0, lengths), np.where(ended, 0.0, returns)
        return ended, lengths, returns

    def state_dict(self) -> State:
        """Return the counts."""
        return {"length": self.length.copy(), "total": self.total.copy()}

    def load_state_dict(self, state: State) -> None:
        """Take them back."""
        self.length, self.total = state["length"].copy(), state["total"].copy()
