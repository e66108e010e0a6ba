"""Termination rules of the tasks, on raw observations, as a dynamics model needs them.

Strict as in Gymnasium. Each says "not healthy", so that NaN ends an episode.
"""

from __future__ import annotations

from typing import Any

INFINITY = float("inf")


def halfcheetah_terminal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Never by the task; a guard ends rollouts whose numbers have left any range (OfflineRL-Kit)."""
    return ~((next_obs < 100) & (next_obs > -100)).all(-1)


def hopper_terminal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Unhealthy: height <= 0.7, |angle| >= 0.2, or any other component outside (-100, 100).

    The reference codes apply ``abs`` to the comparison instead of the state, so that -101 passes
    there; here it does not.
    """
    height, angle, rest = next_obs[..., 0], next_obs[..., 1], next_obs[..., 1:]
    upright = (height > 0.7) & (height < INFINITY) & (angle < 0.2) & (angle > -0.2)
    return ~(upright & ((rest < 100) & (rest > -100)).all(-1))


def walker2d_terminal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Unhealthy: height outside (0.8, 2), angle outside (-1, 1), or the guard of 100."""
    height, angle = next_obs[..., 0], next_obs[..., 1]
    upright = (height > 0.8) & (height < 2.0) & (angle > -1.0) & (angle < 1.0)
    return ~(upright & ((next_obs < 100) & (next_obs > -100)).all(-1))


def pendulum_terminal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Fallen: |angle| > 0.2, or a component that is not finite."""
    angle = next_obs[..., 1]
    finite = ((next_obs < INFINITY) & (next_obs > -INFINITY)).all(-1)
    return ~((angle <= 0.2) & (angle >= -0.2) & finite)


def ant_terminal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Unhealthy: height outside [0.2, 1], or a component that is not finite."""
    height = next_obs[..., 0]
    finite = ((next_obs < INFINITY) & (next_obs > -INFINITY)).all(-1)
    return ~((height >= 0.2) & (height <= 1.0) & finite)


def humanoid_terminal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Unhealthy: height outside (1, 2), or a component that is not finite."""
    height = next_obs[..., 0]
    finite = ((next_obs < INFINITY) & (next_obs > -INFINITY)).all(-1)
    return ~((height > 1.0) & (height < 2.0) & finite)


def never_terminal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Never by the task; what is not finite ends a rollout in a model."""
    return ~((next_obs < INFINITY) & (next_obs > -INFINITY)).all(-1)


def double_pendulum_terminal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Fallen: the tip of the second pole (two poles of 0.6) is at height 1 or below.

    The observation holds sin and cos of both angles, from which the tip's height follows.
    """
    sin1, sin2, cos1, cos2 = (next_obs[..., i] for i in (1, 2, 3, 4))
    tip = 0.6 * cos1 + 0.6 * (cos1 * cos2 - sin1 * sin2)
    return ~((tip > 1.0) & ((next_obs < INFINITY) & (next_obs > -INFINITY)).all(-1))
