"""Goal environments: their dictionaries of observations, as vectors, and what is paid for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..transitions import Array

Parts = Mapping[str, Array]
"""Observations (..., width) by key; a key within a key by its path, such as ``desired_goal/kettle``."""


@dataclass(frozen=True)
class GoalObservations:
    """How an environment's dictionaries become vectors, and what it pays for them."""

    widths: Mapping[str, int]
    """The keys that are read, each with its width."""
    vector: Callable[[Parts], Array]
    """Return the vectors (..., obs_dim)."""
    outcome: Callable[[Parts], tuple[Array, Array]]
    """Return reward (n,) and terminated (n,) of an episode's steps from its n + 1 observations."""


def parts(obs: Mapping[str, Any]) -> dict[str, Array]:
    """Return a dictionary of observations with those within it by their paths."""
    flat = dict[str, Array]()
    for key, value in obs.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{inner}": part for inner, part in parts(value).items()}
        else:
            flat[key] = value
    return flat


STATE_AND_GOAL = ("observation", "desired_goal")
"""What the vectors of goal environments hold, in this order."""


def joined(keys: Sequence[str]) -> Callable[[Parts], Array]:
    """Return what joins the parts of these keys, in this order."""

    def vector(obs: Parts) -> Array:
        return np.concatenate([obs[key] for key in keys], axis=-1)

    return vector
