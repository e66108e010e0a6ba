"""gymnasium-robotics' mazes: sparse, ended by success, found by a controller and not by chance."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from o2obench.envs.mazes import MAZES, Maze, reached_the_goal
from o2obench.envs.simulator import simulate
from o2obench.envs.spec import find_env
from o2obench.errors import UserError


def played(name: str, seed: int, good: bool) -> tuple[float, int, bool]:
    """Return return, steps and whether the clock ended one episode."""
    maze, env, random = MAZES[name], find_env(name).make(), np.random.default_rng(seed)
    obs, _ = env.reset(seed=seed)
    total, steps, ended, truncated = 0.0, 0, False, False
    while not ended:
        action = maze.towards(obs, maze.goal) if good else random.uniform(-1, 1, 2)
        before = obs
        obs, reward, terminated, truncated, _ = env.step(action)
        total, steps, ended = total + reward, steps + 1, terminated or truncated
        assert maze.cell(obs[:2]) in maze.free, "inside a wall"
        assert bool(reached_the_goal(before, action, obs)) == terminated == (reward == 1.0)
    return total, steps, truncated


@pytest.mark.parametrize("name", MAZES)
def test_the_goal_pays_once_and_ends_the_episode_and_chance_does_not_find_it(name: str) -> None:
    spec = find_env(name)
    assert (spec.obs_dim, spec.act_dim) == (6, 2)
    total, steps, truncated = played(name, 0, good=True)
    assert (total, truncated) == (1.0, False)
    assert steps < spec.horizon
    assert played(name, 0, good=False) == (0.0, spec.horizon, True)


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    find_env("PointMaze-UMaze-v0").make()
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() == str(tmp_path)


LAYOUTS = list(zip(MAZES, ("U_MAZE", "MEDIUM_MAZE", "LARGE_MAZE"), strict=True))


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_walls_are_those_of_gymnasium_robotics(name: str, layout: str) -> None:
    maps = pytest.importorskip("gymnasium_robotics.envs.maze.maps")
    ours = [[1 if found == 1 else 0 for found in row] for row in MAZES[name].map]
    assert ours == getattr(maps, layout)


@pytest.mark.parametrize("maze", MAZES.values(), ids=MAZES)
def test_cells_and_positions_belong_together(maze: Maze) -> None:
    core = find_env(next(name for name, it in MAZES.items() if it is maze)).make().unwrapped.maze
    for cell in maze.free:
        assert maze.cell(maze.middle(cell)) == cell
        assert np.allclose(core.cell_rowcol_to_xy(np.array(cell)), maze.middle(cell))


def test_what_is_not_finite_ends_a_rollout_in_a_model() -> None:
    obs = np.zeros((3, 6), np.float32)
    obs[:, 4] = (0.44, 0.46, np.nan)
    assert list(reached_the_goal(obs, None, obs)) == [True, False, True]


def test_a_state_that_the_observation_does_not_hold_is_refused() -> None:
    obs = np.zeros((1, 6), np.float32)
    with pytest.raises(UserError, match="does not hold the simulator's state"):
        simulate(find_env("PointMaze-UMaze-v0"), obs, np.zeros((1, 2), np.float32))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gymnasium_robotics", None)
    with pytest.raises(UserError, match=r"not installed; pip install 'o2obench\[robotics\]'"):
        find_env("PointMaze-UMaze-v0").make()
