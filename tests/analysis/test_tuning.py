"""The price of tuning: against all subsets, and what it needs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from o2obench.analysis.tuning import price_of_tuning, sensitivity


def test_it_is_the_mean_over_all_subsets_and_seeds() -> None:
    rng = np.random.default_rng(0)
    seen, scores = rng.normal(50, 10, (5, 6)), rng.normal(50, 10, (5, 6))
    found = price_of_tuning(seen, scores, 1000)
    assert [price.tried for price in found] == [1, 2, 3, 4, 5]
    assert [price.env_steps for price in found] == [1000, 2000, 3000, 4000, 5000]
    for price in found:
        by_seed = []
        for seed in range(6):
            others = np.delete(scores, seed, axis=1).mean(axis=1)
            picks = [max(some, key=lambda i: seen[i, seed]) for some in combinations(range(5), price.tried)]
            by_seed.append(np.mean([others[pick] for pick in picks]))
        assert price.score == pytest.approx(np.mean(by_seed))
        assert (price.low, price.high) == pytest.approx((min(by_seed), max(by_seed)))
    assert found[0].score == pytest.approx(scores.mean()), "one setting is a random one"


def test_choosing_by_what_counts_pays_and_choosing_by_noise_does_not() -> None:
    quality = np.array([10.0, 20, 30, 40])[:, None] * np.ones((4, 5))
    paid = price_of_tuning(quality, quality, 1)
    assert [price.score for price in paid] == pytest.approx([25, 100 / 3, 37.5, 40])
    noise = np.random.default_rng(1).normal(size=(4, 5))
    for_nothing = price_of_tuning(noise, np.full((4, 5), 25.0), 1)
    assert [price.score for price in for_nothing] == pytest.approx([25] * 4)


@pytest.mark.parametrize("shape", [(3, 5), (4, 4), (1, 9)])
def test_too_few_settings_or_seeds_have_no_price(shape: tuple[int, int]) -> None:
    assert price_of_tuning(np.ones(shape), np.ones(shape), 1) == []


def test_sensitivity_is_the_mean_of_each_value() -> None:
    options = [{"lr": 1, "n": 2}, {"lr": 1, "n": 4}, {"lr": 3, "n": 2}, {"lr": 3, "n": 4}]
    scores = np.array([[10.0, 20], [20, 30], [50, 60], [60, 70]])
    found = sensitivity([{**each, "same": 0} for each in options], scores)
    assert found == {"lr": {"1": 20.0, "3": 60.0}, "n": {"2": 35.0, "4": 45.0}}
