"""Termination rules of the tasks, on raw observations, as a dynamics model needs them.

Strict as in Gymnasium. Each says "not healthy", so that NaN ends an episode. A data card may hold a rule of
one's own as data (``from_data``).
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

from ..agent import Terminal
from ..errors import UserError

INFINITY = float("inf")


COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
JOINED = {"any": operator.or_, "all": operator.and_}
COLUMNS = ("obs", "action", "next_obs")
DEEPEST = 8


def from_data(rule: Any, obs_dim: int, act_dim: int) -> Terminal:
    """Return a rule that was written down as data.

    ``"never"``, a comparison ``["next_obs", 0, "<", 0.7]`` (a column, an index in it, one of < <= > >=, a
    number), or ``{"any": [...]}`` and ``{"all": [...]}`` of them. What is not finite ends an episode, too.

    Raises:
        UserError: It is none of these; the message says which part.
    """
    _require(rule, obs_dim, act_dim, DEEPEST)

    def terminal(obs: Any, action: Any, next_obs: Any) -> Any:
        broken = never_terminal(obs, action, next_obs)
        return broken if rule == "never" else broken | _holds(rule, (obs, action, next_obs))

    return terminal


def _require(rule: Any, obs_dim: int, act_dim: int, depth: int) -> None:
    if rule == "never" and depth == DEEPEST:
        return
    shown = f"{rule!r:.60}"
    parts = rule.get("any", rule.get("all")) if isinstance(rule, dict) and len(rule) == 1 else None
    if isinstance(parts, list) and parts and depth:
        for part in parts:
            _require(part, obs_dim, act_dim, depth - 1)
        return
    if not (isinstance(rule, list) and len(rule) == 4 and rule[0] in COLUMNS and rule[2] in COMPARISONS):
        raise UserError(
            f'{shown}: not a rule of termination; write "never", ["next_obs", 0, "<", 0.7], or '
            '{"any": [...]} or {"all": [...]} of such comparisons'
        )
    column, index, _, bound = rule
    width = act_dim if column == "action" else obs_dim
    if type(index) is not int or not 0 <= index < width:
        raise UserError(f"{shown}: {index!r:.20} is no index of {column}, which has {width} components")
    if type(bound) not in (int, float) or not math.isfinite(bound):
        raise UserError(f"{shown}: {bound!r:.20} is no number to compare with")


def _holds(rule: Any, columns: tuple[Any, Any, Any]) -> Any:
    if isinstance(rule, dict):
        [(name, parts)] = rule.items()
        return functools.reduce(JOINED[name], (_holds(part, columns) for part in parts))
    column, index, comparison, bound = rule
    return COMPARISONS[comparison](columns[COLUMNS.index(column)][..., index], bound)


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
