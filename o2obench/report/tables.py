"""The tables of a report by name: those of one data set, and those of all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from ..analysis import statistics
from ..analysis.external import ends
from ..analysis.inference import (
    FEW,
    Mark,
    paired_difference,
    probability_of_improvement,
)
from ..analysis.measures import LEVELS, regime
from ..runs.spec import FOREIGN
from .cells import (
    RANGES,
    Column,
    Row,
    Table,
    Value,
    better,
    caption,
    estimated_cell,
    marked,
    number,
    over_seeds,
    score_cell,
    seeds_shown,
    starts,
    whole,
)
from .format import DASH, count, interval, mean
from .metrics import (
    CHANGE,
    DRAWDOWN,
    FINAL,
    NOISE,
    OFFLINE,
    RECOVER,
    START,
    WINDOW,
    at,
    metric_of,
    reaching,
)
from .summary import MethodResult, Summary


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
    names = [name for name in order if any(result.of(name) for result in results)]
    theirs = any(result.algorithm == FOREIGN for result in results)
    rows = []
    for result in results:
        cells = [Value(result.method), *(number(result, metric_of(name)) for name in names)]
        cells += [
            seeds_shown(len(result.runs), result.asked),
            whole(result.schedule.get("utd_ratio")),
            whole(result.schedule.get("learning_starts")),
            whole(result.updates),
        ]
        cells.append(Value(f"{result.hours:.2f}", result.hours))
        if theirs:
            cells.append(Value("yes" if result.algorithm == FOREIGN else ""))
        rows.append(Row(result.method, dataset, tuple(cells), _seeds(result)))
    short = {OFFLINE: "offline", START: "at the online start", FINAL: "final", CHANGE: "change"}
    columns = [Column(short.get(name, name.removeprefix("score ")), "score", better(name)) for name in names]
    others = ("n", "UTD ratio", "learning starts", "updates", "hours", *(["foreign"] if theirs else []))
    return Table(
        "scores",
        "Scores at single evaluations",
        starts(summary)
        + "Normalised scores, mean over seeds. "
        + RANGES
        + "One evaluation varies more than an area or a window does: nothing is marked here. Final: the last "
        "evaluation, never the "
        "best. Change: final less the online start, seed by seed; a method that starts from nothing has "
        "none. The score at the online start is that of the pretrained policy. At so many steps: the last "
        "evaluation until then; a method that stops interacting earlier stands there as it is after its "
        "own last stage. UTD ratio: policy updates per environment step; learning starts: environment "
        "steps before anything is "
        "learnt; updates and hours: of the run alone, without its pretraining."
        + (" Foreign: a program of its authors, which steps through a bridge." if theirs else ""),
        (Column("method", text=True), *columns, *map(Column, others)),
        tuple(rows),
    )


def measures(summary: Summary, dataset: str) -> Table:
    """What happened on the way: every other measure of every online method, beside its control's."""
    results = [result for result in summary.on(dataset) if result.is_online and result.runs]
    levels = [
        reaching(level)
        for level in LEVELS
        if any(len(result.of(reaching(level))) > result.censored(reaching(level)) for result in results)
        and any(start < level for result in results for start in result.start)
    ]
    order = (DRAWDOWN, RECOVER, *levels, "improvement per 1,000 steps", NOISE)
    names = [name for name in order if any(result.of(name) for result in results)]
    rows = []
    for result in results:
        cells = [
            Value(result.method),
            *(_measure(summary, result, name) for name in names),
            seeds_shown(len(result.runs), result.asked),
        ]
        rows.append(Row(result.method, dataset, tuple(cells)))
    controls = any(summary.control_of(result) for result in results)
    beside = "Small: the mean paired difference to frozen, the control of the same pretraining. "
    return Table(
        "measures",
        "On the way",
        "Mean over seeds. "
        + RANGES
        + (beside if controls else "")
        + "Maximum drawdown: the most that the three-point median falls below its highest value so far, "
        "less what the run's own episode noise alone makes. Steps to recover: of runs that fell more than 5 "
        "points below the start. Steps to a score count to the end of the budget where it was never "
        "reached; how many did is said. Evaluation noise: the standard error of one evaluation of this "
        "method. docs/measures.md defines all of them.",
        (
            Column("method", text=True),
            *(Column(name, metric_of(name).unit, better(name)) for name in names),
            Column("n"),
        ),
        tuple(rows) if names else (),
    )


def final(summary: Summary) -> Table:
    """The table a paper prints: the leading metric, data sets down, online methods across."""
    rows, counts = [], dict[str, Mapping[str, Mark]]()
    methods = [
        m for m in summary.online_methods if any(r.runs for r in summary.method_results if r.method == m)
    ]
    for dataset in summary.datasets:
        results = {result.method: result for result in summary.on(dataset)}
        counts[dataset] = summary.marks(dataset, summary.lead)
        cells = [
            _lead(summary, results[m], counts[dataset]) if m in results else Value(DASH) for m in methods
        ]
        rows.append(Row("", dataset, (Value(dataset), *cells)))
    title = "Area above the start" if summary.starts_differ else "Area under the fine-tuning curve"
    return Table(
        "final",
        title,
        f"{starts(summary)}Mean over seeds; small: the last window. " + RANGES + caption(counts),
        (Column("data set", text=True), *(Column(method, "score", "higher") for method in methods)),
        tuple(rows) if methods else (),
    )


def _lead(summary: Summary, result: MethodResult, marks: Mapping[str, Mark]) -> Value:
    """Return the number that leads, with the last window beside it."""
    window = list(result.of(WINDOW).values())
    return replace(marked(result, summary.lead, marks), beside=f"last {mean(window):.1f}" if window else "")


def aggregates(summary: Summary) -> Table:
    """Mean, median, IQM and optimality gap over data sets, on common seeds."""
    compared = summary.comparison
    rows = []
    for label, of in summary.aggregated.items() if len(compared.datasets) > 1 else ():
        cells = [estimated_cell(of[name]) for name in statistics.STATISTICS]
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


def improvement(summary: Summary) -> Table:
    """Every online method against the reference, or its own control: difference, P(improvement), rank."""
    compared, reference = summary.comparison, summary.reference
    ranks = statistics.ranks(compared.scores) if compared.n >= FEW else {}
    rows, left_out = [], dict.fromkeys(compared.left_out)
    for method in summary.online_methods:
        metric = next((m for m, beside in summary.comparisons.items() if method in beside.scores), "")
        if not metric:
            continue
        beside = summary.comparisons[metric]
        own, theirs = beside.scores[method], beside.scores.get(summary.reference_of(method))
        cells = [Value(method), Value(DASH), Value(DASH)]
        if theirs is not None:
            difference = estimated_cell(paired_difference(own, theirs), "{:+.1f}")
            cells[1] = replace(difference, beside="" if metric == summary.lead else metric)
            cells[2] = estimated_cell(probability_of_improvement(own, theirs), "{:.2f}")
        if metric != summary.lead:
            left_out |= dict.fromkeys(beside.left_out)
        if ranks:
            cells.append(estimated_cell(ranks[method], "{:.2f}") if method in ranks else Value(DASH))
        rows.append(Row(method, "", (*cells, Value(str(beside.n), beside.n))))
    against = any(row.cells[1].value is not None for row in rows)
    whom = reference or "frozen, the control of its own pretraining"
    return Table(
        "improvement",
        f"Against {reference or 'the own control'}" if against else "Comparison",
        f"{summary.compared.capitalize()}, on the seeds that all of them have. Difference: to {whom}, seed "
        "by seed, then the mean; data sets that share a run count as one. Small: the metric where it is "
        "another one, since a method that starts from nothing gains nothing, and one that learns after its "
        "last step has no area. P: how likely a run scores above one of the reference on the same data set, "
        "ties half. " + ("Rank: among all, 1 is best, ties share. " if ranks else "") + _few(compared.n),
        (
            Column("method", text=True),
            Column("difference", "score", "higher"),
            Column("P(improvement)", "", "higher"),
            *((Column("mean rank", "", "lower"),) if ranks else ()),
            Column("n"),
        ),
        tuple(rows) if against and len(rows) > 1 else (),
        tuple(left_out),
    )


def pairs(summary: Summary) -> Table:
    """Every two fine-tuning labels: paired difference and probability of improvement."""
    compared, rows = summary.comparison, []
    for first, second in combinations(compared.scores, 2):
        difference = paired_difference(compared.scores[first], compared.scores[second])
        cells = (
            estimated_cell(difference, "{:+.1f}"),
            estimated_cell(summary.pairs[first, second], "{:.2f}"),
        )
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
            doubt = f"; {external.doubt()}" if external.doubt() else ""
            about = Value(f"{external.file}, SHA-256 {external.sha256[:12]}{doubt}")
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
            rows.append(Row("", dataset, (*named, *map(score_cell, numbers), Value(words))))
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
"""Tables of one data set, beside ``lead``, which every report has."""


def _measure(summary: Summary, result: MethodResult, name: str) -> Value:
    """Return a measure with its difference to the control's; of a time, how many runs reached it."""
    metric, values = metric_of(name), list(result.of(name).values())
    if not values:
        return Value(DASH)
    if metric.unit == "steps":
        reached = len(values) - result.censored(name)
        return replace(over_seeds(values, metric.form), beside=f"{reached} of {len(values)} did")
    other = summary.beside_control(result, name) if name != NOISE else None
    return replace(over_seeds(values, metric.form), beside=interval(other, "{:+.1f}") if other else "")


def _differ(result: MethodResult, name: str, other: str) -> bool:
    """Tell whether two numbers of a run differ as the table shows them."""
    first, second = result.of(name), result.of(other)
    return any(abs(first[seed] - second[seed]) >= 0.05 for seed in first.keys() & second.keys())


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
