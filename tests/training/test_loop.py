"""The loop and the run folder, with the torch-free toy agents."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from o2obench.envs.episode import Interaction
from o2obench.envs.spec import find_env
from o2obench.errors import Diverged, Interrupted, RunFailed, UserError
from o2obench.planning.expand import single
from o2obench.planning.plan import Plan
from o2obench.planning.schema import Selection
from o2obench.runs import checkpoint
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.jsonl import read_jsonl
from o2obench.runs.read import computed_record
from o2obench.runs.spec import Interval, Run, evaluations_due
from o2obench.training import provenance
from o2obench.training.evaluation import Arena
from o2obench.training.options import Options
from o2obench.training.restore import CheckpointMismatch
from o2obench.training.runner import execute
from o2obench.util.files import read_json
from tests.conftest import environment
from tests.helpers.suites import compute, toy_plan


def rows(results: Path, run: Run) -> list[dict[str, Any]]:
    return list(read_jsonl(ResultsFolder(results).run(run.id).evaluations))


def by_name(plan: Plan, algorithm: str) -> list[Run]:
    return [run for run in plan.runs if run.algorithm == algorithm]


def test_rows_of_a_run_stand_at_the_clocks_of_the_protocol(tmp_path: Path) -> None:
    plan = toy_plan(seeds=1)
    compute(plan, tmp_path)
    offline, tune = plan.runs
    found = [(r["stage"], r["env_steps"], r["updates"], len(r["returns"])) for r in rows(tmp_path, offline)]
    assert found == [("look", 0, 0, 50), ("imitate", 0, 1000, 50)]
    tuned = [(r["stage"], r["env_steps"], len(r["returns"])) for r in rows(tmp_path, tune)]
    assert tuned == [("start", 0, 50), ("fine-tune", 50, 10), ("fine-tune", 100, 10), ("fine-tune", 120, 50)]


def test_evaluations_stand_where_the_schedule_has_them(tmp_path: Path) -> None:
    schedule = [{"until": 40, "every": 20}, {"every": 50}]
    plan = toy_plan(seeds=1, online={"steps": 120, "evaluate_every": schedule})
    compute(plan, tmp_path)
    clocks = [row["env_steps"] for row in rows(tmp_path, plan.runs[1])]
    assert clocks == [0, 20, 40, 50, 100, 120]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 7)), max_size=3), st.integers(1, 7))
def test_due_evaluations_are_the_multiples_of_each_part(parts: list[tuple[int, int]], last: int) -> None:
    begin, clocks, schedule = 0, set[int](), list[Interval]()
    for length, every in [*parts, (60 - sum(length for length, _ in parts), last)]:
        clocks |= {clock for clock in range(begin + 1, begin + length + 1) if clock % every == 0}
        begin += length
        schedule.append(Interval(every, begin))
    schedule[-1] = Interval(last)
    for clock in range(61):
        assert evaluations_due(tuple(schedule), clock) == len([c for c in clocks if c <= clock])
        assert evaluations_due((Interval(last),), clock) == evaluations_due(last, clock) == clock // last


def test_row_0_of_tuning_equals_the_last_row_of_pretraining(tmp_path: Path) -> None:
    plan = toy_plan(seeds=1)
    compute(plan, tmp_path)
    offline, tune = plan.runs
    assert rows(tmp_path, tune)[0]["returns"] == rows(tmp_path, offline)[-1]["returns"]


def test_a_policy_that_is_not_taken_over_as_it_was_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import toy_o2o

    monkeypatch.setattr(toy_o2o.Toy, "warm_start", lambda self, states: None)
    with pytest.raises(RunFailed, match="row 0 differs"):
        compute(toy_plan(seeds=1), tmp_path)


def test_every_episode_starts_from_a_state_of_its_own() -> None:
    """Training episodes, and those of an evaluation beyond the first ten that are played side by side."""
    spec = find_env("PointMass-v0")
    interaction, starts = Interaction(spec, 0), []
    for _ in range(3):
        starts.append(interaction.obs.tolist())
        while interaction.step(np.zeros(spec.act_dim, np.float32))[1] is None:
            pass
    assert len({tuple(start) for start in starts}) == 3
    returns = Arena(spec, (0,)).returns(lambda obs: np.zeros((1, 10, spec.act_dim), np.float32), ("x",), 30)[
        0
    ]
    assert len(set(returns.tolist())) == 30


def test_episodes_carry_return_length_and_end(tmp_path: Path) -> None:
    plan = toy_plan(seeds=1)
    compute(plan, tmp_path)
    episodes = list(read_jsonl(ResultsFolder(tmp_path).run(plan.runs[1].id).episodes))
    assert len(episodes) >= 2
    assert all(0 < episode["length"] <= 50 for episode in episodes)
    assert episodes[0]["env_steps"] == episodes[0]["length"]


def test_two_computations_have_equal_bytes_and_seeds_differ(tmp_path: Path) -> None:
    plan = toy_plan(seeds=2)
    for name in ("a", "b"):
        compute(plan, tmp_path / name)
    for run in plan.runs:
        for file in ("evaluations", "episodes"):
            a, b = (getattr(ResultsFolder(tmp_path / name).run(run.id), file).read_bytes() for name in "ab")
            assert a == b
    first, second = by_name(plan, "toy_tune")
    assert rows(tmp_path / "a", first) != rows(tmp_path / "a", second)


def test_evaluating_more_often_changes_no_learning(tmp_path: Path) -> None:
    finals = []
    for every in (10, 60):
        plan = toy_plan(seeds=1, online={"steps": 120, "evaluate_every": every})
        compute(plan, tmp_path / str(every))
        finals.append(rows(tmp_path / str(every), plan.runs[1])[-1]["returns"])
    assert finals[0] == finals[1]


@pytest.mark.slow
def test_a_seed_batch_writes_what_single_runs_write(tmp_path: Path) -> None:
    plan = toy_plan(seeds=3)
    compute(plan, tmp_path / "single")
    for algorithm in ("toy_offline", "toy_tune"):
        execute(by_name(plan, algorithm), ResultsFolder(tmp_path / "pack"), Options())
    for run in plan.runs:
        for file in ("evaluations", "episodes", "train"):
            single, pack = (
                getattr(ResultsFolder(tmp_path / name).run(run.id), file) for name in ("single", "pack")
            )
            assert single.read_bytes() == pack.read_bytes(), (run.id, file)


def test_a_seed_batch_interrupted_goes_on_as_a_seed_batch_or_alone(tmp_path: Path) -> None:
    plan = toy_plan(seeds=2)
    pack = by_name(plan, "toy_offline")
    execute(pack, ResultsFolder(tmp_path / "straight"), Options())
    calls = iter(range(10**6))
    with pytest.raises(Interrupted):
        execute(pack, ResultsFolder(tmp_path / "pack"), Options(), stop=lambda: next(calls) == 20)
    execute([pack[0]], ResultsFolder(tmp_path / "pack"), Options())  # seed 0 alone
    with pytest.raises(CheckpointMismatch):
        execute(pack, ResultsFolder(tmp_path / "pack"), Options())
    execute([pack[1]], ResultsFolder(tmp_path / "pack"), Options())
    for run in pack:
        a, b = (
            ResultsFolder(tmp_path / name).run(run.id).evaluations.read_bytes()
            for name in ("straight", "pack")
        )
        assert a == b


def test_a_diverging_seed_ends_alone(tmp_path: Path) -> None:
    plan = toy_plan("toy_diverges", seeds=3)
    execute(by_name(plan, "toy_offline"), ResultsFolder(tmp_path), Options())
    with pytest.raises(Diverged, match=r"norm after .* updates in stage fine-tune is not finite"):
        execute(by_name(plan, "toy_diverges"), ResultsFolder(tmp_path), Options())
    states = [ResultsFolder(tmp_path).run(run.id).state() for run in by_name(plan, "toy_diverges")]
    assert states == ["done", "diverged", "done"]
    for run in (r for r in by_name(plan, "toy_diverges") if r.seed != 1):
        alone = tmp_path / "alone"
        execute(
            [r for r in by_name(plan, "toy_offline") if r.seed == run.seed], ResultsFolder(alone), Options()
        )
        execute([run], ResultsFolder(alone), Options())
        assert rows(alone, run) == rows(tmp_path, run)


def test_a_failing_run_says_why(tmp_path: Path) -> None:
    plan = toy_plan("toy_breaks", seeds=1)
    execute([plan.runs[0]], ResultsFolder(tmp_path), Options())
    with pytest.raises(RuntimeError):
        execute([plan.runs[1]], ResultsFolder(tmp_path), Options())
    folder = ResultsFolder(tmp_path).run(plan.runs[1].id)
    assert folder.state() == "failed"
    assert folder.failure() == "RuntimeError: broken on purpose"


def test_a_run_that_is_done_is_not_touched(tmp_path: Path) -> None:
    plan = toy_plan(seeds=1)
    compute(plan, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and p.name != "lock"}
    compute(plan, tmp_path)
    assert before == {
        p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and p.name != "lock"
    }


def test_what_remains_of_a_finished_run_is_its_pretrained_state(tmp_path: Path) -> None:
    plan = toy_plan(seeds=1)
    compute(plan, tmp_path)
    folders = list(ResultsFolder(tmp_path).run(plan.runs[0].id).checkpoint.iterdir())
    assert len(folders) == 1
    _, state = checkpoint.load(folders[0].parent) or (0, {})
    assert set(state["agent"]) == {"weights", "updates"}


def test_a_child_needs_its_finished_parent(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="is not finished"):
        execute([toy_plan(seeds=1).runs[1]], ResultsFolder(tmp_path), Options())


def test_resume_on_another_machine_is_refused_or_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_plan(seeds=1).runs[0]
    calls = iter(range(10**6))
    with pytest.raises(Interrupted):
        execute([run], ResultsFolder(tmp_path), Options(), stop=lambda: next(calls) == 20)
    there = provenance.compute

    def here(*settings: Any) -> dict[str, Any]:
        machine = there(*settings)
        return {**machine, "versions": {**machine["versions"], "numpy": "1.0"}}

    monkeypatch.setattr(provenance, "compute", here)
    with pytest.raises(UserError, match=r"numpy was .*, is 1\.0; .*--allow-mismatch"):
        execute([run], ResultsFolder(tmp_path))
    execute([run], ResultsFolder(tmp_path), Options(allow_mismatch=True))
    assert "is 1.0" in read_json(ResultsFolder(tmp_path).run(run.id).record)["mismatch"][0]


def test_a_run_goes_on_with_the_engine_of_its_start_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, results = toy_plan(seeds=1).runs[0], ResultsFolder(tmp_path)
    there, calls = provenance.compute, itertools.count()

    def before_there_were_engines(*settings: Any) -> dict[str, Any]:
        return {key: value for key, value in there(*settings).items() if key != "engine"}

    with monkeypatch.context() as then:
        then.setattr(provenance, "compute", before_there_were_engines)
        with pytest.raises(Interrupted):
            execute([run], results, Options(), stop=lambda: next(calls) == 20)
    with monkeypatch.context() as later:
        later.setattr(provenance, "ENGINE", 2)
        with pytest.raises(UserError, match=r"engine was 1, is 2; .*--allow-mismatch"):
            execute([run], results)
    execute([run], results)
    assert "engine" not in read_json(results.run(run.id).record)["compute"], "as its start wrote it"
    record = computed_record(results.run(run.id))
    assert record
    assert record["compute"]["engine"] == 1


def test_threads_of_the_start_are_used_again(tmp_path: Path) -> None:
    run = toy_plan(seeds=1).runs[0]
    calls = iter(range(10**6))
    with pytest.raises(Interrupted):
        execute([run], ResultsFolder(tmp_path), Options(threads=1), stop=lambda: next(calls) == 20)
    execute([run], ResultsFolder(tmp_path), Options(threads=2))
    assert read_json(ResultsFolder(tmp_path).run(run.id).record)["compute"]["threads"] == 1


def test_states_of_a_seed_batch_can_be_cut_and_joined() -> None:
    from o2obench.agent import stack_seeds, take_seed

    state: dict[str, Any] = {"a": np.arange(6).reshape(3, 2), "b": {"c": np.ones((3, 1)), "d": 5}}
    singles = [take_seed(state, i) for i in range(3)]
    joined = stack_seeds(singles)
    assert np.array_equal(joined["a"], state["a"])
    assert joined["b"]["d"] == 5
    with pytest.raises(ValueError, match="same clock"):
        stack_seeds([{"n": 1}, {"n": 2}])


@pytest.mark.slow
def test_what_needs_torch_only_as_its_pretraining_does_computes_with_the_parents_precision(
    tmp_path: Path,
) -> None:
    """In a worker, which reads the plan: `frozen` imports no torch, its settings must hold for its parent."""
    results, chosen = ResultsFolder(tmp_path / "results"), Selection(defaults=True)
    plan = single("frozen", "pointmass-mixed-v0", 0, [], (200, 60, 60), chosen, "iql")
    file = plan.write(results)
    code = (
        "import sys; from o2obench.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    import torch; print('precision', torch.get_float32_matmul_precision())"
    )

    def worked(run: Run) -> str:
        command = [sys.executable, "-c", code, "work", str(file), run.id, "--results", str(results.path)]
        with subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:  # a worker lives as long as its input is open
            assert process.stdout is not None
            return process.stdout.read()

    parent, child = plan.runs
    assert "precision" in worked(parent)
    folder = results.run(parent.id)
    last = folder.final_checkpoint()
    assert last is not None
    record = json.loads(folder.record.read_text())
    record["compute"]["matmul_precision"] = "high"
    folder.record.write_text(json.dumps(record))
    folder.done.unlink()
    folder.finish(last.name)
    assert "precision high\n" in worked(child), "its numbers may not fit the parent's: no matter here"
