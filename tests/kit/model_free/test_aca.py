"""ACA: at the start only the offline policy tells actions apart; without its prior it is SAC on R."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_free.template import OffPolicy
from tests.helpers.model_free import ACT, OBS, feed, finetuned, learns, noise, rows, trained, updated

DRAWS = noise("next actions", "policy actions")


def made(parent: Any = None, **options: Any) -> Any:
    return finetuned("aca", parent or trained("sac_ml"), steps=0, **options)


def test_r_begins_as_the_state_values_whatever_the_action() -> None:
    parent = trained("sac_ml")
    ours = made(parent)
    obs, action = torch.randn(1, 200, OBS), torch.rand(1, 200, ACT) * 2 - 1
    for name in ("critics", "targets"):
        torch.testing.assert_close(ours.q(name, obs, action), parent.z(obs), rtol=1e-4, atol=1e-5)
        assert torch.equal(ours.q(name, obs, action), ours.q(name, obs, action.flip(1)))
    assert torch.equal(ours.nets["offline actor"].flat, parent.nets["actor"].flat)
    assert float(ours.alpha()) == 1.0


def test_the_prior_is_the_offline_density_above_a_soft_floor() -> None:
    ours, obs = made(prior_weight=0.7, prior_width=7.0), torch.randn(1, 500, OBS)
    of = ours.policy_kind.distribution(ours.nets["offline actor"], obs)
    likely = torch.tanh(of[0])
    density = ours.policy_kind.log_prob(of, likely)
    ends = [ours.policy_kind.log_prob(of, torch.tanh(of[0] + side * of[1].exp())) for side in (-7.0, 7.0)]
    floor = torch.minimum(*ends)
    above = (density - floor).clamp(min=0)
    prior = ours.prior(obs, likely)
    torch.testing.assert_close(
        prior, 0.7 * (torch.nn.functional.softplus(density - floor) + floor), rtol=1e-2, atol=1e-2
    )
    far = above > 5.0
    assert far.any()
    torch.testing.assert_close(prior[far], 0.7 * density[far], rtol=1e-2, atol=1e-2)
    anywhere = ours.prior(obs, torch.rand(1, 500, ACT) * 2 - 1)
    assert (anywhere >= 0.7 * floor - 1e-2).all()


def test_without_the_prior_it_is_sac_on_r() -> None:
    """Identity 20."""
    ours = made(prior_weight=0.0)
    batch = rows(ours)
    expected = OffPolicy.constants(ours, batch, DRAWS)
    torch.testing.assert_close(ours.constants(batch, DRAWS)["y"], expected["y"])
    flat = ours.nets["actor"].flat.clone().requires_grad_()
    [sac] = torch.autograd.grad(OffPolicy.actor_loss(ours, flat, batch, DRAWS, {})[0].sum(), [flat])
    torch.testing.assert_close(learns(ours, "actor", batch, DRAWS), sac)


def test_r_and_the_prior_together_are_fitted_to_sacs_target() -> None:
    ours = made(prior_weight=0.5)
    batch, gamma = rows(ours), 0.99
    action, log_prob = ours.sample(batch.next_obs, DRAWS["next actions"])
    after = ours.q("targets", batch.next_obs, action).amin(1) + ours.prior(batch.next_obs, action) - log_prob
    y = batch.reward + gamma * (1 - batch.terminated) * after
    flat = ours.nets["critics"].flat.clone().requires_grad_()
    q = ours.q("critics", batch.obs, batch.action, flat) + ours.prior(batch.obs, batch.action)[:, None]
    [expected] = torch.autograd.grad((q - y[:, None]).square().mean(-1).sum(), [flat])
    torch.testing.assert_close(learns(ours, "critics", batch, DRAWS), expected, rtol=1e-3, atol=1e-4)


def test_the_prior_falls_evenly_to_its_end() -> None:
    ours = made(prior_weight=0.8, prior_end=0.3, prior_updates=100, utd_ratio=2)
    seen = []
    for i in range(80):
        feed(ours, mixed_data(500)[i : i + 1])
        seen.append(float(ours.now["prior"]))
    updates = [2 * max(0, i + 1 - 20) for i in range(80)]
    assert seen == pytest.approx([max(0.3, 0.8 * (1 - n / 100)) for n in updates])
    assert ours.updates == 120


def test_the_actors_gradient_is_shortened() -> None:
    """Adam's first moment after one step is a tenth of what the optimiser was given."""
    ours = made(prior_weight=20.0)
    assert float(learns(ours, "actor", rows(ours), DRAWS).norm()) > 1.0
    _, update = updated(ours, DRAWS)
    update()
    norms = {name: float(10.0 * ours.adams[name].mean[0].norm()) for name in ("actor", "critics")}
    assert norms["actor"] == pytest.approx(0.25, rel=1e-3)
    assert norms["critics"] > 0.25


def test_the_best_offline_episodes_are_kept() -> None:
    data = mixed_data(500)
    begins = np.flatnonzero(data.episode_start)
    returns = np.add.reduceat(data.reward.astype(np.float64), begins)
    ours = made(replay_top_episodes=2)
    feed(ours, data[:30])
    lengths = np.diff(np.append(begins, len(data)))
    best = np.argsort(-returns)[:2]
    allowed = {int(row) for i in best for row in range(begins[i], begins[i] + lengths[i])}
    drawn = ours.batches(200).flatten()
    offline = {int(row) for row in drawn[drawn < ours.replay.offline]}
    assert offline == allowed
    share = float((drawn < ours.replay.offline).float().mean())
    assert share == pytest.approx(len(allowed) / (len(allowed) + 30), abs=0.02)
