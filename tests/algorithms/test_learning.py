"""On the toy point mass MOPO learns, without updates it does not; model-free methods beat chance."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from o2obench import registry
from o2obench.agent import Budget, Task
from o2obench.datasets.describe import episode_returns
from o2obench.datasets.registry import reference
from o2obench.datasets.toy import mixed_data
from o2obench.envs.pointmass import left_the_field
from o2obench.envs.spec import find_env
from o2obench.training.evaluation import Arena

SEEDS = (0, 1, 2)


def mean_returns_after_training(updates: int) -> Any:
    """Train three seeds side by side; return their mean returns over 20 episodes."""
    mopo = registry.algorithm("mopo")
    config = mopo.Config.model_validate(
        {
            "rollout_length": (0, 1, 5, 5),
            "penalty_coef": 0.5,
            "rollout_batch_size": 2000,
            "model_hidden_dims": (64, 64),
            "model_weight_decay": (2.5e-5, 5e-5, 1e-4),
            "max_model_epochs": 60,
            "hidden_dims": (64, 64),
            "actor_lr": 3e-4,
            "alpha_lr": 3e-4,
        }
    )
    task = Task(4, 2, 50, SEEDS, left_the_field, Budget(updates, 0))
    agent = mopo(task, config, mixed_data())
    for stage in mopo.stages(config, task.budget):
        agent.begin(stage.name)
        for _ in agent.work(stage.name):
            pass
    arena = Arena(find_env("PointMass-v0"), SEEDS)
    return arena.returns(lambda obs: agent.act(obs, explore=False), ("learning",), 20).mean(axis=1)


@pytest.mark.slow
def test_half_the_gap_is_closed_on_all_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    data_mean = float(episode_returns(mixed_data())[0].mean())
    optimum = reference("pointmass-mixed-v0").ref_max
    half = data_mean + 0.5 * (optimum - data_mean)
    began = time.monotonic()
    learnt = mean_returns_after_training(updates=2000)
    seconds = time.monotonic() - began
    assert (learnt >= half).all(), f"returns {learnt}, half the gap is at {half:.1f} ({seconds:.0f} s)"

    from o2obench.kit.sac import Sac

    monkeypatch.setattr(
        Sac, "update", lambda self, batch, noise, rates: batch.reward.new_zeros(4, len(SEEDS))
    )
    disabled = mean_returns_after_training(updates=100)
    assert not (disabled >= half).all(), f"the test is blind: {disabled} without a single update"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "updates", "options"),
    [
        ("bc", 2000, {}),
        ("iql", 2000, {"normalize_reward": False}),
        ("awac", 2000, {}),
        ("cql", 600, {"actor_lr": 3e-4, "cql_actions": 3}),
    ],
)
def test_a_model_free_method_beats_chance(name: str, updates: int, options: dict[str, Any]) -> None:
    """Random actions reach the bound with p < 1e-4: four standard errors above their mean."""
    cls = registry.algorithm(name)
    task = Task(4, 2, 50, SEEDS, left_the_field, Budget(updates, 0))
    agent = cls(task, cls.Config.model_validate({"hidden_dims": (64, 64), **options}), mixed_data())
    agent.begin("offline")
    for _ in agent.work("offline"):
        pass
    arena, random = Arena(find_env("PointMass-v0"), SEEDS), np.random.default_rng(0)
    chance = arena.returns(
        lambda obs: random.uniform(-1, 1, (*obs.shape[:-1], 2)).astype(np.float32), ("learning",), 20
    )
    bound = chance.mean() + 4 * chance.std(ddof=1) / np.sqrt(chance.size)
    learnt = arena.returns(lambda obs: agent.act(obs, explore=False), ("learning",), 20)
    assert (learnt.mean(axis=1) > bound).all(), (learnt.mean(axis=1), bound)
