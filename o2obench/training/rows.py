"""The steps of a collection, by D4RL's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..envs.spec import EnvSpec
from ..transitions import Array, Transitions

COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
FIRST = 1024
"""Rows for which there is room at first; it doubles when it is used up."""


class Rows:
    """Columns that grow row by row: those of every step, and the simulator's state where there is one.

    They are arrays with room to spare. Small arrays in a list, each kept for good, come to lie between the
    blocks that an update frees, which no other block fits then: trainings of 100,000 steps took 10 GiB.
    """

    def __init__(self, stored: Mapping[str, Array] | None = None) -> None:
        self.buffers = {key: np.array(values) for key, values in (stored or {}).items()}
        self.counts = {key: len(values) for key, values in self.buffers.items()}

    def __len__(self) -> int:
        return self.counts.get("rewards", 0)

    def note_state(self, env: Any) -> None:
        """Note the simulator's state before a step, where there is one."""
        simulator = getattr(env, "unwrapped", env)
        if hasattr(simulator, "data"):
            self._add("infos/qpos", simulator.data.qpos)
            self._add("infos/qvel", simulator.data.qvel)

    def append(self, spec: EnvSpec, step: Transitions) -> None:
        """Append a step, its action in the environment's own range."""
        action = spec.from_unit(step.action)
        values = (step.obs, action, step.reward, step.terminated, step.truncated, step.next_obs)
        for key, value in zip(COLUMNS, values, strict=True):
            self._add(key, value)

    def _add(self, key: str, value: Any) -> None:
        row = np.asarray(value)
        count = self.counts.get(key, 0)
        if key not in self.buffers:
            self.buffers[key] = np.empty((FIRST, *row.shape), row.dtype)
        elif count == len(self.buffers[key]):
            self.buffers[key] = np.concatenate([self.buffers[key], np.empty_like(self.buffers[key])])
        self.buffers[key][count] = row
        self.counts[key] = count + 1

    def stored(self) -> dict[str, Array]:
        """Return what there is, as a checkpoint holds it."""
        return {key: buffer[: self.counts[key]] for key, buffer in self.buffers.items()}

    def arrays(self, end: int | None = None) -> dict[str, Array]:
        """Return the first ``end`` rows; the last one ends its episode."""
        arrays = {key: values[:end].copy() for key, values in self.stored().items()}
        arrays["timeouts"][-1] = not arrays["terminals"][-1]
        return arrays
