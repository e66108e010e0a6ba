"""Tables as values: what a cell says, the number behind it, how sure it is; ``render`` writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from ..analysis import statistics
from ..analysis.external import ends
from ..analysis.measures import regime
from ..analysis.statistics import FEW, Estimate
from .format import DASH, count, interval, mean, of_asked, spread
from .summary import (
    CHANGE,
    COLLAPSE,
    FINAL,
    NEARLY,
    OFFLINE,
    RECOVER,
    REGRET,
    START,
    Findings,
    Line,
    Quantity,
    at,
    quantity,
)


@dataclass(frozen=True)
class Column:
    """A column: its heading, the unit of its numbers, and which direction is better ("" for neither)."""

    name: str
    unit: str = ""
    better: str = ""
    text: bool = False


@dataclass(frozen=True)
class Value:
    """A cell: what it says, the number it is sorted by, its interval, and how it stands out."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    interval: str = ""
    bold: bool = False
    lacking: bool = False
    beside: str = ""
    """The difference to the control, in words."""

    @property
    def parts(self) -> tuple[str, str]:
        """The number and what stands in brackets after it."""
        number, bracket, rest = self.text.partition(" [" if " [" in self.text else " (")
        return number, f"{bracket}{rest}"


@dataclass(frozen=True)
class Row:
    """A row: whose it is (for filters), its cells, and a line below it."""

    label: str
    dataset: str
    cells: tuple[Value, ...]
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table: the name of its files, what it shows, how to read it, and its rows."""

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()


RANGES = (
    f"In brackets: 95 % bootstrap interval over seeds (5 to 9 seeds: small n, they are too narrow); "
    f"in parentheses, below {FEW} seeds: least to greatest seed, no interval. "
)
BOLD = (
    f"Bold: the best and all whose interval overlaps its interval, where all algorithms have the same seeds, "
    f"at least {FEW}, and not all overlap. "
)


def scores(found: Findings, dataset: str) -> Table:
    """Offline score, at the switch, at the marks, final and change of every label on a data set."""
    lines = found.on(dataset)
    marks = [at(mark) for mark in found.plan.marks if any(line.of(at(mark)) for line in lines)]
    marks = [
        name for name in marks if any(line.of(name) != line.of(FINAL) for line in lines if line.of(name))
    ]
    apart = [OFFLINE] if any(_differ(line, OFFLINE, START) for line in lines if line.tunes) else []
    names = [n for n in (*apart, START, *marks, FINAL, CHANGE) if any(line.of(n) for line in lines)]
    best = {name: bold(lines, name) for name in (*marks, FINAL, CHANGE)}
    rows = []
    for line in lines:
        cells = [
            _label(line),
            *(_number(line, quantity(name), line.label in best.get(name, ())) for name in names),
        ]
        cells += [
            seeds_shown(len(line.runs), line.asked),
            whole(line.updates_per_step),
            whole(line.n_init),
            whole(line.updates),
        ]
        cells.append(Value(f"{line.hours:.2f}", line.hours))
        rows.append(Row(line.label, dataset, tuple(cells), _seeds(line)))
    short = {OFFLINE: "offline", START: "at the switch", FINAL: "final", CHANGE: "change"}
    columns = [Column(short.get(name, name.removeprefix("score ")), "score", _better(name)) for name in names]
    others = ("n", "per step", "n_init", "updates", "hours")
    return Table(
        "scores",
        "Scores",
        "Normalised scores, mean over seeds. " + RANGES + "Final: the last evaluation, never the best. "
        "Change: final less the switch, seed by seed. "
        "The score at the switch is that of the offline agent. At a mark: the "
        "last evaluation until then; a method that stops interacting earlier stands there as "
        "it is after its own last stage. Per step: policy updates per environment step; n_init: steps before "
        "learning; updates and hours: of the run alone, without its pretraining. " + BOLD,
        (Column("algorithm", text=True), *columns, *map(Column, others)),
        tuple(rows),
    )


MEASURED = ("transfer drop", COLLAPSE, RECOVER, NEARLY, "area under the curve", "gain", REGRET)
MEASURED_LAST = ("mean of the last 10", "roughness")


def tuning(found: Findings, dataset: str) -> Table:
    """What happened on the way: every measure of every tuning label, beside the control's."""
    lines = [line for line in found.on(dataset) if line.tunes and line.runs]
    names = [name for name in (*MEASURED, *MEASURED_LAST) if any(line.of(name) for line in lines)]
    rows = []
    for line in lines:
        cells = [
            _label(line),
            *(_measure(found, line, name) for name in names),
            seeds_shown(len(line.runs), line.asked),
        ]
        rows.append(Row(line.label, dataset, tuple(cells)))
    control = found.control
    beside = f"Small: the mean paired difference to {control}, whose own values are what noise alone makes. "
    return Table(
        "measures",
        "On the way",
        "Mean over seeds. "
        + (beside if control else "There is no frozen control in this suite: read with care. ")
        + "Collapse: runs that lost more than max(15, 0.3 of the score at the switch) within 20,000 steps. "
        "Steps: where it was never reached the last step counts, a lower bound; how many is said. "
        "Regret: how far training episodes scored below the switch. docs/measures.md defines all of them.",
        (
            Column("algorithm", text=True),
            *(Column(name, quantity(name).unit, _better(name)) for name in names),
            Column("n"),
        ),
        tuple(rows) if names else (),
    )


def final(found: Findings) -> Table:
    """The table a paper prints: final scores, data sets down, tuning labels across."""
    rows = []
    labels = [label for label in found.tuned if any(li.runs for li in found.lines if li.label == label)]
    for dataset in found.datasets:
        lines = {line.label: line for line in found.on(dataset)}
        best = bold([line for line in lines.values() if line.tunes], FINAL)
        cells = [
            _number(lines[label], quantity(FINAL), label in best, n=True) if label in lines else Value(DASH)
            for label in labels
        ]
        rows.append(Row("", dataset, (Value(dataset), *cells)))
    return Table(
        "final",
        "Final scores",
        "Normalised score of the last evaluation, mean over seeds. " + RANGES + BOLD,
        (Column("data set", text=True), *(Column(label, "score", "higher") for label in labels)),
        tuple(rows) if labels else (),
    )


def aggregates(found: Findings) -> Table:
    """Mean, median, IQM and optimality gap over data sets, on common seeds."""
    compared = found.comparison
    rows = []
    for label, of in found.aggregated.items() if len(compared.datasets) > 1 else ():
        cells = [_estimated(of[name]) for name in statistics.STATISTICS]
        rows.append(Row(label, "", (Value(label), *cells, Value(str(compared.n), compared.n))))
    names = {"mean": "mean", "median": "median", "iqm": "IQM", "optimality_gap": "optimality gap"}
    columns = [
        Column(names[s], "score", "lower" if s == "optimality_gap" else "higher")
        for s in statistics.STATISTICS
    ]
    return Table(
        "aggregates",
        "Over data sets",
        f"Final scores of {count(len(compared.datasets), 'data set')}, {count(compared.n, 'seed')} that "
        "all algorithms have. IQM: mean of the middle half of all runs; gap: what runs lack to 100. "
        + _few(compared.n),
        (Column("algorithm", text=True), *columns, Column("n")),
        tuple(rows),
        compared.left_out,
    )


def improvement(found: Findings) -> Table:
    """Every tuning label against the reference: paired difference, probability of improvement, rank."""
    compared, reference = found.comparison, found.reference or ""
    theirs = compared.scores.get(reference)
    ranks = statistics.ranks(compared.scores) if compared.n >= FEW else {}
    rows = []
    for label, held in compared.scores.items():
        cells = [Value(label)]
        if theirs is None or label == reference:
            cells += [Value(DASH), Value(DASH)]
        else:
            cells.append(_estimated(statistics.paired_difference(held, theirs).mean, "{:+.1f}"))
            cells.append(_estimated(statistics.probability_of_improvement(held, theirs), "{:.2f}"))
        cells += [_estimated(ranks[label], "{:.2f}")] if ranks else []
        rows.append(Row(label, "", (*cells, Value(str(compared.n), compared.n))))
    return Table(
        "improvement",
        f"Against {reference}" if theirs is not None else "Comparison",
        f"Final scores, {count(compared.n, 'seed')} that all algorithms have. Difference: to {reference}, "
        "seed by seed, then the mean. P: how likely a run scores above one of the reference on the same data "
        "set, ties half. " + ("Rank: among all, 1 is best, ties share. " if ranks else "") + _few(compared.n),
        (
            Column("algorithm", text=True),
            Column("difference", "score", "higher"),
            Column("P(improvement)", "", "higher"),
            *((Column("mean rank", "", "lower"),) if ranks else ()),
            Column("n"),
        ),
        tuple(rows) if theirs is not None and len(compared.scores) > 1 else (),
        compared.left_out,
    )


def pairs(found: Findings) -> Table:
    """Every two tuning labels: paired difference and probability of improvement."""
    compared, rows = found.comparison, []
    for one, other in combinations(compared.scores, 2):
        difference = statistics.paired_difference(compared.scores[one], compared.scores[other]).mean
        cells = (_estimated(difference, "{:+.1f}"), _estimated(found.pairs[one, other], "{:.2f}"))
        rows.append(Row(one, "", (Value(one), Value(other), *cells, Value(str(compared.n), compared.n))))
    return Table(
        "pairs",
        "All pairs",
        f"Final scores, {count(compared.n, 'seed')} that all algorithms have: the first less the second, "
        "seed by seed, then the mean; P: how likely a run of the first scores above one of the second on the "
        "same data set, ties half. Of many intervals some lie on one side by chance. " + _few(compared.n),
        (
            *(Column("algorithm", text=True), Column("against", text=True)),
            *(Column("difference", "score", "higher"), Column("P(improvement)", "", "higher"), Column("n")),
        ),
        tuple(rows),
        compared.left_out,
    )


def beside(found: Findings, dataset: str) -> Table:
    """What others brought in, at the marks and at its end."""
    marks, rows = found.plan.marks, []
    for peer in found.peers:
        own = peer.on(dataset)
        if len(own):
            cells = [over_seeds(ends(own, mark)) for mark in marks]
            cells += [over_seeds(ends(own)), whole(int(own.env_steps.max())), Value(f"{own.seed.nunique()}")]
            about = Value(f"{peer.file}, SHA-256 {peer.sha256[:12]}")
            rows.append(Row("", dataset, (Value(peer.name), *cells, about)))
    return Table(
        "beside",
        "Curves of others",
        "Scores as others gave them, not run here and held to no protocol of ours; never part of our means, "
        "comparisons or ranks. " + RANGES,
        (
            Column("name", text=True),
            *(Column(f"at {mark:,} steps", "score", "higher") for mark in marks),
            *(Column("last", "score", "higher"), Column("env steps"), Column("n"), Column("file", text=True)),
        ),
        tuple(rows),
    )


def regimes(found: Findings) -> Table:
    """What tuning starts from: is the pretrained policy or the data the better prior?"""
    rows = []
    for dataset in found.datasets:
        starts = [line for line in found.on(dataset) if line.tunes and line.of(OFFLINE)]
        known = found.plan.data_scores(dataset)
        pretrained = mean(list(starts[0].of(OFFLINE).values())) if starts else None
        words = regime(pretrained, *known) if known and pretrained is not None else "n/a"
        numbers = [pretrained, *(known or (None, None))]
        rows.append(Row("", dataset, (Value(dataset), *map(_score, numbers), Value(words))))
    return Table(
        "regimes",
        "What tuning starts from",
        "Scores: the pretrained policy (mean over seeds), the data's mean and best episode. The better prior "
        "is the policy where it scores above the data's mean by over max(5, 0.1 of the way to the best), "
        "the data where below, else both are comparable. n/a: the plan does not know the data's returns.",
        (
            Column("data set", text=True),
            *(Column(name, "score") for name in ("pretrained", "data, mean", "data, best")),
            Column("better prior", text=True),
        ),
        tuple(rows) if any(row.cells[1].value is not None for row in rows) else (),
    )


TABLES: dict[str, Callable[[Findings], Table]] = {
    "final": final,
    "aggregates": aggregates,
    "improvement": improvement,
    "regimes": regimes,
    "pairs": pairs,
}
"""Tables of all data sets together."""
EACH: dict[str, Callable[[Findings, str], Table]] = {"scores": scores, "measures": tuning}
"""Tables of one data set."""


def bold(lines: Iterable[Line], name: str) -> frozenset[str]:
    """Return the labels that stand out: the best and those whose interval overlaps it; else none."""
    lines = [line for line in lines if line.of(name) and line.tunes]
    held = {line.label: line.estimate(name) for line in lines}
    if len(held) < 2 or len({tuple(line.of(name)) for line in lines}) > 1:
        return frozenset()
    known = {label: e for label, e in held.items() if e and e.low is not None and e.high is not None}
    if len(known) < len(held):
        return frozenset()
    sign = 1 if quantity(name).higher_is_better else -1
    best = max(known.values(), key=lambda e: sign * e.value)
    near = {label for label, e in known.items() if _overlap(e, best)}
    return frozenset(near) if len(near) < len(known) else frozenset()


def _overlap(a: Estimate, b: Estimate) -> bool:
    a_low, a_high, b_low, b_high = (math.nan if v is None else v for v in (a.low, a.high, b.low, b.high))
    return a_low <= b_high and b_low <= a_high


def _number(line: Line, what: Quantity, stands_out: bool = False, n: bool = False) -> Value:
    values = list(line.of(what.name).values())
    if not values or (what.name == START and not line.tunes):
        return Value(DASH)
    estimate = line.estimate(what.name)
    text = spread(values, estimate, what.form)
    if n and len(line.runs) < line.asked:
        text += f", n = {line.n}"
    return _value(text, estimate, bold=stands_out)


def _measure(found: Findings, line: Line, name: str) -> Value:
    """Return a measure of a line, with what it differs from the control's."""
    what, values = quantity(name), list(line.of(name).values())
    if not values:
        return Value(DASH)
    if name == COLLAPSE:
        return Value(f"{sum(values):.0f} of {len(values)}", mean(values), n=len(values))
    estimate, other = line.estimate(name), found.beside_control(line, name)
    text = spread(values, estimate, what.form)
    sign = "{:+,.0f}" if what.unit == "steps" else "{:+.1f}"
    never = f"{line.censored(name)} of {len(values)} never" if line.censored(name) else ""
    beside = [interval(other, sign) if other else "", never]
    return _value(text, estimate, beside="; ".join(filter(None, beside)))


def _value(text: str, estimate: Estimate | None, bold: bool = False, beside: str = "") -> Value:
    if estimate is None:
        return Value(text, bold=bold)
    e = estimate
    return Value(text, e.value, e.low, e.high, e.n, e.interval, bold, beside=beside)


def over_seeds(values: Iterable[float], form: str = "{:.1f}") -> Value:
    """Return the mean of numbers, one for each seed, and how sure it is."""
    values = [float(value) for value in values]
    if not values:
        return Value(DASH)
    estimate = statistics.mean_over_seeds(values)
    return _value(spread(values, estimate, form), estimate)


def _estimated(estimate: Estimate, form: str = "{:.1f}") -> Value:
    return _value(interval(estimate, form), estimate)


def _differ(line: Line, one: str, other: str) -> bool:
    """Tell whether two numbers of a run differ as the table shows them."""
    first, second = line.of(one), line.of(other)
    return any(abs(first[seed] - second[seed]) >= 0.05 for seed in first.keys() & second.keys())


def _label(line: Line) -> Value:
    return Value(line.label)


def seeds_shown(found: int, asked: int) -> Value:
    """Return how many seeds are shown, of how many where some are missing."""
    return Value(of_asked(found, asked), found, lacking=found < asked)


def whole(value: int | None) -> Value:
    """Return a count; a dash where there is none."""
    return Value(DASH) if value is None else Value(f"{value:,}", value)


def _score(value: float | None) -> Value:
    return Value("n/a") if value is None else Value(f"{value:.1f}", value)


def _better(name: str) -> str:
    return {True: "higher", False: "lower", None: ""}[quantity(name).higher_is_better]


def _seeds(line: Line) -> str:
    if not line.runs:
        return "no seed is finished"
    if not line.tunes:
        return "seed " + ", ".join(f"{seed}: {b:.1f}" for seed, b in zip(line.seeds, line.final, strict=True))
    each = zip(line.seeds, line.start, line.final, strict=True)
    return "seed " + ", ".join(f"{seed}: {a:.1f} → {b:.1f}" for seed, a, b in each)


def _few(n: int) -> str:
    return "" if n >= FEW else f"Fewer than {FEW} common seeds: values only, no interval, no ranking."


def shown(found: Findings, names: Sequence[str]) -> list[Table]:
    """Return the tables of all data sets together that a plan asks for and that have something to show."""
    made = (TABLES[name](found) for name in names if name in TABLES)
    return [table for table in made if table.rows]
