"""Tables on the terminal: what commands find, as rich tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from ..analysis.compare import SIDES, Pair, Side, interval_text
from ..analysis.diff import LOGS, Difference
from ..analysis.model_error import ModelError
from ..datasets.describe import where
from ..datasets.registry import data_folder, dataset_names, find_dataset
from ..launch.status import STATES, RunStatus, SuiteStatus, clock, headline
from ..planning.plan import Plan
from ..report import cache
from .markup import escape

if TYPE_CHECKING:
    from ..analysis.league import LeagueCheck
    from ..analysis.league_reference import Band

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
    for name in ("measure", "data set", "A", "B", "B - A", "95 % interval", "n"):
        table.add_column(name, justify="left" if name in ("measure", "data set") else "right")
    above = ""
    for row in pair.rows:
        name, above = "" if row.measure == above else f"{row.measure} ({row.unit})", row.measure
        numbers = (f"{row.a:.2f}", f"{row.b:.2f}", f"{row.difference.value:+.2f}")
        table.add_row(
            name, escape(row.dataset), *numbers, interval_text(row.difference), f"{row.difference.n}"
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


def league_table(check: LeagueCheck) -> Table:
    """Return a row for each method and data set with the seeds that count."""
    table = Table()
    for name in ("method", "data set", "", "tuning runs", "seeds that count"):
        table.add_column(name)
    for row in check.rows:
        seeds = ", ".join(map(str, row.seeds)) or "none"
        tuning = "" if row.tuning_runs is None else f"{row.tuning_runs:,}"
        table.add_row(escape(row.method), escape(row.dataset), row.kind, tuning, seeds)
    return table


def bands_table(bands: Sequence[Band]) -> Table:
    """Return a row for each measure of a member: the mean here, where it is expected, and the package's."""
    table = Table(title="Does this set-up compute what ours does?", title_justify="left")
    for name in ("method", "data set", "measure", "here", "n", "95 % band", "", "ours [95 %]", "n"):
        table.add_column(name, justify="right" if name in ("here", "n") else "left")
    for band in bands:
        here, between, where = "none", "", ""
        if band.mean is not None:
            here, between = f"{band.mean:.1f}", f"{band.low:.1f} to {band.high:.1f}"
            where = "inside" if band.inside else "outside"
        ours = f"{band.ours.value:.1f} [{band.ours.low:.1f}, {band.ours.high:.1f}]"
        names = (escape(band.method), escape(band.dataset), band.measure)
        table.add_row(*names, here, f"{band.n}", between, where, escape(ours), f"{band.ours.n}")
    return table


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


def at_about(seconds: float, now: datetime | None = None) -> str:
    """Return the time of day in so many seconds, with the day where it is another one."""
    now = now or datetime.now()
    then = now + timedelta(seconds=seconds)
    if then.date() == now.date():
        return f"{then:%H:%M}"
    return f"{then:%a %H:%M}" if then - now < timedelta(days=6) else f"{then:%d %b}"


TELLING = ("failed", "diverged", "stale", "running", "interrupted", "waiting", "done")
"""The states of runs, those first that somebody who looks wants to see first."""


def suites_table(suites: Sequence[SuiteStatus], limit: int | None = None) -> Table:
    """Return one line per suite, and below it each suite's last error.

    Beyond ``limit`` rows, the most telling ones; the last errors are those of the suites that are shown.
    """
    states = [state for state in STATES if any(suite.counts[state] for suite in suites)]
    hidden = 0 if limit is None else max(0, len(suites) - limit)
    if hidden:
        suites = sorted(suites, key=_telling)[:limit]
    table = Table(title_justify="left", caption_justify="left")
    for column in ("suite", *states, "progress", "per second", "left"):
        table.add_column(column, justify="left" if column == "suite" else "right")
    for suite in suites:
        counts = [f"[{COLOURS.get(s, 'dim')}]{suite.counts[s]}[/]" if suite.counts[s] else "" for s in states]
        nothing = "no speed yet" if suite.counts["running"] else "nothing runs"
        left = suite.seconds_left
        remaining = nothing if left is None else f"{clock(left)}, {at_about(left)}"
        done = suite.seconds_left == 0.0
        table.add_row(
            *(escape(suite.suite), *counts, f"{suite.share:.0%}"),
            *(f"{suite.rate:,.0f}" if suite.rate else "", "" if done else remaining),
        )
    errors = [f"{escape(suite.error)}\n  log: {escape(suite.log)}" for suite in suites if suite.error]
    below = [f"and {hidden:,} more suites; --suite NAME shows one, --json all"] if hidden else []
    table.caption = "\n".join([*below, *(["last errors:", *errors] if errors else [])]) or None
    return table


def _telling(suite: SuiteStatus) -> int:
    return next((i for i, state in enumerate(TELLING) if suite.counts[state]), len(TELLING))


NARROW = 100
"""Columns of a terminal below which bars and spark lines are half as long."""


def runs_table(
    plan: Plan, runs: Sequence[RunStatus], footer: str = "", limit: int | None = None, width: int = 120
) -> Table:
    """Return the runs of a suite, one line each; beyond ``limit`` rows, the most telling ones.

    No line is longer than ``width``: names give way, and what is left to do never wraps.
    """
    title = "\n".join(filter(None, (headline(plan, runs), footer)))
    table = Table(title=escape(title), title_justify="left", caption_justify="left")
    shown = list(runs)
    if limit is not None and len(runs) > limit:
        shown = sorted(runs, key=lambda run: TELLING.index(run.state))[:limit]
        table.caption = f"and {len(runs) - limit} more runs"
    size = 0.5 if width < NARROW else 1.0
    columns = {
        "seed": [str(run.seed) for run in shown],
        "state": [f"[{COLOURS.get(run.state, 'dim')}]{run.state}[/]" for run in shown],
        "progress": [escape(run.error[: int(40 * size)]) if run.error else _bar(run, size) for run in shown],
        "left": [clock(run.seconds_left) if run.seconds_left is not None else "" for run in shown],
        "score": [f"{spark(run.scores, size)} {_one_digit(run.score)}".strip() for run in shown],
    }
    if not any(columns["left"]):
        del columns["left"]
    taken = sum(max(map(cell_len, (name, *map(_plain, cells)))) + 3 for name, cells in columns.items())
    names = {"method": [run.method for run in shown]}
    if len({run.dataset for run in runs}) > 1:
        names["data set"] = [run.dataset for run in shown]
    room = max((width - taken - 1) // len(names) - 3, 8)
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=room)
    for name in columns:
        justify: Literal["left", "right"] = "left" if name in ("state", "progress") else "right"
        table.add_column(name, justify=justify, no_wrap=True)
    for row in zip(
        *([escape(cell) for cell in cells] for cells in names.values()), *columns.values(), strict=True
    ):
        table.add_row(*row)
    return table


def _plain(markup: str) -> str:
    return Text.from_markup(markup).plain


def _one_digit(score: float | None) -> str:
    return "" if score is None else f"{score:.1f}"


def answer(report: Path) -> Iterator[Table | str]:
    """Yield the answer of a report that was just written: its table, and its headline in words."""
    about = cache.about(report)
    if about.get("rows"):
        table = Table()
        for i, name in enumerate(about["columns"]):
            table.add_column(escape(name), justify="right" if i else "left")
        for row in about["rows"]:
            table.add_row(*map(escape, row))
        yield table
    yield escape(str(about.get("headline", "")))


SPARKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
LINE, BAR, MOST_SPARKS = "\u2501", 12, 10


def _bar(run: RunStatus, size: float = 1.0) -> str:
    """Return how much of a run is done, as a bar while it is neither done nor waiting."""
    share = run.done / run.planned if run.planned else 0.0
    if run.state in ("done", "waiting"):
        return ""
    whole = int(BAR * size)
    full = round(whole * share)
    return f"[cyan]{LINE * full}[/][dim]{LINE * (whole - full)}[/] {share:4.0%}"


def spark(scores: Sequence[float], size: float = 1.0) -> str:
    """Return the last evaluations as small columns, from the least to the greatest of them."""
    shown = scores[-int(MOST_SPARKS * size) :]
    if len(shown) < 2:
        return ""
    low, high = min(shown), max(shown)
    heights = [(score - low) / (high - low) if high > low else 0.0 for score in shown]
    return "".join(SPARKS[round(height * (len(SPARKS) - 1))] for height in heights)


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
            escape(dataset.env.id.partition("(")[0]),
            size,
            *scores,
            where(dataset),
            style="" if dataset.present else "dim",
        )
    return table
