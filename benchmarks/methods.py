"""Updates a second of every model-free method, in SAC updates of the same call, beside what is counted.

    make bench-methods                # about 6 minutes; run nothing beside it

A method that takes more than 1.5 times the products that it needs is marked: mend it, or say why.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from measure import updates_of

from o2obench.training import provenance
from o2obench.training.collector import settle_machine
from o2obench.util.files import write_atomically

COUNTED = {
    "sac": 1.0,
    "bc": 0.19,
    "iql": 0.93,
    "pex": 1.2,
    "awac": 1.1,
    "td3_bc": 0.72,
    "rebrac": 6.1,
    "cql": 12.3,
    "cal_ql": 12.3,
    "spot": 1.8,
    "redq_bc": 2.8,
    "adaptive_bc": 2.8,
    "eql": 0.93,
    "proto": 1.1,
    "famo2o": 1.5,
    "sac_ml": 1.8,
    "aca": 1.3,
    "sung": 4.4,
    "sung_cql": 17.0,
    "cql_ensemble": 28.0,
    "balanced_replay": 5.4,
    "cql_n": 28.0,
    "enoto": 4.0,
    "opt": 1.8,
    "fql": 21.0,
    "fowm": 41.0,
}
"""Matrix products of an update at a method's default options, as multiples of SAC's.

Fine-tuning that computes what its pretraining does (``spot_finetune``; ``edis`` and ``cfdg``, but for their
generators) has no row, nor has ``jsrl``, whose update is SAC's, nor ``odt``, whose update is that of 2,000.
"""
MOST = 1.5
ROUNDS, SECONDS = 3, 3.0


def rate(name: str, rows: int) -> float:
    """Return updates a second, compiled and warm."""
    update = updates_of(name, rows)
    update()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        update()
        count += 100
    return count / (time.perf_counter() - began)


def main() -> None:
    """Measure all methods in turn, several times; print a table of medians, write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = settle_machine(1, provenance.COMPILE_FROM)
    found: dict[str, list[float]] = {name: [] for name in COUNTED}
    for _ in range(given.rounds):
        for name in COUNTED:
            found[name].append(rate(name, given.rows))
    sac = statistics.median(found["sac"])
    print(f"{'method':<10}{'updates/s':>12}{'x SAC':>8}{'counted':>9}")
    for name, rates in found.items():
        times = sac / statistics.median(rates)
        mark = f"  over {MOST} times what is counted" if times > MOST * COUNTED[name] else ""
        print(f"{name:<10}{statistics.median(rates):>12.0f}{times:>8.2f}{COUNTED[name]:>9.2f}{mark}")
    if given.out:
        write_atomically(
            given.out, json.dumps({"compute": settings, "updates_per_second": found}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
