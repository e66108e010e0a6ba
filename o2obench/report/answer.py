"""The table that answers: which method fine-tunes best, on one data set or on all, and what it loses."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..analysis.inference import BY_T, estimated, mean_of
from ..analysis.measures import LEAST_START
from . import league
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
    starts,
)
from .format import DASH, count, mean
from .metrics import AREA, GAINED, LOSS, START, WINDOW, metric_of
from .summary import MethodResult, Summary


def lead(summary: Summary, dataset: str) -> Table:
    """The answer: start, area, last window, loss on the way and collapses, the best method first."""
    results = [result for result in summary.on(dataset) if result.is_online and result.runs]
    results.sort(key=lambda result: -mean(list(result.of(summary.lead).values()) or [-math.inf]))
    leading = (GAINED, AREA, WINDOW) if summary.starts_differ else (AREA, WINDOW)
    names = [name for name in leading if any(result.of(name) for result in results)]
    marks = {name: summary.marks(dataset, name) for name in names}
    lost = any(result.diverged for result in results)
    rows = []
    for result in results:
        cells = [Value(result.method), *league.cells(summary.plan, result.method, dataset)]
        cells.append(number(result, metric_of(START)))
        cells += [marked(result, name, marks[name]) for name in names]
        if lost:
            cells.append(over_seeds(result.with_diverged(summary.lead), metric_of(summary.lead).form))
        cells += [number(result, metric_of(LOSS)), _failures(result)]
        rows.append(Row(result.method, dataset, tuple(cells)))
    heads = [Column(name, "score", "higher") for name in names]
    heads += [Column(f"{summary.lead}, diverged as 0", "score", "higher")] if lost else []
    return Table(
        "lead",
        "Which method fine-tunes best",
        starts(summary)
        + f"Normalised scores, mean over {_seeds_of(results)}. "
        + RANGES
        + "Area: the mean score over all environment steps of fine-tuning. "
        + "Last window: the mean over the last 20 % of the steps (of the updates, where a method learns "
        "after its last step; it has no area then), from 3 evaluations on. Loss on the way: how far "
        "training episodes scored below the start, per step; negative: above. Collapsed: runs whose last "
        "window lies below half of their start, or that diverged; n/a below a start of "
        f"{LEAST_START:g}. Beside it what else the seeds allow, with 95 % confidence. "
        + caption(marks)
        + league.note(summary.plan)
        + (
            "A diverged run counts with a score of 0 from then on in the column that says so. "
            if lost
            else ""
        ),
        (
            Column("method", text=True),
            *league.columns(summary.plan),
            Column("start", "score"),
            *heads,
            Column(LOSS, "score", "lower"),
            Column("collapsed", "runs"),
        ),
        tuple(rows) if names else (),
    )


def lead_of_all(summary: Summary) -> Table:
    """The answer over all data sets, on the seeds that all methods have; shared runs count once."""
    measured = {name: summary.compared_by(name) for name in (START, summary.lead, WINDOW, LOSS)}
    names = [name for name in measured if measured[name].scores]
    lead = measured[summary.lead].scores
    methods = sorted(
        (method for method in summary.online_methods if any(method in measured[n].scores for n in names)),
        key=lambda method: -float(lead[method].values.mean()) if method in lead else math.inf,
    )
    rows = []
    for method in methods:
        cells = [Value(method), *league.cells(summary.plan, method)]
        for name in names:
            scores = measured[name].scores.get(method)
            form = metric_of(name).form
            cells.append(
                estimated_cell(estimated(mean_of(scores), len(scores.seeds), BY_T), form)
                if scores
                else Value(DASH)
            )
        failures = [r.failures for r in summary.method_results if r.method == method and r.failures]
        counts = (sum(f.count for f in failures), sum(f.n for f in failures))
        text = f"{counts[0]} of {counts[1]}" if failures else "n/a"
        rows.append(Row(method, "", (*cells, Value(text, counts[0] / counts[1] if failures else None))))
    compared = measured[summary.lead]
    short = {START: "start"}
    return Table(
        "lead_all",
        "Which method fine-tunes best",
        league.note(summary.plan)
        + starts(summary)
        + f"Normalised scores: mean of {count(len(compared.datasets), 'data set')} and "
        f"{count(compared.n, 'seed')} "
        "that all methods have, with the 95 % t interval over seeds, stratified over data sets. Start, "
        "area, last window, loss on the way and collapses are those of the tables of single data sets, "
        "where marks say who can be told apart.",
        (
            Column("method", text=True),
            *league.columns(summary.plan),
            *(Column(short.get(name, name), "score", better(name)) for name in names),
            Column("collapsed", "runs"),
        ),
        tuple(rows) if lead else (),
        compared.left_out,
    )


def _seeds_of(results: Sequence[MethodResult]) -> str:
    """Return ``5 seeds``, or ``3 to 5 seeds``."""
    numbers = sorted({len(result.runs) for result in results})
    if len(numbers) < 2:
        return count(numbers[0], "seed") if numbers else "no seeds"
    return f"{numbers[0]} to {count(numbers[-1], 'seed')}"


def _failures(result: MethodResult) -> Value:
    """Return how many runs collapsed or diverged, and how many more the seeds do not rule out."""
    failures = result.failures
    if failures is None:
        return Value("n/a")
    low, high = failures.interval
    may = f"at most {high:.0%}" if not failures.count else f"{low:.1%} to {high:.0%}"
    return Value(f"{failures.count} of {failures.n}", failures.count / failures.n, n=failures.n, beside=may)
