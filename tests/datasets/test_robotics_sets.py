"""Minari's ``D4RL/antmaze`` and ``D4RL/kitchen``, as Minari writes gymnasium-robotics' episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium_robotics")

from o2obench.datasets.importing import Imported, import_file
from o2obench.datasets.registry import Dataset, find_dataset
from o2obench.envs.kitchen import KITCHENS, goal_of
from o2obench.errors import UserError
from o2obench.planning import expand
from tests.conftest import Command
from tests.helpers import robotics_sets as sets
from tests.helpers.robotics_sets import EPISODES, STEPS, UMAZE

UMAZE_ID = "AntMaze_UMaze-v4(maze_map=11111.1g001.11101.1r001.11111,max_episode_steps=700)"
ANT, KITCHEN = "minari:D4RL/antmaze/umaze-v1", "minari:D4RL/kitchen/mixed-v2"
ROWS = EPISODES * STEPS


@pytest.fixture(autouse=True)
def minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def ant_maze(folder: Path, evaluated: Any = None, **arguments: Any) -> Dataset:
    """Write the set ANT; ``evaluated`` is its environment for evaluation."""
    env = sets.ant_maze(**arguments)
    more = {} if evaluated is None else {"eval_env": evaluated.spec}
    sets.write(ANT.removeprefix("minari:"), folder, env, sets.episodes(env, sets.towards_the_goal), **more)
    return find_dataset(ANT)


def kitchen(folder: Path, name: str = KITCHEN, evaluated: Any = None, **arguments: Any) -> Dataset:
    """Write a set of the kitchen."""
    env = sets.kitchen(**arguments)
    more = {} if evaluated is None else {"eval_env": evaluated.spec}
    sets.write(name.removeprefix("minari:"), folder, env, sets.episodes(env, sets.task_by_task), **more)
    return find_dataset(name)


def replayed(data: Dataset, act: sets.Act, steps: int) -> np.ndarray:
    """Return the observations (steps + 1, obs_dim) of the first episode, played here."""
    env, random = data.env.make(), np.random.default_rng(0)
    obs = [env.reset(seed=0)[0]]
    obs += [env.step(act(env, step, random))[0] for step in range(steps)]
    return np.array(obs).astype(np.float32)


# ---- what is read -------------------------------------------------------------------------------------


def test_an_ant_maze_is_read_as_its_metadata_describe_it(minari_folder: Path) -> None:
    data = ant_maze(minari_folder)
    assert (data.env.id, data.env.horizon) == (UMAZE_ID, 700)
    loaded = data.load()
    assert loaded.obs.shape == loaded.next_obs.shape == (ROWS, 31)
    assert loaded.action.shape == (ROWS, 8)
    assert loaded.reward.tolist() == EPISODES * (4 * [0.0] + 4 * [1.0] + 4 * [0.0])
    assert not loaded.terminated.any()
    assert np.flatnonzero(loaded.truncated).tolist() == [11, 23, 35]
    assert np.flatnonzero(loaded.episode_start).tolist() == [0, 12, 24]
    inside = ~loaded.truncated[:-1]
    assert np.array_equal(loaded.next_obs[:-1][inside], loaded.obs[1:][inside])
    assert (data.scores.score(0.0), data.scores.score(1.0)) == (0.0, 100.0)


def test_a_kitchen_s_tasks_are_paid_once_and_end_the_episode_whatever_the_file_pays(
    minari_folder: Path,
) -> None:
    """In the file a task is paid in every step, and episodes go on."""
    data = kitchen(minari_folder, remove_task_when_completed=False, terminate_on_tasks_completed=False)
    assert data.env.id == "Kitchen-Mixed-v0"
    loaded = data.load()
    assert loaded.obs.shape == loaded.next_obs.shape == (EPISODES * 8, 60)
    assert loaded.action.shape == (EPISODES * 8, 9)
    assert loaded.reward.tolist() == EPISODES * 4 * [0.0, 1.0]
    assert np.flatnonzero(loaded.terminated).tolist() == [7, 15, 23]
    assert not loaded.truncated.any()
    assert (loaded.obs[:, 30:] == goal_of(KITCHENS["Kitchen-Mixed-v0"]).astype(np.float32)).all()
    assert data.scores.score(1.0) == 25.0
    assert data.env.terminal is None, "what rolls out a model is refused"
    notes = " ".join(data.admit())
    assert "30 rows are paid otherwise than by Kitchen-Mixed-v0's rule, which counts" in notes
    assert "12 rows come after the end of the task, left out" in notes


def test_a_kitchen_that_pays_by_the_rule_is_read_as_it_is(minari_folder: Path) -> None:
    data = kitchen(minari_folder)
    assert data.load().reward.tolist() == EPISODES * 4 * [0.0, 1.0]
    assert "rule" not in " ".join(data.admit())


@pytest.mark.parametrize(
    ("make", "act", "steps"),
    [(ant_maze, sets.towards_the_goal, STEPS), (kitchen, sets.task_by_task, 8)],
    ids=["antmaze", "kitchen"],
)
def test_observations_of_data_are_those_of_the_environment(
    make: Any, act: sets.Act, steps: int, minari_folder: Path
) -> None:
    data = make(minari_folder)
    loaded, obs = data.load(), replayed(data, act, steps)
    assert np.array_equal(loaded.obs[:steps], obs[:-1])
    assert np.array_equal(loaded.next_obs[:steps], obs[1:])


def test_a_goal_that_ends_the_episode_is_an_end(minari_folder: Path) -> None:
    data = ant_maze(minari_folder, continuing_task=False)
    assert data.env.id.endswith(",continuing_task=False)")
    loaded = data.load()
    assert len(loaded) == EPISODES * 5
    assert np.flatnonzero(loaded.terminated).tolist() == [4, 9, 14]
    assert data.env.terminal is not None, "a model may be rolled out: the observation tells place and goal"
    assert (
        data.env.terminal(loaded.obs, loaded.action, loaded.next_obs).tolist() == loaded.terminated.tolist()
    )


def test_an_end_that_the_rule_does_not_know_is_a_cut(minari_folder: Path) -> None:
    env = sets.ant_maze()
    buffers = sets.episodes(env, sets.towards_the_goal)
    buffers[0].terminations[-1] = True
    sets.write("D4RL/antmaze/umaze-v1", minari_folder, env, buffers)
    data = find_dataset(ANT)
    assert data.load().truncated[STEPS - 1]
    assert any(note.startswith("1 terminations are set where AntMaze_UMaze-v4") for note in data.admit())


# ---- what is played -----------------------------------------------------------------------------------


def test_minari_s_environment_for_evaluation_is_played(minari_folder: Path) -> None:
    anywhere = [[cell if cell == 1 else 0 for cell in row] for row in UMAZE]
    data = ant_maze(minari_folder, evaluated=sets.ant_maze(continuing_task=False), maze=anywhere)
    assert data.env.id == UMAZE_ID.replace(")", ",continuing_task=False)")
    assert np.flatnonzero(data.load().terminated).tolist() == [4, 9, 14]


def test_data_may_record_more_tasks_than_are_played(minari_folder: Path, tmp_path: Path) -> None:
    """Where the metadata do not say which are played, the user does."""
    every: dict[str, Any] = {
        "tasks_to_complete": ["hinge cabinet", "slide cabinet", "top burner", *sets.TASKS]
    }
    data = kitchen(minari_folder, evaluated=sets.kitchen(), **every)
    assert data.env.id == "Kitchen-Mixed-v0"
    assert data.load().reward.tolist() == EPISODES * 4 * [0.0, 1.0]
    with pytest.raises(UserError, match="takes four of more"):
        kitchen(minari_folder, "minari:own/kitchen-v0", **every)
    import_file("minari:own/kitchen-v0", tmp_path / "mine.hdf5", Imported("Kitchen-Mixed-v0", {}))
    assert np.array_equal(find_dataset(f"file:{tmp_path / 'mine.hdf5'}").load().obs, data.load().obs)


@pytest.mark.parametrize(
    ("kind", "env_id"), [("complete", "Complete"), ("partial", "Complete"), ("mixed", "Mixed")]
)
def test_kitchens_are_known_before_they_are_fetched(kind: str, env_id: str) -> None:
    data = find_dataset(f"minari:D4RL/kitchen/{kind}-v2")
    assert (data.present, data.env.id) == (False, f"Kitchen-{env_id}-v0")


# ---- commands -----------------------------------------------------------------------------------------


def test_check_and_info(minari_folder: Path, o2obench: Command) -> None:
    ant_maze(minari_folder)
    kitchen(minari_folder)
    assert f"{ANT}: good, 36 rows, 3 episodes" in o2obench("data", "check", ANT).stdout
    assert f"{KITCHEN}: good, 24 rows, 3 episodes" in o2obench("data", "check", KITCHEN).stdout
    shown = o2obench("data", "info", ANT).stdout
    assert "score 0 and 100      success 0 and 1 (the rate of success)" in shown
    assert f"environment          {UMAZE_ID}" in shown
    shown = o2obench("data", "info", KITCHEN).stdout
    assert "score 0 and 100      returns 0 and 4 (tasks done of 4)" in shown
    refused = o2obench("run", "mopo", KITCHEN, "--defaults")
    assert (
        "nobody has written down when Kitchen-Mixed-v0 ends, which rollouts in a model need" in refused.stderr
    )


@pytest.mark.parametrize("make", [ant_maze, kitchen])
def test_a_set_can_be_imported(make: Any, minari_folder: Path, tmp_path: Path) -> None:
    data = make(minari_folder)
    import_file(data.name, tmp_path / "mine.hdf5", Imported(data.env.id, {}))
    loaded, own = find_dataset(f"file:{tmp_path / 'mine.hdf5'}").load(), data.load()
    assert all(np.array_equal(getattr(loaded, n), getattr(own, n)) for n in own.__dataclass_fields__)


@pytest.mark.slow
@pytest.mark.parametrize("make", [ant_maze, kitchen])
def test_offline_and_fine_tuning_runs(
    make: Any, minari_folder: Path, o2obench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in ("EPISODES", "FINAL_EPISODES"):
        monkeypatch.setattr(expand, count, 2)
    data = make(minari_folder, **({"steps": 40} if make is ant_maze else {}))
    few = ("--updates", "20", "--defaults", "--eager")
    done = o2obench("run", "bc", data.name, *few)
    assert done.returncode == 0, done.stderr
    online = ("--steps", "300", "--every", "300", "--set", "learning_starts=290")
    done = o2obench("run", "iql_finetune", data.name, *few, *online)
    assert done.returncode == 0, done.stderr
    [evaluations] = Path("results").glob("*/iql_finetune/*/seed-0/evaluations.jsonl")
    last = json.loads(evaluations.read_text().splitlines()[-1])
    assert (last["env_steps"], len(last["returns"])) == (300, 2)
    assert last["updates"] > 0
    assert set(last["returns"]) <= ({0.0, 1.0} if make is ant_maze else {0.0, 1.0, 2.0, 3.0, 4.0})
    episodes = evaluations.with_name("episodes.jsonl").read_text().splitlines()
    assert json.loads(episodes[0])["length"] == data.env.horizon
