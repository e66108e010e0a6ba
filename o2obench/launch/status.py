"""Where the runs of a plan stand, read from their folders alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.reference_scores import Reference
from ..planning.plan import Experiment, Plan, read_plans
from ..runs import checkpoint
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.jsonl import last_record, read_jsonl
from ..runs.spec import Run
from ..util.files import is_number, read_json, shown

PRIOR_SECONDS, PRIOR_RATE = 30.0, 80.0
"""Before anything is measured, a process is taken to do 80 updates a second, rollouts included."""
STATES = ("done", "running", "waiting", "interrupted", "stale", "failed", "diverged")


@dataclass(frozen=True)
class RunStatus:
    """One run: its state, what it is doing, how much of its planned updates and steps is done.

    ``rate``: updates and steps per second since its process began.
    """

    run: str
    method: str
    dataset: str
    seed: int
    state: str
    doing: str
    done: float
    planned: float
    rate: float
    score: float | None
    error: str
    log: str
    scores: tuple[float, ...] = ()
    """The scores of all evaluations so far, while it runs."""

    @property
    def seconds_left(self) -> float | None:
        """The seconds until it is done, at its speed; None where it does not run or has no speed yet."""
        return (self.planned - self.done) / self.rate if self.state == "running" and self.rate else None


def is_going_on(results: ResultsFolder, suite: str = "") -> bool:
    """Tell whether a run of a folder's suites (or of one) is at work."""
    plans = read_plans(results, suite)
    return any(results.run(run.id).state() == "running" for plan in plans for run in plan.runs)


def status(plan: Plan, results: ResultsFolder) -> list[RunStatus]:
    """Return the state of every run of the plan, in its order."""
    experiments = {experiment.run: experiment for experiment in reversed(plan.experiments)}
    parents = {
        experiment.parent: experiment for experiment in reversed(plan.experiments) if experiment.parent
    }
    return [_status(plan, results, run, experiments, parents) for run in plan.runs]


def _status(
    plan: Plan,
    results: ResultsFolder,
    run: Run,
    experiments: Mapping[str, Experiment],
    parents: Mapping[str, Experiment],
) -> RunStatus:
    folder = results.run(run.id)
    state = folder.state()
    updates, steps = plan.work(run)
    planned = float(updates + steps)
    doing, done, rate = "", planned if state == "done" else 0.0, 0.0
    progress = _progress(folder, state)
    if progress:
        doing, done = _doing(progress), _amount(progress, "env_steps") + _amount(progress, "updates")
        rate = _amount(progress, "rate")
    experiment = experiments.get(run.id)
    shows = experiment or parents.get(run.id)
    dataset = shows.dataset if shows else run.dataset
    failed = state in ("failed", "diverged")
    return RunStatus(
        run=run.id,
        method=plan.method(run),
        dataset=dataset,
        seed=run.seed,
        state=state,
        doing=doing,
        done=min(done, planned),
        planned=planned,
        rate=rate,
        score=_score(last_record(folder.evaluations), plan.scores[dataset]) if state != "waiting" else None,
        error=folder.failure() if failed else "",
        log=str(folder.log) if failed else "",
        scores=_scores(folder, plan.scores[dataset]) if state == "running" else (),
    )


def _scores(folder: RunFolder, reference: Reference) -> tuple[float, ...]:
    """Return the scores of a run's evaluations; none where a line is not one: status never fails on a run."""
    try:
        scores = [_score(row, reference) for row in read_jsonl(folder.evaluations)]
    except (OSError, ValueError):
        return ()
    return tuple(score for score in scores if score is not None)


def _progress(folder: RunFolder, state: str) -> Mapping[str, Any]:
    """Return where a run at work stands, of one that stopped where it will go on: at its last checkpoint."""
    live = read_json(folder.progress) if state == "running" else None
    if isinstance(live, dict):
        return live
    return checkpoint.progress(folder.checkpoint) if state in ("running", "interrupted", "stale") else {}


def _doing(progress: Mapping[str, Any]) -> str:
    total = f"/{_amount(progress, 'total'):,.0f}" if _amount(progress, "total") else ""
    return shown(f"{progress.get('stage')} {_amount(progress, 'done'):,.0f}{total} {progress.get('unit')}")


def _amount(progress: Mapping[str, Any], name: str) -> float:
    value = progress.get(name)
    return float(value) if is_number(value) else 0.0


def time_left(runs: Sequence[RunStatus], done_before: float, seconds: float, jobs: int) -> float:
    """Forecast the seconds until the grid is done from what was done in the last ``seconds``."""
    done = sum(run.done for run in runs) - done_before
    rate = (done + PRIOR_SECONDS * PRIOR_RATE * jobs) / (seconds + PRIOR_SECONDS)
    return _left(runs) / rate


def _left(runs: Sequence[RunStatus]) -> float:
    """Return the updates and steps that are still to do."""
    return sum(run.planned - run.done for run in runs if run.state not in ("done", "failed", "diverged"))


def clock(seconds: float) -> str:
    """Return seconds as ``40 s``, ``12 min``, ``2 h 05 min`` or, from three days on, ``1,144 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes >= 3 * 24 * 60:
        return f"{minutes / (24 * 60):,.0f} days"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def headline(plan: Plan, runs: Sequence[RunStatus]) -> str:
    """Return one line: how many runs are in which state."""
    counts = Counter(run.state for run in runs)
    return f"{plan.suite}: " + ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


@dataclass(frozen=True)
class SuiteStatus:
    """A suite in one line: counts of runs by state, the share done, speed, time left, the last error."""

    suite: str
    counts: Mapping[str, int]
    share: float
    rate: float
    seconds_left: float | None
    """At the speed of what runs now; None while nothing runs, or nothing has made a first update yet."""
    error: str
    log: str


def summarise(plan: Plan, runs: Sequence[RunStatus], results: ResultsFolder) -> SuiteStatus:
    """Return where a suite stands as a whole."""
    rate, planned = sum(run.rate for run in runs), sum(run.planned for run in runs)
    failed = [run for run in runs if run.error]
    failed.sort(key=lambda run: _written(results.run(run.run).failed))
    left = _left(runs)
    return SuiteStatus(
        suite=plan.suite,
        counts={state: sum(run.state == state for run in runs) for state in STATES},
        share=sum(run.done for run in runs) / planned if planned else 1.0,
        rate=rate,
        seconds_left=0.0 if not left else left / rate if rate else None,
        error=f"{failed[-1].run}: {failed[-1].error}" if failed else "",
        log=failed[-1].log if failed else "",
    )


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def ends(folder: RunFolder, scores: Reference) -> tuple[float | None, float | None]:
    """Return the mean scores of a run's first and last evaluation."""
    rows = list(read_jsonl(folder.evaluations))
    return _score(rows[0] if rows else None, scores), _score(rows[-1] if rows else None, scores)


def _score(row: Any, scores: Reference) -> float | None:
    """Return the mean score of an evaluation, None where the row is none."""
    returns = row.get("returns") if row else None
    if not isinstance(returns, list) or not returns or not all(is_number(value) for value in returns):
        return None
    return float(scores.score(sum(returns) / len(returns)))
