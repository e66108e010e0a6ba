"""Rectangles of scores: what is refused, what is compared, and which data sets share runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from o2obench.analysis import statistics as S
from o2obench.analysis.inference import paired_difference, probability_of_improvement
from o2obench.analysis.scores import Scores, clusters_of, on_common_seeds, rectangle
from tests.helpers.scores import made


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
    found = on_common_seeds({"full": full, "lacking": lacking})
    assert {scores.seeds for scores in found.values()} == {(1, 2, 3, 4)}
    assert np.array_equal(found["full"].values, made(5, 2).values[1:])
    with pytest.raises(ValueError, match="no seed is there"):
        on_common_seeds({"full": full, "other": [("set-0", 9, 1.0)]})


def test_unequal_runs_are_not_compared() -> None:
    x, y = made(5), Scores(made(5).datasets, (0, 1, 2, 3, 7), made(5).values)
    comparisons: list[Callable[[Scores, Scores], object]] = [*(probability_of_improvement, paired_difference)]
    for compare in comparisons:
        with pytest.raises(ValueError, match="X and Y do not hold the same runs: seed 4, seed 7 only in one"):
            compare(x, y)
    with pytest.raises(ValueError, match="a and b do not hold the same runs: data set set-2 only in one"):
        S.ranks({"a": x, "b": made(5, 2)})
    with pytest.raises(ValueError, match="step 0 and step 1000"):
        S.sample_efficiency({0: x, 1000: y})
    with pytest.raises(ValueError, match="no scores"):
        S.ranks({})


# Data sets that share runs


def test_data_sets_that_show_one_run_are_one_cluster() -> None:
    three = made(4, 3)
    shared = {(name, seed): f"run-{seed}" for name in three.datasets[:2] for seed in three.seeds}
    found = rectangle(rows(three), shared)
    assert found.clusters[0] == found.clusters[1] != found.clusters[2]
    [(first, both), (second, alone)] = found.strata()
    assert (first, second) == pytest.approx((2 / 3, 1 / 3))
    assert both == pytest.approx(three.values[:, :2].mean(axis=1))
    assert alone == pytest.approx(three.values[:, 2])
    once = dict(list(shared.items())[:1]) | {(three.datasets[1], 0): "run-0"}
    assert rectangle(rows(three), once).clusters == found.clusters, "one shared seed is enough"
    assert len(set(rectangle(rows(three)).clusters)) == 3


def test_clusters_are_connected_components() -> None:
    assert clusters_of("abcd") == (0, 1, 2, 3)
    assert len(set(clusters_of("aacd", "abbd"))) == 2, "a chain is one cluster"
    assert len(set(clusters_of("aabb", "abba"))) == 1
    assert clusters_of("aabb") == clusters_of((0, 0, 1, 1))
