"""The environments: their sizes, their termination rules inside a model, and how to live in one.

D4RL's tasks are Gymnasium's ``-v4``: the physics and rewards of that era (v5, which Minari's data were
collected in, pays no healthy reward on the last step and changes Walker2d's friction). Any other task
that Gymnasium knows, with vector observations and Box actions, works too, without a termination rule.
A package adds its own through the entry point group ``o2obench.environments``, whose entries name an
``EnvSpec``.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from ..agent import Array, Terminal, Transitions
from ..errors import BadInput, Diverged
from ..util.config import nearest
from ..util.rng import Stream, derive
from .pointmass import PointMass, left_the_field
from .vector import Lockstep, Locomotion, hopper_healthy, walker2d_healthy

INFINITY = float("inf")


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

    def lockstep(self, count: int) -> Lockstep:
        """Make ``count`` copies that step together."""
        return Lockstep([self.make() for _ in range(count)], self.horizon, self.locomotion)

    def to_unit(self, action: Array) -> Array:
        """Map the environment's own actions to [-1, 1]."""
        return 2.0 * (action - self.low) / (self.high - self.low) - 1.0

    def from_unit(self, action: Array) -> Array:
        """Map actions in [-1, 1] to the environment's own range."""
        return self.low + (action + 1.0) * 0.5 * (self.high - self.low)


# Termination rules, strict as in Gymnasium. Each says "not healthy", so that NaN ends an episode.


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


def _gymnasium(name: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        import gymnasium
        import mujoco

        gymnasium.logger.min_level = gymnasium.logger.ERROR  # "Hopper-v4 is out of date": we know
        mujoco.set_mju_user_warning(lambda message: None)  # else MUJOCO_LOG.TXT in the working folder
        return gymnasium.make(name, disable_env_checker=True, **options)

    return make


def _mujoco(
    name: str, sizes: tuple[int, int, int], terminal: Terminal, bound: float = 1.0, **more: Any
) -> EnvSpec:
    return EnvSpec(name, *sizes, _gymnasium(name), terminal, -bound, bound, **more)


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
    )
}


@functools.cache
def environments() -> dict[str, EnvSpec]:
    """Return every known environment by id: the built-in ones and those of installed packages."""
    known = dict(_BUILT_IN)
    for entry in metadata.entry_points(group="o2obench.environments"):
        known[entry.name] = entry.load()
    return known


def find_env(env_id: str) -> EnvSpec:
    """Return the environment of this id, a known one or any that Gymnasium has registered.

    Raises BadInput when there is none, or when its observations are not vectors, its actions not a bounded
    Box, or its episodes without a limit.
    """
    known = environments()
    return known[env_id] if env_id in known else _registered(env_id)


@functools.cache
def _registered(env_id: str) -> EnvSpec:
    import gymnasium
    from gymnasium.spaces import Box

    spec = gymnasium.registry.get(env_id)
    if spec is None:  # never make(): it would import what stands before a colon
        raise BadInput(f"environment {env_id}: not known; {nearest(env_id, environments())}")
    make = _gymnasium(env_id)
    try:
        env = make()
    except Exception as error:  # noqa: BLE001  (whatever keeps an environment from being made)
        raise BadInput(f"environment {env_id}: cannot be made here: {str(error).splitlines()[0]}") from None
    obs, action = env.observation_space, env.action_space
    if not (isinstance(obs, Box) and len(obs.shape) == 1 and obs.dtype.kind == "f"):
        raise BadInput(f"environment {env_id}: observations are {obs}; only vectors of numbers work here")
    if not (isinstance(action, Box) and len(action.shape) == 1 and action.is_bounded()):
        raise BadInput(
            f"environment {env_id}: actions are {action}; only a bounded Box of one axis works here"
        )
    if not spec.max_episode_steps:
        raise BadInput(f"environment {env_id}: episodes have no limit; register it with max_episode_steps")
    return EnvSpec(
        *(env_id, obs.shape[0], action.shape[0], spec.max_episode_steps, make),
        low=action.low.astype(np.float32),
        high=action.high.astype(np.float32),
    )


def with_pictures(spec: EnvSpec) -> Any:
    """Make an environment whose ``render()`` returns a picture (height, width, 3), uint8, without a screen.

    Raises BadInput when it cannot be drawn on this machine; the line says what to install.
    """
    import gymnasium

    known = gymnasium.registry.get(spec.id)
    if known is not None and "mujoco" in str(known.entry_point):
        os.environ["MUJOCO_GL"] = _graphics(spec.id)
    try:
        env = spec.make() if known is None else _gymnasium(spec.id, render_mode="rgb_array")()
        env.reset(seed=0)
        if np.ndim(env.render()) != 3:
            raise ValueError("its render() returns no picture (height, width, 3)")
    except Exception as error:  # noqa: BLE001  (whatever keeps an environment from being drawn)
        why = str(error).splitlines() or [type(error).__name__]
        raise BadInput(f"environment {spec.id}: cannot be drawn here: {why[0]}") from None
    return env


GRAPHICS = ("egl", "osmesa")
"""MuJoCo's ways to draw without a screen, the faster first."""


def _graphics(env_id: str) -> str:
    """Return the way that works here, tried in a process of its own: a failed try spoils what comes after."""
    wanted = os.environ.get("MUJOCO_GL")
    for way in (wanted,) if wanted else GRAPHICS:
        code = f"from mujoco.{way} import GLContext; GLContext(16, 16).make_current()"
        try:
            tried = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "MUJOCO_GL": way},
                capture_output=True,
                timeout=60,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if tried.returncode == 0:
            return way
    tried_ways = f"MUJOCO_GL={wanted}" if wanted else "neither EGL nor OSMesa"
    raise BadInput(
        f"environment {env_id}: cannot be drawn here, {tried_ways} works; install one, on Debian: "
        "apt install libegl1 or libosmesa6"
    )


@dataclass(frozen=True)
class Episode:
    """A finished training episode; ``env_return`` is the raw sum of rewards."""

    env_return: float
    length: int
    terminated: bool


def transition(
    obs: Array, action: Array, reward: float, next_obs: Array, flags: tuple[bool, bool, bool]
) -> Transitions:
    """Return a single step; ``flags`` are terminated, truncated, episode_start."""
    floats = (np.asarray(value, np.float32) for value in (obs, action, reward, next_obs))
    return Transitions(*floats, *(np.asarray(flag, bool) for flag in flags))


def nothing(spec: EnvSpec) -> Transitions:
    """Return a step in which nothing happened, shown in place of a seed that has ended."""
    obs, action = np.zeros(spec.obs_dim), np.zeros(spec.act_dim)
    return transition(obs, action, 0.0, obs, (False, False, False))


class Interaction:
    """One seed's training environment: it steps, resets itself, and can be rebuilt in mid-episode.

    Episode k always starts from the state derived from (seed, "episode", k). A resume resets to that
    state and replays the actions taken since, so no simulator state is stored.
    """

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        self.spec, self.seed = spec, seed
        self.env = spec.make()
        self._reset(0)

    def _reset(self, episode: int) -> None:
        self.episode, self.actions, self.env_return = episode, list[Array](), 0.0
        obs, _ = self.env.reset(seed=derive(self.seed, Stream.TRAINING_EPISODE, episode))
        self.obs: Array = np.asarray(obs, np.float32)

    def step(self, action: Array) -> tuple[Transitions, Episode | None]:
        """Do one step with an action (act_dim,) in [-1, 1]; reset after the last step of an episode."""
        obs, first = self.obs, not self.actions
        self.actions.append(action.copy())
        raw, reward, terminated, truncated, _ = self.env.step(self.spec.from_unit(action))
        self.obs = np.asarray(raw, np.float32)
        self.env_return += float(reward)
        if not (np.isfinite(self.env_return) and np.isfinite(self.obs).all()):
            raise Diverged(f"the environment returned NaN or infinity in episode {self.episode}")
        row = transition(obs, action, reward, self.obs, (terminated, truncated, first))
        if not (terminated or truncated):
            return row, None
        finished = Episode(self.env_return, len(self.actions), bool(terminated))
        self._reset(self.episode + 1)
        return row, finished

    def state_dict(self) -> dict[str, Any]:
        """Return what a rebuild needs: the episode's number and its actions so far."""
        actions = np.stack(self.actions) if self.actions else np.zeros((0, self.spec.act_dim), np.float32)
        return {"episode": self.episode, "actions": actions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the environment in the middle of its episode."""
        self._reset(int(state["episode"]))
        for action in state["actions"]:
            self.step(action)
