"""What several seeds on several data sets say together, and how sure one may be: the one door to rliable.

The unit is the run: one algorithm, one data set, one seed, reduced to one number before anything is averaged
or drawn again. (Episodes are averaged inside a run; counting them as runs makes intervals far too narrow.)
Every function takes whole rectangles, data sets x seeds, and draws seeds anew *within* each data set (Agarwal
et al., arXiv:2108.13264): an interval says how much a value would move with other seeds on the same data.

``docs/measures.md`` says what holds of all intervals, and how far they can be trusted.

rliable computes aggregates and profiles. It draws from numpy's global random numbers (its ``random_state``
argument is ignored), so these are seeded here and put back. Its other functions need minutes for one page;
here they are written again on arrays, and the tests hold them against rliable's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from ..transitions import Array

FEW, MANY = 5, 10
"""Seeds from which there is an interval at all, and from which it is not called small n."""
GAMMA = 100.0
"""The score from which on nothing is missing; the optimality gap is measured from here."""
REPLICATES = 2_000
"""Bootstrap draws. Their own noise moves a bound by about 0.06 standard errors."""
LEVEL = 0.95
SEED = 0

NO_INTERVAL = f"none, fewer than {FEW} seeds"
STRATIFIED = "95 % bootstrap over seeds"
INDEPENDENT = "95 % bootstrap over the seeds of each"
PAIRED = "95 % bootstrap over shared seeds"
POINTWISE = "95 % bootstrap over seeds, pointwise"

Run = tuple[str, int]
"""A data set and a seed."""
Statistic = Literal["mean", "median", "iqm", "optimality_gap"]


@dataclass(frozen=True)
class Estimate:
    """A value, the interval around it (None below 5 seeds), the seeds behind it and the interval's kind."""

    value: float
    low: float | None
    high: float | None
    n: int
    interval: str


@dataclass(frozen=True, eq=False)
class Band:
    """Values along an axis and, at each point by itself, their interval (None below 5 seeds).

    A pointwise band says nothing of a curve as a whole: what happens over time (an area, a drop) is
    reduced to one number per run first and estimated from those.
    """

    x: Array
    value: Array
    low: Array | None
    high: Array | None
    n: int
    interval: str


@dataclass(frozen=True, eq=False)
class Scores:
    """One algorithm's score of every seed on every data set; whole and finite, or it does not exist.

    Attributes:
        datasets: Names, in alphabetical order.
        seeds: In ascending order.
        values: float64 (seeds, datasets), which is rliable's (runs, tasks).

    Raises:
        ValueError: This is no such rectangle; ``rectangle`` makes one and says what is wrong.
    """

    datasets: tuple[str, ...]
    seeds: tuple[int, ...]
    values: Array

    def __post_init__(self) -> None:
        named = self.datasets == tuple(sorted({*self.datasets})) and self.seeds == tuple(
            sorted({*self.seeds})
        )
        shaped = self.values.size and self.values.shape == (len(self.seeds), len(self.datasets))
        if not (named and shaped and np.isfinite(self.values).all()):
            raise ValueError("not a finite rectangle (seeds, datasets) of distinct, ordered names")


def rectangle(rows: Iterable[tuple[str, int, float | None]]) -> Scores:
    """Return the scores of one algorithm from (data set, seed, score) in any order.

    From a table: ``rectangle(zip(table.dataset, table.seed, table.score))``.

    Raises:
        ValueError: A seed is missing on a data set, is there twice, or has no finite score; all are named.
    """
    scores: dict[Run, float] = {}
    wrong: dict[str, list[Run]] = {"missing": [], "not finite": [], "there twice": []}
    for dataset, seed, score in rows:
        run = (str(dataset), int(seed))
        if run in scores:
            wrong["there twice"].append(run)
        scores[run] = math.nan if score is None else float(score)
        if not math.isfinite(scores[run]):
            wrong["not finite"].append(run)
    if not scores:
        raise ValueError("no scores")
    datasets = tuple(sorted({dataset for dataset, _ in scores}))
    seeds = tuple(sorted({seed for _, seed in scores}))
    wrong["missing"] = [(name, seed) for name in datasets for seed in seeds if (name, seed) not in scores]
    faults = [f"{fault}: {_named(runs)}" for fault, runs in wrong.items() if runs]
    if faults:
        raise ValueError(f"scores are {'; '.join(faults)}")
    values = np.array([[scores[name, seed] for name in datasets] for seed in seeds])
    return Scores(datasets, seeds, values)


def on_common_seeds(algorithms: Mapping[str, Iterable[tuple[str, int, float | None]]]) -> dict[str, Scores]:
    """Return comparable scores: the seeds that every algorithm has on every data set of any of them.

    The caller says which seeds that leaves out; ``seeds`` of the result are those that stay.

    Raises:
        ValueError: No seed is common to all, or a common one is there twice or not finite.
    """
    rows_of = {name: list(rows) for name, rows in algorithms.items()}
    datasets = {row[0] for rows in rows_of.values() for row in rows}
    runs = [{(row[0], row[1]) for row in rows} for rows in rows_of.values()]
    seeds = {seed for each in runs for _, seed in each}
    common = {seed for seed in seeds if all((name, seed) in each for name in datasets for each in runs)}
    if not common:
        raise ValueError("no seed is there on all data sets for all algorithms")
    return {name: rectangle(row for row in rows if row[1] in common) for name, rows in rows_of.items()}


# Aggregates of one algorithm


def mean_over_seeds(values: Sequence[float], replicates: int = REPLICATES) -> Estimate:
    """Estimate the mean of some runs on one data set (seeds,); ``aggregates`` says the same, slower."""
    scores = Scores(("",), tuple(range(len(values))), np.array(values, float)[:, None])
    return _mean_estimate(scores, replicates, STRATIFIED)


def aggregates(scores: Scores, replicates: int = REPLICATES) -> dict[Statistic, Estimate]:
    """Estimate mean, median, IQM and optimality gap of one algorithm, all from the same bootstrap draws."""
    from rliable import library

    def all_four(values: Array) -> Array:  # rliable's own spend most of the time in scipy's checks
        return np.array([of(values) for of in STATISTICS.values()])

    n, names = len(scores.seeds), tuple(STATISTICS)
    if n < FEW:
        return {name: _point(value, n) for name, value in zip(names, all_four(scores.values), strict=True)}
    with seeded_global_numbers():
        values, bounds = library.get_interval_estimates({"it": scores.values}, all_four, reps=replicates)
    kind = _kind(STRATIFIED, n)
    four = zip(names, values["it"], *bounds["it"], strict=True)
    return {name: Estimate(float(v), float(low), float(high), n, kind) for name, v, low, high in four}


def performance_profile(scores: Scores, thresholds: Array, replicates: int = REPLICATES) -> Band:
    """Estimate the share of runs that score above each threshold (arXiv:2108.13264, section 4.2).

    Args:
        scores: One algorithm's.
        thresholds: Scores (points,).
        replicates: Bootstrap draws.
    """
    from rliable import library

    def above(values: Array, thresholds: Array) -> Array:
        return np.asarray((values[:, :, None] > thresholds).mean(axis=(0, 1)))

    n = len(scores.seeds)
    if n < FEW:
        return Band(thresholds, above(scores.values, thresholds), None, None, n, NO_INTERVAL)
    with seeded_global_numbers():
        values, bounds = library.create_performance_profile(
            {"it": scores.values}, thresholds, custom_profile_func=above, reps=replicates
        )
    low, high = bounds["it"]
    return Band(thresholds, values["it"], low, high, n, _kind(POINTWISE, n))


def sample_efficiency(
    at: Mapping[int, Scores], statistic: Statistic = "iqm", replicates: int = REPLICATES
) -> Band:
    """Estimate a curve over environment steps with a pointwise band.

    Each draw takes whole runs, the same at all steps. (rliable draws other seeds at every step, which gives
    the same pointwise bands and takes 30 times as long.)

    Args:
        at: One algorithm's scores by environment step; the same runs at every step.
        statistic: What is shown of the runs at a step.
        replicates: Bootstrap draws.

    Raises:
        ValueError: A run is missing at a step.
    """
    steps = sorted(at)
    _require_same_runs({f"step {step}": at[step] for step in steps})
    of, n, x = STATISTICS[statistic], len(at[steps[0]].seeds), np.array(steps)
    value = np.array([of(at[step].values) for step in steps])
    if n < FEW:
        return Band(x, value, None, None, n, NO_INTERVAL)
    draws = _draws(at[steps[0]], replicates)
    low, high = np.array([_bounds(of(_drawn(at[step], draws))) for step in steps]).T
    return Band(x, value, low, high, n, _kind(POINTWISE, n))


def mean_curve(values: Array, replicates: int = REPLICATES) -> Band:
    """Estimate the mean of curves (seeds, points) of one data set; each draw takes whole runs."""
    n, points = values.shape
    x, value = np.arange(points), values.mean(axis=0)
    if n < FEW:
        return Band(x, value, None, None, n, NO_INTERVAL)
    times = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=replicates)
    low, high = _bounds(times @ values / n)
    return Band(x, value, low, high, n, _kind(POINTWISE, n))


# Comparisons of algorithms on the same data sets and seeds; a higher score is the better one


def probability_of_improvement(x: Scores, y: Scores, replicates: int = REPLICATES) -> Estimate:
    """Estimate how likely a run of X scores above a run of Y on the same data set; a tie counts half.

    All pairs of runs are compared, also of different seeds, and data sets are averaged (the Mann-Whitney
    statistic, arXiv:2108.13264, section 4.3). Seeds of X and Y are drawn independently, as if nothing was
    shared; where both start from the same pretraining run, ``paired_difference`` is the sharper question.
    """
    _require_same_runs({"X": x, "Y": y})
    n = len(x.seeds)
    first, second = x.values.T[:, :, None], y.values.T[:, None, :]
    wins = (first > second) + 0.5 * (first == second)  # (datasets, seeds of X, seeds of Y)
    value = wins.mean()
    if n < FEW:
        return _point(value, n)
    rng = np.random.default_rng(SEED)
    times_x, times_y = (_times_drawn(rng, x, replicates) for _ in range(2))
    drawn = ((times_x @ wins) * times_y).sum(axis=(0, 2)) / (n * n * len(x.datasets))
    return _estimate(value, drawn, n, INDEPENDENT)


def all_pairs(
    algorithms: Mapping[str, Scores], replicates: int = REPLICATES
) -> dict[tuple[str, str], Estimate]:
    """Estimate the probability of improvement of the first over the second, for all ordered pairs."""
    estimates = {}
    for x, y in combinations(sorted(algorithms), 2):
        estimate = probability_of_improvement(algorithms[x], algorithms[y], replicates)
        low, high = (None if bound is None else 1 - bound for bound in (estimate.high, estimate.low))
        estimates[x, y], estimates[y, x] = (
            estimate,
            Estimate(1 - estimate.value, low, high, estimate.n, estimate.interval),
        )
    return estimates


def ranks(algorithms: Mapping[str, Scores], replicates: int = REPLICATES) -> dict[str, Estimate]:
    """Estimate mean ranks: 1 is the best of the algorithms with that seed on that data set, ties share.

    The bootstrap draws seeds once for all algorithms, so what they share stays shared. A mean rank depends
    on who else takes part; below 5 seeds it is a description of these runs, not a ranking.
    """
    _require_same_runs(algorithms)
    every = np.stack([scores.values for scores in algorithms.values()])  # (algorithms, seeds, datasets)
    better, equal = every[:, None] < every[None], every[:, None] == every[None]
    rank = 0.5 + (better + 0.5 * equal).sum(axis=1)
    return {
        name: _mean_estimate(Scores(scores.datasets, scores.seeds, rank[i]), replicates, PAIRED)
        for i, (name, scores) in enumerate(algorithms.items())
    }


def paired_difference(x: Scores, y: Scores, replicates: int = REPLICATES) -> Estimate:
    """Estimate the mean of X minus Y, run by run.

    For a data set and a seed both fine-tune the same pretrained agent, so what that agent gave them cancels.
    The bootstrap draws the shared seeds anew within each data set, and a seed brings both of its runs along.
    """
    _require_same_runs({"X": x, "Y": y})
    return _mean_estimate(Scores(x.datasets, x.seeds, x.values - y.values), replicates, PAIRED)


# Statistics of (.., seeds, datasets), many draws at once; rliable has them for one


def _mean(values: Array) -> Array:
    return np.asarray(values.mean(axis=(-2, -1)))


def _median(values: Array) -> Array:
    return np.asarray(np.median(values.mean(axis=-2), axis=-1))


def _iqm(values: Array) -> Array:
    ordered = np.sort(values.reshape(*values.shape[:-2], -1), axis=-1)
    cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))


def _optimality_gap(values: Array) -> Array:
    return GAMMA - _mean(np.minimum(values, GAMMA))


STATISTICS: Mapping[Statistic, Callable[[Array], Array]] = {
    "mean": _mean,
    "median": _median,
    "iqm": _iqm,
    "optimality_gap": _optimality_gap,
}


# The bootstrap


@contextmanager
def seeded_global_numbers() -> Iterator[None]:
    """Seed numpy's global random numbers, which rliable draws from, and put them back as they were."""
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    try:
        np.random.seed(SEED)  # noqa: NPY002
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _draws(scores: Scores, replicates: int) -> Array:
    """Return which seeds are drawn (replicates, seeds, datasets), for each data set by itself."""
    n = len(scores.seeds)
    return np.random.default_rng(SEED).integers(n, size=(replicates, n, len(scores.datasets)))


def _drawn(scores: Scores, draws: Array) -> Array:
    return np.asarray(scores.values[draws, np.arange(len(scores.datasets))])


def _times_drawn(rng: np.random.Generator, scores: Scores, replicates: int) -> Array:
    """Return how often each seed is drawn in n draws (datasets, replicates, seeds)."""
    n = len(scores.seeds)
    return rng.multinomial(n, np.full(n, 1 / n), size=(len(scores.datasets), replicates)).astype(float)


def _mean_estimate(scores: Scores, replicates: int, kind: str) -> Estimate:
    """Estimate the mean over data sets and seeds, whose bootstrap interval is of this kind."""
    n, value = len(scores.seeds), _mean(scores.values)
    if n < FEW:
        return _point(value, n)
    return _estimate(value, _mean(_drawn(scores, _draws(scores, replicates))), n, kind)


def _bounds(drawn: Array) -> Array:
    """Return the percentile interval (2, ...) of bootstrap values (draws, ...)."""
    return np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _estimate(value: float | Array, drawn: Array, n: int, kind: str) -> Estimate:
    low, high = _bounds(drawn)
    return Estimate(float(value), float(low), float(high), n, _kind(kind, n))


def _point(value: float | Array, n: int) -> Estimate:
    return Estimate(float(value), None, None, n, NO_INTERVAL)


def _kind(interval: str, n: int) -> str:
    return f"{interval}, small n" if n < MANY else interval


# Checks


def _require_same_runs(named: Mapping[str, Scores]) -> None:
    """Refuse to compare what does not hold the same data sets and seeds."""
    if not named:
        raise ValueError("no scores")
    (first, scores), *others = named.items()
    for name, other in others:
        if (scores.datasets, scores.seeds) != (other.datasets, other.seeds):
            raise ValueError(f"{first} and {name} do not hold the same runs: {_difference(scores, other)}")


def _difference(x: Scores, y: Scores) -> str:
    datasets = sorted({*x.datasets} ^ {*y.datasets})
    seeds = sorted({*x.seeds} ^ {*y.seeds})
    parts = [f"data set {name}" for name in datasets] + [f"seed {seed}" for seed in seeds]
    return f"{', '.join(parts)} only in one of them"


def _named(runs: list[Run], most: int = 5) -> str:
    shown = ", ".join(f"{dataset} seed {seed}" for dataset, seed in runs[:most])
    return shown if len(runs) <= most else f"{shown} and {len(runs) - most} more"
