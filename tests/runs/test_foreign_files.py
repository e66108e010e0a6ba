"""What is not ours in a results folder: links, pipes and foreign files are neither followed nor lost."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from o2obench.errors import Interrupted, UserError
from o2obench.launch import jobs
from o2obench.launch.local import Pool, WorkerSettings
from o2obench.launch.status import status
from o2obench.planning.plan import Plan, read_plan
from o2obench.runs import checkpoint
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.spec import Run, RunSpec, digest
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util import files
from tests.conftest import Command
from tests.helpers.results import listing
from tests.helpers.suites import toy_plan

FILES = ("log.txt", "FAILED", "DONE", "run.json", "evaluations.jsonl", "lock", "progress.json")


def interrupted(plan: Plan, results: Path) -> RunFolder:
    """Begin the first run of a plan, and stop it after a checkpoint."""
    calls = iter(range(10**6))
    with pytest.raises(Interrupted):
        execute(
            [plan.runs[0]],
            ResultsFolder(results),
            Options(checkpoint_seconds=0),
            stop=lambda: next(calls) == 60,
        )
    return ResultsFolder(results).run(plan.runs[0].id)


def link_away(path: Path, outside: Path) -> None:
    """Move what is there to ``outside``, where there is more, and leave a link."""
    outside.mkdir(parents=True)
    target = outside / path.name
    if path.exists():
        path.rename(target)
    elif path.name == "checkpoint":
        target.mkdir()
    else:
        target.write_text("{}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    if target.is_dir():
        (target / "thesis").mkdir()
        (target / "thesis" / "chapter").write_text("years of work")


@pytest.mark.parametrize("place", ["", "checkpoint", "..", "../..", "../../..", *FILES])
def test_a_link_is_refused_by_name_and_nothing_behind_it_changes(
    tmp_path: Path, place: str, o2obench: Command
) -> None:
    plan, results = toy_plan("toy_offline", seeds=1), ResultsFolder(tmp_path / "results")
    file = plan.write(results)
    folder = interrupted(plan, results.path)
    folder.fail("for a retry")
    linked = Path(os.path.normpath(folder.path / place))
    link_away(linked, tmp_path / "outside")
    before = listing(tmp_path / "outside")
    with pytest.raises(UserError, match="is a link") as refused:
        execute([plan.runs[0]], results, Options())
    assert str(linked) in str(refused.value)
    outcome = Pool(plan, file, results, WorkerSettings(1), Options()).launch()
    assert outcome.failed == [plan.runs[0].id]
    [shown] = status(plan, results)
    assert (shown.state, "is a link" in shown.error) == ("failed", True)
    said = o2obench("retry", results.path, "--failed", "--diverged")
    assert "is a link" in said.stdout
    assert "0 runs to try again" in said.stdout
    assert listing(tmp_path / "outside") == before
    assert linked.is_symlink()


def test_one_strange_run_does_not_stop_the_others(tmp_path: Path) -> None:
    plan, results = toy_plan("toy_offline", seeds=2), ResultsFolder(tmp_path / "results")
    strange, other = (results.run(run.id) for run in plan.runs)
    strange.path.mkdir(parents=True)
    os.mkfifo(strange.log)
    outcome = Pool(plan, plan.write(results), results, WorkerSettings(1), Options()).launch()
    assert (outcome.failed, outcome.finished) == ([strange.id], [other.id])
    assert strange.failure() == f"{strange.log}: is a pipe where a file belongs; move it away"


WRITE: dict[str, Callable[[ResultsFolder], object]] = {
    "plans": lambda results: toy_plan(seeds=1).write(results),
    "jobs": lambda results: jobs.note_submitted(results, "toy", {"1": []}),
    "policies": lambda results: files.make_below(results.path, results.policies),
}


@pytest.mark.parametrize("name", list(WRITE))
def test_folders_beside_the_runs_are_not_followed_either(tmp_path: Path, name: str) -> None:
    results, outside = ResultsFolder(tmp_path / "results"), tmp_path / "outside"
    outside.mkdir()
    results.path.mkdir()
    (results.path / name).symlink_to(outside)
    with pytest.raises(UserError, match=f"{name}: is a link where a folder belongs"):
        WRITE[name](results)
    assert not list(outside.iterdir())


def test_the_results_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "scratch")
    plan = toy_plan("toy_offline", seeds=1)
    plan.write(ResultsFolder(tmp_path / "results"))
    execute([plan.runs[0]], ResultsFolder(tmp_path / "results"), Options())
    assert ResultsFolder(tmp_path / "scratch").run(plan.runs[0].id).state() == "done"


def test_foreign_files_outlive_a_run(tmp_path: Path) -> None:
    plan = toy_plan("toy_offline", seeds=1)
    folder = interrupted(plan, tmp_path)
    foreign = [
        folder.checkpoint / "thesis" / "chapter",
        folder.checkpoint / "00000001-ab" / "notes",
        folder.checkpoint / "99999999" / "notes",
        folder.path / ".notes.tmp",
    ]
    for file in foreign:
        file.parent.mkdir(exist_ok=True)
        file.write_text("years of work")
    execute([plan.runs[0]], ResultsFolder(tmp_path), Options())
    assert folder.state() == "done"
    assert [file.read_text() for file in foreign] == ["years of work"] * len(foreign)
    assert len(checkpoint.numbered(folder.checkpoint)) == 3, "the last one, and those that hold foreign files"


def test_what_a_killed_writer_of_a_checkpoint_leaves_is_removed(tmp_path: Path) -> None:
    target = checkpoint.save(tmp_path, 1, {})
    for name in (".tmpAb3dEf", ".state.safetensors.12.0123abcd.tmp"):
        (target / name).write_bytes(b"half")
    checkpoint.remove(target)
    assert not target.exists()


def crafted(plan_file: Path, **changes: Any) -> None:
    """Change the only run of a plan, and let its ids and its hash be right."""
    value = json.loads(plan_file.read_text())
    del value["sha256"]
    [run], [spec] = value["runs"], value["specs"].values()
    run.update(changes)
    spec["algorithm"] = changes.get("algorithm", spec["algorithm"])
    run["id"] = Run(run["dataset"], run["seed"], RunSpec.from_json(spec), run["parent"]).id
    for experiment in value["experiments"]:
        experiment["run"] = run["id"]
    for key in ("stages", "schedules"):
        value[key] = {RunSpec.from_json(spec).hash: next(iter(value[key].values()))}
    value["suite"] = changes.get("suite", value["suite"])
    plan_file.write_text(json.dumps({"sha256": digest(value), **value}))


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": ".."},
        {"seed": "0/../../../../../victim"},
        {"algorithm": "../../victim"},
        {"parent": "../../../../victim"},
        {"suite": "../toy"},
        {"suite": "-toy"},
        {"suite": "to\x1b[31my"},
    ],
)
def test_a_crafted_plan_names_no_folder_outside(
    tmp_path: Path, o2obench: Command, change: dict[str, str]
) -> None:
    plan, results = toy_plan("toy_offline", seeds=1), tmp_path / "results"
    file = plan.write(ResultsFolder(results))
    crafted(file, **change)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "FAILED").write_text("{}")
    with pytest.raises(UserError, match=r"not a plan.*(edited|name of a suite)"):
        read_plan(file)
    for command in (["retry", results, "--failed"], ["status", results], ["cancel", results]):
        assert o2obench(*command).returncode == 2
    assert (tmp_path / "victim" / "FAILED").exists()


def test_files_are_plain_and_of_a_usual_size(tmp_path: Path) -> None:
    plain, link, pipe, large = (tmp_path / name for name in ("plain", "link", "pipe", "large"))
    plain.write_text("{}")
    link.symlink_to(plain)
    os.mkfifo(pipe)
    with open(large, "wb") as file:
        file.truncate(files.MOST_BYTES + 1)
    assert files.read_json(plain) == files.read_json(link, follow=True) == {}
    for path in (link, pipe, large, tmp_path, Path("/dev/zero")):
        assert files.read_json(path) is None
        with pytest.raises(OSError, match=r"is a|has 1,073") as refused:
            files.sha256(path)
        assert str(path) in str(refused.value)


def test_a_policy_is_named_by_a_hash_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no SHA-256"):
        ResultsFolder(tmp_path).policy_file("../../victim")


def test_a_folder_of_somebody_else_is_that_runs_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    [run] = toy_plan("toy_offline", seeds=1).runs
    folder = ResultsFolder(tmp_path).run(run.id)
    folder.make()
    monkeypatch.setattr(os, "scandir", refuse)
    assert (folder.state(), folder.failure()) == ("failed", f"[Errno 13] Permission denied: '{folder.path}'")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stages", {}),
        ("stages", {"a": [{"name": "look", "updates": "many", "env_steps": 0}]}),
        ("schedules", {}),
        ("scores", {}),
        ("scores", {"pointmass-mixed-v0": {"dataset": "x", "ref_min": [1]}}),
        ("seeds", [[]]),
        ("reporting_steps", "100"),
        ("experiments", [1]),
        ("data", {"a": [1]}),
        ("title", 5),
        ("figures", {"a": 1}),
    ],
)
def test_a_plan_of_another_shape_is_refused_though_its_hash_is_right(
    tmp_path: Path, key: str, value: object, o2obench: Command
) -> None:
    file = toy_plan("toy_offline", seeds=1).write(ResultsFolder(tmp_path))
    plan = json.loads(file.read_text())
    del plan["sha256"]
    plan[key] = value
    file.write_text(json.dumps({"sha256": digest(plan), **plan}))
    said = o2obench("status", tmp_path)
    assert said.returncode == 2
    assert f"{file}: not a plan (" in said.stderr
    assert len(said.stderr.splitlines()) == 1
