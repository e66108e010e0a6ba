"""A toy task for tests, tutorials and ``o2obench check``: push a point mass to the middle of a field.

Small enough that a run takes seconds, yet with all that matters: continuous actions, a reward to be
learnt, a way to fail (leaving the field terminates) and a time limit (truncation).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..transitions import Array

FIELD = 1.5
PIXELS = 160
GROUND, GLOW, MASS = (255, 255, 255), (0, 114, 178), (213, 94, 0)


def left_the_field(obs: Any, action: Any, next_obs: Any) -> Any:
    """Terminated: a coordinate of the position is not inside (-1.5, 1.5)."""
    position = next_obs[..., :2]
    return ~((position < FIELD) & (position > -FIELD)).all(-1)


class PointMass:
    """Gymnasium's ``reset`` and ``step`` over obs (x, y, vx, vy) and a force in [-1, 1]^2."""

    horizon: ClassVar[int] = 50
    metadata: ClassVar[dict[str, Any]] = {"render_fps": 20}

    def reset(self, *, seed: int | None = None) -> tuple[Array, dict[str, Any]]:
        """Start at rest, anywhere in the middle two thirds of the field."""
        self.random = np.random.default_rng(seed)
        self.state = np.concatenate([self.random.uniform(-1.0, 1.0, 2), np.zeros(2)])
        self.steps = 0
        return self.state.astype(np.float32), {}

    def set_state(self, obs: Array) -> None:
        """Stand where an observation says."""
        self.state, self.steps = np.asarray(obs, np.float64).copy(), 0

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Return (obs, reward, terminated, truncated, info); the reward is exp(-2 |position|^2)."""
        velocity = 0.9 * self.state[2:] + 0.1 * np.clip(action, -1.0, 1.0)
        position = self.state[:2] + 0.3 * velocity
        self.state = np.concatenate([position, velocity])
        self.steps += 1
        terminated = bool(left_the_field(None, None, self.state))
        truncated = self.steps >= self.horizon and not terminated
        reward = float(np.exp(-2.0 * np.square(position).sum()))
        return self.state.astype(np.float32), reward, terminated, truncated, {}

    def render(self) -> Array:
        """Return a picture (160, 160, 3), uint8: the mass on ground that is the bluer the more it pays."""
        axis = np.linspace(-FIELD, FIELD, PIXELS)
        glow = np.exp(-2.0 * (axis[None] ** 2 + axis[:, None] ** 2))[..., None]
        picture = np.array(GROUND) * (1.0 - 0.5 * glow) + np.array(GLOW) * 0.5 * glow
        across, up = axis[None] - self.state[0], -axis[:, None] - self.state[1]
        picture[across**2 + up**2 < 0.07**2] = MASS
        return picture.round().astype(np.uint8)


def good_action(obs: Array) -> Array:
    """Return a nearly optimal force for obs (..., 4): a proportional-derivative controller."""
    return np.clip(-5.0 * obs[..., :2] - 4.0 * obs[..., 2:], -1.0, 1.0)
