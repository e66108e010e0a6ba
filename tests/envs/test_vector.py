"""Stepping many copies at once is stepping each by itself, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from o2obench.envs.spec import find_env
from o2obench.training.evaluation import Arena

TASKS = ("Hopper-v4", "Walker2d-v4", "HalfCheetah-v4", "InvertedPendulum-v4", "PointMass-v0")


def actions(act_dim: int, episode: int, step: int, dtype: Any) -> np.ndarray:
    """Actions that keep a walker up for a while, then let it fall, or run wild: by episode."""
    random = np.random.default_rng((episode, step))
    chosen: np.ndarray = random.uniform(-1, 1, act_dim) * (0.02, 0.3, 1.0, 1.0)[episode]
    return chosen.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("task", TASKS)
def test_lockstep_equals_single_steps_bit_for_bit(task: str, dtype: Any) -> None:
    spec, episodes, limit = find_env(task), 4, 120
    crowd, running = spec.vector_env(episodes), np.ones(episodes, bool)
    single = [spec.make() for _ in range(episodes)]
    for i, env in enumerate(single):
        assert np.array_equal(crowd.reset(i, 7 + i), env.reset(seed=7 + i)[0])
    ended_at = {}
    for k in range(limit):
        given = np.stack([spec.from_unit(actions(spec.act_dim, i, k, dtype)) for i in range(episodes)])
        chosen = np.flatnonzero(running)
        obs, reward, died, cut = crowd.step(given, running)
        ended = died | cut
        for row, i in enumerate(chosen.tolist()):
            seen, earned, terminated, truncated, _ = single[i].step(given[i])
            assert np.array_equal(obs[row], seen), (k, i)
            assert reward[row] == earned, (k, i)
            assert died[row] == terminated, (k, i)
            assert cut[row] == truncated, (k, i)
            if ended[row]:
                ended_at[i] = k
        running[chosen] = ~ended
        if not running.any():
            break
    if task in ("Hopper-v4", "Walker2d-v4"):
        assert len(ended_at) >= 2, "no episode ended: the rule was not tried"


@pytest.mark.parametrize("task", ["HalfCheetah-v4", "PointMass-v0"])
def test_the_time_limit_is_the_environments_own(task: str) -> None:
    spec = find_env(task)
    lengths = []
    crowd = spec.vector_env(1)
    crowd.reset(0, 3)
    still = spec.from_unit(np.zeros((1, spec.act_dim), np.float32))
    for k in range(2000):
        _, _, terminated, truncated = crowd.step(still, np.ones(1, bool))
        if terminated[0] or truncated[0]:
            lengths.append(k + 1)
            break
    assert lengths == [spec.horizon]


def test_returns_are_those_of_episodes_played_one_by_one() -> None:
    spec = find_env("Hopper-v4")

    def act(obs: np.ndarray) -> np.ndarray:
        chosen: np.ndarray = np.tanh(obs[..., :3])
        return chosen

    arena = Arena(spec, (0, 1), width=3)
    returns = arena.returns(act, ("steps", 5), 4)
    from o2obench.util.rng import derive

    for s in range(2):
        for e in range(4):
            env = spec.make()
            obs, _ = env.reset(seed=derive(s, "evaluation", "steps", 5, e))
            total, over = 0.0, False
            while not over:
                action = spec.from_unit(act(np.asarray(obs, np.float32)))
                obs, reward, terminated, truncated, _ = env.step(action)
                total, over = total + float(reward), terminated or truncated
            assert returns[s, e] == total
