"""Adroit as D4RL has it: how episodes end, what is paid, and files in its layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from o2obench.datasets.importing import Imported, import_file
from o2obench.datasets.registry import data_folder, dataset_names, find_dataset
from o2obench.envs.adroit import HANDS
from o2obench.envs.spec import find_env
from o2obench.errors import UserError
from tests.helpers.datasets import played_arrays, write

SETS = [(task, f"{task}-human-v1") for task in ("pen", "door", "hammer", "relocate")]


def returns_of_random_actions(name: str, episodes: int) -> Any:
    spec, random, returns = find_env(name), np.random.default_rng(0), []
    env = spec.make()
    env.reset(seed=0)
    for _ in range(episodes):
        env.reset()
        total, ended = 0.0, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(random.uniform(-1, 1, spec.act_dim))
            total, ended = total + reward, terminated or truncated
        returns.append(total)
    return np.array(returns)


@pytest.mark.slow
def test_random_actions_score_on_the_pen_what_d4rl_says() -> None:
    """96.26 there; Gymnasium-Robotics' own task, which never ends, has -437."""
    returns = returns_of_random_actions("Pen-v1", 400)
    assert abs(returns.mean() - 96.262799) < 3 * returns.std() / np.sqrt(len(returns)) < 60


@pytest.mark.parametrize(("name", "score"), [("Door-v1", 1.0), ("Hammer-v1", 1.0), ("Relocate-v1", 1.0)])
def test_random_actions_score_next_to_nothing_elsewhere(name: str, score: float) -> None:
    reference = next(find_dataset(data).scores for _, data in SETS if find_dataset(data).env.id == name)
    assert abs(reference.score(returns_of_random_actions(name, 3).mean())) < score


def test_the_pen_s_height_ends_its_episodes() -> None:
    spec, random = find_env("Pen-v1"), np.random.default_rng(0)
    env = spec.make()
    env.reset(seed=0)
    core, ended = env.unwrapped, False
    while not ended:
        obs, _, ended, truncated, _ = env.step(random.uniform(-1, 1, 24))
        assert obs[26] == core.data.xpos[core.obj_body_id][2]
        assert ended == (obs[26] < 0.075)
        assert not truncated


def solve(core: Any) -> None:
    """Put the scene of an Adroit task into its goal."""
    import mujoco

    if hasattr(core, "eps_ball_site_id"):  # the pen's target takes the pen's pose
        core.model.body_quat[core.target_obj_body_id] = core.data.xquat[core.obj_body_id]
        core.model.site_pos[core.eps_ball_site_id] = core.data.xpos[core.obj_body_id] - (
            core.data.site_xpos[core.eps_ball_site_id] - core.model.site_pos[core.eps_ball_site_id]
        )
    elif hasattr(core, "door_hinge_addrs"):
        core.data.qpos[core.door_hinge_addrs] = 1.5
    else:
        core.model.site_pos[core.target_obj_site_id] = core.data.xpos[core.obj_body_id]
    mujoco.mj_forward(core.model, core.data)


@pytest.mark.parametrize("name", [name for name, hand in HANDS.items() if hand.binary])
def test_binary_tasks_cost_a_step_until_success_which_ends_them(name: str) -> None:
    env = find_env(name).make()
    env.reset(seed=0)
    random = np.random.default_rng(0)
    for done in (False,) * 5 + (True,):
        if done:
            solve(env.unwrapped)
        action = np.zeros(env.action_space.shape) if done else random.uniform(-1, 1, env.action_space.shape)
        _, reward, terminated, _, info = env.step(action)
        assert (reward, terminated, bool(info["success"])) == (float(done) - 1.0, done, done)


@pytest.mark.parametrize(("task", "name"), SETS)
def test_files_in_d4rl_s_layout_are_read(task: str, name: str) -> None:
    """Without next observations, as D4RL's; people had more time than the task gives."""
    data = find_dataset(name)
    assert data.file == data_folder() / f"{name}.hdf5"
    assert data.env.id == f"{task.title()}-v1"
    arrays = played_arrays(data.env, 250)
    if task != "pen":  # of the pen, the rule says when it ends
        arrays["timeouts"] = np.arange(250) == 249
    del arrays["next_observations"]
    write(data_folder() / f"{name}.hdf5", arrays)
    ends = int((arrays["terminals"] | arrays["timeouts"])[:-1].sum()) + 1
    assert len(data.load()) == 250 - ends
    assert name in dataset_names()


@pytest.mark.parametrize("name", ["pen-human-v0", "pen-human-longhorizon-v1"])
def test_d4rl_s_other_sets_are_not_known(name: str) -> None:
    with pytest.raises(UserError, match="its environment pen is not known here"):
        find_dataset(name)


def test_a_binary_set_is_imported_from_an_npz_without_objects(tmp_path: Path) -> None:
    spec = find_env("Door-Binary-v0")
    arrays = played_arrays(spec, 210)
    arrays["terminals"][-1], arrays["next_observations"][-1, 28], arrays["rewards"][-1] = True, 1.4, 0.0
    np.savez(tmp_path / "door.npz", **{k: v for k, v in arrays.items() if "/" not in k})
    out = data_folder() / "door-binary-v0.hdf5"
    import_file(str(tmp_path / "door.npz"), out, Imported("Door-Binary-v0", {}))
    data = find_dataset("door-binary-v0")
    loaded = data.load()
    assert (loaded.reward.min(), loaded.reward.max(), int(loaded.terminated.sum())) == (-1.0, 0.0, 1)
    assert (data.scores.score(-200.0), data.scores.score(0.0)) == (0.0, 100.0)
    arrays["terminals"][:], arrays["timeouts"][-1] = False, True
    arrays["next_observations"][100:, 28] = arrays["observations"][101:, 28] = 1.4
    np.savez(tmp_path / "on.npz", **{k: v for k, v in arrays.items() if "/" not in k})
    with pytest.raises(UserError, match="go on where Door-Binary-v0 would have ended"):
        import_file(str(tmp_path / "on.npz"), tmp_path / "on.hdf5", Imported("Door-Binary-v0", {}))
