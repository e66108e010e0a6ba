"""Many copies of an environment that step together.

MuJoCo's locomotion tasks spend a quarter of a step in Python, on observation, reward and termination
of one simulator at a time. Here they are computed for all copies at once, around the same physics; a
test holds every number against ``env.step``, to the last bit. Other environments are stepped one by
one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..transitions import Array


@dataclass(frozen=True)
class Locomotion:
    """What Gymnasium's ``-v4`` runners and walkers add to the physics.

    The reward is the forward velocity plus ``alive`` minus ``control_cost`` times the squared action;
    ``healthy`` (qpos, qvel) -> (n,) bool, None: always; ``clip`` bounds the velocities in observations.
    """

    control_cost: float
    alive: float | None = None
    healthy: Callable[[Array, Array], Array] | None = None
    clip: float | None = None


def hopper_healthy(qpos: Array, qvel: Array) -> Array:
    """Upright and high enough, all other components of the state within 100."""
    state = np.concatenate([qpos[:, 2:], qvel], 1)
    small = np.all((state > -100.0) & (state < 100.0), 1)
    height, angle = qpos[:, 1], qpos[:, 2]
    upright: Array = small & (height > 0.7) & (height < np.inf) & (angle > -0.2) & (angle < 0.2)
    return upright


def walker2d_healthy(qpos: Array, qvel: Array) -> Array:
    """Neither fallen nor flying, nor leaning by a radian."""
    height, angle = qpos[:, 1], qpos[:, 2]
    upright: Array = (height > 0.8) & (height < 2.0) & (angle > -1.0) & (angle < 1.0)
    return upright


class VectorEnv:
    """``envs`` that are reset one by one and stepped together, in one thread.

    (A second thread for the physics brought 12 %: each call is too short for Python to hand over.)
    """

    def __init__(self, envs: Sequence[Any], horizon: int, locomotion: Locomotion | None = None) -> None:
        self.envs, self.horizon, self.locomotion = list(envs), horizon, locomotion
        self.elapsed = np.zeros(len(self.envs), np.int64)
        if locomotion:
            self.cores = [env.unwrapped for env in self.envs]

    def reset(self, i: int, seed: int) -> Array:
        """Start an episode in environment ``i``; return its first observation."""
        self.elapsed[i] = 0
        obs: Array = self.envs[i].reset(seed=seed)[0]
        return obs

    def step(self, actions: Array, running: Array) -> tuple[Array, Array, Array, Array]:
        """Step the environments that are ``running`` (n,) with actions (n, act_dim).

        Returns obs (m, obs_dim), reward (m,), terminated (m,) and truncated (m,), of the m running ones in
        their order.
        """
        chosen = np.flatnonzero(running)
        if self.locomotion:
            return self._step_physics(self.locomotion, chosen, actions[chosen])
        steps = [self.envs[i].step(actions[i]) for i in chosen]
        obs, reward, terminated, truncated = (np.stack([s[k] for s in steps]) for k in range(4))
        return obs, reward, terminated, truncated

    def _step_physics(
        self, task: Locomotion, chosen: Array, actions: Array
    ) -> tuple[Array, Array, Array, Array]:
        from mujoco import mj_step

        cores = [self.cores[i] for i in chosen]
        before = np.stack([core.data.qpos[0] for core in cores])
        for core, action in zip(cores, actions, strict=True):
            core.data.ctrl[:] = action
            mj_step(core.model, core.data, nstep=core.frame_skip)
        qpos = np.stack([core.data.qpos for core in cores])
        qvel = np.stack([core.data.qvel for core in cores])
        obs_qvel = qvel if task.clip is None else np.clip(qvel, -task.clip, task.clip)
        reward = (qpos[:, 0] - before) / cores[0].dt
        if task.alive is not None:
            reward = reward + task.alive
        reward = reward - task.control_cost * np.sum(np.square(actions), -1)
        self.elapsed[chosen] += 1
        truncated = self.elapsed[chosen] >= self.horizon
        terminated = np.zeros_like(truncated) if task.healthy is None else ~task.healthy(qpos, qvel)
        return np.concatenate([qpos[:, 1:], obs_qvel], 1), reward, terminated, truncated
