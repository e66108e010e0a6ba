"""A plan: every run of a suite and the cells that show them, one JSON file that later commands read."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..agent import Stage
from ..datasets.reference_scores import Reference
from ..errors import BadInput
from ..runs.folder import Run, digest
from ..util.config import nearest
from ..util.files import read_json, write_atomically

USUAL_FIGURES = (
    "aggregates",
    "efficiency",
    "profiles",
    "improvement",
    "grid",
    "ablation",
    "curves",
    "drop",
    "seeds",
    "diagnostics",
)
USUAL_TABLES = ("final", "aggregates", "improvement", "regimes", "scores", "measures")
FIGURES = (*USUAL_FIGURES, "uncertainty", "explorer")
TABLES = (*USUAL_TABLES, "pairs", "explorer", "distance_uniform", "distance_rollout", "kinds")
"""What a suite can ask the report for; each is described where it is made, in ``report/``."""


def known_figure(name: str) -> str:
    """Return the name of a figure; raise ValueError when the report has none of it."""
    return _known(name, FIGURES)


def known_table(name: str) -> str:
    """Return the name of a table; raise ValueError when the report has none of it."""
    return _known(name, TABLES)


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ValueError(f"{name} is not known; {nearest(name, names)}")
    return name


@dataclass(frozen=True)
class Cell:
    """One entry of the grid as the report shows it: a label, a data set, a seed, and the run behind it."""

    label: str
    algorithm: str
    dataset: str
    seed: int
    run: str
    parent: str | None


@dataclass(frozen=True)
class Plan:
    """An expanded suite: the runs in an order in which parents come first, and the cells that show them.

    ``reduced`` holds a line for each count that was cut: ``key = value (full: value)``. ``stages`` are kept
    per run group, for forecasts; ``scores`` per data set. ``marks`` are environment steps at which scores are
    compared. ``figures`` and ``tables`` are what the report shows, in this order. ``data`` holds the mean
    and the best raw return of each data set's episodes, where they could be read.
    """

    suite: str
    title: str
    command: str
    seeds: tuple[int, ...]
    reduced: tuple[str, ...]
    marks: tuple[int, ...]
    runs: tuple[Run, ...]
    cells: tuple[Cell, ...]
    stages: Mapping[str, Sequence[Stage]] = field(default_factory=dict)
    scores: Mapping[str, Reference] = field(default_factory=dict)
    figures: tuple[str, ...] = USUAL_FIGURES
    tables: tuple[str, ...] = USUAL_TABLES
    data: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def data_scores(self, dataset: str) -> tuple[float, float] | None:
        """Return the scores of a data set's mean and best episode; None where the plan does not know them."""
        if dataset not in self.data:
            return None
        mean, best = (float(self.scores[dataset].score(value)) for value in self.data[dataset])
        return mean, best

    def run(self, run_id: str) -> Run:
        """Return the run of this id; raise KeyError when the plan has none."""
        return self._by_id[run_id]

    @functools.cached_property
    def _by_id(self) -> dict[str, Run]:
        return {run.id: run for run in self.runs}

    def label(self, run: Run) -> str:
        """Return the first label under which a run is shown; of a pretraining run that it is one."""
        return self._labels.get(run.id, f"{run.algorithm} (pretraining)")

    @functools.cached_property
    def _labels(self) -> dict[str, str]:
        return {cell.run: cell.label for cell in reversed(self.cells)}

    def work(self, run: Run) -> tuple[int, int]:
        """Return the planned (policy updates, environment steps) of a run."""
        stages = self.stages[run.group]
        return sum(s.updates for s in stages), sum(s.env_steps for s in stages)

    def write(self, results: Path) -> Path:
        """Write the plan to ``results/plans/<suite>.json`` and return that path."""
        file = results / "plans" / f"{self.suite}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        value = {
            "suite": self.suite,
            "title": self.title,
            "command": self.command,
            "seeds": self.seeds,
            "reduced": self.reduced,
            "marks": self.marks,
            "figures": self.figures,
            "tables": self.tables,
            "runs": [run.to_json() for run in self.runs],
            "cells": [vars(cell) for cell in self.cells],
            "stages": {group: [vars(stage) for stage in stages] for group, stages in self.stages.items()},
            "scores": {name: vars(scores) for name, scores in self.scores.items()},
            "data": self.data,
        }
        write_atomically(file, json.dumps({"sha256": digest(value), **value}, indent=1) + "\n")
        return file


def read_plan(file: Path) -> Plan:
    """Read a plan back; raise BadInput when the file is damaged or was edited."""
    value = read_json(file)
    try:
        if value.pop("sha256") != digest(value):
            raise ValueError("its contents were changed")
        known = {run["id"] for run in value["runs"]}
        if not all({cell["run"], cell["parent"] or cell["run"]} <= known for cell in value["cells"]):
            raise ValueError("a cell's run is not in it")
        return Plan(
            suite=value["suite"],
            title=value["title"],
            command=value["command"],
            seeds=tuple(value["seeds"]),
            reduced=tuple(value["reduced"]),
            marks=tuple(value["marks"]),
            runs=tuple(Run.from_json(run) for run in value["runs"]),
            cells=tuple(Cell(**cell) for cell in value["cells"]),
            stages={group: tuple(Stage(**stage) for stage in s) for group, s in value["stages"].items()},
            scores={name: Reference(**scores) for name, scores in value["scores"].items()},
            figures=tuple(map(known_figure, value.get("figures", USUAL_FIGURES))),
            tables=tuple(map(known_table, value.get("tables", USUAL_TABLES))),
            data={name: (float(mean), float(best)) for name, (mean, best) in value.get("data", {}).items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        why = str(error) if isinstance(error, ValueError) else "damaged or of an older version"
        raise BadInput(f"{file}: not a plan ({why}); start the suite again to rewrite it") from None
