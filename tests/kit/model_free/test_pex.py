"""PEX: which policy acts, what the new one learns, and that it is IQL where the choice is taken away."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from tests.helpers.model_free import ACT, OBS, agent, feed, finetuned, trained


def made(**options: Any) -> Any:
    """Return PEX after a short IQL."""
    child = agent(registry.algorithm("pex"), mixed_data(500), **{"learning_starts": 20, **options})
    child.warm_start([trained("iql").pretrained_state()])
    return child


def test_the_choice_is_blind_at_0_and_the_better_value_at_a_large_inverse_temperature() -> None:
    obs = torch.randn(1, 4000, OBS)
    proposed = torch.rand(1, 4000, ACT) * 2 - 1
    which = torch.rand(1, 4000)
    for inverse_temperature in (0.0, 1e6):
        ours = made(inverse_temperature=inverse_temperature)
        old = torch.tanh(ours.nets["old actor"](obs))
        action = ours.chosen(obs, proposed, which)
        takes_new = (action == proposed).all(-1)
        assert ((action == old).all(-1) | takes_new).all()
        if inverse_temperature:
            better = ours.q("critics", obs, proposed).amin(1) > ours.q("critics", obs, old).amin(1)
            assert (takes_new == better).float().mean() > 0.999
        else:
            assert abs(takes_new.float().mean() - 0.5) < 4 * 0.5 / 4000**0.5
        assert torch.equal(ours.chosen(obs, old, which), old), "equal proposals are one"


def test_the_old_policy_stays_and_the_new_one_learns() -> None:
    parent = trained("iql")
    ours = finetuned("pex", parent, steps=60)
    assert torch.equal(ours.nets["old actor"].flat, parent.nets["actor"].flat)
    fresh = agent(registry.algorithm("pex"), mixed_data(500), learning_starts=20)
    assert not torch.equal(ours.nets["actor"].flat, fresh.nets["actor"].flat)
    assert not torch.equal(fresh.nets["actor"].flat, parent.nets["actor"].flat)
    assert ours.updates == 40


def gradient(ours: Any, batch: Any, draws: Any) -> torch.Tensor:
    flat = ours.nets["actor"].flat.clone().requires_grad_()
    loss = ours.actor_loss(flat, batch, draws, ours.constants(batch, draws))[0].sum()
    [found] = torch.autograd.grad(loss, [flat])
    return found


def test_the_new_policy_is_fitted_to_proposed_actions_or_to_the_datas() -> None:
    draws = {"policy actions": torch.randn(1, 64, ACT), "which policy": torch.rand(1, 64) * 2 - 1}
    for regress_to, same in (("proposed", True), ("data", False)):
        ours = made(regress_to=regress_to)
        batch = ours.mapped(ours.replay.take(torch.arange(64)[None]))
        other = batch._replace(action=batch.action.flip(1))
        equal = torch.allclose(gradient(ours, batch, draws), gradient(ours, other, draws), atol=1e-7)
        assert equal == same, regress_to


def test_with_the_datas_actions_and_a_copy_of_the_policy_it_learns_as_iql_does() -> None:
    """Identity 13: same networks, fresh moments, same batches: equal parameters."""
    parent = trained("iql")
    ours = agent(registry.algorithm("pex"), mixed_data(500), learning_starts=20, regress_to="data")
    theirs = agent(registry.algorithm("iql_finetune"), mixed_data(500), learning_starts=20, replay_data=0.5)
    for child in (ours, theirs):
        child.warm_start([parent.pretrained_state()])
        child.nets["actor"].load_state_dict(parent.pretrained_state()["nets"]["actor"])
        for name, adam in child.adams.items():
            adam.load_state_dict(agent(type(child), mixed_data(500)).adams[name].state_dict())
        feed(child, mixed_data(500)[:60])
    assert ours.updates == theirs.updates == 40
    for name in ("critics", "targets", "value", "actor"):
        torch.testing.assert_close(ours.nets[name].flat, theirs.nets[name].flat, rtol=1e-4, atol=1e-6)


def test_it_is_judged_by_the_better_mode_and_hands_out_what_decides() -> None:
    ours = made()
    obs = np.random.default_rng(0).normal(size=(1, 300, OBS)).astype(np.float32)
    action, standard = ours.act(obs, explore=False), ours.observed(obs)
    modes = [torch.tanh(ours.nets[name](standard)) for name in ("old actor", "actor")]
    values = torch.stack([ours.q("critics", standard, mode).amin(1) for mode in modes])
    best = torch.where(values[1:2, ..., None][0] > values[0:1, ..., None][0], modes[1], modes[0])
    np.testing.assert_allclose(action, best.detach().numpy(), atol=1e-6)
    other = agent(registry.algorithm("pex"), mixed_data(500))
    other.load_policy(ours.policy())
    np.testing.assert_array_equal(other.act(obs, explore=False), action)
    assert ours.network() is None
