"""ENOTO: the mean over pairs, weights of errors, optimism; SAC with two critics where both are off."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_free.template import OffPolicy
from tests.helpers.model_free import ACT, OBS, agent, finetuned, learns, noise, rows, trained

FEW: dict[str, Any] = {"num_critics": 4, "cql_actions": 2}
DRAWS = noise("next actions", "policy actions")


def made(critics: int = 4, **options: Any) -> Any:
    parent = trained("cql_n", **{**FEW, "num_critics": critics})
    return finetuned("enoto", parent, steps=0, num_critics=critics, **options)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_the_value_is_the_mean_over_all_pairs_of_the_lesser_one(n: int) -> None:
    """Identity 18."""
    ours, q = agent(registry.algorithm("enoto"), mixed_data(100)), torch.randn(3, n, 50)
    pairs = [torch.minimum(q[:, i], q[:, j]) for i, j in itertools.combinations(range(n), 2)]
    torch.testing.assert_close(ours.actor_value(q), torch.stack(pairs).mean(0))
    if n == 2:
        torch.testing.assert_close(ours.actor_value(q), q.amin(1))


def test_two_critics_and_equal_weights_are_sac() -> None:
    ours = made(critics=2, weighting=0.0)
    batch = rows(ours)
    expected = OffPolicy.constants(ours, batch, DRAWS)
    constants = ours.constants(batch, DRAWS)
    torch.testing.assert_close(constants["y"], expected["y"])
    assert torch.all(constants["weight"] == 1.0)
    flat = ours.nets["critics"].flat.clone().requires_grad_()
    [sac] = torch.autograd.grad(OffPolicy.critics_loss(ours, flat, batch, DRAWS, expected)[0].sum(), [flat])
    torch.testing.assert_close(learns(ours, "critics", batch, DRAWS), sac)


def test_errors_weigh_less_where_the_targets_differ() -> None:
    ours = made(weighting=3.0)
    batch = rows(ours)
    action, _ = ours.sample(batch.next_obs, DRAWS["next actions"])
    deviation = ours.q("targets", batch.next_obs, action).std(1)
    weight = ours.constants(batch, DRAWS)["weight"]
    torch.testing.assert_close(weight, torch.sigmoid(-3.0 * deviation) + 0.5)
    assert weight.max() <= 1.0


@pytest.mark.parametrize(("optimism", "candidates"), [(0.0, 200), (5.0, 200), (1.0, 1)])
def test_the_candidate_of_the_greatest_optimistic_value_is_taken(optimism: float, candidates: int) -> None:
    ours, obs = made(optimism=optimism, candidates=candidates), torch.randn(1, 6, OBS)
    state = ours.streams.state_dict()
    action = ours.explore(obs)
    ours.streams.load_state_dict(state)
    noise = ours.streams.normal("candidate actions", 6 * candidates, ACT)
    every = ours.sample(obs.repeat_interleave(candidates, 1), noise)[0].view(6, candidates, ACT)
    for i in range(6):
        q = ours.q("critics", obs[:, i : i + 1].expand(1, candidates, -1), every[i][None])[0]
        best = every[i][int((q.mean(0) + optimism * q.std(0)).argmax())]
        torch.testing.assert_close(action[0, i], best)


def test_all_learners_of_the_pretraining_go_on() -> None:
    parent = trained("cql_n", **FEW)
    child = agent(registry.algorithm("enoto"), mixed_data(500), num_critics=4)
    child.warm_start([parent.pretrained_state()])
    for name in ("actor", "critics", "targets"):
        assert torch.equal(child.nets[name].flat, parent.nets[name].flat)
    assert float(child.alpha()) == float(parent.alpha()) != 1.0
    obs = np.random.default_rng(0).normal(size=(1, 9, OBS)).astype(np.float32)
    assert np.array_equal(child.act(obs, explore=False), parent.act(obs, explore=False))
