"""``o2obench data``: lists, facts, pictures, exports; and suites whose data are not there."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import pytest

from o2obench.datasets import describe
from o2obench.datasets import registry as datasets
from o2obench.datasets.download import fetch_named
from o2obench.datasets.reference_scores import task_name
from o2obench.errors import UserError
from o2obench.planning.expand import expand, read_suite
from o2obench.planning.load import find_suite
from o2obench.planning.schema import Selection
from o2obench.util.config import Located
from tests.conftest import Command
from tests.helpers.datasets import hopper_arrays, hopper_file, minari_episodes, write, write_minari

REPLAY = "o2o:hopper-medium-replay-v0"


def test_the_list_says_what_there_is_and_where(o2obench: Command, tmp_path: Path) -> None:
    hopper_file(tmp_path / "data" / "hopper_medium-v2.hdf5")
    write_minari(tmp_path / "minari" / "own" / "hop-v0", minari_episodes())
    done = o2obench("data", "list", MINARI_DATASETS_PATH=str(tmp_path / "minari"))
    rows = {line.split("│")[1].strip(): line for line in done.stdout.splitlines() if "│" in line}
    assert "in the package" in rows[REPLAY]
    assert "hopper_medium-v2.hdf5" in rows["hopper-medium-v2"]
    assert "3234.3" in rows["hopper-medium-v2"]
    assert "fetch" in rows["hopper-expert-v2"]
    assert "collect" in rows["o2o:hopper-medium-v0"]
    assert "Minari's folder" in rows["minari:own/hop-v0"]
    assert "fetch" in rows["minari:mujoco/hopper/medium-v0"]
    assert "-20.2723" in rows["o2o:hopper-medium-v0"]
    few = o2obench("data", "list", "walker2d-medium-replay")
    assert "hopper" not in few.stdout
    assert "walker2d-medium-replay-v2" in few.stdout


def test_the_facts_of_a_set(o2obench: Command) -> None:
    done = o2obench("data", "info", REPLAY)
    for said in ("Hopper-v4", "49,875", "379, lengths", "terminated", "truncated", "CC0-1.0", "3234.3"):
        assert said in done.stdout, said
    assert "o2obench data collect hopper --kind medium-replay --rows 50000" in done.stdout


def test_checking_a_file_and_a_name(o2obench: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.hdf5", hopper_arrays())
    assert "mine.hdf5: good" in o2obench("data", "check", file, "--env", "Hopper-v4").stdout
    wrong = o2obench("data", "check", file, "--env", "Walker2d-v4")
    assert wrong.returncode == 2
    assert "/observations: shape (60, 11): expected rows of 17 for Walker2d-v4" in wrong.stderr
    assert "49,875 rows, 379 episodes" in o2obench("data", "check", REPLAY).stdout
    assert "name the environment with --env" in o2obench("data", "check", file).stderr


def test_a_picture_of_a_set(o2obench: Command, tmp_path: Path) -> None:
    assert o2obench("data", "plot", REPLAY, tmp_path / "a.png").returncode == 0
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "a.png").stat().st_size > 20_000
    assert "ends in .png" in o2obench("data", "plot", REPLAY, tmp_path / "a.jpg").stderr


def test_the_data_folder_by_flag(o2obench: Command, tmp_path: Path) -> None:
    hopper_file(tmp_path / "elsewhere" / "hopper_medium-v2.hdf5")
    done = o2obench("--data-folder", tmp_path / "elsewhere", "data", "check", "hopper-medium-v2")
    assert "hopper-medium-v2: good" in done.stdout


def test_a_suite_without_data_says_what_is_missing_and_what_to_do(o2obench: Command, tmp_path: Path) -> None:
    done = o2obench("suite", "mujoco_all", "--offline")
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert len(lines) == 12 + 3
    assert "hopper_medium_replay-v2.hdf5 is missing" in done.stderr
    assert lines[12].startswith(
        "get them with `o2obench data fetch halfcheetah-random-v2 halfcheetah-medium-v2"
    )
    assert "put the files there" in lines[13]
    assert "--data o2o runs the same grid on sets collected by this project" in lines[14]
    assert not (tmp_path / "results").exists()


def test_a_server_that_cannot_be_reached_is_said_in_one_line(
    o2obench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("O2OBENCH_D4RL_URL", "http://127.0.0.1:9/nowhere")
    done = o2obench("suite", "mujoco_all")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("127.0.0.1 cannot be reached ([Errno 111] Connection refused); `o2obench data")
    assert line.endswith("its folder in O2OBENCH_DATA, or run on this project's own sets (--data o2o)")
    assert not (tmp_path / "results").exists()


def test_the_same_grid_on_collected_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, selection = find_suite("mujoco_all"), Selection(data="o2o", datasets=("hopper-medium-replay-v2",))
    plan = read_suite(suite, selection)
    assert plan.suite == "mujoco_all-o2o", "a plan and a report of its own"
    assert {experiment.dataset for experiment in plan.experiments} == {REPLAY}
    assert plan.command == "o2obench suite mujoco_all --data o2o --datasets hopper-medium-replay-v2"
    assert read_suite(suite, Selection(data="o2o", datasets=(REPLAY,))).runs == plan.runs
    collected = [run.dataset for run in read_suite(suite, Selection(data="o2o")).runs if run.collects]
    kinds = ("random", "medium", "medium-expert")  # medium-replay comes with the package
    tasks = ("halfcheetah", "hopper", "walker2d")
    assert collected == [f"o2o:{task}-{kind}-v0" for task in tasks for kind in kinds]
    with pytest.raises(UserError, match="--data d4rl: not known"):
        read_suite(suite, Selection(data="d4rl"))
    with pytest.raises(UserError, match="pointmass-mixed-v0: has no collected set"):
        read_suite(find_suite("smoke"), Selection(data="o2o"))


def test_d4rls_and_collected_sets_never_stand_in_one_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hopper_file(tmp_path / "data" / "hopper_medium-v2.hdf5")
    with pytest.raises(UserError, match="results of the two are not comparable"):
        expand(Located({"algorithms": ["naive"], "datasets": ["hopper-medium-v2", REPLAY]}), "mixed")


def test_collected_sets_are_known_under_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hopper_file(tmp_path / "data" / "hopper_medium-v2.hdf5")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    describe.export(REPLAY, Path("minari"))
    packed = datasets.find_dataset(REPLAY).file
    assert packed
    for file in (packed, packed.with_suffix(".json")):
        shutil.copy(file, tmp_path / f"copy{file.suffix}")
    for other in ("minari:o2o/hopper/medium-replay-v0", f"file:{tmp_path / 'copy.hdf5'}"):
        grid = {"algorithms": ["naive"], "datasets": ["hopper-medium-v2", other]}
        with pytest.raises(UserError, match="results of the two are not comparable"):
            expand(Located(grid), "mixed", Selection(defaults=True))


def test_a_checked_file_cannot_run_code_that_lies_around(o2obench: Command, tmp_path: Path) -> None:
    (tmp_path / "h5py.py").write_text("open('ran', 'w')")
    file = write(tmp_path / "mine.hdf5", hopper_arrays())
    assert "good" in o2obench("data", "check", file, "--env", "Hopper-v4", PYTHONSAFEPATH="").stdout
    assert not (tmp_path / "ran").exists()


def test_a_verdict_that_came_with_the_data_counts_for_nothing(o2obench: Command, tmp_path: Path) -> None:
    found = write(tmp_path / "data" / "hopper_medium-v2.hdf5", hopper_arrays())
    assert o2obench("data", "check", "hopper-medium-v2").returncode == 0
    assert [path.name for path in found.parent.iterdir()] == [found.name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "nosuch"), "not known, no reference scores; `o2obench data list` shows"),
        (("check", "hopper-medium-v3"), "did you mean hopper-medium-v"),
        (
            ("check", "ant-medium-v2"),
            "ant-medium-v2: its environment Ant-v4(use_contact_forces=True) is",
        ),
        (
            ("info", "antmaze-eval-umaze-diverse-v0"),
            "its environment antmaze is not known here; `o2obench data list`",
        ),
        (("info", "o2o:hopper-medum-replay-v0"), "did you mean o2o:hopper-medium-replay-v0?"),
        (("info", "minari:mujoco/hoper/medium-v0"), "did you mean minari:mujoco/hopper/medium-v0?"),
        (
            ("info", "hopper-medium-replay-v2"),
            "or use o2o:hopper-medium-replay-v0, which came with the package",
        ),
        (("info", "o2o:hoper-medium-v0"), "did you mean o2o:hopper-medium-v0?"),
        (("check", REPLAY, "--env", "Walker2d-v4"), "the environment of this data set is Hopper-v4"),
        (("check", "file:~nosuchuser/x"), "not a path"),
        (("info", "file:" + "x" * 300), "not a path"),
        (("export", REPLAY, "taken"), "cannot be used as a folder"),
        (("plot", REPLAY, "nowhere/x.png"), "its folder is missing"),
        (("collect", "hopper", "taken.json"), "a data set's name ends in .hdf5"),
        (("collect", "hopper", "mine.hdf5"), "mine.json: exists; a data set is never overwritten"),
        (("collect", "hopper", "taken/x.hdf5"), "cannot be used as a folder"),
        (("collect", "hopper", "--kind", "randomly"), "did you mean random"),
    ],
)
def test_bad_input_is_one_line(
    o2obench: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "mine.json").write_text("precious")
    done = o2obench("data", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "mine.json").read_text() == "precious"


def test_v5_tasks_have_names_of_their_own() -> None:
    assert (task_name("Hopper-v4"), task_name("Hopper-v5"), task_name("Pendulum-v1")) == (
        *("hopper", "hopperv5"),
        "pendulum",
    )


def test_a_users_own_file_in_a_suite(tmp_path: Path) -> None:
    """Its folder is not part of a run's identity; the plan keeps its scores."""
    plans = []
    for folder in ("here", "there"):
        file = write(tmp_path / folder / "mine.hdf5", hopper_arrays())
        file.with_suffix(".json").write_text('{"environment": "Hopper-v4", "ref_min": 1, "ref_max": 2}')
        grid = {"algorithms": ["naive"], "datasets": [f"file:{file}"], "seeds": 1}
        plans.append(expand(Located(grid), "own", Selection(defaults=True)))
    here, there = plans
    assert [run.id for run in here.runs] == [run.id for run in there.runs]
    assert here.runs[0].id.startswith("file-mine.hdf5/mopo/")
    assert next(iter(here.scores.values())).ref_max == 2


# ---- Minari's remote ----------------------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A Minari whose downloads are scripted: ``good``, ``bad`` data, or an error to raise."""
    script = ["good"]
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))

    def download_dataset(name: str) -> None:
        import os

        what = script[0]
        if what == "no library":
            raise ImportError("huggingface_hub is not installed")
        if what == "no network":
            raise ConnectionError("Max retries exceeded\nwith url")
        made = minari_episodes()
        if what == "bad":
            made[0]["rewards"][3] = float("nan")
        write_minari(Path(os.environ["MINARI_DATASETS_PATH"]) / name, made)

    fake = types.SimpleNamespace(download_dataset=download_dataset)
    monkeypatch.setitem(sys.modules, "minari", fake)
    return script


def test_minaris_sets_are_fetched_through_minari_and_checked(remote: list[str], tmp_path: Path) -> None:
    name = "minari:mujoco/hopper/medium-v0"
    root = tmp_path / "minari"
    for what, said in (
        ("no library", r"needs `pip install 'minari\[hf\]'`"),
        ("no network", "could not fetch it: Max retries exceeded$"),
        ("bad", r"/episode_0/rewards\[3\]: not a number"),
    ):
        remote[0] = what
        with pytest.raises(UserError, match=said):
            fetch_named(name, say=print)
        assert not list(root.rglob("*.hdf5")), "something half-present"
    with pytest.raises(UserError, match="this is offline"):
        fetch_named(name, offline=True)
    remote[0] = "good"
    said_: list[str] = []
    fetch_named(name, say=said_.append)
    assert len(datasets.find_dataset(name).load()) == 60
    remote[0] = "no network"
    fetch_named(name, say=said_.append)
    assert len(said_) == 2, "what is there is not fetched again"
    shutil.rmtree(root)
