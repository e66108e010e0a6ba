"""Evaluation in a process of its own writes the same rows, in the same order, through any interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from o2obench.errors import Interrupted, RunFailed
from o2obench.runs import checkpoint
from o2obench.runs.folder import ResultsFolder
from o2obench.training.async_evaluation import Evaluator
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.files import read_json
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
