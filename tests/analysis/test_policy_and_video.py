"""Policies of finished runs: drawn as they were evaluated, written so that numpy alone acts alike."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from o2obench.agent import Agent, take_seed
from o2obench.analysis.policy import load, write_policy
from o2obench.analysis.video import render
from o2obench.envs import rendering
from o2obench.envs.pointmass import PIXELS
from o2obench.envs.spec import find_env
from o2obench.errors import UserError
from o2obench.planning.expand import single
from o2obench.planning.plan import Plan
from o2obench.planning.schema import Selection
from o2obench.runs import checkpoint
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.spec import Run
from o2obench.training.build import build
from o2obench.training.evaluation import Arena
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.transitions import Array
from o2obench.util.rng import Stream
from tests.conftest import Command
from tests.helpers.folders import COMPUTED
from tests.helpers.suites import toy_plan

DOCS = Path(__file__).parents[2] / "docs"


def finished(run: Run, results: Path) -> tuple[Path, Agent[Any], list[float]]:
    """Publish an untrained agent as a finished run; return its folder and what its policy returns."""
    agent, folder = (
        build([run], ResultsFolder(results), "cpu", with_data=False),
        ResultsFolder(results).run(run.id),
    )
    folder.path.mkdir(parents=True)
    folder.record.write_text(json.dumps({"run": run.to_json(), "identity": run.identity, **COMPUTED}))
    last = checkpoint.save(
        folder.checkpoint, 1, {"agent": take_seed(agent.pretrained_state(), 0), "final": True}
    )
    arena = Arena(find_env(run.spec.environment), (run.seed,))
    returns = arena.returns(lambda obs: agent.act(obs, explore=False), (Stream.AT_ONLINE_START,), 3)[
        0
    ].tolist()
    row = {"stage": "policy", "env_steps": 0, "updates": 0, "returns": returns}
    folder.evaluations.write_text(json.dumps(row) + "\n")
    folder.finish(last.name)
    return folder.path, agent, returns


def small(algorithm: str, data: str = "pointmass-mixed-v0", seed: int = 3) -> Plan:
    return single(algorithm, data, seed, [], (1, 10, 5), Selection(defaults=True))


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, Agent[Any], list[float]]]:
    """A run of MOPO, of naive fine-tuning and of SAC, none of them trained."""
    results = tmp_path_factory.mktemp("results")
    return {name: finished(small(name).runs[-1], results) for name in ("mopo", "naive", "sac")}


def pictures(file: Path) -> int:
    from PIL import Image

    with Image.open(file) as film:
        assert film.size == (PIXELS, PIXELS)
        return int(getattr(film, "n_frames", 1))


@pytest.mark.slow
def test_a_film_shows_the_episodes_of_the_evaluation(policies: Any, tmp_path: Path) -> None:
    folder, _, returns = policies["mopo"]
    lines = render(folder, 3, tmp_path / "a.gif")
    assert [line.split(",")[0] for line in lines[:3]] == [
        f"episode {i}: return {value:.2f}" for i, value in enumerate(returns)
    ]
    assert "score" in lines[0]
    steps = [int(line.split(", ")[2].split(" ")[0]) for line in lines[:3]]
    assert 3 <= pictures(tmp_path / "a.gif") <= sum(steps) + 3
    render(folder, 3, tmp_path / "b.gif")
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert render(folder, 1, tmp_path / "c.gif", seed=4)[0] != lines[0]


def test_a_trained_run_is_shown_as_its_last_row_says(tmp_path: Path, o2obench: Command) -> None:
    run = toy_plan("toy_offline", seeds=1).runs[0]
    execute([run], ResultsFolder(tmp_path / "results"), Options())
    folder = ResultsFolder(tmp_path / "results").run(run.id)
    last = json.loads(folder.evaluations.read_text().splitlines()[-1])
    done = o2obench("render", folder.path, "--episodes", "2")
    assert done.returncode == 0, done.stderr
    assert f"return {last['returns'][1]:.2f}" in done.stdout
    [file] = tmp_path.glob("*.gif")
    assert file.name == "pointmass-mixed-v0-toy_offline-" + "-".join(folder.path.parts[-2:]) + ".gif"
    refused = o2obench("policy", folder.path, "--out", "x.npz")
    assert refused.returncode == 2
    assert "toy_offline does not show its policy as arrays" in refused.stderr


def test_frozen_shows_arrays_only_where_its_pretraining_does(tmp_path: Path) -> None:
    results, plan = (
        ResultsFolder(tmp_path / "results"),
        toy_plan("toy_offline", "toy_tune", seeds=1, frozen=True),
    )
    for run in (run for run in plan.runs if run.algorithm in ("toy_offline", "frozen")):
        execute([run], results, Options())
    with pytest.raises(UserError, match="frozen does not show its policy as arrays"):
        write_policy(results.run(run.id).path, tmp_path / "x.npz")


def test_what_cannot_be_shown_is_refused_before_anything_is_written(
    policies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = policies["mopo"][0]
    for bad, message in (("a.png", "ends in .gif"), ("nowhere/a.gif", "its folder is missing")):
        with pytest.raises(UserError, match=message):
            render(folder, 1, tmp_path / bad)
    with pytest.raises(UserError, match="is not a run's folder"):
        render(tmp_path)
    run = small("mopo", seed=5).runs[0]
    path, *_ = finished(run, tmp_path / "results")
    (path / "DONE").unlink()
    with pytest.raises(UserError, match="is not finished"):
        render(path)
    assert not list(tmp_path.rglob("*.gif"))


@pytest.mark.slow
def test_mujoco_is_drawn_without_a_screen(tmp_path: Path, o2obench: Command) -> None:
    try:
        rendering._graphics("Hopper-v4")
    except UserError:
        pytest.skip("neither EGL nor OSMesa is there")
    folder, _, returns = finished(small("sac", "invertedpendulum-replay-v0").runs[0], tmp_path / "results")
    done = o2obench("render", folder, "--out", "film.gif")
    assert done.returncode == 0, done.stderr
    assert f"episode 0: return {returns[0]:.2f}" in done.stdout
    assert (tmp_path / "film.gif").read_bytes()[:6] == b"GIF89a"


def reference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the code of the page in the folder in which a policy lies; return its ``act``."""
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "compare.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(code, names)  # the page's own words
    return names["act"], names["in_the_environment"]


@pytest.mark.parametrize("name", ["mopo", "naive", "sac"])
@pytest.mark.parametrize("out", ["policy.npz", "."])
def test_the_written_policy_acts_as_the_agent_does(
    policies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, out: str
) -> None:
    folder, agent, _ = policies[name]
    [line] = write_policy(folder, tmp_path / out)
    assert "(4 -> 256 -> 256 -> 2, relu, tanh)" in line
    act, scaled = reference(tmp_path, monkeypatch)
    obs = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    wanted = agent.act(obs[None], explore=False)[0]
    assert np.abs(act(obs) - wanted).max() < 1e-5
    assert np.allclose(scaled(wanted), find_env("PointMass-v0").from_unit(wanted), atol=1e-6)
    about = json.loads((tmp_path / "policy.json").read_text())
    assert about["layers"] == [4, 256, 256, 2]
    assert about["environment"] == "PointMass-v0"
    first = (tmp_path / "policy.npz").read_bytes()
    write_policy(folder, tmp_path / out)
    assert (tmp_path / "policy.npz").read_bytes() == first


def test_only_a_policy_that_acts_alike_is_written(
    policies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, agent, _ = policies["mopo"]
    kind = type(agent)
    real = kind.act

    def shifted(self: Agent[Any], obs: Array, explore: bool) -> Array:
        return np.asarray(real(self, obs, explore) + 0.01)

    monkeypatch.setattr(kind, "act", shifted)
    with pytest.raises(UserError, match=r"act differently from the agent, by up to 0\.01"):
        write_policy(folder, tmp_path / "policy.npz")
    monkeypatch.setattr(kind, "act", real)
    monkeypatch.setattr(kind, "network", lambda self: None)
    with pytest.raises(UserError, match="mopo does not show its policy as arrays"):
        write_policy(folder, tmp_path / "policy.npz")
    assert not list(tmp_path.rglob("policy.*"))


def test_the_rebuilt_agent_is_the_one_that_was_evaluated(policies: Any) -> None:
    folder, agent, _ = policies["naive"]
    run, rebuilt, _ = load(folder)
    assert (run.algorithm, run.seed) == ("naive", 3)
    obs = np.random.default_rng(0).normal(size=(1, 20, 4)).astype(np.float32)
    assert np.array_equal(agent.act(obs, explore=False), rebuilt.act(obs, explore=False))
