"""Statistics over seeds and data sets that have no formula for their interval: the bootstrap, and rliable.

The unit is the run: one method, one data set, one seed, reduced to one number before anything is averaged
or drawn again. (Episodes are averaged inside a run; counting them as runs makes intervals far too narrow.)
Seeds are drawn anew within each data set (Agarwal et al., arXiv:2108.13264), or within each cluster of data
sets that show the same runs: an interval says how much a value would move with other seeds on the same data.

rliable gives the values. The draws are ours: all of them where they can be listed, else 20,000, from arrays.
``docs/measures.md`` says what holds of all intervals, and how far they can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import Literal

import numpy as np
from scipy import special

from ..transitions import Array
from .inference import (
    BY_T,
    FEW,
    FEWEST,
    LEVEL,
    Estimate,
    estimated,
    mean_of,
    probability_of_improvement,
)
from .scores import Scores, clusters_of, require_same_runs

GAMMA = 100.0
"""The score from which on nothing is missing; the optimality gap is measured from here."""
DRAWS = 20_000
"""Bootstrap draws where not all can be listed. Their own noise moves a bound by 0.02 standard errors."""
AT_ONCE = 2**20
"""Drawn scores that are held at once."""
LISTED = 7
"""Seeds of one data set up to which all draws are listed (1,716 at 7), each with its probability."""
SEED = 0

EXACT = "95 % bootstrap over seeds, all draws"
DRAWN = f"95 % bootstrap over seeds, {DRAWS:,} draws"
POINTWISE = "95 % t over seeds, pointwise"
NONE = f"none, fewer than {FEW} seeds"

Statistic = Literal["mean", "median", "iqm", "optimality_gap"]


@dataclass(frozen=True, eq=False)
class Band:
    """Values along an axis and, at each point by itself, their interval (None below its number of seeds).

    A pointwise band says nothing of a curve as a whole: what happens over time (an area, a fall) is
    reduced to one number per run first and estimated from those.
    """

    x: Array
    value: Array
    low: Array | None
    high: Array | None
    n: int
    interval: str


# One method


def aggregates(scores: Scores, draws: int = DRAWS) -> dict[Statistic, Estimate]:
    """Estimate mean (by t), median, IQM and optimality gap (from the same bootstrap draws) of one method."""
    values = {name: of_rliable(scores.values) for name, of_rliable in _point_values().items()}
    n, mean = len(scores.seeds), estimated(mean_of(scores), len(scores.seeds), BY_T)
    if n < FEW:
        return {name: Estimate(value, None, None, n, NONE) for name, value in values.items()} | {"mean": mean}
    resampled = _Resampled.drawn(scores, draws)
    names: tuple[Statistic, ...] = ("median", "iqm", "optimality_gap")
    drawn = zip(names, resampled.of(scores, names), strict=True)
    others: dict[Statistic, Estimate] = {
        name: resampled.estimate(values[name], of_draws) for name, of_draws in drawn
    }
    return {"mean": mean, **others}


def performance_profile(scores: Scores, thresholds: Array, draws: int = DRAWS) -> Band:
    """Estimate the share of runs that score above each threshold (arXiv:2108.13264, section 4.2).

    Args:
        scores: One method's.
        thresholds: Scores (points,).
        draws: Bootstrap draws.
    """
    above = scores.values[:, :, None] > thresholds  # (seeds, datasets, points)
    share, n = above.mean(axis=(0, 1)), len(scores.seeds)
    if n < FEW:
        return Band(thresholds, share, None, None, n, NONE)
    resampled = _Resampled.drawn(scores, draws)
    low, high = resampled.bounds(resampled.mean(scores, above))
    return Band(thresholds, share, low, high, n, resampled.kind)


def sample_efficiency(at: Mapping[int, Scores], statistic: Statistic = "iqm", draws: int = DRAWS) -> Band:
    """Estimate a curve over environment steps with a pointwise band.

    Each draw takes whole runs, the same at all steps. (rliable draws other seeds at every step, which gives
    the same pointwise bands and takes 30 times as long.)

    Args:
        at: One method's scores by environment step; the same runs at every step.
        statistic: What is shown of the runs at a step.
        draws: Bootstrap draws.

    Raises:
        ValueError: A run is missing at a step.
    """
    steps = sorted(at)
    require_same_runs({f"step {step}": at[step] for step in steps})
    first, of = at[steps[0]], STATISTICS[statistic]
    n, x, value = len(first.seeds), np.array(steps), np.array([of(at[step].values) for step in steps])
    if n < FEW:
        return Band(x, value, None, None, n, NONE)
    resampled = _Resampled.drawn(first, draws)
    low, high = np.array([resampled.bounds(resampled.of(at[step], [statistic])[0]) for step in steps]).T
    return Band(x, value, low, high, n, resampled.kind)


def mean_curve(values: Array) -> Band:
    """Estimate the mean of curves (seeds, points) of one data set, by t at each point."""
    n, points = values.shape
    x, value = np.arange(points), values.mean(axis=0)
    if n < FEWEST:
        return Band(x, value, None, None, n, NONE)
    half = special.stdtrit(n - 1, (1 + LEVEL) / 2) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return Band(x, value, value - half, value + half, n, POINTWISE)


# Several methods on the same data sets and seeds; a higher score is the better one


def all_pairs(methods: Mapping[str, Scores]) -> dict[tuple[str, str], Estimate]:
    """Estimate the probability of improvement of the first over the second, for all ordered pairs."""
    estimates = {}
    for x, y in combinations(sorted(methods), 2):
        estimate = probability_of_improvement(methods[x], methods[y])
        low, high = (None if bound is None else 1 - bound for bound in (estimate.high, estimate.low))
        estimates[x, y], estimates[y, x] = (
            estimate,
            Estimate(1 - estimate.value, low, high, estimate.n, estimate.interval),
        )
    return estimates


def ranks(methods: Mapping[str, Scores], draws: int = DRAWS) -> dict[str, Estimate]:
    """Estimate mean ranks: 1 is the best of the methods with that seed on that data set, ties share.

    The bootstrap draws seeds once for all methods, so what they share stays shared. A mean rank depends
    on who else takes part; below 5 seeds it is a description of these runs, not a ranking.
    """
    require_same_runs(methods)
    every = np.stack([scores.values for scores in methods.values()])  # (methods, seeds, datasets)
    better, equal = every[:, None] < every[None], every[:, None] == every[None]
    rank = 0.5 + (better + 0.5 * equal).sum(axis=1)
    first = next(iter(methods.values()))
    n, clusters = len(first.seeds), clusters_of(*(scores.clusters for scores in methods.values()))
    values = rank.mean(axis=(1, 2))
    if n < FEW:
        each = [Estimate(float(value), None, None, n, NONE) for value in values]
    else:
        shared = Scores(first.datasets, first.seeds, first.values, clusters)
        resampled = _Resampled.drawn(shared, draws)
        drawn = resampled.mean(shared, np.moveaxis(rank, 0, -1))  # (draws, methods)
        each = [resampled.estimate(value, drawn[:, i]) for i, value in enumerate(values)]
    return dict(zip(methods, each, strict=True))


# Statistics of (.., seeds, datasets), many draws at once; rliable has them for one


def _point_values() -> dict[Statistic, Callable[[Array], float]]:
    from rliable import metrics

    return {
        "mean": lambda values: float(metrics.aggregate_mean(values)),
        "median": lambda values: float(metrics.aggregate_median(values)),
        "iqm": lambda values: float(metrics.aggregate_iqm(values)),
        "optimality_gap": lambda values: float(metrics.aggregate_optimality_gap(values, gamma=GAMMA)),
    }


def _mean(values: Array) -> Array:
    return np.asarray(values.mean(axis=(-2, -1)))


def _median(values: Array) -> Array:
    return np.asarray(np.median(values.mean(axis=-2), axis=-1))


def _iqm(values: Array) -> Array:
    runs = values.reshape(*values.shape[:-2], -1)
    cut, end = runs.shape[-1] // 4, runs.shape[-1] - runs.shape[-1] // 4
    parted = np.partition(runs, (cut, end - 1), axis=-1)  # the middle half stands in the middle, in any order
    return np.asarray(parted[..., cut:end].mean(axis=-1))


def _optimality_gap(values: Array) -> Array:
    return GAMMA - _mean(np.minimum(values, GAMMA))


STATISTICS: Mapping[Statistic, Callable[[Array], Array]] = {
    "mean": _mean,
    "median": _median,
    "iqm": _iqm,
    "optimality_gap": _optimality_gap,
}


# The bootstrap


@dataclass(frozen=True, eq=False)
class _Resampled:
    """Which seeds each bootstrap draw takes, and how likely the draw is.

    ``seeds`` (draws, n, clusters) holds places of seeds, for each cluster of data sets by itself;
    ``probability`` (draws,) sums to 1; ``cluster`` (datasets,) says whose draw a data set takes.
    """

    seeds: Array
    probability: Array
    cluster: Array
    kind: str

    @classmethod
    def drawn(cls, scores: Scores, draws: int) -> _Resampled:
        """Return all draws of one cluster with up to 7 seeds, else that many random ones."""
        names, cluster = np.unique(scores.clusters, return_inverse=True)
        n = len(scores.seeds)
        if len(names) == 1 and n <= LISTED:
            every = np.array(list(combinations_with_replacement(range(n), n)))
            times = (every[:, :, None] == np.arange(n)).sum(axis=1)
            ways = math.factorial(n) / special.factorial(times).prod(axis=1)
            return cls(every[:, :, None], ways / n**n, cluster, EXACT)
        seeds = np.random.default_rng(SEED).integers(n, size=(draws, n, len(names)), dtype=np.int32)
        kind = DRAWN if draws == DRAWS else f"95 % bootstrap over seeds, {draws:,} draws"
        return cls(seeds, np.full(draws, 1 / draws), cluster, kind)

    def of(self, scores: Scores, statistics: Sequence[Statistic]) -> Array:
        """Return statistics of the scores of every draw (statistics, draws), a few draws at a time."""
        datasets, parts = np.arange(len(self.cluster)), -(-len(self.seeds) * scores.values.size // AT_ONCE)
        drawn = (
            scores.values[part[:, :, self.cluster], datasets] for part in np.array_split(self.seeds, parts)
        )
        return np.concatenate([[STATISTICS[name](values) for name in statistics] for values in drawn], axis=1)

    def mean(self, scores: Scores, values: Array) -> Array:
        """Return the mean over seeds and data sets of values (seeds, datasets, ...), for every draw."""
        _, n, clusters = self.seeds.shape
        members = np.eye(clusters)[self.cluster].T  # (clusters, datasets)
        by_cluster = np.einsum("cd,sd...->sc...", members, values) / len(scores.datasets)
        runs = by_cluster.reshape(n * clusters, -1) / n
        parts = np.array_split(self.seeds, -(-self.seeds.size // AT_ONCE))
        return np.concatenate([_times(part) @ runs for part in parts])

    def bounds(self, drawn: Array) -> Array:
        """Return the percentile interval (2, ...) of bootstrap values (draws, ...)."""
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        weights = self.probability if self.kind == EXACT else None
        return np.quantile(drawn, ends, axis=0, method="inverted_cdf", weights=weights)

    def estimate(self, value: float, drawn: Array) -> Estimate:
        """Return a value with the interval of its bootstrap values (draws,)."""
        low, high = self.bounds(drawn)
        return Estimate(float(value), float(low), float(high), self.seeds.shape[1], self.kind)


def _times(seeds: Array) -> Array:
    """Return how often draws (draws, n, clusters) take each seed of each cluster (draws, n x clusters)."""
    draws, n, clusters = seeds.shape
    place = (np.arange(draws)[:, None, None] * n + seeds) * clusters + np.arange(clusters)
    return np.bincount(place.ravel(), minlength=draws * n * clusters).reshape(draws, n * clusters)
