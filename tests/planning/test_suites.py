"""Configuration: what is meant is read, what is wrong is refused with file, line, column and a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from o2obench import registry
from o2obench.datasets.registry import Dataset, find_dataset
from o2obench.errors import UserError
from o2obench.maintenance.merge_plans import unite
from o2obench.planning.expand import expand, read_suite, single
from o2obench.planning.load import find_suite, suite_names
from o2obench.planning.plan import Plan, read_plan
from o2obench.planning.schema import Selection
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.spec import Interval
from o2obench.util.config import Located, merge, read_yaml, validate

GOOD = """\
title: t
algorithms:
  - toy_offline
  - toy_tune: {rate: [0.1, 0.2], label: "toy {rate}"}
datasets: [pointmass-mixed-v0]
seeds: 2
offline: {updates: 2000, evaluate_every: 1000}
online: {steps: 100, evaluate_every: 50}
frozen: false
"""


def expand_text(tmp_path: Path, text: str, selection: Selection = Selection()) -> Plan:  # noqa: B008
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return read_suite(file, selection)


def problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        expand_text(tmp_path, text)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_scalars_follow_yaml_1_2(tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(
        "a: 1e-3\nb: no\nc: 010\nd: 1:30\ne: 1_000\nf: .inf\ng: ~\nh: true\ni: '5'\nj: 2001-01-01\n"
    )
    assert read_yaml(file).value == {
        **{"a": 0.001, "b": "no", "c": 10, "d": "1:30", "e": 1000, "f": float("inf"), "g": None, "h": True},
        **{"i": "5", "j": "2001-01-01"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "v.yaml:2:1: a: written twice; keep one of the two"),
        ("a: [1\n", "v.yaml:2:1: not valid YAML: expected ',' or ']'"),
        (
            "a: !!python/object:os.system x\n",
            "v.yaml:1:4: not valid YAML: tags (tag:yaml.org,2002:python/",
        ),
        ("a: &x 1\nb: *x\n", "v.yaml:2:4: not valid YAML: aliases (*name) are not allowed"),
        ("1: 2\n", "v.yaml:1:1: 1: a key must be text; put it in quotes"),
        ("a:\n\t- 1\n", "v.yaml:2:1: not valid YAML: found character '\\t'"),
        ('a: "one\u2028line, still\u0085one"\na: 2\n', "v.yaml:2:1: a: written twice"),
        ("a: 1\r\nb: 2\r\nb: 3\r\n", "v.yaml:3:1: b: written twice"),
        ("a: 1\rb: 2\rb: 3\r", "v.yaml:3:1: b: written twice"),
        (b"a: 1\ntitle: Gr\xfc\xdfe\n", "v.yaml:2:10: not UTF-8 (byte 0xfc); save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), "v.yaml:1:1: not UTF-8 (byte 0xff); save the file as UTF-8"),
        (b"\xef\xbb\xbfa: 1\na: 2\n", "v.yaml:2:1: a: written twice"),
    ],
)
def test_yaml_that_cannot_be_meant_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "v.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 2", "seds: 2", "s.yaml:6:1: seds: unknown key; did you mean seeds?"),
        ("updates: 2000", "update: 2000", "s.yaml:7:11: offline.update: unknown key; did you mean updates?"),
        (
            "updates: 2000",
            "updates: -2",
            "s.yaml:7:11: offline.updates: input should be greater than 0, got -2",
        ),
        ("updates: 2000", "updates: 2.5", "s.yaml:7:11: offline.updates: input should be a valid integer"),
        (
            "steps: 100",
            "steps: '100'",
            "s.yaml:8:10: online.steps: input should be a valid integer, got '100'",
        ),
        ("toy_offline", "toy_offlin", "algorithm toy_offlin: not known; did you mean toy_offline?"),
        ("mixed-v0", "mixd-v0", "did you mean pointmass-mixed-v0?"),
        ("rate: [0.1, 0.2]", "rat: [0.1, 0.2]", "s.yaml:4:16: toy_tune.rat: unknown key; did you mean rate?"),
        (
            "rate: [0.1, 0.2]",
            "rate: [0.1, fast]",
            "s.yaml:4:16: toy_tune.rate: input should be a valid number",
        ),
        ('"toy {rate}"', '"toy {speed}"', "label: 'toy {speed}' names an option not set here"),
        ("seeds: 2", "seeds: [1, 1]", "s.yaml:6:1: seeds: [1, 1] holds one seed twice"),
        ('"toy {rate}"', '"x {rate.__class__}"', "label: 'x {rate.__class__}' names an option not set here"),
        ('"toy {rate}"', '"x {rate:>100000000}"', "write {option}"),
        ('"toy {rate}"', '"x"', "s.yaml:2:1: algorithms: 'x' stands twice; give labels"),
        ("rate: [0.1, 0.2]", "rate: []", "s.yaml:4:16: toy_tune.rate: an empty sweep"),
        (
            "rate: [0.1, 0.2]",
            "rate: [0.1, .inf]",
            "s.yaml:4:16: toy_tune.rate: input should be a finite number",
        ),
        ("seeds: 2", "seeds: 99999999999999999999", "s.yaml:6:1: seeds: "),
        ("seeds: 2", "overrides: {nope: {rate: 1}}", "s.yaml:6:13: overrides.nope: known: "),
        (
            "[pointmass-mixed-v0]",
            "['" + 26 * "{a,b}" + "']",
            "s.yaml:5:12: {a,b}{a,b}{a,b}{a,b}...: stands for over 100,000 data sets",
        ),
        ("seeds: 2", "seeds: 0", "s.yaml:6:1: seeds: input should be greater than 0"),
        ("algorithms:\n", "algorithms: []\nx:\n", "s.yaml:2:1: algorithms: list should have at least 1 item"),
    ],
)
def test_a_wrong_suite_names_file_line_key_and_remedy(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    found = problem(tmp_path, GOOD.replace(old, new))
    assert message in found
    assert "Traceback" not in found


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("seeds: 2", "seeds: 0").replace("updates: 2000", "updates: 0")
    assert len(problem(tmp_path, text).splitlines()) >= 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_misspelt_key_is_never_taken(tmp_path: Path, data: st.DataObject) -> None:
    keys = [
        "title",
        "algorithms",
        "datasets",
        "seeds",
        "offline",
        "updates",
        "evaluate_every",
        "online",
        "steps",
    ]
    key = data.draw(st.sampled_from(keys))
    at = data.draw(st.integers(0, len(key) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"))
    kind = data.draw(st.sampled_from(["delete", "insert", "replace"]))
    wrong = key[:at] + ("" if kind == "delete" else letter) + key[at + (kind != "insert") :]
    if wrong in keys or not wrong:
        return
    found = problem(tmp_path, GOOD.replace(f"{key}:", f"{wrong}:", 1))
    assert wrong in found
    assert "s.yaml:" in found


def test_sweeps_multiply_and_labels_are_filled(tmp_path: Path) -> None:
    plan = expand_text(tmp_path, GOOD)
    assert [experiment.method for experiment in plan.experiments] == ["toy_offline"] * 2 + ["toy 0.1"] * 2 + [
        "toy 0.2"
    ] * 2
    assert len(plan.runs) == 6, "both sweeps share the pretraining runs"
    parents = {experiment.parent for experiment in plan.experiments if experiment.algorithm == "toy_tune"}
    assert parents == {run.id for run in plan.runs if run.algorithm == "toy_offline"}


def test_parents_come_before_children(tmp_path: Path) -> None:
    plan = expand_text(tmp_path, GOOD.replace("  - toy_offline\n", ""))
    ids = [run.id for run in plan.runs]
    assert all(run.parent is None or ids.index(run.parent) < ids.index(run.id) for run in plan.runs)


def test_reduction_is_labelled_with_the_full_value(tmp_path: Path) -> None:
    text = GOOD + "reduced: {seeds: 1, online: {steps: 60}, toy_tune: {inner: 3}}\n"
    plan = expand_text(tmp_path, text)
    assert set(plan.reduced) == {
        "seeds = 1 (full: 2)",
        "online.steps = 60 (full: 100)",
        "toy_tune.inner = 3 (full: 12)",
    }


def test_what_is_not_lowered_is_no_reduction(tmp_path: Path) -> None:
    plan = expand_text(tmp_path, GOOD + "reduced: {online: {steps: 100}, toy_tune: {inner: 12}}\n")
    assert plan.reduced == ()


def test_evaluations_follow_a_schedule_and_one_number_is_what_it_was(tmp_path: Path) -> None:
    plain = expand_text(tmp_path, GOOD)
    steps = plain.runs[-1].spec.protocol.steps
    one_part = GOOD.replace("evaluate_every: 50}", f"evaluate_every: [{{every: {steps}}}]}}")
    assert one_part != GOOD
    assert expand_text(tmp_path, one_part).runs == plain.runs
    parts = GOOD.replace("evaluate_every: 50}", "evaluate_every: [{until: 40, every: 20}, {every: 50}]}")
    plan = expand_text(tmp_path, parts)
    assert plan.runs[-1].spec.protocol.steps == (Interval(20, 40), Interval(50))
    assert plan.runs[-1].group != plain.runs[-1].group
    results = ResultsFolder(tmp_path / "results")
    assert read_plan(plan.write(results)).runs == plan.runs
    [cut] = expand_text(
        tmp_path, GOOD + "reduced: {online: {evaluate_every: [{until: 40, every: 20}, {every: 50}]}}\n"
    ).reduced
    assert cut == "online.evaluate_every = every 20 steps to 40, then every 50 steps (full: every 50 steps)"


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("[{until: 40, every: 20}]", "evaluate_every: the last part goes to the end; leave its until out"),
        ("[{every: 20}, {every: 50}]", "every part but the last needs an until"),
        ("[{until: 40, every: 20}, {until: 40, every: 5}, {every: 50}]", "each greater than the one before"),
        ("[{until: 40, evry: 20}, {every: 50}]", "0.evry: unknown key; did you mean every?"),
        ("[{until: 40, every: 0}, {every: 50}]", "0.every: input should be greater than 0, got 0"),
        ("[]", "evaluate_every: list should have at least 1 item"),
        ("often", "evaluate_every: input should be a valid integer, got 'often'"),
    ],
)
def test_a_wrong_schedule_is_refused_where_it_stands(tmp_path: Path, schedule: str, message: str) -> None:
    said = problem(tmp_path, GOOD.replace("evaluate_every: 50}", f"evaluate_every: {schedule}}}"))
    assert message in said
    assert said.startswith("s.yaml:")
    assert "online.evaluate_every" in said


def test_a_suite_on_top_of_others_changes_what_it_names_only(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD + "overrides: {toy_tune: {inner: 10, rate: 0.3}}\n")
    (tmp_path / "cut.yaml").write_text("overrides: {toy_tune: {inner: 8}}\nonline: {steps: 50}\n")
    plan = expand_text(tmp_path, "like: [base, cut]\nalgorithms: [toy_tune]\n")
    config, budget = plan.runs[-1].spec.config, plan.runs[-1].spec.budget
    assert (config["inner"], config["rate"]) == (8, 0.3)
    assert (budget.online_steps, budget.offline_updates) == (50, 0)
    assert plan.runs[0].spec.protocol.updates == 1000, "evaluate_every is the base's"
    wrong = problem(tmp_path, "like: [base, cut]\noverrides: {toy_tune: {iner: 3}}\n")
    assert wrong.startswith("s.yaml:2:"), "the position is that of the layer that holds the key"


@pytest.mark.parametrize(
    ("reduced", "message"),
    [
        ("{seeds: 9}", "s.yaml:10:11: reduced.seeds: 9 is more than the full 2"),
        ("{seeds: -1}", "s.yaml:10:11: seeds: input should be greater than 0"),
        ("{toy_tune: {rate: 0.01}}", "reduced.toy_tune.rate: is not a count"),
        ("{toy_tune: {inner: 20}}", "reduced.toy_tune.inner: 20 is more than the full 12"),
        ("{toy_tun: {inner: 2}}", "reduced.toy_tun: unknown key; did you mean toy_tune?"),
        ("{online: {steps: 500}}", "reduced.online.steps: 500 is more than the full 100"),
        ("{online: {stepz: 5}}", "online.stepz: unknown key; did you mean steps?"),
        ("{toy_tune: 5}", "reduced.toy_tune: expected options in braces"),
    ],
)
def test_only_counts_can_be_reduced(tmp_path: Path, reduced: str, message: str) -> None:
    assert message in problem(tmp_path, f"{GOOD}reduced: {reduced}\n")


def test_the_command_line_narrows(tmp_path: Path) -> None:
    plan = expand_text(tmp_path, GOOD, Selection(seeds=(5, 7), algorithms=("toy_offline",)))
    assert [(run.algorithm, run.seed) for run in plan.runs] == [("toy_offline", 5), ("toy_offline", 7)]
    with pytest.raises(UserError, match="--datasets: hopper: not in this suite"):
        expand_text(tmp_path, GOOD, Selection(datasets=("hopper",)))


def test_a_single_run_sets_its_own_options_and_those_of_what_it_starts_from() -> None:
    budget = (1, 100, 50)
    parent, run = single(
        "toy_tune", "pointmass-mixed-v0", 0, ["rate=0.3", "toy_offline.rate=0.7"], budget, Selection()
    ).runs
    assert (parent.spec.config["rate"], run.spec.config["rate"]) == (0.7, 0.3)
    plain, _ = single("toy_tune", "pointmass-mixed-v0", 0, ["rate=0.3"], budget, Selection()).runs
    assert plain.group != parent.group


def test_a_data_set_without_a_row_is_refused_unless_defaults_are_accepted() -> None:
    value = {"algorithms": ["mopo"], "datasets": ["pointmass-mixed-v0"], "seeds": 1}
    assert expand(Located(value), "x").runs
    agent = registry.algorithm("mopo")
    layers = registry.options_file(agent, "mopo").value["datasets"]
    assert "halfcheetah-expert-v2" not in layers
    value["datasets"] = ["halfcheetah-expert-v2"]
    with pytest.raises(UserError, match=r"is missing|no row in its configs/mopo\.yaml"):
        expand(Located(value), "x")


def test_exact_rows_win_over_patterns_and_the_suite_over_both() -> None:
    layers = merge(Located({"a": 1, "b": 1}), Located({"b": 2}), Located({"c": 3}))
    assert layers.value == {"a": 1, "b": 2, "c": 3}
    naive = registry.algorithm("naive")
    value = {
        "algorithms": [{"naive": {"learning_starts": 500}}],
        "datasets": ["pointmass-mixed-v0"],
        "seeds": 1,
        "frozen": False,
        "overrides": {"naive": {"learning_starts": 700, "model_train_freq": 125}},
    }
    config = expand(Located(value), "x").runs[-1].spec.config
    assert (config["learning_starts"], config["model_train_freq"]) == (500, 125)
    assert config["rollout_length"] == [20, 150, 1, 1], "from the pattern pointmass-*"
    assert config["utd_ratio"] == naive.Config.model_fields["utd_ratio"].default


def test_every_row_of_every_algorithm_is_valid() -> None:
    for name in registry.names():
        agent = registry.algorithm(name)
        file = registry.options_file(agent, name)
        for row in file.value.get("datasets", {}):
            validate(agent.Config, file.child("datasets", row), (name,))


MOPO_ROWS = {  # (horizon, penalty) of OfflineRL-Kit and DOOF's Appendix C on D4RL's v2 sets
    "halfcheetah": {
        "random": (1, 0.25),
        "medium": (5, 0.5),
        "medium-replay": (5, 0.5),
        "medium-expert": (5, 2.5),
    },
    "hopper": {"random": (1, 5.0), "medium": (5, 5.0), "medium-replay": (5, 2.5), "medium-expert": (5, 5.0)},
    "walker2d": {
        "random": (1, 0.75),
        "medium": (5, 0.5),
        "medium-replay": (1, 2.5),
        "medium-expert": (1, 2.5),
    },
}


@pytest.mark.parametrize("name", ["mopo", "moore", "doof", "doof_control"])
def test_horizon_and_penalty_are_the_printed_ones(name: str) -> None:
    rows = registry.options_file(registry.algorithm(name), name).value["datasets"]
    for task, kinds in MOPO_ROWS.items():
        for kind, (horizon, penalty) in kinds.items():
            row = rows[f"{task}-{kind}-v2"]
            assert (row["rollout_length"], row["penalty_coef"]) == ([0, 1, horizon, horizon], penalty)


def test_suites_share_the_runs_of_doof(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's identity holds the steps it takes: 10,000, whatever the suite offers to others."""
    monkeypatch.setattr(Dataset, "present", True)
    monkeypatch.setattr(Dataset, "sha256", lambda self: "0" * 64)
    monkeypatch.setattr(Dataset, "admit", lambda self: [])
    only = Selection(seeds=(0,), datasets=("halfcheetah-medium-v2",))
    names = ("mujoco_all", "doof_table3", "doof_fig6_coefficient")
    plans = [read_suite(find_suite(name), only) for name in names]
    for algorithm in ("doof", "doof_control"):
        ids = [{run.id for run in plan.runs if run.algorithm == algorithm} for plan in plans]
        assert set.intersection(*ids), algorithm


@pytest.mark.slow
def test_every_suite_resolves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all data were here: a row of options for every algorithm on every data set."""
    sha256 = Dataset.sha256
    monkeypatch.setattr(Dataset, "present", True)
    monkeypatch.setattr(Dataset, "sha256", lambda self: sha256(self) if self.embedded else "0" * 64)
    monkeypatch.setattr(Dataset, "admit", lambda self: [])
    for name in suite_names():
        plan = read_suite(find_suite(name), Selection(seeds=(0,)))
        assert plan.experiments
        assert read_plan(plan.write(ResultsFolder(tmp_path))) == plan


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    file = expand_text(tmp_path, GOOD).write(ResultsFolder(tmp_path))
    file.write_text(file.read_text().replace('"rate": 0.1', '"rate": 0.3'))
    with pytest.raises(UserError, match=r"not a plan .*start the suite again"):
        read_plan(file)


# ---- entries on some data sets, standing protocols ------------------------------------------------------

TWO = GOOD.replace("[pointmass-mixed-v0]", "[pointmass-mixed-v0, pointmaze-play-v0]")
SHA256 = find_dataset("pointmass-mixed-v0").sha256()


def on(plan: Plan) -> dict[str, set[str]]:
    """Return the data sets of every method."""
    found: dict[str, set[str]] = {}
    for experiment in plan.experiments:
        found.setdefault(experiment.method, set()).add(experiment.dataset)
    return found


@pytest.mark.parametrize(
    ("named", "means"),
    [
        ("[pointmass-mixed-v0]", {"pointmass-mixed-v0"}),
        ("['d4rl:pointmaze-play-v0']", {"pointmaze-play-v0"}),
        ("['pointm*']", {"pointmass-mixed-v0", "pointmaze-play-v0"}),
        ("['point{mass,maze}-*']", {"pointmass-mixed-v0", "pointmaze-play-v0"}),
    ],
)
def test_an_entry_names_its_data_sets(tmp_path: Path, named: str, means: set[str]) -> None:
    text = TWO.replace('label: "toy {rate}"', f'label: "toy {{rate}}", datasets: {named}')
    both = {"pointmass-mixed-v0", "pointmaze-play-v0"}
    assert on(expand_text(tmp_path, text)) == {"toy_offline": both, "toy 0.1": means, "toy 0.2": means}


def test_pretraining_and_control_follow_their_children(tmp_path: Path) -> None:
    text = TWO.replace("frozen: false", "frozen: true").replace(
        "  - toy_offline\n", "  - toy_offline: {datasets: [pointmaze-play-v0], label: alone}\n"
    )
    text = text.replace('label: "toy {rate}"', "datasets: [pointmass-mixed-v0], from: toy_offline")
    plan = expand_text(tmp_path, text)
    assert on(plan)["frozen"] == {"pointmass-mixed-v0"}
    lines = TWO.replace("frozen: false", "frozen: true").replace(
        "  - toy_offline\n", "  - frozen: {from: toy_offline, datasets: [pointmaze-play-v0], label: mine}\n"
    )
    both = on(expand_text(tmp_path, lines))
    assert (both["mine"], both["frozen"]) == ({"pointmaze-play-v0"}, {"pointmass-mixed-v0"})
    only = expand_text(tmp_path, text, Selection(algorithms=("toy_tune",)))
    assert {run.dataset for run in only.runs} == set(only.scores) == {"pointmass-mixed-v0"}


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            "[pointmess-mixed-v0]",
            "s.yaml:4:45: toy_tune.datasets: pointmess-mixed-v0: none of this suite's data",
        ),
        (
            "['hopper-*']",
            "hopper-*: none of this suite's data sets; known: pointmass-mixed-v0, pointmaze-play-v0",
        ),
        ("['point{mass,mess}-*']", "toy_tune.datasets: pointmess-*: none of this suite's data sets; "),
        ("[]", "s.yaml:4:34: toy_tune.datasets: expected a list of this suite's data sets"),
        ("pointmass-mixed-v0", "s.yaml:4:34: toy_tune.datasets: expected a list of this suite's data sets"),
        ("[1]", "toy_tune.datasets: expected a list of this suite's data sets"),
    ],
)
def test_an_entry_on_other_data_sets_is_refused(tmp_path: Path, named: str, message: str) -> None:
    text = TWO.replace('label: "toy {rate}"', f"datasets: {named}")
    assert message in problem(tmp_path, text)


def test_a_data_set_without_an_entry_is_refused(tmp_path: Path) -> None:
    text = TWO.replace("  - toy_offline\n", "").replace('label: "toy {rate}"', "datasets: ['pointmass-*']")
    assert "s.yaml:4:32: datasets: pointmaze-play-v0: no entry runs on it; leave it out" in problem(
        tmp_path, text
    )
    two = TWO.replace('label: "toy {rate}"', "datasets: ['pointmass-*']")
    with pytest.raises(UserError, match="none of these algorithms runs on these data sets"):
        expand_text(tmp_path, two, Selection(datasets=("pointmaze-play-v0",), algorithms=("toy_tune",)))


def test_an_entry_s_data_set_may_be_replaced_by_a_collected_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dataset, "admit", lambda self: [])
    text = GOOD.replace("[pointmass-mixed-v0]", "['{hopper,walker2d}-medium-replay-v2']")
    text = text.replace('label: "toy {rate}"', "datasets: ['hopper-*']")
    plan = expand_text(tmp_path, text, Selection(data="o2o"))
    assert on(plan)["toy_tune (rate=0.1)"] == {"o2o:hopper-medium-replay-v0"}


def test_an_entry_declares_its_tuning(tmp_path: Path) -> None:
    text = TWO.replace('label: "toy {rate}"', 'label: "toy {rate}", tuning_runs: 0')
    plan = expand_text(tmp_path, text)
    assert plan.tuning_runs == {"toy 0.1": 0, "toy 0.2": 0}
    assert read_plan(plan.write(ResultsFolder(tmp_path))) == plan
    assert plan.runs == expand_text(tmp_path, TWO).runs, "which changes nothing that is computed"


@pytest.mark.parametrize("declared", ["-1", "few", "1.5", "true", "[1, 2]", "", "1" + 16 * "0"])
def test_a_tuning_that_is_no_count_is_refused(tmp_path: Path, declared: str) -> None:
    text = TWO.replace('label: "toy {rate}"', f"tuning_runs: {declared}")
    with pytest.raises(UserError, match=r"s\.yaml:4:\d+: toy_tune\.tuning_runs: expected the number of runs"):
        expand_text(tmp_path, text)


def test_a_protocol_is_part_of_the_plan(tmp_path: Path) -> None:
    plan = expand_text(tmp_path, f"protocol: 3\n{GOOD}")
    file = plan.write(ResultsFolder(tmp_path))
    assert (read_plan(file).protocol, read_plan(file).heading) == (3, "s, protocol 3")
    other = expand_text(tmp_path, GOOD)
    assert "protocol" not in json.loads(other.write(ResultsFolder(tmp_path)).read_text())
    assert other.heading == "s"
    with pytest.raises(ValueError, match="differ in protocol"):
        unite(plan, other)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "one", "true"])
def test_a_protocol_is_a_positive_whole_number(tmp_path: Path, value: str) -> None:
    assert "s.yaml:1:1: protocol: " in problem(tmp_path, f"protocol: {value}\n{GOOD}")


def test_a_suite_s_data_have_the_hash_that_it_names(tmp_path: Path) -> None:
    plan = expand_text(tmp_path, f"sha256: {{pointmass-mixed-v0: {SHA256}}}\n{GOOD}")
    assert plan == expand_text(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("pointmass-mixed-v0: " + 64 * "a", "sha256.pointmass-mixed-v0: pointmass-mixed-v0 has SHA-256"),
        ("pointmess-mixed-v0: " + 64 * "a", "no data set of this suite; did you mean pointmass-mixed-v0?"),
        ("pointmass-mixed-v0: abc", "s.yaml:1:10: sha256.pointmass-mixed-v0: "),
    ],
)
def test_data_of_another_hash_are_refused(tmp_path: Path, named: str, message: str) -> None:
    found = problem(tmp_path, f"sha256: {{{named}}}\n{GOOD}")
    assert message in found
    assert found.startswith("s.yaml:1:")
    assert len(found.splitlines()) == 1


def test_a_hash_of_data_that_would_be_collected_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("pointmass-mixed-v0", '"o2o:hopper-medium-v0"')
    assert expand_text(tmp_path, text).runs[0].collects
    found = problem(tmp_path, f'sha256: {{"o2o:hopper-medium-v0": {SHA256}}}\n{text}')
    assert "it is not here, and a set collected now is another; put the file there" in found
