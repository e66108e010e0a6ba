"""The rules of the league, each broken once, on a small one: toys on two data sets, two seeds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from o2obench import registry
from o2obench.analysis import league
from o2obench.analysis.league import LeagueCheck, Row, check_league
from o2obench.datasets.registry import Dataset
from o2obench.errors import UserError
from o2obench.planning.expand import read_suite
from o2obench.planning.load import find_suite
from o2obench.runs.folder import ResultsFolder, RunFolder
from tests.conftest import Command
from tests.helpers.folders import finish
from tests.helpers.league import ADDED, LEAGUE, MASS, MAZE, edit, id_of, joined, plan_of, small_league

RULES = ("protocol", "options", "budgets", "data", "ended", "mismatch", "code", "tuning", "seeds")


@pytest.fixture(autouse=True)
def _small_league(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a small league in the place of the package's."""
    small_league(tmp_path, monkeypatch)


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def broken(check: LeagueCheck) -> dict[str, tuple[str, ...]]:
    """Return what breaks each rule that is broken."""
    named = zip(RULES, check.rules, strict=True)
    found = {name: rule.broken_by for name, rule in named if rule.broken_by}
    assert check.holds == (not found)
    return found


def seeds(check: LeagueCheck) -> dict[tuple[str, str], tuple[int, ...]]:
    return {(row.method, row.dataset): row.seeds for row in check.rows}


def test_a_whole_league_keeps_every_rule(tmp_path: Path, results: ResultsFolder) -> None:
    finish(plan_of(tmp_path), results.path)
    check = check_league(results)
    assert not broken(check)
    assert check.rows == tuple(
        Row(method, dataset, "verified", (0, 1))
        for method, datasets in (("mine", (MASS, MAZE)), ("other", (MASS,)), ("frozen", (MASS, MAZE)))
        for dataset in datasets
    )
    assert (check.protocol, check.diverged) == (1, ())


def test_another_protocol(tmp_path: Path, results: ResultsFolder) -> None:
    finish(plan_of(tmp_path, LEAGUE.replace("protocol: 1", "protocol: 2")), results.path)
    assert broken(check_league(results)) == {"protocol": ("the plan's is 2",)}


def test_no_protocol(tmp_path: Path, results: ResultsFolder) -> None:
    finish(plan_of(tmp_path, LEAGUE.replace("protocol: 1\n", "")), results.path)
    assert broken(check_league(results)) == {"protocol": ("the plan's is not said",)}


def test_other_options_under_a_member_s_name(tmp_path: Path, results: ResultsFolder) -> None:
    own, changed = plan_of(tmp_path), plan_of(tmp_path, LEAGUE.replace("rate: 0.2", "rate: 0.4"))
    finish(joined(own, changed), results.path)
    assert broken(check_league(results)) == {
        "options": tuple(id_of(changed, "other", MASS, seed) for seed in (0, 1))
    }


def test_another_version_of_an_algorithm(
    tmp_path: Path, results: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        versions = registry.versions
        patch.setattr(registry, "versions", lambda name: {**versions(name), "toy_tune": 99})
        plan = plan_of(tmp_path)
    finish(plan, results.path)
    found = broken(check_league(results))
    assert found["options"] == tuple(e.run for e in plan.experiments)
    assert set(found) == {"options", "seeds"}


@pytest.mark.parametrize(
    ("old", "new"),
    [("steps: 60", "steps: 80"), ("every: 20}", "every: 30}"), ("updates: 1000,", "updates: 2000,")],
)
def test_an_added_method_with_another_budget_or_other_evaluations(
    tmp_path: Path, results: ResultsFolder, old: str, new: str
) -> None:
    text = (
        ADDED.replace(old, new)
        .replace("  - toy_tune: {label: mine}\n", "")
        .replace("label: other", "label: also, tuning_runs: 0")
    )
    text = text.replace("protocol: 1\n", "protocol: 1\nfrozen: false\n")
    other = plan_of(tmp_path, text)
    finish(joined(plan_of(tmp_path), other), results.path)
    found = broken(check_league(results))
    longer = {"options"} if "updates" in old else set()  # another pretraining of the same name
    assert set(found) == {"budgets", *longer}
    assert set(found["budgets"]) <= {run.id for run in other.runs}


def test_an_added_method_on_other_data(
    tmp_path: Path, results: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ADDED.replace("  - toy_tune: {label: mine}\n", "").replace(
        "label: other", "label: also, tuning_runs: 0"
    )
    text = text.replace("protocol: 1\n", "protocol: 1\nfrozen: false\n")
    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "sha256", lambda self: "0" * 64)
        other = plan_of(tmp_path, text)
    finish(joined(plan_of(tmp_path), other), results.path)
    found = broken(check_league(results))
    parents = tuple(dict.fromkeys(e.parent for e in other.experiments))
    assert found == {"data": tuple(run.id for run in other.runs), "options": parents}


def test_a_run_that_has_not_ended_takes_its_seed_from_all_on_its_data(
    tmp_path: Path, results: ResultsFolder
) -> None:
    plan = plan_of(tmp_path)
    finish(plan, results.path)
    run = id_of(plan, "other", MASS, 1)
    results.run(run).done.unlink()
    check = check_league(results)
    assert broken(check) == {"ended": (f"{run}: interrupted",), "seeds": (run,)}
    on_mass = dict.fromkeys((("mine", MASS), ("other", MASS), ("frozen", MASS)), (0,))
    assert seeds(check) == {**on_mass, ("mine", MAZE): (0, 1), ("frozen", MAZE): (0, 1)}


def test_a_pretraining_that_is_missing_takes_its_seed(tmp_path: Path, results: ResultsFolder) -> None:
    plan = plan_of(tmp_path)
    finish(plan, results.path)
    parent = plan.run(id_of(plan, "mine", MAZE, 0)).parent
    assert parent
    shutil.rmtree(results.run(parent).path)
    check = check_league(results)
    assert broken(check) == {"ended": (f"{parent}: waiting",), "seeds": (parent,)}
    assert seeds(check)["mine", MAZE] == (1,)
    assert seeds(check)["mine", MASS] == (0, 1)


def _more(folder: RunFolder, other: RunFolder) -> None:
    folder.evaluations.write_text(folder.evaluations.read_text() + "{}\n")


def _copied(folder: RunFolder, other: RunFolder) -> None:
    shutil.rmtree(folder.path)
    shutil.copytree(other.path, folder.path)


def _edited(folder: RunFolder, other: RunFolder) -> None:
    edit(folder, identity="0" * 64)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_more, "evaluations.jsonl was changed after the run was finished"),
        (_copied, "run.json belongs to "),
        (_edited, "run.json its identity is not that of its contents"),
    ],
)
def test_files_that_are_not_as_they_were_published(
    tmp_path: Path, results: ResultsFolder, damage: Callable[[RunFolder, RunFolder], None], reason: str
) -> None:
    plan = plan_of(tmp_path)
    finish(plan, results.path)
    run, other = (id_of(plan, "mine", MASS, seed) for seed in (0, 1))
    damage(results.run(run), results.run(other))
    found = broken(check_league(results))
    assert found["ended"][0].startswith(f"{run}: {reason}")
    assert (set(found), found["seeds"]) == ({"ended", "seeds"}, (run,))


def test_a_run_that_went_on_with_a_mismatch(tmp_path: Path, results: ResultsFolder) -> None:
    plan = plan_of(tmp_path)
    finish(plan, results.path)
    run = id_of(plan, "mine", MAZE, 1)
    edit(results.run(run), mismatch=["torch 2.8 -> 2.9"])
    check = check_league(results)
    assert broken(check) == {"mismatch": (run,), "seeds": (run,)}
    assert seeds(check)["mine", MAZE] == (0,)


def test_one_seed_counts_by_itself(tmp_path: Path, results: ResultsFolder) -> None:
    whole = plan_of(tmp_path)
    finish(plan_of(tmp_path, seeds=(1,)), results.path)
    check = check_league(results)
    assert broken(check) == {"seeds": tuple(run.id for run in whole.runs if run.seed == 0)}
    assert set(seeds(check).values()) == {(1,)}
    second = plan_of(tmp_path, seeds=(0,))
    finish(second, results.path)
    assert not broken(check_league(results)), "whichever seeds the newest plan names"


def test_members_that_are_left_out_leave_no_seed(tmp_path: Path, results: ResultsFolder) -> None:
    whole, own = plan_of(tmp_path), LEAGUE.replace("  - toy_tune: {label: mine}\n", "")
    finish(plan_of(tmp_path, own.replace(f"[{MASS}, {MAZE}]", f"[{MASS}]")), results.path)
    check = check_league(results)
    assert set(broken(check)) == {"seeds"}
    assert id_of(whole, "mine", MASS, 0) in broken(check)["seeds"]
    assert set(seeds(check).values()) == {()}


def test_a_diverged_run_has_ended_and_is_named(tmp_path: Path, results: ResultsFolder) -> None:
    plan = plan_of(tmp_path)
    finish(plan, results.path)
    folder = results.run(id_of(plan, "mine", MASS, 0))
    folder.done.unlink()
    folder.failed.write_text(json.dumps({"error": "not finite", "diverged": True}))
    check = check_league(results)
    assert not broken(check)
    assert check.diverged == (folder.id,)


def test_added_methods_are_submitted(tmp_path: Path, results: ResultsFolder) -> None:
    finish(plan_of(tmp_path, ADDED), results.path)
    check = check_league(results)
    assert not broken(check)
    kinds = {(row.method, row.kind, row.seeds, row.tuning_runs) for row in check.rows}
    assert ("submitted", "submitted", (0, 1), 7) in kinds
    assert {method for method, kind, *_ in kinds if kind == "verified"} == {"mine", "other", "frozen"}


def test_a_submitted_method_declares_how_it_was_tuned(tmp_path: Path, results: ResultsFolder) -> None:
    finish(plan_of(tmp_path, ADDED.replace(", tuning_runs: 7", "")), results.path)
    assert broken(check_league(results)) == {"tuning": ("submitted",)}
    plan_of(tmp_path, ADDED.replace("runs: 7", "runs: 0")).write(results)
    assert not broken(check_league(results)), "0 is a declaration"


def test_a_member_s_name_on_other_data_is_no_submission(tmp_path: Path, results: ResultsFolder) -> None:
    wider = plan_of(tmp_path, LEAGUE.replace(f"[{MASS}], label: other", f"[{MASS}, {MAZE}], label: other"))
    finish(wider, results.path)
    assert broken(check_league(results)) == {
        "options": tuple(id_of(wider, "other", MAZE, seed) for seed in (0, 1))
    }


def test_a_run_of_changed_code_does_not_count(tmp_path: Path, results: ResultsFolder) -> None:
    plan = plan_of(tmp_path)
    finish(plan, results.path)
    run = plan.run(id_of(plan, "mine", MAZE, 1)).parent
    assert run
    edit(results.run(run), code={"version": "0", "commit": "1", "dirty": True})
    check = check_league(results)
    assert broken(check) == {"code": (run,), "seeds": (run,)}
    assert seeds(check)["mine", MAZE] == (0,)


def test_a_submitted_method_needs_all_seeds(tmp_path: Path, results: ResultsFolder) -> None:
    finish(joined(plan_of(tmp_path), plan_of(tmp_path, ADDED, seeds=(0,))), results.path)
    check = check_league(results)
    lacking = tuple(f"submitted on {name}: seed 1 is not planned" for name in (MASS, MAZE))
    assert broken(check) == {"seeds": lacking}
    assert seeds(check)["submitted", MASS] == (0,)
    assert seeds(check)["mine", MASS] == (0, 1)


# ---- the command ---------------------------------------------------------------------------------------


def test_the_command_says_yes_or_no(tmp_path: Path, results: ResultsFolder, o2obench: Command) -> None:
    plan = plan_of(tmp_path)
    finish(plan, results.path)
    done = o2obench("league", "check", results.path)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(("yes ", "no "))] == [
        f"yes {rule.says}" for rule in check_league(results).rules
    ]
    for run in plan.runs:
        results.run(run.id).done.unlink()
    refused = o2obench("league", "check", results.path)
    assert refused.returncode == 1
    assert "no  every run has ended" in refused.stdout
    assert f"      {plan.runs[0].id}: interrupted" in refused.stdout


def test_at_most_so_many_runs_are_named(
    tmp_path: Path, results: ResultsFolder, o2obench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("o2obench.cli.league.MOST", 3)
    plan = plan_of(tmp_path)
    finish(plan, results.path, without=("frozen",))
    done = o2obench("league", "check", results.path)
    assert done.stdout.count(": waiting") == 3
    assert "      and 1 more (4)" in done.stdout


def test_the_command_as_json(tmp_path: Path, results: ResultsFolder, o2obench: Command) -> None:
    finish(plan_of(tmp_path, seeds=(0,)), results.path)
    done = o2obench("league", "check", results.path, "--json")
    value = json.loads(done.stdout)
    assert (done.returncode, value["holds"], value["protocol"]) == (1, False, 1)
    named = {"method": "mine", "dataset": MASS, "kind": "verified"}
    assert value["rows"][0] == {**named, "seeds": [0], "tuning_runs": None}
    assert [bool(rule["broken_by"]) for rule in value["rules"]] == 8 * [False] + [True]


def test_a_folder_without_a_league_is_bad_input(
    tmp_path: Path, results: ResultsFolder, o2obench: Command
) -> None:
    done = o2obench("league", "check", results.path)
    assert done.returncode == 2
    assert "no suite league was run here" in done.stderr
    finish(plan_of(tmp_path), results.path)
    file = results.plan_file("league")
    file.write_text(file.read_text().replace('"mine"', '"your"'))
    assert o2obench("league", "check", results.path).returncode == 2
    with pytest.raises(UserError, match="not a plan"):
        check_league(results)


@pytest.mark.slow
def test_the_package_s_own_league(results: ResultsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(league, "find_suite", find_suite)
    monkeypatch.setattr(Dataset, "admit", lambda self: [])
    finish(read_suite(find_suite("league")), results.path)
    check = check_league(results)
    assert not broken(check)
    assert {row.seeds for row in check.rows} == {(0, 1, 2, 3, 4)}
