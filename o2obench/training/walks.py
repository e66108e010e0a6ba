"""Data of a scripted controller that walks through a maze, noisily: ``play`` and ``diverse``.

An episode begins in any cell. ``play``: the goal is the task's, but the controller walks to one cell after
another, one in ten of them the goal, and whoever passes the goal ends the episode. ``diverse``: the goal is
any cell, and the controller walks there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.episode import transition
from ..envs.grid import Cell
from ..envs.mazes import MAZES, Maze
from ..envs.spec import EnvSpec
from ..errors import Interrupted, UserError
from ..runs import checkpoint
from ..transitions import Array
from ..util.rng import Stream, derive, generator
from .collector import SAVE_SECONDS, Show, unseen
from .options import Stop
from .rows import Rows

NOISE = 0.5
"""Standard deviation of the noise on the controller's force, whose components are within [-1, 1]."""

TO_THE_GOAL = 0.1
"""Share of the walks of ``play`` that go to the goal."""

POLICIES = {
    "play": "a controller that walks from one cell to another, one in ten the goal, its force noisy",
    "diverse": "a controller that walks from any cell to the goal, which is any cell, its force noisy",
}
"""Who played the episodes of a kind, as data cards say it."""


def walk(
    spec: EnvSpec, kind: str, rows: int, seed: int, folder: Path, stop: Stop, show: Show = unseen
) -> dict[str, Array]:
    """Return ``rows`` steps by D4RL's keys; the same whether or not it was interrupted.

    It is saved in ``folder`` every two minutes. Raises Interrupted, with everything saved, when asked to
    stop, and UserError for a task that is no maze.
    """
    if spec.id not in MAZES:
        raise UserError(f"{kind}: is walked through mazes only ({', '.join(MAZES)}); {spec.id} is none")
    maze, env, steps, episode = MAZES[spec.id], spec.make(), Rows(), 0
    saved = checkpoint.load(folder)
    if saved and saved[1]["what"] == [spec.id, kind, seed]:
        episode = saved[1]["episode"]
        steps = Rows(saved[1]["rows"])
    saved_at = time.monotonic()
    while len(steps) < rows:
        _episode(spec, maze, env, kind, derive(seed, Stream.COLLECTED_DATA, kind, episode), steps)
        episode += 1
        show(len(steps))
        asked = stop()
        if asked or time.monotonic() - saved_at > SAVE_SECONDS:
            state = {"what": [spec.id, kind, seed], "episode": episode, "rows": steps.stored()}
            checkpoint.save(folder, episode, state)
            saved_at = time.monotonic()
            if asked:
                raise Interrupted
    return steps.arrays(rows)


def _episode(spec: EnvSpec, maze: Maze, env: Any, kind: str, seed: int, steps: Rows) -> None:
    """Add the steps of an episode."""
    random = generator(seed)
    start, aim = _two_cells(maze, random)
    while start == maze.goal and kind == "play":
        start, aim = _two_cells(maze, random)
    options = {"reset_cell": np.array(start), **({"goal_cell": np.array(aim)} if kind == "diverse" else {})}
    obs, _ = env.reset(seed=seed >> 32, options=options)
    ended, first = False, True
    while not ended:
        if kind == "play" and np.abs(obs[:2] - maze.middle(aim)).max() < 0.5:
            aim = maze.goal if random.random() < TO_THE_GOAL else _two_cells(maze, random)[1]
        force = maze.towards(obs, aim) + random.normal(0.0, NOISE, spec.act_dim)
        action = np.clip(force, -1.0, 1.0).astype(np.float32)
        steps.note_state(env)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
        flags = (terminated, truncated and not terminated, first)
        steps.append(spec, transition(obs, action, reward, next_obs, flags))
        obs, first = next_obs, False


def _two_cells(maze: Maze, random: np.random.Generator) -> tuple[Cell, Cell]:
    """Return two different cells."""
    chosen = random.choice(len(maze.free), 2, replace=False)
    return maze.free[chosen[0]], maze.free[chosen[1]]
