"""Diagnosis: the simulator gives back the recorded steps, and a model's error is what it is."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from o2obench.analysis import model_error as diagnosis
from o2obench.analysis.model_error import diagnose
from o2obench.analysis.results import diagnoses, logged
from o2obench.datasets import registry as datasets
from o2obench.datasets.d4rl import read_simulator
from o2obench.datasets.toy import mixed_data
from o2obench.envs.simulator import simulate
from o2obench.envs.spec import find_env
from o2obench.errors import UserError
from o2obench.planning.plan import read_plan
from o2obench.report import write_report
from o2obench.report.plots.training_logs import KL, LOGGED
from o2obench.runs.folder import ResultsFolder
from o2obench.training.options import Options
from o2obench.training.runner import execute
from tests.conftest import Command
from tests.helpers.suites import toy_plan

SETS = [
    "invertedpendulum-replay-v0",
    *(f"o2o:{task}-medium-replay-v0" for task in ("hopper", "halfcheetah", "walker2d")),
]


@pytest.mark.parametrize("name", SETS)
def test_the_simulator_repeats_the_recorded_steps(name: str) -> None:
    found = datasets.find_dataset(name)
    data = found.load()
    assert found.file is not None
    stored = read_simulator(found.file)
    assert stored
    rows = np.random.default_rng(0).choice(len(data), 400, replace=False)
    some = data[rows]
    by_obs = simulate(found.env, some.obs, some.action)
    by_state = simulate(found.env, some.obs, some.action, (stored[0][rows], stored[1][rows]))
    clip = found.env.locomotion.clip if found.env.locomotion else None
    clipped = (np.abs(stored[1][rows]) >= clip).any(axis=1) if clip else np.zeros(400, bool)
    assert np.array_equal(by_obs.known, ~clipped), "skipped exactly where a velocity is clipped"
    assert by_state.skipped == 0
    if "walker2d" in name or "hopper" in name:
        assert by_obs.skipped > 0
    for true, known in ((by_obs, by_obs.known), (by_state, by_state.known)):
        error = np.abs(true.next_obs - some.next_obs)[known].max(axis=1)
        assert np.quantile(error, 0.99) < 1e-4
        assert error.max() < 2e-3, "float32 transitions, at contacts"
        assert np.abs(true.reward - some.reward)[known].max() < 1e-3


def test_what_does_not_tell_its_state_is_refused() -> None:
    spec = find_env("Pendulum-v1")
    with pytest.raises(UserError, match="its state cannot be set from an observation"):
        simulate(spec, np.zeros((1, 3), np.float32), np.zeros((1, 1), np.float32))
    spec = find_env("Reacher-v4")
    with pytest.raises(UserError, match="does not hold the simulator's state"):
        simulate(spec, np.zeros((1, 11), np.float32), np.zeros((1, 2), np.float32))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MOPO on the toy data, and DOOF and CoMoU that start from it: computed once, a copy for each worker."""
    folder = tmp_path_factory.mktemp("results")
    shared = folder.parent.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with FileLock(shared / "diagnosed.lock"):
        if not (shared / "diagnosed" / "plans").exists():
            _compute(shared / "diagnosed")
    return Path(shutil.copytree(shared / "diagnosed", folder / "own"))


def _compute(folder: Path) -> None:
    small = {"rollout_batch_size": 200, "max_model_epochs": 3}
    doof = {**small, "explorer_updates": 20, "policy_updates": 20, "uncertain_transitions": 50}
    few = {"utd_ratio": 2, "learning_starts": 20, "model_train_freq": 20}
    reduced = {"mopo": small, "doof": doof, "comou": {**small, **few}}
    plan = toy_plan("mopo", "doof", "comou", seeds=[0], steps=60, reduced=reduced)
    for run in plan.runs:
        execute([run], ResultsFolder(folder), Options())
    plan.write(ResultsFolder(folder))


def runs(results: Path, algorithm: str) -> list[Path]:
    return sorted((results / "pointmass-mixed-v0" / algorithm).glob("*/seed-*"))


@pytest.mark.slow
def test_runs_of_a_family_are_evaluated_on_the_same_rows(results: Path) -> None:
    mopo, doof = (diagnose(runs(results, name)[0], 300) for name in ("mopo", "doof"))
    before, after = ([one for one in doof if one.model == model] for model in ("before", "after"))
    assert [one.source for one in mopo] == ["data", "random", "rollout", "uniform"]
    assert [one.source for one in before] == ["data", "random", "rollout", "uniform", "online"]
    again = diagnose(runs(results, "doof")[0], 300)
    assert doof == again
    for mine, theirs in zip(before, mopo, strict=False):
        assert replace(mine, run=theirs.run, model="after") == theirs, "before: the pretraining run's model"
    for one, other in zip(before, after, strict=True):
        assert (one.source, one.n, one.skipped) == (other.source, other.n, other.skipped)
        assert one.mean != other.mean, "the model was fine-tuned"
    for one in (*mopo, *doof):
        assert 0 < one.median <= one.q95 <= one.max
        assert one.squared >= one.mean**2
        assert np.isfinite([one.rmse, one.nll, one.uncertainty, one.rank]).all()


@pytest.mark.slow
def test_rows_of_another_set_of_the_task(results: Path, o2obench: Command) -> None:
    folder = runs(results, "doof")[0]
    plain, more = diagnose(folder, 50), diagnose(folder, 50, ["pointmass-mixed-v0"])
    assert more[: len(plain)] == plain, "the usual sets stay what they are"
    assert [(one.source, one.model) for one in more[len(plain) :]] == [
        ("pointmass-mixed-v0", "before"),
        ("pointmass-mixed-v0", "after"),
    ]
    assert more[-1].mean != plain[0].mean, "other rows"
    wrong = o2obench("diagnose", folder, "--on", "o2o:hopper-medium-replay-v0")
    assert wrong.returncode == 2
    assert "o2o:hopper-medium-replay-v0: is of Hopper-v4" in wrong.stderr


@pytest.mark.slow
def test_a_perfect_model_has_no_error(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Perfect:
        def predict(self, obs: Any, action: Any) -> Any:
            true = simulate(find_env("PointMass-v0"), obs[0], action[0])
            mean = np.concatenate([true.next_obs - obs[0], true.reward[:, None]], 1) + self.bias
            return mean[None, None].repeat(5, 1), np.zeros((1, 5, *mean.shape)), np.ones((1, len(mean)))

        def imagine(self, obs: Any) -> Any:
            return obs, np.zeros((*obs.shape[:2], 2), np.float32)

        def collected(self, state: Any) -> None:
            pass

        bias = np.zeros(5)

    load = diagnosis._load

    def loaded(folder: Path) -> Any:
        run, _, state = load(folder)
        return run, Perfect(), state

    monkeypatch.setattr(diagnosis, "_load", loaded)
    folder = runs(results, "mopo")[0]
    for one in diagnose(folder, 200):
        assert one.max < 1e-6
        assert one.nll == pytest.approx(0.5 * 5 * np.log(2 * np.pi), abs=1e-4)
    Perfect.bias = np.array([0.3, 0.4, 0.0, 0.0, 0.0])
    scale = (mixed_data().next_obs - mixed_data().obs).std(axis=0)
    for one in diagnose(folder, 200):
        assert one.mean == pytest.approx(0.5, abs=1e-5)
        assert one.squared == pytest.approx(0.25, abs=1e-5)
        assert one.rmse == pytest.approx(
            np.sqrt(((np.array([0.3, 0.4, 0, 0]) / scale) ** 2).mean()), rel=1e-3
        )


@pytest.mark.slow
def test_the_command(o2obench: Command, results: Path, tmp_path: Path) -> None:
    both = [runs(results, name)[0] for name in ("mopo", "doof")]
    done = o2obench("diagnose", *both, "--transitions", "50", "--json", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    assert "online" in done.stdout
    assert len(json.loads((tmp_path / "a.json").read_text())) == 4 + 2 * 5
    kept = json.loads((both[1] / "diagnosis.json").read_text())
    assert (kept["transitions"], kept["seed"], len(kept["evaluated"])) == (50, 0, 10)
    manifest = next(both[1].glob("checkpoint/*/manifest.json"))
    assert json.loads(manifest.read_text())["sha256"] in kept["checkpoints"].values()
    plan = read_plan(results / "plans" / "toy.json")
    found, lacking = diagnoses(plan, ResultsFolder(results))
    assert set(found.method) == {"doof"}
    assert [experiment.method for experiment in lacking] == ["comou"]
    wrong = o2obench("diagnose", tmp_path)
    assert wrong.returncode == 2
    assert "is not a run's folder" in wrong.stderr


@pytest.mark.slow
def test_what_the_agents_logged_is_drawn(results: Path, tmp_path: Path) -> None:
    plan = read_plan(results / "plans" / "toy.json")
    rows = logged(plan.experiments, ResultsFolder(results), LOGGED)
    assert set(rows.method) == {"doof", "comou"}, "what fine-tunes"
    moved = rows[(rows.method == "comou") & (rows.name == KL)]
    assert moved.env_steps.tolist() == [20, 40, 60]
    (page,) = write_report(ResultsFolder(results), tmp_path / "out")
    assert "What the agents logged" in page.read_text()
    assert (page.parent / "diagnostics-pointmass-mixed-v0.png").stat().st_size > 10_000
    again = write_report(ResultsFolder(results), tmp_path / "again")[0].parent
    for file in page.parent.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
