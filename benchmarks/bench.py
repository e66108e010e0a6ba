"""How fast the engine is on this machine, as ratios: ``make bench``.

Three rounds of fresh processes, one system after another: the engine compiled and eager, the baseline as
shipped and with one line that selects oneDNN's products, and Stable-Baselines3's SAC in an environment
of its own. Medians over the rounds; the table also gives each part's share of what the machine's
measured matrix product would allow. Never run it beside other work. It takes about 20 minutes.

The comparison refuses itself (exit 1) when the baseline is a straw man: its SAC update under 0.9 times
Stable-Baselines3's, or its rollout slower than OfflineRL-Kit's 23,000 transitions a second on a machine
of 460 GFLOP/s, scaled by the product measured here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
SB3, SB3_PACKAGES = HERE / ".sb3", ("stable-baselines3==2.9.2", "torch==2.13.0")
SYSTEMS = ("baseline", "sb3", "engine", "eager", "baseline-onednn")
ROUNDS = 3
MODEL_FREE = ("iql update", "cql update", "rlpd step")
PARTS = ("sac update", "ensemble step", "rollout", "evaluation", "epoch", *MODEL_FREE)
UNITS = {
    "sac update": "/s",
    "ensemble step": "/s",
    "rollout": " transitions/s",
    "evaluation": "/s",
    "epoch": "/s",
}
GOALS = {
    "sac update": 2.8,
    "ensemble step": 1.9,
    "rollout": 6.0,
    "evaluation": 2.2,
    "epoch": 4.0,
    "iql update": 2.0,
}
GFLOP = {
    "sac update": 0.561,
    "ensemble step": 1.36,
    "rollout": 0.00193,
    "iql update": 0.52,
    "cql update": 6.9,
    "rlpd step": 23.7,
}
"""Arithmetic of one update, one step of seven members, one model transition; of CQL with ten sampled actions
of each kind, of RLPD's 20 updates of ten critics and one of the policy."""
KIT_ROLLOUT, KIT_GEMM = 23_000, 460


def main() -> int:
    """Measure, print, write benchmarks/results/<machine>.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--model-free", action="store_true", help="Measure that family only.")
    given = parser.parse_args()
    if given.model_free:
        return model_free(given.threads, given.rounds)
    install_sb3()
    rounds: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
    for k in range(given.rounds):
        for system in SYSTEMS:
            print(f"round {k + 1} of {given.rounds}: {system}", file=sys.stderr, flush=True)
            rounds[system].append(measure(system, given.threads))
    found = {system: medians(rows) for system, rows in rounds.items()}
    memory = {**measure("memory-columns", 1), **measure("memory", 1)}
    cold = cold_start(given.threads)
    report = {
        **figures(rounds, given.threads),
        "memory": memory,
        "cold start": cold,
    }
    print(table(found, memory, cold))
    write(report, given.threads)
    wrong = straw_man(found)
    for line in wrong:
        print(f"THE COMPARISON IS VOID: {line}")
    return 1 if wrong else 0


def model_free(threads: int, rounds: int) -> int:
    """Measure IQL, CQL and RLPD beside their baseline; print, and write results/<machine>-model-free.json."""
    systems = ("baseline", "engine")
    rows: dict[str, list[dict[str, float]]] = {system: [] for system in systems}
    for _ in range(rounds):
        for system in systems:
            rows[system].append(measure(system, threads, "--model-free"))
    found = {system: medians(of) for system, of in rows.items()}
    gemm = statistics.median(of["gemm"] for of in found.values())
    print(f"float32 product: {gemm:.0f} GFLOP/s\n")
    print("| part | engine | baseline | engine : baseline | limit | share |\n|---|---|---|---|---|---|")
    for part in MODEL_FREE:
        ours, theirs, limit = found["engine"][part], found["baseline"][part], gemm / GFLOP[part]
        print(
            f"| {part} | {show(ours)}/s | {show(theirs)} | {ours / theirs:.2f} | {show(limit)} "
            f"| {ours / limit:.0%} |"
        )
    write(figures(rows, threads), threads, "-model-free")
    return 0


def figures(rounds: dict[str, list[dict[str, float]]], threads: int) -> dict[str, object]:
    """Return the machine, and median, lowest and highest figure of each system's parts."""
    return {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": threads},
        "rounds": min(len(rows) for rows in rounds.values()),
        "median": {system: medians(rows) for system, rows in rounds.items()},
        "lowest": {system: medians(rows, min) for system, rows in rounds.items()},
        "highest": {system: medians(rows, max) for system, rows in rounds.items()},
    }


def write(report: dict[str, object], threads: int, suffix: str = "") -> None:
    """Write the figures of this machine."""
    name = re.sub(r"[^a-z0-9]+", "-", f"{processor()} {os.cpu_count()} cores".lower()).strip("-")
    name += suffix if threads == 2 else f"{suffix}-{threads}-threads"
    file = HERE / "results" / f"{name}.json"
    file.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten to {file.relative_to(HERE.parent)}")


def measure(system: str, threads: int, *flags: str) -> dict[str, float]:
    """Measure a system in a fresh process."""
    python = SB3 / "bin" / "python" if system == "sb3" else Path(sys.executable)
    script = [str(HERE / "sb3.py")] if system == "sb3" else [str(HERE / "measure.py"), system]
    command = [str(python), *script, "--threads", str(threads), *flags]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{system} failed:\n{done.stderr}")
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def cold_start(threads: int) -> float:
    """Return the seconds of the first calls of the engine's parts when nothing was ever compiled."""
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
        seconds = measure("engine", threads)["cold start"]
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    return seconds


def medians(rows: list[dict[str, float]], of: object = statistics.median) -> dict[str, float]:
    """Reduce the rounds of a system, part by part."""
    assert callable(of)
    return {part: float(of([row[part] for row in rows])) for part in rows[0]}


def table(found: dict[str, dict[str, float]], memory: dict[str, float], cold: float) -> str:
    """Return the figures as Markdown."""
    engine, eager, baseline = found["engine"], found["eager"], found["baseline"]
    gemm = statistics.median(found[system]["gemm"] for system in SYSTEMS if system != "sb3")
    lines = [
        f"float32 product: {gemm:.0f} GFLOP/s. First calls: {cold:.0f} s with nothing compiled, "
        f"{engine['cold start']:.0f} s from the cache.",
        "",
        "| part | engine | not compiled | baseline | + oneDNN line | SB3 | engine : baseline | goal "
        "| not compiled : baseline | limit | share |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for part in PARTS:
        limit = gemm / GFLOP[part] if part in GFLOP else None
        sb3 = f"{found['sb3'][part]:,.0f}" if part in found["sb3"] else "-"
        unit = UNITS.get(part, "/s")
        lines.append(
            f"| {part} | {show(engine[part])}{unit} | {show(eager[part])} | {show(baseline[part])} "
            f"| {show(found['baseline-onednn'][part])} | {sb3} | {engine[part] / baseline[part]:.2f} "
            f"| {GOALS.get(part, '-')} | {eager[part] / baseline[part]:.2f} "
            f"| {show(limit) if limit else '-'} "
            f"| {f'{engine[part] / limit:.0%}' if limit else '-'} |"
        )
    ratio = engine["sac update"] / found["sb3"]["sac update"]
    imports, data, ring = (memory[part] for part in ("imports", "data", "ring"))
    allowed = imports + 1.3 * data + 1.2 * ring + 300
    lines += [
        "",
        f"SAC update against Stable-Baselines3: {ratio:.2f}.",
        f"Peak memory with a million rows: {memory['peak']:.0f} MB, allowed {allowed:.0f} MB (imports "
        f"{imports:.0f} + 1.3 x data {data:.0f} + 1.2 x model transitions {ring:.0f} + 300).",
        *(
            f"With {name}, of HalfCheetah's size: {memory[f'peak with {name}']:.0f} MB, allowed "
            f"{imports + 1.3 * memory[f'data with {name}'] + 300:.0f} MB."
            for name in ("return-to-go", "next action")
        ),
    ]
    return "\n".join(lines)


def show(value: float) -> str:
    """Return a rate with three or more digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def straw_man(found: dict[str, dict[str, float]]) -> list[str]:
    """Return why the baseline is no fair one, a line each."""
    wrong = []
    ours, sb3 = found["baseline"]["sac update"], found["sb3"]["sac update"]
    if ours < 0.9 * sb3:
        wrong.append(f"its SAC update does {ours:.0f}/s, Stable-Baselines3's {sb3:.0f}/s")
    least = KIT_ROLLOUT * found["baseline"]["gemm"] / KIT_GEMM
    if found["baseline"]["rollout"] < least:
        wrong.append(
            f"its rollout does {found['baseline']['rollout']:,.0f}/s, OfflineRL-Kit's {least:,.0f}/s"
        )
    return wrong


def install_sb3() -> None:
    """Install Stable-Baselines3 into an environment of its own, once."""
    if not (SB3 / "bin" / "python").exists():
        venv.create(SB3, with_pip=True)
        pip = [str(SB3 / "bin" / "python"), "-m", "pip", "install", "-q", *SB3_PACKAGES]
        subprocess.run(pip, check=True)


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip().replace("(R)", "")
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
