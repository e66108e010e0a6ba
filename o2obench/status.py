"""Where the runs of a plan stand, read from their folders alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import read_json
from .journal import read_journal
from .plan import Plan
from .run import RunFolder
from .scores import Reference

if TYPE_CHECKING:
    from rich.table import Table

PRIOR_SECONDS, PRIOR_RATE = 30.0, 80.0
"""Before anything is measured, a process is taken to do 80 updates a second, rollouts included."""


@dataclass(frozen=True)
class RunStatus:
    """One run: its state, what it is doing, how much of its planned updates and steps is done."""

    run: str
    label: str
    dataset: str
    seed: int
    state: str
    doing: str
    done: float
    planned: float
    score: float | None
    error: str


def status(plan: Plan, results: Path) -> list[RunStatus]:
    """Return the state of every run of the plan, in its order."""
    cells = {cell.run: cell for cell in reversed(plan.cells)}
    return [_status(plan, results, run.id, cells) for run in plan.runs]


def _status(plan: Plan, results: Path, run_id: str, cells: Mapping[str, Any]) -> RunStatus:
    run, folder = plan.run(run_id), RunFolder(results, run_id)
    state = folder.state()
    updates, steps = plan.work(run)
    planned = float(updates + steps)
    progress = read_json(folder.progress) or {}
    doing, done = "", planned if state == "done" else 0.0
    if state in ("running", "interrupted") and progress:
        total = f"/{progress['total']:,}" if progress["total"] else ""
        doing = f"{progress['stage']} {progress['done']:,}{total} {progress['unit']}"
        done = float(progress["env_steps"] + progress["updates"])
    cell = cells.get(run_id)
    dataset = cell.dataset if cell else next(c.dataset for c in plan.cells if c.parent == run_id)
    return RunStatus(
        run=run_id,
        label=cell.label if cell else f"{run.algorithm} (pretraining)",
        dataset=dataset,
        seed=run.seed,
        state=state,
        doing=doing,
        done=min(done, planned),
        planned=planned,
        score=_last_score(folder, plan.scores[dataset]),
        error=folder.failure(),
    )


def time_left(runs: list[RunStatus], done_before: float, seconds: float, jobs: int) -> float:
    """Forecast the seconds until the grid is done from what was done in the last ``seconds``."""
    done = sum(run.done for run in runs) - done_before
    left = sum(run.planned - run.done for run in runs if run.state in ("running", "waiting", "interrupted"))
    rate = (done + PRIOR_SECONDS * PRIOR_RATE * jobs) / (seconds + PRIOR_SECONDS)
    return left / rate


def clock(seconds: float) -> str:
    """Return seconds as ``1 h 05 min``, ``12 min`` or ``40 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def headline(plan: Plan, runs: list[RunStatus]) -> str:
    """Return one line: how many runs are in which state."""
    counts = Counter(run.state for run in runs)
    order = ("done", "running", "waiting", "interrupted", "failed", "diverged")
    return f"{plan.suite}: " + ", ".join(f"{counts[state]} {state}" for state in order if counts[state])


def board(plan: Plan, runs: list[RunStatus], footer: str = "", limit: int | None = None) -> Table:
    """Return the screen that `suite` and `status` show; beyond ``limit`` rows, the most telling ones."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(headline(plan, runs)), caption=footer or None, title_justify="left")
    for column in ("algorithm", "dataset", "seed", "state", "doing", "score"):
        table.add_column(column, justify="right" if column in ("seed", "score") else "left")
    colours = {
        "done": "green",
        "running": "cyan",
        "failed": "red",
        "diverged": "red",
        "interrupted": "yellow",
    }
    shown = runs
    if limit is not None and len(runs) > limit:
        telling = ("failed", "diverged", "running", "interrupted", "waiting", "done")
        shown = sorted(runs, key=lambda run: telling.index(run.state))[:limit]
        table.caption = f"and {len(runs) - limit} more runs. {footer}"
    for run in shown:
        colour = colours.get(run.state, "dim")
        table.add_row(
            *(escape(run.label), run.dataset, str(run.seed), f"[{colour}]{run.state}[/]"),
            escape(run.error[:60] if run.error else run.doing),
            "" if run.score is None else f"{run.score:.1f}",
        )
    return table


def _last_score(folder: RunFolder, scores: Reference) -> float | None:
    """Return the mean score of the newest evaluation."""
    try:
        rows = list(read_journal(folder.scores))
    except ValueError:
        return None
    if not rows:
        return None
    returns = rows[-1]["returns"]
    return float(scores.score(sum(returns) / len(returns)))
