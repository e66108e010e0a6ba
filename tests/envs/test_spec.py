"""Environments: the built-in ones are what they say, any Gymnasium task can be used, nothing else can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from o2obench.datasets import registry as datasets
from o2obench.envs.spec import environments, find_env
from o2obench.errors import UserError
from o2obench.planning.expand import expand
from o2obench.planning.schema import Selection
from o2obench.runs.folder import ResultsFolder
from o2obench.training.collect import Recipe, collect
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.config import Located

TOYS = {"PointMass-v0", "PointMaze-v0", "WindyMass-v0"}


@pytest.mark.parametrize("env_id", [name for name in environments() if name not in TOYS])
def test_sizes_bounds_and_the_rule_of_termination_are_the_simulators(env_id: str) -> None:
    spec = find_env(env_id)
    env = spec.make()
    assert env.observation_space.shape == (spec.obs_dim,)
    assert env.action_space.shape == (spec.act_dim,)
    assert np.allclose(env.action_space.low, spec.low)
    assert np.allclose(env.action_space.high, spec.high)
    assert env.spec.max_episode_steps == spec.horizon
    end_is_hidden = env_id.startswith(("AntMaze", "Kitchen"))
    assert (spec.terminal is None) == end_is_hidden
    random, (obs, _) = np.random.default_rng(0), env.reset(seed=0)
    for _ in range(300):
        action = spec.from_unit(random.uniform(-1, 1, spec.act_dim))
        next_obs, _, terminated, truncated, _ = env.step(action)
        assert spec.terminal is None or bool(spec.terminal(obs, action, next_obs)) == terminated
        obs = env.reset()[0] if terminated or truncated else next_obs


def test_any_gymnasium_task_with_vectors_and_a_box_is_found() -> None:
    spec = find_env("Pendulum-v1")
    assert (spec.obs_dim, spec.act_dim, spec.horizon, spec.terminal) == (3, 1, 200, None)
    assert spec.from_unit(np.ones(1)).tolist() == [2.0]
    assert spec.to_unit(np.array([-2.0])).tolist() == [-1.0]


@pytest.mark.parametrize(
    ("env_id", "said"),
    [
        ("CartPole-v1", r"actions are Discrete\(2\); only a bounded Box"),
        ("FrozenLake-v1", r"observations are Discrete\(16\); only vectors"),
        ("HalfCheetah-v3", "cannot be made here"),
        ("os:mkdir", "not known"),
        ("Hoper-v4", "did you mean Hopper-v4"),
    ],
)
def test_other_tasks_are_refused_by_what_they_lack(env_id: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find_env(env_id)


@pytest.mark.slow
def test_a_task_that_nobody_prepared_is_collected_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With scores of its own; what rolls out a model is refused, for want of a rule of termination."""
    monkeypatch.setenv("O2OBENCH_DATA", str(tmp_path))
    monkeypatch.setattr("o2obench.training.collector.EVALUATE_EVERY", 600)
    monkeypatch.setattr("o2obench.training.collect.EPISODES", 3)
    collect("Pendulum-v1", "high", None, Recipe(400, 1200, 0, tmp_path / "work"), lambda: False)
    name = "o2obench"
    found = datasets.find_dataset("o2o:pendulum-high-v0")
    assert found.env.id == "Pendulum-v1"
    assert "uniform random actions" in found.scores.source
    assert found.scores.ref_max > found.scores.ref_min
    assert len(found.load()) == 400
    assert "o2o:pendulum-high-v0" in datasets.dataset_names()
    grid = {"datasets": ["o2o:pendulum-high-v0"], "seeds": 1, "online": {"steps": 20, "evaluate_every": 10}}
    plan = expand(Located({**grid, "algorithms": [{"sac": {"learning_starts": 10}}]}), name)
    execute(list(plan.runs), ResultsFolder(tmp_path / "results"), Options())
    with pytest.raises(UserError, match="nobody has written down when Pendulum-v1 ends"):
        expand(Located({**grid, "algorithms": ["naive"]}), name, Selection(defaults=True))
