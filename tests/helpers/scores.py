"""Scores that tests make up."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from o2obench.analysis.inference import Estimate
from o2obench.analysis.scores import Scores

DATASETS = ("halfcheetah", "hopper", "walker2d")


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


def numbers(estimate: Estimate) -> list[float]:
    """Value, low and high of an estimate that has an interval."""
    assert estimate.low is not None
    assert estimate.high is not None
    return [estimate.value, estimate.low, estimate.high]


def width(estimate: Estimate) -> float:
    """How wide an interval is."""
    _, low, high = numbers(estimate)
    return high - low
