"""What the tables of a standing protocol say besides: whose a row is, its tuning, what more seeds give."""

from __future__ import annotations

from ..analysis.inference import FEWEST, width_at
from ..planning.plan import Plan
from .cells import Column, Row, Table, Value, seeds_shown, whole
from .format import DASH
from .metrics import WINDOW
from .summary import Summary

ENTRY = "entry (protocol)"
SEEDS = (5, 10, 20)
"""The seeds of which the width of an interval is expected."""


def columns(plan: Plan) -> list[Column]:
    """Return the columns of a row's standing; none where the suite is no standing protocol."""
    if not plan.protocol:
        return []
    return [Column(ENTRY, text=True), Column("tuning runs", "runs")]


def cells(plan: Plan, method: str, dataset: str = "") -> list[Value]:
    """Return the cells of these columns, for a method on a data set or on all of its own."""
    if not plan.protocol:
        return []
    shown = {(name, on) for name, on in plan.groups if name == method and dataset in ("", on)}
    kind = "verified" if shown <= {*plan.verified} else "submitted"
    return [Value(f"{kind} ({plan.protocol})"), whole(plan.tuning_runs.get(method))]


def note(plan: Plan) -> str:
    """Say how these columns are read."""
    if not plan.protocol:
        return ""
    return (
        "Entry: verified is a member of the package, with the options and budgets it has there; submitted is "
        "any other. Tuning runs: by so many runs its options were chosen, as declared by whoever submitted "
        "it; a dash: not declared. "
    )


def more_seeds(summary: Summary, dataset: str) -> Table:
    """How wide the interval of a mean is expected to be with more seeds, from how far these runs deviate."""
    names = [summary.lead, WINDOW]
    rows = []
    for result in (r for r in summary.on(dataset) if r.is_online and summary.plan.protocol):
        each = [list(result.of(name).values()) for name in names]
        if all(len(values) < FEWEST for values in each):
            continue
        row = [Value(result.method)]
        for values in each:
            wide = [width_at(values, n) if len(values) >= FEWEST else None for n in SEEDS]
            row += [Value(DASH) if width is None else Value(f"{width:.1f}", width) for width in wide]
        rows.append(Row(result.method, dataset, (*row, seeds_shown(len(result.runs), result.asked))))
    return Table(
        "more_seeds",
        "What more seeds would change: expected widths of intervals",
        "Expected, not measured: the width of the 95 % t interval of the mean at so many seeds, if they "
        f"deviated as those that are shown do (from {FEWEST} on). How a mean itself would move is not known.",
        (
            Column("method", text=True),
            *(Column(f"{name}, {n} seeds", "score") for name in names for n in SEEDS),
            Column("n"),
        ),
        tuple(rows),
    )
