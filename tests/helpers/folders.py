"""Run folders without any run: plausible numbers in the form of finished runs, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from o2obench.agent import EXPLORER_RETURN
from o2obench.datasets.reference_scores import Reference
from o2obench.datasets.registry import Dataset
from o2obench.planning.expand import read_suite
from o2obench.planning.load import find_suite
from o2obench.planning.plan import Plan
from o2obench.planning.schema import Selection
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.jsonl import last_record
from o2obench.runs.spec import Run
from o2obench.util.rng import generator

EVERY = 10
"""Rows of scores along the way through a stage."""


def paper_plan(suite: str, monkeypatch: pytest.MonkeyPatch, **selection: Any) -> Plan:
    """Expand a suite as if all data sets were there."""
    monkeypatch.setattr(Dataset, "present", True)
    monkeypatch.setattr(Dataset, "sha256", lambda self: "0" * 64)
    monkeypatch.setattr(Dataset, "admit", lambda self: [])
    return read_suite(find_suite(suite), Selection(**selection))


def finish(plan: Plan, results: Path, without: tuple[str, ...] = ()) -> None:
    """Write the plan and a finished folder for every run whose id holds none of ``without``."""
    folder = ResultsFolder(results)
    plan.write(folder)
    for run in plan.runs:
        if not any(part in run.id for part in without):
            _finish(plan, run, folder.run(run.id), folder.run(run.parent or run.id))


def diagnosed(plan: Plan, results: Path, before: float = 2.0, after: float = 0.5) -> None:
    """Write a diagnosis for every finished fine-tuning run, with its errors on all sets of rows."""
    for run in plan.runs:
        folder = ResultsFolder(results).run(run.id)
        if run.parent and folder.done.exists():
            evaluated = [
                {
                    "source": source,
                    "model": model,
                    "n": 9,
                    "mean": size,
                    "median": 0.5 * size,
                    "max": 9 * size,
                }
                for source in ("uniform", "rollout")
                for model, size in (("before", before), ("after", after * (1 + 0.1 * run.seed)))
            ]
            checkpoints = {run.id: "a", run.parent: "b"}
            found = {"checkpoints": checkpoints, "transitions": 9, "evaluated": evaluated}
            folder.diagnosis.write_text(json.dumps(found))


def _finish(plan: Plan, run: Run, folder: RunFolder, parent: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    draw = generator(run.seed, f"{run.dataset}, {plan.method(run)}")  # not the id: golden files outlive it
    folder.record.write_text(json.dumps({"run": run.to_json(), "identity": run.identity, **COMPUTED}))
    lines = {"evaluations": list(_scores(plan, run, draw, parent)), "train": list(_train(plan, run, draw))}
    lines["episodes"] = list(_episodes(plan, run, draw))
    for name, rows in lines.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder.path / f"{name}.jsonl").write_text(text)
    folder.finish()


def _references(plan: Plan, run: Run) -> Reference:
    """Return the reference scores of a run, which may stand under its environment's name."""
    return next(one for name, one in plan.scores.items() if run.dataset in (name, one.environment))


def _scores(plan: Plan, run: Run, draw: np.random.Generator, parent: RunFolder) -> Iterator[dict[str, Any]]:
    """Rise from stage to stage; the pretraining run of a seed ends where its children start."""
    refs, steps, updates = _references(plan, run), 0, 0
    base = 40.0 + 3.0 * run.seed
    gain = (16.0 if len(run.spec.config) > 9 else 2.0) * draw.random()  # toys and frozen learn little

    def row(stage: str, score: float, episodes: int) -> dict[str, Any]:
        returns = refs.ref_min + (score + draw.normal(0, 1, episodes)) / 100 * (refs.ref_max - refs.ref_min)
        return {"stage": stage, "env_steps": steps, "updates": updates, "returns": returns.tolist()}

    if run.parent or plan.stages[run.group][0].env_steps:
        start = row("start", base, 50)
        end = last_record(parent.evaluations)
        yield {**start, "returns": end["returns"]} if run.parent and end else start
    for stage in plan.stages[run.group]:
        for part in range(1, EVERY + 1) if stage.env_steps or stage.updates else (EVERY,):
            steps += stage.env_steps // EVERY
            updates += stage.updates // EVERY
            if run.parent and stage.updates and not stage.name.startswith("explorer"):
                yield row(stage.name, base + gain * part / EVERY, 10 if part < EVERY else 50)
            else:
                yield row(stage.name, base if run.parent else base * part / EVERY, 10 if part < EVERY else 50)


def _episodes(plan: Plan, run: Run, draw: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Play ten episodes of 1,000 steps, or as many as there are, a little below the offline policy."""
    refs, steps = _references(plan, run), 0
    below = 10.0 * float(run.spec.config.get("ratio", 0.2))
    for stage in plan.stages[run.group]:
        length = min(1000, stage.env_steps)
        for _ in range(stage.env_steps // length if length else 0):
            steps += length
            score = 40.0 + 3.0 * run.seed - below + draw.normal(0, 2)
            gained = float(refs.ref_min + score / 100 * (refs.ref_max - refs.ref_min))
            clock = {"stage": stage.name, "env_steps": steps}
            yield {**clock, "return": gained, "length": length, "terminated": False}


def _train(plan: Plan, run: Run, draw: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Log an uncertainty that fades, every 250 steps, and what an explorer's mean action returns."""
    refs = _references(plan, run)
    for stage in plan.stages[run.group]:
        if stage.name == "explorer":
            score = 45.0 + 3.0 * run.seed - 10.0 * float(run.spec.config["ratio"])
            gained = refs.ref_min + score / 100 * (refs.ref_max - refs.ref_min)
            yield {"stage": "explorer", "env_steps": 0, "updates": stage.updates, EXPLORER_RETURN: gained}
    total = sum(stage.env_steps for stage in plan.stages[run.group]) if run.parent else 0
    for steps in range(0, total, 250):
        level = 0.4 * float(np.exp(-3.0 * steps / total)) + 0.1 + 0.01 * draw.random()
        spread = {name: level * by for name, by in (("q20", 0.4), ("q50", 0.9), ("mean", 1.0), ("q80", 1.7))}
        values = {f"uncertainty/{name}": value for name, value in spread.items()}
        yield {"stage": "fine-tune", "env_steps": steps, "updates": 0, **values}


COMPUTED: dict[str, Any] = {
    "compute": {
        **{
            "processor": "none",
            "device": "cpu",
            "threads": 1,
            "matmul_precision": "highest",
            "compiled": False,
        },
        "versions": {},
    },
    "code": {"version": "0", "commit": "", "dirty": False},
    "mismatch": [],
}
