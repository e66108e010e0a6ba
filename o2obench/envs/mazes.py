"""Mazes of gymnasium-robotics with a sparse reward: a ball that is pushed from one end to the other.

``PointMaze_{UMaze,Medium,Large}-v3`` (the extra ``robotics``) with ``continuing_task=False``: a step that
comes within 0.45 of the goal pays 1 and ends the episode, every other pays 0; after 300, 600 or 800 steps the
clock ends it. obs (6,) is x, y, their velocities and the goal; the action (2,) is a force. The package starts
anywhere and sets the goal anywhere, so that random actions succeed in 20, 10 and 13 of 100 episodes; here
both are fixed, but for its noise of 0.25, at two far ends. It is not D4RL's maze2d, which ends no episode.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..transitions import Array
from .grid import Cell, way

REACHED = 0.45
"""Distance from the goal at which it counts as reached."""


@dataclass(frozen=True)
class Maze:
    """Walls, start and goal; cells are 1 x 1, (row, column), the first row is the highest."""

    registered: str
    """The id under which gymnasium-robotics has it."""
    horizon: int
    rows: tuple[str, ...]

    @functools.cached_property
    def free(self) -> tuple[Cell, ...]:
        """The cells that are no wall."""
        return tuple((i, j) for i, row in enumerate(self.rows) for j, found in enumerate(row) if found != "#")

    @property
    def goal(self) -> Cell:
        """The task's goal."""
        return next(cell for cell in self.free if self.rows[cell[0]][cell[1]] == "G")

    @property
    def map(self) -> list[list[int | str]]:
        """The maze as gymnasium-robotics takes it."""
        marks: dict[str, int | str] = {"#": 1, " ": 0, "S": "r", "G": "g"}
        return [[marks[found] for found in row] for row in self.rows]

    def middle(self, cell: Cell) -> Array:
        """Return the position (2,) of a cell's middle; (0, 0) is the middle of the maze."""
        return np.array([cell[1] + 0.5 - len(self.rows[0]) / 2, len(self.rows) / 2 - cell[0] - 0.5])

    def cell(self, position: Array) -> Cell:
        """Return the cell that holds a position (2,)."""
        return int(len(self.rows) / 2 - position[1]), int(position[0] + len(self.rows[0]) / 2)

    def towards(self, obs: Array, goal: Cell) -> Array:
        """Return a force (2,) along the shortest way to a cell, by proportion and derivative (10, -1)."""
        cells = way(self.free, self.cell(obs[:2]), goal)
        aim = self.middle(cells[min(1, len(cells) - 1)])
        return np.clip(10.0 * (aim - obs[:2]) - obs[2:4], -1.0, 1.0)


MAZES = {
    "PointMaze-UMaze-v0": Maze("PointMaze_UMaze-v3", 300, ("#####", "#S  #", "### #", "#G  #", "#####")),
    "PointMaze-Medium-v0": Maze(
        "PointMaze_Medium-v3",
        600,
        ("########", "#S ##  #", "#  #   #", "##   ###", "#  #   #", "# #  # #", "#   # G#", "########"),
    ),
    "PointMaze-Large-v0": Maze(
        "PointMaze_Large-v3",
        800,
        (
            *("############", "#S   #     #", "# ## # # # #", "#      #   #"),
            *("# #### ### #", "#  # #     #", "## # # # ###", "#  #   # G #", "############"),
        ),
    ),
}
"""By the ids that they have here."""


def reached_the_goal(obs: Any, action: Any, next_obs: Any) -> Any:
    """Terminated: its place, obs[:2], is within 0.45 of the goal, obs[-2:]; or they are not finite."""
    x, y = next_obs[..., 0] - next_obs[..., -2], next_obs[..., 1] - next_obs[..., -1]
    return ~(x**2 + y**2 > REACHED**2)
