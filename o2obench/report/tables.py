"""Tables as values: what a cell says, the number behind it, how sure it is; ``writers`` writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ..analysis import statistics
from ..analysis.external import ends
from ..analysis.measures import regime
from ..analysis.statistics import FEW, Estimate
from .format import DASH, count, interval, listed, mean, of_asked, spread
from .summary import (
    CHANGE,
    COLLAPSE,
    FINAL,
    NEARLY,
    OFFLINE,
    RECOVER,
    REGRET,
    START,
    MethodResult,
    Metric,
    Summary,
    at,
    metric_of,
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

    method: str
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


def scores(summary: Summary, dataset: str) -> Table:
    """The score offline, at the online start, at reporting steps, and the change of every method."""
    results = summary.on(dataset)
    marks = [
        at(mark) for mark in summary.plan.reporting_steps if any(result.of(at(mark)) for result in results)
    ]
    marks = [
        name
        for name in marks
        if any(result.of(name) != result.of(FINAL) for result in results if result.of(name))
    ]
    apart = (
        [OFFLINE] if any(_differ(result, OFFLINE, START) for result in results if result.is_online) else []
    )
    order = (*apart, START, *marks, FINAL, CHANGE)
    if summary.starts_differ:
        order = (CHANGE, *apart, START, *marks, FINAL)
    names = [name for name in order if any(result.of(name) for result in results)]
    best = {name: bold(results, name) for name in (*marks, FINAL, CHANGE)}
    rows = []
    for result in results:
        cells = [
            Value(result.method),
            *(_number(result, metric_of(name), result.method in best.get(name, ())) for name in names),
        ]
        cells += [
            seeds_shown(len(result.runs), result.asked),
            whole(result.schedule.get("utd_ratio")),
            whole(result.schedule.get("learning_starts")),
            whole(result.updates),
        ]
        cells.append(Value(f"{result.hours:.2f}", result.hours))
        rows.append(Row(result.method, dataset, tuple(cells), _seeds(result)))
    short = {OFFLINE: "offline", START: "at the online start", FINAL: "final", CHANGE: "change"}
    columns = [Column(short.get(name, name.removeprefix("score ")), "score", _better(name)) for name in names]
    others = ("n", "UTD ratio", "learning starts", "updates", "hours")
    return Table(
        "scores",
        "Scores",
        _starts(summary)
        + "Normalised scores, mean over seeds. "
        + RANGES
        + "Final: the last evaluation, never the "
        "best. Change: final less the online start, seed by seed; a method that starts from nothing has "
        "none. The score at the online start is that of the pretrained policy. At so many steps: the last "
        "evaluation until then; a method that stops interacting earlier stands there as it is after its "
        "own last stage. UTD ratio: policy updates per environment step; learning starts: environment "
        "steps before anything is "
        "learnt; updates and hours: of the run alone, without its pretraining. " + BOLD,
        (Column("method", text=True), *columns, *map(Column, others)),
        tuple(rows),
    )


MEASURED = (
    *("transfer drop", COLLAPSE, RECOVER, NEARLY),
    *("area under the curve", "improvement per 1,000 steps", REGRET),
)
MEASURED_LAST = ("mean of the last tenth", "roughness")


def measures(summary: Summary, dataset: str) -> Table:
    """What happened on the way: every measure of every online method, beside its control's."""
    results = [result for result in summary.on(dataset) if result.is_online and result.runs]
    names = [name for name in (*MEASURED, *MEASURED_LAST) if any(result.of(name) for result in results)]
    rows = []
    for result in results:
        cells = [
            Value(result.method),
            *(_measure(summary, result, name) for name in names),
            seeds_shown(len(result.runs), result.asked),
        ]
        rows.append(Row(result.method, dataset, tuple(cells)))
    controls = any(summary.control_of(result) for result in results)
    beside = (
        "Small: the mean paired difference to frozen, the control of the same pretraining, whose own "
        "values are what noise alone makes. "
    )
    return Table(
        "measures",
        "On the way",
        "Mean over seeds. "
        + (beside if controls else "There is no frozen control in this suite: read with care. ")
        + "Collapse: runs that lost more than max(15, 0.3 of the score at the online start) within 20,000 "
        "steps. Steps: where it was never reached the last step counts, a lower bound; how many is said. "
        "Regret: how far training episodes scored below the online start. docs/measures.md defines all of "
        "them.",
        (
            Column("method", text=True),
            *(Column(name, metric_of(name).unit, _better(name)) for name in names),
            Column("n"),
        ),
        tuple(rows) if names else (),
    )


def final(summary: Summary) -> Table:
    """The table a paper prints: final scores (or changes), data sets down, online methods across."""
    rows, lead = [], metric_of(summary.lead)
    methods = [
        m for m in summary.online_methods if any(r.runs for r in summary.method_results if r.method == m)
    ]
    for dataset in summary.datasets:
        results = {result.method: result for result in summary.on(dataset)}
        best = bold([result for result in results.values() if result.is_online], lead.name)
        cells = [_lead(summary, results[m], m in best) if m in results else Value(DASH) for m in methods]
        rows.append(Row("", dataset, (Value(dataset), *cells)))
    title = "Change from the pretraining" if summary.starts_differ else "Final scores"
    quantity = (
        "Final less the online start" if summary.starts_differ else "Normalised score of the last evaluation"
    )
    return Table(
        "final",
        title,
        f"{_starts(summary)}{quantity}, mean over seeds. " + RANGES + BOLD,
        (Column("data set", text=True), *(Column(method, "score", "higher") for method in methods)),
        tuple(rows) if methods else (),
    )


def _lead(summary: Summary, result: MethodResult, stands_out: bool) -> Value:
    """Return the number that leads: the final score, or the change with the final score beside it."""
    shown = _number(result, metric_of(summary.lead), stands_out, n=True)
    if not summary.starts_differ or not result.final:
        return shown
    return replace(shown, beside=f"final {mean(list(result.final)):.1f}")


def _starts(summary: Summary) -> str:
    """Say that methods start from different pretrainings, where they do."""
    if not summary.starts_differ:
        return ""
    names = listed(summary.pretrainings)
    return (
        f"Methods start from different pretrainings ({names}): compare their changes, not their final "
        "scores. "
    )


def aggregates(summary: Summary) -> Table:
    """Mean, median, IQM and optimality gap over data sets, on common seeds."""
    compared = summary.comparison
    rows = []
    for label, of in summary.aggregated.items() if len(compared.datasets) > 1 else ():
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
        f"{summary.compared.capitalize()} on {count(len(compared.datasets), 'data set')}, "
        f"{count(compared.n, 'seed')} that "
        "all algorithms have. IQM: mean of the middle half of all runs; gap: what runs lack to 100. "
        + _few(compared.n),
        (Column("method", text=True), *columns, Column("n")),
        tuple(rows),
        compared.left_out,
    )


FROM_NOTHING = "A method that starts from nothing has no change: its final score is compared. "


def improvement(summary: Summary) -> Table:
    """Every online method against the reference, or its own control: difference, P(improvement), rank."""
    compared, final, reference = summary.comparison, summary.final_comparison, summary.reference
    ranks = statistics.ranks(compared.scores) if compared.n >= FEW else {}
    from_nothing = [method for method in final.scores if method not in compared.scores]
    rows, against = [], False
    for method in (*compared.scores, *from_nothing):
        beside = final if method in from_nothing else compared
        own, theirs = beside.scores[method], beside.scores.get(summary.reference_of(method))
        cells = [Value(method)]
        if theirs is None:
            cells += [Value(DASH), Value(DASH)]
        else:
            against = True
            difference = _estimated(statistics.paired_difference(own, theirs), "{:+.1f}")
            cells.append(replace(difference, beside="final score") if method in from_nothing else difference)
            cells.append(_estimated(statistics.probability_of_improvement(own, theirs), "{:.2f}"))
        if ranks:
            cells.append(_estimated(ranks[method], "{:.2f}") if method in ranks else Value(DASH))
        rows.append(Row(method, "", (*cells, Value(str(beside.n), beside.n))))
    whom = reference or "frozen, the control of its own pretraining"
    return Table(
        "improvement",
        f"Against {reference or 'the own control'}" if against else "Comparison",
        f"{summary.compared.capitalize()}, {count(compared.n, 'seed')} that all algorithms have. "
        f"Difference: to {whom}, "
        "seed by seed, then the mean. P: how likely a run scores above one of the reference on the same data "
        "set, ties half. "
        + ("Rank: among all, 1 is best, ties share. " if ranks else "")
        + (FROM_NOTHING if from_nothing else "")
        + _few(compared.n),
        (
            Column("method", text=True),
            Column("difference", "score", "higher"),
            Column("P(improvement)", "", "higher"),
            *((Column("mean rank", "", "lower"),) if ranks else ()),
            Column("n"),
        ),
        tuple(rows) if against and len(rows) > 1 else (),
        final.left_out if from_nothing else compared.left_out,
    )


def pairs(summary: Summary) -> Table:
    """Every two fine-tuning labels: paired difference and probability of improvement."""
    compared, rows = summary.comparison, []
    for first, second in combinations(compared.scores, 2):
        difference = statistics.paired_difference(compared.scores[first], compared.scores[second])
        cells = (_estimated(difference, "{:+.1f}"), _estimated(summary.pairs[first, second], "{:.2f}"))
        rows.append(Row(first, "", (Value(first), Value(second), *cells, Value(str(compared.n), compared.n))))
    return Table(
        "pairs",
        "All pairs",
        f"{summary.compared.capitalize()}, {count(compared.n, 'seed')} that all algorithms have: "
        f"the first less the second, "
        "seed by seed, then the mean; P: how likely a run of the first scores above one of the second on the "
        "same data set, ties half. Of many intervals some lie on one side by chance. " + _few(compared.n),
        (
            *(Column("method", text=True), Column("against", text=True)),
            *(Column("difference", "score", "higher"), Column("P(improvement)", "", "higher"), Column("n")),
        ),
        tuple(rows),
        compared.left_out,
    )


def beside(summary: Summary, dataset: str) -> Table:
    """What others brought in, at reporting steps and at its end."""
    marks, rows = summary.plan.reporting_steps, []
    for external in summary.external:
        own = external.on(dataset)
        if len(own):
            cells = [over_seeds(ends(own, mark)) for mark in marks]
            cells += [
                over_seeds(ends(own)),
                whole(int(own.env_steps.max())),
                Value(f"{own.seed.nunique()}"),
            ]
            about = Value(f"{external.file}, SHA-256 {external.sha256[:12]}")
            rows.append(Row("", dataset, (Value(external.name), *cells, about)))
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


def regimes(summary: Summary) -> Table:
    """What fine-tuning starts from: is the pretrained policy or the data the better prior?"""
    rows = []
    for dataset in summary.datasets:
        data_scores = summary.plan.data_scores(dataset)
        for pretraining in summary.pretrainings:
            starts = (r for r in summary.on(dataset) if r.pretraining == pretraining and r.of(OFFLINE))
            start = next(starts, None)
            pretrained = mean(list(start.of(OFFLINE).values())) if start else None
            words = regime(pretrained, *data_scores) if data_scores and pretrained is not None else "n/a"
            numbers = [pretrained, *(data_scores or (None, None))]
            named = (Value(dataset), Value(pretraining))
            rows.append(Row("", dataset, (*named, *map(_score, numbers), Value(words))))
    return Table(
        "regimes",
        "What fine-tuning starts from",
        "Scores: the pretrained policy (mean over seeds), the data's mean and best episode. The better prior "
        "is the policy where it scores above the data's mean by over max(5, 0.1 of the way to the best), "
        "the data where below, else both are comparable. n/a: the plan does not know the data's returns.",
        (
            *(Column(name, text=True) for name in ("data set", "pretraining")),
            *(Column(name, "score") for name in ("pretrained", "data, mean", "data, best")),
            Column("better prior", text=True),
        ),
        tuple(rows) if any(row.cells[2].value is not None for row in rows) else (),
    )


TABLES: dict[str, Callable[[Summary], Table]] = {
    "final": final,
    "aggregates": aggregates,
    "improvement": improvement,
    "regimes": regimes,
    "pairs": pairs,
}
"""Tables of all data sets together."""
EACH: dict[str, Callable[[Summary, str], Table]] = {"scores": scores, "measures": measures}
"""Tables of one data set."""


def bold(results: Iterable[MethodResult], name: str) -> frozenset[str]:
    """Return the methods that stand out: the best and those whose interval overlaps it; else none."""
    results = [result for result in results if result.of(name) and result.is_online]
    estimates = {result.method: result.estimate(name) for result in results}
    if len(estimates) < 2 or len({tuple(result.of(name)) for result in results}) > 1:
        return frozenset()
    bounded = {label: e for label, e in estimates.items() if e and e.low is not None and e.high is not None}
    if len(bounded) < len(estimates):
        return frozenset()
    sign = 1 if metric_of(name).higher_is_better else -1
    best = max(bounded.values(), key=lambda e: sign * e.value)
    near = {label for label, e in bounded.items() if _overlap(e, best)}
    return frozenset(near) if len(near) < len(bounded) else frozenset()


def _overlap(a: Estimate, b: Estimate) -> bool:
    a_low, a_high, b_low, b_high = (math.nan if v is None else v for v in (a.low, a.high, b.low, b.high))
    return a_low <= b_high and b_low <= a_high


def _number(result: MethodResult, metric: Metric, stands_out: bool = False, n: bool = False) -> Value:
    values = list(result.of(metric.name).values())
    if not values or (metric.name == START and not result.is_online):
        return Value(DASH)
    shown = replace(over_seeds(values, metric.form), bold=stands_out)
    if n and len(result.runs) < result.asked:
        shown = replace(shown, text=f"{shown.text}, n = {result.n}")
    return shown


def _measure(summary: Summary, result: MethodResult, name: str) -> Value:
    """Return a measure of a line, with what it differs from the control's."""
    metric, values = metric_of(name), list(result.of(name).values())
    if not values:
        return Value(DASH)
    if name == COLLAPSE:
        return Value(f"{sum(values):.0f} of {len(values)}", mean(values), n=len(values))
    other = summary.beside_control(result, name)
    sign = "{:+,.0f}" if metric.unit == "steps" else "{:+.1f}"
    never = f"{result.censored(name)} of {len(values)} never" if result.censored(name) else ""
    beside = [interval(other, sign) if other else "", never]
    return replace(over_seeds(values, metric.form), beside="; ".join(filter(None, beside)))


def _value(text: str, e: Estimate) -> Value:
    return Value(text, e.value, e.low, e.high, e.n, e.interval)


def over_seeds(values: Iterable[float], form: str = "{:.1f}") -> Value:
    """Return the mean of numbers, one for each seed, and how sure it is."""
    values = [float(value) for value in values]
    if not values:
        return Value(DASH)
    estimate = statistics.mean_over_seeds(values)
    return _value(spread(values, estimate, form), estimate)


def _estimated(estimate: Estimate, form: str = "{:.1f}") -> Value:
    return _value(interval(estimate, form), estimate)


def _differ(result: MethodResult, name: str, other: str) -> bool:
    """Tell whether two numbers of a run differ as the table shows them."""
    first, second = result.of(name), result.of(other)
    return any(abs(first[seed] - second[seed]) >= 0.05 for seed in first.keys() & second.keys())


def seeds_shown(n: int, asked: int) -> Value:
    """Return how many seeds are shown, of how many where some are missing."""
    return Value(of_asked(n, asked), n, lacking=n < asked)


def whole(value: int | None) -> Value:
    """Return a count; a dash where there is none."""
    return Value(DASH) if value is None else Value(f"{value:,}", value)


def _score(value: float | None) -> Value:
    return Value("n/a") if value is None else Value(f"{value:.1f}", value)


def _better(name: str) -> str:
    return {True: "higher", False: "lower", None: ""}[metric_of(name).higher_is_better]


def _seeds(result: MethodResult) -> str:
    if not result.runs:
        return "no seed is finished"
    if not result.is_online:
        return "seed " + ", ".join(
            f"{seed}: {b:.1f}" for seed, b in zip(result.seeds, result.final, strict=True)
        )
    each = zip(result.seeds, result.start, result.final, strict=True)
    return "seed " + ", ".join(f"{seed}: {a:.1f} → {b:.1f}" for seed, a, b in each)


def _few(n: int) -> str:
    return "" if n >= FEW else f"Fewer than {FEW} common seeds: values only, no interval, no ranking."


def shown(summary: Summary, names: Sequence[str]) -> list[Table]:
    """Return the tables of all data sets together that a plan asks for and that have something to show."""
    tables = (TABLES[name](summary) for name in names if name in TABLES)
    return [table for table in tables if table.rows]
