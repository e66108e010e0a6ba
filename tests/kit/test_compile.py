"""The engine: however an inner step runs, it computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from o2obench import registry
from o2obench.agent import Budget, Task
from o2obench.datasets.toy import mixed_data
from o2obench.envs.pointmass import left_the_field
from o2obench.errors import Interrupted, UserError
from o2obench.kit import compile
from o2obench.runs.folder import ResultsFolder
from o2obench.testing import check_agent
from o2obench.testing.check_agent import leaves
from o2obench.training import provenance
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.files import read_json
from tests.helpers.model_free import agent as small_agent
from tests.helpers.model_free import feed, trained, work
from tests.helpers.suites import toy_plan

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")


@pytest.fixture
def compiler() -> Iterator[None]:
    reason = compile.why_no_compiler("cpu")
    if reason:
        pytest.skip(reason)
    compile.use_compiler(True)
    yield
    compile.use_compiler(False)


def learn(device: str = "cpu", seeds: tuple[int, ...] = (0, 1)) -> dict[str, Any]:
    """Let a small MOPO fit its model with a seed masked out, roll it out, and do ten updates."""
    mopo = registry.algorithm("mopo")
    options = {
        "rollout_batch_size": 50,
        "model_hidden_dims": (16, 16),
        "model_weight_decay": (1e-5,) * 3,
        "hidden_dims": (16,),
    }
    task = Task(4, 2, 50, seeds, left_the_field, Budget(1000, 0), device)
    agent: Any = mopo(task, mopo.Config.model_validate(options), mixed_data(1500))
    fit = agent._new_training()
    fit.start()
    fit._shuffle()
    index = fit.order[..., : 3 * 256].unflatten(-1, (3, 256)).movedim(2, 0)
    active = torch.tensor([True, False], device=device)[: len(seeds)]
    agent.model.learn(agent.replay, index, [1e-3] * 3, None)
    agent.model.learn(agent.replay, index, [1e-3] * 3, active)
    agent.due_rollout, agent.due_updates = 50, 10
    for _ in (*agent._roll_out(), *agent._update_policy()):
        pass
    state: dict[str, Any] = agent.state_dict()
    return state


def assert_equal_up_to_rounding(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    mine, theirs = leaves(one), leaves(other)
    assert mine.keys() == theirs.keys()
    for place, value in theirs.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            assert np.allclose(mine[place], value, rtol=tolerance, atol=tolerance), place


@pytest.mark.usefixtures("compiler")
@pytest.mark.slow
def test_compiled_steps_compute_what_eager_ones_do() -> None:
    compiled = learn()
    compile.use_compiler(False)
    assert_equal_up_to_rounding(compiled, learn(), 1e-5)


@pytest.mark.usefixtures("compiler")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("iql", {"actor_dropout": 0.1}), ("cal_ql", {"cql_actions": 2, "target_gap": 1.0})],
)
def test_compiled_updates_of_model_free_methods_compute_what_eager_ones_do(
    name: str, options: dict[str, Any]
) -> None:
    states = []
    for on in (True, False):
        compile.use_compiler(on)
        states.append(trained(name, updates=6, seeds=(0, 1), **options).state_dict())
    assert_equal_up_to_rounding(states[0], states[1], 1e-4)


DENSITY: dict[str, Any] = {"density_hidden_dims": (32, 32), "density_updates": 4}


@pytest.mark.usefixtures("compiler")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parent", "options"),
    [
        ("aca", "sac_ml", {}),  # a shortened gradient
        ("opt", "td3_bc", {"meta_updates": 4}),  # a gradient inside a loss
        ("sung", "td3_bc", {**DENSITY, "candidates": 3}),  # two networks that are one part
    ],
)
def test_compiled_fine_tuning_computes_what_eager_fine_tuning_does(
    name: str, parent: str, options: dict[str, Any]
) -> None:
    states, data = [], mixed_data(500)
    compile.use_compiler(False)
    before = trained(parent, updates=4).pretrained_state()
    for on in (True, False):
        compile.use_compiler(on)
        made = small_agent(registry.algorithm(name), data, learning_starts=5, **options)
        made.warm_start([before])
        for stage in type(made).stages(made.config, made.task.budget):
            made.begin(stage.name)
            work(made, stage.name)
            feed(made, data[:5] if stage.name == "collect" else data[:0])
        feed(made, data[5:12])
        states.append(made.state_dict())
    assert_equal_up_to_rounding(states[0], states[1], 1e-4)


@pytest.mark.usefixtures("compiler")
@pytest.mark.slow
def test_a_process_compiles_one_function_for_any_number_of_agents() -> None:
    """torch's own limit is eight of a function; the next one would fail."""

    def of_an_agent(number: int) -> Callable[[Tensor], Tensor]:
        return compile.compiled(lambda x: number * x)

    for number in range(12):
        assert torch.equal(of_an_agent(number)(torch.ones(3)), torch.full((3,), float(number)))


@pytest.mark.usefixtures("compiler")
@pytest.mark.slow
def test_a_compiled_run_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "COMPILE_FROM", 0)
    [run] = check_agent.small_plan("mopo").runs
    execute([run], ResultsFolder(tmp_path / "straight"), Options())
    assert check_agent.execute_with_breaks(run, ResultsFolder(tmp_path / "broken"), {2, 5}) == 2
    straight, broken = (ResultsFolder(tmp_path / name).run(run.id) for name in ("straight", "broken"))
    assert read_json(broken.record)["compute"]["compiled"] is True
    assert straight.evaluations.read_bytes() == broken.evaluations.read_bytes()
    assert check_agent._final_arrays(straight) == check_agent._final_arrays(broken)
    eager = ResultsFolder(tmp_path / "eager").run(run.id)
    execute([run], ResultsFolder(tmp_path / "eager"), Options(eager=True))
    assert read_json(eager.record)["compute"]["compiled"] is False


def test_a_run_that_was_compiled_does_not_go_on_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [run] = check_agent.small_plan("mopo").runs
    calls = iter(range(10**6))
    there, file = provenance.compute, ResultsFolder(tmp_path).run(run.id).record
    with monkeypatch.context() as begun:
        begun.setattr(provenance, "compute", lambda *settings: {**there(*settings), "compiled": True})
        begun.setattr(provenance, "apply", lambda *settings: None)
        with pytest.raises(Interrupted):
            execute([run], ResultsFolder(tmp_path), Options(), stop=lambda: next(calls) == 5)
    monkeypatch.setattr(compile, "why_no_compiler", lambda device: "no compiler")
    with pytest.raises(UserError, match="compiled was True, is False"):
        execute([run], ResultsFolder(tmp_path))
    execute([run], ResultsFolder(tmp_path), Options(allow_mismatch=True))
    assert not compile._compiling, "allowed to drift, it goes on as this machine can"
    assert read_json(file)["mismatch"] == ["compiled was True, is False"]


@pytest.mark.gpu
@pytest.mark.parametrize("on", [False, True], ids=["eager", "compiled"])
def test_graphs_on_a_gpu_compute_what_a_cpu_does(on: bool) -> None:
    """Streams of a GPU differ from a CPU's, so the two are compared from equal draws."""
    compile.use_compiler(on)
    try:
        total = {device: sums(device) for device in ("cpu", "cuda")}
    finally:
        compile.use_compiler(False)
    assert torch.allclose(total["cpu"], total["cuda"].cpu(), rtol=1e-5)
    learn("cuda")


def sums(device: str) -> Tensor:
    state = torch.ones(3, device=device)

    def step(x: Tensor, y: Tensor) -> None:
        state.mul_(0.9).add_(x * y)

    repeat = compile.Repeat(step)
    for count in (25, 10, 1, 1, 1, 32):  # warmed up, captured, replayed, with remainders
        x = torch.arange(float(3 * count)).view(count, 3).to(device)
        repeat(x, 1.0 / (1.0 + x))
    return state


def test_the_route_of_products_is_exact_however_fast_it_claims_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``medium`` rounds to bfloat16 (Intel with AMX) it is refused, though it be ten times as fast."""
    seconds = iter([1.0] * 20 + [0.1] * 20)
    monkeypatch.setattr(provenance, "_seconds_of", lambda work: next(seconds))
    former = torch.get_float32_matmul_precision()
    route = provenance._measured_precision.__wrapped__()
    assert torch.get_float32_matmul_precision() == former
    torch.set_float32_matmul_precision(route)
    try:
        a, b = (torch.randn(256, 256, generator=torch.Generator().manual_seed(k)) for k in range(2))
        exact = a.double() @ b.double()
        assert float(((a @ b).double() - exact).norm() / exact.norm()) < 1e-6
        torch.set_float32_matmul_precision("medium")
        rounds = float(((a @ b).double() - exact).norm() / exact.norm()) >= 1e-6
        assert route == ("highest" if rounds else "medium")
    finally:
        torch.set_float32_matmul_precision(former)


def test_the_route_of_products_is_settled_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that should be equal are: a second measurement, beside other work, could choose otherwise."""
    first = provenance.compute("cpu", 1)["matmul_precision"]
    monkeypatch.setattr(provenance, "_seconds_of", lambda work: pytest.fail("measured again"))
    assert provenance.compute("cpu", 1)["matmul_precision"] == first


def test_a_missing_compiler_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compile, "why_no_compiler", lambda device: "no C++ compiler found")
    assert provenance.compute("cpu", 1, "highest", True)["compiled"] is False
    [line] = capsys.readouterr().err.splitlines()
    assert "uncompiled" in line
    assert "no C++ compiler found" in line


def test_a_run_of_few_updates_is_not_compiled_and_says_so(tmp_path: Path) -> None:
    run = toy_plan(seeds=1).runs[0]
    execute([run], ResultsFolder(tmp_path))
    assert read_json(ResultsFolder(tmp_path).run(run.id).record)["compute"]["compiled"] is False


def test_numbers_below_the_normal_range_count_as_zero_on_every_thread() -> None:
    threads = torch.get_num_threads()
    provenance.prepare(2)
    try:
        tiny = torch.full((1_000_000,), 1e-38) * 1e-4
        assert not tiny.view(torch.int32).any()
    finally:
        torch.set_num_threads(threads)
