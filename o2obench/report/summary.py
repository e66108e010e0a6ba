"""Everything the report knows of one plan, computed once; tables and figures only show it.

The unit is the run: one method on one data set with one seed, reduced to named numbers. Seeds are averaged
after that, and algorithms are compared only on the seeds that all of them have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..analysis import measures, statistics
from ..analysis.measures import FineTuning, Reached
from ..analysis.results import Problem, Shown, episodes, evaluations, logged, read, seconds
from ..analysis.statistics import FEW, Estimate, Scores, Statistic
from ..planning.plan import Experiment, Plan
from ..runs.folder import ResultsFolder
from ..transitions import Array
from .format import count, listed, mean, of_asked
from .options import DEFAULT, ReportOptions

if TYPE_CHECKING:
    from ..analysis.external import ExternalResult

CONTROL = "frozen"
"""The algorithm that never learns: what noise alone makes of a measure, from the same pretraining."""
OFFLINE, START, FINAL, CHANGE = "offline score", "score at the online start", "final score", "change"
COLLAPSE, RECOVER, NEARLY, REGRET = "collapse", "steps to recover", "steps to nearly the best", "regret"


@dataclass(frozen=True)
class Metric:
    """What a number of a run is: its unit, how it is written, which direction is better (None: neither)."""

    name: str
    unit: str = "score"
    form: str = "{:.1f}"
    higher_is_better: bool | None = True


METRICS = {
    metric.name: metric
    for metric in (
        Metric(OFFLINE, higher_is_better=None),
        Metric(START, higher_is_better=None),
        *(
            Metric(
                m.name,
                m.unit,
                "{:+.1f}" if m.name in (CHANGE, "improvement per 1,000 steps") else "{:.1f}",
                m.higher_is_better,
            )
            for m in measures.MEASURES
        ),
        Metric(COLLAPSE, "runs", "{:.0%}", False),
        Metric(RECOVER, "steps", "{:,.0f}", False),
        Metric(NEARLY, "steps", "{:,.0f}", False),
        Metric(REGRET, "score", "{:.1f}", False),
    )
}


def at(steps: int) -> str:
    """Return the name of the score at a number of environment steps."""
    return f"score at {steps:,} steps"


def metric_of(name: str) -> Metric:
    """Return what a number is; scores at reporting steps are scores."""
    return METRICS.get(name, Metric(name))


@dataclass(frozen=True, eq=False)
class RunMetrics:
    """One run: its numbers by name (None: does not apply), and which of them are lower bounds."""

    seed: int
    values: Mapping[str, float | None]
    updates: int
    hours: float
    censored: frozenset[str] = frozenset()
    fine_tuning: FineTuning | None = None


@dataclass(frozen=True, eq=False)
class MethodResult:
    """One method on one data set, with the seeds that may be used.

    ``pretraining`` names what it starts from, empty where it starts from nothing; ``automatic``: a control
    that nobody asked for. ``schedule``: learning_starts and utd_ratio, where it learns online.
    """

    method: str
    algorithm: str
    dataset: str
    asked: int
    runs: tuple[RunMetrics, ...]
    schedule: Mapping[str, int]
    env_steps: int
    is_online: bool
    pretraining: str
    automatic: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are shown."""
        return tuple(run.seed for run in self.runs)

    @property
    def n(self) -> str:
        """How many seeds are shown, of how many where some are missing."""
        return of_asked(len(self.runs), self.asked)

    @property
    def start(self) -> tuple[float, ...]:
        """The scores at the online start; of an offline algorithm those of its first evaluation."""
        return tuple(self.of(START).values())

    @property
    def final(self) -> tuple[float, ...]:
        """The scores of the last evaluations."""
        return tuple(self.of(FINAL).values())

    @property
    def updates(self) -> int:
        """The most updates a seed made."""
        return max((run.updates for run in self.runs), default=0)

    @property
    def hours(self) -> float:
        """Process hours per run, without its pretraining."""
        return mean([run.hours for run in self.runs]) if self.runs else 0.0

    def of(self, name: str) -> dict[int, float]:
        """Return a metric by seed, where it applies."""
        values = {run.seed: run.values.get(name) for run in self.runs}
        return {seed: value for seed, value in values.items() if value is not None}

    def estimate(self, name: str) -> Estimate | None:
        """Estimate the mean of a metric over seeds; None where it applies to no seed."""
        values = tuple(self.of(name).values())
        return statistics.mean_over_seeds(values) if values else None

    def censored(self, name: str) -> int:
        """Return in how many runs a metric is only a lower bound."""
        return sum(name in run.censored for run in self.runs)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What may be compared: the same seeds on the same data sets for every method; and what was left out."""

    scores: Mapping[str, Scores]
    left_out: tuple[str, ...]

    @property
    def n(self) -> int:
        """The seeds that all have; 0 where there are none."""
        return len(next(iter(self.scores.values())).seeds) if self.scores else 0

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets behind it."""
        return next(iter(self.scores.values())).datasets if self.scores else ()


@dataclass(frozen=True, eq=False)
class Summary:
    """What one plan's folders say.

    Attributes:
        plan: The plan.
        results: The results folder.
        shown: The experiments that are used, with what their runs evaluated.
        problems: The experiments that are not, each with its reason.
        method_results: One for every method and data set, also where no seed is usable; data set by data set.
        external: Results of others, to stand beside ours.
        chosen: The method that a reader wants others compared with; empty: the plan's.
    """

    plan: Plan
    results: ResultsFolder
    shown: tuple[Shown, ...]
    problems: tuple[Problem, ...]
    method_results: tuple[MethodResult, ...]
    external: tuple[ExternalResult, ...] = ()
    chosen: str = ""

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """All data sets of the plan."""
        return tuple(dict.fromkeys(result.dataset for result in self.method_results))

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """All methods of the plan, in its order."""
        return tuple(dict.fromkeys(experiment.method for experiment in self.plan.experiments))

    @cached_property
    def asked_methods(self) -> tuple[str, ...]:
        """The methods that the suite names: no automatic control."""
        return tuple(
            dict.fromkeys(
                experiment.method for experiment in self.plan.experiments if not experiment.automatic
            )
        )

    @cached_property
    def by_name(self) -> dict[tuple[str, str], MethodResult]:
        """The results by (method, data set)."""
        return {(result.method, result.dataset): result for result in self.method_results}

    def on(self, dataset: str) -> list[MethodResult]:
        """Return the results on a data set."""
        return [result for result in self.method_results if result.dataset == dataset]

    def asked(self) -> list[MethodResult]:
        """Return the results of the methods that the suite names."""
        return [result for result in self.method_results if not result.automatic]

    def evaluations(self, dataset: str = "") -> pd.DataFrame:
        """Return one row per evaluation of the experiments that are used, on a data set or on all."""
        return evaluations(self.plan, self._shown(dataset))

    def episodes(self, dataset: str = "") -> pd.DataFrame:
        """Return the training episodes of the fine-tuning runs that are used."""
        return episodes(self.plan, self._shown(dataset))

    def logged(self, names: Collection[str], dataset: str = "") -> pd.DataFrame:
        """Return what the agents of the fine-tuning runs that are used logged under these names."""
        return logged((shown.experiment for shown in self._shown(dataset)), self.results, names)

    def _shown(self, dataset: str) -> Iterator[Shown]:
        return (shown for shown in self.shown if dataset in ("", shown.experiment.dataset))

    @cached_property
    def online_methods(self) -> tuple[str, ...]:
        """The methods that start from a pretraining or interact with the environment."""
        online = {result.method for result in self.method_results if result.is_online}
        return tuple(name for name in self.methods if name in online)

    @cached_property
    def pretrainings(self) -> tuple[str, ...]:
        """What methods start from, in the plan's order."""
        return tuple(
            dict.fromkeys(
                experiment.pretraining for experiment in self.plan.experiments if experiment.pretraining
            )
        )

    @cached_property
    def starts_differ(self) -> bool:
        """Whether methods start from different pretrainings, so that only changes compare them."""
        return len(self.pretrainings) > 1

    @cached_property
    def reference(self) -> str:
        """The method that others are compared with; empty: each with the control of its own pretraining."""
        return next((name for name in (self.chosen, self.plan.reference) if name in self.methods), "")

    def control_of(self, result: MethodResult) -> MethodResult | None:
        """Return the control of a method's pretraining; None for controls and for learning from scratch."""
        if not result.pretraining or result.algorithm == CONTROL:
            return None
        same = (other for other in self.on(result.dataset) if other.pretraining == result.pretraining)
        return next((other for other in same if other.algorithm == CONTROL), None)

    def reference_of(self, method: str) -> str:
        """Return the method that one is compared with; empty for that itself, and where there is none."""
        if self.reference:
            return self.reference if self.reference != method else ""
        controls = {self.control_of(r) for r in self.method_results if r.method == method} - {None}
        return next((control.method for control in controls if control), "")

    def beside_control(self, result: MethodResult, name: str) -> Estimate | None:
        """Estimate a metric minus the control's, on the seeds that both have; None without a control."""
        control = self.control_of(result)
        if control is None:
            return None
        mine, theirs = result.of(name), control.of(name)
        both = [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]
        return statistics.mean_over_seeds(both) if both else None

    def collapses(self, result: MethodResult) -> measures.Rate | None:
        """Return how many of a method's runs collapsed."""
        return measures.collapse_rate(run.fine_tuning for run in result.runs if run.fine_tuning)

    @property
    def lead(self) -> str:
        """The metric by which methods are compared: the final score, or the change where starts differ."""
        return CHANGE if self.starts_differ else FINAL

    @property
    def compared(self) -> str:
        """The same in words, for titles."""
        return "changes from the pretraining" if self.starts_differ else "final scores"

    @cached_property
    def comparison(self) -> Comparison:
        """What is compared across data sets: final scores, or changes where starts differ."""
        return self._compare(self.lead)

    @cached_property
    def final_comparison(self) -> Comparison:
        """Final scores across data sets: methods that start from nothing have no change to compare."""
        return self._compare(FINAL) if self.starts_differ else self.comparison

    def _compare(self, name: str) -> Comparison:
        """Return a metric of the online methods on the seeds that all of them have."""
        datasets, notes = self.datasets, list[str]()
        lacks: dict[tuple[str, ...], list[str]] = {}
        by_method: dict[str, list[tuple[str, int, float]]] = {}
        for method in self.online_methods:
            results = [self.by_name.get((method, dataset)) for dataset in datasets]
            each = [[(r.dataset, s, v) for s, v in r.of(name).items()] if r else [] for r in results]
            lacking = tuple(dataset for dataset, rows in zip(datasets, each, strict=True) if not rows)
            if lacking:
                lacks.setdefault(lacking, []).append(method)
            else:
                by_method[method] = [row for rows in each for row in rows]
        for lacking, methods in lacks.items():
            notes.append(f"left out, no {name} on {listed(lacking)}: {', '.join(methods)}")
        if not by_method:
            return Comparison({}, tuple(notes))
        try:
            scores = statistics.on_common_seeds(by_method)
        except ValueError:
            return Comparison({}, (*notes, "no seed is there for all methods on all data sets"))
        common = set(next(iter(scores.values())).seeds)
        others: dict[tuple[int, ...], list[str]] = {}
        for method, rows in by_method.items():
            others.setdefault(tuple(sorted({row[1] for row in rows} - common)), []).append(method)
        notes += [
            f"seed {listed(seeds)} left out, not all methods have it everywhere: {', '.join(methods)}"
            for seeds, methods in others.items()
            if seeds
        ]
        return Comparison(scores, tuple(notes))

    @cached_property
    def lacking(self) -> list[str]:
        """What is not shown and why, a line for all seeds of a method on a data set that share the reason."""
        groups: dict[tuple[str, str, str], list[int]] = {}
        for problem in self.problems:
            groups.setdefault((problem.method, problem.dataset, problem.what), []).append(problem.seed)
        return [
            f"{method} on {data}, seed {listed(seeds)}: {reason}"
            for (method, data, reason), seeds in groups.items()
        ]

    @cached_property
    def aggregated(self) -> dict[str, dict[Statistic, Estimate]]:
        """Mean, median, IQM and optimality gap by method; the most expensive numbers."""
        return {method: statistics.aggregates(scores) for method, scores in self.comparison.scores.items()}

    @cached_property
    def pairs(self) -> dict[tuple[str, str], Estimate]:
        """The probability of improvement of the first over the second, for all ordered pairs."""
        return statistics.all_pairs(self.comparison.scores)

    @cached_property
    def account(self) -> dict[str, int]:
        """Planned = shown + all the others, by why they are not shown."""
        reasons = Counter(_kind(problem) for problem in self.problems)
        shown = len(self.plan.experiments) - len(self.problems)
        return {"planned": len(self.plan.experiments), "shown": shown, **dict(sorted(reasons.items()))}


def summarise(
    plan: Plan,
    results: ResultsFolder,
    options: ReportOptions = DEFAULT,
    external: Sequence[ExternalResult] = (),
) -> Summary:
    """Read the folders of a plan and compute all its numbers; what is corrupted is named and left out."""
    shown, problems = read(plan, results, options.watch)
    first: dict[tuple[str, str], Experiment] = {}
    asked = Counter((planned.method, planned.dataset) for planned in set(plan.experiments))
    for experiment in plan.experiments:
        first.setdefault((experiment.method, experiment.dataset), experiment)
    runs: dict[tuple[str, str], list[RunMetrics]] = {key: [] for key in first}
    used = list[Shown]()
    for candidate in shown:
        experiment = candidate.experiment
        key = (experiment.method, experiment.dataset)
        try:
            runs[key].append(_run_metrics(plan, results, candidate))
        except ValueError as error:
            problems.append(Problem(*key, experiment.seed, f"{experiment.algorithm}: {error}"))
        else:
            used.append(candidate)
    each = [_method_result(plan, planned, asked[key], runs[key]) for key, planned in first.items()]
    order = dict.fromkeys(planned.dataset for planned in plan.experiments)
    ordered = [
        timed
        for dataset in order
        for timed in _timed([result for result in each if result.dataset == dataset])
    ]
    shown_problems = (tuple(used), tuple(problems))
    return Summary(plan, results, *shown_problems, tuple(ordered), tuple(external), options.reference)


def _method_result(
    plan: Plan, experiment: Experiment, asked: int, runs: Iterable[RunMetrics]
) -> MethodResult:
    run = plan.run(experiment.run)
    return MethodResult(
        *(experiment.method, experiment.algorithm, experiment.dataset, asked, tuple(runs)),
        schedule=plan.schedules[run.group],
        env_steps=plan.work(run)[1],
        is_online=plan.is_online(run),
        pretraining=experiment.pretraining,
        automatic=experiment.automatic,
    )


def _run_metrics(plan: Plan, results: ResultsFolder, shown: Shown) -> RunMetrics:
    """Reduce one run to its numbers; raise ValueError where its rows are not those of one run."""
    run, scores = plan.run(shown.experiment.run), plan.scores[shown.experiment.dataset]
    hours = seconds(run, results) / 3600
    if not shown.is_online:
        first, last = scores.score(shown.own.mean_returns[[0, -1]]).tolist()
        values = {OFFLINE: last, START: first, FINAL: last, CHANGE: None}
        return RunMetrics(run.seed, values, int(shown.own.updates[-1]), hours)
    own = measures.fine_tuning_of(shown, scores, plan.work(run)[1])
    offline = shown.pretraining and float(scores.score(shown.pretraining.mean_returns[-1]))
    collapsed, recovered = measures.collapse(own), measures.steps_to_recover(own)
    values = {
        OFFLINE: offline,
        START: float(own.scores[0]),
        **{at(mark): measures.score_at(own, mark) for mark in plan.reporting_steps},
        **{measure.name: measure.of(own) for measure in measures.MEASURES},
        COLLAPSE: None if collapsed is None else float(collapsed),
        RECOVER: float(recovered.steps) if recovered else None,
        REGRET: measures.regret(own, float(own.scores[0])),
    }
    if shown.pretraining is None:
        values[CHANGE] = None  # there is nothing that it changes
    censored = frozenset((RECOVER,) if recovered and recovered.censored else ())
    return RunMetrics(run.seed, values, int(own.updates[-1]), hours, censored, own)


def _timed(results: list[MethodResult]) -> list[MethodResult]:
    """Add the steps to nearly the best, which need the best final score of a method on the data set."""
    best = max((mean(result.final) for result in results if result.is_online and result.runs), default=0.0)
    return [replace(result, runs=tuple(_reaches(run, best) for run in result.runs)) for result in results]


def _reaches(run: RunMetrics, best: float) -> RunMetrics:
    reached: Reached | None = measures.steps_to_nearly(run.fine_tuning, best) if run.fine_tuning else None
    if reached is None:
        return run
    censored = run.censored | ({NEARLY} if reached.censored else set())
    return replace(run, values={**run.values, NEARLY: float(reached.steps)}, censored=censored)


def headline(summary: Summary) -> str:
    """Say in a few words what came out and how much is missing. No ranking below 5 seeds."""
    shown, planned = summary.account["shown"], summary.account["planned"]
    if not shown:
        return "No run of this suite is finished yet."
    tuned = [result for result in summary.method_results if result.runs and summary.control_of(result)]
    tuned = tuned or [
        result
        for result in summary.method_results
        if result.runs and result.pretraining and result.algorithm != CONTROL
    ]
    parts = [f"{shown:,} of {planned:,} runs are shown"]
    if tuned:
        up = sum(mean(result.final) > mean(result.start) for result in tuned)
        parts.append(
            f"the mean score rose after the online start in {up} of {count(len(tuned), 'combination')} of "
            "learning algorithm and data set"
        )
        fell = [rate for result in tuned if (rate := summary.collapses(result))]
        if fell:
            parts.append(
                f"{sum(r.count for r in fell)} of {count(sum(r.n for r in fell), 'run')} collapsed on the way"
            )
    n = summary.comparison.n
    if n < FEW:
        parts.append(f"{count(n, 'common seed')} {'is' if n == 1 else 'are'} too few to rank algorithms")
    return "; ".join(parts) + "."


def _kind(problem: Problem) -> str:
    """Return why an experiment is not shown, in a word or two."""
    state = problem.what.split(": ")[1:2]
    words = {
        "waiting": "not begun",
        "interrupted": "interrupted",
        "running": "running",
        "stale": "interrupted",
        "failed": "failed",
        "diverged": "diverged",
    }
    return words.get(state[0] if state else "", "not usable")


def on_common_steps(runs: Sequence[FineTuning]) -> tuple[Array, Array]:
    """Return (steps, scores (runs, steps)) at the clocks that all of some runs have."""
    if not runs:
        return np.empty(0), np.empty((0, 0))
    common = sorted(set.intersection(*(set(run.env_steps.tolist()) for run in runs)))
    scores = [[run.scores[run.env_steps <= step][-1] for step in common] for run in runs]
    return np.array(common), np.array(scores)
