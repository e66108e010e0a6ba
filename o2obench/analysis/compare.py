"""Is B worse than A? Paired differences of two results folders, or of two labels of one, run by run.

A is the *baseline*, B is what is evaluated; every difference is B minus A on the same data set and seed. Only
runs that are finished and whole on both sides are paired; the others are named. ``docs/compare.md`` says what
is refused and what is only said.

A measure is a *regression* when the interval of its mean paired difference lies entirely on the worse side.
Below 5 seeds there is no interval, so there is no regression either (``statistics``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np

from ..errors import UserError
from ..planning.plan import Plan, read_plans
from ..runs.folder import ResultsFolder
from ..runs.spec import EvaluationSchedule, Run, schedule_text
from ..util.config import nearest
from ..util.files import read_json
from . import measures, statistics
from .diff import differing_values
from .measures import MEASURES, FineTuning
from .results import read
from .statistics import Estimate, rectangle

Key = tuple[str, int]
"""A data set and a seed."""
ALL = "all data sets"
COLLAPSE, REGRET = "collapse", "regret"
UNITS = {measure.name: measure.unit for measure in MEASURES} | {COLLAPSE: "share of runs", REGRET: "score"}
BETTER_UP = {measure.name: measure.higher_is_better for measure in MEASURES} | {
    COLLAPSE: False,
    REGRET: False,
}
"""Every measure that is compared, by its name, and whether more of it is better."""
SIDES = ("A", "B")
SHARED_CUTS = ("offline", "online", "seeds", "datasets")
"""Where a reduced count of the whole suite stands; the others stand under their algorithm's name."""


@dataclass(frozen=True)
class Row:
    """A measure of a pair on one data set, or on all of them over the seeds that they share.

    ``a`` and ``b`` are means, ``difference`` is B minus A with its interval (None below 5 seeds);
    ``by_run`` holds (data set, seed, value of A, value of B). ``verdict``: better, worse or nothing.
    """

    measure: str
    unit: str
    dataset: str
    a: float
    b: float
    difference: Estimate
    verdict: str
    by_run: tuple[tuple[str, int, float, float], ...]


@dataclass(frozen=True)
class Side:
    """What stands on one side: a method of a suite in a results folder, and what computed it."""

    results: str
    suite: str
    method: str
    versions: tuple[str, ...]
    reduced: tuple[str, ...]
    """The counts that were cut and bear on this label."""


@dataclass(frozen=True)
class Pair:
    """Two labels held against each other: A is the baseline, B is evaluated."""

    a: Side
    b: Side
    protocol: tuple[str, ...]
    notes: tuple[str, ...]
    """What may explain a difference."""
    unpaired: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Comparison:
    """All pairs that two results folders, or two labels, have."""

    pairs: tuple[Pair, ...]

    @property
    def regressions(self) -> list[tuple[Pair, Row]]:
        """The rows whose interval lies entirely on the worse side."""
        return [(pair, row) for pair in self.pairs for row in pair.rows if row.verdict == "worse"]

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON value."""
        return {"regressions": len(self.regressions), "pairs": [asdict(pair) for pair in self.pairs]}


@dataclass(frozen=True)
class Choice:
    """What is compared: a suite, algorithms or labels, measures; two labels where they are named."""

    suite: str = ""
    algorithms: Collection[str] = ()
    measures: Collection[str] = ()
    of: str = ""
    against: str = ""


def compare(a: ResultsFolder, b: ResultsFolder | None, choice: Choice) -> Comparison:
    """Compare results folder B with A, or in one folder the label ``of`` with the label ``against``.

    Raises:
        UserError: There is nothing to pair, a name is not known, or both sides differ in budget, evaluation
            protocol, data or reference scores (each is named).
    """
    for name in choice.measures:
        if name not in BETTER_UP:
            raise UserError(f"--measures {name}: not known; {nearest(name, BETTER_UP)}")
    if b is None and not (choice.of and choice.against and choice.of != choice.against):
        raise UserError(f"{a}: one folder needs two labels; name them: --of LABEL --against LABEL")
    if bool(choice.of) != bool(choice.against):
        raise UserError("--of and --against belong together; --of is evaluated, --against is the baseline")
    sides = [_Source(plan, results) for plan, results in _plans(a, b or a, choice.suite)]
    couples = list(zip(sides[::2], sides[1::2], strict=True))
    _require_known([source for couple in couples for source in couple], choice)
    pairs = [_pair(x, y, *labels, choice) for x, y in couples for labels in _labels(x, y, choice)]
    if not pairs:
        raise UserError(_nothing(couples, choice))
    if not any(pair.rows for pair in pairs):
        why = [line for pair in pairs for line in pair.unpaired] or ["the measures do not apply"]
        raise UserError(f"{b or a}: nothing can be paired with {a}: {why[0]}")
    return Comparison(tuple(pairs))


def _plans(a: ResultsFolder, b: ResultsFolder, suite: str) -> Iterator[tuple[Plan, ResultsFolder]]:
    """Yield the plans to compare, A's and B's in turn: those of one name, or the only one of each."""
    first = {plan.suite: plan for plan in read_plans(a, suite)}
    second = {plan.suite: plan for plan in read_plans(b, suite)}
    names = [(name, name) for name in first if name in second]
    if not names and len(first) == len(second) == 1:
        names = list(zip(first, second, strict=True))
    if not names:
        suites = f"{a} has {', '.join(first)}, {b} has {', '.join(second)}"
        raise UserError(f"no suite is in both folders: {suites}; compare folders of one suite")
    for name_a, name_b in names:
        yield first[name_a], a
        yield second[name_b], b


class _Source:
    """A plan, its results folder, and the numbers of its usable runs by label, data set and seed."""

    def __init__(self, plan: Plan, results: ResultsFolder) -> None:
        self.plan, self.results = plan, results
        shown, problems = read(plan, results)
        self.problems = {
            (problem.method, problem.dataset, problem.seed): problem.what for problem in problems
        }
        self.usable = {
            (result.experiment.method, result.experiment.dataset, result.experiment.seed): result
            for result in shown
        }

    def labels(self) -> list[str]:
        """Return the labels in the plan's order."""
        return list(dict.fromkeys(experiment.method for experiment in self.plan.experiments))

    def runs(self, label: str) -> dict[Key, Run]:
        """Return the runs of a label that the plan names, by data set and seed."""
        return {
            (experiment.dataset, experiment.seed): self.plan.run(experiment.run)
            for experiment in self.plan.experiments
            if experiment.method == label
        }

    def parent(self, run: Run) -> Run | None:
        """Return the pretraining run that a run starts from."""
        return self.plan.run(run.parent) if run.parent else None

    def tuning(self, label: str, key: Key) -> FineTuning:
        """Return a usable run from the online start on; of a run that never interacts its last evaluation."""
        budget = int(self.runs(label)[key].spec.budget.online_steps)
        return measures.fine_tuning_of(self.usable[label, *key], self.plan.scores[key[0]], budget)


def _labels(x: _Source, y: _Source, choice: Choice) -> list[tuple[str, str]]:
    """Return the labels to hold against each other: the two that are named, or those that both have."""
    if choice.of:
        exist = choice.against in x.labels() and choice.of in y.labels()
        return [(choice.against, choice.of)] if exist else []
    algorithm = {experiment.method: experiment.algorithm for experiment in x.plan.experiments}
    both = [label for label in x.labels() if label in y.labels()]
    chosen = set(choice.algorithms)
    return [(label, label) for label in both if not chosen or chosen & {label, algorithm[label]}]


def _require_known(sources: Sequence[_Source], choice: Choice) -> None:
    """Refuse names of algorithms that no plan has."""
    names = {
        name
        for source in sources
        for experiment in source.plan.experiments
        for name in (experiment.method, experiment.algorithm)
    }
    for name in choice.algorithms:
        if name not in names:
            raise UserError(f"--algorithms {name}: not in these folders; {nearest(name, names)}")


def _nothing(couples: Sequence[tuple[_Source, _Source]], choice: Choice) -> str:
    for flag, name, place in (("--against", choice.against, 0), ("--of", choice.of, 1)):
        names = {label for couple in couples for label in couple[place].labels()}
        if name and name not in names:
            return f"{flag} {name}: no such label in {couples[0][place].results}; {nearest(name, names)}"
    reason = (
        f"no suite has both {choice.against} and {choice.of}" if choice.of else "no label is on both sides"
    )
    labels = dict.fromkeys(label for couple in couples for source in couple for label in source.labels())
    return f"{reason}; there are: {', '.join(labels)}"


def _pair(x: _Source, y: _Source, of_x: str, of_y: str, choice: Choice) -> Pair:
    planned = x.runs(of_x), y.runs(of_y)
    if of_x == of_y and x.results.path.resolve() == y.results.path.resolve() and x.plan.suite == y.plan.suite:
        raise UserError(f"{x.results}: {of_x} would be compared with itself; name two folders or two labels")
    shared = [key for key in planned[0] if key in planned[1]]
    if not shared:
        raise UserError(f"{of_x} and {of_y}: no data set and seed is on both sides; nothing can be paired")
    _require_comparable(x, y, shared, planned)
    values, lost = _values(x, y, of_x, of_y, shared)
    names = [name for name in BETTER_UP if not choice.measures or name in choice.measures]
    rows = [row for name in names for row in _rows(name, values.get(name, {}))]
    return Pair(
        _side(x, of_x, [planned[0][key] for key in shared]),
        _side(y, of_y, [planned[1][key] for key in shared]),
        _protocol(planned, shared),
        _notes(planned, shared),
        (*_only_one_side(*planned), *lost),
        tuple(rows),
    )


# What must be equal, and what is only said


def _require_comparable(
    x: _Source, y: _Source, shared: Sequence[Key], planned: Sequence[Mapping[Key, Run]]
) -> None:
    """Refuse pairs whose difference would mean nothing; every difference is named once."""
    faults = dict[str, None]()
    for key in shared:
        run_a, run_b = planned[0][key], planned[1][key]
        kin = x.parent(run_a), y.parent(run_b)
        for name, left, right in _unlike(run_a, run_b):
            faults[f"{key[0]}: {name} is {left} in A, {right} in B"] = None
        if kin[0] and kin[1]:
            for name, left, right in _unlike(kin[0], kin[1]):
                faults[f"{key[0]}: the pretraining's {name} is {left} in A, {right} in B"] = None
        refs = [(scores.ref_min, scores.ref_max) for scores in (x.plan.scores[key[0]], y.plan.scores[key[0]])]
        if refs[0] != refs[1]:
            ranges = [f"{low:g} to {high:g}" for low, high in refs]
            faults[f"{key[0]}: the reference scores are {ranges[0]} in A, {ranges[1]} in B"] = None
    if faults:
        raise UserError(*(f"{fault}; only like can be compared with like" for fault in faults))


def _unlike(run_a: Run, run_b: Run) -> Iterator[tuple[str, object, object]]:
    """Yield what differs in environment, data, budget and protocol; 0 means that there is no such stage."""
    a, b = run_a.spec, run_b.spec
    if a.environment != b.environment:
        yield "environment", a.environment, b.environment
    if a.data and b.data and a.data.sha256 != b.data.sha256:
        yield "data's SHA-256", a.data.sha256[:12], b.data.sha256[:12]
    for part in ("budget", "protocol"):
        left, right = (vars(getattr(spec, part)) for spec in (a, b))
        for name in sorted(left):
            if left[name] and right[name] and left[name] != right[name]:
                yield f"{part}.{name}", _number(left[name], name), _number(right[name], name)


def _number(value: EvaluationSchedule, unit: str) -> int | str:
    return value if isinstance(value, int) else schedule_text(value, unit)


def _notes(planned: Sequence[Mapping[Key, Run]], shared: Sequence[Key]) -> tuple[str, ...]:
    """Return what may explain a difference, or why there is none."""
    notes = dict[str, None]()
    for key in shared:
        run_a, run_b = planned[0][key], planned[1][key]
        if run_a.identity == run_b.identity:
            notes["both sides are the same computation (equal identity)"] = None
            continue
        if run_a.parent and run_b.parent and run_a.spec.parent != run_b.spec.parent:
            groups = [str(run.spec.parent)[:8] for run in (run_a, run_b)]
            notes[f"{key[0]}: they start from different pretrained agents ({groups[0]}, {groups[1]})"] = None
        if run_a.algorithm == run_b.algorithm:
            for option in differing_values("option", run_a.spec.config, run_b.spec.config):
                notes[f"option {option.what}: {option.a} in A, {option.b} in B"] = None
    return tuple(notes)


def _side(source: _Source, label: str, runs: Sequence[Run]) -> Side:
    versions = dict.fromkeys(_version(source.results, run) for run in runs)
    family = {run.algorithm for child in runs for run in (child, source.parent(child)) if run}
    cuts = [
        line for line in source.plan.reduced if line.split(" ")[0].split(".")[0] in {*SHARED_CUTS, *family}
    ]
    recorded = tuple(version for version in versions if version)
    return Side(str(source.results), source.plan.suite, label, recorded, tuple(cuts))


def _version(results: ResultsFolder, run: Run) -> str:
    """Return the versions of a run that was computed, an empty string where it was not begun."""
    record = read_json(results.run(run.id).record)
    if not isinstance(record, dict):
        return ""
    code = record["code"]
    commit = f" {code['commit'][:10]}{' (changed)' if code['dirty'] else ''}" if code["commit"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in run.spec.versions.items())
    return f"{versions}, o2obench {code['version']}{commit}"


def _protocol(planned: Sequence[Mapping[Key, Run]], shared: Sequence[Key]) -> tuple[str, ...]:
    """Return budget and evaluation in a line for each that there is."""
    lines = dict[str, None]()
    for key in shared:
        for runs in planned:
            budget, rule = runs[key].spec.budget, runs[key].spec.protocol
            parts = [
                (budget.offline_updates, "offline updates", rule.updates, "updates"),
                (budget.online_steps, "online steps", rule.steps, "steps"),
            ]
            phrases = [
                f"{n:,} {kind}, evaluated {schedule_text(schedule, unit)}"
                for n, kind, schedule, unit in parts
                if n
            ]
            lines["; ".join(phrases) + f"; {rule.episodes} episodes, {rule.final_episodes} at ends"] = None
    return tuple(lines)


# Pairs of numbers


def _only_one_side(a: Mapping[Key, Run], b: Mapping[Key, Run]) -> list[str]:
    lost = []
    for name, mine, theirs in (("A", a, b), ("B", b, a)):
        for dataset, keys in groupby([key for key in mine if key not in theirs], key=lambda key: key[0]):
            lost.append(f"{dataset} seed {', '.join(str(seed) for _, seed in keys)}: only planned in {name}")
    return lost


Values = dict[str, dict[Key, tuple[float, float]]]
"""Measure -> (data set, seed) -> its value in A and in B."""


def _values(x: _Source, y: _Source, of_x: str, of_y: str, shared: Sequence[Key]) -> tuple[Values, list[str]]:
    """Return the measures of every pair that both sides can show, and why the others cannot be paired."""
    values: Values = {}
    lost = []
    for key in shared:
        why = [
            f"{name}: {source.problems[label, *key]}"
            for name, source, label in (("A", x, of_x), ("B", y, of_y))
            if (label, *key) in source.problems
        ]
        try:
            both = [] if why else [x.tuning(of_x, key), y.tuning(of_y, key)]
        except ValueError as error:
            why = [str(error)]
        if why:
            lost.append(f"{key[0]} seed {key[1]}: {'; '.join(why)}")
            continue
        reference = float(both[0].scores[0])
        for name, pair in zip(
            BETTER_UP, zip(*(_all(run, reference) for run in both), strict=True), strict=True
        ):
            a, b = pair
            if a is not None and b is not None:
                values.setdefault(name, {})[key] = (a, b)
    return values, lost


def _all(run: FineTuning, reference: float) -> list[float | None]:
    """Return every measure of a run; regret is measured from ``reference``, the same for A and B."""
    fell = measures.collapse(run)
    rest = [None if fell is None else float(fell), measures.regret(run, reference)]
    return [*(measure.of(run) for measure in MEASURES), *rest]


def _rows(name: str, values: Mapping[Key, tuple[float, float]]) -> Iterator[Row]:
    """Yield a row for each data set, and one for all of them over the seeds that all have."""
    datasets = list(dict.fromkeys(dataset for dataset, _ in values))
    for dataset in datasets:
        yield _row(name, dataset, {key: pair for key, pair in values.items() if key[0] == dataset})
    seeds = {seed for _, seed in values}
    common = {seed for seed in seeds if all((dataset, seed) in values for dataset in datasets)}
    if len(datasets) > 1 and common:
        yield _row(name, ALL, {key: pair for key, pair in values.items() if key[1] in common})


def _row(name: str, dataset: str, values: Mapping[Key, tuple[float, float]]) -> Row:
    a, b = (rectangle((*key, pair[side]) for key, pair in values.items()) for side in (0, 1))
    difference = statistics.paired_difference(b, a)
    return Row(
        name,
        UNITS[name],
        dataset,
        float(np.mean(a.values)),
        float(np.mean(b.values)),
        difference,
        _verdict(difference, BETTER_UP[name]),
        tuple((*key, *values[key]) for key in sorted(values)),
    )


def _verdict(difference: Estimate, higher_is_better: bool) -> str:
    """Return better or worse where the whole interval lies on that side of 0, else nothing."""
    if difference.low is None or difference.high is None:
        return ""
    if difference.low > 0:
        return "better" if higher_is_better else "worse"
    if difference.high < 0:
        return "worse" if higher_is_better else "better"
    return ""


def interval_text(difference: Estimate) -> str:
    """Return the interval of a difference in words."""
    if difference.low is None or difference.high is None:
        return f"none below {statistics.FEW} seeds"
    return f"{difference.low:+.2f} to {difference.high:+.2f}"


def verdict(comparison: Comparison) -> list[str]:
    """Return the last lines: each regression, and of how many intervals they are."""
    looked = sum(row.difference.low is not None for pair in comparison.pairs for row in pair.rows)
    lines = [
        f"worse: {pair.b.method}, {row.measure}, {row.dataset}: {row.difference.value:+.2f} "
        f"({interval_text(row.difference)}, n {row.difference.n})"
        for pair, row in comparison.regressions
    ]
    if not looked:
        return [*lines, f"no interval below {statistics.FEW} seeds: no verdict"]
    summary = f"{len(lines)} of {looked} intervals lie on the worse side"
    return [*lines, f"{summary}; of many that are looked at, a few do by chance"]
