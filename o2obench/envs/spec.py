"""The environments: their sizes, their termination rules inside a model, and how to live in one.

D4RL's tasks are Gymnasium's ``-v4``: the physics and rewards of that era (v5, which Minari's data were
collected in, pays no healthy reward on the last step and changes Walker2d's friction). Any other task
that Gymnasium knows, with vector observations and Box actions, works too, without a termination rule.
A package adds its own through the entry point group ``o2obench.environments``, whose entries name an
``EnvSpec``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np

from ..agent import Terminal
from ..errors import UserError
from ..transitions import Array
from ..util.config import nearest
from ..util.interpreter import variable
from ..util.plugins import entry_points, load
from . import ogbench, robotics_antmaze
from .adroit import HANDS, Hand, ended_by_rule
from .antmaze import ANT_MAZES, wrong_rewards
from .antmaze import maker as ant_maze_maker
from .goals import STATE_AND_GOAL, GoalObservations, joined
from .kitchen import KITCHENS, REGISTERED, as_vector, goal_observations, wrong_kitchen_rewards
from .leftovers import without_leftovers
from .mazes import MAZES, Maze
from .mazes import reached_the_goal as reached_the_goal_it_sees
from .own import own_rule, with_rule
from .pointmass import PointMass, left_the_field
from .pointmaze import PointMaze, reached_the_goal
from .robotics import register
from .termination import (
    ant_terminal,
    double_pendulum_terminal,
    halfcheetah_terminal,
    hopper_terminal,
    humanoid_terminal,
    never_terminal,
    pendulum_terminal,
    walker2d_terminal,
)
from .vector import Locomotion, VectorEnv, hopper_healthy, walker2d_healthy

INFINITY = float("inf")


@dataclass(frozen=True)
class OwnCheck:
    """What a file of an environment's data must satisfy besides what all must.

    For tasks that were rebuilt here: a file shows by it that it comes from the same one.
    """

    wrong_rewards: Callable[[Array, Array, Array, Array], str]
    """Takes obs, next_obs (n, obs_dim), reward (n,), number of the episode (n,); says what is wrong."""
    stepped: bool = True
    """Whether the simulator must do from the file's states (``infos/qpos``, ``infos/qvel``) what it says."""


@dataclass(frozen=True, eq=False)
class EnvSpec:
    """An environment with Box actions and vector observations.

    ``terminal`` is the termination rule on raw observations; None where nobody has written one down
    (then model-based algorithms refuse the task). ``low`` and ``high`` bound the action, all components
    alike or each (act_dim,).
    """

    id: str
    obs_dim: int
    act_dim: int
    horizon: int
    make: Callable[[], Any]
    terminal: Terminal | None = None
    low: float | Array = -1.0
    high: float | Array = 1.0
    locomotion: Locomotion | None = None
    """How to step many copies at once, where that is known."""
    rule: Any = None
    """The termination rule as data, or the name and hash of its function, where it is a user's own."""
    success: Callable[[Any, Any], Any] | None = None
    """Where an episode counts by its success: what tells it from the raw return and whether it terminated."""
    recorded: int = 0
    """The longest episode in data, where those who made them had more than ``horizon`` steps."""
    own_check: OwnCheck | None = None
    """What its data must satisfy besides, where anything."""
    goal_observations: GoalObservations | None = None
    """How Minari's sets hold its observations, where these are dictionaries."""

    def vector_env(self, count: int) -> VectorEnv:
        """Make ``count`` copies that step together."""
        return VectorEnv([self.make() for _ in range(count)], self.horizon, self.locomotion)

    def outcome(self, env_return: Any, terminated: Any) -> Any:
        """Return what episodes count: their raw returns, or 1 for success and 0 for none."""
        return np.where(self.success(env_return, terminated), 1.0, 0.0) if self.success else env_return

    def to_unit(self, action: Array) -> Array:
        """Map the environment's own actions to [-1, 1]."""
        return 2.0 * (action - self.low) / (self.high - self.low) - 1.0

    def from_unit(self, action: Array) -> Array:
        """Map actions in [-1, 1] to the environment's own range."""
        return self.low + (action + 1.0) * 0.5 * (self.high - self.low)


def gymnasium_maker(name: str, **options: Any) -> Callable[[], Any]:
    """Return what makes one of Gymnasium's environments."""

    def make() -> Any:
        import gymnasium

        mujoco = _mujoco_module()
        gymnasium.logger.min_level = gymnasium.logger.ERROR  # "Hopper-v4 is out of date": we know
        mujoco.set_mju_user_warning(lambda message: None)  # else MUJOCO_LOG.TXT in the working folder
        known = gymnasium.registry.get(name)
        with warnings.catch_warnings(), without_leftovers(known and known.entry_point):
            warnings.filterwarnings("ignore", module="glfw")  # MuJoCo's viewer looks for a screen
            return gymnasium.make(name, disable_env_checker=True, **options)

    return make


def robotics_maker(name: str, **options: Any) -> Callable[[], Any]:
    """Return what makes one of gymnasium-robotics' environments."""

    def make() -> Any:
        register(name)
        return gymnasium_maker(name, **options)()

    return make


def _mujoco_module() -> Any:
    """Return MuJoCo's module; where its way to draw does not work, without one: only who draws needs it."""
    try:
        return importlib.import_module("mujoco")
    except (AttributeError, ImportError, RuntimeError):
        with variable("MUJOCO_GL", "off"):
            return importlib.import_module("mujoco")


def _mujoco(
    name: str, sizes: tuple[int, int, int], terminal: Terminal, bound: float = 1.0, **more: Any
) -> EnvSpec:
    return EnvSpec(name, *sizes, gymnasium_maker(name), terminal, -bound, bound, **more)


def _as_vector(make: Callable[[], Any], keys: Sequence[str] = STATE_AND_GOAL) -> Callable[[], Any]:
    """Return what makes a goal environment whose observation is a vector of these parts."""

    def flat() -> Any:
        from gymnasium.spaces import Box
        from gymnasium.wrappers import TransformObservation

        env = make()
        parts = [env.observation_space[name] for name in keys]
        low, high = (np.concatenate([getattr(part, end) for part in parts]) for end in ("low", "high"))
        space = Box(low.astype(np.float32), high.astype(np.float32))
        return TransformObservation(env, joined(keys), space)

    return flat


def _maze(name: str, maze: Maze) -> EnvSpec:
    make = _as_vector(robotics_maker(maze.registered, maze_map=maze.map, continuing_task=False))
    return EnvSpec(name, 6, 2, maze.horizon, make, reached_the_goal_it_sees)


def _ant_maze(name: str, maze: Maze, horizon: int) -> EnvSpec:
    make = ant_maze_maker(maze, horizon, gymnasium_maker)
    return EnvSpec(name, 29, 8, horizon, make, own_check=OwnCheck(wrong_rewards(maze)))


def _hand(name: str, hand: Hand) -> EnvSpec:
    make = ended_by_rule(robotics_maker(hand.registered, max_episode_steps=hand.horizon), hand)
    sizes = (hand.obs_dim, hand.act_dim, hand.horizon)
    return EnvSpec(name, *sizes, make, hand.terminal, recorded=hand.recorded)


def _kitchen(name: str, tasks: tuple[str, ...]) -> EnvSpec:
    form = goal_observations(tasks)
    make = as_vector(robotics_maker(REGISTERED, tasks_to_complete=list(tasks)), form)
    check = OwnCheck(wrong_kitchen_rewards(tasks), stepped=False)
    return EnvSpec(name, 60, 9, 280, make, own_check=check, goal_observations=form)


_BUILT_IN = {
    spec.id: spec
    for spec in (
        _mujoco("HalfCheetah-v4", (17, 6, 1000), halfcheetah_terminal, locomotion=Locomotion(0.1)),
        _mujoco(
            *("Hopper-v4", (11, 3, 1000), hopper_terminal),
            locomotion=Locomotion(1e-3, 1.0, hopper_healthy, 10.0),
        ),
        _mujoco(
            *("Walker2d-v4", (17, 6, 1000), walker2d_terminal),
            locomotion=Locomotion(1e-3, 1.0, walker2d_healthy, 10.0),
        ),
        _mujoco("Ant-v4", (27, 8, 1000), ant_terminal),
        _mujoco("Humanoid-v4", (376, 17, 1000), humanoid_terminal, 0.4),
        _mujoco("Swimmer-v4", (8, 2, 1000), never_terminal),
        _mujoco("Reacher-v4", (11, 2, 50), never_terminal),
        _mujoco("InvertedPendulum-v4", (4, 1, 1000), pendulum_terminal, 3.0),
        _mujoco("InvertedDoublePendulum-v4", (11, 1, 1000), double_pendulum_terminal),
        _mujoco("HalfCheetah-v5", (17, 6, 1000), halfcheetah_terminal),
        _mujoco("Hopper-v5", (11, 3, 1000), hopper_terminal),
        _mujoco("Walker2d-v5", (17, 6, 1000), walker2d_terminal),
        _mujoco("Ant-v5", (105, 8, 1000), ant_terminal),
        _mujoco("Humanoid-v5", (348, 17, 1000), humanoid_terminal, 0.4),
        _mujoco("Swimmer-v5", (8, 2, 1000), never_terminal),
        _mujoco("Pusher-v5", (23, 7, 100), never_terminal, 2.0),
        _mujoco("Reacher-v5", (10, 2, 50), never_terminal),
        _mujoco("InvertedPendulum-v5", (4, 1, 1000), pendulum_terminal, 3.0),
        _mujoco("InvertedDoublePendulum-v5", (9, 1, 1000), double_pendulum_terminal),
        EnvSpec("PointMass-v0", 4, 2, PointMass.horizon, PointMass, left_the_field),
        EnvSpec("PointMaze-v0", 4, 2, PointMaze.horizon, PointMaze, reached_the_goal),
        *(_maze(name, maze) for name, maze in MAZES.items()),
        *(_hand(name, hand) for name, hand in HANDS.items()),
        *(_ant_maze(name, *task) for name, task in ANT_MAZES.items()),
        *(_kitchen(name, tasks) for name, tasks in KITCHENS.items()),
    )
}


@functools.cache
def environments() -> dict[str, EnvSpec]:
    """Return every environment that can be had by id: the built-in ones and those of installed packages."""
    specs = dict(_BUILT_IN)
    for name, entry in _others().items():
        with contextlib.suppress(UserError):  # who asks for it is told
            specs[name] = _loaded(entry)
    return specs


@functools.cache
def _others() -> dict[str, metadata.EntryPoint]:
    return entry_points("o2obench.environments")


@functools.cache
def _loaded(entry: metadata.EntryPoint) -> EnvSpec:
    """Return an installed package's environment; raise UserError where it cannot be had under this name."""
    spec = load(entry, own=_BUILT_IN)
    if not isinstance(spec, EnvSpec) or spec.id != entry.name:
        loaded = f"an EnvSpec of {spec.id}" if isinstance(spec, EnvSpec) else f"{spec!r}"
        raise UserError(
            f"entry point o2obench.environments: {entry.name}: {entry.value} is {loaded}; name the entry by "
            "its EnvSpec's id"
        )
    return spec


def find_env(env_id: str) -> EnvSpec:
    """Return the environment of this id, a known one or any that Gymnasium has registered.

    Raises UserError when there is none, or when its observations are not vectors, its actions not a bounded
    Box, or its episodes without a limit.
    """
    if env_id in _others():
        return _loaded(_others()[env_id])
    if env_id in _BUILT_IN:
        return _BUILT_IN[env_id]
    try:
        if robotics_antmaze.has_arguments(env_id):
            spec = _robotics_ant_maze(env_id)
        else:
            spec = _of_ogbench(env_id) if ogbench.is_single_task(env_id) else _registered(env_id)
        return with_rule(spec, own_rule()) if own_rule() and spec.terminal is None else spec
    except UserError:
        for entry in _others().values():  # it may be one that cannot be had, or bears another name
            _loaded(entry)
        raise


def is_registered(env_id: str) -> bool:
    """Tell whether Gymnasium knows an environment by this id."""
    import gymnasium

    return env_id in gymnasium.registry


def default_arguments(env_id: str) -> dict[str, Any]:
    """Return the arguments that a Gymnasium environment has where none are given; empty for others."""
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    spec = gymnasium.registry.get(env_id)
    if spec is None or spec.entry_point is None:
        return {}
    creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    parameters = inspect.signature(creator).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | spec.kwargs


@functools.cache
def _registered(env_id: str) -> EnvSpec:
    import gymnasium

    spec = gymnasium.registry.get(env_id)
    if spec is None:  # never make(): it would import what stands before a colon
        raise UserError(f"environment {env_id}: not known; {nearest(env_id, environments())}")
    return _made(env_id, gymnasium_maker(env_id), spec.max_episode_steps)


def _made(env_id: str, make: Callable[[], Any], horizon: int | None) -> EnvSpec:
    """Return an environment with the sizes and bounds that a made one has."""
    from gymnasium.spaces import Box, Dict

    try:
        env = make()
    except Exception as error:  # noqa: BLE001  (whatever keeps an environment from being made)
        why, task = str((error.args or (error,))[0]).splitlines()[0].rstrip("."), env_id.rpartition("-v")[0]
        known = [name for name in environments() if task and name.rpartition("-v")[0] == task]
        remedy = f"; write {' or '.join(known)}" if known else ""
        raise UserError(f"environment {env_id}: cannot be made here: {why}{remedy}") from None
    obs, action = env.observation_space, env.action_space
    if isinstance(obs, Dict) and {"observation", "desired_goal"} <= obs.keys():
        seen = robotics_antmaze.SEEN if env_id.startswith(robotics_antmaze.PREFIX) else STATE_AND_GOAL
        make = _as_vector(make, seen)
        obs = make().observation_space
    if not (isinstance(obs, Box) and len(obs.shape) == 1 and obs.dtype.kind == "f"):
        raise UserError(f"environment {env_id}: observations are {obs}; only vectors of numbers work here")
    if not (isinstance(action, Box) and len(action.shape) == 1 and action.is_bounded()):
        raise UserError(
            f"environment {env_id}: actions are {action}; only a bounded Box of one axis works here"
        )
    if not horizon:
        raise UserError(f"environment {env_id}: episodes have no limit; register it with max_episode_steps")
    return EnvSpec(
        *(env_id, obs.shape[0], action.shape[0], horizon, make),
        low=action.low.astype(np.float32),
        high=action.high.astype(np.float32),
    )


@functools.cache
def _robotics_ant_maze(env_id: str) -> EnvSpec:
    """Return one of gymnasium-robotics' AntMazes with arguments of its own."""
    maze = robotics_antmaze.from_id(env_id)
    register(env_id)
    spec = _made(env_id, gymnasium_maker(maze.registered, **maze.arguments), maze.horizon)
    widths = {"achieved_goal": 2, "observation": spec.obs_dim - 4, "desired_goal": 2}
    return replace(
        spec,
        terminal=never_terminal if maze.continuing else reached_the_goal_it_sees,
        success=robotics_antmaze.succeeded,
        goal_observations=GoalObservations(widths, joined(robotics_antmaze.SEEN), maze.outcome),
    )


@functools.cache
def _of_ogbench(env_id: str) -> EnvSpec:
    """Return one of OGBench's single-task environments; an episode is judged by its success."""
    ogbench.register()
    spec = _registered(env_id)
    make = ogbench.seeded(spec.make)
    return replace(spec, make=make, terminal=ogbench.at_goal(env_id, make), success=ogbench.succeeded)
