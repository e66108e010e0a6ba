"""Everything the report knows of one plan, computed once; tables and figures only show it.

The unit is the run: one method on one data set with one seed, reduced to named numbers. Seeds are averaged
after that, and algorithms are compared only on the seeds that all of them have.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..analysis import measures, statistics
from ..analysis.inference import (
    BY_T,
    Estimate,
    Mark,
    Sample,
    estimated,
    exact_interval,
    marks,
    mean_of,
    mean_over_seeds,
)
from ..analysis.measures import LEVELS, FineTuning
from ..analysis.results import (
    Problem,
    Shown,
    episodes,
    evaluations,
    hours_by_progress,
    logged,
    read,
    read_parts,
)
from ..analysis.scores import DatasetSeed, Scores, on_common_seeds
from ..analysis.statistics import Statistic
from ..planning.plan import Experiment, Plan
from ..runs.folder import ResultsFolder
from ..transitions import Array
from .format import interval, listed, mean, of_asked
from .metrics import (
    AREA,
    CHANGE,
    COLLAPSE,
    FINAL,
    GAINED,
    NOISE,
    OFFLINE,
    RECOVER,
    START,
    WINDOW,
    at,
    metric_of,
    reaching,
)
from .options import DEFAULT, ReportOptions

if TYPE_CHECKING:
    from ..analysis.external import ExternalResult

CONTROL = "frozen"
"""The algorithm that never learns: what noise alone makes of a measure, from the same pretraining."""


@dataclass(frozen=True, eq=False)
class RunMetrics:
    """One run: its numbers by name (None: does not apply), and which of them are lower bounds.

    ``id`` names its folder and ``parent`` that of its pretraining run, empty where it starts from nothing;
    ``clock`` holds the hours that had passed at each evaluation (rows,).
    """

    seed: int
    values: Mapping[str, float | None]
    updates: int
    hours: float
    censored: frozenset[str] = frozenset()
    fine_tuning: FineTuning | None = None
    id: str = ""
    parent: str = ""
    clock: Array | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """A run that is not finished, as far as it has come; it is drawn, and never counted."""

    method: str
    dataset: str
    seed: int
    state: str
    fine_tuning: FineTuning


@dataclass(frozen=True)
class Failures:
    """In how many of ``n`` runs a method failed, collapsed or diverged, with the exact 95 % interval."""

    count: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """The probability of a failure: least and greatest (Clopper-Pearson)."""
        return exact_interval(self.count, self.n)


@dataclass(frozen=True, eq=False)
class MethodResult:
    """One method on one data set, with the seeds that may be used.

    ``pretraining`` names what it starts from, empty where it starts from nothing; ``automatic``: a control
    that nobody asked for. ``schedule``: learning_starts and utd_ratio, where it learns online. ``diverged``:
    runs whose numbers were no longer finite, as if they had gone on with a score of 0; never among ``runs``.
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
    diverged: tuple[RunMetrics, ...] = ()

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
        return mean_over_seeds(values) if values else None

    def sample(self, name: str) -> Sample:
        """Return a metric by seed with the pretraining runs behind it, as tests need them."""
        return Sample(self.of(name), {run.seed: run.parent for run in self.runs})

    def with_diverged(self, name: str) -> list[float]:
        """Return a metric of all runs, the diverged ones among them."""
        values = [run.values.get(name) for run in (*self.runs, *self.diverged)]
        return [value for value in values if value is not None]

    @property
    def failures(self) -> Failures | None:
        """The runs that collapsed or diverged, of those that could; None where none could collapse."""
        answers = self.of(COLLAPSE)
        n = len(answers) + len(self.diverged)
        return Failures(int(sum(answers.values())) + len(self.diverged), n) if n else None

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
        parts: The fine-tuning runs that have begun and are not finished.
    """

    plan: Plan
    results: ResultsFolder
    shown: tuple[Shown, ...]
    problems: tuple[Problem, ...]
    method_results: tuple[MethodResult, ...]
    external: tuple[ExternalResult, ...] = ()
    chosen: str = ""
    parts: tuple[Part, ...] = ()

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
        return mean_over_seeds(both) if both else None

    def in_words(self, dataset: str = "") -> str:
        """Return the leading metric of every method, the highest first, for those who do not see a figure."""
        if dataset:
            each = {r.method: r.estimate(self.lead) for r in self.on(dataset) if r.is_online}
        else:
            scores = self.comparison.scores
            each = {m: estimated(mean_of(of), len(of.seeds), BY_T) for m, of in scores.items()}
        known = sorted(((e, m) for m, e in each.items() if e), key=lambda pair: -pair[0].value)
        form = metric_of(self.lead).form
        told = "; ".join(f"{method} {interval(estimate, form)}" for estimate, method in known)
        return f"By {self.lead}, highest first: {told}." if told else ""

    def marks(self, dataset: str, name: str) -> dict[str, Mark]:
        """Return how each online method on a data set stands to the one with the highest mean."""
        return marks({r.method: r.sample(name) for r in self.on(dataset) if r.is_online})

    @property
    def lead(self) -> str:
        """The metric by which methods are compared: the area, or what it gained where starts differ."""
        return GAINED if self.starts_differ else AREA

    @property
    def compared(self) -> str:
        """The same in words, for titles."""
        return "areas above the start" if self.starts_differ else "areas under the fine-tuning curve"

    @cached_property
    def comparison(self) -> Comparison:
        """What is compared across data sets: the leading metric of the methods that have it."""
        return self.compared_by(self.lead)

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """The metrics by which methods are compared, the leading one first.

        A method that starts from nothing has gained nothing, and one that learns after its last step has no
        area: each is compared by the first metric that it has.
        """
        others = [name for name in (AREA, WINDOW) if name != self.lead]
        return {self.lead: self.comparison, **{name: self.compared_by(name) for name in others}}

    def compared_by(self, name: str) -> Comparison:
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
            scores = on_common_seeds(by_method, {method: self.runs_of(method) for method in by_method})
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

    def at_steps(self, method: str, common: Scores) -> dict[int, Scores]:
        """Return a method's scores at every environment step at which all these runs were evaluated."""
        runs = {
            (dataset, run.seed): run.fine_tuning
            for dataset in common.datasets
            for run in self.by_name[method, dataset].runs
            if run.fine_tuning and run.seed in common.seeds
        }
        steps, scores = on_common_steps(
            [runs[dataset, seed] for dataset in common.datasets for seed in common.seeds]
        )
        each = scores.T.reshape(len(steps), len(common.datasets), len(common.seeds))
        return {
            step: Scores(common.datasets, common.seeds, values.T, common.clusters)
            for step, values in zip(steps.tolist(), each, strict=True)
        }

    def runs_of(self, method: str) -> dict[DatasetSeed, str]:
        """Return the run behind each seed of a method: several data sets may show one."""
        results = (result for result in self.method_results if result.method == method)
        return {(result.dataset, run.seed): run.id for result in results for run in result.runs}

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
    lost: dict[tuple[str, str], list[RunMetrics]] = {key: [] for key in first}
    parts = tuple(_parts(plan, results)) if problems else ()
    for part in (part for part in parts if part.state == "diverged"):
        own = measures.diverged(part.fine_tuning)
        lost[part.method, part.dataset].append(
            RunMetrics(part.seed, _of_fine_tuning(plan, own), int(own.updates[-1]), 0.0)
        )
    each = [_method_result(plan, planned, asked[key], runs[key], lost[key]) for key, planned in first.items()]
    order = list(dict.fromkeys(planned.dataset for planned in plan.experiments))
    ordered = sorted(each, key=lambda result: order.index(result.dataset))
    shown_problems = (tuple(used), tuple(problems))
    return Summary(plan, results, *shown_problems, tuple(ordered), tuple(external), options.reference, parts)


def _parts(plan: Plan, results: ResultsFolder) -> Iterator[Part]:
    for experiment, state, read_so_far in read_parts(plan, results):
        run = plan.run(experiment.run)
        if plan.is_online(run):
            with contextlib.suppress(ValueError):  # not the rows of one run: the next start begins anew
                so_far = measures.rows_of(read_so_far, plan.scores[experiment.dataset], plan.work(run)[1])
                yield Part(experiment.method, experiment.dataset, experiment.seed, state, so_far)


def _method_result(
    plan: Plan,
    experiment: Experiment,
    asked: int,
    runs: Iterable[RunMetrics],
    diverged: Iterable[RunMetrics],
) -> MethodResult:
    run = plan.run(experiment.run)
    return MethodResult(
        *(experiment.method, experiment.algorithm, experiment.dataset, asked, tuple(runs)),
        schedule=plan.schedules[run.group],
        env_steps=plan.work(run)[1],
        is_online=plan.is_online(run),
        pretraining=experiment.pretraining,
        automatic=experiment.automatic,
        diverged=tuple(diverged),
    )


def _run_metrics(plan: Plan, results: ResultsFolder, shown: Shown) -> RunMetrics:
    """Reduce one run to its numbers; raise ValueError where its rows are not those of one run."""
    run, scores = plan.run(shown.experiment.run), plan.scores[shown.experiment.dataset]
    progress, hours_so_far = zip(*hours_by_progress(run, results), strict=True)
    hours = hours_so_far[-1]
    run_id, parent = run.id, shown.experiment.parent or ""
    if not shown.is_online:
        first, last = scores.score(shown.own.mean_returns[[0, -1]]).tolist()
        values = {OFFLINE: last, START: first, FINAL: last, CHANGE: None}
        return RunMetrics(run.seed, values, int(shown.own.updates[-1]), hours, id=run_id, parent=parent)
    own = measures.fine_tuning_of(shown, scores, plan.work(run)[1])
    offline = shown.pretraining and float(scores.score(shown.pretraining.mean_returns[-1]))
    times = {RECOVER: measures.recovery(own), **{reaching(to): measures.steps_to(own, to) for to in LEVELS}}
    values = {
        OFFLINE: offline,
        **_of_fine_tuning(plan, own),
        **{name: reached and float(reached.steps) for name, reached in times.items()},
        NOISE: measures.noise(own),
    }
    if shown.pretraining is None:
        values |= {CHANGE: None, GAINED: None, COLLAPSE: None}  # there is nothing that it changes
    censored = frozenset(name for name, reached in times.items() if reached and reached.censored)
    return RunMetrics(
        run.seed,
        values,
        int(own.updates[-1]),
        hours,
        censored,
        own,
        run_id,
        parent,
        np.interp(own.env_steps + own.updates, progress, hours_so_far),
    )


def _of_fine_tuning(plan: Plan, own: FineTuning) -> dict[str, float | None]:
    collapsed = measures.collapse(own)
    return {
        START: float(own.scores[0]),
        **{at(mark): measures.score_at(own, mark) for mark in plan.reporting_steps},
        **{measure.name: measure.of(own) for measure in measures.MEASURES},
        COLLAPSE: None if collapsed is None else float(collapsed),
    }


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
