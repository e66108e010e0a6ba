"""gymnasium-robotics' AntMaze with a maze, starts and goals of its own: Minari's ``D4RL/antmaze/*``.

Its id holds what differs from the registered one, as a single word:
``AntMaze_UMaze-v4(maze_map=11111.1g001.11101.1r001.11111,max_episode_steps=700)``. Rows stand between dots; 1
is a wall, r a start, g a goal, c both, 0 is free. A step that ends within 0.45 of the goal pays 1, every
other 0. No step ends the episode (``continuing_task``, the package's default), and an ant that stays is paid
on and on; with ``continuing_task=False`` the goal ends it. An episode is a success where anything was paid.

obs (31,) is ``achieved_goal`` (2,), the ant's x and y, which ``observation`` (27,) lacks: that is the rest of
qpos, then qvel, in -v5 contact forces, too; and ``desired_goal`` (2,). So it begins as D4RL's does, whose own
mazes are in ``antmaze``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError
from ..transitions import Array
from .goals import Parts
from .mazes import REACHED
from .robotics import plain_arguments

PREFIX = "AntMaze_"
SEEN = ("achieved_goal", "observation", "desired_goal")
"""What an observation holds, in this order."""
REGISTERED = re.compile(rf"{PREFIX}[A-Za-z_]+-(v[45])")
"""Before -v4 the reward was computed after the goal had been drawn anew, and was always 0."""
WITH_ARGUMENTS = re.compile(
    rf"(?P<registered>{REGISTERED.pattern})\(maze_map=(?P<cells>[01rgc.]+)"
    r",max_episode_steps=(?P<horizon>[1-9]\d{0,5})(?P<ends>,continuing_task=False)?(?P<moves>,reset_target=True)?\)"
)
ARGUMENTS = ("continuing_task", "maze_map", "reset_target", "reward_type")
CELLS = ("0", "1", "'r'", "'g'", "'c'")
LONGEST = 240
"""Of an id, which is the name of a folder where runs take no data."""


@dataclass(frozen=True)
class RoboticsAntMaze:
    """An AntMaze: what is registered, and the arguments that differ."""

    registered: str
    rows: tuple[str, ...]
    horizon: int
    continuing: bool = True
    moves_goal: bool = False
    """Whether a goal that is reached is drawn anew, where the task goes on."""

    @property
    def id(self) -> str:
        """The id that it has here."""
        ends = ",continuing_task=False" * (not self.continuing) + ",reset_target=True" * self.moves_goal
        return f"{self.registered}(maze_map={'.'.join(self.rows)},max_episode_steps={self.horizon}{ends})"

    @property
    def arguments(self) -> dict[str, Any]:
        """What Gymnasium makes it by."""
        cells = [[int(cell) if cell in "01" else cell for cell in row] for row in self.rows]
        ends = {"continuing_task": self.continuing, "reset_target": self.moves_goal}
        return {"maze_map": cells, "reward_type": "sparse", "max_episode_steps": self.horizon, **ends}

    @property
    def walls(self) -> list[list[bool]]:
        """Which cells are walls."""
        return [[cell == "1" for cell in row] for row in self.rows]

    def outcome(self, obs: Parts) -> tuple[Array, Array]:
        """Return reward (n,) and terminated (n,) of the steps between n + 1 observations."""
        off = obs["achieved_goal"][1:] - obs["desired_goal"][1:]
        reached = np.linalg.norm(off, axis=-1) <= REACHED
        return reached.astype(np.float64), reached & (not self.continuing)


def succeeded(env_return: Any, terminated: Any) -> Any:
    """Tell whether the goal was reached: whether anything was paid."""
    return env_return > 0


def has_arguments(env_id: str) -> bool:
    """Tell whether an id is that of a maze of its own."""
    return env_id.startswith(PREFIX) and "(" in env_id


def from_id(env_id: str) -> RoboticsAntMaze:
    """Return the maze of an id; raise UserError where it is none."""
    match = WITH_ARGUMENTS.fullmatch(env_id)
    if not match:
        raise UserError(
            f"environment {env_id[:300]}: not an AntMaze; one is "
            f"{PREFIX}UMaze-v4(maze_map=11111.1g0r1.11111,max_episode_steps=700)"
        )
    rows, horizon = tuple(match["cells"].split(".")), int(match["horizon"])
    maze = RoboticsAntMaze(match["registered"], rows, horizon, not match["ends"], bool(match["moves"]))
    _require_playable(maze, f"environment {env_id[:300]}")
    return maze


def described(spec: Mapping[str, Any], place: str) -> RoboticsAntMaze:
    """Return the maze that somebody's file describes.

    Args:
        spec: Gymnasium's description of an environment: ``id, entry_point, max_episode_steps, kwargs``.
        place: Where it stands, for the message.

    Raises:
        UserError: It is of another package, or its arguments or its maze cannot be played here.
    """
    registered = REGISTERED.fullmatch(str(spec.get("id")))
    if not registered:
        raise UserError(f"{place}.id: {spec.get('id')!r:.80}: of AntMaze only -v4 and -v5 are played here")
    entry_point = rf"gymnasium_robotics\.envs\.maze\.ant_maze_{registered[1]}:AntMazeEnv"
    arguments = plain_arguments(spec, place, entry_point, ARGUMENTS)
    if arguments.get("reward_type", "sparse") != "sparse":
        raise UserError(f"{place}.kwargs.reward_type: {arguments['reward_type']!r:.40}, expected 'sparse'")
    ends = {"continuing_task": True, "reset_target": False}
    for key in ends:
        ends[key] = arguments.get(key, ends[key])
        if not isinstance(ends[key], bool):
            raise UserError(f"{place}.kwargs.{key}: {ends[key]!r:.40}, expected true or false")
    horizon = spec.get("max_episode_steps")
    if not (isinstance(horizon, int) and 1 < horizon < 10**6):
        raise UserError(f"{place}.max_episode_steps: {horizon!r:.40}, expected a count below a million")
    rows = arguments.get("maze_map")
    if not (isinstance(rows, list) and all(isinstance(row, list) for row in rows)):
        raise UserError(f"{place}.kwargs.maze_map: {rows!r:.40}, expected rows of cells")
    if any(repr(cell) not in CELLS for row in rows for cell in row):
        raise UserError(f"{place}.kwargs.maze_map: a cell is one of {', '.join(CELLS)}")
    cells = tuple("".join(map(str, row)) for row in rows)
    maze = RoboticsAntMaze(registered[0], cells, horizon, ends["continuing_task"], ends["reset_target"])
    _require_playable(maze, f"{place}.kwargs.maze_map")
    return maze


def _require_playable(maze: RoboticsAntMaze, place: str) -> None:
    """Raise UserError where rows differ in width, or a start away from the goal could not be found."""
    if len(set(map(len, maze.rows))) != 1 or not maze.rows[0]:
        raise UserError(f"{place}: expected rows of one width")
    if len(maze.id) > LONGEST:
        raise UserError(
            f"{place}: {len(maze.rows)} rows of {len(maze.rows[0])} cells are too many to be played"
        )
    counts = Counter("".join(maze.rows))
    both = counts["c"] or (0 if counts["r"] or counts["g"] else counts["0"])
    starts, goals = (counts[mark] + both or counts["0"] for mark in "rg")
    if not (starts and goals) or (both and starts == 1):
        raise UserError(f"{place}: a start and a goal in another cell are needed ('r' and 'g', or 'c' twice)")
