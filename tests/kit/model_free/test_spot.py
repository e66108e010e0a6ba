"""SPOT: the density is the textbook bound and stays fixed; without its weight SPOT is TD3."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from tests.helpers.model_free import ACT, agent, feed, finetuned, learns, module, rows, trained

SMALL: dict[str, Any] = {"density_hidden_dims": (32, 32), "density_updates": 300, "normalize_obs": False}


def made(**options: Any) -> Any:
    """Return SPOT on the toy data with small networks, untrained."""
    return agent(registry.algorithm("spot"), mixed_data(500), **{**SMALL, **options})


def textbook_bound(ours: Any, obs: Tensor, action: Tensor, noise: Tensor) -> Tensor:
    """Return the negative evidence bound by plain torch modules and distributions."""
    encoder, decoder = (module(ours.nets[name]) for name in ("encoder", "decoder"))
    mean, log_std = encoder(torch.cat([obs, action], -1)).chunk(2, -1)
    posterior = torch.distributions.Normal(mean, log_std.clamp(-4, 15).exp())
    latent = mean + posterior.stddev * noise
    error = torch.nn.functional.mse_loss(
        torch.tanh(decoder(torch.cat([obs, latent], -1))), action, reduction="none"
    )
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return error.mean(-1) + 0.5 * torch.distributions.kl_divergence(posterior, prior).mean(-1)


def test_the_bound_is_the_textbook_one() -> None:
    ours = made()
    batch, noise = rows(ours), torch.randn(1, 64, 2 * ACT)
    bound, _ = ours.negative_bound(batch.obs, batch.action, noise)
    expected = textbook_bound(ours, batch.obs[0], batch.action[0], noise[0])
    torch.testing.assert_close(bound[0], expected, rtol=1e-4, atol=1e-5)


def test_the_density_learns_first_and_the_policys_stage_leaves_it_alone() -> None:
    ours = made()
    before = {name: net.flat.clone() for name, net in ours.nets.items()}
    batch, noise = rows(ours, 200), torch.randn(1, 200, 2 * ACT)
    at_first, _ = ours.negative_bound(batch.obs, batch.action, noise)
    ours.begin("density")
    for _ in ours.work("density"):
        pass
    learnt = ours.parameters["density"].clone()
    assert (ours.clock, ours.updates) == (300, 0), "of the policy there is none yet"
    assert all(torch.equal(ours.nets[name].flat, before[name]) for name in ("actor", "critics", "targets"))
    assert not torch.equal(ours.nets["encoder"].flat, before["encoder"])
    assert ours.negative_bound(batch.obs, batch.action, noise)[0].mean() < 0.8 * at_first.mean()
    ours.begin("offline")
    for _ in ours.work("offline"):
        pass
    assert torch.equal(ours.parameters["density"], learnt)
    assert ours.updates == 50
    assert not torch.equal(ours.nets["actor"].flat, before["actor"])


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_actor_pays_the_bound_and_without_its_weight_is_td3s(weight: float) -> None:
    """Identity 15."""
    ours = made(bc_weight=weight)
    td3 = agent(
        registry.algorithm("td3_bc"), mixed_data(500), bc_weight=0.0, td3_alpha=1.0, normalize_obs=False
    )
    for name, net in td3.nets.items():
        net.load_state_dict(ours.nets[name].state_dict())
    batch, noise = rows(ours), torch.randn(1, 64, 2 * ACT)
    flat = ours.nets["actor"].flat.clone().requires_grad_()
    of_bound = textbook_bound(
        ours, batch.obs[0], torch.tanh(ours.nets["actor"](batch.obs, flat))[0], noise[0]
    )
    [pull] = torch.autograd.grad(of_bound.mean(), [flat])
    draws = {"latent": noise, "next actions": torch.randn(1, 64, ACT)}
    expected = learns(td3, "actor", batch, draws) + weight * pull
    torch.testing.assert_close(learns(ours, "actor", batch, draws), expected, rtol=1e-4, atol=1e-6)


def test_online_the_weight_fades_with_updates_to_its_least_share() -> None:
    parent = trained("spot", **SMALL)
    online = {"density_hidden_dims": (32, 32), "bc_weight": 0.5, "fade_updates": 100, "bc_weight_end": 0.3}
    child = finetuned("spot_finetune", parent, steps=0, **online)
    seen = []
    for i in range(95):
        feed(child, mixed_data(500)[i : i + 1])
        seen.append(float(child.bc_weight()))
    after = [max(0, i + 1 - 20) for i in range(95)]
    assert seen == pytest.approx([0.5 * max(0.3, 1 - t / 100) for t in after])
    assert torch.equal(child.parameters["density"], parent.parameters["density"])
    assert child.adams["critics"].steps.tolist() == [75], "optimisers began anew"
