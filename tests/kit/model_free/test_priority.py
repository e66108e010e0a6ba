"""Draws by weights: exact, in proportion, and of likely episodes where the option says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_free.priority import BLOCK, OnPolicyWeights, Priorities
from tests.helpers.model_free import agent, feed, finetuned, trained

DRAWS = 20_000


def uniform(count: int, seeds: int = 1) -> torch.Tensor:
    return torch.rand((seeds, count), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def p_value(places: torch.Tensor, weights: torch.Tensor) -> float:
    """Return how likely draws (n,) of these weights are as uneven as they are."""
    counts = np.bincount(places.numpy(), minlength=len(weights))
    positive = (weights > 0).numpy()
    assert not counts[~positive].any(), "a place of weight 0 was drawn"
    expected = (weights / weights.sum() * len(places)).numpy()
    return float(stats.chisquare(counts[positive], expected[positive]).pvalue)


def test_draws_are_in_proportion_to_weights_across_blocks() -> None:
    weights = torch.zeros(3 * BLOCK + 70, dtype=torch.float64)
    chosen = torch.tensor([0, 5, BLOCK - 1, BLOCK, 2 * BLOCK + 3, 3 * BLOCK + 69])
    weights[chosen] = torch.tensor([1.0, 2.0, 0.5, 4.0, 1e-3, 3.0], dtype=torch.float64)
    priorities = Priorities(1, len(weights), "cpu")
    priorities.set(chosen[None], weights[chosen][None])
    places = priorities.draw(uniform(DRAWS))[0]
    assert p_value(places, weights) > 1e-4


def test_equal_weights_draw_as_the_union_does() -> None:
    """Identity 16."""
    priorities = Priorities(2, 2 * BLOCK, "cpu")
    priorities.set_all(torch.ones((2, BLOCK + 200)))
    drawn = uniform(DRAWS, seeds=2)
    places = priorities.draw(drawn)
    assert (places == (drawn * (BLOCK + 200)).long()).double().mean() > 0.9999, (
        "but for rounding at the edges"
    )
    assert p_value(places[0], torch.ones(BLOCK + 200, dtype=torch.float64)) > 1e-4


def test_the_ends_of_the_range_fall_on_places_that_have_weight() -> None:
    priorities = Priorities(1, 2 * BLOCK, "cpu")
    priorities.set(torch.tensor([[3, BLOCK + 5]]), torch.tensor([[1.0, 3.0]]))
    ends = torch.tensor([[0.0, 1.0 - 2.0**-53, 0.25 - 1e-12, 0.25 + 1e-12]], dtype=torch.float64)
    assert priorities.draw(ends).tolist() == [[3, BLOCK + 5, 3, BLOCK + 5]]


def test_sums_stay_exact_however_often_weights_change() -> None:
    priorities = Priorities(2, 5 * BLOCK, "cpu")
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        places = torch.randint(0, 5 * BLOCK, (2, 256), generator=generator)
        priorities.set(places, 10.0 ** (6.0 * torch.rand((2, 256), generator=generator) - 3.0))
    assert torch.equal(priorities.sums, priorities.weights.sum(-1))
    again = Priorities(2, 5 * BLOCK, "cpu")
    again.load_state_dict(priorities.state_dict())
    assert torch.equal(again.draw(uniform(1000, 2)), priorities.draw(uniform(1000, 2)))


def test_an_episodes_weight_is_its_mean_density_above_the_best_over_the_temperature() -> None:
    data = mixed_data(120)
    weights = OnPolicyWeights(data, 1, 30)
    density = torch.linspace(-20.0, 10.0, 120)[None]
    found = weights.weights(density, 2.0)[0]
    cut = np.clip(density[0].double().numpy(), -12.0, 7.0) - 7.0
    begins = np.flatnonzero(data.episode_start)
    for begin, end in zip(begins, np.append(begins[1:], 120), strict=True):
        np.testing.assert_allclose(found[begin:end], np.exp(cut[begin:end].mean() / 2.0), rtol=1e-12)
    assert torch.allclose(weights.weights(density, 1e9), torch.ones(120, dtype=torch.float64), atol=1e-7)


@pytest.mark.parametrize("name", ["iql_finetune", "famo2o_finetune", "cql_finetune"])
def test_methods_draw_episodes_that_their_policy_finds_likely(name: str) -> None:
    parent: str = registry.algorithm(name).pretrain or ""
    options: dict[str, Any] = {"replay_data": "union", "replay_on_policy": 0.2}
    child = finetuned(name, trained(parent), steps=60, **options)
    child.clock = 5000
    drawn = child.batches(300).flatten()
    offline = drawn[drawn < child.replay.offline]
    likely = child._standard_density(torch.arange(500)[None])[0]
    assert likely[offline].mean() > likely.mean(), "drawn more often than not"
    assert child.on_policy.weighed == 5000
    fresh = child.priorities.weights.flatten(1)[0, : 500 + 60]
    assert (fresh[:500] <= 1.0).all()
    feed(child, mixed_data(500)[60:61])
    assert float(child.priorities.weights.flatten(1)[0, 560]) == 1.0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cql_finetune", {}, "draws from all transitions; set replay_data: union, too"),
        ("cal_ql_finetune", {"replay_data": "union"}, "set replay_window: null, replay_finished: false, "),
        ("sung", {}, "replay_on_policy"),
        ("opt", {}, "replay_on_policy"),
        ("balanced_replay", {}, "replay_on_policy"),
    ],
)
def test_what_draws_otherwise_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        agent(registry.algorithm(name), mixed_data(500), replay_on_policy=5.0, **options)
