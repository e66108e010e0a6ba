"""A family of methods in a package of its own (tests/plugin/toy_family), seen as its author sees it."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from o2obench import registry
from o2obench.cli.options import seeds_of
from o2obench.envs import rendering
from o2obench.envs import spec as environments
from o2obench.errors import UserError
from o2obench.kit.replay import Replay
from o2obench.maintenance.file_system import measure
from o2obench.planning import report_items
from o2obench.planning.expand import expand, read_suite
from o2obench.planning.plan import Plan
from o2obench.report import ReportOptions, cache, write_report
from o2obench.report.plots.registry import of_dataset
from o2obench.runs.folder import ResultsFolder
from o2obench.testing import check_agent
from o2obench.training.build import agent_class
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.transitions import Transitions
from o2obench.util import plugins
from o2obench.util.config import Located
from o2obench.util.interpreter import PYTHON
from tests.conftest import PLUGIN

SUITE = PLUGIN / "toy_family" / "toy_family.yaml"
FAMILY = {"toy_clone", "toy_refine"}


# ---- the suite ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, ResultsFolder]]:
    """The suite's plan, with one seed, and its runs, computed in a folder that holds the family's data."""
    from toy_family.windy import write_data

    from o2obench.planning.schema import Selection

    folder = tmp_path_factory.mktemp("family")
    write_data(folder / "windy.hdf5")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(PLUGIN))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        plan, results = read_suite(SUITE, Selection(seeds=(0,))), ResultsFolder(folder / "results")
        for run in plan.runs:
            execute([run], results, Options())
        plan.write(results)
        yield plan, results


def test_the_suite_runs_both_methods_and_the_control_in_the_own_environment(
    computed: tuple[Plan, ResultsFolder],
) -> None:
    plan, results = computed
    assert {run.algorithm for run in plan.runs} == {*FAMILY, "frozen"}
    assert {run.spec.environment for run in plan.runs} == {"PointMass-v0", "WindyMass-v0"}
    assert all(results.run(run.id).done.exists() for run in plan.runs)
    assert plan.command.endswith("toy_family.yaml --seeds 0,")
    assert seeds_of("0,") == (0,), "the command can be given again"
    starts = {one.method: one.pretraining for one in plan.experiments}
    assert starts["toy_refine"] == starts["frozen"] == "toy_clone"
    rates = {run.dataset: run.spec.config for run in plan.runs if run.algorithm == "toy_refine"}
    assert {config["rate"] for config in rates.values()} == {0.02}
    assert rates["pointmass-mixed-v0"]["utd_ratio"] == 3, "the package's own row of options"


def test_the_report_shows_the_own_figure(computed: tuple[Plan, ResultsFolder], tmp_path: Path) -> None:
    [page] = write_report(computed[1], tmp_path, "", ReportOptions(formats=("html", "svg")))
    folder = page.parent
    for data in ("pointmass-mixed-v0", "file-windy.hdf5"):
        assert "reward of a batch" in (folder / f"toy_priority-{data}.svg").read_text()
        assert f"toy_priority-{data}" in page.read_text()
    text = page.read_text()
    assert text.count("What toy_refine imitates") >= 2, "its title is the first line of its documentation"
    assert text.count("reward of a batch") >= 2, "the page holds the drawing itself"


def test_a_figure_that_was_changed_is_drawn_again(
    computed: tuple[Plan, ResultsFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = metadata.EntryPoint("toy_priority", "my_figure:draw", "o2obench.figures")
    monkeypatch.setattr(cache, "plugin_figures", lambda: {entry.name: entry})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_figure.py").write_text("def draw(): pass\n")
    before = cache.key(*computed)
    assert cache.key(*computed) == before
    (tmp_path / "my_figure.py").write_text("def draw(): return None\n")
    assert cache.key(*computed) != before


# ---- identities ---------------------------------------------------------------------------------------


def hashes() -> dict[str, str]:
    """Return each algorithm's identity, without its seed, in a suite of the family and of naive."""
    value = {
        "algorithms": ["toy_refine", "toy_clone", "naive", "sac"],
        "datasets": ["pointmass-mixed-v0"],
        "seeds": [0],
        "frozen": False,
    }
    return {run.algorithm: run.spec.hash for run in expand(Located(value), "family").runs}


def changed(before: dict[str, str]) -> set[str]:
    now = hashes()
    return {name for name, one in before.items() if now[name] != one}


def test_the_templates_version_is_part_of_all_its_methods_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    template, before = importlib.import_module("toy_family.template"), hashes()
    assert registry.versions("toy_refine") == {"toy_refine": 1, "kit/toy_cloning": template.VERSION}
    monkeypatch.setattr(template.Cloning, "kit_versions", {"toy_cloning": template.VERSION + 1})
    assert changed(before) == FAMILY


@pytest.mark.parametrize(("raised", "new"), [("toy_refine", {"toy_refine"}), ("toy_clone", FAMILY)])
def test_a_methods_own_version_is_its_own_and_its_childrens(
    monkeypatch: pytest.MonkeyPatch, raised: str, new: set[str]
) -> None:
    before = hashes()
    monkeypatch.setattr(registry.algorithm(raised), "version", 2)
    assert changed(before) == new


def test_an_algorithm_called_as_a_part_of_the_kit_has_a_version_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sac, before = registry.algorithm("sac"), hashes()
    planned = expand(Located({"algorithms": ["sac"], "datasets": ["pointmass-mixed-v0"]}), "sac").runs[0].spec
    part = sac.kit_versions["model_free"]
    assert planned.versions == registry.versions("sac") == {"sac": sac.version, "kit/model_free": part}
    assert "sac" not in registry.versions("mopo")
    assert "kit/sac" in registry.versions("mopo")
    assert agent_class(planned) is sac
    monkeypatch.setattr(sac, "version", sac.version + 1)
    assert changed(before) == {"sac"}
    with pytest.raises(UserError, match=rf"sac {sac.version}, kit/model_free {part}; start the suite again"):
        agent_class(planned)


# ---- entry points -------------------------------------------------------------------------------------


@pytest.fixture
def environment_entry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Return what installs one entry point in the group of environments, until the test ends."""

    def install(name: str, value: str) -> None:
        entry = metadata.EntryPoint(name, value, "o2obench.environments")
        monkeypatch.setattr(environments, "_others", lambda: {name: entry})
        environments.environments.cache_clear()

    yield install
    environments.environments.cache_clear()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "Windy-v0",
            "toy_family.windy:WINDY",
            "an EnvSpec of WindyMass-v0; name the entry by its",
        ),
        (
            "WindyMass-v0",
            "toy_family.windy:WindyMass",
            "is <class 'toy_family.windy.WindyMass'>; name",
        ),
        ("WindyMass-v0", "toy_family.windy:STORM", "cannot be imported: module 'toy_family.windy' has no"),
        ("WindyMass-v0", "no_such_package:WINDY", "cannot be imported: No module named 'no_such_package'"),
    ],
)
def test_an_environment_that_its_entry_does_not_name_is_refused(
    environment_entry: Callable[[str, str], None], name: str, value: str, said: str
) -> None:
    environment_entry(name, value)
    with pytest.raises(UserError) as refused:
        environments.find_env("WindyMass-v0")
    [line] = refused.value.problems
    assert "\n" not in line
    assert line.startswith(f"entry point o2obench.environments: {name}: {value} ")
    assert said in line


def test_an_algorithm_or_a_figure_that_cannot_be_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"mine": metadata.EntryPoint("mine", "no_such_package:Mine", "a group")}
    monkeypatch.setattr(registry, "_others", lambda: broken)
    monkeypatch.setattr("o2obench.report.plots.registry.plugin_figures", lambda: broken)
    for find in (registry.algorithm, of_dataset):
        with pytest.raises(UserError, match="a group: mine: no_such_package:Mine cannot be imported"):
            find("mine")


def test_a_broken_environment_is_told_to_those_who_ask_for_it(
    environment_entry: Callable[[str, str], None],
) -> None:
    environment_entry("Foreign-v0", "no_such_package:FOREIGN")
    assert environments.find_env("Hopper-v4").obs_dim == 11
    assert "Foreign-v0" not in environments.environments()
    with pytest.raises(UserError, match=r"uninstall the package no_such_package"):
        environments.find_env("Foreign-v0")


def test_a_package_never_takes_the_name_of_what_is_built_in(
    monkeypatch: pytest.MonkeyPatch, environment_entry: Callable[[str, str], None]
) -> None:
    entry = metadata.EntryPoint("mopo", "toy_family.clone:ToyClone", registry.GROUP)
    monkeypatch.setattr(registry, "_others", lambda: {"mopo": entry})
    with pytest.raises(UserError, match=r"entry point .*: mopo: the package toy_family.clone gives the name"):
        registry.algorithm("mopo")
    assert registry.algorithm("sac").__name__ == "Sac"
    environment_entry("Hopper-v4", "toy_family.windy:WINDY")
    with pytest.raises(UserError, match=r"Hopper-v4: the package toy_family.windy gives the name"):
        environments.find_env("Hopper-v4")
    figure = metadata.EntryPoint("curves", "toy_family.figure:priority", "o2obench.figures")
    monkeypatch.setattr("o2obench.planning.report_items.entry_points", lambda group: {"curves": figure})
    assert not report_items.plugin_figures.__wrapped__()


def test_a_name_that_two_packages_give_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("mine", "toy_o2o:ToyOffline", registry.GROUP)
    monkeypatch.setattr(registry, "_others", lambda: {"mine": entry})
    monkeypatch.setattr(plugins, "_packages", lambda group, name: ["one", "another"])
    with pytest.raises(UserError, match="mine: is given by one and another; uninstall all but one"):
        registry.algorithm("mine")


@pytest.mark.parametrize("fault", ["raise RuntimeError('no licence')", "a b", "import sys; sys.exit(0)"])
def test_whatever_a_plug_in_raises_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    (tmp_path / "spoilt.py").write_text(fault)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"a group: mine: spoilt:X cannot be imported: .*package spoilt$"):
        plugins.load(metadata.EntryPoint("mine", "spoilt:X", "a group"))


def test_a_package_whose_entry_points_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "spoilt-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: spoilt\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[o2obench.algorithms]\nnovalue\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"the package spoilt: its entry_points.txt cannot be read; mend or"):
        plugins.entry_points("o2obench.algorithms")


def test_no_process_imports_from_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("filelock", "mujoco", "submitit", "h5py", "o2obench", "json"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    for name in ("PYTHONSAFEPATH", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "results").mkdir()
    abilities = {ability.name: ability for ability in measure(ResultsFolder("results"))}
    assert abilities["locks"].works
    with contextlib.suppress(UserError):  # where nothing can be drawn, it was tried all the same
        rendering._graphics("Hopper-v4")
    subprocess.run([*PYTHON, "-m", "o2obench", "--help"], check=True, capture_output=True)
    assert not (tmp_path / "ran").exists()


def test_methods_of_one_module_are_described_by_their_classes() -> None:
    assert registry.summary("toy_clone").startswith("Behaviour cloning")
    assert registry.summary("toy_refine").startswith("Self-imitation")
    assert registry.summary("sac").startswith("SAC (Haarnoja")


# ---- the replay buffer --------------------------------------------------------------------------------


def transitions(rows: int, reward: float = 0.5) -> Transitions:
    random = np.random.default_rng(rows)
    obs, next_obs = random.normal(size=(2, rows, 4)).astype(np.float32)
    no = np.zeros(rows, bool)
    action = random.uniform(-1, 1, (rows, 2)).astype(np.float32)
    return Transitions(obs, action, np.full(rows, reward, np.float32), next_obs, no, no, no)


def buffer(columns: dict[str, Any]) -> Replay:
    return Replay(transitions(3), 2, (4, 2), 5, 4, "cpu", columns=columns)


def test_an_own_column_comes_back_from_a_saved_state() -> None:
    """Beside offline, online and model transitions; a column may be wide, and one that is not given is 0."""
    columns = {"priority": np.arange(3.0), "goal": np.arange(6.0).reshape(3, 2)}
    replay, other = buffer(columns), buffer(columns)
    replay.append(transitions(2), priority=np.array([7.0, 8.0]))
    replay.append(transitions(2), priority=np.array([9.0, 10.0]), goal=np.ones((2, 2)))
    like, new = replay.take(replay.online_base[:, None]), torch.tensor([[11.0], [12.0]])
    made = replay.rows_of(like.obs, like.action, like.reward, like.next_obs, like.terminated, priority=new)
    replay.push(made, torch.ones(2, 1, dtype=torch.bool))
    other.load_state_dict(replay.state_dict())
    index = torch.cat(
        [
            torch.arange(3).expand(2, -1),
            other.online_base[:, None] + torch.arange(2),
            other.model_base[:, None],
        ],
        dim=1,
    )
    for one in (replay, other):
        held = one.take(index).columns
        assert held["priority"].tolist() == [[0, 1, 2, 7, 9, 11], [0, 1, 2, 8, 10, 12]]
        assert held["goal"][:, :3].tolist() == [[[0, 1], [2, 3], [4, 5]]] * 2
        assert held["goal"][:, 3:].tolist() == [[[0, 0], [1, 1], [0, 0]]] * 2
    assert not check_agent.differences(replay.state_dict(), other.state_dict())


def test_an_unknown_column_is_refused() -> None:
    replay = buffer({"priority": np.zeros(3)})
    with pytest.raises(ValueError, match="column prioriti: not known; did you mean priority"):
        replay.append(transitions(2), prioriti=np.zeros(2))
    assert replay.online == 0
    with pytest.raises(ValueError, match="column weight: not known; none is known"):
        buffer({}).append(transitions(2), weight=np.zeros(2))
    with pytest.raises(ValueError, match="column reward: a name of the buffer's own"):
        buffer({"reward": np.zeros(3)})


def test_a_priority_decides_how_often_a_transition_is_drawn() -> None:
    agent: Any = check_agent.build("toy_refine", (0, 1))
    start = agent.replay.offline
    for _ in range(2):
        agent.observe(transitions(2, reward=1e6))
    index = agent.drawn()
    assert (index >= start).all(), "what paid a million times more"
    assert (index == agent.replay.online_base[:, None]).any()
    assert (index == agent.replay.online_base[:, None] + 1).any()


def test_a_resumed_agent_has_its_column(computed: tuple[Plan, ResultsFolder]) -> None:
    agent: Any = check_agent.train(check_agent.build("toy_refine"))
    other: Any = check_agent.build("toy_refine")
    other.load_state_dict(agent.state_dict())
    rows = other.replay.online_base[:, None] + torch.arange(other.replay.online)
    priority = other.replay.take(rows).columns["priority"]
    assert priority.shape == (1, check_agent.STEPS)
    assert (priority >= agent.config.least).all()
    assert priority.equal(agent.replay.take(rows).columns["priority"])


# ---- the contract -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILY))
def test_the_check_of_an_agent_passes(name: str) -> None:
    said: list[str] = []
    assert check_agent.check(name, said.append), said
    assert len(said) == len(check_agent.CHECKS)


@pytest.mark.slow
def test_the_commands(o2obench: Callable[..., Any], tmp_path: Path) -> None:
    """What the suite's first lines say, and the check, word for word."""
    import toy_family.windy

    toy_family.windy.write_data(tmp_path / "windy.hdf5")
    done = o2obench("suite", SUITE, "--seeds", "0,")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "reports" / "toy_family" / "toy_priority-file-windy.hdf5.svg").exists()
    for name in FAMILY:
        done = o2obench("check", name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAILED" not in done.stdout
