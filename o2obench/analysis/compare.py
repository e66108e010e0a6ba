"""Is B worse than A? Paired differences of two results folders, or of two labels of one, run by run.

A is the *baseline*, B is what is evaluated; every difference is B minus A on the same data set and seed. Only
runs that are finished and whole on both sides are paired; the others are named. ``docs/compare.md`` says what
is refused and what is only said.

One measure decides, the area unless another is named: B is *worse* when the one-sided 95 % bound of its mean
paired difference, adjusted by Holm's method for the number of methods looked at, lies on the worse side of
the margin. All other measures are shown. Below 5 seeds there is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np

from ..errors import UserError
from ..planning.plan import Plan, read_plans
from ..runs.folder import ResultsFolder
from ..runs.read import computed_record
from ..runs.spec import EvaluationSchedule, Run, schedule_text
from ..util.config import nearest
from . import measures
from .diff import differing_values
from .inference import FEW, Estimate, difference_of, holm, paired_difference
from .measures import MEASURES, FineTuning
from .results import read
from .scores import DatasetSeed, Scores, rectangle

ALL = "all data sets"
COLLAPSE, LOSS = "collapse", "loss on the way"
UNITS = {measure.name: measure.unit for measure in MEASURES} | {COLLAPSE: "share of runs"}
BETTER_UP = {measure.name: measure.higher_is_better for measure in MEASURES} | {COLLAPSE: False}
"""Every measure that is compared, by its name, and whether more of it is better."""
DECIDES = "area"
LEVEL = 0.05
"""How often a whole comparison may say "worse" where there is no difference."""
Verdict = Literal["worse", "not worse", "same", "no verdict"]
SIDES = ("A", "B")
SHARED_CUTS = ("offline", "online", "seeds", "datasets")
"""Where a reduced count of the whole suite stands; the others stand under their algorithm's name."""


@dataclass(frozen=True)
class Row:
    """A measure of a pair on one data set, or on all of them over the seeds that they share.

    ``a`` and ``b`` are means, ``difference`` is B minus A with its 95 % interval (None below 3 seeds);
    ``by_run`` holds (data set, seed, value of A, value of B).
    """

    measure: str
    unit: str
    dataset: str
    a: float
    b: float
    difference: Estimate
    by_run: tuple[tuple[str, int, float, float], ...]


@dataclass(frozen=True)
class Decision:
    """Whether B is worse than A, by one measure on all data sets.

    ``p`` is one-sided and adjusted for the number of methods; None where there is no verdict.
    """

    measure: str
    verdict: Verdict
    p: float | None
    n: int
    why: str = ""
    """Why there is no verdict."""


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
    decision: Decision


@dataclass(frozen=True)
class Comparison:
    """All pairs that two results folders, or two labels, have."""

    pairs: tuple[Pair, ...]
    margin: float

    @property
    def worse(self) -> list[Pair]:
        """The pairs whose B is worse."""
        return [pair for pair in self.pairs if pair.decision.verdict == "worse"]

    @property
    def undecided(self) -> list[Pair]:
        """The pairs of which nothing can be said."""
        return [pair for pair in self.pairs if pair.decision.verdict == "no verdict"]

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON value."""
        return {
            "worse": len(self.worse),
            "no_verdict": len(self.undecided),
            "margin": self.margin,
            "pairs": [asdict(pair) for pair in self.pairs],
        }


@dataclass(frozen=True)
class Choice:
    """What is compared: a suite, algorithms or labels, measures; two labels where they are named.

    ``decide`` is the measure that decides, ``margin`` how much worse is not yet called worse, in its unit.
    """

    suite: str = ""
    algorithms: Collection[str] = ()
    measures: Collection[str] = ()
    of: str = ""
    against: str = ""
    decide: str = DECIDES
    margin: float = 0.0


def compare(a: ResultsFolder, b: ResultsFolder | None, choice: Choice) -> Comparison:
    """Compare results folder B with A, or in one folder the label ``of`` with the label ``against``.

    Raises:
        UserError: There is nothing to pair, a name is not known, or both sides differ in budget, evaluation
            protocol, data or reference scores (each is named).
    """
    for flag, names in (("--measures", choice.measures), ("--decide", [choice.decide])):
        for name in names:
            if name not in BETTER_UP:
                raise UserError(f"{flag} {name}: not known; {nearest(name, BETTER_UP)}")
    if not (math.isfinite(choice.margin) and choice.margin >= 0):
        raise UserError(f"--margin {choice.margin:g}: a finite number of 0 or more")
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
    return Comparison(tuple(_adjusted(pairs)), choice.margin)


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

    def runs(self, label: str) -> dict[DatasetSeed, Run]:
        """Return the runs of a label that the plan names, by data set and seed."""
        return {
            (experiment.dataset, experiment.seed): self.plan.run(experiment.run)
            for experiment in self.plan.experiments
            if experiment.method == label
        }

    def parent(self, run: Run) -> Run | None:
        """Return the pretraining run that a run starts from."""
        return self.plan.run(run.parent) if run.parent else None

    def tuning(self, label: str, key: DatasetSeed) -> FineTuning:
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
    runs = [{key: run.id for key, run in side.items()} for side in planned]
    names = [name for name in BETTER_UP if not choice.measures or name in choice.measures]
    rows = [row for name in names for row in _rows(name, values.get(name, {}), runs)]
    return Pair(
        _side(x, of_x, [planned[0][key] for key in shared]),
        _side(y, of_y, [planned[1][key] for key in shared]),
        _protocol(planned, shared),
        _notes(planned, shared),
        (*_only_one_side(*planned), *lost),
        tuple(rows),
        _decision(choice, values.get(choice.decide, {}), runs),
    )


# What must be equal, and what is only said


def _require_comparable(
    x: _Source, y: _Source, shared: Sequence[DatasetSeed], planned: Sequence[Mapping[DatasetSeed, Run]]
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


def _notes(planned: Sequence[Mapping[DatasetSeed, Run]], shared: Sequence[DatasetSeed]) -> tuple[str, ...]:
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
    """Return the versions of a run that was computed; empty where it was not begun or does not say."""
    record = computed_record(results.run(run.id))
    if record is None:
        return ""
    code = record["code"]
    commit = f" {code['commit'][:10]}{' (changed)' if code['dirty'] else ''}" if code["commit"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in run.spec.versions.items())
    return f"{versions}, o2obench {code['version']}{commit}"


def _protocol(planned: Sequence[Mapping[DatasetSeed, Run]], shared: Sequence[DatasetSeed]) -> tuple[str, ...]:
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


def _only_one_side(a: Mapping[DatasetSeed, Run], b: Mapping[DatasetSeed, Run]) -> list[str]:
    lost = []
    for name, mine, theirs in (("A", a, b), ("B", b, a)):
        for dataset, keys in groupby([key for key in mine if key not in theirs], key=lambda key: key[0]):
            lost.append(f"{dataset} seed {', '.join(str(seed) for _, seed in keys)}: only planned in {name}")
    return lost


Values = dict[str, dict[DatasetSeed, tuple[float, float]]]
"""Measure -> (data set, seed) -> its value in A and in B."""


def _values(
    x: _Source, y: _Source, of_x: str, of_y: str, shared: Sequence[DatasetSeed]
) -> tuple[Values, list[str]]:
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


def _all(run: FineTuning, start: float) -> list[float | None]:
    """Return every measure of a run; what is lost on the way is counted from ``start``, A's for both."""
    each = {measure.name: measure.of(run) for measure in MEASURES}
    each[LOSS] = measures.loss_on_the_way(run, start)
    fell = measures.collapse(run)
    return [*each.values(), None if fell is None else float(fell)]


RunIds = Sequence[Mapping[DatasetSeed, str]]
"""The ids of A's runs and of B's: several data sets may show one run."""
Pairs = Mapping[DatasetSeed, tuple[float, float]]


def _rows(name: str, values: Pairs, runs: RunIds) -> Iterator[Row]:
    """Yield a row for each data set, and one for all of them over the seeds that all have."""
    datasets = list(dict.fromkeys(dataset for dataset, _ in values))
    for dataset in datasets:
        yield _row(name, dataset, {key: pair for key, pair in values.items() if key[0] == dataset}, runs)
    common = _on_common_seeds(values)
    if len(datasets) > 1 and common:
        yield _row(name, ALL, common, runs)


def _on_common_seeds(values: Pairs) -> Pairs:
    """Return the pairs of the seeds that are there on all data sets."""
    datasets, seeds = {dataset for dataset, _ in values}, {seed for _, seed in values}
    common = {seed for seed in seeds if all((dataset, seed) in values for dataset in datasets)}
    return {key: pair for key, pair in values.items() if key[1] in common}


def _sides(values: Pairs, runs: RunIds) -> tuple[Scores, Scores]:
    a, b = (rectangle(((*key, pair[i]) for key, pair in values.items()), runs[i]) for i in (0, 1))
    return a, b


def _row(name: str, dataset: str, values: Pairs, runs: RunIds) -> Row:
    a, b = _sides(values, runs)
    means = (float(np.mean(a.values)), float(np.mean(b.values)))
    by_run = tuple((*key, *values[key]) for key in sorted(values))
    return Row(name, UNITS[name], dataset, *means, paired_difference(b, a), by_run)


def _decision(choice: Choice, values: Pairs, runs: RunIds) -> Decision:
    """Return what the deciding measure says of one pair; its p value is not adjusted yet."""
    common, n = _on_common_seeds(values), len({seed for _, seed in _on_common_seeds(values)})
    if not values:
        return Decision(choice.decide, "no verdict", None, 0, f"there is no {choice.decide} on both sides")
    if common and all(a == b for a, b in common.values()):
        return Decision(choice.decide, "same", None, n)
    if n < FEW:
        return Decision(choice.decide, "no verdict", None, n, f"fewer than {FEW} common seeds")
    a, b = _sides(common, runs)
    gained = difference_of(b, a) if BETTER_UP[choice.decide] else difference_of(a, b)
    return Decision(choice.decide, "not worse", gained.p_below(-choice.margin), n)


def _adjusted(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Yield the pairs with their verdicts: every method that is looked at makes each of them stricter."""
    adjusted = holm({str(i): pair.decision.p for i, pair in enumerate(pairs) if pair.decision.p is not None})
    for i, pair in enumerate(pairs):
        if str(i) in adjusted:
            p = adjusted[str(i)]
            verdict: Verdict = "worse" if p < LEVEL else "not worse"
            yield replace(pair, decision=replace(pair.decision, p=p, verdict=verdict))
        else:
            yield pair


def interval_text(difference: Estimate) -> str:
    """Return the interval of a difference in words."""
    if difference.low is None or difference.high is None:
        return difference.interval
    return f"{difference.low:+.2f} to {difference.high:+.2f}"


def verdict(comparison: Comparison) -> list[str]:
    """Return the last lines: what is decided of each method, and how many of them are worse."""
    lines = []
    for pair in comparison.pairs:
        decision = pair.decision
        p = "all values are equal" if decision.p is None else f"p = {decision.p:.3f}"
        detail = decision.why or p
        lines.append(
            f"{pair.b.method}: {decision.verdict} by {decision.measure} ({detail}, {_seeds(decision.n)})"
        )
    margin = f" by more than {comparison.margin:g}" if comparison.margin else ""
    looked = f"{len(comparison.worse)} of {len(comparison.pairs)} worse{margin}"
    how = f"p: one-sided, adjusted for the number of methods (Holm), worse below {LEVEL:g}"
    return [*lines, f"{looked}; {how}"]


def _seeds(n: int) -> str:
    return f"{n} seed" if n == 1 else f"{n} seeds"
