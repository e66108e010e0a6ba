"""A point mass in a maze with a sparse reward: the smallest task in which a goal has to be found.

It moves as the point mass of ``pointmass`` does; walls stop it. Every step costs 1 until the goal is reached,
which ends the episode; after 200 steps the clock does. Random actions hardly ever reach it from the start.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..transitions import Array
from .grid import Cell, way

MAZE = ("#######", "#S    #", "##### #", "#G    #", "#######")
"""Walls, the start and the goal; cells are 1 x 1, the first row is the lowest."""
REACHED = 0.4
"""Distance from the middle of the goal's cell at which it counts as reached."""
PIXELS = 32
GROUND, WALL, GOAL_COLOUR, MASS = (255, 255, 255), (90, 90, 90), (0, 114, 178), (213, 94, 0)


def _cell(mark: str) -> Cell:
    return next((x, y) for y, row in enumerate(MAZE) for x, found in enumerate(row) if found == mark)


START, GOAL = _cell("S"), _cell("G")
FREE = tuple((x, y) for y, row in enumerate(MAZE) for x, found in enumerate(row) if found != "#")
"""Cells that are no wall, (column, row)."""


def reached_the_goal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Terminated: the position is within 0.4 of the middle of the goal's cell."""
    x, y = next_obs[..., 0] - (GOAL[0] + 0.5), next_obs[..., 1] - (GOAL[1] + 0.5)
    return x**2 + y**2 < REACHED**2


class PointMaze:
    """Gymnasium's ``reset`` and ``step`` over obs (x, y, vx, vy) and a force in [-1, 1]^2."""

    horizon: ClassVar[int] = 200
    metadata: ClassVar[dict[str, Any]] = {"render_fps": 20}

    def reset(self, *, seed: int | None = None) -> tuple[Array, dict[str, Any]]:
        """Start at rest, anywhere in the middle of the start's cell."""
        random = np.random.default_rng(seed)
        self.set_state(np.concatenate([np.add(START, 0.5) + random.uniform(-0.2, 0.2, 2), np.zeros(2)]))
        return self.state.astype(np.float32), {}

    def set_state(self, obs: Array) -> None:
        """Stand where an observation says."""
        self.state, self.steps = np.asarray(obs, np.float64).copy(), 0

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Return (obs, reward, terminated, truncated, info); a step costs 1, one that reaches the goal 0."""
        position, velocity = self.state[:2].copy(), 0.9 * self.state[2:] + 0.1 * np.clip(action, -1.0, 1.0)
        for axis in (0, 1):  # a wall stops the way across it and leaves the way along it
            there = position.copy()
            there[axis] += 0.3 * velocity[axis]
            if _is_free(there):
                position = there
            else:
                velocity[axis] = 0.0
        self.state = np.concatenate([position, velocity])
        self.steps += 1
        terminated = bool(reached_the_goal(None, None, self.state))
        truncated = self.steps >= self.horizon and not terminated
        return self.state.astype(np.float32), float(terminated) - 1.0, terminated, truncated, {}

    def render(self) -> Array:
        """Return a picture (160, 224, 3), uint8: walls, the goal and the mass."""
        rows, columns = len(MAZE), len(MAZE[0])
        y, x = (np.arange(n * PIXELS) / PIXELS for n in (rows, columns))
        cells = np.array([[found == "#" for found in row] for row in MAZE])
        picture = np.where(cells.repeat(PIXELS, 0).repeat(PIXELS, 1)[..., None], WALL, GROUND)
        for (across, up), size, colour in (
            (np.add(GOAL, 0.5), REACHED, GOAL_COLOUR),
            (self.state[:2], 0.15, MASS),
        ):
            picture[(x[None] - across) ** 2 + (y[:, None] - up) ** 2 < size**2] = colour
        return picture[::-1].astype(np.uint8)


def _is_free(position: Array) -> bool:
    x, y = (int(part) for part in np.floor(position))
    return MAZE[y][x] != "#"


def towards(obs: Array, goal: Cell) -> Array:
    """Return a force (2,) from obs (4,) along the shortest way to a cell, by proportion and derivative."""
    here = (int(obs[0]), int(obs[1]))
    cells = way(FREE, here, goal)
    aim = np.add(cells[min(1, len(cells) - 1)], 0.5)
    return np.clip(5.0 * (aim - obs[:2]) - 4.0 * obs[2:], -1.0, 1.0)
