"""D4RL's Kitchen-v0: an arm with nine joints does four tasks, each paid 1 once; all four end the episode.

The environment is gymnasium-robotics' ``FrankaKitchen-v1`` (280 steps, tasks in any order, its own noise on
observations). obs (60,) as D4RL has it: the arm's joints (9,), the objects' (21,), and the goal of all 30,
which is 0 where no task is. It holds neither velocities nor which tasks were paid before: when an episode
ends cannot be told from it, and nothing shows that the physics are D4RL's. What a file pays, it must pay by
this rule.

Minari's ``D4RL/kitchen/*`` hold the package's own dictionaries, from which rewards and ends follow by the
rule, whatever the file pays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import UserError
from ..transitions import Array
from .goals import GoalObservations, Parts, parts
from .robotics import plain_arguments

PREFIX = "FrankaKitchen-"
REGISTERED = f"{PREFIX}v1"
ENTRY_POINT = r"gymnasium_robotics\.envs\.franka_kitchen(\.kitchen_env)?:KitchenEnv"
STANDARD = {"object_noise_ratio": 0.0005, "robot_noise_ratio": 0.01, "frame_skip": 40}
"""Arguments on which the physics and the observations depend, as they are played here."""
ARGUMENTS = ("tasks_to_complete", "terminate_on_tasks_completed", "remove_task_when_completed", *STANDARD)
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


def goal_observations(tasks: tuple[str, ...]) -> GoalObservations:
    """Return how gymnasium-robotics' observations become D4RL's, and what is paid for them."""

    def vector(obs: Parts) -> Array:
        joints = obs["observation"]
        goal = np.zeros((*joints.shape[:-1], JOINTS))
        for task in tasks:
            goal[..., GOALS[task][0]] = obs[f"desired_goal/{task}"]
        return np.concatenate([joints[..., :9], joints[..., 18:39], goal], axis=-1)

    def outcome(obs: Parts) -> tuple[Array, Array]:
        off = [obs[f"achieved_goal/{task}"][1:] - obs[f"desired_goal/{task}"][1:] for task in tasks]
        done = np.stack([np.linalg.norm(distance, axis=1) < NEAR for distance in off])
        so_far = np.logical_or.accumulate(done, axis=1).sum(axis=0)
        return np.diff(so_far, prepend=0).astype(np.float64), so_far == len(tasks)

    goals = {f"{kind}_goal/{task}": len(GOALS[task][1]) for kind in ("achieved", "desired") for task in tasks}
    return GoalObservations({"observation": 59, **goals}, vector, outcome)


def as_vector(make: Callable[[], Any], form: GoalObservations) -> Callable[[], Any]:
    """Return what makes a kitchen whose observations are D4RL's, by what makes gymnasium-robotics'."""

    def made() -> Any:
        from gymnasium.spaces import Box
        from gymnasium.wrappers import TransformObservation

        space = Box(-np.inf, np.inf, (2 * JOINTS,), np.float64)
        return TransformObservation(make(), lambda obs: form.vector(parts(obs)), space)

    return made


def described_tasks(spec: Mapping[str, Any], place: str) -> set[str]:
    """Return the tasks of the kitchen that somebody's file describes.

    Args:
        spec: Gymnasium's description of an environment: ``id, entry_point, kwargs``.
        place: Where it stands, for the message.

    Raises:
        UserError: It is of another package, or its arguments are not those that are played here.
    """
    if spec.get("id") != REGISTERED:
        raise UserError(
            f"{place}.id: {spec.get('id')!r:.80}: of the kitchens only {REGISTERED} is played here"
        )
    arguments = plain_arguments(spec, place, ENTRY_POINT, ARGUMENTS)
    for key, usual in STANDARD.items():
        if arguments.get(key, usual) != usual:
            raise UserError(f"{place}.kwargs.{key}: {arguments[key]!r:.40}, here it is {usual}")
    tasks = arguments.get("tasks_to_complete", list(GOALS))
    if not (isinstance(tasks, list) and all(isinstance(task, str) for task in tasks)):
        raise UserError(f"{place}.kwargs.tasks_to_complete: {tasks!r:.80}, expected names of tasks")
    return set(tasks)


def kitchen_of(tasks: set[str], place: str) -> str:
    """Return the id that a kitchen with these tasks has here; raise UserError where there is none."""
    for env_id, known in KITCHENS.items():
        if tasks == set(known):
            return env_id
    choices = " or ".join(f"{', '.join(known)} ({env_id})" for env_id, known in KITCHENS.items())
    raise UserError(
        f"{place}.kwargs.tasks_to_complete: {', '.join(sorted(tasks))[:200]}; played are {choices}; "
        "`o2obench data import ... --env ID` takes four of more"
    )


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
