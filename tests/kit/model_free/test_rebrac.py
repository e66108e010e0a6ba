"""ReBRAC: an update is the textbook one, and without its two regressions it is TD3."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_free.rebrac import next_actions
from o2obench.transitions import stack_steps
from tests.helpers.model_free import ACT, agent


def made(**options: Any) -> Any:
    """Return ReBRAC on the toy data with small networks."""
    return agent(registry.algorithm("rebrac"), mixed_data(500), **options)


def mlp(flat: Any, x: Tensor, net: Any, member: int | None = None) -> Tensor:
    """Apply a network by hand: ReLU, then the norm where there is one."""
    layers, norms = net.layers(flat), net.norms(flat)
    for i, (weight, bias) in enumerate(layers):
        weight, bias = (w[0] if member is None else w[0, member] for w in (weight, bias))
        x = x @ weight + bias
        if i < len(layers) - 1:
            x = torch.relu(x)
            if norms:
                gain, shift = (n[0, member] for n in norms[i])
                x = torch.nn.functional.layer_norm(x, x.shape[-1:], gain, shift)
    return x


def test_the_next_action_is_the_next_rows_within_an_episode() -> None:
    data = mixed_data(500)
    following = next_actions(data)
    last = np.append(data.episode_start[1:], True)
    assert np.isnan(following[last]).all()
    assert (following[:-1][~last[:-1]] == data.action[1:][~last[:-1]]).all()


def test_the_target_is_held_to_the_datas_next_action() -> None:
    """y = r + gamma (1 - d) (min Q'(s', a~) - critic_bc |a~ - a'|^2), and nothing where there is no a'."""
    ours = made(critic_bc=0.3)
    rows = torch.arange(200)[None]
    batch, noise = ours.mapped(ours.replay.take(rows)), torch.randn(1, 200, ACT)
    smooth = torch.tanh(mlp(None, batch.next_obs[0], ours.nets["target actor"]))
    smooth = (smooth + (0.2 * noise[0]).clamp(-0.5, 0.5)).clamp(-1, 1)
    both = torch.cat([batch.next_obs[0], smooth], -1)
    least = torch.minimum(*(mlp(None, both, ours.nets["targets"], k)[:, 0] for k in (0, 1)))
    following = torch.from_numpy(next_actions(mixed_data(500))[:200])
    gap = torch.where(following.isnan(), 0.0, (smooth - following) ** 2).sum(-1)
    y = batch.reward[0] + 0.99 * (1 - batch.terminated[0]) * (least - 0.3 * gap)
    torch.testing.assert_close(
        ours.constants(batch, {"next actions": noise})["y"][0], y, rtol=1e-4, atol=1e-5
    )
    assert torch.isfinite(ours.constants(batch, {"next actions": noise})["y"]).all()
    free = made(critic_bc=0.0)
    td3 = batch.reward[0] + 0.99 * (1 - batch.terminated[0]) * least
    torch.testing.assert_close(
        free.constants(batch, {"next actions": noise})["y"][0], td3, rtol=1e-4, atol=1e-5
    )


def test_the_actor_climbs_the_least_critic_and_is_held_to_the_actions() -> None:
    """Identity 14: without the regression the gradient is that of -min Q over its mean absolute value."""
    for weight in (0.0, 0.7):
        ours = made(bc_weight=weight)
        batch = ours.mapped(ours.replay.take(torch.arange(64)[None]))
        flat = ours.nets["actor"].flat.clone().requires_grad_()
        [gradient] = torch.autograd.grad(ours.actor_loss(flat, batch, {}, {})[0].sum(), [flat])
        pi = torch.tanh(mlp(flat, batch.obs[0], ours.nets["actor"]))
        both = torch.cat([batch.obs[0], pi], -1)
        least = torch.minimum(*(mlp(None, both, ours.nets["critics"], k)[:, 0] for k in (0, 1)))
        loss = -least.mean() / least.abs().mean().detach()
        loss = loss + weight * ((pi - batch.action[0]) ** 2).sum(-1).mean()
        [textbook] = torch.autograd.grad(loss, [flat])
        torch.testing.assert_close(gradient, textbook, rtol=1e-4, atol=1e-6)


def test_online_the_regression_fades_to_half_and_a_resume_knows_how_far() -> None:
    parent = made()
    ours: Any = registry.algorithm("rebrac_finetune")
    child = agent(ours, mixed_data(500), bc_weight=0.4, learning_starts=1000)
    child.warm_start([parent.pretrained_state()])
    child.begin("fine-tune")
    data = mixed_data(500)
    seen = []
    for i in range(80):
        child.observe(stack_steps([data[i]]))
        seen.append(float(child.bc_weight()))
    assert np.allclose(seen, [0.4 * max(0.5, 1 - (i + 1) / 100) for i in range(80)])
    again = agent(ours, mixed_data(500), bc_weight=0.4, learning_starts=1000)
    again.load_state_dict(child.state_dict())
    assert float(again.bc_weight()) == seen[-1]
    obs = torch.zeros(1, 3, data.obs.shape[1])
    assert torch.equal(child.explore(obs), child.explore(obs)), "no noise"
