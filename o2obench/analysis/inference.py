"""How sure a mean, a difference, a count or a probability is, where a formula says so: no draws.

Means and mean differences have t intervals. A mean over data sets is stratified: each stratum, a data set or
a cluster of data sets that show the same runs, has its own spread, and the degrees of freedom are Welch's and
Satterthwaite's. ``docs/measures.md`` has the simulated coverage of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special

from ..transitions import Array
from .scores import Scores, clusters_of, require_same_runs

LEVEL = 0.95
FEWEST = 3
"""Seeds from which there is a t interval; two would give one 13 standard errors wide."""
FEW = 5
"""Seeds from which anything is drawn again, ranked or judged."""
TINY = 1e-9
TINY = 1e-9
MARGIN = 5.0
"""Points of score within which two methods are called equal."""

BY_T = "95 % t over seeds"
PAIRED = "95 % t over shared seeds"
WELCH = "95 % Welch t over the seeds of each"
NEWCOMBE = "95 % score interval (Newcombe 2006, method 5)"
NONE = f"none, fewer than {FEWEST} seeds"


@dataclass(frozen=True)
class Estimate:
    """A value, the interval around it (None: too few seeds), the seeds, the interval's kind."""

    value: float
    low: float | None
    high: float | None
    n: int
    interval: str


@dataclass(frozen=True)
class Mean:
    """A weighted sum of sample means with its standard error and Welch-Satterthwaite degrees of freedom.

    ``error`` is NaN where a sample has one value, and 0, with no degrees of freedom, where nothing varies.
    """

    value: float
    error: float
    freedom: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the two-sided t interval."""
        if self.error == 0:
            return self.value, self.value
        half = self.error * float(special.stdtrit(self.freedom, (1 + level) / 2))
        return self.value - half, self.value + half

    def prediction(self, n: int, others: int, level: float = LEVEL) -> tuple[float, float]:
        """Return the two-sided interval in which the mean of so many other values lies.

        This is the mean of ``n`` values; the others are drawn from the same normal distribution.
        """
        return Mean(self.value, self.error * math.sqrt(1 + n / others), self.freedom).interval(level)

    def p_below(self, bound: float = 0.0) -> float:
        """Return the one-sided p value of "the mean is not below this bound"; without spread the sign."""
        if self.error == 0:
            return 0.0 if self.value < bound else 1.0
        return float(special.stdtr(self.freedom, (self.value - bound) / self.error))

    def p_differs(self) -> float:
        """Return the two-sided p value of "the mean is 0"; without spread the sign."""
        if self.error == 0:
            return float(self.value == 0)
        return 2 * float(special.stdtr(self.freedom, -abs(self.value) / self.error))


def weighted_mean(samples: Sequence[tuple[float, Array]]) -> Mean:
    """Return the sum of weight x mean over independent samples (values,), each of its own spread.

    A stratified mean has positive weights that sum to 1; a difference has negative ones, too (Welch).
    """
    value = sum(weight * float(values.mean()) for weight, values in samples)
    if min(len(values) for _, values in samples) < 2:
        return Mean(value, math.nan, math.nan)
    parts = [
        (weight**2 * float(values.var(ddof=1)) / len(values), len(values) - 1) if np.ptp(values) else (0.0, 1)
        for weight, values in samples
    ]
    variance = sum(part for part, _ in parts)
    uneven = sum(part**2 / freedom for part, freedom in parts)
    return Mean(value, math.sqrt(variance), variance**2 / uneven if uneven else 0.0)


def mean_of(scores: Scores) -> Mean:
    """Return the mean over data sets and seeds; strata are the clusters."""
    return weighted_mean(scores.strata())


def difference_of(x: Scores, y: Scores) -> Mean:
    """Return the mean of X minus Y, run by run; data sets that share a run of either are one stratum."""
    require_same_runs({"X": x, "Y": y})
    return mean_of(Scores(x.datasets, x.seeds, x.values - y.values, clusters_of(x.clusters, y.clusters)))


def estimated(mean: Mean, n: int, kind: str) -> Estimate:
    """Return a mean with its interval, from 3 seeds on."""
    if n < FEWEST:
        return Estimate(mean.value, None, None, n, NONE)
    return Estimate(mean.value, *mean.interval(), n, kind)


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Estimate the mean of some runs on one data set (seeds,)."""
    return estimated(weighted_mean([(1.0, np.asarray(values, float))]), len(values), BY_T)


def width_at(values: Sequence[float], n: int) -> float:
    """Return the width of the t interval of a mean at ``n`` values that deviate as these do (seeds,)."""
    low, high = Mean(0.0, float(np.std(values, ddof=1)) / math.sqrt(n), n - 1).interval()
    return high - low


def paired_difference(x: Scores, y: Scores) -> Estimate:
    """Estimate the mean of X minus Y, run by run.

    For a data set and a seed both fine-tune the same pretrained agent, so what that agent gave them cancels.
    """
    return estimated(difference_of(x, y), len(x.seeds), PAIRED)


# Counts and probabilities


def exact_interval(count: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the exact interval of a probability from ``count`` of ``n`` (Clopper, Pearson 1934)."""
    tail = (1 - level) / 2
    low = float(special.betaincinv(count, n - count + 1, tail)) if count else 0.0
    high = float(special.betaincinv(count + 1, n - count, 1 - tail)) if count < n else 1.0
    return low, high


def probability_of_improvement(x: Scores, y: Scores) -> Estimate:
    """Estimate how likely a run of X scores above a run of Y on the same data set; a tie counts half.

    All pairs of runs are compared, also of different seeds, and data sets are averaged (the Mann-Whitney
    statistic, arXiv:2108.13264, section 4.3). The interval of a stratum is Newcombe's method 5 (Statistics in
    Medicine 25, 559, 2006), which is never of zero width; strata are combined by squaring and adding the
    distances of their bounds. Seeds of X and Y count as independent; where both start from the same
    pretraining run, ``paired_difference`` is the sharper question.
    """
    require_same_runs({"X": x, "Y": y})
    n, labels = len(x.seeds), np.array(clusters_of(x.clusters, y.clusters))
    first, second = x.values.T[:, :, None], y.values.T[:, None, :]
    wins = ((first > second) + 0.5 * (first == second)).mean(axis=(1, 2))
    strata = [(float((labels == label).mean()), float(wins[labels == label].mean())) for label in set(labels)]
    value = float(wins.mean())
    if n < FEWEST:
        return Estimate(value, None, None, n, NONE)
    bounds = [(weight, part, *_newcombe(part, n, n)) for weight, part in strata]
    below = math.sqrt(sum((weight * (part - low)) ** 2 for weight, part, low, _ in bounds))
    above = math.sqrt(sum((weight * (high - part)) ** 2 for weight, part, _, high in bounds))
    return Estimate(value, max(value - below, 0.0), min(value + above, 1.0), n, NEWCOMBE)


def _newcombe(value: float, m: int, n: int) -> tuple[float, float]:
    """Return the bounds at which the value lies z standard errors away, the error being that at the bound."""
    z = float(special.ndtri((1 + LEVEL) / 2))

    def distance(at: float) -> float:
        pairs = 1 + ((m + n) / 2 - 1) * ((1 - at) / (2 - at) + at / (1 + at))
        return (value - at) ** 2 - z**2 * at * (1 - at) * pairs / (m * n)

    inside = min(max(value, TINY), 1 - TINY)  # 0 and 1 are roots themselves where they are the value
    low = float(optimize.brentq(distance, 0.0, inside)) if value > 0 else 0.0
    high = float(optimize.brentq(distance, inside, 1.0)) if value < 1 else 1.0
    return low, high


# Many comparisons


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p values adjusted for their number by Holm's step-down method (1979)."""
    adjusted, worst = dict[str, float](), 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        worst = max(worst, min((len(p_values) - rank) * p, 1.0))
        adjusted[name] = worst
    return adjusted


Mark = Literal["best", "lower", "equal", "undecided"]
"""How a method stands to the one with the highest mean."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A method's scores on one data set by seed, and the pretraining run that each seed starts from ("")."""

    scores: Mapping[int, float]
    parents: Mapping[int, str]

    def minus(self, other: Sample) -> Mean:
        """Return the mean difference: paired where both start from the same runs, else Welch's."""
        both = sorted(self.scores.keys() & other.scores.keys())
        same = [
            bool(self.parents.get(seed)) and self.parents[seed] == other.parents.get(seed) for seed in both
        ]
        if len(both) > 1 and all(same):
            return weighted_mean([(1.0, np.array([self.scores[s] - other.scores[s] for s in both]))])
        mine, theirs = (np.array(list(sample.scores.values()), float) for sample in (self, other))
        return weighted_mean([(1.0, mine), (-1.0, theirs)])


def marks(samples: Mapping[str, Sample], margin: float = MARGIN) -> dict[str, Mark]:
    """Say of each method how it stands to the one with the highest mean; one row of a table.

    *Lower*: a two-sided t test of the difference, adjusted by Holm's method within the row, has p < 0.05.
    *Equal*: its 90 % interval lies within +- ``margin``. *Undecided*: neither, which is no equality.

    Args:
        samples: The methods' scores on one data set.
        margin: Points within which two methods are called equal.
    """
    samples = {name: sample for name, sample in samples.items() if sample.scores}
    if len(samples) < 2:
        return {}
    best = max(samples, key=lambda name: float(np.mean(list(samples[name].scores.values()))))
    differences = {name: sample.minus(samples[best]) for name, sample in samples.items() if name != best}
    known = {name: difference for name, difference in differences.items() if not math.isnan(difference.error)}
    if not known:
        return {}
    p_values = holm({name: difference.p_differs() for name, difference in known.items()})

    def mark(name: str) -> Mark:
        if name not in known:
            return "undecided"
        if p_values[name] < 0.05:
            return "lower"
        low, high = known[name].interval(0.90)
        return "equal" if -margin <= low and high <= margin else "undecided"

    return {best: "best", **{name: mark(name) for name in differences}}
