"""A run on disk: its lock, its checkpoints, its record and its identity, with the torch-free toy agents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from o2obench.agent import Budget
from o2obench.errors import Interrupted
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.lock import Busy, RunLock
from o2obench.runs.spec import Run
from o2obench.training.options import Options
from o2obench.training.runner import execute
from tests.helpers.suites import toy_plan


def test_another_process_cannot_take_a_run_that_is_computed(tmp_path: Path) -> None:
    plan = toy_plan(seeds=1)
    lock = RunLock(ResultsFolder(tmp_path).run(plan.runs[0].id))
    with pytest.raises(Busy):
        execute([plan.runs[0]], ResultsFolder(tmp_path), Options())
    lock.release()
    execute([plan.runs[0]], ResultsFolder(tmp_path), Options())


@pytest.mark.parametrize("corruption", ["flip", "cut", "no manifest", "torn manifest"])
def test_a_corrupted_checkpoint_is_set_aside_and_the_one_before_is_used(
    tmp_path: Path, corruption: str
) -> None:
    run = toy_plan(seeds=1).runs[0]
    execute([run], ResultsFolder(tmp_path / "straight"), Options())
    calls = iter(range(10**6))
    with pytest.raises(Interrupted):
        execute(
            [run],
            ResultsFolder(tmp_path / "hurt"),
            Options(checkpoint_seconds=0),
            stop=lambda: next(calls) == 60,
        )
    folder = ResultsFolder(tmp_path / "hurt").run(run.id)
    newest = sorted(folder.checkpoint.iterdir())[-1]
    arrays, manifest = newest / "state.safetensors", newest / "manifest.json"
    content = bytearray(arrays.read_bytes())
    if corruption == "flip":
        content[-5] ^= 1
        arrays.write_bytes(content)
    elif corruption == "cut":
        arrays.write_bytes(content[:-7])
    elif corruption == "no manifest":
        manifest.unlink()
    else:
        manifest.write_bytes(manifest.read_bytes()[:40])
    execute([run], ResultsFolder(tmp_path / "hurt"), Options())
    assert (
        folder.evaluations.read_bytes()
        == ResultsFolder(tmp_path / "straight").run(run.id).evaluations.read_bytes()
    )


def test_an_edited_record_is_refused() -> None:
    run = toy_plan(seeds=1).runs[0]
    value = run.to_json()
    value["spec"]["config"]["rate"] = 0.5
    with pytest.raises(ValueError, match="edited"):
        Run.from_json(value)


def test_identity_is_what_is_computed() -> None:
    run = toy_plan(seeds=1).runs[0]
    other = replace(run, spec=replace(run.spec, budget=Budget(2000, 0)))
    assert run.group != other.group
    more_steps = toy_plan(seeds=1, steps=500).runs[0]
    assert run.id == more_steps.id, "an offline run does not depend on online fields"
    assert toy_plan(seeds=1, title="another").runs == toy_plan(seeds=1).runs
    assert {r.group for r in toy_plan(seeds=[0, 7]).runs} == {r.group for r in toy_plan(seeds=1).runs}
