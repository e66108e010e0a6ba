"""What tuning costs: the settings of a method in a suite that sweeps options, and what choosing buys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..analysis.tuning import FEWEST_SEEDS, FEWEST_SETTINGS, Price, price_of_tuning, sensitivity
from ..transitions import Array
from .cells import Column, Row, Table, Value, whole
from .format import mean, written
from .metrics import FINAL, metric_of
from .summary import MethodResult, Summary


@dataclass(frozen=True)
class Sweep:
    """The settings of one algorithm from one pretraining on a data set; ``prices`` is empty below 5 seeds."""

    name: str
    dataset: str
    methods: tuple[str, ...]
    prices: tuple[Price, ...]
    sensitivity: Mapping[str, Mapping[str, float]]


def sweeps(summary: Summary) -> list[Sweep]:
    """Return the sweeps of a summary that have at least 4 settings."""
    groups: dict[tuple[str, str, str], list[MethodResult]] = {}
    for result in summary.asked():
        if result.of(summary.lead):
            groups.setdefault((result.dataset, result.algorithm, result.pretraining), []).append(result)
    several = Counter((dataset, algorithm) for dataset, algorithm, _ in groups)
    found = []
    for (dataset, algorithm, pretraining), results in groups.items():
        if len(results) >= FEWEST_SETTINGS:
            name = f"{algorithm} ({pretraining})" if several[dataset, algorithm] > 1 else algorithm
            found.append(_sweep(summary, name, results))
    return found


def _sweep(summary: Summary, name: str, results: list[MethodResult]) -> Sweep:
    seeds = sorted(set.intersection(*(set(result.of(summary.lead)) for result in results)))

    def numbers(metric: str) -> Array:
        return np.array([[result.of(metric)[seed] for seed in seeds] for result in results])

    experiments = {(e.method, e.dataset): e for e in summary.plan.experiments}
    runs = [summary.plan.run(experiments[result.method, result.dataset].run) for result in results]
    scores = numbers(summary.lead)
    per_try = results[0].env_steps + round(runs[0].spec.protocol.final_episodes * _episode_length(results))
    return Sweep(
        name,
        results[0].dataset,
        tuple(result.method for result in results),
        tuple(price_of_tuning(numbers(FINAL), scores, per_try)),
        sensitivity([run.spec.config for run in runs], scores) if len(seeds) else {},
    )


def _episode_length(results: list[MethodResult]) -> float:
    """Return the mean length of training episodes: what an evaluation episode costs is not recorded."""
    runs = [run.fine_tuning for result in results for run in result.runs if run.fine_tuning]
    ends = [run.episode_ends for run in runs if len(run.episode_ends)]
    return mean([float(each[-1] / len(each)) for each in ends]) if ends else 0.0


def tuning(summary: Summary) -> Table:
    """What the best of k random settings scores on other seeds, and how much each option matters."""
    rows, form = [], metric_of(summary.lead).form
    for sweep in sweeps(summary):
        options = "; ".join(
            f"{option}: {', '.join(f'{value} {written(score, form)}' for value, score in values.items())}"
            for option, values in sweep.sensitivity.items()
        )
        head = (Value(sweep.dataset), Value(sweep.name))
        if not sweep.prices:
            rows.append(Row("", sweep.dataset, (*head, *[Value("n/a")] * 3), options))
        for price in sweep.prices:
            span = f" ({written(price.low, form)} to {written(price.high, form)})"
            score = Value(written(price.score, form) + span, price.score)
            cells = (*head, whole(price.tried), whole(price.env_steps), score)
            rows.append(Row("", sweep.dataset, cells, options if price is sweep.prices[-1] else ""))
    return Table(
        "tuning",
        "The price of tuning",
        f"Of {FEWEST_SETTINGS} settings and {FEWEST_SEEDS} seeds on, else n/a: so many random settings are "
        "tried on one seed, the one with the best last evaluation is taken, and its "
        f"{summary.lead} counts on the other seeds; mean over all subsets of settings and all seeds, in "
        "parentheses the least and the greatest seed that was chosen on. Environment steps: of fine-tuning "
        "and of the evaluation that is chosen by, at the mean length of a training episode. Below: the mean "
        "over all settings that share a value, option by option.",
        (
            *(Column("data set", text=True), Column("algorithm", text=True)),
            *(
                Column("settings tried"),
                Column("env steps", "steps"),
                Column(summary.lead, "score", "higher"),
            ),
        ),
        tuple(rows),
    )
