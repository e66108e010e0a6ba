"""The league as its file expands: who takes part on which data, with which budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from o2obench.datasets.registry import Dataset
from o2obench.errors import UserError
from o2obench.planning.expand import read_suite
from o2obench.planning.load import find_suite
from o2obench.planning.plan import Plan
from o2obench.planning.schema import Selection

HOPPER = {"o2o:hopper-replay60-v0", "o2o:hopper-replay80-v0"}
MAZE = {"o2o:pointmaze-medium-play-v0"}
MEMBERS = {
    **dict.fromkeys(
        ["naive", "MOORe", "CoMoU", "DOOF", "MBPO", "CQL", "SAC from MOPO", "SAC from CQL"], HOPPER
    ),
    **dict.fromkeys(["WSRL (from CQL, two critics)", "frozen (mopo)", "frozen (cql)"], HOPPER),
    **dict.fromkeys(
        ["Cal-QL", "SAC from Cal-QL", "WSRL (from Cal-QL, two critics)", "frozen (cal_ql)"], MAZE
    ),
    **dict.fromkeys(["IQL", "TD3+BC", "RLPD", "SAC", "SAC from IQL", "SAC from TD3+BC"], HOPPER | MAZE),
    **dict.fromkeys(["frozen (iql)", "frozen (td3_bc)"], HOPPER | MAZE),
}
MODEL_BASED = {"mopo", "naive", "moore", "comou", "doof", "mbpo"}


@pytest.fixture(scope="module")
def plan() -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "admit", lambda self: [])
        return read_suite(find_suite("league"))


def test_members_data_and_seeds(plan: Plan) -> None:
    found: dict[str, set[str]] = {}
    for experiment in plan.experiments:
        found.setdefault(experiment.method, set()).add(experiment.dataset)
    assert found == MEMBERS
    assert plan.seeds == (0, 1, 2, 3, 4)
    assert len(plan.experiments) == 5 * sum(map(len, MEMBERS.values()))
    assert plan.protocol == 1
    assert not plan.reduced
    assert not {run.algorithm for run in plan.runs if run.spec.environment.startswith("Point")} & MODEL_BASED


def test_budgets_and_evaluations(plan: Plan) -> None:
    updates = {run.algorithm: plan.work(run)[0] for run in plan.runs if not plan.is_online(run)}
    assert updates == {"mopo": 120_000, "iql": 100_000, "td3_bc": 100_000, "cql": 50_000, "cal_ql": 50_000}
    online = [run for run in plan.runs if plan.is_online(run)]
    assert {plan.work(run)[1] for run in online} == {10_000}
    ratios: dict[str, set[int]] = {}
    for run in (run for run in online if run.algorithm not in ("frozen", "doof")):
        ratios.setdefault(run.algorithm, set()).add(plan.schedules[run.group]["utd_ratio"])
        assert plan.schedules[run.group]["learning_starts"] == 1000
    five = {name: {5} for name in ("naive", "moore", "comou", "mbpo")}
    one = ("iql_finetune", "td3_bc_finetune", "cql_finetune", "cal_ql_finetune", "sac_from", "sac")
    assert ratios == {**five, "rlpd": {4}, "wsrl": {4}, **{name: {1} for name in one}}
    for run in plan.runs:
        if run.algorithm in ("cql", "cal_ql"):
            config = run.spec.config
            chosen = (config["num_critics"], tuple(config["hidden_dims"]), config["critic_hidden_dims"])
            assert (*chosen, config["cql_actions"]) == (2, (256, 256), None, 4)


def test_other_files_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where a suite is built on the league."""
    monkeypatch.setattr(Dataset, "admit", lambda self: [])
    monkeypatch.setattr(Dataset, "sha256", lambda self: "0" * 64)
    (tmp_path / "mine.yaml").write_text("like: league\n")
    for file in (find_suite("league"), tmp_path / "mine.yaml"):
        with pytest.raises(
            UserError, match=r"league\.yaml:\d+:\d+: sha256\.o2o:hopper-replay60-v0: .*replay60"
        ):
            read_suite(file, Selection(seeds=(0,)))
