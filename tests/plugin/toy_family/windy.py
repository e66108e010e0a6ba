"""An environment of the family's own, the point mass in a wind, and data for it.

``python -m toy_family.windy windy.hdf5`` writes the data where the suite looks for them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from o2obench.envs.pointmass import PointMass, good_action, left_the_field
from o2obench.envs.spec import EnvSpec
from o2obench.transitions import Array

WIND = np.array([0.3, 0.0])


class WindyMass(PointMass):
    """The point mass; the wind pushes it to the right."""

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Add the wind to the force."""
        return super().step(np.asarray(action) + WIND)


WINDY = EnvSpec("WindyMass-v0", 4, 2, WindyMass.horizon, WindyMass, left_the_field)


def write_data(file: Path, episodes: int = 40) -> None:
    """Write episodes of a noisy controller in D4RL's layout, and the card that says what they are.

    ``ref_min`` and ``ref_max`` are the returns that count as score 0 and 100.
    """
    random, env, kept = np.random.default_rng(0), WindyMass(), []
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        ended = False
        while not ended:
            action = 0.2 * good_action(obs) + 0.8 * random.uniform(-1.0, 1.0, 2)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            kept.append((obs, action, reward, next_obs, terminated, truncated))
            obs, ended = next_obs, terminated or truncated
    keys = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    import h5py  # reading data is not what the environment needs

    with h5py.File(file, "w") as root:
        for key, values in zip(keys, zip(*kept, strict=True), strict=True):
            array = np.array(values)
            root[key] = array if array.dtype == bool else array.astype(np.float32)
    card = {"environment": WINDY.id, "ref_min": 0.0, "ref_max": 40.0}
    file.with_suffix(".json").write_text(json.dumps(card))


if __name__ == "__main__":
    write_data(Path(sys.argv[1]))
