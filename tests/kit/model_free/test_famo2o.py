"""FamO2O: a policy for every inverse temperature, one that picks, and IQL where nothing is to be picked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from tests.helpers.model_free import ACT, OBS, agent, finetuned, learns, rows, trained, work

DRAWS = {
    "picked balance": torch.rand(1, 64, 1) * 2 - 1,
    "balance": torch.randn(1, 64, 1),
    "policy actions": torch.randn(1, 64, ACT),
}


def made(name: str = "famo2o", **options: Any) -> Any:
    return agent(registry.algorithm(name), mixed_data(500), **options)


def test_one_inverse_temperature_is_iql_with_constant_inputs() -> None:
    """Identity 19: value, critics and the weights of the regression are those of IQL with that beta."""
    ours, iql = made(beta_low=4.0, beta_high=4.0), agent(registry.algorithm("iql"), mixed_data(500), beta=4.0)
    iql.maps = ours.maps
    for name in ("critics", "targets", "value"):
        iql.nets[name].load_state_dict(ours.nets[name].state_dict())
    batch = rows(ours)
    mine, theirs = ours.constants(batch, DRAWS), iql.constants(batch, {})
    for name in ("y", "q", "log_weight"):
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-5, atol=1e-6)
    assert torch.all(mine["beta"] == 4.0)
    for part in ("value", "critics"):
        torch.testing.assert_close(learns(ours, part, batch, DRAWS), learns(iql, part, batch, {}))


@pytest.mark.parametrize("picks", [False, True])
def test_each_transition_is_weighted_by_its_own_inverse_temperature(picks: bool) -> None:
    ours = made("famo2o_finetune" if picks else "famo2o", beta_low=1.0, beta_high=5.0)
    batch = rows(ours)
    constants = ours.constants(batch, DRAWS)
    beta = constants["beta"][..., 0]
    if picks:
        mean = ours.nets["balance"](batch.obs)[..., 0]
        expected = 1.0 + 2.0 * (torch.tanh(mean + DRAWS["picked balance"][..., 0]) + 1.0)
    else:
        expected = 3.0 + 2.0 * DRAWS["picked balance"][..., 0]
    torch.testing.assert_close(beta, expected, rtol=1e-5, atol=1e-5)
    assert beta.min() >= 1.0
    assert beta.max() <= 5.0
    torch.testing.assert_close(constants["log_weight"], beta * (constants["q"] - ours.v(batch.obs)))


def test_the_policy_tells_inverse_temperatures_apart() -> None:
    ours, obs = made(), torch.zeros(1, 41, OBS)
    beta = torch.linspace(1.0, 5.0, 41)[None, :, None]
    features = ours.with_beta(obs, beta)[0, :, OBS:]
    assert features.shape == (41, 6)
    assert torch.cdist(features, features).fill_diagonal_(1.0).min() > 1e-3
    np.testing.assert_allclose(
        features[0], [f(1e4 ** (-i / 3)) for i in range(3) for f in (np.sin, np.cos)], rtol=1e-5
    )


def test_the_balance_climbs_the_value_and_moves_nobody_else() -> None:
    ours = made("famo2o_finetune", beta_low=1.0, beta_high=5.0)
    batch = rows(ours)
    flat = ours.nets["balance"].flat.clone().requires_grad_()
    x, log_prob = ours.balanced(batch.obs, DRAWS["balance"], flat)
    normal = torch.distributions.Normal(ours.nets["balance"](batch.obs, flat), 1.0)
    squashed = torch.distributions.TransformedDistribution(
        normal, [torch.distributions.TanhTransform(cache_size=1)]
    )
    torch.testing.assert_close(log_prob, squashed.log_prob(x).sum(-1), rtol=1e-3, atol=1e-3)
    loss = ours.balance_loss(flat, batch, DRAWS, {})
    action, _ = ours.sample(ours.with_beta(batch.obs, ours.stretched(x)), DRAWS["policy actions"])
    expected = (log_prob - ours.q("targets", batch.obs, action).amin(1)).mean(-1)
    torch.testing.assert_close(loss[0], expected)
    before = {name: net.flat.clone() for name, net in ours.nets.items()}
    ours.parts_of = lambda stage: ("balance",)
    ours.begin("fine-tune")
    ours.due = 10
    work(ours)
    moved = [name for name, net in ours.nets.items() if not torch.equal(net.flat, before[name])]
    assert moved == ["balance"]


def test_it_acts_at_the_balances_mode() -> None:
    child = finetuned("famo2o_finetune", trained("famo2o"), steps=40)
    obs = np.random.default_rng(0).normal(size=(1, 9, OBS)).astype(np.float32)
    standard = child.observed(obs)
    beta = child.stretched(torch.tanh(child.nets["balance"](standard)))
    expected = torch.tanh(child.nets["actor"](child.with_beta(standard, beta)))
    np.testing.assert_allclose(child.act(obs, explore=False), expected.numpy(), atol=1e-6)
    assert child.network() is None
