"""Files of a results folder whose hashes are right and whose values nobody can have written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from o2obench.errors import RunFailed
from o2obench.planning.plan import read_plan
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.spec import digest
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.files import sha256
from tests.conftest import Command
from tests.faults.test_strange_files import UNEXPECTED, rehash

ESCAPES = "x\x1b]0;owned\x07\x1b[31m\x9b31m\u202e"


@pytest.fixture
def results(two_seeds: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_seeds, tmp_path / "results"))


def put(value: Any, place: str, new: Any) -> None:
    """Set what stands at a place such as ``specs.*.budget.online_steps``; ``*`` is the first key."""
    *above, last = place.split(".")
    for key in above:
        value = next(iter(value.values())) if key == "*" else value[int(key) if key.isdigit() else key]
    value[int(last) if last.isdigit() else last] = new


@pytest.mark.parametrize(
    ("place", "new"),
    [
        ("specs.*.versions", None),
        ("specs.*.versions", []),
        ("specs.*.config", "x"),
        ("specs.*.data.sha256", True),
        ("specs.*.data.sha256", {"a": 1}),
        ("specs.*.budget.offline_updates", 10**30),
        ("specs.*.budget.offline_updates", 1.5),
        ("specs.*.budget.online_steps", "../../x"),
        ("specs.*.environment", ESCAPES),
        ("specs.*.more", 1),
        ("reporting_steps", [-1]),
        ("experiments.0.pretraining", ESCAPES),
    ],
)
def test_a_plan_of_wrong_types_is_no_plan(results: Path, o2obench: Command, place: str, new: Any) -> None:
    file = results / "plans" / "toy.json"
    value = json.loads(file.read_text())
    del value["sha256"]
    put(value, place, new)
    file.write_text(json.dumps({"sha256": digest(value), **value}))
    for words in (("status", results), ("export", results, "--out", "out"), ("compare", results, results)):
        said = o2obench(*words)
        assert said.returncode == 2, words
        assert "toy.json: not a plan (" in said.stderr
        assert said.stderr.rstrip("\n").isprintable(), "one line, and nothing in it acts"


def test_a_plan_without_experiments_has_its_runs(results: Path, o2obench: Command) -> None:
    file = results / "plans" / "toy.json"
    value = {**json.loads(file.read_text()), "experiments": []}
    del value["sha256"]
    file.write_text(json.dumps({"sha256": digest(value), **value}))
    shown = o2obench("status", results)
    assert shown.returncode == 0, shown.stderr
    assert "toy_tune" in shown.stdout


ROWS = [
    ("evaluations.jsonl", "returns", []),
    ("evaluations.jsonl", "env_steps", 10**30),
    ("episodes.jsonl", "env_steps", 10**30),
    ("episodes.jsonl", "terminated", -1),
    ("train.jsonl", "updates", 10**30),
    ("run.json", "compute.threads", 10**30),
    ("run.json", "compute.compiled", -1),
    ("run.json", "code", None),
]


@pytest.mark.parametrize(("name", "place", "new"), ROWS)
def test_one_run_of_impossible_values_is_one_problem(
    results: Path, o2obench: Command, name: str, place: str, new: Any
) -> None:
    run = next(file.parent for file in sorted(results.rglob("DONE")) if (file.parent / name).stat().st_size)
    first, *rest = (run / name).read_text().splitlines() if name.endswith("l") else [(run / name).read_text()]
    value = json.loads(first)
    put(value, place, new)
    (run / name).write_text("\n".join([json.dumps(value), *rest]) + "\n")
    rehash(run / name)
    done = o2obench("export", results, "--out", "out")
    assert done.returncode == 0, done.stderr
    where = str(run.relative_to(results))
    lines = Path("out/problems.csv").read_text()
    assert where in lines, "it is named"
    for words in (
        ("mirror", results, "--to", "tensorboard", "--out", "events"),
        ("report", results, "--format", "csv", "--out", "page"),
        ("compare", results, "--of", "toy_tune", "--against", "toy_offline"),
    ):
        said = o2obench(*words)
        assert UNEXPECTED not in said.stderr, words
        assert said.returncode in (0, 2)


def test_options_of_wrong_types_in_a_record_are_refused_in_a_line(
    results: Path, tmp_path: Path, o2obench: Command
) -> None:
    [record] = results.glob("*/toy_tune/*/seed-0/run.json")
    value = json.loads(record.read_text())
    for option in value["run"]["spec"]["config"]:
        changed = json.loads(record.read_text())
        changed["run"]["spec"]["config"][option] = "word"
        copy = tmp_path / option
        shutil.copytree(results, copy)
        (copy / record.relative_to(results)).write_text(json.dumps(changed))
        run = (copy / record.relative_to(results)).parent
        for words in (
            ("plot", run, "--out", tmp_path / "x.png"),
            ("report", run, "--out", tmp_path / "page"),
        ):
            said = o2obench(*words)
            assert UNEXPECTED not in said.stderr, words
            assert said.returncode in (0, 2), words
            assert len(said.stderr.splitlines()) <= 1, said.stderr


def test_a_place_that_cannot_be_written_to_is_named_with_a_remedy(
    results: Path, tmp_path: Path, o2obench: Command
) -> None:
    (tmp_path / "out" / "runs.csv").mkdir(parents=True)
    (tmp_path / "page" / "toy").mkdir(parents=True)
    (tmp_path / "page" / "toy" / "index.html").mkdir()
    (tmp_path / "file").write_text("")
    for words, remedy in (
        (("export", results, "--out", tmp_path / "out"), "name another place"),
        (("report", results, "--format", "html", "--out", tmp_path / "page"), "name another place"),
        (
            ("plot", "toy_tune:0", "--results", results, "--out", tmp_path / "file" / "x.png"),
            "name a picture",
        ),
        (("status", "x" * 300), "name a shorter one"),
    ):
        said = o2obench(*words)
        assert said.returncode in (1, 2), words
        assert remedy in said.stderr, words
        assert len(said.stderr.splitlines()) == 1
        assert UNEXPECTED not in said.stderr


def test_what_a_run_says_of_its_machine_does_not_act_on_the_terminal(
    results: Path, o2obench: Command
) -> None:
    first, second = sorted(results.glob("*/toy_offline/*/seed-*"))
    record = json.loads((first / "run.json").read_text())
    record["compute"]["processor"] = ESCAPES
    (first / "run.json").write_text(json.dumps(record))
    rehash(first / "run.json")
    shown = o2obench("diff", first, second, "--results", results)
    assert shown.returncode == 0, shown.stderr
    assert "\\x1b]0;owned" in shown.stdout
    assert not any(mark in shown.stdout for mark in ("\x1b]", "\x1b[31m", "\x9b", "\u202e"))


@pytest.mark.parametrize("change", [{"stage": 99}, {"env_steps": -(10**30)}, {"stage_steps": 1.5}])
def test_a_state_of_an_impossible_clock_publishes_nothing(results: Path, change: dict[str, Any]) -> None:
    plan = read_plan(results / "plans" / "toy.json")
    [unfinished] = [run for run in plan.runs if ResultsFolder(results).run(run.id).state() != "done"]
    folder = ResultsFolder(results).run(unfinished.id)
    for file in folder.checkpoint.glob("*/manifest.json"):
        manifest = json.loads(file.read_text())
        manifest["values"]["clock"] |= change
        file.write_text(json.dumps(manifest))
        rehash(file)
    before = {file: sha256(file) for file in folder.checkpoint.rglob("*.safetensors")}
    with pytest.raises(RunFailed, match="its clock is none of this run"):
        execute([unfinished], ResultsFolder(results), Options())
    assert not folder.done.exists()
    assert {file: sha256(file) for file in folder.checkpoint.rglob("*.safetensors")} == before
