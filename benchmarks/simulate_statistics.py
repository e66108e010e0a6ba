"""How often the project's intervals hold the truth, and how often `o2obench compare` raises a false alarm.

Prints the tables of docs/measures.md and docs/compare.md; the functions that are simulated are those that the
report and the command use. About a minute::

    python benchmarks/simulate_statistics.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from o2obench.analysis.compare import LEVEL
from o2obench.analysis.inference import (
    difference_of,
    holm,
    mean_of,
    probability_of_improvement,
)
from o2obench.analysis.scores import Scores
from o2obench.transitions import Array

REPETITIONS = 10_000
SEEDS = (3, 5, 10, 20)
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
"""Scores of a shape, one for each run."""


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores around 60 that vary by 10."""
    return rng.normal(60, 10, shape)


def collapsing(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores around 60 that vary by 5; one seed in five ends at 10."""
    return np.where(rng.random(shape) < 0.2, 10, 60) + rng.normal(0, 5, shape)


def jackpot(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores around 20 that vary by 5; one seed in four ends at 90."""
    return np.where(rng.random(shape) < 0.25, 90, 20) + rng.normal(0, 5, shape)


DRAWS: dict[str, tuple[Draw, float]] = {
    "normal": (normal, 60.0),
    "20 % collapse": (collapsing, 50.0),
    "25 % jackpot": (jackpot, 37.5),
}
"""Name -> (how scores are drawn, their true mean)."""


def scores(values: Array, shared: bool = False) -> Scores:
    """Return scores (seeds, datasets), of data sets that show the same runs where ``shared``."""
    n, many = values.shape
    return Scores(
        tuple(f"data-{i:02d}" for i in range(many)), tuple(range(n)), values, (0,) * many if shared else ()
    )


def print_table(title: str, heads: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """Print a table as Markdown."""
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


Interval = Callable[[np.random.Generator, int], tuple[float, float]]
"""Draws scores of so many seeds and returns an interval of them."""


def shares_held(repetitions: int, interval: Interval, truth: float) -> list[str]:
    """Return, for each number of seeds, the share of repetitions in which an interval holds the truth."""
    shares = []
    for n in SEEDS:
        rng = np.random.default_rng(n)
        bounds = (interval(rng, n) for _ in range(repetitions))
        shares.append(sum(low <= truth <= high for low, high in bounds) / repetitions)
    return [f"{share:.1%}" for share in shares]


def of_mean(draw: Draw, datasets: int) -> Interval:
    """Return the t interval of a mean over data sets."""
    return lambda rng, n: mean_of(scores(draw(rng, (n, datasets)))).interval()


def of_shared(known: bool) -> Interval:
    """Return that of the difference to a method whose runs three data sets share."""

    def interval(rng: np.random.Generator, n: int) -> tuple[float, float]:
        shared = np.repeat(normal(rng, (n, 1)), 3, axis=1)
        return difference_of(scores(normal(rng, (n, 3))), scores(shared, known)).interval()

    return interval


def of_probability(apart: float) -> Interval:
    """Return that of the probability that one method's run is better than another's, so far apart."""

    def interval(rng: np.random.Generator, n: int) -> tuple[float, float]:
        found = probability_of_improvement(scores(normal(rng, (n, 1)) + apart), scores(normal(rng, (n, 1))))
        return found.low or 0.0, 1.0 if found.high is None else found.high

    return interval


def coverage_of_means(repetitions: int) -> Iterator[Sequence[str]]:
    """Yield how often the t interval of a mean holds it."""
    for name, (draw, truth) in DRAWS.items():
        for datasets in (1, 5):
            yield [name, str(datasets), *shares_held(repetitions, of_mean(draw, datasets), truth)]


def coverage_of_shared_runs(repetitions: int) -> Iterator[Sequence[str]]:
    """Yield how often the difference to a method that three data sets share holds its truth, 0."""
    for words, known in (("the data sets are one cluster", True), ("each counts as its own", False)):
        yield [words, *shares_held(repetitions, of_shared(known), 0.0)]


def coverage_of_probabilities(repetitions: int) -> Iterator[Sequence[str]]:
    """Yield how often the interval of P(improvement) holds the truth of two normal methods."""
    for apart, truth in ((0.0, 0.5), (10.0, 0.7602), (20.0, 0.9214)):
        yield [f"{truth:.2f}", *shares_held(repetitions, of_probability(apart), truth)]


def alarms(repetitions: int, draw: Draw, n: int, methods: int, worse: float = 0.0) -> float:
    """Return the share of calls of `compare` that call at least one method worse."""
    rng = np.random.default_rng(3)
    calls = 0
    for _ in range(repetitions):
        p_values = {}
        for method in map(str, range(methods)):
            start = rng.normal(0, 10, (n, 1))  # what both sides' runs of a seed share
            a, b = (scores(start + draw(rng, (n, 1)) - lower) for lower in (0.0, worse))
            p_values[method] = difference_of(b, a).p_below()
        calls += min(holm(p_values).values()) < LEVEL
    return calls / repetitions


def false_alarms(repetitions: int) -> Iterator[Sequence[str]]:
    """Yield how often a call says worse where nothing differs."""
    for name in ("normal", "20 % collapse"):
        for methods in (1, 8):
            shares = [alarms(repetitions // 4, DRAWS[name][0], n, methods) for n in SEEDS[1:]]
            yield [name, str(methods), *(f"{share:.1%}" for share in shares)]


def power(repetitions: int) -> Iterator[Sequence[str]]:
    """Yield how often one method that is worse is called so."""
    for name in ("normal", "20 % collapse"):
        for worse in (10.0, 20.0):
            shares = [alarms(repetitions // 4, DRAWS[name][0], n, 1, worse) for n in SEEDS[1:]]
            yield [name, f"{worse:g} points", *(f"{share:.0%}" for share in shares)]


def main(repetitions: int = REPETITIONS) -> None:
    """Print all tables."""
    seeds = [f"{n} seeds" for n in SEEDS]
    print_table(
        "How often a 95 % interval of a mean holds it",
        ["scores", "data sets", *seeds],
        coverage_of_means(repetitions),
    )
    print_table(
        "Three data sets that share one method's runs, no difference",
        ["", *seeds],
        coverage_of_shared_runs(repetitions),
    )
    print_table(
        "How often a 95 % interval of P(improvement) holds it",
        ["truth", *seeds],
        coverage_of_probabilities(repetitions),
    )
    print_table(
        "How often a whole call of compare says worse where nothing differs",
        ["scores", "methods", *seeds[1:]],
        false_alarms(repetitions),
    )
    print_table(
        "How often it says so where one method is worse", ["scores", "by", *seeds[1:]], power(repetitions)
    )


if __name__ == "__main__":
    main()
