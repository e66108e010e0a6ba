"""The bootstrap: against rliable, scipy, hand-computed cases and all draws."""

from __future__ import annotations

import ast
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from rliable import library, metrics

from o2obench.analysis import statistics as S
from o2obench.analysis.scores import Scores
from o2obench.transitions import Array
from tests.helpers.scores import made, numbers, of, some_scores, width

few_numbers = settings(max_examples=25, deadline=None)


# Values


@few_numbers
@given(some_scores())
def test_aggregates_are_those_of_numpy_and_scipy(scores: Scores) -> None:
    values = scores.values
    expected = {
        "mean": values.mean(),
        "median": np.median(values.mean(axis=0)),
        "iqm": scipy.stats.trim_mean(values.ravel(), 0.25),
        "optimality_gap": np.maximum(100.0 - values, 0).mean(),
    }
    found = S.aggregates(scores, draws=5)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(expected, abs=1e-12)
    for name, vectorised in S.STATISTICS.items():
        assert vectorised(values) == pytest.approx(expected[name], abs=1e-12)
        both = np.stack([values, values + 1])
        assert vectorised(both)[0] == pytest.approx(expected[name], abs=1e-12)


def test_aggregates_by_hand() -> None:
    scores = of([[0.0, 10, 20, 30], [100, 110, 120, 130]])
    found = {name: estimate.value for name, estimate in S.aggregates(scores).items()}
    assert (found["mean"], found["median"]) == (65, 65)
    assert found["iqm"] == (20 + 30 + 100 + 110) / 4
    assert found["optimality_gap"] == (100 + 90 + 80 + 70) / 8


def test_all_pairs_mirror_each_other() -> None:
    algorithms = {"a": made(key=1), "b": made(key=2, at=70), "c": made(key=3)}
    found = S.all_pairs(algorithms)
    assert len(found) == 6
    reverse = dict(reversed(algorithms.items()))
    assert S.all_pairs(reverse) == found
    assert S.ranks(reverse, draws=200) == S.ranks(algorithms, draws=200)
    for (x, y), one in found.items():
        other = found[y, x]
        assert one.value + other.value == pytest.approx(1)
        assert one.low is not None
        assert other.high is not None
        assert one.low + other.high == pytest.approx(1)
    assert found["b", "a"].value > 0.5
    same = S.all_pairs({"a": made(2), "b": made(2)})
    assert (same["b", "a"].value, same["b", "a"].low) == (0.5, None)


def test_ranks_by_hand() -> None:
    found = S.ranks({"a": of([[3.0, 1.0]]), "b": of([[2.0, 1.0]]), "c": of([[1.0, 5.0]])})
    assert {name: estimate.value for name, estimate in found.items()} == {"a": 1.75, "b": 2.25, "c": 2.0}


@few_numbers
@given(some_scores())
def test_ranks_are_scipys_and_their_sum_is_fixed(scores: Scores) -> None:
    every = [scores.values, np.roll(scores.values, 1), scores.values[::-1]]
    named = {str(i): Scores(scores.datasets, scores.seeds, values) for i, values in enumerate(every)}
    found = [estimate.value for estimate in S.ranks(named, draws=5).values()]
    assert sum(found) == pytest.approx(6)
    assert found == pytest.approx(scipy.stats.rankdata(-np.stack(every), axis=0).mean(axis=(1, 2)))


def test_profile_is_the_share_above_each_threshold() -> None:
    scores, thresholds = made(6, 2), np.linspace(0, 120, 25)
    band = S.performance_profile(scores, thresholds, draws=200)
    assert band.value == pytest.approx([(scores.values > t).mean() for t in thresholds])
    assert band.low is not None
    assert band.high is not None
    assert (np.diff(band.value) <= 0).all()
    assert (band.low <= band.value + 1e-12).all()
    assert (band.value <= band.high + 1e-12).all()
    assert band.interval == "95 % bootstrap over seeds, 200 draws"
    assert S.performance_profile(made(4), thresholds).low is None


def test_sample_efficiency_is_the_statistic_at_each_step() -> None:
    at = {2000: made(key=2), 0: made(key=0), 1000: made(key=1)}
    band = S.sample_efficiency(at, draws=300)
    assert list(band.x) == [0, 1000, 2000]
    assert band.value == pytest.approx([scipy.stats.trim_mean(at[s].values.ravel(), 0.25) for s in band.x])
    assert band.low is not None
    assert (band.low < band.value).all()
    assert S.sample_efficiency({0: made(4)}).high is None


@few_numbers
@given(some_scores(5), st.floats(-40, 40, allow_subnormal=False), st.floats(0.1, 3, allow_subnormal=False))
def test_estimates_move_and_stretch_with_the_scores(scores: Scores, shift: float, factor: float) -> None:
    moved = Scores(scores.datasets, scores.seeds, factor * scores.values + shift)
    names: list[S.Statistic] = ["mean", "median", "iqm"]
    before, after = (S.aggregates(each, 20) for each in (scores, moved))
    for name in names:
        expected = [factor * value + shift for value in numbers(before[name])]
        assert numbers(after[name]) == pytest.approx(expected, abs=1e-9)


def test_all_equal_scores_have_an_interval_of_no_width() -> None:
    scores = of([[7.0] * 6, [7.0] * 6])
    for name, estimate in S.aggregates(scores, 50).items():
        assert numbers(estimate) == pytest.approx([93.0 if name == "optimality_gap" else 7.0] * 3)
    assert numbers(S.ranks({"a": scores, "b": scores}, 50)["b"]) == pytest.approx([1.5] * 3)


# Intervals


@few_numbers
@given(some_scores(5))
def test_one_data_set_has_the_bounds_of_all_draws(scores: Scores) -> None:
    n, one = 5, Scores(scores.datasets[:1], tuple(range(5)), scores.values[:5, :1])
    every = np.array(list(product(range(n), repeat=n)))  # n ** n draws, all as likely
    drawn = one.values[:, 0][every]
    for name, found in S.aggregates(one).items():
        if name != "mean":
            values = np.sort(S.STATISTICS[name](drawn[:, :, None]))
            expected = [values[math.ceil(share * len(values)) - 1] for share in (0.025, 0.975)]
            assert numbers(found)[1:] == pytest.approx(expected, abs=1e-9), name
            assert found.interval == S.EXACT


@pytest.mark.parametrize(
    ("seeds", "datasets", "kind"), [(5, 1, S.EXACT), (7, 1, S.EXACT), (8, 1, S.DRAWN), (5, 2, S.DRAWN)]
)
def test_draws_are_listed_where_they_can_be(seeds: int, datasets: int, kind: str) -> None:
    assert S.aggregates(made(seeds, datasets))["iqm"].interval == kind
    shared = Scores(
        made(seeds, datasets).datasets, tuple(range(seeds)), made(seeds, datasets).values, (0,) * datasets
    )
    assert S.aggregates(shared)["iqm"].interval == (S.EXACT if seeds <= 7 else S.DRAWN)


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_below_five_seeds_nothing_is_drawn_again(seeds: int) -> None:
    x = made(seeds)
    drawn = [*S.aggregates(x).values(), *S.ranks({"x": x, "y": made(seeds, key=1)}).values()]
    for one in drawn[1:]:
        assert (one.low, one.high, one.interval, one.n) == (None, None, S.NONE, seeds)
    assert (drawn[0].low is None) == (seeds < 3), "a mean has a t interval"
    assert (S.mean_curve(x.values).low is None) == (seeds < 3)


def test_our_draws_have_the_widths_of_rliables() -> None:
    x = made(10, 5)
    names: tuple[S.Statistic, ...] = ("median", "iqm", "optimality_gap")
    np.random.seed(0)  # noqa: NPY002  (rliable draws from the global numbers)
    _, bounds = library.get_interval_estimates(
        {"it": x.values}, lambda values: np.array([S.STATISTICS[name](values) for name in names]), reps=4000
    )
    found = S.aggregates(x)
    for name, theirs in zip(names, np.diff(bounds["it"], axis=0)[0], strict=True):
        assert width(found[name]) == pytest.approx(theirs, rel=0.08)
        band = S.sample_efficiency({0: x}, name)
        assert band.low is not None
        assert band.high is not None
        assert band.high[0] - band.low[0] == pytest.approx(width(found[name]))


def test_shared_runs_are_drawn_together() -> None:
    shared = np.repeat(made(10, 1).values, 3, axis=1)
    names = made(10, 3)
    known, unknown = (Scores(names.datasets, names.seeds, shared, of) for of in ((0, 0, 0), ()))
    one = Scores(names.datasets[:1], names.seeds, shared[:, :1])
    assert width(S.aggregates(known)["iqm"]) == pytest.approx(width(S.aggregates(one)["iqm"]), rel=0.1)
    assert width(S.aggregates(unknown)["iqm"]) < 0.75 * width(S.aggregates(one)["iqm"])
    profile = S.performance_profile(known, np.array([60.0]))
    alone = S.performance_profile(one, np.array([60.0]))
    for mine, theirs in ((profile.value, alone.value), (profile.low, alone.low), (profile.high, alone.high)):
        assert mine == pytest.approx(theirs)


def test_our_curves_have_the_bands_of_rliable() -> None:
    at = {step: made(8, key=step, at=40 + step) for step in range(4)}
    stacked = np.stack([scores.values for scores in at.values()], axis=-1)

    def each(values: Array) -> Array:
        return np.array([metrics.aggregate_iqm(values[..., i]) for i in range(4)])

    np.random.seed(0)  # noqa: NPY002  (rliable draws from the global numbers)
    values, bounds = library.get_interval_estimates({"it": stacked}, each, reps=1000)
    band = S.sample_efficiency(at)
    assert band.value == pytest.approx(values["it"], abs=1e-12)
    assert band.low is not None
    assert band.high is not None
    assert band.high - band.low == pytest.approx(np.diff(bounds["it"], axis=0)[0], rel=0.12)


# Random numbers and imports


def test_the_same_scores_give_the_same_numbers_and_the_global_random_numbers_stay() -> None:
    x, y = made(), made(key=1)
    np.random.seed(77)  # noqa: NPY002
    np.random.standard_normal()  # noqa: NPY002  # leaves a cached number behind
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    first = everything(x, y)
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert repr(before) == repr(after)
    np.random.seed(1)  # noqa: NPY002
    assert everything(x, y) == first


def everything(x: Scores, y: Scores) -> list[object]:
    bands = [
        S.performance_profile(x, np.arange(0, 100, 20), 30),
        S.sample_efficiency({0: x, 1: y}, draws=30),
    ]
    pairs = {"x": x, "y": y}
    return [
        *(S.aggregates(x, 30), S.ranks(pairs, 30)),
        *([list(part) for part in (b.value, b.low, b.high) if part is not None] for b in bands),
    ]


def test_this_is_the_only_door_to_rliable_and_it_opens_late() -> None:
    root = Path(S.__file__).parent.parent
    for file in root.rglob("*.py"):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.split(".")[0] in ("rliable", "arch") for name in names):
                assert file == Path(S.__file__)
                assert node not in tree.body
