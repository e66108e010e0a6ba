"""Typical mistakes: each is answered in one line that names the thing and the remedy, without a traceback."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from o2obench.runs.folder import ResultsFolder
from tests.conftest import Command
from tests.helpers.datasets import Arrays, hopper_arrays, write
from tests.helpers.folders import finish
from tests.helpers.suites import toy_plan

Prepare = Callable[[Path, pytest.MonkeyPatch], object]
POINTMASS, PENDULUM = "pointmass-mixed-v0", "invertedpendulum-replay-v0"


def nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the folder empty."""


@dataclass(frozen=True)
class Mistake:
    """What was typed, what lies in the working folder, and what is said in one line."""

    name: str
    command: str
    said: str
    prepare: Prepare = nothing
    code: int = 2


# ---- what lies in the working folder ------------------------------------------------------------------


def suite(text: str) -> Prepare:
    return lambda folder, _: (folder / "my.yaml").write_text(text)


def grid(algorithms: str = "[frozen]", datasets: str = f"[{POINTMASS}]", more: str = "") -> Prepare:
    return suite(f"algorithms: {algorithms}\ndatasets: {datasets}\n{more}\n")


def data(change: Callable[[Arrays], object], card: str = '{"environment": "Hopper-v4"}') -> Prepare:
    def make(folder: Path, _: pytest.MonkeyPatch) -> None:
        arrays = hopper_arrays(200)
        change(arrays)
        write(folder / "mine.hdf5", arrays).with_suffix(".json").write_text(card)

    return make


def unchanged(arrays: Arrays) -> None:
    """Leave a good file as it is."""


def put(key: str, index: object, value: object) -> Callable[[Arrays], object]:
    return lambda arrays: arrays[key].__setitem__(index, value)


def rename(arrays: Arrays) -> None:
    arrays["terminations"], arrays["truncations"] = arrays.pop("terminals"), arrays.pop("timeouts")


def clusters(arrays: Arrays) -> None:
    for end in np.flatnonzero(arrays["terminals"]):
        arrays["terminals"][end - 5 : end] = True


def half_a_file(folder: Path, _: pytest.MonkeyPatch) -> None:
    whole = write(folder / "mine.hdf5", hopper_arrays(200))
    whole.write_bytes(whole.read_bytes()[:5000])


def runs(folder: Path, _: pytest.MonkeyPatch) -> None:
    """Lay down a suite of finished runs on two data sets, but for one that never began."""
    plan = toy_plan("toy_tune", seeds=2, datasets=[POINTMASS, PENDULUM])
    missing = next(run for run in plan.runs if run.parent and run.dataset == PENDULUM and run.seed)
    finish(plan, folder / "results", without=(missing.id,))


def broken_plan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(folder, monkeypatch)
    [file] = ResultsFolder(folder / "results").plan_files()
    file.write_text(file.read_text()[:1000])


def refused(number: int, prepare: Prepare) -> Prepare:
    """Let the system refuse every write that is forced to the disk."""

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        prepare(folder, monkeypatch)
        monkeypatch.setattr(os, "fsync", refuse)

    return make


def without(library: str) -> Prepare:
    def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        runs(folder, monkeypatch)
        monkeypatch.setitem(sys.modules, library, None)

    return make


def file(name: str) -> Prepare:
    return lambda folder, _: (folder / name).write_text("precious")


MINE, CHECK = "my.yaml", "data check file:mine.hdf5"
SUITES = [
    Mistake(
        "unknown key",
        f"suite {MINE}",
        "my.yaml:1:1: algoritms: unknown key; did you mean algorithms?",
        suite(f"algoritms: [frozen]\ndatasets: [{POINTMASS}]\n"),
    ),
    Mistake(
        "a tab",
        f"suite {MINE}",
        "my.yaml:2:1: not valid YAML: found character '\\t' that cannot start any token; indent with spaces",
        suite(f"algorithms:\n\t- frozen\ndatasets: [{POINTMASS}]\n"),
    ),
    Mistake(
        "unknown option",
        f"suite {MINE}",
        "my.yaml:1:22: naive.learning_start: unknown key; did you mean learning_starts?",
        grid("[naive: {learning_start: 5}]"),
    ),
    Mistake(
        "a word for a number",
        f"suite {MINE}",
        "my.yaml:3:1: seeds: input should be a valid integer or a valid list, got 'five'",
        grid(more="seeds: five"),
    ),
    Mistake(
        "100k",
        f"suite {MINE}",
        "my.yaml:3:10: online.steps: input should be a valid integer, got '100k'",
        grid(more="online: {steps: 100k}"),
    ),
    Mistake(
        "a key twice",
        f"suite {MINE}",
        "my.yaml:4:1: seeds: written twice; keep one of the two",
        grid(more="seeds: 1\nseeds: 2"),
    ),
    Mistake(
        "no list",
        f"suite {MINE}",
        f"my.yaml:2:1: datasets: input should be a valid list, got '{POINTMASS}'; write [{POINTMASS}]",
        grid(datasets=POINTMASS),
    ),
    Mistake(
        "a label's gap",
        f"suite {MINE}",
        "my.yaml:1:22: label: 'naive ({lr})' names an option not set here; write {option}",
        grid('[naive: {label: "naive ({lr})"}]'),
    ),
    Mistake(
        "two equal labels",
        f"suite {MINE}",
        "my.yaml:1:1: algorithms: 'naive' stands twice; give labels",
        grid("[naive: {utd_ratio: [1, 2], label: naive}]"),
    ),
    Mistake(
        "a wrong pretraining",
        f"suite {MINE}",
        "my.yaml:1:22: naive.from: mbpo learns online; name a pretraining that starts from nothing",
        grid("[naive: {from: mbpo}]"),
    ),
    Mistake(
        "no such reference",
        f"suite {MINE}",
        "my.yaml:3:10: report.reference: naiv: no method of this suite; known: frozen",
        grid(more="report: {reference: naiv}"),
    ),
    Mistake(
        "an empty file", f"suite {MINE}", "my.yaml:1:1: algorithms, datasets: missing; add them", suite("")
    ),
    Mistake(
        "a list as suite",
        f"suite {MINE}",
        "my.yaml:1:1: (file): input should be a mapping (key: value)",
        suite("- frozen\n"),
    ),
    Mistake(
        "a seed twice",
        f"suite {MINE}",
        "my.yaml:3:1: seeds: [0, 0] holds one seed twice",
        grid(more="seeds: [0, 0]"),
    ),
    Mistake(
        "another kind of file",
        "suite my.json",
        "my.json: no suite file: its name ends in .yaml",
        file("my.json"),
    ),
    Mistake(
        "a choice that the suite lacks",
        f"suite {MINE} --algorithms naive",
        "--algorithms: naive: not in this suite; known: frozen",
        grid(),
    ),
]
DATA = [
    Mistake(
        "an end not marked",
        CHECK,
        "mine.hdf5:/next_observations[19]: differs from observations[20] although no episode ends there "
        "(1 such rows); mark an episode's end there, by the task in terminals, by the clock in timeouts",
        data(put("terminals", 19, False)),
    ),
    Mistake(
        "ends in clusters",
        CHECK,
        "mine.hdf5:/terminals[14]: ends an episode, and so does the next row (25 such rows); set the flag in "
        "the last row of an episode only",
        data(clusters),
    ),
    Mistake(
        "Gymnasium's names",
        CHECK,
        "mine.hdf5:/terminals: missing; rename terminations to terminals and truncations to timeouts",
        data(rename),
    ),
    Mistake(
        "no timeouts",
        CHECK,
        "add timeouts: true in the last row of each episode that the clock ended",
        data(lambda arrays: arrays.pop("timeouts")),
    ),
    Mistake(
        "actions beyond the bounds",
        CHECK,
        "/actions[5]: 1.05 is outside [-1, 1] of Hopper-v4 (1 rows); scale them to it, or clip what over",
        data(put("actions", (5, 0), 1.05)),
    ),
    Mistake(
        "a batch axis",
        CHECK,
        "every array has one more axis in front (observations: (1, 200, 11)); write array[0]",
        data(lambda arrays: arrays.update({key: values[None] for key, values in arrays.items()})),
    ),
    Mistake(
        "a card that is not JSON",
        CHECK,
        'mine.json is not JSON; mend it: {"environment": "Hopper-v4"}',
        data(unchanged, '{"environment": "Hopper-v4",}'),
    ),
    Mistake(
        "an old environment",
        CHECK,
        "; write Hopper-v4 or Hopper-v5",
        data(unchanged, '{"environment": "Hopper-v2"}'),
    ),
    Mistake(
        "a misspelt environment",
        CHECK,
        "mine.json: environment Hoper-v4: not known; did you mean Hopper-v4?",
        data(unchanged, '{"environment": "Hoper-v4"}'),
    ),
    Mistake(
        "another environment",
        "data check mine.hdf5 --env Walker2d-v4",
        "mine.hdf5:/observations: shape (200, 11): expected rows of 17 for Walker2d-v4; name their own task",
        data(unchanged),
    ),
    Mistake(
        "half a download",
        "data check mine.hdf5 --env Hopper-v4",
        "mine.hdf5: is cut off (5,000 bytes); get it again",
        half_a_file,
    ),
    Mistake(
        "a path as a name",
        "data info mine.hdf5",
        "dataset mine.hdf5: not known, no reference scores; write file:mine.hdf5",
        data(unchanged),
    ),
    Mistake(
        "data that are not here",
        "run mopo hopper-medium-v2 --offline",
        "hopper_medium-v2.hdf5 is missing; `o2obench data fetch hopper-medium-v2`, or put the file there",
    ),
    Mistake(
        "no network",
        "data fetch --offline hopper-medium-v2",
        "hopper_medium-v2.hdf5 is missing and this is offline; put the file at",
    ),
]
RUNS = [
    Mistake(
        "no such run",
        "diff nosuch nosuch",
        "nosuch: no run in results is called so; there are toy_offline:0, toy_offline:1, toy_tune:0, ",
        runs,
    ),
    Mistake(
        "several seeds",
        f"diff {POINTMASS}/toy_tune toy_offline:0",
        f"{POINTMASS}/toy_tune: 2 runs are called so; name one of {POINTMASS}/toy_tune:0, "
        f"{POINTMASS}/toy_tune:1",
        runs,
    ),
    Mistake(
        "several data sets",
        "render toy_tune:0",
        f"toy_tune:0: 2 runs are called so; name one of {PENDULUM}/toy_tune:0, {POINTMASS}/toy_tune:0",
        runs,
    ),
    Mistake("no such seed", "policy toy_tune:7 --out p.npz", "did you mean toy_tune:1 or toy_tune:0", runs),
    Mistake(
        "a seed in words", "policy toy_tune:last --out p.npz", "did you mean toy_tune:1 or toy_tune:0", runs
    ),
    Mistake("a misspelt method", "render toy_tun:0", "did you mean toy_tune:0 or toy_tune:1", runs),
    Mistake("no such model", "diagnose toy_tun:0", "did you mean toy_tune:0 or toy_tune:1", runs),
    Mistake(
        "a run that never began",
        f"render {PENDULUM}/toy_tune:1",
        "/seed-1 has not begun; start its suite",
        runs,
    ),
    Mistake("the results folder", "render results", "results: 8 runs are called so; name one of", runs),
    Mistake(
        "no results folder",
        "render toy_tune:0",
        "toy_tune:0: is not a run's folder, and results holds no run; name one with --results",
    ),
    Mistake(
        "another results folder",
        "render toy_tune:0 --results other",
        "toy_tune:0: is not a run's folder, and other holds no run; name one with --results",
        runs,
    ),
    Mistake(
        "one run of two",
        f"diff {POINTMASS}/toy_tune:0",
        "o2obench diff: missing argument 'RUN'. (`o2obench diff --help`)",
        runs,
    ),
    Mistake(
        "an identity that is gone",
        f"policy results/{POINTMASS}/toy_tune/00000000/seed-0 --out p.npz",
        f"seed-0: no run in results is called so; did you mean {POINTMASS}/toy_tune/",
        runs,
    ),
    Mistake(
        "a run without its state",
        f"policy {POINTMASS}/toy_tune:0 --out p.npz",
        "start its suite with --results OTHER",
        runs,
    ),
]
MACHINE = [
    Mistake(
        "a full disk",
        "export results --out tables",
        "tables/runs.csv: No space left on device",
        refused(errno.ENOSPC, runs),
        code=1,
    ),
    Mistake(
        "a full disk at the start",
        f"suite {MINE}",
        "free); make room there, and start the same command again",
        refused(errno.ENOSPC, grid()),
        code=1,
    ),
    Mistake(
        "no right to write",
        "export results --out tables",
        "tables/runs.csv: Permission denied; name a place that you may use, or get the right to",
        refused(errno.EACCES, runs),
        code=1,
    ),
    Mistake(
        "a file as results",
        f"suite {MINE} --results my.yaml",
        "my.yaml: cannot be used as a folder: File exists; name another",
        grid(),
    ),
    Mistake(
        "a place for nobody",
        "export results --out /proc/tables",
        "/proc/tables: cannot be used as a folder: No such file or directory; name another",
        runs,
    ),
    Mistake(
        "no scheduler",
        f"suite {MINE} --launcher slurm",
        "no sbatch was found here; start this where jobs are submitted, or --launcher local",
        grid(),
    ),
    Mistake("no such launcher", f"suite {MINE} --launcher slrum", "not known; did you mean slurm?", grid()),
    Mistake(
        "no GPU",
        f"suite {MINE} --device cuda",
        "--device cuda: no GPU was found here; name them with --gpus 0,1, or leave it out",
        grid(),
    ),
    Mistake(
        "no parquet",
        "export results --out tables --format parquet",
        "--format parquet: pyarrow is not installed; pip install 'o2obench[parquet]'",
        without("pyarrow"),
    ),
    Mistake(
        "no wandb",
        "mirror results --to wandb --out w",
        "--to wandb: wandb is not installed; pip install 'o2obench[wandb]'",
        without("wandb"),
    ),
    Mistake(
        "no hub",
        "data fetch minari:mujoco/hopper/medium-v0",
        "fetching needs `pip install 'minari[hf]'`",
        without("huggingface_hub"),
    ),
    Mistake(
        "a broken plan",
        "status results",
        "results/plans/toy.json: not a plan (corrupted or of another version); start the suite again",
        broken_plan,
    ),
    Mistake(
        "no results",
        "status",
        "results: no suite was run here (found: none); start one with `o2obench suite`",
    ),
    Mistake(
        "out in the results",
        "export results --out results/tables",
        "results/tables: lies in the results folder; name one outside of it",
        runs,
    ),
    Mistake(
        "an option misspelt",
        f"suite {MINE} --jbos 3",
        "o2obench suite: no such option: --jbos (Possible options: --jobs) (`o2obench suite --help`)",
        grid(),
    ),
    Mistake(
        "a number in words", f"suite {MINE} --jobs two", "o2obench suite: invalid value for '--jobs'", grid()
    ),
    Mistake("a command misspelt", "stauts", "o2obench: no such command 'stauts'. Did you mean 'status'?"),
    Mistake("a command alone", "suite", "o2obench suite: missing argument 'name'. (`o2obench suite --help`)"),
    Mistake("an algorithm misspelt", "info naiv", "algorithm naiv: not known; did you mean naive?"),
]
MISTAKES = {"suites": SUITES, "data": DATA, "runs": RUNS, "machine": MACHINE}


@pytest.mark.parametrize(
    "mistake", [pytest.param(m, id=f"{kind}: {m.name}") for kind, some in MISTAKES.items() for m in some]
)
def test_a_mistake_is_answered_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, o2obench: Command, mistake: Mistake
) -> None:
    (tmp_path / "tools").mkdir()  # neither a GPU's driver nor a scheduler
    mistake.prepare(tmp_path, monkeypatch)
    done = o2obench(*shlex.split(mistake.command), PATH=str(tmp_path / "tools"), CUDA_VISIBLE_DEVICES="")
    assert done.returncode == mistake.code, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert mistake.said in done.stderr, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
