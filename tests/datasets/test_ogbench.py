"""OGBench's single-task sets: labelled by OGBench's own rule, found by their names, fetched, run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from o2obench.datasets.download import fetch
from o2obench.datasets.isolated_validation import examine, read_columns
from o2obench.datasets.registry import dataset_names, find_dataset, unusable_datasets
from o2obench.datasets.statistics import mean_and_best
from o2obench.datasets.validation import Summary
from o2obench.envs.spec import find_env
from o2obench.errors import UserError
from tests.conftest import Command
from tests.datasets.test_download import Server
from tests.helpers.ogbench import CUBE, MAZE, cube_arrays, maze_arrays, written

pytest.importorskip("ogbench")

FILE = "pointmaze-medium-navigate-v0.npz"


@pytest.fixture
def maze(tmp_path: Path) -> Path:
    return written(tmp_path / "ogbench" / FILE, maze_arrays())


def test_the_transitions_are_those_that_ogbench_itself_reads(maze: Path) -> None:
    import gymnasium
    from ogbench.relabel_utils import relabel_dataset
    from ogbench.utils import load_dataset

    theirs, ours = load_dataset(str(maze), add_info=True), find_dataset(MAZE).load()
    relabel_dataset(
        "pointmaze-medium-singletask-v0", gymnasium.make("pointmaze-medium-singletask-v0"), theirs
    )
    assert np.array_equal(ours.obs, theirs["observations"])
    assert np.array_equal(ours.next_obs, theirs["next_observations"])
    assert np.allclose(ours.action, theirs["actions"], atol=1e-6)
    assert np.array_equal(ours.reward, theirs["rewards"])
    assert np.array_equal(ours.terminated, theirs["masks"] == 0)
    assert np.array_equal(ours.truncated, (theirs["terminals"] == 1) & ~ours.terminated)
    assert 10 < ours.terminated.sum() < 500
    starts = np.flatnonzero(ours.episode_start)
    assert np.array_equal(starts[1:] - 1, np.flatnonzero(ours.terminated | ours.truncated)[:-1])


def test_a_task_has_its_own_rewards_and_environment(maze: Path) -> None:
    tasks = [find_dataset(MAZE.replace("-v0", f"{task}-v0")) for task in ("", "-task1", "-task2")]
    assert len({task.env.id for task in tasks}) == 3
    assert {task.file for task in tasks} == {maze}
    assert len({task.sha256() for task in tasks}) == 1
    default, first, second = (read_columns(maze, task.env, Summary(maze)).reward for task in tasks)
    assert np.array_equal(default, first)
    assert not np.array_equal(first, second)
    assert (tasks[0].scores.score(0.0), tasks[0].scores.score(1.0)) == (0.0, 100.0)
    assert mean_and_best(tasks[0]) is None, "what was recorded without the task has no score"


@pytest.mark.slow
def test_a_manipulation_set(tmp_path: Path) -> None:
    written(tmp_path / "ogbench" / "cube-single-play-v0.npz", cube_arrays())
    task = find_dataset(CUBE.replace("-v0", "-task2-v0"))
    assert task.env.terminal is None
    data = task.load()
    assert set(np.unique(data.reward)) == {-1.0, 0.0}
    assert np.array_equal(data.reward == 0.0, data.terminated)


@pytest.mark.slow
def test_a_task_with_buttons_is_labelled_from_them_too(tmp_path: Path) -> None:
    task = find_env("puzzle-3x3-singletask-v0")
    rows = {"observations": 55, "actions": 5, "qpos": 23, "button_states": 9}
    arrays = {key: np.zeros((10, width), np.float32) for key, width in rows.items()}
    arrays |= {"terminals": np.arange(10) == 9}
    file = written(tmp_path / "a.npz", arrays, lambda a: a.pop("button_states"))
    with pytest.raises(UserError, match=r"a\.npz:/button_states: missing: single-task rewards come from it"):
        examine(file, task)
    columns = read_columns(written(file, arrays), task, Summary(file))
    assert columns.reward.tolist() == [columns.reward[0]] * 9
    assert -9.0 <= columns.reward[0] < 0.0, "-1 for each button that is not as it should be"


def test_names_that_are_none_and_files_that_are_missing(tmp_path: Path) -> None:
    for name in (
        "ogbench:pointmaze-medium-navigate-v0",
        "ogbench:../x-navigate-singletask-v0",
        "ogbench:pointmaze-medium-navigate-singletask-task6-v0",
    ):
        with pytest.raises(UserError, match="not one of OGBench's single-task sets; for example ogbench:"):
            find_dataset(name)
    with pytest.raises(UserError, match="environment pointmaze-small-singletask-v0: not known"):
        find_dataset("ogbench:pointmaze-small-navigate-singletask-v0")
    missing = find_dataset(MAZE)
    assert missing.file == tmp_path / "ogbench" / FILE
    with pytest.raises(UserError, match=rf"{FILE} is missing; `o2obench data fetch {MAZE}`, or put the file"):
        missing.require()
    with pytest.raises(
        UserError, match=rf"this is offline; put the file at .*{FILE}, .* in OGBENCH_DATASET_DIR"
    ):
        fetch(missing, offline=True)


def test_what_lies_here_is_listed(maze: Path) -> None:
    written(maze.with_name("visual-nothing-play-v0.npz"), {"x": np.zeros(3)})
    written(maze.with_name("pointmaze-medium-navigate-v0-val.npz"), {"x": np.zeros(3)})
    assert [name for name in dataset_names() if "ogbench:" in name] == [MAZE]
    assert "ogbench:visual-nothing-play-singletask-v0" in unusable_datasets()


def test_a_set_is_fetched_from_ogbenchs_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(tmp_path / "source.npz", maze_arrays()).read_bytes()
    server, said = Server(content), list[str]()
    monkeypatch.setenv("O2OBENCH_OGBENCH_URL", server.url)
    fetch(find_dataset(MAZE), say=said.append)
    assert (tmp_path / "ogbench" / FILE).read_bytes() == content
    assert "recorded in fetched.json (no hash is published)" in said[-1]
    fetch(find_dataset(MAZE.replace("-v0", "-task4-v0")), say=said.append)
    assert "is the file of its first fetch" in said[-1]
    assert len(server.asked) == 1, "all tasks share a file"
    (tmp_path / "ogbench" / FILE).unlink()
    (tmp_path / "ogbench" / "fetched.json").unlink()
    server.content = written(tmp_path / "spoilt.npz", maze_arrays(), lambda a: a.pop("qpos")).read_bytes()
    with pytest.raises(UserError, match=rf"{server.url}/{FILE}:/qpos: missing"):
        fetch(find_dataset(MAZE), say=said.append)
    assert not [path for path in (tmp_path / "ogbench").iterdir() if "npz" in path.suffixes], "nothing stays"
    server.http.shutdown()
    server.http.server_close()


def test_the_commands_know_it(maze: Path, o2obench: Command) -> None:
    checked = o2obench("data", "check", MAZE)
    assert "good, 1,200 rows" in checked.stdout
    assert "rows lie where the task is solved, which ends an episode; trajectories go on" in checked.stdout
    shown = o2obench("data", "info", MAZE).stdout
    assert "score 0 and 100      success 0 and 1 (OGBench" in shown
    assert "\n  scores " not in shown
    assert "ogbench:pointmaze" in o2obench("data", "list", "ogbench").stdout
    refused = o2obench("run", "mopo", MAZE)
    assert (
        f"mopo on {MAZE}: no row in its configs/mopo.yaml; add one, or accept the defaults" in refused.stderr
    )


@pytest.mark.slow
def test_a_tiny_run(maze: Path, o2obench: Command) -> None:
    done = o2obench("run", "bc", MAZE, "--updates", "100", "--defaults")
    assert done.returncode == 0, done.stderr
    [file] = Path("results").glob("ogbench-*/bc/*/seed-0/evaluations.jsonl")
    row = json.loads(file.read_text())
    assert len(row["returns"]) == 50
    assert set(row["returns"]) <= {0.0, 1.0}
    assert f"score {100 * np.mean(row['returns']):.1f} -> " in done.stdout + done.stderr
