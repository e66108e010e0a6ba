"""AdaptiveBC: the regression's weight follows the returns; without gains it is constant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from o2obench import registry
from o2obench.agent import take_seed
from o2obench.datasets.toy import mixed_data
from o2obench.transitions import Transitions, stack_steps
from tests.helpers.model_free import ACT, agent, finetuned, learns, rows, trained

FEW: dict[str, Any] = {"num_critics": 4, "learning_starts": 1000, "replay_seeded": 10}


def episode(length: int, reward: float) -> list[Transitions]:
    """Return the steps of an episode that the clock ends, all with one reward."""
    steps = []
    for i in range(length):
        step = mixed_data(500)[i]
        steps.append(
            replace(
                step,
                reward=np.asarray(reward, np.float32),
                terminated=np.asarray(False),
                truncated=np.asarray(i == length - 1),
            )
        )
    return steps


def test_the_weight_moves_at_the_end_of_an_episode_by_the_papers_rule() -> None:
    parent = trained("redq_bc", num_critics=4)
    child = finetuned(
        "adaptive_bc",
        parent,
        steps=0,
        **FEW,
        return_low=0.0,
        return_high=100.0,
        gain_target=1e-3,
        gain_drop=2e-3,
    )
    weight, mean = 0.4, None
    for length, reward in ((10, 5.0), (20, 4.0), (30, 0.0), (5, 1.0)):
        for step in episode(length, reward):
            assert float(child.bc_weight()) == np.float32(weight), "it stands still within an episode"
            child.observe(stack_steps([step]))
        share = length * reward / 100.0
        mean = share if mean is None else mean
        weight = min(0.4, max(0.0, weight + length * (2e-3 * max(0.0, mean - share) - 1e-3 * (1.05 - mean))))
        mean = 0.95 * mean + 0.05 * share
        weight = float(np.float32(weight))
        np.testing.assert_allclose(float(child.bc_weight()), weight, rtol=1e-6)
        weight = float(child.bc_weight())
    assert 0.0 < weight < 0.4


def test_without_gains_it_is_redq_bc_with_its_constant_weight() -> None:
    """Identity 25."""
    parent = trained("redq_bc", num_critics=4)
    child = finetuned("adaptive_bc", parent, steps=60, **FEW, gain_target=0.0, gain_drop=0.0)
    assert float(child.bc_weight()) == np.float32(0.4)
    batch, draws = (
        rows(parent),
        {"next actions": torch.randn(1, 64, ACT), "critics of the target": torch.rand(1, 4)},
    )
    for part in ("critics", "actor"):
        torch.testing.assert_close(learns(child, part, batch, draws), learns(parent, part, batch, draws))


def test_the_actor_climbs_the_mean_of_all_critics() -> None:
    made = trained("redq_bc", num_critics=4)
    batch = rows(made)
    q = made.q("critics", batch.obs, batch.action)
    torch.testing.assert_close(made.actor_value(q), q.mean(1))


def test_each_seed_has_a_weight_of_its_own_and_a_resume_knows_it() -> None:
    parent = trained("redq_bc", num_critics=4, seeds=(0, 1))
    cls = registry.algorithm("adaptive_bc")
    options = {**FEW, "return_low": 0.0, "return_high": 100.0, "gain_target": 1e-3}
    child = agent(cls, mixed_data(500), (0, 1), **options)
    child.warm_start([take_seed(parent.pretrained_state(), i) for i in range(2)])
    for first, second in zip(episode(10, 5.0), episode(10, 0.0), strict=True):
        child.observe(stack_steps([first, second]))
    weights = child.bc_weight().tolist()
    assert weights[0] != weights[1]
    again = agent(cls, mixed_data(500), (0, 1), **options)
    again.load_state_dict(child.state_dict())
    assert again.bc_weight().tolist() == weights
    assert again.mean.tolist() == child.mean.tolist()


def test_without_reference_returns_those_of_the_data_are_the_scale() -> None:
    data = mixed_data(500)
    returns = np.add.reduceat(data.reward.astype(np.float64), np.flatnonzero(data.episode_start))
    child = finetuned("adaptive_bc", trained("redq_bc", num_critics=4), steps=0, **FEW)
    assert (child.low, child.range) == (returns.min(), np.ptp(returns))
