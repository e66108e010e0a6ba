"""Loading a million transitions: ratios to a plain copy of the same bytes and to Minari's own reader.

    make bench-data

Each reader runs in a process of its own, the files in the page cache; the median of five calls counts.
The peak of memory is the process's largest resident size, less what it had before the call.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS, LENGTH = 1_000_000, 500
REPEATS = 5


def arrays() -> dict[str, np.ndarray]:
    """Return ROWS rows of Hopper's shape in D4RL's keys, upright, every second episode ended by a fall."""
    random = np.random.default_rng(0)
    obs = random.normal(size=(ROWS, 11)).astype(np.float32)
    obs[:, 0], obs[:, 1] = random.uniform(0.9, 1.4, ROWS), random.uniform(-0.15, 0.15, ROWS)
    ends = np.arange(ROWS) % LENGTH == LENGTH - 1
    falls = np.arange(ROWS) % (2 * LENGTH) == LENGTH - 1
    next_obs = np.roll(obs, -1, axis=0)
    next_obs[ends] += 0.01
    next_obs[falls, 0] = 0.6
    return {
        "observations": obs,
        "actions": random.uniform(-1, 1, (ROWS, 3)).astype(np.float32),
        "rewards": random.normal(size=ROWS).astype(np.float32),
        "terminals": falls,
        "timeouts": ends & ~falls,
        "next_observations": next_obs,
    }


def make(folder: Path) -> None:
    """Write the rows in D4RL's layout, plain and packed, and in Minari's."""
    import h5py

    from o2obench.datasets import describe

    made = arrays()
    for name, options in (("plain", {}), ("gzip", {"compression": "gzip"})):
        with h5py.File(folder / f"{name}.hdf5", "w") as root:
            for key, values in made.items():
                root.create_dataset(key, data=values, **options)
        (folder / f"{name}.json").write_text('{"environment": "Hopper-v4"}')
    describe.export(f"file:{folder / 'plain.hdf5'}", folder / "minari")


def readers(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by name."""
    from o2obench.datasets import isolated_validation
    from o2obench.datasets import registry as datasets

    os.environ["MINARI_DATASETS_PATH"] = str(folder / "minari")
    os.environ["O2OBENCH_DATA"] = str(folder)
    plain, packed = (datasets.find_dataset(f"file:{folder / name}.hdf5") for name in ("plain", "gzip"))

    def copy() -> list[np.ndarray]:
        return [values.copy() for values in made.values()]

    def iterate() -> list[np.ndarray]:
        import minari

        data = minari.load_dataset("file/plain/data-v0")
        episodes = list(data.iterate_episodes())
        parts = ("observations", "actions", "rewards", "terminations", "truncations")
        return [np.concatenate([getattr(episode, part) for episode in episodes]) for part in parts]

    made = arrays() if sys.argv[-1] == "numpy copy" else {}
    return {
        "numpy copy": copy,
        "D4RL, plain": lambda: plain.load(),
        "D4RL, gzip": lambda: packed.load(),
        "Minari": lambda: datasets.find_dataset("minari:file/plain/data-v0").load(),
        "minari.iterate_episodes": iterate,
        "gate, plain (once per hash)": lambda: isolated_validation.examine(folder / "plain.hdf5", plain.env),
    }


def high_water() -> int:
    """Return the most bytes this process ever held (a child's ru_maxrss begins with its parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(folder: Path, name: str) -> None:
    """Print the seconds of each call of a reader, and the peak of memory over that before it."""
    read = readers(folder)[name]
    before = high_water()
    started = time.perf_counter()
    read()
    peak = high_water() - before
    seconds = [time.perf_counter() - started]
    for _ in range(REPEATS):
        started = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "peak_bytes": peak}))


def main() -> None:
    """Measure all readers in turn and write a table and a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/data.json"))
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "READER"))
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), options.measure[1])
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["O2OBENCH_DATA"] = temporary
        make(folder)
        found = {}
        for name in readers(folder):
            command = [sys.executable, __file__, "--measure", temporary, name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
    size = sum(values.nbytes for values in arrays().values())
    for name, one in found.items():
        one["times_a_copy"] = one["seconds"] / found["numpy copy"]["seconds"]
        one["peak_over_arrays"] = one["peak_bytes"] / size
        print(
            f"{name:<30} {one['seconds']:6.2f} s  {one['times_a_copy']:6.1f} x a copy  "
            f"peak {one['peak_over_arrays']:.2f} x the arrays"
        )
    record = {
        "rows": ROWS,
        "bytes": size,
        "machine": platform.processor() or platform.machine(),
        "found": found,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
