"""A small league in the place of the package's: toys on two data sets, two seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from o2obench.analysis import league
from o2obench.planning import expand
from o2obench.planning.expand import read_suite
from o2obench.planning.plan import Plan
from o2obench.planning.schema import Selection
from o2obench.runs.folder import RunFolder

MASS, MAZE = "pointmass-mixed-v0", "pointmaze-play-v0"
LEAGUE = f"""\
protocol: 1
algorithms:
  - toy_tune: {{label: mine}}
  - toy_tune: {{rate: 0.2, datasets: [{MASS}], label: other}}
datasets: [{MASS}, {MAZE}]
seeds: 2
offline: {{updates: 1000, evaluate_every: 1000}}
online: {{steps: 60, evaluate_every: 20}}
"""
ENTRY = "\n  - toy_tune: {rate: 0.3, label: submitted, tuning_runs: 7}"
ADDED = LEAGUE.replace("\ndatasets:", f"{ENTRY}\ndatasets:")


def small_league(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str = LEAGUE) -> None:
    """Put a small league in the place of the package's."""
    file = tmp_path / "package" / "league.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    for module in (league, expand):
        monkeypatch.setattr(module, "find_suite", lambda name: file)


def plan_of(tmp_path: Path, text: str = LEAGUE, **selection: Any) -> Plan:
    """Expand a copy of the small league."""
    file = tmp_path / "copy" / "league.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return read_suite(file, Selection(**selection))


def joined(one: Plan, other: Plan) -> Plan:
    """Return a plan that has all of two."""
    return replace(
        one,
        runs=tuple({run.id: run for run in (*one.runs, *other.runs)}.values()),
        experiments=tuple(dict.fromkeys((*one.experiments, *other.experiments))),
        stages={**one.stages, **other.stages},
        schedules={**one.schedules, **other.schedules},
        scores={**one.scores, **other.scores},
        tuning_runs={**one.tuning_runs, **other.tuning_runs},
    )


def id_of(plan: Plan, method: str, dataset: str, seed: int) -> str:
    place = (method, dataset, seed)
    return next(e.run for e in plan.experiments if (e.method, e.dataset, e.seed) == place)


def edit(folder: RunFolder, **values: Any) -> None:
    """Write other values to run.json, and publish the run again."""
    folder.record.write_text(json.dumps({**json.loads(folder.record.read_text()), **values}))
    folder.done.unlink()
    folder.finish()
