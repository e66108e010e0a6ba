"""Balanced Replay: independent CQL trainings, one policy of many, and batches by a density ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_free.sac import OnlineSac, OnlineSacOptions
from o2obench.kit.policies import MomentMatched, TanhGaussian
from o2obench.util.rng import derive
from tests.helpers.model_free import ACT, OBS, agent, feed, finetuned, rows, trained

FEW: dict[str, Any] = {"members": 2, "cql_actions": 2}


def parent(**options: Any) -> Any:
    return trained("cql_ensemble", **{**FEW, **options})


def test_the_members_are_cql_trainings_with_seeds_of_their_own() -> None:
    made = parent()
    for i in range(2):
        alone = trained("cql", seeds=(derive(0, "member", i),), cql_actions=2)
        for name in ("actor", "critics", "targets"):
            assert torch.equal(made.cql.nets[name].flat[i : i + 1], alone.nets[name].flat), name


def test_the_policy_has_the_mixtures_moments() -> None:
    made, obs = parent(), torch.randn(1, 400, OBS)
    kind = MomentMatched(ACT)
    mean, log_std = kind.distribution(made.actor, obs)
    means, log_stds = TanhGaussian(ACT).distribution(made.actor, obs.unsqueeze(1))
    noise = torch.randn(20_000, *means[0, :, :4].shape)
    drawn = (means[0, :, :4] + log_stds[0, :, :4].exp() * noise).flatten(0, 1)
    torch.testing.assert_close(mean[0, :4], drawn.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(log_std[0, :4].exp(), drawn.std(0), atol=0.03, rtol=0)
    same = made.actor
    same.flat[:, 1] = same.flat[:, 0]
    mean, log_std = kind.distribution(same, obs)
    torch.testing.assert_close(mean, TanhGaussian(ACT).distribution(same, obs.unsqueeze(1))[0][:, 0])
    torch.testing.assert_close(
        log_std, TanhGaussian(ACT).distribution(same, obs.unsqueeze(1))[1][:, 0], atol=1e-4, rtol=1e-4
    )


def test_one_member_of_equal_priorities_is_sac_on_all_transitions() -> None:
    """Identity 17."""

    class Plain(OnlineSac[OnlineSacOptions]):
        Config = OnlineSacOptions

    before = parent(members=1).pretrained_state()
    ours = agent(registry.algorithm("balanced_replay"), mixed_data(500), members=1, learning_starts=20)
    ours.warm_start([before])
    ours.priorities.set_all(torch.ones(1, 600))
    ours.priorities.set = lambda places, weights: None
    ours.priorities.weights.flatten(1)[:, 500:] = 0.0
    theirs = agent(Plain, mixed_data(500), replay_data="union", learning_starts=20)
    theirs.take_networks(
        [{**before, "nets": {**before["nets"], "actor": {"flat": before["nets"]["actor"]["flat"][:, 0]}}}],
        actor="actor",
        critics="critics",
        targets="critics",
    )
    for i in range(60):
        ours.priorities.set_all(torch.ones(1, 501 + i))
        for made in (ours, theirs):
            feed(made, mixed_data(500)[i : i + 1])
    assert ours.updates == theirs.updates == 40
    for name in ("critics", "targets"):
        torch.testing.assert_close(ours.nets[name].flat, theirs.nets[name].flat, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.nets["actor"].flat[:, 0], theirs.nets["actor"].flat, rtol=1e-3, atol=1e-4)


def test_each_critic_has_its_own_members_target() -> None:
    made = finetuned("balanced_replay", parent(), steps=0, members=2)
    batch, noise = rows(made), torch.randn(1, 64, ACT)
    y = made.constants(batch, {"next actions": noise})["y"]
    action, log_prob = made.sample(batch.next_obs, noise)
    q = made.q("targets", batch.next_obs, action)
    for critic, pair in enumerate((q[:, 0:2], q[:, 0:2], q[:, 2:4], q[:, 2:4])):
        expected = batch.reward + 0.99 * (1 - batch.terminated) * (pair.amin(1) - log_prob)
        torch.testing.assert_close(y[:, critic], expected)


def test_the_ratio_is_learnt_and_at_one_its_loss_is_zero() -> None:
    made = finetuned("balanced_replay", parent(), steps=0, members=2)
    batch = rows(made)
    made.ratio = lambda batch, flat=None: torch.ones_like(batch.reward)
    assert float(made.ratio_loss(None, batch, {}, {})[0]) == pytest.approx(0.0, abs=1e-6)
    w = torch.tensor([0.25, 1.0, 4.0])
    loss = 0.8 * -(2 / (w + 1)).log() + 0.2 * -(2 * w / (w + 1)).log()
    assert int(loss.argmin()) == 0, "density 0.8 offline and 0.2 online: the ratio is a quarter"


def test_the_first_online_transitions_are_drawn_with_their_share() -> None:
    """1,000 of them in the suites; 20 here: each has the priority |D| f / ((1 - f) 20)."""
    made = finetuned("balanced_replay", parent(), steps=0, members=2, learning_starts=1000, online_share=0.75)
    made.greatest.fill_(500 * 0.75 / (0.25 * 20))
    feed(made, mixed_data(500)[:20])
    drawn = made.batches(200)
    assert float((drawn >= made.replay.offline).float().mean()) == pytest.approx(0.75, abs=0.02)
    default = finetuned("balanced_replay", parent(), steps=0, members=2, learning_starts=40)
    assert float(default.new_weight()) == 500 / 40


def test_priorities_follow_the_ratio_and_only_grow_for_new_transitions() -> None:
    made = finetuned("balanced_replay", parent(), steps=80, members=2)
    weights = made.priorities.weights.flatten(1)[0]
    offline = weights[:500]
    assert (offline != 1.0).sum() > 300, "those that were drawn have their own"
    assert offline.min() >= 1e-3
    assert offline.max() <= 1e3
    assert not weights[580:].any()
    assert float(made.greatest) >= 500 / 20
    again = agent(registry.algorithm("balanced_replay"), mixed_data(500), members=2, learning_starts=20)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.priorities.weights, made.priorities.weights)
    assert torch.equal(again.greatest, made.greatest)
    assert np.array_equal(again.batches(3).numpy(), made.batches(3).numpy())
