"""OGBench's single tasks: episodes follow from their seed, end by success alone, and are judged by it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from o2obench.envs import ogbench, rendering, spec
from o2obench.envs.episode import Interaction
from o2obench.envs.spec import find_env
from o2obench.errors import UserError
from o2obench.training.evaluation import Arena

pytest.importorskip("ogbench")

MAZE, TELEPORT, CUBES = (
    "pointmaze-medium-singletask-v0",
    "pointmaze-teleport-singletask-v0",
    "cube-single-singletask-v0",
)


def played(env: Any, seed: int, steps: int = 60) -> np.ndarray:
    random, obs = np.random.default_rng(seed), [env.reset(seed=seed)[0]]
    for _ in range(steps):
        obs.append(env.step(random.uniform(-1, 1, env.action_space.shape).astype(np.float32))[0])
    return np.array(obs)


@pytest.mark.parametrize("env_id", [MAZE, TELEPORT, pytest.param(CUBES, marks=pytest.mark.slow)])
def test_episodes_follow_from_their_seed_and_leave_others_draws_alone(env_id: str) -> None:
    make = find_env(env_id).make
    used = make()
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.RandomState(0).uniform(size=3)
    first, other = played(used, 1), played(used, 2)
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(played(used, 1), first)
    assert np.array_equal(played(make(), 1), first)
    assert np.array_equal(np.random.uniform(size=3), expected)  # noqa: NPY002


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    find_env(MAZE).make()
    assert list(tmp_path.iterdir()) == []


def test_teleports_follow_from_the_seed() -> None:
    env = find_env(TELEPORT).make()
    core, landed = env.unwrapped, []
    for seed in [*range(6), *range(6)]:
        env.reset(seed=seed)
        core.set_xy(np.array(core._teleport_info["teleport_in_xys"][0]))
        env.step(np.zeros(2, np.float32))
        landed.append(tuple(core.get_xy()))
    assert landed[:6] == landed[6:]
    assert len(set(landed)) > 1


@pytest.mark.parametrize(
    "env_id", [MAZE, "antmaze-medium-singletask-task3-v0", "humanoidmaze-medium-singletask-v0"]
)
def test_a_maze_ends_by_the_rule_and_labels_are_its_rewards(env_id: str) -> None:
    maze = find_env(env_id)
    assert maze.terminal is not None
    env, random = maze.make(), np.random.default_rng(0)
    rewards, qpos, ends = [], [], []
    for distance in np.linspace(0.0, 3.0, 31):
        obs, _ = env.reset(seed=0)
        core = env.unwrapped
        angle = random.uniform(0, 2 * np.pi)
        core.set_xy(core.cur_goal_xy + distance * np.array([np.cos(angle), np.sin(angle)]))
        obs, action = core.get_ob(), random.uniform(-1, 1, maze.act_dim).astype(np.float32)
        qpos.append(core.data.qpos.copy())
        next_obs, reward, terminated, _, info = env.step(action)
        assert bool(maze.terminal(obs, action, next_obs)) == terminated == (info["success"] == 1.0)
        rewards.append(reward)
        ends.append(terminated)
    assert 2 < sum(ends) < 29
    labelled, success = ogbench.relabel(maze, {"qpos": np.array(qpos)})
    assert labelled.tolist() == rewards
    assert success.tolist() == ends
    assert maze.terminal(obs * np.nan, action, next_obs * np.nan), "a rollout that is not finite ends"


def test_of_other_tasks_nobody_has_written_down_when_they_end() -> None:
    assert find_env("antsoccer-arena-singletask-v0").terminal is None


def test_episodes_count_by_success() -> None:
    maze = find_env(MAZE)
    core = maze.make().unwrapped
    goal = np.array(core.ij_to_xy((6, 6)))

    def oracle(obs: np.ndarray) -> np.ndarray:
        ways = [core.get_oracle_subgoal(at, goal)[0] - at for at in obs[0]]
        moves: np.ndarray = np.clip(np.array(ways), -1, 1)
        return moves[None]

    arena = Arena(maze, (0,), width=2)
    assert arena.returns(oracle, ("test",), 2).tolist() == [[1.0, 1.0]]
    assert arena.returns(lambda obs: np.zeros((1, 2, 2)), ("test",), 2).tolist() == [[0.0, 0.0]]
    training, finished = Interaction(maze, 0), None
    while finished is None:
        _, finished = training.step(oracle(training.obs[None, None])[0, 0].astype(np.float32))
    assert (finished.env_return, finished.terminated) == (1.0, True)
    assert 10 < finished.length < maze.horizon, "it took steps, each of which costs 1"


def test_what_is_missing_or_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"environment pointmaze-small-singletask-v0: not known"):
        find_env("pointmaze-small-singletask-v0")
    spec._of_ogbench.cache_clear()
    monkeypatch.setitem(sys.modules, "ogbench", None)
    with pytest.raises(UserError, match=r"ogbench is not installed; pip install 'o2obench\[ogbench\]'"):
        find_env(MAZE)


def test_a_picture_needs_its_variable_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_draws", lambda variables: True)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(UserError, match="is drawn only if MUJOCO_GL=egl is set before the start"):
        rendering.with_pictures(find_env(MAZE))
