"""OGBench's single-task environments, as the package ``ogbench`` registers them (arXiv 2410.20092).

A step costs 1, in manipulation 1 for each object that is out of place, and none at the goal: the step that is
taken *from* there ends the episode (``success_timing="pre"``), by success alone. Rows of a data set are
labelled by the same rule (``relabel``), so that data and environment agree.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..agent import Terminal
from ..errors import UserError
from ..transitions import Array
from .termination import never_terminal

if TYPE_CHECKING:
    from .spec import EnvSpec

SINGLE_TASK = re.compile(r"[a-z0-9-]+-singletask(?:-task[1-5])?-v0")


def is_single_task(env_id: str) -> bool:
    """Tell whether an id is that of a single-task environment of OGBench's."""
    return bool(SINGLE_TASK.fullmatch(env_id))


def register() -> None:
    """Let OGBench register its environments; raise UserError where it is not installed."""
    try:
        import ogbench  # noqa: F401
    except ImportError:
        raise UserError("ogbench is not installed; pip install 'o2obench[ogbench]'") from None


class Seeded:
    """An environment whose episodes follow from the seed of their reset.

    OGBench's draw starts and teleports from numpy's global generator, and begin an episode with actions of a
    space that has no seed.
    """

    def __init__(self, env: Any) -> None:
        core, self.env, self.drawn = env.unwrapped, env, np.random.RandomState(0).get_state()
        self.teleports = getattr(core, "_teleport_info", None) is not None
        kind = type(core)  # manipulation makes a new space at every look: here it keeps one
        core.__class__ = type(kind.__name__, (kind,), {"action_space": core.action_space})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, Any]:
        """Start an episode; return its first observation and OGBench's info."""
        if seed is not None:
            self.drawn = np.random.RandomState(seed % 2**32).get_state()
            self.env.unwrapped.action_space.seed(seed)
        with self._drawing():
            obs, info = self.env.reset(seed=seed, options=options)
        return obs, info

    def step(self, action: Array) -> Any:
        """Do one step; return (obs, reward, terminated, truncated, info)."""
        if not self.teleports:  # no other step draws, and to change generators takes longer than a step
            return self.env.step(action)
        with self._drawing():
            return self.env.step(action)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Let numpy's global generator be this environment's own for a while."""
        others = np.random.get_state()  # noqa: NPY002  (OGBench draws from it)
        np.random.set_state(self.drawn)  # noqa: NPY002
        try:
            yield
        finally:
            self.drawn = np.random.get_state()  # noqa: NPY002
            np.random.set_state(others)  # noqa: NPY002


def seeded(make: Callable[[], Any]) -> Callable[[], Seeded]:
    """Return what makes an environment that draws by its own seed."""
    return lambda: Seeded(make())


def succeeded(env_return: Any, terminated: Any) -> Any:
    """Tell whether an episode was a success, by which alone one terminates."""
    return terminated


def at_goal(env_id: str, make: Callable[[], Any]) -> Terminal | None:
    """Return the termination rule of a maze, whose observations begin with the position; None of others."""
    if "maze" not in env_id:
        return None
    env = make()
    env.reset(seed=0)
    core = env.unwrapped
    goal_x, goal_y = map(float, core.cur_goal_xy)
    radius = float(core._goal_tol)

    def terminal(obs: Any, action: Any, next_obs: Any) -> Any:
        distance = (obs[..., 0] - goal_x) ** 2 + (obs[..., 1] - goal_y) ** 2
        return (distance <= radius**2) | never_terminal(obs, action, next_obs)

    return terminal


def labels_from(spec: EnvSpec) -> dict[str, int]:
    """Return the columns from which rows are labelled, each with its width: qpos, button_states."""
    core = _task(spec).unwrapped
    buttons = int(getattr(core, "_num_buttons", 0))
    return {"qpos": int(core.model.nq)} | ({"button_states": buttons} if buttons else {})


def relabel(spec: EnvSpec, columns: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return the reward (n,) of rows, float32, and whether each is a success (n,), by OGBench's own rule.

    Args:
        spec: The single-task environment.
        columns: Those of ``labels_from``, (n, width) each.
    """
    from ogbench.relabel_utils import relabel_dataset

    labelled = dict(columns)
    relabel_dataset(spec.id, _task(spec), labelled)
    return labelled["rewards"], labelled["masks"] == 0.0


@functools.cache
def _task(spec: EnvSpec) -> Any:
    env = spec.make()
    env.reset(seed=0)
    return env
