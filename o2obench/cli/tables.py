"""Tables on the terminal: what commands find, as rich tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from ..analysis import statistics
from ..analysis.compare import SIDES, Pair, Side, interval_text
from ..analysis.diff import LOGS, Difference
from ..analysis.model_error import ModelError
from ..datasets.describe import where
from ..datasets.registry import data_folder, dataset_names, find_dataset
from ..launch.status import STATES, RunStatus, SuiteStatus, clock, headline
from ..planning.plan import Plan

COLOURS = {
    **{"done": "green", "running": "cyan", "failed": "red", "diverged": "red"},
    **{"interrupted": "yellow", "stale": "yellow"},
}


def comparison_table(pair: Pair) -> Table:
    """Return a pair as a table: what is compared above it, what could not be paired below it."""
    title = [f"{name}: {_side(side)}" for name, side in zip(SIDES, (pair.a, pair.b), strict=True)]
    title += [*pair.protocol, *_reduced(pair), *(f"note: {note}" for note in pair.notes)]
    below = [f"not paired: {line}" for line in pair.unpaired] or ["every run is paired"]
    table = Table(
        title=escape("\n".join(title)),
        caption=escape("\n".join(below)),
        title_justify="left",
        caption_justify="left",
    )
    for name in ("measure", "data set", "A", "B", "B - A", "interval", "n", ""):
        table.add_column(name, justify="left" if name in ("measure", "data set", "") else "right")
    above = ""
    for row in pair.rows:
        name, above = "" if row.measure == above else f"{row.measure} ({row.unit})", row.measure
        numbers = (f"{row.a:.2f}", f"{row.b:.2f}", f"{row.difference.value:+.2f}")
        small = " small n" if row.difference.low is not None and row.difference.n < statistics.MANY else ""
        colour = {"worse": "red", "better": "green", "": "default"}[row.verdict]
        verdict = f"[{colour}]{row.verdict}[/]" if row.verdict else ""
        table.add_row(
            name,
            escape(row.dataset),
            *numbers,
            interval_text(row.difference) + small,
            f"{row.difference.n}",
            verdict,
        )
    return table


def _side(side: Side) -> str:
    versions = "; ".join(side.versions) or "not begun"
    return f"{side.method} of {side.suite} in {side.results} ({versions})"


def _reduced(pair: Pair) -> list[str]:
    """Return what was cut on both sides in one line, and what on one side only."""
    both = [line for line in pair.a.reduced if line in pair.b.reduced]
    parts = [("both", both)]
    for name, side in zip(SIDES, (pair.a, pair.b), strict=True):
        parts.append((name, [line for line in side.reduced if line not in both]))
    return [f"reduced ({name}): {', '.join(lines)}" for name, lines in parts if lines]


def difference_table(difference: Difference) -> Table:
    """Return the difference as a table."""
    table = Table(title=escape(f"A: {difference.a}\nB: {difference.b}"), title_justify="left")
    table.caption_justify = "left"
    for name in ("kind", "what", "A", "B"):
        table.add_column(name, overflow="fold")
    for entry in difference.differs:
        table.add_row(entry.kind, escape(entry.what), escape(_short(entry.a)), escape(_short(entry.b)))
    for parted in difference.parted:
        where = f"{parted.log}, line {parted.line}"
        table.add_row("outcome", escape(where), *(escape(_log_row(row)) for row in (parted.a, parted.b)))
    ends = [name for name in LOGS if name not in {parted.log for parted in difference.parted}]
    same = [
        f"{name}: all {difference.equal[name]} lines are equal" for name in ends if difference.equal[name]
    ]
    if not difference.differs and not difference.parted:
        same.insert(0, "nothing differs")
    table.caption = escape("\n".join(same)) or None
    return table


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _log_row(row: Mapping[str, Any] | None) -> str:
    """Say a log's row in a few words: its clock and its return."""
    if row is None:
        return "has ended"
    clock = f"{row['stage']}, {row['env_steps']:,} steps"
    if "returns" in row:
        mean = sum(row["returns"]) / len(row["returns"])
        return f"{clock}, {row['updates']:,} updates: mean return {mean:.6g} of {len(row['returns'])}"
    return f"{clock}: return {row['return']:.6g}, length {row['length']:,}"


def model_error_table(errors: Sequence[ModelError]) -> Table:
    """Return what the command prints."""
    shown = Table(title="Prediction error against the simulator", title_justify="left")
    for name in (
        "run",
        "source",
        "model",
        "n",
        "skipped",
        "mean",
        "median",
        "95 %",
        "max",
        "rmse",
        "nll",
        "u",
        "rank",
    ):
        shown.add_column(
            name, justify="left" if name in ("run", "source", "model") else "right", overflow="fold"
        )
    above = ""
    for error in errors:
        numbers = (
            error.mean,
            error.median,
            error.q95,
            error.max,
            error.rmse,
            error.nll,
            error.uncertainty,
            error.rank,
        )
        cells = [f"{number:.3g}" for number in numbers]
        run, above = "" if error.run == above else error.run, error.run
        shown.add_row(
            escape(run),
            escape(error.source),
            escape(error.model),
            f"{error.n:,}",
            f"{error.skipped:,}",
            *cells,
        )
    return shown


def suites_table(suites: Sequence[SuiteStatus]) -> Table:
    """Return one line per suite, and below it each suite's last error."""
    states = [state for state in STATES if any(suite.counts[state] for suite in suites)]
    table = Table(title_justify="left", caption_justify="left")
    for column in ("suite", *states, "progress", "per second", "left"):
        table.add_column(column, justify="left" if column == "suite" else "right")
    for suite in suites:
        counts = [f"[{COLOURS.get(s, 'dim')}]{suite.counts[s]}[/]" if suite.counts[s] else "" for s in states]
        nothing = "no speed yet" if suite.counts["running"] else "nothing runs"
        remaining = nothing if suite.seconds_left is None else clock(suite.seconds_left)
        done = suite.seconds_left == 0.0
        table.add_row(
            *(escape(suite.suite), *counts, f"{suite.share:.0%}"),
            *(f"{suite.rate:,.0f}" if suite.rate else "", "" if done else remaining),
        )
    errors = [f"{escape(suite.error)}\n  log: {escape(suite.log)}" for suite in suites if suite.error]
    table.caption = "\n".join(["last errors:", *errors]) if errors else None
    return table


def runs_table(plan: Plan, runs: Sequence[RunStatus], footer: str = "", limit: int | None = None) -> Table:
    """Return the runs of a suite, one line each; beyond ``limit`` rows, the most telling ones."""
    table = Table(title=escape(headline(plan, runs)), caption=footer or None, title_justify="left")
    for column in ("algorithm", "dataset", "seed", "state", "doing", "score"):
        table.add_column(column, justify="right" if column in ("seed", "score") else "left")
    shown = list(runs)
    if limit is not None and len(runs) > limit:
        telling = ("failed", "diverged", "stale", "running", "interrupted", "waiting", "done")
        shown = sorted(runs, key=lambda run: telling.index(run.state))[:limit]
        table.caption = f"and {len(runs) - limit} more runs. {footer}"
    for run in shown:
        colour = COLOURS.get(run.state, "dim")
        table.add_row(
            *(escape(run.method), escape(run.dataset), str(run.seed), f"[{colour}]{run.state}[/]"),
            escape(run.error[:60] if run.error else run.doing),
            "" if run.score is None else f"{run.score:.1f}",
        )
    return table


def datasets_table(words: str = "") -> Table:
    """Return the known data sets whose name holds ``words``: environment, size, scores, where they are."""
    datasets = [find_dataset(name) for name in dataset_names() if words in name]
    table = Table(
        title=f"{len(datasets)} data sets", title_justify="left", caption=escape(f"files: {data_folder()}")
    )
    for column in ("name", "environment", "MB", "return of score 0", "and 100", "where"):
        table.add_column(
            column, justify="right" if column in ("MB", "return of score 0", "and 100") else "left"
        )
    for dataset in datasets:
        size = f"{dataset.file.stat().st_size / 1e6:.1f}" if dataset.file and dataset.present else ""
        scores = (f"{dataset.scores.ref_min:g}", f"{dataset.scores.ref_max:g}")
        table.add_row(
            escape(dataset.name),
            escape(dataset.env.id),
            size,
            *scores,
            where(dataset),
            style="" if dataset.present else "dim",
        )
    return table
