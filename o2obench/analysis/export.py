"""Results folders as tidy tables: files by ``o2obench export``, DataFrames by ``o2obench.load_results``.

Every table begins with the same columns, so that any of them can be joined or filtered by itself. A run that
two suites or two methods show stands there for each of them. Runs that are not finished, or whose files are
not what was published, give no rows; ``problems`` names each of them. Every column stands in docs/export.md.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..planning.plan import Plan, read_plans
from ..runs import inventory
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.jsonl import read_jsonl
from ..runs.owner import LOCK_SECONDS
from ..runs.read import computed_record, is_clocked, is_episode, is_evaluation
from ..runs.spec import Run
from ..util.files import is_number, sweep, usable, write_atomically
from . import results as folders

if TYPE_CHECKING:
    import pandas as pd

TEXT, INT, FLOAT, BOOL = "string", "Int64", "Float64", "boolean"
"""pandas' types that know a missing value; empty in CSV."""
RUN = {"suite": TEXT, "method": TEXT, "algorithm": TEXT, "dataset": TEXT, "seed": INT, "run": TEXT}
CLOCK = {"stage": TEXT, "env_steps": INT, "updates": INT}
PACKAGES = ("python", "numpy", "torch", "gymnasium", "mujoco")
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "runs": {
        **RUN,
        **{"parent": TEXT, "state": TEXT, "identity": TEXT, "environment": TEXT, "data_sha256": TEXT},
        **{"versions": TEXT, "offline_updates": INT, "online_steps": INT},
        **{"ref_min": FLOAT, "ref_max": FLOAT, "updates": INT, "env_steps": INT, "hours": FLOAT},
        **{"o2obench": TEXT, "commit": TEXT, "changed": BOOL, **dict.fromkeys(PACKAGES, TEXT)},
        **{"device": TEXT, "processor": TEXT, "threads": INT, "matmul_precision": TEXT, "compiled": BOOL},
        "engine": INT,
        **{"mismatch": TEXT, "reduced": TEXT},
    },
    "evaluations": {
        **RUN,
        **{"phase": TEXT, **CLOCK, "episodes": INT, "mean_return": FLOAT, "std_return": FLOAT},
        **{"min_return": FLOAT, "max_return": FLOAT, "score": FLOAT},
    },
    "episodes": {
        **RUN,
        **{"stage": TEXT, "env_steps": INT, "return": FLOAT, "length": INT, "terminated": BOOL},
        "score": FLOAT,
    },
    "metrics": {**RUN, **CLOCK, "name": TEXT, "value": FLOAT},
    "problems": {**RUN, "state": TEXT, "what": TEXT},
}
"""The tables and the types of their columns."""
FORMATS = ("csv", "parquet")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class _Shown:
    """A run as a suite shows it."""

    plan: Plan
    method: str
    dataset: str
    run: Run

    def columns(self) -> dict[str, Any]:
        """Return the columns with which every table begins."""
        named = {"suite": self.plan.suite, "method": self.method, "algorithm": self.run.algorithm}
        return {**named, "dataset": self.dataset, "seed": self.run.seed, "run": self.run.id}

    def score(self, value: Any) -> float:
        """Normalise a raw return."""
        return float(self.plan.scores[self.dataset].score(value))

    @property
    def phase(self) -> str:
        """Online for a run that starts from another or interacts, offline for the others."""
        return "online" if self.plan.is_online(self.run) else "offline"


@dataclass
class Tables:
    """The rows of each table."""

    rows: dict[str, Rows] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def frame(self, name: str) -> pd.DataFrame:
        """Return a table with its columns in their order and types."""
        import pandas as pd

        columns = dict(COLUMNS[name])
        return pd.DataFrame(self.rows[name], columns=list(columns), dtype=object).astype(columns)


def collect(results: ResultsFolder, suite: str = "") -> Tables:
    """Return all tables of a results folder, or of one of its suites.

    Raises:
        UserError: No suite (of this name) was run there.
    """
    tables, planned = Tables(), set[str]()
    for plan in read_plans(results, suite):
        for shown in _shown(plan):
            planned.add(shown.run.id)
            _add(tables.rows, shown, results)
    if not suite:
        for run in sorted({*inventory.take(results).runs} - planned):
            reason = "no suite names this run; it was computed by `o2obench run`, for other seeds, or copied"
            state = results.run(run).state()
            tables.rows["problems"].append({"run": run, "state": state, "what": reason})
    return tables


def _shown(plan: Plan) -> Iterator[_Shown]:
    """Yield what a plan shows: its experiments, and the pretraining runs that are no experiment."""
    experiments = {experiment.run for experiment in plan.experiments}
    children = {
        experiment.parent: experiment for experiment in reversed(plan.experiments) if experiment.parent
    }
    for run in plan.runs:
        if run.id not in experiments and run.id in children:
            yield _Shown(plan, plan.method(run), children[run.id].dataset, run)
    for experiment in plan.experiments:
        yield _Shown(plan, experiment.method, experiment.dataset, plan.run(experiment.run))


def _add(tables: dict[str, Rows], shown: _Shown, results: ResultsFolder) -> None:
    """Add the rows of one run, or the reason why there are none."""
    folder, rows = results.run(shown.run.id), dict[str, Rows]()
    begin, why = shown.columns(), folders.fault(shown.run, results)
    if not why:
        try:
            for name, read in READ.items():
                rows[name] = [begin | row for row in read(shown, folder)]
            about = _computed(shown, folder, rows["evaluations"][-1], folders.seconds(shown.run, results))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            why = f"{shown.run.algorithm}: a file of this run is corrupted; see `o2obench doctor`"
    state = folder.state()
    planned = {**begin, **_planned(shown), "state": state}
    if why:
        tables["runs"].append(planned)
        tables["problems"].append({**begin, "state": state, "what": why})
        return
    tables["runs"].append(planned | about)
    for name, added in rows.items():
        tables[name] += added


def _planned(shown: _Shown) -> dict[str, Any]:
    """Return what the plan says of a run."""
    run, refs = shown.run, shown.plan.scores[shown.dataset]
    return {
        "parent": run.parent,
        "identity": run.identity,
        "environment": run.spec.environment,
        "data_sha256": (run.spec.data.sha256 or None) if run.spec.data else None,
        "versions": ", ".join(f"{name} {version}" for name, version in run.spec.versions.items()),
        "offline_updates": run.spec.budget.offline_updates,
        "online_steps": run.spec.budget.online_steps,
        "ref_min": refs.ref_min,
        "ref_max": refs.ref_max,
        "reduced": "; ".join(shown.plan.reduced),
    }


def _computed(shown: _Shown, folder: RunFolder, last: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return what a finished run says of itself."""
    record = computed_record(folder)
    if record is None:
        raise ValueError("run.json does not say what it was computed with")
    compute, code = record["compute"], record["code"]
    names = ("device", "processor", "threads", "matmul_precision", "compiled", "engine")
    return {
        **{name: last[name] for name in ("updates", "env_steps")},
        "hours": seconds / 3600,
        **{"o2obench": code["version"], "commit": code["commit"] or None, "changed": code["dirty"]},
        **{name: compute["versions"].get(name) for name in PACKAGES},
        **{name: compute[name] for name in names},
        "mismatch": "; ".join(record["mismatch"]),
        **({"data_sha256": record["data_sha256"]} if "data_sha256" in record else {}),
    }


def _evaluations(shown: _Shown, folder: RunFolder) -> Iterator[dict[str, Any]]:
    for row in read_jsonl(folder.evaluations):
        if not is_evaluation(row):
            raise ValueError("not an evaluation")
        returns = np.array(row["returns"], np.float64)
        mean = sum(row["returns"]) / len(row["returns"])
        yield {
            "phase": shown.phase,
            **_clock(row),
            "episodes": len(returns),
            "mean_return": mean,
            "std_return": float(returns.std()),
            "min_return": float(returns.min()),
            "max_return": float(returns.max()),
            "score": shown.score(mean),
        }


def _episodes(shown: _Shown, folder: RunFolder) -> Iterator[dict[str, Any]]:
    for row in read_jsonl(folder.episodes):
        if not is_episode(row):
            raise ValueError("not an episode")
        names = ("stage", "env_steps", "return", "length", "terminated")
        yield {**{name: row[name] for name in names}, "score": shown.score(row["return"])}


def _metrics(shown: _Shown, folder: RunFolder) -> Iterator[dict[str, Any]]:
    for row in read_jsonl(folder.train):
        clock = _clock(row)
        for name in sorted(row.keys() - CLOCK.keys()):
            if is_number(row[name]):
                yield {**clock, "name": name, "value": float(row[name])}


def _clock(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the clock of a log's row; raise ValueError where it is none."""
    if not is_clocked(row):
        raise ValueError("not a clock")
    return {name: row[name] for name in CLOCK}


def _is_whole(*values: Any) -> bool:
    return all(type(value) is int and abs(value) < 2**53 for value in values)


READ: Mapping[str, Callable[[_Shown, RunFolder], Iterator[dict[str, Any]]]] = {
    "evaluations": _evaluations,
    "episodes": _episodes,
    "metrics": _metrics,
}


def export(
    results: ResultsFolder, out: Path, suite: str = "", formats: Sequence[str] = ("csv",)
) -> list[str]:
    """Write the tables into ``out`` and return a line for each: its file and how many rows it has.

    Equal folders give equal bytes. A cell of a CSV that a spreadsheet would take for a formula gets an
    apostrophe in front.

    Raises:
        UserError: A format is not known or needs a package, ``out`` cannot be used, or there is no suite.
    """
    _require(results, out, formats)
    tables = collect(results, suite)
    usable(out)
    sweep(out, LOCK_SECONDS)
    lines = []
    for name in COLUMNS:
        frame = tables.frame(name)
        for kind in formats:
            file = out / f"{name}.{kind}"
            write_atomically(file, WRITE[kind](frame))
            lines.append(f"{file}: {len(frame):,} rows")
    return lines


def _require(results: ResultsFolder, out: Path, formats: Sequence[str]) -> None:
    if not formats or {*formats} - {*FORMATS}:
        raise UserError(f"--format {','.join(formats)}: not known; csv, parquet or csv,parquet")
    if "parquet" in formats and util.find_spec("pyarrow") is None:
        raise UserError("--format parquet: pyarrow is not installed; pip install 'o2obench[parquet]'")
    inventory.require_outside(results, out)


def _csv(frame: pd.DataFrame) -> bytes:
    safe = frame.copy()
    for name in safe.columns[safe.dtypes == TEXT]:
        risky = safe[name].str.match(r"[=+\-@\t\r\n]").fillna(False)
        safe[name] = safe[name].mask(risky, "'" + safe[name])
    return str(safe.to_csv(index=False, lineterminator="\n")).encode()


def _parquet(frame: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.to_parquet(content, engine="pyarrow", index=False)
    return content.getvalue()


WRITE: Mapping[str, Callable[[pd.DataFrame], bytes]] = {"csv": _csv, "parquet": _parquet}
