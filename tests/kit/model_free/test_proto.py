"""PROTO and EQL: the soft maximum, the slow copy that ties the policy, and SAC where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_free.template import OffPolicy
from tests.helpers.model_free import ACT, agent, feed, finetuned, learns, rows, trained

SMALL: dict[str, Any] = {"layer_norm": "none"}


def made(**options: Any) -> Any:
    """Return PROTO after a short EQL, with a policy that has left its slow copy."""
    child = finetuned("proto", trained("eql", **SMALL), steps=0, **{**SMALL, "replay_seeded": 20, **options})
    child.nets["actor"].flat += 0.05 * torch.randn_like(child.nets["actor"].flat)
    return child


def test_the_value_is_a_soft_maximum_of_the_datas_action_values() -> None:
    """At the minimum of the loss exp(beta V) is the mean of exp(beta Q): the gradient in V vanishes there."""
    eql = agent(registry.algorithm("eql"), mixed_data(500), beta=0.5)
    q = torch.linspace(-3.0, 3.0, 64)[None]
    v = (0.5 * q).exp().mean().log() / 0.5
    shift = v.clone().requires_grad_()
    eql.v = lambda obs, flat=None: shift.expand(1, 64)
    loss = eql.value_loss(None, rows(eql), {}, {"q": q})[0].sum()
    [gradient] = torch.autograd.grad(loss, [shift])
    assert abs(float(gradient)) < 1e-6


def test_the_values_gradient_is_the_textbook_one_but_for_a_factor() -> None:
    eql = agent(registry.algorithm("eql"), mixed_data(500), beta=2.0)
    batch = rows(eql)
    ours = learns(eql, "value", batch, {})
    flat = eql.nets["value"].flat.clone().requires_grad_()
    z = (2.0 * (eql.constants(batch, {})["q"] - eql.v(batch.obs, flat))).clamp(max=7.0)
    [textbook] = torch.autograd.grad((z.exp() - z - 1.0).mean(), [flat])
    factor = (-z.detach().amax().clamp(min=-1.0)).exp()
    torch.testing.assert_close(ours, factor * textbook, rtol=1e-4, atol=1e-7)


def test_without_the_tie_it_is_sac_with_the_mean_of_the_critics() -> None:
    """Identity 21."""
    ours = made(temperature=0.0)
    batch, draws = rows(ours), {name: torch.randn(1, 64, ACT) for name in ("next actions", "policy actions")}
    flat = ours.nets["actor"].flat.clone().requires_grad_()
    [sac] = torch.autograd.grad(OffPolicy.actor_loss(ours, flat, batch, draws, {})[0].sum(), [flat])
    torch.testing.assert_close(learns(ours, "actor", batch, draws), sac, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        ours.next_value(batch, draws), OffPolicy.next_value(ours, batch, draws), rtol=1e-4, atol=1e-5
    )


def test_the_actor_pays_for_leaving_its_slow_copy() -> None:
    """log pi - log pi' by torch's distributions, of the uncut action."""
    ours = made(temperature=3.0)
    batch, noise = rows(ours), torch.randn(1, 64, ACT)
    normals = []
    for name in ("actor", "slow actor"):
        mean, log_std = ours.policy_kind.distribution(ours.nets[name], batch.obs)
        normals.append(torch.distributions.Normal(mean, log_std.exp()))
    raw = normals[0].mean + normals[0].stddev * noise
    log_pi, log_slow = (of.log_prob(raw).sum(-1) for of in normals)
    action, cost, log_prob = ours.paid(batch.obs, noise)
    torch.testing.assert_close(log_prob, log_pi, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cost, 0.01 * log_pi + 3.0 * (log_pi - log_slow), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(action, raw.clamp(-1, 1))


def test_the_tie_is_gone_after_nine_tenths_and_the_copy_follows_at_its_own_pace() -> None:
    parent = trained("eql", **SMALL)
    child = finetuned("proto", parent, steps=0, **SMALL, replay_seeded=20, temperature=2.0, slow_tau=0.25)
    assert torch.equal(child.nets["slow actor"].flat, parent.nets["actor"].flat)
    for i in range(95):
        before = child.nets["slow actor"].flat.clone()
        feed(child, mixed_data(500)[i : i + 1])
        assert float(child.now["temperature"]) == pytest.approx(
            2.0 * max(0.0, 1.0 - (i + 1) / 90.0), abs=1e-6
        )
        if child.updates:
            expected = before.lerp(child.nets["actor"].flat, 0.25)
            torch.testing.assert_close(child.nets["slow actor"].flat, expected)
    assert child.updates == 75
    assert np.isclose(float(child.alpha()), 0.01, rtol=0.2)
