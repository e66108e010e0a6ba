"""What a method starts from is data of a suite: names, variants, a user's own policy, controls."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from o2obench.analysis.policy import write_policy
from o2obench.datasets.policy_files import load_network, read_policy_file
from o2obench.errors import Interrupted, UserError
from o2obench.planning.expand import expand, read_suite, single
from o2obench.planning.load import find_suite, read_layers
from o2obench.planning.plan import Plan, read_plan
from o2obench.planning.schema import Selection
from o2obench.report.plots.paper_figures import paper_figures
from o2obench.report.summary import summarise
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.jsonl import read_jsonl
from o2obench.runs.spec import Run
from o2obench.training.build import build
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.config import Located
from o2obench.util.files import sha256
from tests.analysis.test_policy_and_video import finished, small
from tests.conftest import Command
from tests.helpers.folders import diagnosed, finish, paper_plan
from tests.helpers.suites import toy_plan

DATA = "pointmass-mixed-v0"
HALF = {"toy_offline": {"rate": 0.2}}
SUITE = """\
algorithms:
  - {entry}
datasets: [pointmass-mixed-v0]
seeds: 1
offline: {{updates: 1000, evaluate_every: 1000}}
online: {{steps: 60, evaluate_every: 20}}
"""


def policy(file: Path, sizes: tuple[int, ...] = (4, 8, 2), seed: int = 0, squash: str = "") -> Path:
    """Write a drawn policy, and a JSON file beside it where it says how it squashes."""
    draw, arrays = np.random.default_rng(seed), {}
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        arrays[f"weight_{i}"] = draw.normal(size=(inputs, outputs)).astype(np.float32)
        arrays[f"bias_{i}"] = draw.normal(size=outputs).astype(np.float32)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, allow_pickle=False, **arrays)
    if squash:
        file.with_suffix(".json").write_text(json.dumps({"squash": squash}))
    return file


def suite(folder: Path, entry: str) -> Plan:
    """Expand a suite file with one entry."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s.yaml").write_text(SUITE.format(entry=entry))
    return read_suite(folder / "s.yaml")


def refused(folder: Path, entry: str) -> str:
    """Return the only line by which a suite with this entry is refused."""
    with pytest.raises(UserError) as caught:
        suite(folder, entry)
    [line] = str(caught.value).replace(f"{folder}/", "").splitlines()
    assert not (folder / "results").exists()
    return line


def clash(*algorithms: Any, **extra: Any) -> str:
    """Return the only line by which these entries are refused."""
    with pytest.raises(UserError) as caught:
        toy_plan(*algorithms, seeds=1, **extra)
    [line] = str(caught.value).splitlines()
    return line


def starts(plan: Plan) -> dict[str, str]:
    """Return the name of every method's pretraining."""
    return {one.method: one.pretraining for one in plan.experiments}


def parents(plan: Plan) -> dict[str, set[str | None]]:
    """Return the runs that every method starts from."""
    found: dict[str, set[str | None]] = {}
    for one in plan.experiments:
        found.setdefault(one.method, set()).add(one.parent)
    return found


def run_of(plan: Plan, method: str) -> Run:
    return plan.run(next(one.run for one in plan.experiments if one.method == method))


# ---- an algorithm, with or without options --------------------------------------------------------------


def test_without_a_word_a_method_starts_from_its_own_pretraining() -> None:
    own, named = toy_plan("toy_tune"), toy_plan({"toy_tune": {"from": "toy_offline"}})
    assert starts(own) == starts(named) == {"toy_tune": "toy_offline"}
    assert own.runs == named.runs
    assert [run.algorithm for run in own.runs] == 2 * ["toy_offline", "toy_tune"]
    assert starts(single_of("frozen")) == {"frozen": "mopo"}


def single_of(algorithm: str, start: str = "", *options: str) -> Plan:
    return single(algorithm, DATA, 0, options, (1000, 60, 20), Selection(defaults=True), start)


def test_a_name_replaces_the_pretraining() -> None:
    own, named = single_of("frozen"), single_of("frozen", "toy_offline")
    assert [run.algorithm for run in own.runs] == ["mopo", "frozen"]
    assert [run.algorithm for run in named.runs] == ["toy_offline", "frozen"]
    first, last = named.runs
    assert (last.parent, last.spec.parent) == (first.id, first.spec.hash)
    assert (named.experiments[0].parent, starts(named)) == (first.id, {"frozen": "toy_offline"})
    assert last.identity != own.runs[-1].identity
    assert named == single_of("frozen", "toy_offline")


def test_two_variants_of_one_pretraining_stand_side_by_side() -> None:
    label = "toy from {from}"
    plan = toy_plan(
        {"toy_tune": {"label": label}},
        {"toy_tune": {"from": {**HALF, "label": "fast {rate}"}, "label": label}},
        {"frozen": {"from": {**HALF, "label": "fast {rate}"}}},
    )
    assert starts(plan) == {
        "toy from toy_offline": "toy_offline",
        "toy from fast 0.2": "fast 0.2",
        "frozen": "fast 0.2",
    }
    held = parents(plan)
    assert held["toy from fast 0.2"] == held["frozen"]
    assert not held["toy from fast 0.2"] & held["toy from toy_offline"]
    assert len({run.id for run in plan.runs}) == len(plan.runs) == 2 * (2 + 3)
    assert {run.spec.config["rate"] for run in plan.runs if run.algorithm == "toy_offline"} == {0.05, 0.2}
    assert run_of(plan, "toy from fast 0.2").identity != run_of(plan, "toy from toy_offline").identity


def test_without_labels_options_tell_variants_apart() -> None:
    other = {"toy_offline": {"rate": 0.3}}
    entries = [{"toy_tune": {"from": start, "label": "from {from}"}} for start in (HALF, other)]
    plan = toy_plan(*entries)
    assert starts(plan) == {
        "from toy_offline (rate=0.2)": "toy_offline (rate=0.2)",
        "from toy_offline (rate=0.3)": "toy_offline (rate=0.3)",
    }
    assert not set.intersection(*parents(plan).values())


def test_entries_of_one_name_and_pretrainings_of_one_label_are_refused() -> None:
    assert clash("toy_tune", {"toy_tune": {"from": HALF}}) == (
        ": algorithms: 'toy_tune' stands twice; give labels"
    )
    for label in ("toy_offline", "A"):
        first: dict[str, Any] = {"toy_offline": {}, "label": label}
        entries = [{"toy_tune": {"from": first}}, {"frozen": {"from": {**HALF, "label": label}}}]
        assert clash(*entries) == f": algorithms: two pretrainings are called {label!r}; give labels"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("toy_offline", {"toy_offline": {}, "label": "B"}),
        ({"toy_offline": {"rate": 0.05}, "label": "B"}, "toy_offline"),
        ({"toy_offline": {"rate": 0.2, "every": 5}}, {"toy_offline": {"every": 5, "rate": 0.2}}),
    ],
    ids=["nothing but a label", "the default said aloud", "another order"],
)
def test_one_pretraining_under_two_names_is_refused(one: Any, other: Any) -> None:
    entries = [{"toy_tune": {"from": one}}, {"frozen": {"from": other}}]
    assert "are the same pretraining; give it one label, or other options" in clash(*entries)


def test_two_entries_may_share_a_variant() -> None:
    plan = toy_plan({"toy_tune": {"from": HALF}}, {"frozen": {"from": HALF}})
    assert set(starts(plan).values()) == {"toy_offline (rate=0.2)"}
    assert len(plan.runs) == 2 * 3


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "toy_tune: {from: toy_offlin}",
            "s.yaml:2:16: algorithm toy_offlin: not known; did you mean toy_off",
        ),
        ("toy_tune: {from: {toy_offline: {rat: 1.0}}}", "toy_offline.rat: unknown key; did you mean rate?"),
        (
            "toy_tune: {from: {toy_offline: {rate: [0.1, 0.2]}}}",
            "toy_offline.rate: input should be a valid",
        ),
        (
            "toy_tune: {from: {toy_offline: 3}}",
            "toy_tune.from.toy_offline: expected options in braces, got",
        ),
        ("toy_tune: {from: {toy_offline: {}, mopo: {}}}", "toy_tune.from: expected a name, {name: {options}"),
        (
            "toy_tune: {from: 3}",
            "expected a name, {name: {options}, label: ...}, or a policy's file",
        ),
        ('toy_tune: {from: {toy_offline: {}, label: "{x}"}}', "label: '{x}' names an option not set here"),
        ('toy_tune: {from: {toy_offline: {}, label: "a\\e[0m"}}', "must be printable text"),
        (
            "toy_offline: {from: mopo}",
            "toy_offline.from: toy_offline does not start from another run;",
        ),
        ("sac: {from: mopo}", "sac.from: sac does not start from another run; leave it out"),
        ("frozen: {from: frozen}", "s.yaml:2:14: frozen: learns nothing; name what it starts from"),
        ("toy_tune: {from: sac}", "s.yaml:2:16: toy_tune.from: sac learns online; name a pretr"),
        (
            "frozen: {from: toy_tune}",
            "s.yaml:2:14: frozen.from: toy_tune learns online; name a pretraining",
        ),
        (
            "frozen: {from: sac}",
            "s.yaml:2:14: frozen.from: sac learns online; name a pretraining that",
        ),
        (
            "naive: {from: toy_offline}",
            "s.yaml:2:13: naive.from: toy_offline holds nothing that it names; naive needs actor, critics",
        ),
        (
            "comou: {from: sac}",
            "comou.from: sac holds actor, critics; comou needs model of it, too:",
        ),
        (
            "iql_finetune: {from: famo2o}",
            "s.yaml:2:20: iql_finetune cannot go on from famo2o: its networks have other shapes, or it has "
            "not all that are taken over; start from iql, its own",
        ),
        ("cql_finetune: {from: mopo}", "cql_finetune cannot go on from mopo: its networks have other"),
        (
            "iql_finetune: {from: {iql: {hidden_dims: [8, 8]}}}",
            "cannot go on from iql (hidden_dims=[8, 8]): its networks have other shapes, or it has not all "
            "that are taken over; give both the same widths and numbers of networks",
        ),
        ("cql_finetune: {num_critics: 4}", "give both the same widths and numbers of networks"),
        (
            "naive: {from: {mopo: {model_hidden_dims: [8, 8, 8, 8]}}}",
            "naive cannot go on from mopo (model_hidden",
        ),
    ],
)
def test_a_wrong_pretraining_is_refused_where_it_stands(tmp_path: Path, entry: str, message: str) -> None:
    line = refused(tmp_path, entry)
    assert line.startswith("s.yaml:2:")
    assert message in line


@pytest.mark.parametrize(
    "entry",
    [
        "cql_finetune: {from: cal_ql}",
        "iql_finetune: {from: {iql: {hidden_dims: [8, 8]}}, hidden_dims: [8, 8]}",
        "cql_finetune: {from: {cql: {num_critics: 4}}, num_critics: 4}",
        "sac_from: {from: famo2o}",
    ],
)
def test_what_fits_is_not_refused(tmp_path: Path, entry: str) -> None:
    assert suite(tmp_path, entry).runs


# ---- a policy in a file ---------------------------------------------------------------------------------


def test_a_policy_that_was_written_is_started_from(tmp_path: Path) -> None:
    folder, agent, _ = finished(small("mopo").runs[-1], tmp_path / "theirs")
    write_policy(folder, tmp_path / "policy.npz")
    plan, results = suite(tmp_path, "frozen: {from: policy.npz}"), ResultsFolder(tmp_path / "ours")
    plan.copy_policies(results)
    for run in plan.runs:
        execute([run], results, Options())
    assert [run.algorithm for run in plan.runs] == ["policy_file", "frozen"]
    obs = np.random.default_rng(1).normal(size=(1, 50, 4)).astype(np.float32)
    shown = build([plan.runs[0]], results, "cpu", with_data=False)
    np.testing.assert_allclose(shown.act(obs, explore=False), agent.act(obs, explore=False), atol=1e-5)
    rows = [list(read_jsonl(results.run(run.id).evaluations)) for run in plan.runs]
    assert rows[1][0]["returns"] == rows[0][-1]["returns"], "frozen starts where the file was shown"
    write_policy(results.run(plan.runs[1].id).path, tmp_path / "again.npz")
    with np.load(tmp_path / "policy.npz") as one, np.load(tmp_path / "again.npz") as other:
        assert {name: one[name].tolist() for name in one} == {name: other[name].tolist() for name in other}


def test_the_identity_holds_what_is_in_the_file_and_not_where_it_lies(tmp_path: Path) -> None:
    here = policy(tmp_path / "a" / "policy.npz", squash="none")
    there = tmp_path / "b" / "deep" / "other.npz"
    there.parent.mkdir(parents=True)
    for kind in (".npz", ".json"):
        shutil.copyfile(here.with_suffix(kind), there.with_suffix(kind))
    one, other = (
        suite(here.parent, "frozen: {from: policy.npz}"),
        suite(tmp_path, f"frozen: {{from: {there}}}"),
    )
    assert one.runs == other.runs
    assert [run.identity for run in one.runs] == [run.identity for run in other.runs]
    assert (starts(one), starts(other)) == ({"frozen": "policy.npz"}, {"frozen": "other.npz"})
    held = one.runs[0].spec
    assert held.config == {"sha256": sha256(here), "activation": "relu", "squash": "none"}
    assert str(tmp_path) not in json.dumps(held.to_json())
    assert "policy.npz" not in json.dumps(one.runs[1].to_json())
    policy(here, seed=1, squash="none")
    changed = suite(here.parent, "frozen: {from: policy.npz}")
    here.with_suffix(".json").unlink()
    squashed = suite(here.parent, "frozen: {from: policy.npz}")
    for i in range(2):
        identities = {plan.runs[i].identity for plan in (one, changed, squashed)}
        assert len(identities) == 3


def test_nothing_is_learnt_offline_so_the_budget_does_not_matter(tmp_path: Path) -> None:
    policy(tmp_path / "policy.npz")
    suite(tmp_path, "frozen: {from: policy.npz}")
    one, file = read_suite(tmp_path / "s.yaml"), tmp_path / "t.yaml"
    text = (tmp_path / "s.yaml").read_text()
    assert "updates: 1000" in text
    file.write_text(text.replace("updates: 1000", "updates: 3000", 1))
    assert [run.id for run in read_suite(file).runs] == [run.id for run in one.runs]


def test_two_files_of_one_name_need_a_label(tmp_path: Path) -> None:
    for i, folder in enumerate(("a", "b")):
        policy(tmp_path / folder / "policy.npz", seed=i)
    entries = ["frozen: {from: a/policy.npz, label: a}", "frozen: {from: b/policy.npz, label: b}"]
    assert "two pretrainings are called 'policy.npz'; give labels" in refused(
        tmp_path, "\n  - ".join(entries)
    )
    entries[1] = "frozen: {from: {b/policy.npz: {}, label: the other}, label: b}"
    plan = suite(tmp_path, "\n  - ".join(entries))
    assert starts(plan) == {"a": "policy.npz", "b": "the other"}
    assert len(plan.policy_files) == 2
    shutil.copyfile(tmp_path / "a" / "policy.npz", tmp_path / "a" / "copy.npz")
    entries[1] = "frozen: {from: a/copy.npz, label: b}"
    assert "'policy.npz' and 'copy.npz' are the same pretraining" in refused(tmp_path, "\n  - ".join(entries))


def test_a_copy_in_the_results_outlives_the_original(tmp_path: Path) -> None:
    file, results = policy(tmp_path / "policy.npz", squash="none"), ResultsFolder(tmp_path / "results")
    plan = suite(tmp_path, "frozen: {from: policy.npz}")
    digest, plan_file = sha256(file), plan.write(results)
    copy = results.path / "policies" / f"{digest}.npz"
    assert copy.read_bytes() == file.read_bytes()
    straight, calls = ResultsFolder(tmp_path / "straight"), iter(range(10**6))
    plan.copy_policies(straight)
    for run in plan.runs:
        execute([run], straight, Options())
    execute([plan.runs[0]], results, Options())
    with pytest.raises(Interrupted):
        execute([plan.runs[1]], results, Options(checkpoint_seconds=0), stop=lambda: next(calls) == 30)
    for lost in (file, file.with_suffix(".json")):
        lost.unlink()
    again = read_plan(plan_file)
    assert again.runs == plan.runs
    again.write(results)
    execute([again.runs[1]], results, Options())
    for run in again.runs:
        assert results.run(run.id).state() == "done"
        ours, theirs = (one.run(run.id).evaluations.read_bytes() for one in (results, straight))
        assert ours == theirs
    line = refused_after(tmp_path, "frozen: {from: policy.npz}")
    assert "policy.npz: cannot be read: No such file or directory" in line
    assert "hold a copy of each that was used" in line
    assert suite(tmp_path, f"frozen: {{from: {copy}}}").runs == plan.runs, "the remedy: the same runs"


def refused_after(folder: Path, entry: str) -> str:
    with pytest.raises(UserError) as caught:
        suite(folder, entry)
    [line] = str(caught.value).splitlines()
    return line


def test_a_corrupted_copy_is_told_and_mended_by_the_original(tmp_path: Path) -> None:
    file, results = policy(tmp_path / "policy.npz"), ResultsFolder(tmp_path / "results")
    plan = suite(tmp_path, "frozen: {from: policy.npz}")
    plan.copy_policies(results)
    copy = results.policy_file(sha256(file))
    policy(copy, seed=7)
    with pytest.raises(UserError, match="is not the policy of its name; start the suite again"):
        execute([plan.runs[0]], results, Options())
    plan.copy_policies(results)
    assert copy.read_bytes() == file.read_bytes()
    execute([plan.runs[0]], results, Options())
    content = file.read_bytes()
    policy(file, seed=3)
    copy.unlink()
    plan.copy_policies(results)
    assert copy.read_bytes() == content, (
        "the file has changed since the plan was made: the plan's own is kept"
    )


def spoil_nothing(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def no_archive(file: Path) -> None:
    file.write_bytes(b"no archive")


def one_array(file: Path) -> None:
    with open(file, "wb") as out:
        np.save(out, np.zeros(3))


def other_names(file: Path) -> None:
    np.savez(file, allow_pickle=False, w=np.zeros((4, 2)), b=np.zeros(2))


def not_a_number(file: Path) -> None:
    np.savez(file, allow_pickle=False, weight_0=np.full((4, 2), np.nan), bias_0=np.zeros(2))


def too_large(file: Path) -> None:
    np.savez(file, allow_pickle=False, weight_0=np.full((4, 2), 1e300), bias_0=np.zeros(2))


def text(file: Path) -> None:
    np.savez(file, allow_pickle=False, weight_0=np.zeros((4, 2)), bias_0=np.array(["a", "b"]))


def objects(file: Path) -> None:
    np.savez(file, weight_0=np.array([{}]), bias_0=np.zeros(1))


def misfit(file: Path) -> None:
    layers = {"weight_0": np.zeros((4, 8)), "bias_0": np.zeros(8), "weight_1": np.zeros((7, 2))}
    np.savez(file, allow_pickle=False, **layers, bias_1=np.zeros(2))


def other_task(file: Path) -> None:
    policy(file, (11, 8, 3))


def unknown_squash(file: Path) -> None:
    policy(file, squash="sigmoid")


def corrupted_words(file: Path) -> None:
    file.with_suffix(".json").write_text('{"squash": "no')


def words_of_another(file: Path) -> None:
    file.with_suffix(".json").write_text(json.dumps({"sha256": 64 * "0"}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_nothing, "policy.npz: cannot be read: No such file or directory; name a policy.npz"),
        (cut, "policy.npz: is not an .npz file of plain arrays; write it by `o2obench policy`"),
        (no_archive, "policy.npz: is not an .npz file of plain arrays"),
        (one_array, "policy.npz: is not an .npz file of plain arrays"),
        (objects, "policy.npz: is not an .npz file of plain arrays"),
        (other_names, "policy.npz: holds b, w; expected weight_0, bias_0, ..."),
        (not_a_number, "policy.npz: weight_0 or bias_0: holds NaN or infinity"),
        (too_large, "policy.npz: weight_0 or bias_0: holds NaN or infinity (float32)"),
        (text, "policy.npz: weight_0 or bias_0: holds no real numbers"),
        (misfit, "policy.npz: weight_1: shape (7, 2) with bias (2,) after 8; expected (inputs, outputs)"),
        (other_task, "policy.npz: maps 11 observations to 3 actions, pointmass-mixed-v0 has 4 and 2; name a"),
        (unknown_squash, "policy.json: activation relu and squash sigmoid: known are relu or tanh, and"),
        (corrupted_words, "policy.json: is corrupted; write it anew by `o2obench policy`, or remove it"),
        (words_of_another, "policy.json: belongs to another policy than policy.npz; put its own there"),
    ],
)
def test_a_file_that_is_no_policy_of_this_task_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    spoil(policy(tmp_path / "policy.npz"))
    assert message in refused(tmp_path, "frozen: {from: policy.npz}")


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    file, noticed = policy(tmp_path / "policy.npz"), 0
    with np.load(file) as held:
        np.savez_compressed(file, allow_pickle=False, **held)
    whole, network = file.read_bytes(), load_network(file, "relu", "tanh")
    for place in range(0, len(whole), 2):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        try:
            read_policy_file(file).require_shape(4, 2, DATA)
        except UserError:
            noticed += 1
            continue
        for one, other in zip(network.layers, load_network(file, "relu", "tanh").layers, strict=True):
            assert all(map(np.array_equal, one, other))
    assert noticed > len(whole) // 4


@pytest.mark.parametrize("algorithm", ["comou", "naive", "moore", "doof"])
def test_what_an_algorithm_needs_and_the_file_lacks_is_named(tmp_path: Path, algorithm: str) -> None:
    policy(tmp_path / "policy.npz")
    assert refused(tmp_path, f"{algorithm}: {{from: policy.npz}}").endswith(
        f"{algorithm}.from: policy.npz holds actor; {algorithm} needs critics, model of it, too: "
        "name another pretraining"
    )


@pytest.mark.parametrize(
    "entry",
    ["policy_file", "policy_file: {}", "policy_file: {label: mine}", "frozen: {from: policy_file}"],
)
def test_a_policy_file_without_a_file_is_refused(tmp_path: Path, entry: str) -> None:
    line = refused(tmp_path, entry)
    assert line.startswith("s.yaml:2:")
    assert line.endswith(
        "policy_file: is not run by its name, it needs a file: `o2obench run frozen DATA --from policy.npz`, "
        "or `frozen: {from: policy.npz}` in a suite"
    )


def test_a_file_has_no_options(tmp_path: Path) -> None:
    policy(tmp_path / "policy.npz")
    line = refused(tmp_path, "frozen: {from: {policy.npz: {squash: none}}}")
    assert "policy.npz: a policy's file has no options" in line


# ---- the command line -----------------------------------------------------------------------------------

SHORT = ("--updates", "1000", "--steps", "40", "--every", "20", "--results", "results")


def test_a_run_starts_from_another_algorithm(tmp_path: Path, o2obench: Command) -> None:
    done = o2obench("run", "frozen", DATA, "--from", "toy_offline", *SHORT)
    assert done.returncode == 0, done.stderr
    records = [json.loads(file.read_text()) for file in tmp_path.glob("results/*/*/*/seed-0/run.json")]
    by_algorithm = {record["run"]["spec"]["algorithm"]: record["run"] for record in records}
    assert by_algorithm.keys() == {"toy_offline", "frozen"}
    assert by_algorithm["frozen"]["parent"] == by_algorithm["toy_offline"]["id"]


def test_a_run_starts_from_a_file_and_goes_on_without_it(tmp_path: Path, o2obench: Command) -> None:
    file = policy(tmp_path / "mine" / "policy.npz")
    done = o2obench("run", "frozen", DATA, "--from", "mine/policy.npz", *SHORT)
    assert done.returncode == 0, done.stderr
    [record] = tmp_path.glob("results/*/frozen/*/seed-0/run.json")
    parent = ResultsFolder(tmp_path / "results").run(json.loads(record.read_text())["run"]["parent"])
    *_, last = read_jsonl(parent.evaluations)
    assert next(read_jsonl(record.with_name("evaluations.jsonl")))["returns"] == last["returns"]
    copy = tmp_path / "results" / "policies" / f"{sha256(file)}.npz"
    assert copy.read_bytes() == file.read_bytes()
    file.unlink()
    shutil.rmtree(record.parent)
    again = o2obench("run", "frozen", DATA, "--from", "mine/policy.npz", *SHORT)
    assert again.returncode == 0, again.stderr
    assert record.exists(), "the copy in the results folder is the same policy"
    gone = o2obench("run", "frozen", DATA, "--from", "mine/other.npz", *SHORT)
    assert gone.returncode == 2
    assert gone.stderr.startswith("--from mine/other.npz: mine/other.npz: cannot be read: No such file")
    assert len(gone.stderr.splitlines()) == 1


def test_a_suite_goes_on_without_the_original(tmp_path: Path) -> None:
    file, results = policy(tmp_path / "policy.npz", squash="none"), ResultsFolder(tmp_path / "results")
    plan = suite(tmp_path, "frozen: {from: policy.npz}")
    plan.write(results)
    file.unlink()
    file.with_suffix(".json").unlink()
    again = read_suite(tmp_path / "s.yaml", results=results)
    assert again.runs == plan.runs
    again.write(results)
    policy(file, seed=1)
    suite(tmp_path, "frozen: {from: policy.npz}").write(results)
    file.unlink()
    with pytest.raises(UserError, match=r"is missing, and .*policies has 2 of this name; name one of them"):
        read_suite(tmp_path / "s.yaml", results=results)


@pytest.mark.parametrize(
    ("algorithm", "start", "message"),
    [
        (
            "toy_tune",
            "toy_offlin",
            "--from toy_offlin: algorithm toy_offlin: not known; did you mean",
        ),
        (
            "naive",
            "policy.npz",
            "--from policy.npz: naive.from: policy.npz holds actor; naive needs critics",
        ),
        ("mbpo", "mopo", "--from mopo: mbpo.from: mbpo does not start from another run; leave it out"),
        (
            "policy_file",
            "",
            "policy_file: is not run by its name, it needs a file: `o2obench run",
        ),
        ("frozen", "policy_file", "--from policy_file: policy_file: is not run by its name, it needs a file"),
    ],
)
def test_a_run_that_cannot_start_there_is_refused(
    tmp_path: Path, algorithm: str, start: str, message: str
) -> None:
    policy(tmp_path / "policy.npz")
    with pytest.raises(UserError) as caught:
        single_of(algorithm, start)
    assert str(caught.value).startswith(message)
    assert len(caught.value.problems) == 1


def test_options_of_the_pretraining_belong_to_the_one_that_is_named() -> None:
    plan = single_of("toy_breaks", "toy_offline", "toy_offline.inner=3", "inner=7")
    assert {run.algorithm: run.spec.config["inner"] for run in plan.runs} == {
        "toy_offline": 3,
        "toy_breaks": 7,
    }
    with pytest.raises(
        UserError, match=r"--set mopo.penalty_coef=1: frozen starts from toy_offline, not from"
    ):
        single_of("frozen", "toy_offline", "mopo.penalty_coef=1")


# ---- the controls ---------------------------------------------------------------------------------------

TWO = ("toy_tune", {"toy_tune": {"from": {**HALF, "label": "fast"}, "label": "from fast"}})


def controls(plan: Plan) -> dict[str, tuple[str, bool]]:
    """Return pretraining and whether nobody asked for it, of every control."""
    return {o.method: (o.pretraining, o.automatic) for o in plan.experiments if o.algorithm == "frozen"}


def test_every_pretraining_gets_its_own_control() -> None:
    assert controls(toy_plan("toy_tune", frozen=True)) == {"frozen": ("toy_offline", True)}
    plan = toy_plan(*TWO, "toy_offline", frozen=True)
    assert controls(plan) == {"frozen (toy_offline)": ("toy_offline", True), "frozen (fast)": ("fast", True)}
    held = parents(plan)
    assert held["frozen (fast)"] == held["from fast"]
    assert held["frozen (toy_offline)"] == held["toy_tune"]
    assert not any(one.automatic for one in plan.experiments if one.algorithm != "frozen")
    assert read_back(plan) == plan.experiments, "the plan's file keeps which ones nobody asked for"


def read_back(plan: Plan) -> Any:
    return read_plan(plan.write(ResultsFolder(Path("results")))).experiments


def test_a_control_that_is_asked_for_is_the_only_one() -> None:
    asked = {"frozen": {"from": {**HALF, "label": "fast"}, "label": "never learns"}}
    plan = toy_plan(*TWO, asked, frozen=True)
    assert controls(plan) == {"never learns": ("fast", False), "frozen (toy_offline)": ("toy_offline", True)}
    own = {"frozen": {"from": "toy_offline"}}
    assert controls(toy_plan("toy_tune", own, frozen=True)) == {"frozen": ("toy_offline", False)}


def test_controls_can_be_turned_off_and_methods_from_nothing_have_none() -> None:
    assert controls(toy_plan(*TWO, frozen=False)) == {}
    assert controls(toy_plan("toy_offline", "sac", frozen=True)) == {}


def test_a_control_follows_the_methods_that_are_kept() -> None:
    value = {"algorithms": ["toy_tune", {"toy_breaks": {"from": HALF}}], "datasets": [DATA], "seeds": 1}
    plan = expand(Located(value), "toy", Selection(algorithms=("toy_breaks",)))
    assert controls(plan) == {"frozen (toy_offline (rate=0.2))": ("toy_offline (rate=0.2)", True)}


def test_a_control_never_takes_the_name_of_a_method() -> None:
    plan = toy_plan({"toy_tune": {"label": "frozen"}}, frozen=True)
    assert controls(plan) == {"frozen (toy_offline)": ("toy_offline", True)}
    taken = {"toy_tune": {"label": "frozen (fast)"}}
    plan = toy_plan(taken, TWO[1], frozen=True)
    runs = {one.method: one.algorithm for one in plan.experiments}
    assert runs["frozen (fast)"] == "toy_tune"
    assert sorted(start for start, _ in controls(plan).values()) == ["fast", "toy_offline"]
    assert len({(one.method, one.seed) for one in plan.experiments}) == len(plan.experiments)


def test_a_control_may_be_the_reference() -> None:
    plan = toy_plan("toy_tune", frozen=True, report={"reference": "frozen"})
    assert plan.reference == "frozen"
    assert "report.reference: frozen: no method of this suite" in clash(
        "toy_tune", report={"reference": "frozen"}
    )


@pytest.mark.slow
def test_the_figures_of_papers_show_only_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("doof_table7", "doof_table2_distance-small", "doof_fig3_explorer-small"):
        paper_plan(name, monkeypatch)
        source = read_layers(find_suite(name))
        source.value["algorithms"] = [one for one in source.value["algorithms"] if one != "frozen"]
        plan = expand(source, name, Selection(seeds=(0,)))
        automatic = {one.method for one in plan.experiments if one.automatic}
        assert automatic, name
        assert all(method.startswith("frozen") for method in automatic), name
        finish(plan, tmp_path / name)
        diagnosed(plan, tmp_path / name)
        results = ResultsFolder(tmp_path / name)
        for one in (one for one in plan.experiments if one.automatic):
            results.run(one.run).diagnosis.unlink()
        summary = summarise(plan, results)
        assert {one.method for one in summary.method_results} > automatic
        shown = paper_figures(summary)
        assert any(len(figure.seeds) for figure in shown.values()), name
        for figure in shown.values():
            assert not automatic & {row.method for row in figure.table.rows}
            assert not automatic & set(figure.seeds.get("method", ()))
            assert not any("/frozen/" in command for command in figure.commands)
            assert not any("frozen" in words for words in figure.table.left_out)
