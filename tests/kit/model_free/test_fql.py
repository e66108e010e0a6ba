"""FQL: the flow learns the data's actions, the policy stays near it, critics are averaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from tests.helpers.model_free import ACT, OBS, agent, finetuned, learns, rows, trained

NAMES = ("next actions", "policy actions", "flow noise")


def made(**options: Any) -> Any:
    return agent(registry.algorithm("fql"), mixed_data(500), **options)


def draws() -> dict[str, torch.Tensor]:
    return {**{name: torch.randn(1, 64, ACT) for name in NAMES}, "flow time": torch.rand(1, 64, 1) * 2 - 1}


def network(ours: Any, name: str, x: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
    """Apply a network without norms by hand, with GELU between its layers."""
    layers = ours.nets[name].layers(flat)
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight[0] + bias[0]
        x = torch.nn.functional.gelu(x) if i < len(layers) - 1 else x
    return x


def test_the_flows_loss_is_the_textbook_one() -> None:
    ours, drawn = made(), draws()
    batch, t = rows(ours), 0.5 * (drawn["flow time"] + 1)
    flat = ours.nets["flow"].flat.clone().requires_grad_()
    z, a = drawn["flow noise"], batch.action
    v = network(ours, "flow", torch.cat([batch.obs, (1 - t) * z + t * a, t], -1)[0], flat)
    [expected] = torch.autograd.grad(torch.nn.functional.mse_loss(v, (a - z)[0]), [flat])
    torch.testing.assert_close(learns(ours, "flow", batch, drawn), expected, rtol=1e-4, atol=1e-6)


def test_the_policys_loss_is_the_textbook_one() -> None:
    ours, drawn = made(flow_alpha=3.0, flow_steps=4), draws()
    batch, z = rows(ours), drawn["policy actions"][0]
    x = z
    for i in range(4):
        t = torch.full((64, 1), i / 4)
        x = x + network(ours, "flow", torch.cat([batch.obs[0], x, t], -1), ours.nets["flow"].flat) / 4
    flat = ours.nets["actor"].flat.clone().requires_grad_()
    mu = network(ours, "actor", torch.cat([batch.obs[0], z], -1), flat)
    q = ours.q("critics", batch.obs, mu.clamp(-1, 1)[None]).mean(1)
    loss = 3.0 * torch.nn.functional.mse_loss(mu, x.clamp(-1, 1)) - q.mean() / q.abs().mean().detach()
    [expected] = torch.autograd.grad(loss, [flat])
    torch.testing.assert_close(learns(ours, "actor", batch, drawn), expected, rtol=1e-3, atol=1e-5)


def test_the_flow_is_not_moved_by_the_policy_nor_the_target_by_less_than_the_mean() -> None:
    ours, drawn = made(), draws()
    batch = rows(ours)
    flow = ours.nets["flow"].flat.requires_grad_()
    loss = ours.flow_loss(flow.detach(), batch, drawn, {})
    assert not loss.requires_grad
    action = ours.one_step(batch.next_obs, drawn["next actions"]).clamp(-1, 1)
    q = ours.q("targets", batch.next_obs, action)
    expected = batch.reward + 0.99 * (1 - batch.terminated) * q.mean(1)
    torch.testing.assert_close(ours.constants(batch, drawn)["y"], expected)


def test_a_trained_flow_has_the_mean_of_the_datas_actions() -> None:
    """Actions that do not depend on the observation: where noise ends, their mean and deviation are found."""

    data = mixed_data(2000)
    action = np.where(np.random.default_rng(0).random((2000, 1)) < 0.5, -0.5, 0.5).astype(np.float32)
    data = replace(data, action=np.repeat(action, ACT, 1))
    ours = agent(
        registry.algorithm("fql"), data, updates=1500, hidden_dims=(64, 64), actor_lr=1e-3, critic_lr=1e-3
    )
    ours.parts_of = lambda stage: ("flow",)
    ours.begin("offline")
    for _ in ours.work("offline"):
        pass
    flown = ours.flown(torch.from_numpy(data.obs[:1500])[None], torch.randn(1, 1500, ACT))[0]
    assert abs(float(flown.mean())) < 0.08
    assert abs(float(flown.std()) - 0.5) < 0.08
    assert float((flown.abs() - 0.5).abs().mean()) < 0.2, "two modes, not one between them"


def test_fine_tuning_goes_on_with_everything_and_is_judged_without_noise() -> None:
    parent = trained("fql")
    child = finetuned("fql_finetune", parent, steps=0)
    for name, net in parent.nets.items():
        assert torch.equal(child.nets[name].flat, net.flat), name
    assert child.adams["flow"].steps.tolist() == [50]
    obs = np.random.default_rng(0).normal(size=(1, 9, OBS)).astype(np.float32)
    x = torch.cat([torch.from_numpy(obs[0]), torch.zeros(9, ACT)], -1)
    expected = network(child, "actor", x, child.nets["actor"].flat).clamp(-1, 1)
    np.testing.assert_allclose(child.act(obs, explore=False)[0], expected.numpy(), atol=1e-5)
    assert not np.array_equal(child.act(obs, explore=True), child.act(obs, explore=True))
