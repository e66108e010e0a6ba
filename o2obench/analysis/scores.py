"""Rectangles of scores, data sets x seeds, and which of their data sets show the same runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..transitions import Array

DatasetSeed = tuple[str, int]
"""A data set and a seed: the place of a run in a rectangle."""
Rows = Iterable[tuple[str, int, float | None]]
"""(data set, seed, score) in any order."""


@dataclass(frozen=True, eq=False)
class Scores:
    """One method's score of every seed on every data set; whole and finite, or it does not exist.

    Attributes:
        datasets: Names, in alphabetical order.
        seeds: In ascending order.
        values: float64 (seeds, datasets), which is rliable's (runs, tasks).
        clusters: A number for each data set (datasets,): data sets of one number show at least one common
            run, as those of a method without pretraining do. Left out: each is its own.

    Raises:
        ValueError: This is no such rectangle; ``rectangle`` makes one and says what is wrong.
    """

    datasets: tuple[str, ...]
    seeds: tuple[int, ...]
    values: Array
    clusters: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        named = self.datasets == tuple(sorted({*self.datasets})) and self.seeds == tuple(
            sorted({*self.seeds})
        )
        shaped = self.values.size and self.values.shape == (len(self.seeds), len(self.datasets))
        if not (named and shaped and np.isfinite(self.values).all()):
            raise ValueError("not a finite rectangle (seeds, datasets) of distinct, ordered names")
        if not self.clusters:
            object.__setattr__(self, "clusters", tuple(range(len(self.datasets))))

    def strata(self) -> list[tuple[float, Array]]:
        """Return each cluster's weight, its share of the data sets, and its mean score by seed (seeds,).

        Runs that several data sets show are one observation, not several: within a cluster a seed is
        averaged before seeds are treated as independent.
        """
        labels = np.array(self.clusters)
        members = [labels == label for label in dict.fromkeys(self.clusters)]
        return [(float(own.mean()), self.values[:, own].mean(axis=1)) for own in members]


def clusters_of(*labelings: Sequence[object]) -> tuple[int, ...]:
    """Return the connected components of data sets that share a label in any of the labelings.

    Args:
        labelings: Each names, for every data set in turn, a run or a cluster.
    """
    merged = list(range(len(labelings[0])))
    for labels in labelings:
        for i, j in combinations(range(len(merged)), 2):
            if labels[i] == labels[j] and merged[i] != merged[j]:
                merged = [merged[i] if label == merged[j] else label for label in merged]
    return tuple(merged)


def rectangle(rows: Rows, runs: Mapping[DatasetSeed, str] | None = None) -> Scores:
    """Return the scores of one method.

    From a table: ``rectangle(zip(table.dataset, table.seed, table.score))``.

    Args:
        rows: The scores.
        runs: The id of the run behind each score, where several data sets may show one; None: none do.

    Raises:
        ValueError: A seed is missing on a data set, is there twice, or has no finite score; all are named.
    """
    scores: dict[DatasetSeed, float] = {}
    wrong: dict[str, list[DatasetSeed]] = {"missing": [], "not finite": [], "there twice": []}
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
    faults = [f"{fault}: {_named(places)}" for fault, places in wrong.items() if places]
    if faults:
        raise ValueError(f"scores are {'; '.join(faults)}")
    values = np.array([[scores[name, seed] for name in datasets] for seed in seeds])
    ids = [[(runs or {}).get((name, seed), name) for name in datasets] for seed in seeds]
    return Scores(datasets, seeds, values, clusters_of(*ids))


def on_common_seeds(
    methods: Mapping[str, Rows], runs: Mapping[str, Mapping[DatasetSeed, str]] | None = None
) -> dict[str, Scores]:
    """Return comparable scores: the seeds that every method has on every data set of any of them.

    The caller says which seeds that leaves out; ``seeds`` of the result are those that stay.

    Args:
        methods: The scores of each method.
        runs: The runs behind them, as in ``rectangle``.

    Raises:
        ValueError: No seed is common to all, or a common one is there twice or not finite.
    """
    rows_of = {name: list(rows) for name, rows in methods.items()}
    datasets = {row[0] for rows in rows_of.values() for row in rows}
    places = [{(row[0], row[1]) for row in rows} for rows in rows_of.values()]
    seeds = {seed for each in places for _, seed in each}
    common = {seed for seed in seeds if all((name, seed) in each for name in datasets for each in places)}
    if not common:
        raise ValueError("no seed is there on all data sets for all algorithms")
    return {
        name: rectangle((row for row in rows if row[1] in common), (runs or {}).get(name))
        for name, rows in rows_of.items()
    }


def require_same_runs(named: Mapping[str, Scores]) -> None:
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


def _named(places: list[DatasetSeed], most: int = 5) -> str:
    shown = ", ".join(f"{dataset} seed {seed}" for dataset, seed in places[:most])
    return shown if len(places) <= most else f"{shown} and {len(places) - most} more"
