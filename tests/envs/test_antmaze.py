"""AntMaze as D4RL has it: the walls, the goal, and files that must show that they are of the same task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from o2obench.datasets.isolated_validation import apart
from o2obench.datasets.reference_scores import references
from o2obench.datasets.registry import data_folder, find_dataset
from o2obench.envs.antmaze import ANT_MAZES, middle
from o2obench.envs.spec import find_env
from o2obench.errors import UserError
from o2obench.planning.expand import expand
from o2obench.util.config import Located
from tests.helpers.datasets import ant_maze_arrays, write

UMAZE = find_env("AntMaze-UMaze-v2")


@pytest.mark.parametrize("name", ANT_MAZES)
def test_the_goal_pays_once_ends_the_episode_and_is_drawn_in_its_cell(name: str) -> None:
    maze, horizon = ANT_MAZES[name]
    env = find_env(name).make()
    goals = []
    for seed in (0, 1):
        obs, _ = env.reset(seed=seed)
        assert obs.shape == (29,)
        assert np.abs(obs[:2]).max() <= 0.1
        goals.append(env.goal)
        assert (env.goal - middle(maze.goal) >= 0).all()
        assert (env.goal - middle(maze.goal) < 1.5).all()
        _, reward, terminated, _, info = env.step(np.zeros(8))
        assert (reward, terminated, info["success"]) == (0.0, False, False)
        core = env.unwrapped
        core.set_state(np.concatenate([env.goal + 0.3, obs[2:15]]), np.zeros(14))
        _, reward, terminated, _, info = env.step(np.zeros(8))
        assert (reward, terminated, info["success"]) == (1.0, True, True)
    assert not np.array_equal(*goals)
    assert env.spec.max_episode_steps == horizon


@pytest.mark.parametrize(
    ("name", "ours"),
    [("AntMaze_UMaze-v4", 0), ("AntMaze_Medium-v4", 1), ("AntMaze_Large-v4", 2)],
)
def test_a_step_beside_a_wall_is_that_of_gymnasium_robotics(name: str, ours: int) -> None:
    """There the rows of a maze go down, and (0, 0) is its middle: mirrored, it is the same place."""
    import gymnasium

    robotics = pytest.importorskip("gymnasium_robotics")
    gymnasium.register_envs(robotics)
    env_id = list(ANT_MAZES)[ours]
    maze, _ = ANT_MAZES[env_id]
    theirs: Any = gymnasium.make(name, maze_map=maze.map[::-1], disable_env_checker=True).unwrapped
    theirs.reset(seed=0)
    core = find_env(env_id).make().unwrapped
    start = theirs.maze.cell_rowcol_to_xy(np.array([len(maze.rows) - 2, 1]))
    random, touched = np.random.default_rng(0), 0
    for cell in maze.free:
        qpos = core.init_qpos.copy()
        qpos[:3] = *(middle(cell) + random.uniform(-1.9, 1.9, 2)), 0.3
        qvel, action = random.normal(size=14), random.uniform(-1, 1, 8)
        core.set_state(qpos, qvel)
        theirs.ant_env.set_state(qpos + np.concatenate([start, np.zeros(13)]), qvel)
        next_obs = core.step(action)[0]
        seen = theirs.step(action)[0]
        expected = np.concatenate([seen["achieved_goal"] - start, seen["observation"]])
        touched += bool(core.data.ncon)
        assert np.allclose(next_obs, expected, atol=1e-6)
    assert touched > len(maze.free) / 2


@pytest.mark.parametrize(
    "name", [name for name in references() if name.startswith("antmaze-") and name.endswith("-v2")]
)
def test_all_six_sets_are_known(name: str) -> None:
    data = find_dataset(name)
    assert data.env.horizon == (700 if "umaze" in name else 1000)
    assert data.file == data_folder() / data.scores.file
    assert (data.scores.score(0.0), data.scores.score(1.0)) == (0.0, 100.0)


def test_a_file_of_the_same_task_is_admitted() -> None:
    """In D4RL's layout, without next observations; read in a process of its own, like any other."""
    data = find_dataset("antmaze-umaze-v2")
    arrays = ant_maze_arrays(UMAZE)
    assert 10 < arrays["rewards"].sum() < 100
    del arrays["next_observations"]
    assert data.file is not None
    write(data.file, arrays)
    loaded = data.load()
    assert loaded.reward.sum() == arrays["rewards"].sum(), "a success has no successor, and counts"
    assert (loaded.terminated == (loaded.reward == 1.0)).all()
    assert any("their own observation stands for it" in note for note in apart(data.file, data.env))


def test_minari_s_sets_are_of_another_task() -> None:
    both = ["antmaze-umaze-v2", "minari:D4RL/antmaze/umaze-v1"]
    with pytest.raises(
        UserError, match=r"antmaze-umaze-v2 is D4RL's and .*-v1 is Minari's, of another environ"
    ):
        expand(Located({"algorithms": ["iql"], "datasets": both, "seeds": 1}), "both")
