"""The harness around the training: a grid of 10,000 runs, and what safety and scheduling cost a run.

    make bench-launch

F13: a plan of 10,000 runs is expanded and written, and its status printed, each in a fresh process; the
runs' folders are faked, with 100 evaluations each. F14: naive fine-tuning on a locomotion task at its
published sizes and at default settings, launched as a suite: the share of its time that went into durability
(checkpoints that reach the disk), and the launcher's own share.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from o2obench.runs.folder import ResultsFolder

HERE = Path(__file__).parent
PLUGIN = HERE.parent / "tests" / "plugin"
SWEEP, SEEDS, EVALUATIONS = 99, 100, 100
"""99 variants and the pretraining that they share, 100 seeds of each."""
GOALS = {"plan": 5.0, "status": 10.0, "megabytes": 500.0, "durability": 0.02, "scheduling": 0.02}
PACKAGES = ("torch", "numpy", "pydantic", "filelock", "rich")
GRID = {
    "algorithms": [{"toy_tune": {"every": list(range(10, 10 + SWEEP))}}],
    "datasets": ["pointmass-mixed-v0"],
    "seeds": SEEDS,
}
TUNING = {
    "algorithms": ["naive"],
    "datasets": ["o2o:hopper-medium-replay-v0"],
    "seeds": 1,
    "offline": {"updates": 1000, "evaluate_every": 1000},
    "online": {"steps": 2500, "evaluate_every": 1000},
    "reduced": {"mopo": {"max_model_epochs": 2, "rollout_batch_size": 5000}},
}


def main() -> None:
    """Measure everything and write benchmarks/results/launch.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "launch.json")
    parser.add_argument("--only", choices=("scale", "overhead"), default="")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"))
    given = parser.parse_args()
    if given.measure:
        measured(given.measure[0], Path(given.measure[1]))
        return
    record = json.loads(given.out.read_text()) if given.out.exists() else {}
    record |= {"machine": machine(), "goals": GOALS}
    with tempfile.TemporaryDirectory() as folder:
        if given.only != "overhead":
            record["scale"] = scale(Path(folder, "scale"))
        if given.only != "scale":
            record["overhead"] = overhead(Path(folder, "overhead"))
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({part: record[part] for part in ("scale", "overhead") if part in record}, indent=1))


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].split(":", 1)[1].strip() if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "load_before": os.getloadavg()[0],
    }


# ---- 10,000 runs -------------------------------------------------------------------------------------


def scale(folder: Path) -> dict[str, dict[str, float]]:
    """Measure each command on the grid in a process of its own."""
    folder.mkdir()
    found = {"plan": fresh("plan", folder)}
    fake(folder)
    found["status"] = fresh("status", folder)
    found["a second launch"] = fresh("launch", folder)
    return found


def fresh(what: str, folder: Path) -> dict[str, float]:
    """Measure in a fresh process: seconds and peak memory."""
    command = [sys.executable, __file__, "--measure", what, str(folder)]
    env = {**os.environ, "PYTHONPATH": str(PLUGIN), "COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def measured(what: str, folder: Path) -> None:
    """Do one thing in this process and print what it took, imports included."""
    works: dict[str, Callable[[Path], None]] = {"plan": write_plan, "status": status, "launch": launch}
    began = time.perf_counter()
    works[what](folder)
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "seconds": round(seconds, 2),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 2),
        "megabytes": round(used.ru_maxrss / 1024),
    }
    print("\n" + json.dumps(found))


def write_plan(folder: Path) -> None:
    """Expand the grid and write its plan."""
    from o2obench.planning.expand import expand
    from o2obench.planning.schema import Selection
    from o2obench.util.config import Located

    plan = expand(Located(GRID), "grid", Selection())
    assert len(plan.runs) == (SWEEP + 1) * SEEDS
    plan.write(ResultsFolder(folder))


def status(folder: Path) -> None:
    """Print where the grid stands."""
    from o2obench.cli.progress import show_status

    show_status(ResultsFolder(folder), "", watch=False, as_json=False)


def launch(folder: Path) -> None:
    """Start the finished grid again, which skips every run but those that cannot be had."""
    from o2obench.launch.local import Pool, WorkerSettings
    from o2obench.planning.plan import read_plan
    from o2obench.training.options import Options

    file = folder / "plans" / "grid.json"
    Pool(read_plan(file), file, ResultsFolder(folder), WorkerSettings(jobs=2), Options())._ready()


def fake(folder: Path) -> None:
    """Write the folders of all runs: most are done, some failed, run or wait."""
    from o2obench.planning.plan import read_plan

    returns = [round(0.37 * k, 6) for k in range(10)]
    rows = [
        json.dumps({"stage": "fine-tune", "env_steps": k, "updates": k, "returns": returns})
        for k in range(EVALUATIONS)
    ]
    evaluations = "\n".join(rows) + "\n"
    for k, run in enumerate(read_plan(folder / "plans" / "grid.json").runs):
        one = ResultsFolder(folder).run(run.id)
        if k % 10 == 9:  # waits
            continue
        one.path.mkdir(parents=True)
        one.record.write_text(json.dumps({"run": run.to_json(), "identity": run.identity}))
        one.evaluations.write_text(evaluations)
        if k % 10 == 8:
            one.progress.write_text(
                json.dumps({"stage": "fine-tune", "env_steps": 50, "updates": 50, "done": 50})
            )
        elif k % 100 == 7:
            one.failed.write_text(json.dumps({"error": "out of luck"}))
        else:
            one.done.write_text(json.dumps({"sha256": {}}))


# ---- what safety costs a run -------------------------------------------------------------------------


def overhead(folder: Path) -> dict[str, float]:
    """Return shares of the time of a run of naive at default settings."""
    from o2obench.analysis.results import parts, seconds
    from o2obench.planning.plan import read_plans

    folder.mkdir()
    suite = folder / "tuning.yaml"
    suite.write_text(json.dumps(TUNING))
    command = [sys.executable, "-m", "o2obench", "suite", str(suite), "--results", str(folder), "--jobs", "1"]
    began = time.monotonic()
    launcher = subprocess.Popen([*command, "--no-report"], env={**os.environ, "PYTHONSAFEPATH": "1"})
    used = 0.0
    while launcher.poll() is None:
        used = max(used, cpu_seconds(launcher.pid))
        time.sleep(0.2)
    assert launcher.returncode == 0
    wall = time.monotonic() - began
    results = ResultsFolder(folder)
    [plan] = read_plans(results)
    spent = {run.algorithm: seconds(run, results) for run in plan.runs}
    durable = {run.algorithm: parts([run], results)["durability"] for run in plan.runs}
    return {
        "seconds": round(wall, 1),
        "seconds_of_naive": round(spent["naive"], 1),
        "durability": round(durable["naive"] / spent["naive"], 5),
        "durability_of_mopo": round(durable["mopo"] / spent["mopo"], 5),
        "scheduling": round(used / wall, 5),
        "seconds_between_runs_and_imports": round((wall - sum(spent.values())) / len(plan.runs), 1),
    }


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, without its children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
