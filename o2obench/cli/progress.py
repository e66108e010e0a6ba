"""Progress: a live table on a terminal, plain lines elsewhere, and the forecast of a plan."""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from ..analysis.results import parts, rate, seconds
from ..datasets.download import Say, Show, by_tenths
from ..launch.local import Outcome
from ..launch.status import (
    PRIOR_RATE,
    RunStatus,
    clock,
    ends,
    headline,
    status,
    summarise,
    time_left,
)
from ..planning.plan import Plan, read_plans
from ..runs.folder import ResultsFolder
from ..runs.spec import Run, evaluations_due, schedule_text
from .markup import escape
from .tables import runs_table, suites_table

PLAIN_EVERY, WATCH_EVERY = 15.0, 3.0
"""Seconds between two lines of a launch, and two pictures of a watched folder."""
SHARE = 0.05
"""Of a launcher's time, for reading where the runs stand."""
MOST_LINES = 200
"""Suites, and runs of one, that are listed where nobody can scroll back."""


@functools.cache
def console() -> Console:
    """Return the console that all output goes through."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show on a terminal what goes on and for how long, and take the line away at the end.

    It stands on standard error and leaves the output alone.
    """
    shown = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns,
        console=shown,
        transient=True,
        disable=not shown.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as line:
        line.add_task(escape(doing), total=None)
        yield


@contextmanager
def download_progress() -> Iterator[tuple[Say, Show]]:
    """Show downloads: a bar each on a terminal, a line for each tenth elsewhere."""

    def say(text: str) -> None:
        console().print(escape(text), soft_wrap=True)

    if not console().is_terminal:
        yield say, by_tenths(say)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console()) as bars:
        tasks: dict[str, TaskID] = {}

        def show(address: str, have: int, whole: int | None) -> None:
            if address not in tasks:
                tasks[address] = bars.add_task(escape(address.rpartition("/")[2]), total=whole)
            bars.update(tasks[address], completed=have, total=whole)

        yield say, show


@contextmanager
def launch_progress(plan: Plan, results: ResultsFolder, jobs: int) -> Iterator[Callable[[], None]]:
    """Show the table of runs while a launch goes on; yield the function that refreshes it."""
    before = status(plan, results)
    done_before, began = sum(run.done for run in before), time.monotonic()

    def footer(runs: list[RunStatus]) -> str:
        seconds = time.monotonic() - began
        remaining = time_left(runs, done_before, seconds, jobs)
        return f"{clock(seconds)} so far, about {clock(remaining)} left, {jobs} at once"

    if console().is_terminal:
        with Live(console=console(), refresh_per_second=2, transient=True) as live:

            def show() -> None:
                runs = status(plan, results)
                live.update(
                    runs_table(plan, runs, footer(runs), max(5, console().height - 8), console().width)
                )

            yield _at_most_every(1.0, show)
        return

    def line() -> None:
        runs = status(plan, results)
        console().print(escape(f"{headline(plan, runs)} | {footer(runs)}"), soft_wrap=True)
        for run in runs:
            if run.state == "running":
                console().print(escape(_line(run)), soft_wrap=True)

    line()
    yield _at_most_every(PLAIN_EVERY, line)


def show_status(results: ResultsFolder, suite: str, watch: bool, as_json: bool) -> None:
    """Print where the suites of a folder stand; with ``watch`` again and again, until Ctrl-C."""

    def read() -> list[tuple[Plan, list[RunStatus]]]:
        return [(plan, status(plan, results)) for plan in read_plans(results, suite)]

    def picture() -> RenderableType:
        suites = read()
        limit = max(5, console().height - 14) if console().is_terminal else MOST_LINES
        shown: list[RenderableType] = [
            suites_table([summarise(plan, runs, results) for plan, runs in suites], limit)
        ]
        if suite or len(suites) == 1:
            shown += [runs_table(plan, runs, limit=limit, width=console().width) for plan, runs in suites]
        return Group(*shown)

    if as_json:
        statuses = [
            {**vars(summarise(plan, runs, results)), "runs": [vars(run) for run in runs]}
            for plan, runs in read()
        ]
        print(json.dumps(statuses, indent=1))
    elif not watch:
        console().print(picture())
    else:
        with Live(picture(), console=console(), auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_EVERY)
                live.update(picture(), refresh=True)


@contextmanager
def run_progress(plan: Plan, run: Run, results: ResultsFolder) -> Iterator[None]:
    """Announce a run that is computed in this process, and say every few seconds how far it is."""
    updates, steps = plan.work(run)
    console().print(escape(f"{run.id}: {updates:,} updates, {steps:,} environment steps"), soft_wrap=True)
    for line in cautions(plan, [run]):
        console().print(escape(line), soft_wrap=True)
    over = threading.Event()

    def tell() -> None:
        while not over.wait(PLAIN_EVERY):
            [now] = [entry for entry in status(plan, results) if entry.run == run.id]
            console().print(escape(_line(now)), soft_wrap=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
    folder = results.run(run.id)
    first, last = ends(folder, plan.scores[plan.experiments[0].dataset])
    console().print(escape(f"done: {folder.path}"), soft_wrap=True)
    if first is not None and last is not None:
        console().print(f"    score {first:.1f} -> {last:.1f}", soft_wrap=True)


def _line(run: RunStatus) -> str:
    score = "" if run.score is None else f", score {run.score:.1f}"
    return f"    {run.method} {run.dataset} seed {run.seed}: {run.doing or 'starting'}{score}"


def cautions(plan: Plan, runs: Sequence[Run] | None = None) -> list[str]:
    """Return a line for each kind of run that its budget lets learn nothing, or judges at its ends only."""
    chosen = [run for run in (plan.runs if runs is None else runs) if not run.collects]
    lines = (line for run in chosen for line in _cautions(plan, run))
    return [f"caution: {line}" for line in dict.fromkeys(lines)]


def _cautions(plan: Plan, run: Run) -> Iterator[str]:
    (updates, steps), label = plan.work(run), plan.method(run)
    first, schedule = plan.schedules[run.group].get("learning_starts"), run.spec.protocol.steps
    if first and steps and not updates and steps <= first:
        yield f"{label}: learns nothing: learning_starts = {first:,}, steps = {steps:,}"
    if steps and not evaluations_due(schedule, steps):
        yield f"{label}: evaluated at its ends only: {schedule_text(schedule, 'steps')}, it takes {steps:,}"


def dry_run_table(plan: Plan, results: ResultsFolder, jobs: int) -> None:
    """Print what a suite would do: its runs, what is done already, and what the rest will cost.

    However many are at work at once, a run and the one that it starts from come after each other.
    """
    table = Table(title=escape(f"{plan.heading}: {plan.title}"), title_justify="left")
    for column in ("method", "dataset", "runs", "done", "updates each", "steps each", "hours each"):
        table.add_column(column, justify="left" if column in ("method", "dataset") else "right")
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in plan.runs:
        groups[run.group].append(run)
    seconds_left, bases = dict[str, float](), set()
    for runs in groups.values():
        updates, steps = plan.work(runs[0])
        done = [run for run in runs if results.run(run.id).done.exists()]
        each, basis = _forecast(plan, runs[0], done, results)
        bases.add(basis)
        todo = {run.id for run in runs} - {run.id for run in done}
        seconds_left |= dict.fromkeys(todo, each)
        table.add_row(
            *(
                escape(plan.method(runs[0])),
                escape(runs[0].dataset),
                str(len(runs)),
                str(len(runs) - len(todo)),
            ),
            *(f"{updates:,}", f"{steps:,}", f"{each / 3600:.2f}"),
        )
    console().print(table)
    for text in plan.reduced:
        console().print(escape(f"reduced: {text}"))
    for text in cautions(plan):
        console().print(escape(text), soft_wrap=True)
    basis = next(basis for basis in BASES if basis in bases)
    longest = functools.cache(
        lambda run: seconds_left.get(run, 0.0) + max(map(longest, plan.needs(plan.run(run))), default=0.0)
    )
    chains = map(longest, seconds_left)
    whole = max(sum(seconds_left.values()) / jobs, *chains, 0.0)
    console().print(f"{len(plan.runs)} runs, about {clock(whole)} with {jobs} at once ({basis})")


def launch_summary(plan: Plan, results: ResultsFolder, outcome: Outcome) -> str:
    """Return what a launch did, a line each for what went wrong."""
    lines = [
        f"{plan.suite}: {len(outcome.finished)} finished now, {len(outcome.skipped)} were done before, "
        f"{len(outcome.failed)} failed, {len(outcome.blocked)} could not start"
    ]
    for run_id in outcome.failed:
        folder = results.run(run_id)
        lines.append(f"  failed: {folder.id}: {folder.failure()} (see {folder.log})")
    lines += [f"  not started: {run_id}: what it starts from is not done" for run_id in outcome.blocked]
    if outcome.stopped and not outcome.interrupted:
        lines += [f"  saved and stopped from outside: {run_id}" for run_id in outcome.stopped]
    return "\n".join(lines)


BASES = (
    f"partly or all at {PRIOR_RATE:.0f} updates a second, which nobody has measured here",
    "measured on runs of the same algorithms, by updates and steps",
    "measured on runs like these",
)
"""What a forecast rests on, the weakest first."""


def _forecast(plan: Plan, run: Run, alike: Sequence[Run], results: ResultsFolder) -> tuple[float, str]:
    """Return the seconds of a run, and what that rests on: finished runs in the folder, those alike first."""
    work = sum(plan.work(run))
    if alike:
        return sum(seconds(run, results) for run in alike) / len(alike), BASES[2]
    measured = rate(run.algorithm, results)
    return (work / measured, BASES[1]) if measured else (work / PRIOR_RATE, BASES[0])


def where_time_went(run: Run, results: ResultsFolder) -> Table:
    """Return where the time of a run went."""
    spent = parts([run], results)
    total = sum(spent.values())
    table = Table(title=f"where {clock(total)} went", title_justify="left")
    for column in ("part", "seconds", "share"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, used in spent.items():
        table.add_row(part, f"{used:,.1f}", f"{used / total if total else 0:.1%}")
    return table


def _at_most_every(seconds: float, call: Callable[[], None]) -> Callable[[], None]:
    """Return what calls at most so often, and in large grids seldom enough to take only SHARE of the time."""
    due = time.monotonic() + seconds

    def maybe() -> None:
        nonlocal due
        began = time.monotonic()
        if began >= due:
            call()
            now = time.monotonic()
            due = now + max(seconds, (now - began) / SHARE)

    return maybe
