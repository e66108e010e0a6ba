"""Collecting: a training that survives interruptions, and the kinds of data cut from it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from o2obench.datasets import registry as datasets
from o2obench.datasets import validation
from o2obench.datasets.isolated_validation import examine, read_columns
from o2obench.datasets.reference_scores import Reference, task_and_kind, twin
from o2obench.datasets.registry import find_dataset
from o2obench.envs.spec import find_env
from o2obench.errors import Interrupted, UserError
from o2obench.planning.expand import expand
from o2obench.runs import checkpoint
from o2obench.training import collect as collecting
from o2obench.training import collector as trainings
from o2obench.training.collect import Levels, Recipe, collect, thin
from o2obench.training.collector import Training
from o2obench.util.config import Located
from tests.conftest import Command
from tests.helpers.datasets import hopper_file

STEPS = 120


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate often, and call medium what a beginner reaches."""
    monkeypatch.setattr(trainings, "EVALUATE_EVERY", 40)
    monkeypatch.setattr(collecting, "MEDIUM_SCORE", -1e9)


def recipe(work: Path, rows: int = 100) -> Recipe:
    return Recipe(rows=rows, steps=STEPS, seed=3, work=work)


def never() -> bool:
    return False


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    quiet: list[str] = []
    straight = Training("PointMass-v0", tmp_path / "straight", STEPS, 3)
    straight.run(never, quiet.append, never)
    calls = iter(range(10**6))
    while True:
        broken = Training("PointMass-v0", tmp_path / "broken", STEPS, 3)
        try:
            broken.run(never, quiet.append, lambda: next(calls) % 35 == 30)
        except Interrupted:
            continue
        break
    assert next(calls) > STEPS + 2, "it was never interrupted"
    one, other = straight.arrays(), broken.arrays()
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)
    assert straight.levels == broken.levels
    assert list(straight.levels) == ["0", "40", "80", "120"]
    saved = [checkpoint.load(tmp_path / name) for name in ("straight", "broken")]
    assert all(saved)


@pytest.mark.slow
def test_a_training_runs_on_the_threads_it_is_given(tmp_path: Path) -> None:
    """In a process of its own: torch must be imported before it is settled."""
    code = (
        "import sys; from pathlib import Path; from o2obench.training.collector import Training; "
        f"Training('PointMass-v0', Path({str(tmp_path)!r}), 10, 0); "
        "import torch; print(torch.get_num_threads())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "1", done.stderr


def test_a_finished_training_is_only_read(tmp_path: Path) -> None:
    Training("PointMass-v0", tmp_path, STEPS, 3).run(never, lambda text: None, never)
    said: list[str] = []
    again = Training("PointMass-v0", tmp_path, STEPS, 3)
    assert again.step == STEPS
    again.run(never, said.append, never)
    assert not said
    with pytest.raises(UserError, match="holds the training"):
        Training("Hopper-v4", tmp_path, STEPS, 3)


def test_kinds_are_written_checked_and_described(tmp_path: Path) -> None:
    spec, cards = find_env("PointMass-v0"), {}
    for kind in ("random", "medium-replay", "medium", "high", "medium-expert"):
        if kind == "medium-expert":
            with pytest.raises(UserError, match="expert means 90"):
                collect("pointmass", kind, tmp_path / "e.hdf5", recipe(tmp_path), never)
            continue
        file = collect("pointmass", kind, tmp_path / f"{kind}.hdf5", recipe(tmp_path), never)
        examine(file, spec)
        data = validation.transitions(read_columns(file, spec, validation.Summary(file)), spec)
        cards[kind] = json.loads(file.with_suffix(".json").read_text())
        assert cards[kind]["rows"] == len(data)
        assert cards[kind]["environment"] == "PointMass-v0"
        assert bool(data.terminated[-1] | data.truncated[-1])
    assert cards["random"]["rows"] == cards["medium"]["rows"] == 100
    assert cards["medium-replay"]["rows"] <= 40, "all steps until the level, which the first policy reached"
    assert "--kind random --rows 100 --steps 120 --seed 3" in cards["random"]["command"]


def test_the_same_recipe_gives_the_same_rows(tmp_path: Path) -> None:
    import h5py

    files = [
        collect("PointMass-v0", "medium", tmp_path / f"{i}.hdf5", recipe(tmp_path / str(i)), never)
        for i in range(2)
    ]
    with h5py.File(files[0]) as a, h5py.File(files[1]) as b:
        for key in a:
            assert np.array_equal(a[key][()], b[key][()]), key


def test_a_training_goes_no_further_than_a_kind_needs(tmp_path: Path) -> None:
    for kind, steps in (("random", 0), ("medium", 40), ("random", 40), ("high", STEPS)):
        collect("pointmass", kind, tmp_path / f"{kind}-{steps}.hdf5", recipe(tmp_path), never)
        assert Training("PointMass-v0", tmp_path / "pointmass-seed-3", STEPS, 3).step == steps


def test_a_set_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "kept.hdf5"
    file.write_text("precious")
    with pytest.raises(UserError, match="never overwritten"):
        collect("pointmass", "random", file, recipe(tmp_path), never)
    assert file.read_text() == "precious"


def test_a_level_that_was_not_reached_is_refused_with_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "MEDIUM_SCORE", 1e9)
    with pytest.raises(UserError, match="train longer with --steps"):
        collect("pointmass", "medium", tmp_path / "m.hdf5", recipe(tmp_path), never)
    assert not (tmp_path / "m.hdf5").exists()


def test_thinning_keeps_whole_episodes_from_all_of_the_time() -> None:
    random = np.random.default_rng(0)
    ends = np.zeros(10_000, bool)
    at = np.cumsum(random.integers(5, 40, 600))
    ends[at[at < 9_999]] = True
    ends[-1] = True
    arrays: dict[str, Any] = {
        "number": np.arange(10_000),
        "terminals": ends,
        "timeouts": np.zeros(10_000, bool),
    }
    thinned = thin(arrays, 2_500)
    number = thinned["number"]
    assert 2_400 < len(number) <= 2_500
    breaks = np.flatnonzero(np.diff(number) != 1)
    assert thinned["terminals"][breaks].all(), "an episode was cut"
    assert ends[number[0] - 1] or number[0] == 0
    assert abs(number.mean() - 5_000) < 300, "not from all of the time"
    assert thin(arrays, 20_000) is arrays


def test_collected_sets_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("O2OBENCH_DATA", str(tmp_path))
    ours, theirs = (
        datasets.find_dataset("o2o:walker2d-expert-v0"),
        datasets.find_dataset("walker2d-expert-v0"),
    )
    assert ours.file != theirs.file
    assert ours.scores.ref_max == theirs.scores.ref_max
    assert "collected by o2obench" in ours.scores.source
    assert "o2o:hopper-random-v0" in datasets.dataset_names()
    with pytest.raises(UserError, match="data collect walker2d --kind expert"):
        ours.require()
    with pytest.raises(UserError, match="data fetch walker2d-expert-v0"):
        theirs.require()
    for name in (
        "o2o:../x-random-v0",
        "o2o:hopper-random-v1",
        "o2o:hopper-randomly-v0",
    ):
        with pytest.raises(UserError, match="no reference scores"):
            datasets.find_dataset(name)
    with pytest.raises(UserError, match=r"chess-random-v0\.hdf5 is missing"):
        datasets.find_dataset("o2o:chess-random-v0")


def test_a_suite_runs_on_collected_data_with_the_rows_of_their_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("O2OBENCH_DATA", str(tmp_path))
    hopper_file(tmp_path / "hopper-medium-v0.hdf5")
    hopper_file(tmp_path / "hopper_medium-v2.hdf5", rows=400)
    plans = {
        name: expand(Located({"algorithms": ["naive"], "datasets": [name], "seeds": 1}), "twin")
        for name in ("o2o:hopper-medium-v0", "hopper-medium-v2", "d4rl:hopper-medium-v2")
    }
    ours, theirs, prefixed = plans.values()
    assert [run.spec.config for run in ours.runs] == [run.spec.config for run in theirs.runs]
    assert {run.id for run in ours.runs}.isdisjoint(run.id for run in theirs.runs)
    assert [run.id for run in theirs.runs] == [run.id for run in prefixed.runs]
    assert all(":" not in run.id for run in ours.runs)
    assert all(experiment.dataset == "o2o:hopper-medium-v0" for experiment in ours.experiments)


def test_a_replay_goes_up_to_the_level_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, o2obench: Command
) -> None:
    """It ends at the first evaluation that reaches it, is named by it, and has medium-replay's options."""
    name = "o2o:hopper-replay60-v0"
    assert find_dataset(name).embedded
    assert twin(name) == "hopper-medium-replay-v2"
    assert task_and_kind(name) == ("hopper", "replay60")
    assert "data collect hopper --level 61`" in find_dataset("o2o:hopper-replay61-v0").remedy()
    monkeypatch.setattr(Levels, "means", lambda self: {0: 0.0, 40: 50.0, 80: 9.0, 120: 90.0})
    known = Reference("", "", 0.0, 100.0, "", "", "")
    training: Any = SimpleNamespace(steps=STEPS)
    steps = {level: Levels(training, known, level).step("medium") for level in (33.3, 60.0)}
    assert steps == {33.3: 40, 60.0: 120}
    with pytest.raises(UserError, match="reach a score of 90; --level is 95; train longer with --steps"):
        Levels(training, known, 95.0).step("medium")
    refused = o2obench("data", "collect", "hopper", "--kind", "expert", "--level", "60")
    assert refused.returncode == 2
    assert "--level 60: only a medium-replay set goes up to a level" in refused.stderr


COLLECT = """
import sys
from pathlib import Path
from o2obench.training import collect, collector
collector.EVALUATE_EVERY, collector.SAVE_SECONDS = 40, 0.2
work = Path(sys.argv[1])
recipe = collect.Recipe(rows=100, steps=400, seed=3, work=work / "trainings", if_missing=True)
collect.collect("PointMass-v0", "high", work / "set.hdf5", recipe, lambda: False)
"""


@pytest.mark.faults
def test_a_collection_that_is_killed_at_20_instants_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def start(folder: str) -> subprocess.Popen[bytes]:
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [sys.executable, "-c", COLLECT, str(tmp_path / folder)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    began = time.monotonic()
    assert start("straight").wait() == 0
    lasts, killed = time.monotonic() - began, 0
    for k in range(20):
        process = start("killed")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(lasts * (0.4 + 0.6 * k / 20))
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert start("killed").wait() == 0
    assert killed >= 5, "it was hardly ever killed"
    names = ["set.croissant.json", "set.datasheet.md", "set.hdf5", "set.json"]
    for name in names:
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == [*names, "trainings"]


@pytest.mark.slow
def test_a_collecting_training_keeps_its_memory(tmp_path: Path) -> None:
    program = """
from pathlib import Path
from o2obench.training import provenance
from o2obench.training.collector import Training, advance
provenance.COMPILE_FROM = 10**9
training, sizes = Training("Hopper-v4", Path("work"), 3000, 5), []
for _ in range(3):
    for _ in range(800):
        advance(training.agent, training.interaction, training.rows)
    sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20)
print(sizes[-1] - sizes[-2])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100, "MiB in 800 steps of learning; it was 400"
