"""D4RL's AntMaze-v2: Gymnasium's four-legged ant in a maze, paid 1 when it comes to the goal.

The walls are D4RL's, in its coordinates: cells of 4 x 4, the middle of the start's cell is (0, 0), x grows
with the column, y with the row. obs (29,) is qpos (15,), qvel (14,). The goal lies in the goal's cell, off
its middle by u + v / 2 in x and in y, u and v uniform in [0, 1), drawn anew for every episode, and is not
observed; a step that ends within 0.5 of it pays 1 and ends the episode, every other pays 0. Where an ant
falls, the episode goes on.

None of this was read from D4RL's code here. So a file must show that it is of this task: stepped from its
stored states the ant must do what the file says, and its rewards must follow from a goal.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..transitions import Array
from .mazes import MAZES, Maze

SCALE = 4.0
"""Width of a cell."""
WALL = 2.0
"""Height of a wall."""
REACHED = 0.5
"""Distance from the goal at which it counts as reached."""
FARTHEST = 1.5
"""How far a goal may lie from the middle of its cell, in x and in y."""
WRONG_SHARE = 0.2
"""Of the rewarded rows: how many rows may be rewarded out of the goal's reach, or not rewarded in it."""
JUDGED, CHECKED = 200, 5000
"""About so many rewarded episodes are looked at, and so many rows of each."""
STEP = 0.05
"""Between the goals that are tried."""

ANT_MAZES = {
    "AntMaze-UMaze-v2": (MAZES["PointMaze-UMaze-v0"], 700),
    "AntMaze-Medium-v2": (MAZES["PointMaze-Medium-v0"], 1000),
    "AntMaze-Large-v2": (MAZES["PointMaze-Large-v0"], 1000),
}
"""Maze and horizon by the ids that they have here; the layouts are those of the point mazes."""


def middle(cell: tuple[int, int]) -> Array:
    """Return the position (2,) of a cell's middle; every maze starts in cell (1, 1)."""
    return SCALE * np.array([cell[1] - 1.0, cell[0] - 1.0])


def with_walls(maze: Maze, file: Path, ant: Path) -> None:
    """Write the ant's model with the walls of a maze."""
    tree = ET.parse(ant)
    body = tree.find("worldbody")
    assert body is not None
    size = f"{SCALE / 2} {SCALE / 2} {WALL / 2}"
    for i, row in enumerate(maze.rows):
        for j, found in enumerate(row):
            if found == "#":
                x, y = middle((i, j))
                box = {"name": f"block_{i}_{j}", "pos": f"{x} {y} {WALL / 2}", "size": size, "type": "box"}
                ET.SubElement(body, "geom", box, contype="1", conaffinity="1", rgba="0.7 0.5 0.3 1")
    tree.write(file)


def maker(maze: Maze, horizon: int, make: Callable[..., Callable[[], Any]]) -> Callable[[], Any]:
    """Return what makes a maze, by what makes an environment that Gymnasium has registered."""

    def made() -> Any:
        from gymnasium import Wrapper
        from gymnasium.envs import mujoco

        class AntMaze(Wrapper):
            """The ant, with a goal."""

            goal = middle(maze.goal)

            def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
                obs, info = self.env.reset(**options)
                off = self.unwrapped.np_random.uniform(size=(2, 2)) @ np.array([1.0, 0.5])
                self.goal = middle(maze.goal) + off
                return obs, info

            def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
                obs, _, _, truncated, info = self.env.step(action)
                reached = bool(np.linalg.norm(obs[:2] - self.goal) <= REACHED)
                return obs, float(reached), reached, truncated, {**info, "success": reached}

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "ant_maze.xml"
            with_walls(maze, file, Path(mujoco.__file__).parent / "assets" / "ant.xml")
            options = {"xml_file": str(file), "max_episode_steps": horizon}
            seen = {"exclude_current_positions_from_observation": False, "terminate_when_unhealthy": False}
            return AntMaze(make("Ant-v4", **options, **seen)())

    return made


def wrong_rewards(maze: Maze) -> Callable[[Array, Array, Array, Array], str]:
    """Return what tells how rewards (n,) differ from those of goals in the maze, empty where they do not.

    It takes observations before and after each step, rewards, and the number of each row's episode. One goal
    must explain a file, since D4RL's rewards were computed afterwards, or, where a reward ends an episode,
    the episode. D4RL may have looked at the ant before or after the step.
    """

    def wrong(obs: Array, next_obs: Array, reward: Array, episode: Array) -> str:
        paid = reward == 1.0
        if not (paid | (reward == 0.0)).all():
            return f"hold {reward[~paid & (reward != 0.0)][0]:g}; a step pays 1 at the goal, and else 0"
        if not paid.any():
            return ""
        last = np.append(episode[1:] != episode[:-1], True)
        goals = [np.zeros_like(episode), *([episode] if last[paid].all() else [])]
        places = [at[:, :2] for at in (next_obs, obs)]
        least = min(_unexplained(maze, at, paid, goal) for goal in goals for at in places)
        if least <= WRONG_SHARE:
            return ""
        off = np.median(_beyond(maze, next_obs[paid, :2]))
        return (
            f"follow from no goal of the task: the best one, with a radius of {REACHED}, is wrong in "
            f"{100 * least:.0f} rows for 100 rewarded ones, which lie {off:.1f} from where goals lie"
        )

    return wrong


def _beyond(maze: Maze, places: Array) -> Array:
    """Return how far places (n, 2) are from the square in which goals lie."""
    off = np.abs(places - middle(maze.goal) - FARTHEST / 2) - FARTHEST / 2
    far: Array = np.linalg.norm(np.maximum(off, 0.0), axis=1)
    return far


def _unexplained(maze: Maze, places: Array, paid: Array, goal: Array) -> float:
    """Return how many rows the best goals get wrong, as a share of those rewarded; ``goal``: each row's."""
    steps = np.arange(0.0, FARTHEST + STEP / 2, STEP)
    tried = middle(maze.goal) + np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 1, 2)
    close, wrong, rewarded = paid | (_beyond(maze, places) < REACHED), 0, 0
    numbers = np.unique(goal[paid])
    for number in numbers[:: max(1, len(numbers) // JUDGED)]:
        rows = np.flatnonzero(close & (goal == number))
        rows = rows[:: max(1, len(rows) // CHECKED)]
        reached = ((places[rows] - tried) ** 2).sum(axis=-1) <= REACHED**2
        wrong += int((reached != paid[rows]).sum(axis=1).min())
        rewarded += int(paid[rows].sum())
    return wrong / max(1, rewarded)
