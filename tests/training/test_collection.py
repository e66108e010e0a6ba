"""Data sets that a suite collects on its way: identity by recipe, order, interruptions, files that differ."""

from __future__ import annotations

import itertools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from o2obench.analysis.results import table_of
from o2obench.datasets.registry import find_dataset
from o2obench.errors import Interrupted, UserError
from o2obench.launch.launcher import Launch
from o2obench.launch.profile import Local, Slurm
from o2obench.launch.slurm import arrays
from o2obench.maintenance.merge import merge
from o2obench.planning.expand import expand
from o2obench.planning.plan import Plan, read_plan
from o2obench.planning.schema import Selection
from o2obench.runs.folder import ResultsFolder
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.config import Located

NAME = "o2o:pointmaze-umaze-play-v0"
OPTIONS = Options()


def planned(results: Path, seeds: int | list[int] = 1, **changes: Any) -> Plan:
    value = {
        "algorithms": ["toy_offline", "toy_tune"],
        "datasets": [NAME],
        "seeds": seeds,
        "offline": {"updates": 100, "evaluate_every": 100},
        "online": {"steps": 20, "evaluate_every": 10},
        "frozen": False,
        "collect": {"rows": 900},
        **changes,
    }
    return expand(Located(value), "own", Selection(), results=ResultsFolder(results))


def computed(results: Path, **changes: Any) -> Plan:
    plan = planned(results, **changes)
    plan.write(ResultsFolder(results))
    for run in plan.runs:
        execute([run], ResultsFolder(results), OPTIONS)
    return plan


def record(results: Path, run_id: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((results / run_id / "run.json").read_text())
    return value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and data of a suite that began without data; to be copied."""
    folder = tmp_path_factory.mktemp("collected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("O2OBENCH_DATA", str(folder / "data"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        computed(folder / "results")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    for name in ("data", "results"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def test_what_is_missing_is_collected_first_and_known_by_its_recipe(tmp_path: Path) -> None:
    plan = planned(tmp_path / "results")
    collect, pretraining, tune = plan.runs
    assert (collect.collects, collect.dataset, collect.seed) == (True, NAME, 0)
    assert plan.needs(collect) == ()
    assert plan.needs(pretraining) == (collect.id,)
    assert plan.needs(tune) == (pretraining.id, collect.id)
    for run in (pretraining, tune):
        assert run.spec.data is not None
        assert run.spec.data.to_json() == {"name": NAME, "recipe": collect.identity}
    assert read_plan(plan.write(ResultsFolder(tmp_path / "results"))).runs == plan.runs
    assert planned(tmp_path, collect={"rows": 901}).runs[0].identity != collect.identity


def test_runs_are_the_same_before_and_after_and_say_which_file_it_was(here: Path, tmp_path: Path) -> None:
    plan, data = planned(here / "results"), find_dataset(NAME)
    before = [planned_run.id for planned_run in plan.runs]
    assert plan.runs[0].collects, "the run that collected it is still one of this folder's plan"
    assert data.recipe == plan.runs[0].identity
    assert {record(here / "results", run)["data_sha256"] for run in before} == {data.sha256()}
    elsewhere = planned(tmp_path / "others")
    assert [run.id for run in elsewhere.runs] == before[1:], "nothing is left to collect"
    table, problems = table_of(plan, ResultsFolder(here / "results"))
    assert len(table)
    assert not problems
    assert plan.data.keys() == {NAME}


def test_a_set_that_was_collected_otherwise_is_refused(here: Path) -> None:
    with pytest.raises(
        UserError, match=r"was not collected as the suite's `collect` says \(901 rows, 200,000"
    ):
        planned(here / "results", collect={"rows": 901})
    assert planned(here / "results", collect=None).runs[-1].spec.data == planned(here).runs[-1].spec.data


def test_a_set_that_is_gone_is_not_collected_in_silence(here: Path) -> None:
    file = find_dataset(NAME).file
    assert file is not None
    file.unlink()
    launch = Launch(
        planned(here / "results"), ResultsFolder(here / "results"), Local(launcher="local"), OPTIONS
    )
    with pytest.raises(UserError, match=r"was collected and is gone; put its file back, or remove .*collect"):
        launch.require()


def test_an_interrupted_collection_ends_with_the_same_bytes(made: Path, tmp_path: Path) -> None:
    [run] = [run for run in planned(tmp_path / "results").runs if run.collects]
    interruptions = 0
    while True:
        calls = itertools.count()
        try:
            execute([run], ResultsFolder(tmp_path / "results"), OPTIONS, lambda: next(calls) == 2)  # noqa: B023
        except Interrupted:
            interruptions += 1
            continue
        break
    assert interruptions
    assert find_dataset(NAME).sha256() == record(made / "results", run.id)["data_sha256"]


def test_two_suites_that_lack_a_set_collect_it_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    runs = [planned(folder).runs[0] for folder in folders]
    with ThreadPoolExecutor() as pool:
        for ended in [
            pool.submit(execute, [run], ResultsFolder(folder), OPTIONS)
            for run, folder in zip(runs, folders, strict=True)
        ]:
            ended.result()
    assert len({record(folder, runs[0].id)["data_sha256"] for folder in folders}) == 1
    assert capfd.readouterr().out.count(" episodes, returns ") == 1, "it was written once"


def other_file(here: Path) -> None:
    """Let another file lie where the set was: the same recipe, another machine's bytes."""
    data = find_dataset(NAME)
    assert data.file is not None
    import h5py

    with h5py.File(data.file, "a") as file:
        file["metadata/note"] = "another machine"


def test_another_file_of_the_same_recipe_is_a_conflict(here: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    other_file(here)
    [collect] = [run for run in planned(here / "results").runs if run.collects]
    plan = planned(theirs, seeds=2)
    plan.write(ResultsFolder(theirs))
    for run in (run for run in plan.runs if run.seed == 1):
        execute([run], ResultsFolder(theirs), OPTIONS)
    merging = merge(ResultsFolder(here / "results"), ResultsFolder(theirs))
    assert not merging.copied
    assert all("conflict: its data have SHA-256" in problem for problem in merging.problems)
    assert len(merging.problems) == 2

    for run in (run for run in plan.runs if run.seed == 1):  # by hand, then
        shutil.copytree(theirs / run.id, here / "results" / run.id)
    _, problems = table_of(plan, ResultsFolder(here / "results"))
    assert {problem.seed for problem in problems} == {1}
    assert all("was trained on other data of this name" in problem.what for problem in problems)
    assert collect.identity


def test_a_run_does_not_go_on_with_another_file(here: Path) -> None:
    plan = planned(here / "results", seeds=[3])
    [run] = [run for run in plan.runs if run.algorithm == "toy_offline"]
    calls = itertools.count()
    with pytest.raises(Interrupted):
        execute([run], ResultsFolder(here / "results"), OPTIONS, lambda: next(calls) == 5)
    other_file(here)
    with pytest.raises(UserError, match="collected by the same recipe; put the former one back"):
        execute([run], ResultsFolder(here / "results"), OPTIONS)


def test_jobs_wait_for_their_data_and_collections_of_one_training_for_each_other(tmp_path: Path) -> None:
    sets = ["o2o:hopper-random-v0", "o2o:hopper-medium-v0", NAME]
    plan, results = planned(tmp_path, datasets=sets), ResultsFolder(tmp_path)
    random, medium, maze = (run for run in plan.runs if run.collects)
    both = planned(tmp_path, datasets=[NAME, NAME.replace("play", "diverse")])
    assert not any(both.needs(run) for run in both.runs if run.collects), "walks share no training"
    assert plan.needs(medium) == (random.id,), "both are cut from one training"
    assert plan.needs(maze) == ()
    found = arrays(plan, results, Slurm(launcher="slurm"), {}, False, 100)
    after = {task: array.after for array in found for task in array.tasks}
    of = {array.tasks[0][0]: array for array in found}
    assert after[(random.id,)] is None
    assert after[(medium.id,)] is of[random.id]
    for run in plan.runs:
        if run.algorithm == "toy_offline":
            [collect] = [c for c in (random, medium, maze) if c.dataset == run.dataset]
            assert after[(run.id,)] is of[collect.id]
        if run.algorithm == "toy_tune":
            assert after[(run.id,)] is of[str(run.parent)]
    queued = arrays(plan, results, Slurm(launcher="slurm"), {maze.id: "77"}, False, 100)
    waits = {task[0]: array.after_job for array in queued for task in array.tasks if array.after_job}
    assert waits == {
        run.id: "77" for run in plan.runs if run.dataset == NAME and run.algorithm == "toy_offline"
    }


def test_a_recipe_belongs_to_an_identity(tmp_path: Path) -> None:
    run = planned(tmp_path).runs[1]
    assert run.spec.data is not None
    spec = type(run.spec).from_json(run.spec.to_json())
    assert spec == run.spec
    other = replace(run.spec, data=replace(run.spec.data, recipe="0" * 64))
    assert other.hash != run.spec.hash
