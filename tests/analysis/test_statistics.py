"""The statistics: against rliable, scipy, hand-computed cases and brute force; and what they refuse."""

from __future__ import annotations

import ast
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from rliable import library, metrics

from o2obench.analysis import statistics as S
from o2obench.analysis.statistics import Scores, rectangle
from o2obench.transitions import Array

DATASETS = ("halfcheetah", "hopper", "walker2d")
few_numbers = settings(max_examples=25, deadline=None)


def made(seeds: int = 8, datasets: int = 3, at: float = 60.0, key: int = 0, spread: float = 15.0) -> Scores:
    """Scores of one algorithm: normal, with another mean on each data set."""
    rng = np.random.default_rng([key, seeds, datasets])
    values = rng.normal(at, spread, (seeds, datasets)) + 10 * np.arange(datasets)
    return Scores(tuple(f"set-{i}" for i in range(datasets)), tuple(range(seeds)), values)


def of(values: list[list[float]]) -> Scores:
    """Scores of a few data sets, one list of seeds for each."""
    return Scores(DATASETS[: len(values)], tuple(range(len(values[0]))), np.array(values, float).T)


@st.composite
def some_scores(draw: st.DrawFn, least: int = 1) -> Scores:
    seeds, datasets = draw(st.integers(least, 7)), draw(st.integers(1, 3))
    score = st.integers(-50, 150).map(float)
    row = st.lists(score, min_size=seeds, max_size=seeds)
    return of(draw(st.lists(row, min_size=datasets, max_size=datasets)))


def rows(scores: Scores) -> list[tuple[str, int, float]]:
    pairs = product(enumerate(scores.datasets), enumerate(scores.seeds))
    return [(name, seed, float(scores.values[i, j])) for (j, name), (i, seed) in pairs]


# The rectangle


def test_rows_in_any_order_make_the_same_rectangle() -> None:
    scores = made()
    shuffled = np.random.default_rng(3).permutation(np.array(rows(scores), dtype=object))
    found = rectangle((str(name), int(seed), float(score)) for name, seed, score in shuffled)
    assert (found.datasets, found.seeds) == (scores.datasets, scores.seeds)
    assert np.array_equal(found.values, scores.values)
    assert S.aggregates(found, 50) == S.aggregates(scores, 50)


def test_rows_of_a_table_are_a_rectangle() -> None:
    import pandas as pd

    table = pd.DataFrame(rows(made()), columns=["dataset", "seed", "score"])
    found = rectangle(zip(table.dataset, table.seed, table.score, strict=True))
    assert np.array_equal(found.values, made().values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[1:], "scores are missing: set-0 seed 0$"),
        (lambda r: [*r, r[4]], "there twice: set-1 seed 1$"),
        (lambda r: [("set-0", 0, float("nan")), *r[1:]], "not finite: set-0 seed 0$"),
        (lambda r: [("set-0", 0, float("inf")), *r[1:]], "not finite: set-0 seed 0$"),
        (lambda r: [("set-0", 0, None), *r[1:]], "not finite: set-0 seed 0$"),
        (lambda r: [*r[:3], ("set-1", 0, float("-inf")), *r[5:], r[5]], "missing.*not finite.*there twice"),
        (lambda r: [], "no scores"),
    ],
)
def test_what_is_no_finite_rectangle_is_refused_and_named(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match=message):
        rectangle(change(rows(made(3, 2))))


def test_many_missing_runs_are_counted() -> None:
    diagonal = [(f"set-{i}", i, 1.0) for i in range(4)]
    with pytest.raises(ValueError, match=r"set-1 seed 2 and 7 more$"):
        rectangle(diagonal)


@pytest.mark.parametrize(
    ("seeds", "values"),
    [
        ((0, 1), [[1.0], [float("nan")]]),
        ((0, 0), [[1.0], [1.0]]),
        ((1, 0), [[1.0], [1.0]]),
        ((0,), [[1.0], [1.0]]),
        ((), []),
    ],
)
def test_no_other_way_into_the_statistics(seeds: tuple[int, ...], values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="not a finite rectangle"):
        Scores(("hopper",), seeds, np.array(values))


def test_comparisons_are_made_on_the_seeds_that_all_have() -> None:
    full, lacking = rows(made(5, 2)), rows(made(5, 2, key=1))[1:]
    found = S.on_common_seeds({"full": full, "lacking": lacking})
    assert {scores.seeds for scores in found.values()} == {(1, 2, 3, 4)}
    assert np.array_equal(found["full"].values, made(5, 2).values[1:])
    with pytest.raises(ValueError, match="no seed is there"):
        S.on_common_seeds({"full": full, "other": [("set-0", 9, 1.0)]})


def test_unequal_runs_are_not_compared() -> None:
    x, y = made(5), Scores(made(5).datasets, (0, 1, 2, 3, 7), made(5).values)
    comparisons: list[Callable[[Scores, Scores], object]] = [
        *(S.probability_of_improvement, S.paired_difference)
    ]
    for compare in comparisons:
        with pytest.raises(ValueError, match="X and Y do not hold the same runs: seed 4, seed 7 only in one"):
            compare(x, y)
    with pytest.raises(ValueError, match="a and b do not hold the same runs: data set set-2 only in one"):
        S.ranks({"a": x, "b": made(5, 2)})
    with pytest.raises(ValueError, match="step 0 and step 1000"):
        S.sample_efficiency({0: x, 1000: y})
    with pytest.raises(ValueError, match="no scores"):
        S.ranks({})


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
    found = S.aggregates(scores, replicates=5)
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
    found = S.probability_of_improvement(x, y, replicates=5).value
    assert found == pytest.approx(sum(wins) / len(wins), abs=1e-12)
    assert found == pytest.approx(metrics.probability_of_improvement(x.values, y.values), abs=1e-12)


def test_all_pairs_mirror_each_other() -> None:
    algorithms = {"a": made(key=1), "b": made(key=2, at=70), "c": made(key=3)}
    found = S.all_pairs(algorithms, replicates=200)
    assert len(found) == 6
    reverse = dict(reversed(algorithms.items()))
    assert S.all_pairs(reverse, replicates=200) == found
    assert S.ranks(reverse, replicates=200) == S.ranks(algorithms, replicates=200)
    for (x, y), one in found.items():
        other = found[y, x]
        assert one.value + other.value == pytest.approx(1)
        assert one.low is not None
        assert other.high is not None
        assert one.low + other.high == pytest.approx(1)
    assert found["b", "a"].value > 0.5
    same = S.all_pairs({"a": made(3), "b": made(3)})
    assert (same["b", "a"].value, same["b", "a"].low) == (0.5, None)


def test_ranks_by_hand() -> None:
    found = S.ranks({"a": of([[3.0, 1.0]]), "b": of([[2.0, 1.0]]), "c": of([[1.0, 5.0]])})
    assert {name: estimate.value for name, estimate in found.items()} == {"a": 1.75, "b": 2.25, "c": 2.0}


@few_numbers
@given(some_scores())
def test_ranks_are_scipys_and_their_sum_is_fixed(scores: Scores) -> None:
    every = [scores.values, np.roll(scores.values, 1), scores.values[::-1]]
    named = {str(i): Scores(scores.datasets, scores.seeds, values) for i, values in enumerate(every)}
    found = [estimate.value for estimate in S.ranks(named, replicates=5).values()]
    assert sum(found) == pytest.approx(6)
    assert found == pytest.approx(scipy.stats.rankdata(-np.stack(every), axis=0).mean(axis=(1, 2)))


def test_profile_is_the_share_above_each_threshold() -> None:
    scores, thresholds = made(6, 2), np.linspace(0, 120, 25)
    band = S.performance_profile(scores, thresholds, replicates=200)
    assert band.value == pytest.approx([(scores.values > t).mean() for t in thresholds])
    assert band.low is not None
    assert band.high is not None
    assert (np.diff(band.value) <= 0).all()
    assert (band.low <= band.value + 1e-12).all()
    assert (band.value <= band.high + 1e-12).all()
    assert band.interval == f"{S.POINTWISE}, small n"
    assert S.performance_profile(made(4), thresholds).low is None


def test_sample_efficiency_is_the_statistic_at_each_step() -> None:
    at = {2000: made(key=2), 0: made(key=0), 1000: made(key=1)}
    band = S.sample_efficiency(at, replicates=300)
    assert list(band.x) == [0, 1000, 2000]
    assert band.value == pytest.approx([scipy.stats.trim_mean(at[s].values.ravel(), 0.25) for s in band.x])
    assert band.low is not None
    assert (band.low < band.value).all()
    assert S.sample_efficiency({0: made(4)}).high is None


def test_paired_differences_seed_by_seed() -> None:
    x, y = of([[1.0, 5.0, 2.0]]), of([[0.0, 7.0, 2.0]])
    assert S.paired_difference(x, y) == S.Estimate(-1 / 3, None, None, 3, S.NO_INTERVAL)


def test_what_runs_share_does_not_widen_a_paired_interval() -> None:
    x, shared = made(10, spread=1.0), made(10, key=9, spread=40.0).values
    y = made(10, key=4, spread=1.0)
    x_lifted, y_lifted = (Scores(x.datasets, x.seeds, one.values + shared) for one in (x, y))
    alone = S.paired_difference(x, y)
    together = S.paired_difference(x_lifted, y_lifted)
    assert together.value == pytest.approx(alone.value)
    assert width(together) == pytest.approx(width(alone))
    assert width(together) < 0.1 * width(S.aggregates(x_lifted)["mean"])


@few_numbers
@given(some_scores(5), st.floats(-40, 40, allow_subnormal=False), st.floats(0.1, 3, allow_subnormal=False))
def test_estimates_move_and_stretch_with_the_scores(scores: Scores, shift: float, factor: float) -> None:
    moved = Scores(scores.datasets, scores.seeds, factor * scores.values + shift)
    names: list[S.Statistic] = ["mean", "median", "iqm"]
    before, after = (S.aggregates(each, 20) for each in (scores, moved))
    for name in names:
        expected = [factor * value + shift for value in numbers(before[name])]
        assert numbers(after[name]) == pytest.approx(expected, abs=1e-9)
    up = Scores(scores.datasets, scores.seeds, scores.values + 1)
    assert numbers(S.paired_difference(up, scores, 20)) == pytest.approx([1, 1, 1])


def test_all_equal_scores_have_an_interval_of_no_width() -> None:
    scores = of([[7.0] * 6, [7.0] * 6])
    for name, estimate in S.aggregates(scores, 50).items():
        assert numbers(estimate) == pytest.approx([93.0 if name == "optimality_gap" else 7.0] * 3)
    assert numbers(S.probability_of_improvement(scores, scores, 50)) == pytest.approx([0.5] * 3)
    assert numbers(S.ranks({"a": scores, "b": scores}, 50)["b"]) == pytest.approx([1.5] * 3)


# Intervals


def numbers(estimate: S.Estimate) -> list[float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return [estimate.value, estimate.low, estimate.high]


def width(estimate: S.Estimate) -> float:
    _, low, high = numbers(estimate)
    return high - low


@pytest.mark.parametrize(
    ("seeds", "interval"),
    [(1, None), (4, None), (5, ", small n"), (9, ", small n"), (10, ""), (12, "")],
)
def test_few_seeds_have_no_interval_or_a_named_one(seeds: int, interval: str | None) -> None:
    x, y = made(seeds), made(seeds, key=1)
    found = {
        S.STRATIFIED: list(S.aggregates(x, 20).values()),
        S.INDEPENDENT: [S.probability_of_improvement(x, y, 20)],
        S.PAIRED: [
            *S.ranks({"x": x, "y": y}, 20).values(),
            S.paired_difference(x, y, 20),
        ],
    }
    for kind, estimates in found.items():
        for one in estimates:
            assert one.n == seeds
            if interval is None:
                assert (one.low, one.high, one.interval) == (None, None, S.NO_INTERVAL)
            else:
                value, low, high = numbers(one)
                assert low < high
                assert low - 15 < value < high + 15
                assert one.interval == kind + interval


def test_our_bootstrap_has_the_widths_of_rliables() -> None:
    x, y = made(10, 5), made(10, 5, key=1, at=65)
    for name, theirs in S.aggregates(x, 4000).items():
        band = S.sample_efficiency({0: x}, name, 4000)
        assert band.low is not None
        assert band.high is not None
        assert band.high[0] - band.low[0] == pytest.approx(width(theirs), rel=0.08)
    theirs = S.aggregates(x)["mean"]
    assert width(S.paired_difference(x, zero(x), 4000)) == pytest.approx(width(theirs), rel=0.08)
    with S.seeded_global_numbers():
        values, bounds = library.get_interval_estimates(
            {"it": (x.values, y.values)},
            lambda a, b: np.array([metrics.probability_of_improvement(a, b)]),
            reps=150,
        )
    found = S.probability_of_improvement(x, y)
    assert found.value == pytest.approx(float(values["it"][0]), abs=1e-12)
    assert width(found) == pytest.approx(float(np.diff(bounds["it"], axis=0)[0, 0]), rel=0.25)


def test_our_curves_have_the_bands_of_rliable() -> None:
    at = {step: made(8, key=step, at=40 + step) for step in range(4)}
    stacked = np.stack([scores.values for scores in at.values()], axis=-1)

    def each(values: Array) -> Array:
        return np.array([metrics.aggregate_iqm(values[..., i]) for i in range(4)])

    with S.seeded_global_numbers():
        values, bounds = library.get_interval_estimates({"it": stacked}, each, reps=1000)
    band = S.sample_efficiency(at)
    assert band.value == pytest.approx(values["it"], abs=1e-12)
    assert band.low is not None
    assert band.high is not None
    assert band.high - band.low == pytest.approx(np.diff(bounds["it"], axis=0)[0], rel=0.12)


def zero(like: Scores) -> Scores:
    return Scores(like.datasets, like.seeds, np.zeros_like(like.values))


@pytest.mark.parametrize(("seeds", "datasets", "least"), [(5, 1, 0.78), (10, 1, 0.85), (10, 5, 0.89)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds: int, datasets: int, least: float) -> None:
    rng = np.random.default_rng(11)
    names = made(seeds, datasets)
    hits = []
    for _ in range(400):
        x = Scores(names.datasets, names.seeds, rng.normal(0, 10, names.values.shape))
        _, low, high = numbers(S.paired_difference(x, zero(x), 400))
        hits.append(low <= 0 <= high)
    assert least < np.mean(hits) < 0.98


def test_rliables_intervals_hold_the_truth_too() -> None:
    rng = np.random.default_rng(12)
    hits = []
    for _ in range(40):
        x = Scores(("hopper",), tuple(range(10)), rng.normal(50, 10, (10, 1)))
        _, low, high = numbers(S.aggregates(x, 100)["mean"])
        hits.append(low <= 50 <= high)
    assert 0.75 < np.mean(hits) <= 1


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
        S.sample_efficiency({0: x, 1: y}, replicates=30),
    ]
    pairs = {"x": x, "y": y}
    return [
        *(S.aggregates(x, 30), S.all_pairs(pairs, 30), S.ranks(pairs, 30)),
        S.paired_difference(x, y, 30),
        *([list(part) for part in (b.value, b.low, b.high) if part is not None] for b in bands),
    ]


def test_an_error_inside_leaves_the_global_random_numbers_as_they_were() -> None:
    before = repr(np.random.get_state(legacy=False))  # noqa: NPY002
    with pytest.raises(ZeroDivisionError), S.seeded_global_numbers():
        np.random.random(size=1 // 0)  # noqa: NPY002
    assert repr(np.random.get_state(legacy=False)) == before  # noqa: NPY002


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
