"""The maze: walls stop, the goal ends, random actions fail, and its data show more than one way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from o2obench.datasets.registry import find_dataset
from o2obench.datasets.toy import play_data
from o2obench.envs.grid import way
from o2obench.envs.pointmaze import FREE, GOAL, MAZE, START, PointMaze, reached_the_goal, towards
from o2obench.envs.spec import find_env


def played(seed: int, good: bool) -> tuple[float, int, bool]:
    """Return return, steps and whether the goal was reached of one episode."""
    env, random = PointMaze(), np.random.default_rng(seed)
    obs, _ = env.reset(seed=seed)
    total, steps, ended = 0.0, 0, False
    while not ended:
        action = towards(obs, GOAL) if good else random.uniform(-1, 1, 2)
        obs, reward, terminated, truncated, _ = env.step(action)
        total, steps, ended = total + reward, steps + 1, terminated or truncated
        assert MAZE[int(obs[1])][int(obs[0])] != "#", "inside a wall"
    return total, steps, terminated


def test_a_step_costs_one_until_the_goal_is_reached() -> None:
    total, steps, reached = played(0, good=True)
    assert reached
    assert total == 1 - steps
    assert played(0, good=False) == (-200.0, 200, False)


def test_the_reference_returns_are_those_of_chance_and_of_the_controller() -> None:
    scores = find_dataset("pointmaze-play-v0").scores
    assert np.mean([played(seed, good=True)[0] for seed in range(50)]) == pytest.approx(
        scores.ref_max, abs=0.01
    )
    assert {played(seed, good=False)[0] for seed in range(20)} == {scores.ref_min}


def test_the_way_leads_around_the_wall() -> None:
    cells = way(FREE, START, GOAL)
    assert cells[0] == START
    assert cells[-1] == GOAL
    assert len(cells) == 11
    assert all(cell in FREE for cell in cells)
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(cells))


def test_the_termination_rule_is_the_environments() -> None:
    data, spec = play_data(), find_env("PointMaze-v0")
    assert spec.terminal is reached_the_goal
    assert np.array_equal(reached_the_goal(data.obs, data.action, data.next_obs), data.terminated)
    assert set(np.unique(data.reward)) == {-1.0, 0.0}
    assert np.array_equal(data.reward == 0.0, data.terminated)


def test_the_data_hold_successes_and_failures_and_are_always_the_same() -> None:
    data = play_data()
    returns = np.add.reduceat(data.reward, np.flatnonzero(data.episode_start))
    assert len(data) == 20_000
    assert 0.4 < float((returns > -200).mean()) < 0.8
    assert np.array_equal(play_data.__wrapped__(500).action, data.action[:500])
    env = PointMaze()
    for i in range(0, 20_000, 997):
        env.set_state(data.obs[i])
        assert np.allclose(env.step(data.action[i])[0], data.next_obs[i], atol=1e-5)


def test_it_can_be_drawn() -> None:
    env = PointMaze()
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (160, 224, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 4
