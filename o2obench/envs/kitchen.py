"""D4RL's Kitchen-v0: an arm with nine joints does four tasks, each paid 1 once; all four end the episode.

The environment is gymnasium-robotics' ``FrankaKitchen-v1`` (280 steps, tasks in any order, its own noise on
observations). obs (60,) as D4RL has it: the arm's joints (9,), the objects' (21,), and the goal of all 30,
which is 0 where no task is. It holds neither velocities nor which tasks were paid before: when an episode
ends cannot be told from it, and nothing shows that the physics are D4RL's. What a file pays, it must pay by
this rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..transitions import Array

JOINTS = 30
NEAR = 0.3
"""Distance of an object's joints from their goal below which its task is done."""
GOALS = {
    "bottom burner": (slice(11, 13), (-0.88, -0.01)),
    "light switch": (slice(17, 19), (-0.69, -0.05)),
    "slide cabinet": (slice(19, 20), (0.37,)),
    "microwave": (slice(22, 23), (-0.75,)),
    "kettle": (slice(23, 30), (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)),
}
"""Joints and their goal by task."""
KITCHENS = {
    "Kitchen-Complete-v0": ("microwave", "kettle", "light switch", "slide cabinet"),
    "Kitchen-Mixed-v0": ("microwave", "kettle", "bottom burner", "light switch"),
}
"""Tasks by the ids that they have here; complete and partial data are of the same."""
WRONG_SHARE = 0.05
"""Of the rows that pay: how many rows may pay otherwise than the rule."""


def goal_of(tasks: tuple[str, ...]) -> Array:
    """Return the goal (30,) of tasks."""
    goal = np.zeros(JOINTS)
    for task in tasks:
        joints, values = GOALS[task]
        goal[joints] = values
    return goal


def as_vector(make: Callable[[], Any], tasks: tuple[str, ...]) -> Callable[[], Any]:
    """Return what makes a kitchen whose observations are D4RL's, by what makes gymnasium-robotics'."""
    goal = goal_of(tasks)

    def made() -> Any:
        from gymnasium.spaces import Box
        from gymnasium.wrappers import TransformObservation

        def seen(obs: Any) -> Array:
            joints = obs["observation"]
            return np.concatenate([joints[:9], joints[18:39], goal])

        return TransformObservation(make(), seen, Box(-np.inf, np.inf, (2 * JOINTS,), np.float64))

    return made


def wrong_kitchen_rewards(tasks: tuple[str, ...]) -> Callable[[Array, Array, Array, Array], str]:
    """Return what tells how rewards (n,) differ from those of tasks, empty where they do not."""
    goal = goal_of(tasks)

    def wrong(obs: Array, next_obs: Array, reward: Array, episode: Array) -> str:
        off = float(np.abs(obs[:, JOINTS:] - goal).max())
        if off > 1e-3:
            return (
                f"are of another goal: observations[:, {JOINTS}:] differ by up to {off:.2g} from the task's"
            )
        followed = (next_obs != obs).any(axis=1)
        paid, least = max(1, int((reward[followed] > 0).sum())), np.inf
        for at in (next_obs, obs):
            once, standing = _paid(at, goal, tasks, episode)
            least = min(least, float((once != reward)[followed].sum() / paid))
            if least <= WRONG_SHARE:
                return ""
            if (standing != reward)[followed].sum() <= WRONG_SHARE * paid:
                return "count a task in every step in which it is done; here it is paid once"
        return (
            f"are not 1 for each task when it is first done: {100 * least:.0f} rows differ for 100 that pay"
        )

    return wrong


def _paid(at: Array, goal: Array, tasks: tuple[str, ...], episode: Array) -> tuple[Array, Array]:
    """Return how many tasks are done in a row (n,) for the first time in its episode, and how many at all."""
    once, standing = np.zeros(len(at)), np.zeros(len(at))
    for task in tasks:
        joints = GOALS[task][0]
        rows = np.flatnonzero(np.linalg.norm(at[:, joints] - goal[joints], axis=1) < NEAR)
        standing[rows] += 1
        once[rows[np.unique(episode[rows], return_index=True)[1]]] += 1
    return once, standing
