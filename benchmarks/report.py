"""How long a report takes, and how much memory: made-up runs of 100 evaluations each.

    python benchmarks/report.py [--runs 10000]

The folders are written once into --folder and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from o2obench.agent import Budget, Stage
from o2obench.datasets.reference_scores import Reference
from o2obench.planning.plan import Experiment, Plan
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.spec import Protocol, Run, RunSpec

SEEDS, LABELS, EVALUATIONS, EPISODES = 10, 20, 100, 100


def planned(runs: int) -> Plan:
    """Return a plan of about this many fine-tuning runs: 20 labels, 10 seeds, enough data sets."""
    protocol, nothing = Protocol(1000, 0, 10, 50), Budget(0, 0)
    every, experiments, stages, scores = list[Run](), list[Experiment](), {}, {}
    for d in range(max(1, runs // (SEEDS * LABELS))):
        data = f"set-{d}"
        scores[data] = Reference(data, "Hopper-v4", 0.0, 3000.0, "", "", "made up")
        spec = RunSpec("mopo", {}, {}, "Hopper-v4", None, nothing, protocol, None)
        parents = [Run(data, seed, spec) for seed in range(SEEDS)]
        stages[parents[0].group] = (Stage("policy", 0, 1000),)
        every += parents
        for number in range(LABELS):
            name = ("frozen", "naive")[number] if number < 2 else f"method{number}"
            for seed in range(SEEDS):
                own = replace(spec, algorithm=name, parent=spec.hash)
                run = Run(data, seed, own, parents[seed].id)
                stages[run.group] = (Stage("fine-tune", EVALUATIONS * 1000, EVALUATIONS * 1000),)
                every.append(run)
                experiments.append(Experiment(name, name, data, seed, run.id, run.parent, "mopo"))
    return Plan(
        suite="many", title="", command="none", seeds=tuple(range(SEEDS)), reduced=(),
        reporting_steps=(10_000,),
        runs=tuple(every), experiments=tuple(experiments), stages=stages, scores=scores,
        schedules={group: {} for group in stages},
    )  # fmt: skip


def finish(plan: Plan, results: Path) -> None:
    """Write the folders of all runs."""
    draw = np.random.default_rng(0)
    compute = {
        "processor": "none",
        "device": "cpu",
        "threads": 1,
        "matmul_precision": "highest",
        "compiled": False,
        "versions": {},
    }
    code = {"version": "0", "commit": "", "dirty": False}
    ends: dict[str, list[float]] = {}
    for run in plan.runs:
        folder = ResultsFolder(results).run(run.id)
        folder.path.mkdir(parents=True)
        record = {
            "run": run.to_json(),
            "identity": run.identity,
            "compute": compute,
            "code": code,
            "mismatch": [],
        }
        folder.record.write_text(json.dumps(record))
        rows = [("policy", 0, 1000, 50)]
        if run.parent:
            rows = [("start", 0, 0, 50)] + [
                ("fine-tune", 1000 * (i + 1), 1000 * (i + 1), 10) for i in range(EVALUATIONS)
            ]
            rows[-1] = (*rows[-1][:3], 50)
        lines = []
        for i, (stage, steps, updates, count) in enumerate(rows):
            returns = (
                ends[run.parent] if run.parent and i == 0 else draw.normal(1500 + 10 * i, 200, count).tolist()
            )
            lines.append({"stage": stage, "env_steps": steps, "updates": updates, "returns": returns})
        ends[run.id] = lines[-1]["returns"]
        played = [
            {
                "stage": "fine-tune",
                "env_steps": 1000 * (i + 1),
                "return": 1000.0 + i,
                "length": 1000,
                "terminated": False,
            }
            for i in range(EPISODES if run.parent else 0)
        ]
        folder.evaluations.write_text("".join(json.dumps(line) + "\n" for line in lines))
        folder.episodes.write_text("".join(json.dumps(line) + "\n" for line in played))
        folder.finish()
    plan.write(ResultsFolder(results))


def command(results: Path, out: Path, formats: str) -> tuple[float, float]:
    """Return seconds and peak memory (MiB) of a report in a process of its own."""
    words = [sys.executable, "-m", "o2obench", "report", str(results), "--out", str(out), "--format", formats]
    began = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the report ended with code {process.returncode}")
    return time.perf_counter() - began, used.ru_maxrss / 1024


def main() -> None:
    """Measure: tables and curves, then the whole report with its figures, each twice."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/o2obench-report"))
    chosen = parser.parse_args()
    results = chosen.folder / f"results-{chosen.runs}"
    if not (results / "plans").exists():
        finish(planned(chosen.runs), results)
    print(f"about {chosen.runs:,} fine-tuning runs of {EVALUATIONS} evaluations and {EPISODES} episodes each")
    for what, formats in (
        ("tables, curves, guards", "csv,md,tex"),
        ("whole, with figures", "html,md,tex,csv,svg,pdf,png"),
    ):
        out = chosen.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        for when in ("first time", "second time"):
            seconds, memory = command(results, out, formats)
            print(f"{what:<24} {when:<12} {seconds:7.1f} s   peak memory {memory:4.0f} MiB", flush=True)
        (out / "many" / ".made.json").unlink()


if __name__ == "__main__":
    main()
