"""Everything the report knows of one plan, computed once; tables and figures only show it.

The unit is the run: one label on one data set with one seed, reduced to named numbers. Seeds are averaged
after that, and algorithms are compared only on the seeds that all of them have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..agent import Array
from ..analysis import measures, statistics
from ..analysis.measures import Reached, Tuning
from ..analysis.results import Problem, Shown, episodes, evaluations, logged, read, seconds
from ..analysis.statistics import FEW, Estimate, Scores, Statistic
from ..planning.plan import Cell, Plan
from .format import count, listed, mean, of_asked
from .options import USUAL, Wish

if TYPE_CHECKING:
    from ..analysis.external import Peer

CONTROL = "frozen"
"""The algorithm that never learns: what noise alone makes of a measure."""
REFERENCES = ("naive", "frozen")
"""The others are compared with the first of these algorithms that a plan has."""
OFFLINE, START, FINAL, CHANGE = "offline score", "score at the switch", "final score", "change"
COLLAPSE, RECOVER, NEARLY, REGRET = "collapse", "steps to recover", "steps to nearly the best", "regret"


@dataclass(frozen=True)
class Quantity:
    """What a number of a run is: its unit, how it is written, which direction is better (None: neither)."""

    name: str
    unit: str = "score"
    form: str = "{:.1f}"
    higher_is_better: bool | None = True


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity(OFFLINE, higher_is_better=None),
        Quantity(START, higher_is_better=None),
        *(
            Quantity(
                m.name, m.unit, "{:+.1f}" if m.name in (CHANGE, "gain") else "{:.1f}", m.higher_is_better
            )
            for m in measures.MEASURES
        ),
        Quantity(COLLAPSE, "runs", "{:.0%}", False),
        Quantity(RECOVER, "steps", "{:,.0f}", False),
        Quantity(NEARLY, "steps", "{:,.0f}", False),
        Quantity(REGRET, "score", "{:.1f}", False),
    )
}


def at(mark: int) -> str:
    """Return the name of the score at a mark."""
    return f"score at {mark:,} steps"


def quantity(name: str) -> Quantity:
    """Return what a number is; scores at marks are scores."""
    return QUANTITIES.get(name, Quantity(name))


@dataclass(frozen=True, eq=False)
class Seed:
    """One run of a line: its numbers by name (None: does not apply), and which of them are lower bounds."""

    seed: int
    values: Mapping[str, float | None]
    updates: int
    hours: float
    censored: frozenset[str] = frozenset()
    tuning: Tuning | None = None


@dataclass(frozen=True, eq=False)
class Line:
    """One label on one data set, with the seeds that may be used."""

    label: str
    algorithm: str
    dataset: str
    asked: int
    runs: tuple[Seed, ...]
    updates_per_step: int | None
    n_init: int | None
    env_steps: int
    tunes: bool
    pretrained: bool

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
        """The scores at the switch; of an offline algorithm those of its first evaluation."""
        return tuple(self.of(START).values())

    @property
    def final(self) -> tuple[float, ...]:
        """The scores of the last evaluations."""
        return tuple(self.of(FINAL).values())

    @property
    def change(self) -> tuple[float, ...]:
        """Final minus start, seed by seed (paired: both belong to one pretrained policy)."""
        return tuple(b - a for a, b in zip(self.start, self.final, strict=True))

    @property
    def updates(self) -> int:
        """The most updates a seed made."""
        return max((run.updates for run in self.runs), default=0)

    @property
    def hours(self) -> float:
        """Process hours per run, without its pretraining."""
        return mean([run.hours for run in self.runs]) if self.runs else 0.0

    def of(self, name: str) -> dict[int, float]:
        """Return a number by seed, where it applies."""
        found = {run.seed: run.values.get(name) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}

    def estimate(self, name: str) -> Estimate | None:
        """Estimate the mean of a number over seeds; None where it applies to no seed."""
        values = tuple(self.of(name).values())
        return statistics.mean_over_seeds(values) if values else None

    def censored(self, name: str) -> int:
        """Return in how many runs a number is only a lower bound."""
        return sum(name in run.censored for run in self.runs)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What may be compared: the same seeds on the same data sets for every label; and what was left out."""

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
class Findings:
    """What one plan's folders say.

    Attributes:
        plan: The plan.
        results: The results folder.
        shown: The cells that are used, with what their runs evaluated.
        problems: The cells that are not, each with its reason.
        lines: A line for every label and data set, also where no seed is usable; data set by data set.
        peers: Curves of others, to stand beside ours.
        chosen: The label that a reader wants others compared with.
    """

    plan: Plan
    results: Path
    shown: tuple[Shown, ...]
    problems: tuple[Problem, ...]
    lines: tuple[Line, ...]
    peers: tuple[Peer, ...] = ()
    chosen: str = ""

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """All data sets of the plan."""
        return tuple(dict.fromkeys(line.dataset for line in self.lines))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All labels of the plan, in its order."""
        return tuple(dict.fromkeys(cell.label for cell in self.plan.cells))

    @cached_property
    def by_name(self) -> dict[tuple[str, str], Line]:
        """The lines by (label, data set)."""
        return {(line.label, line.dataset): line for line in self.lines}

    def on(self, dataset: str) -> list[Line]:
        """Return the lines of a data set."""
        return [line for line in self.lines if line.dataset == dataset]

    def evaluations(self, dataset: str = "") -> pd.DataFrame:
        """Return one row per evaluation of the cells that are used, on a data set or on all."""
        return evaluations(self.plan, self._shown(dataset))

    def episodes(self, dataset: str = "") -> pd.DataFrame:
        """Return the training episodes of the tuning runs that are used."""
        return episodes(self.plan, self._shown(dataset))

    def logged(self, names: Collection[str], dataset: str = "") -> pd.DataFrame:
        """Return what the agents of the tuning runs that are used logged under these names."""
        return logged((one.cell for one in self._shown(dataset)), self.results, names)

    def _shown(self, dataset: str) -> Iterator[Shown]:
        return (one for one in self.shown if dataset in ("", one.cell.dataset))

    @cached_property
    def tuned(self) -> tuple[str, ...]:
        """The labels that live through a switch or interact from the start."""
        return tuple(name for name in self.labels if any(li.tunes for li in self.lines if li.label == name))

    @cached_property
    def control(self) -> str | None:
        """The label of the control."""
        return self._first(CONTROL)

    @cached_property
    def reference(self) -> str | None:
        """The label that others are compared with."""
        if self.chosen in self.labels:
            return self.chosen
        return next((label for name in REFERENCES if (label := self._first(name))), None)

    def _first(self, algorithm: str) -> str | None:
        return next((cell.label for cell in self.plan.cells if cell.algorithm == algorithm), None)

    def beside_control(self, line: Line, name: str) -> Estimate | None:
        """Estimate a number minus that of the control, on the seeds that both have; None for the control."""
        control = self.by_name.get((self.control or "", line.dataset))
        if control is None or control is line:
            return None
        mine, theirs = line.of(name), control.of(name)
        both = [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]
        return statistics.mean_over_seeds(both) if both else None

    def collapses(self, line: Line) -> measures.Rate | None:
        """Return how many of a line's runs collapsed."""
        return measures.collapse_rate(run.tuning for run in line.runs if run.tuning)

    @cached_property
    def comparison(self) -> Comparison:
        """The final scores that may be compared across data sets."""
        return self.compared(FINAL)

    def compared(self, name: str, datasets: Sequence[str] = ()) -> Comparison:
        """Return a number of the tuning methods on their common seeds, on all data sets or some."""
        datasets, said = datasets or self.datasets, list[str]()
        lacks: dict[tuple[str, ...], list[str]] = {}
        held: dict[str, list[tuple[str, int, float]]] = {}
        for label in self.tuned:
            lines = [self.by_name.get((label, dataset)) for dataset in datasets]
            each = [[(li.dataset, s, v) for s, v in li.of(name).items()] if li else [] for li in lines]
            lacking = tuple(dataset for dataset, found in zip(datasets, each, strict=True) if not found)
            if lacking:
                lacks.setdefault(lacking, []).append(label)
            else:
                held[label] = [row for found in each for row in found]
        for lacking, labels in lacks.items():
            said.append(f"left out, no {name} on {listed(lacking)}: {', '.join(labels)}")
        if not held:
            return Comparison({}, tuple(said))
        try:
            scores = statistics.on_common_seeds(held)
        except ValueError:
            return Comparison({}, (*said, "no seed is there for all algorithms on all data sets"))
        common = set(next(iter(scores.values())).seeds)
        others: dict[tuple[int, ...], list[str]] = {}
        for label, rows in held.items():
            others.setdefault(tuple(sorted({row[1] for row in rows} - common)), []).append(label)
        said += [
            f"seed {listed(seeds)} left out, not all algorithms have it everywhere: {', '.join(labels)}"
            for seeds, labels in others.items()
            if seeds
        ]
        return Comparison(scores, tuple(said))

    @cached_property
    def lacking(self) -> list[str]:
        """What is not shown and why, a line for all seeds of a label on a data set that share the reason."""
        groups: dict[tuple[str, str, str], list[int]] = {}
        for problem in self.problems:
            groups.setdefault((problem.label, problem.dataset, problem.what), []).append(problem.seed)
        return [
            f"{label} on {data}, seed {listed(seeds)}: {what}"
            for (label, data, what), seeds in groups.items()
        ]

    @cached_property
    def aggregated(self) -> dict[str, dict[Statistic, Estimate]]:
        """Mean, median, IQM and optimality gap of the final scores by label; the most expensive numbers."""
        return {label: statistics.aggregates(held) for label, held in self.comparison.scores.items()}

    @cached_property
    def pairs(self) -> dict[tuple[str, str], Estimate]:
        """The probability of improvement of the first over the second, for all ordered pairs."""
        return statistics.all_pairs(self.comparison.scores)

    @cached_property
    def account(self) -> dict[str, int]:
        """Planned = shown + all the others, by why they are not shown."""
        reasons = Counter(_kind(problem) for problem in self.problems)
        shown = len(self.plan.cells) - len(self.problems)
        return {"planned": len(self.plan.cells), "shown": shown, **dict(sorted(reasons.items()))}


def find(
    plan: Plan,
    results: Path,
    wish: Wish = USUAL,
    peers: Sequence[Peer] = (),
) -> Findings:
    """Read the folders of a plan and compute all its numbers; what is damaged is named and left out."""
    shown, problems = read(plan, results, wish.watch)
    first: dict[tuple[str, str], Cell] = {}
    asked = Counter((cell.label, cell.dataset) for cell in set(plan.cells))
    for cell in plan.cells:
        first.setdefault((cell.label, cell.dataset), cell)
    runs: dict[tuple[str, str], list[Seed]] = {key: [] for key in first}
    used = list[Shown]()
    for one in shown:
        cell = one.cell
        try:
            runs[cell.label, cell.dataset].append(_seed(plan, results, one))
        except ValueError as error:
            problems.append(Problem(cell.label, cell.dataset, cell.seed, f"{cell.algorithm}: {error}"))
        else:
            used.append(one)
    lines = [_line(plan, cell, asked[key], runs[key]) for key, cell in first.items()]
    order = list(dict.fromkeys(cell.dataset for cell in plan.cells))
    lines = [
        line for dataset in order for line in _timed([line for line in lines if line.dataset == dataset])
    ]
    return Findings(
        *(plan, results, tuple(used), tuple(problems), tuple(lines)),
        peers=tuple(peers),
        chosen=wish.reference,
    )


def _line(plan: Plan, cell: Cell, asked: int, runs: Iterable[Seed]) -> Line:
    run = plan.run(cell.run)
    stages, config = plan.stages[run.group], run.spec["config"]
    steps = sum(stage.env_steps for stage in stages)
    learns = steps > 0 and any(stage.updates for stage in stages)
    return Line(
        *(cell.label, cell.algorithm, cell.dataset, asked, tuple(runs)),
        updates_per_step=config.get("updates_per_step") if learns else None,
        n_init=config.get("n_init") if learns else None,
        env_steps=steps,
        tunes=bool(cell.parent) or steps > 0,
        pretrained=bool(cell.parent),
    )


def _seed(plan: Plan, results: Path, one: Shown) -> Seed:
    """Reduce one run to its numbers; raise ValueError where its rows are not those of one run."""
    run, scores = plan.run(one.cell.run), plan.scores[one.cell.dataset]
    hours = seconds(run, results) / 3600
    if not one.tunes:
        first, last = scores.score(one.own.mean_returns[[0, -1]]).tolist()
        values = {OFFLINE: last, START: first, FINAL: last, CHANGE: None}
        return Seed(run.seed, values, int(one.own.updates[-1]), hours)
    tuning = measures.tuning_of(one, scores, plan.work(run)[1])
    offline = one.pretraining and float(scores.score(one.pretraining.mean_returns[-1]))
    collapsed, recovered = measures.collapse(tuning), measures.steps_to_recover(tuning)
    values = {
        OFFLINE: offline,
        START: float(tuning.scores[0]),
        **{at(mark): measures.score_at(tuning, mark) for mark in plan.marks},
        **{measure.name: measure.of(tuning) for measure in measures.MEASURES},
        COLLAPSE: None if collapsed is None else float(collapsed),
        RECOVER: float(recovered.steps) if recovered else None,
        REGRET: measures.regret(tuning, float(tuning.scores[0])),
    }
    censored = frozenset((RECOVER,) if recovered and recovered.censored else ())
    return Seed(run.seed, values, int(tuning.updates[-1]), hours, censored, tuning)


def _timed(lines: list[Line]) -> list[Line]:
    """Add the steps to nearly the best, which need the best final score of a method on the data set."""
    best = max((mean(line.final) for line in lines if line.tunes and line.runs), default=0.0)
    return [replace(line, runs=tuple(_reaches(run, best) for run in line.runs)) for line in lines]


def _reaches(run: Seed, best: float) -> Seed:
    reached: Reached | None = measures.steps_to_nearly(run.tuning, best) if run.tuning else None
    if reached is None:
        return run
    censored = run.censored | ({NEARLY} if reached.censored else set())
    return replace(run, values={**run.values, NEARLY: float(reached.steps)}, censored=censored)


def headline(found: Findings) -> str:
    """Say in a few words what came out and how much is missing. No ranking below 5 seeds."""
    shown, planned = found.account["shown"], found.account["planned"]
    if not shown:
        return "No run of this suite is finished yet."
    tuned = [line for line in found.lines if line.runs and line.pretrained and line.algorithm != CONTROL]
    parts = [f"{shown:,} of {planned:,} runs are shown"]
    if tuned:
        up = sum(mean(line.change) > 0 for line in tuned)
        parts.append(
            f"the mean score rose after the switch in {up} of {count(len(tuned), 'combination')} of learning "
            "algorithm and data set"
        )
        fell = [rate for line in tuned if (rate := found.collapses(line))]
        if fell:
            parts.append(
                f"{sum(r.count for r in fell)} of {count(sum(r.n for r in fell), 'run')} collapsed on the way"
            )
    n = found.comparison.n
    if n < FEW:
        parts.append(f"{count(n, 'common seed')} {'is' if n == 1 else 'are'} too few to rank algorithms")
    return "; ".join(parts) + "."


def _kind(problem: Problem) -> str:
    """Return why a cell is not shown, in a word or two."""
    state = problem.what.split(": ")[1:2]
    known = {
        "waiting": "not begun",
        "interrupted": "interrupted",
        "running": "running",
        "stale": "interrupted",
        "failed": "failed",
        "diverged": "diverged",
    }
    return known.get(state[0] if state else "", "not usable")


def grid(found: Findings, dataset: str, label: str) -> tuple[Array, Array]:
    """Return (steps, scores (seeds, steps)) of a tuning label at the clocks that all its seeds have."""
    line = found.by_name.get((label, dataset))
    runs = [run.tuning for run in line.runs if run.tuning] if line else []
    if not runs:
        return np.empty(0), np.empty((0, 0))
    common = sorted(set.intersection(*(set(run.env_steps.tolist()) for run in runs)))
    scores = [[run.scores[run.env_steps <= step][-1] for step in common] for run in runs]
    return np.array(common), np.array(scores)
