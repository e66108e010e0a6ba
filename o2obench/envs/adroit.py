"""D4RL's tasks for Adroit, a hand of 24 joints: turn a pen, open a door, hammer a nail, relocate a ball.

Physics and rewards are those of gymnasium-robotics (``AdroitHand*-v1``), whose episodes end otherwise than
D4RL's (arXiv:2004.07219; rail-berkeley/d4rl, hand_manipulation_suite). Here the pen's end after 100 steps,
or when the pen falls below 0.075; the others' after 200. ``*-Binary-v0`` are the sparse tasks of AWAC and
Cal-QL (arXiv:2006.09359, 2303.05479): each step costs 1 until the task is done, which ends the episode and
costs nothing; a pen that falls does not end it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..agent import Terminal
from .termination import never_terminal

FALLEN = 0.075
"""Height in metres below which the pen has fallen."""
PEN_NEAR, PEN_ALIGNED = 0.075, 0.95
"""The pen is turned: distance to its place, and cosine between its axis and the target's."""
DOOR_OPEN = 1.35
"""Angle in radians from which on the door is open."""
BALL_NEAR = 0.1
"""Distance from the target at which the ball is relocated."""


def pen_has_fallen(obs: Any, action: Any, next_obs: Any) -> Any:
    """Terminated: the pen, whose height is observation 26, is below 0.075; or something is not finite."""
    return never_terminal(obs, action, next_obs) | (next_obs[..., 26] < FALLEN)


def pen_is_turned(obs: Any, action: Any, next_obs: Any) -> Any:
    """Terminated: the pen is in its place (39 to 41: the way there) and lies as its target does (33, 36)."""
    axes = (next_obs[..., 33:36] * next_obs[..., 36:39]).sum(-1)
    turned = ((next_obs[..., 39:42] ** 2).sum(-1) < PEN_NEAR**2) & (axes > PEN_ALIGNED)
    return never_terminal(obs, action, next_obs) | turned


def door_is_open(obs: Any, action: Any, next_obs: Any) -> Any:
    """Terminated: the door's angle, observation 28, is 1.35 or more; or something is not finite."""
    return never_terminal(obs, action, next_obs) | (next_obs[..., 28] >= DOOR_OPEN)


def ball_is_relocated(obs: Any, action: Any, next_obs: Any) -> Any:
    """Terminated: the ball is within 0.1 of its target (36 to 38: the way); or something is not finite."""
    return never_terminal(obs, action, next_obs) | ((next_obs[..., 36:39] ** 2).sum(-1) < BALL_NEAR**2)


@dataclass(frozen=True)
class Hand:
    """A task: ``registered`` is gymnasium-robotics' id, ``recorded`` the longest episode of human data."""

    registered: str
    obs_dim: int
    act_dim: int
    horizon: int
    recorded: int
    terminal: Terminal
    binary: bool = False


HANDS = {
    "Pen-v1": Hand("AdroitHandPen-v1", 45, 24, 100, 200, pen_has_fallen),
    "Door-v1": Hand("AdroitHandDoor-v1", 39, 28, 200, 300, never_terminal),
    "Hammer-v1": Hand("AdroitHandHammer-v1", 46, 26, 200, 600, never_terminal),
    "Relocate-v1": Hand("AdroitHandRelocate-v1", 39, 30, 200, 500, never_terminal),
    "Pen-Binary-v0": Hand("AdroitHandPen-v1", 45, 24, 100, 200, pen_is_turned, binary=True),
    "Door-Binary-v0": Hand("AdroitHandDoor-v1", 39, 28, 200, 300, door_is_open, binary=True),
    "Relocate-Binary-v0": Hand("AdroitHandRelocate-v1", 39, 30, 200, 500, ball_is_relocated, binary=True),
}
"""By the ids that they have here."""


def ended_by_rule(make: Callable[[], Any], hand: Hand) -> Callable[[], Any]:
    """Return what makes a task whose episodes end by its rule, and whose reward is -1 or 0 where binary."""

    def made() -> Any:
        from gymnasium import Wrapper

        class Ended(Wrapper):
            """Ends the episodes of a task that never does."""

            def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
                obs, reward, _, truncated, info = self.env.step(action)
                ended = bool(hand.terminal(obs, action, obs))
                return obs, float(ended) - 1.0 if hand.binary else float(reward), ended, truncated, info

        return Ended(make())

    return made
