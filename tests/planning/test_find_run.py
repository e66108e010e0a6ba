"""A run by its folder or by a short name."""

from __future__ import annotations

from pathlib import Path

import pytest

from o2obench.errors import UserError
from o2obench.planning.find_run import find_run, names_of_runs
from o2obench.runs.folder import ResultsFolder
from tests.helpers.folders import finish
from tests.helpers.suites import toy_plan


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    """Return a results folder: a method with a label of its own and one without, seeds 1 and 11."""
    tuned = {"toy_tune": {"rate": [0.1, 0.2], "label": "tune (rate {rate})"}}
    finish(toy_plan(tuned, seeds=[1, 11]), tmp_path / "results")
    return ResultsFolder(tmp_path / "results")


def test_a_run_by_every_one_of_its_names(results: ResultsFolder) -> None:
    [(run, called)] = [
        (run, names)
        for run, names in names_of_runs(results).items()
        if names[-1].endswith("tune (rate 0.1):1")
    ]
    dataset, algorithm, identity, seed = run.split("/")
    assert (dataset, algorithm, seed) == ("pointmass-mixed-v0", "toy_tune", "seed-1")
    assert called == [run, "pointmass-mixed-v0/tune (rate 0.1):1"]
    whole = results.path / run
    names = (run, f"{identity}/{seed}", f"results/{run}", f"results/{run}/", str(whole), *called)
    for name in (*names, "tune (rate 0.1):1"):
        assert find_run(name, ResultsFolder("results")).resolve() == whole.resolve(), name
    with pytest.raises(UserError, match="2 runs are called so"):
        find_run(identity[:4], results)


def test_a_pretraining_run_by_its_algorithm(results: ResultsFolder) -> None:
    assert find_run("toy_offline:11", results).name == "seed-11"


def test_a_whole_name_wins_over_a_longer_one_that_begins_so(results: ResultsFolder) -> None:
    assert find_run("tune (rate 0.2):1", results).name == "seed-1", "seed 11's name begins so, too"
    with pytest.raises(UserError, match=r"2 runs are called so; name one of .*0\.2\):1, .*0\.2\):11$"):
        find_run("tune (rate 0.2)", results)


def test_two_runs_of_one_name_are_told_apart_by_their_ids(results: ResultsFolder) -> None:
    plan = toy_plan("toy_tune", seeds=[1], steps=60)
    finish(plan, results.path / "other")  # other budgets: another identity under the same method's name
    other = ResultsFolder(results.path / "other")
    again = toy_plan("toy_tune", seeds=[1], steps=120)
    for run in again.runs:
        if not other.run(run.id).path.exists():
            other.run(run.id).path.mkdir(parents=True)
            other.run(run.id).record.write_text("{}")
    with pytest.raises(UserError) as refused:
        find_run("toy_tune/", other)
    candidates = str(refused.value).partition("name one of ")[2].split(", ")
    assert len(candidates) == 2
    for name in candidates:
        assert find_run(name, other).is_dir(), name


def test_many_candidates_are_cut_short(tmp_path: Path) -> None:
    finish(toy_plan("toy_offline", seeds=12), tmp_path / "results")
    with pytest.raises(UserError, match=r"12 runs are called so; .* and 4 more$"):
        find_run("toy_offline", ResultsFolder(tmp_path / "results"))
