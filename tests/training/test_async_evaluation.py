"""Evaluation in a process of its own writes the same rows, in the same order, through any interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from o2obench.agent import EXPLORER_RETURN
from o2obench.api import make_agent
from o2obench.datasets.registry import find_dataset
from o2obench.errors import Interrupted, RunFailed
from o2obench.planning.expand import single
from o2obench.planning.schema import Selection
from o2obench.runs import checkpoint
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.jsonl import read_jsonl
from o2obench.training.async_evaluation import Evaluator
from o2obench.training.evaluation import Arena
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.files import read_json
from o2obench.util.rng import Stream
from tests.helpers.suites import toy_plan

APART = Options(evaluation="apart")


def scores(results: Path, run: Any) -> bytes:
    return ResultsFolder(results).run(run.id).evaluations.read_bytes()


def test_rows_are_those_of_a_run_that_waits_for_each_evaluation(tmp_path: Path) -> None:
    for run in toy_plan(seeds=1).runs:
        execute([run], ResultsFolder(tmp_path / "here"), Options())
        execute([run], ResultsFolder(tmp_path / "apart"), APART)
        assert scores(tmp_path / "here", run) == scores(tmp_path / "apart", run)
    assert read_json(ResultsFolder(tmp_path / "apart").run(run.id).record)["compute"]["evaluation"] == "apart"


def test_pending_evaluations_survive_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline, run = toy_plan(seeds=1).runs
    for folder in ("straight", "stopped"):
        execute([offline], ResultsFolder(tmp_path / folder), Options())
    execute([run], ResultsFolder(tmp_path / "straight"), Options())
    results = Evaluator.results
    monkeypatch.setattr(Evaluator, "results", lambda self, wait: results(self, True) if wait else [])
    calls = iter(range(10**6))
    calls_stop = lambda: next(calls) == 115  # noqa: E731
    with pytest.raises(Interrupted):
        execute([run], ResultsFolder(tmp_path / "stopped"), APART, stop=calls_stop)
    found = checkpoint.load(ResultsFolder(tmp_path / "stopped").run(run.id).checkpoint)
    assert found
    assert len(found[1]["pending"]) >= 1, "nothing was pending: the test tried nothing"
    execute([run], ResultsFolder(tmp_path / "stopped"), Options())  # where to evaluate is remembered
    assert scores(tmp_path / "straight", run) == scores(tmp_path / "stopped", run)


def test_a_pack_is_judged_seed_by_seed(tmp_path: Path) -> None:
    pack = [run for run in toy_plan(seeds=2).runs if run.algorithm == "toy_offline"]
    execute(pack, ResultsFolder(tmp_path / "here"), Options())
    execute(pack, ResultsFolder(tmp_path / "apart"), APART)
    for run in pack:
        assert scores(tmp_path / "here", run) == scores(tmp_path / "apart", run)


def test_an_evaluator_that_dies_ends_the_run_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Evaluator.submit

    def kill_then_submit(self: Evaluator, snapshot: Any) -> None:
        self.process.kill()
        self.process.join()
        submit(self, snapshot)

    monkeypatch.setattr(Evaluator, "submit", kill_then_submit)
    [run] = [run for run in toy_plan(seeds=1).runs if run.algorithm == "toy_offline"]
    with pytest.raises(RunFailed, match="evaluation process ended"):
        execute([run], ResultsFolder(tmp_path), APART)
    assert "evaluation process" in ResultsFolder(tmp_path).run(run.id).failed.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("options", [Options(), APART])
def test_an_explorer_is_judged_when_it_has_learnt_and_the_evaluated_policy_stays(
    tmp_path: Path, options: Options
) -> None:
    shared: dict[str, Any] = {"rollout_batch_size": 200, "max_model_epochs": 2, "holdout": 20}
    own = {
        **shared,
        "uncertain_transitions": 64,
        "explorer_updates": 400,
        "policy_updates": 20,
        "collect": 40,
    }
    config = own | {f"mopo.{key}": value for key, value in shared.items()}
    results, data = ResultsFolder(tmp_path), "pointmass-mixed-v0"
    texts = [f"{key}={value}" for key, value in config.items()]
    plan = single("doof", data, 0, texts, (20, 40, 40), Selection(), "", results)
    for run in plan.runs:
        execute([run], results, options)
    folder = results.run(plan.runs[-1].id)
    judged = [row for row in read_jsonl(folder.train) if EXPLORER_RETURN in row]
    assert [(row["stage"], row["updates"]) for row in judged] == [("explorer", 400)]
    rows = {row["stage"]: row["returns"] for row in read_jsonl(folder.evaluations)}
    assert judged[0][EXPLORER_RETURN] != pytest.approx(sum(rows["start"]) / len(rows["start"]))
    mopo = make_agent("doof", data, options=config, offline_updates=20, online_steps=40, results=tmp_path)
    arena, clock = Arena(find_dataset(data).env, (0,)), (Stream.AT_UPDATES, 0, 400)
    returns = arena.returns(lambda obs: mopo.act(obs, explore=False), clock, 50)
    assert rows["explorer"] == pytest.approx(returns[0].tolist(), rel=1e-4), "MOPO's policy is judged"
