"""gymnasium-robotics' AntMaze by an id that holds its arguments, and how its episodes count."""

from __future__ import annotations

import numpy as np
import pytest

from o2obench.envs.episode import Interaction
from o2obench.envs.mazes import reached_the_goal
from o2obench.envs.robotics_antmaze import RoboticsAntMaze, from_id
from o2obench.envs.spec import find_env
from o2obench.envs.termination import never_terminal
from o2obench.errors import UserError
from o2obench.training.evaluation import Arena

MAZE = RoboticsAntMaze("AntMaze_UMaze-v4", ("11111", "1g001", "11101", "1r001", "11111"), 20)
ENDING = RoboticsAntMaze(MAZE.registered, MAZE.rows, 20, continuing=False)
MOVING = RoboticsAntMaze("AntMaze_UMaze-v5", ("11111", "1c0c1", "11111"), 20, moves_goal=True)


@pytest.mark.parametrize("maze", [MAZE, ENDING, MOVING])
def test_an_id_tells_the_whole_maze(maze: RoboticsAntMaze) -> None:
    assert from_id(maze.id) == maze


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("maze_map=11.1r", "not an AntMaze; one is AntMaze_UMaze-v4"),
        ("maze_map=111.1rg1.111,max_episode_steps=9", "expected rows of one width"),
        ("maze_map=1111.1rc0.1111,max_episode_steps=9", ""),
        ("maze_map=1111.1c01.1111,max_episode_steps=9", "a start and a goal in another cell are needed"),
        ("maze_map=1111.1cg1.1111,max_episode_steps=9", "a start and a goal in another cell are needed"),
        ("maze_map=111.101.111,max_episode_steps=9", "a start and a goal in another cell are needed"),
        ("maze_map=111.1g1.111,max_episode_steps=9", "a start and a goal in another cell are needed"),
        (f"maze_map={'.'.join(30 * ['10rg001'])},max_episode_steps=9", "30 rows of 7 cells are too many"),
    ],
)
def test_a_maze_that_cannot_be_played_is_refused(arguments: str, said: str) -> None:
    """Where every start lay beside its goal, gymnasium-robotics would look for one without end."""
    env_id = f"AntMaze_UMaze-v4({arguments})"
    if said:
        with pytest.raises(UserError, match=said):
            from_id(env_id)
    else:
        from_id(env_id)


def test_the_goal_pays_and_ends_only_where_the_task_says_so() -> None:
    pytest.importorskip("gymnasium_robotics")
    for maze in (MAZE, ENDING):
        spec = find_env(maze.id)
        env = spec.make()
        obs, _ = env.reset(seed=0)
        core = env.unwrapped
        assert (obs[:29] == core.ant_env._get_obs()).all(), "the place first, as Ant itself has it"
        assert (obs[29:] == core.goal).all()
        qpos = core.data.qpos.copy()
        qpos[:2] = core.goal
        core.ant_env.set_state(qpos, core.data.qvel.copy())
        last, reward, terminated, _, _ = env.step(np.zeros(8))
        assert (reward, terminated) == (1.0, not maze.continuing)
        rule = never_terminal if maze.continuing else reached_the_goal
        assert spec.terminal is rule
        assert bool(rule(None, None, last)) == terminated


def test_contact_forces_of_v5_are_observed() -> None:
    pytest.importorskip("gymnasium_robotics")
    assert find_env(MOVING.id).obs_dim == 109


def test_an_episode_in_which_anything_was_paid_is_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium_robotics")
    from gymnasium_robotics.envs.maze.maze_v4 import MazeEnv

    spec, still = find_env(MAZE.id), np.zeros(8, np.float32)
    monkeypatch.setattr(MazeEnv, "generate_reset_pos", lambda self: self.goal.copy())
    monkeypatch.setattr(MazeEnv, "add_xy_position_noise", lambda self, position: position)
    arena = Arena(spec, (0,), width=2)
    assert arena.returns(lambda obs: np.zeros((1, 2, 8)), ("test",), 2).tolist() == [[1.0, 1.0]]
    interaction = Interaction(spec, 0)
    finished = [interaction.step(still)[1] for _ in range(20)][-1]
    assert finished is not None
    assert (finished.env_return, finished.length, finished.terminated) == (1.0, 20, False)
    monkeypatch.undo()
    assert Arena(spec, (0,), width=2).returns(lambda obs: np.zeros((1, 2, 8)), ("test",), 2).tolist() == [
        [0.0, 0.0]
    ]
