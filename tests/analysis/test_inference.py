"""What has a formula: t intervals against scipy, exact and score intervals, Holm, the marks of a table."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from rliable import metrics

from o2obench.analysis import inference as I
from o2obench.analysis.inference import Estimate, Sample, marks, weighted_mean
from o2obench.analysis.scores import Scores
from tests.helpers.scores import made, numbers, of, some_scores, width

few_numbers = settings(max_examples=25, deadline=None)


# Means and differences by t


@pytest.mark.parametrize("n", [3, 5, 10])
def test_one_mean_has_the_interval_of_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(60, 15, n)
    theirs = scipy.stats.ttest_1samp(values, 55)
    found = I.mean_over_seeds(list(values))
    assert numbers(found) == pytest.approx([values.mean(), *theirs.confidence_interval()])
    mean = weighted_mean([(1.0, values - 55)])
    assert mean.p_differs() == pytest.approx(theirs.pvalue)
    assert mean.p_below() == pytest.approx(scipy.stats.ttest_1samp(values, 55, alternative="less").pvalue)


def test_a_difference_of_unpaired_samples_is_welchs() -> None:
    x, y = np.random.default_rng(0).normal(0, 1, 6), np.random.default_rng(1).normal(1, 5, 4)
    theirs = scipy.stats.ttest_ind(x, y, equal_var=False)
    mean = weighted_mean([(1.0, x), (-1.0, y)])
    assert mean.freedom == pytest.approx(theirs.df)
    assert mean.p_differs() == pytest.approx(theirs.pvalue)
    assert mean.interval() == pytest.approx(tuple(theirs.confidence_interval()))


def test_a_mean_over_data_sets_is_stratified() -> None:
    scores = made(5, 3, spread=1.0)
    apart = Scores(scores.datasets, scores.seeds, scores.values + 500 * np.arange(3))
    assert width(I.estimated(I.mean_of(apart), 5, I.BY_T)) == pytest.approx(
        width(I.estimated(I.mean_of(scores), 5, I.BY_T))
    ), "how far data sets lie apart is no uncertainty"
    variances = scores.values.var(axis=0, ddof=1) / 5
    assert I.mean_of(scores).error == pytest.approx(math.sqrt(variances.sum()) / 3)
    assert I.mean_of(scores).freedom == pytest.approx(variances.sum() ** 2 / (variances**2 / 4).sum())


def test_paired_differences_seed_by_seed() -> None:
    x, y = of([[1.0, 5.0, 2.0]]), of([[0.0, 7.0, 2.0]])
    theirs = scipy.stats.ttest_rel(x.values[:, 0], y.values[:, 0]).confidence_interval()
    assert numbers(I.paired_difference(x, y)) == pytest.approx([-1 / 3, *theirs])
    assert I.paired_difference(of([[1.0, 5.0]]), of([[0.0, 7.0]])) == Estimate(-0.5, None, None, 2, I.NONE)


def test_what_runs_share_does_not_widen_a_paired_interval() -> None:
    x, shared = made(10, spread=1.0), made(10, key=9, spread=40.0).values
    y = made(10, key=4, spread=1.0)
    x_lifted, y_lifted = (Scores(x.datasets, x.seeds, one.values + shared) for one in (x, y))
    alone, together = I.paired_difference(x, y), I.paired_difference(x_lifted, y_lifted)
    assert numbers(together) == pytest.approx(numbers(alone))
    assert width(together) < 0.1 * width(I.estimated(I.mean_of(x_lifted), 10, I.BY_T))


def test_without_spread_the_sign_decides() -> None:
    above, equal = (weighted_mean([(1.0, np.full(5, value))]) for value in (0.1, 0.0))
    assert (above.p_differs(), above.p_below(), above.interval()) == (0.0, 1.0, (0.1, 0.1))
    assert above.p_below(0.2) == 0.0
    assert (equal.p_differs(), equal.p_below()) == (1.0, 1.0)
    assert math.isnan(weighted_mean([(1.0, np.ones(1))]).error)


@few_numbers
@given(some_scores(5), st.floats(-40, 40, allow_subnormal=False), st.floats(0.1, 3, allow_subnormal=False))
def test_means_move_and_stretch_with_the_scores(scores: Scores, shift: float, factor: float) -> None:
    moved = Scores(scores.datasets, scores.seeds, factor * scores.values + shift)
    before, after = (numbers(I.estimated(I.mean_of(each), 5, I.BY_T)) for each in (scores, moved))
    assert after == pytest.approx([factor * value + shift for value in before], abs=1e-6)
    up = Scores(scores.datasets, scores.seeds, scores.values + 1)
    assert numbers(I.paired_difference(up, scores)) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(("seeds", "datasets"), [(3, 1), (3, 4), (5, 1), (10, 3)])
def test_a_t_interval_holds_the_truth_as_often_as_it_says(seeds: int, datasets: int) -> None:
    rng, hits = np.random.default_rng([seeds, datasets]), 0
    names = made(seeds, datasets)
    for _ in range(2000):
        x = Scores(names.datasets, names.seeds, rng.normal(0, 10, names.values.shape))
        low, high = I.mean_of(x).interval()
        hits += low <= 0 <= high
    assert 0.94 <= hits / 2000 <= 0.99


def test_three_data_sets_that_share_one_run_are_one_observation() -> None:
    names, rng = made(5, 3), np.random.default_rng(8)
    hits = {True: 0, False: 0}
    for _ in range(2000):
        own = rng.normal(0, 10, (5, 3))
        shared = np.repeat(rng.normal(0, 10, (5, 1)), 3, axis=1)
        x = Scores(names.datasets, names.seeds, own)
        for known in hits:
            y = Scores(names.datasets, names.seeds, shared, (0, 0, 0) if known else ())
            low, high = I.difference_of(x, y).interval()
            hits[known] += low <= 0 <= high
    assert 0.93 <= hits[True] / 2000 <= 0.97
    assert hits[False] / 2000 < 0.90, "where nobody knows that they share it, too often wrong"


# Probabilities and counts


@few_numbers
@given(some_scores(), st.data())
def test_probability_of_improvement_by_brute_force(x: Scores, data: st.DataObject) -> None:
    shape = st.lists(st.integers(-50, 150), min_size=x.values.size, max_size=x.values.size)
    y = Scores(x.datasets, x.seeds, np.array(data.draw(shape), float).reshape(x.values.shape))
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for j in range(len(x.datasets))
        for a, b in product(x.values[:, j], y.values[:, j])
    ]
    found = I.probability_of_improvement(x, y)
    assert found.value == pytest.approx(sum(wins) / len(wins), abs=1e-12)
    assert found.value == pytest.approx(metrics.probability_of_improvement(x.values, y.values), abs=1e-12)
    if found.n >= I.FEWEST:
        assert width(found) > 0.02, "never of zero width, also where all runs win or all are equal"
        value, low, high = numbers(found)
        assert 0 <= low <= value <= high <= 1


def test_newcombes_interval_by_its_equation() -> None:
    """Each bound lies z of its own standard errors from the value (Hanley and McNeil's, made symmetric)."""
    x, y = made(5, 1, key=3), made(5, 1, key=4)
    value, low, high = numbers(I.probability_of_improvement(x, y))
    for bound in (low, high):
        q1, q2 = bound / (2 - bound), 2 * bound**2 / (1 + bound)
        variance = bound * (1 - bound) + 4 * (q1 - bound**2) + 4 * (q2 - bound**2)
        assert abs(value - bound) == pytest.approx(1.959964 * math.sqrt(variance / 25), rel=1e-5)
    certain = I.probability_of_improvement(of([[9.0, 8, 7, 6, 5]]), of([[1.0, 2, 3, 4, 0]]))
    assert (certain.value, certain.high) == (1.0, 1.0)
    low = numbers(certain)[1]
    pairs = 1 + 4 * ((1 - low) / (2 - low) + low / (1 + low))
    assert 1 - low == pytest.approx(1.959964**2 * low * pairs / 25, rel=1e-5), "the root that is not 1 itself"


def test_many_data_sets_narrow_a_probability_and_shared_runs_do_not() -> None:
    x, y = made(5, 4, key=3), made(5, 4, key=4)
    together = Scores(y.datasets, y.seeds, y.values, (0, 0, 0, 0))
    one = Scores(x.datasets[:1], x.seeds, x.values[:, :1])
    alone = I.probability_of_improvement(one, Scores(one.datasets, one.seeds, y.values[:, :1]))
    assert width(I.probability_of_improvement(x, y)) < 0.7 * width(alone)
    assert width(I.probability_of_improvement(x, together)) > 0.9 * width(alone)


@pytest.mark.parametrize(("count", "n"), [(0, 5), (1, 5), (5, 5), (3, 20)])
def test_a_count_has_the_exact_interval_of_scipy(count: int, n: int) -> None:
    theirs = scipy.stats.binomtest(count, n).proportion_ci(0.95, method="exact")
    assert I.exact_interval(count, n) == pytest.approx((theirs.low, theirs.high))


def test_one_collapse_of_five_may_be_rare_or_usual() -> None:
    assert I.exact_interval(1, 5) == pytest.approx((0.005, 0.716), abs=0.001)
    assert I.exact_interval(0, 5)[1] == pytest.approx(0.522, abs=0.001)


# Many comparisons, and the marks


def test_holm_by_hand() -> None:
    found = I.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5})
    assert found == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.5})
    assert I.holm({}) == {}
    assert I.holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def sample(*scores: float, parent: str = "") -> Sample:
    return Sample(dict(enumerate(scores)), {seed: f"{parent}-{seed}" if parent else "" for seed in range(9)})


def test_noisy_and_lower_is_undecided_steady_and_slightly_lower_is_lower() -> None:
    found = marks(
        {
            "best": sample(50, 51, 49, 50.5, 49.5),
            "noisy": sample(10, 70, 20, 60, 40),
            "steady": sample(47, 48, 46, 47.5, 46.5),
        }
    )
    assert found == {"best": "best", "noisy": "undecided", "steady": "lower"}


def test_equal_needs_an_interval_within_the_margin() -> None:
    best, near = sample(50, 51, 49, 50.5, 49.5), sample(50, 50.9, 48.9, 50.4, 49.6)
    assert marks({"best": best, "near": near}) == {"best": "best", "near": "equal"}
    assert marks({"best": best, "near": near}, margin=0.1)["near"] == "undecided"


def test_what_two_methods_share_is_paired_away() -> None:
    starts = np.array([10.0, 30, 50, 70, 90])
    x, y = starts + 3 + np.arange(5) / 10, starts
    shared = {"x": sample(*x, parent="p"), "y": sample(*y, parent="p")}
    assert marks(shared)["y"] == "lower"
    assert marks({"x": shared["x"], "y": sample(*y, parent="q")})["y"] == "undecided"
    assert marks({"x": sample(*x), "y": sample(*y)})["y"] == "undecided", "from nothing: nothing is shared"


def test_more_methods_make_each_mark_stricter() -> None:
    best, lower = sample(50, 52, 48, 51, 49), sample(46, 49, 45, 48, 46)
    assert marks({"best": best, "lower": lower})["lower"] == "lower"
    many = {f"like {i}": sample(*(50 + np.random.default_rng(i).normal(0, 9, 5))) for i in range(30)}
    many = {name: sample(*np.minimum(list(one.scores.values()), 49)) for name, one in many.items()}
    assert marks({"best": best, "lower": lower, **many})["lower"] == "undecided"


def test_too_few_seeds_have_no_marks() -> None:
    assert marks({"a": sample(1), "b": sample(2)}) == {}
    assert marks({"a": sample(1, 2, 3)}) == {}
    found = marks({"a": sample(5, 6, 7), "b": sample(2, 1, 3), "c": sample(4), "d": sample()})
    assert found == {"a": "best", "b": "lower", "c": "undecided"}
