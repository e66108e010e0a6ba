"""Data: the D4RL layout is read with the right ends of episodes, and a bad file is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from o2obench import dataset
from o2obench.dataset.describe import episode_returns
from o2obench.dataset.hdf5 import read_transitions
from o2obench.env import find_env
from o2obench.errors import BadInput
from o2obench.pointmass import mixed_data
from o2obench.scores import reference, references

HOPPER = find_env("Hopper-v4")


def good_arrays(rows: int = 60) -> dict[str, Any]:
    """Return three episodes of 20 rows: one ends by the task, one by the clock, one is cut off."""
    random = np.random.default_rng(0)
    obs = random.normal(size=(rows + 1, 11)).astype(np.float32)
    next_obs = obs[1:].copy()
    next_obs[19::20] += 1.0  # the true successor of an episode's last row is not the next episode's start
    terminals, timeouts = np.zeros(rows, bool), np.zeros(rows, bool)
    terminals[19], timeouts[39] = True, True
    return {
        "observations": obs[:-1],
        "actions": random.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "rewards": random.normal(size=rows).astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": next_obs,
    }


def write(path: Path, arrays: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return path


def test_a_good_file_is_read_as_it_is(tmp_path: Path) -> None:
    arrays = good_arrays()
    data = read_transitions(write(tmp_path / "a.hdf5", arrays), HOPPER)
    assert np.array_equal(data.next_obs, arrays["next_observations"])
    assert np.flatnonzero(data.terminated).tolist() == [19]
    assert np.flatnonzero(data.truncated).tolist() == [39, 59]
    assert np.flatnonzero(data.episode_start).tolist() == [0, 20, 40]
    assert {getattr(data, name).dtype for name in ("obs", "action", "reward", "next_obs")} == {np.dtype("f4")}
    returns, lengths = episode_returns(data)
    assert lengths.tolist() == [20, 20, 20]
    assert returns[0] == pytest.approx(arrays["rewards"][:20].sum(), rel=1e-5)


def test_without_next_observations_none_runs_over_an_end(tmp_path: Path) -> None:
    arrays = good_arrays()
    del arrays["next_observations"]
    data = read_transitions(write(tmp_path / "a.hdf5", arrays), HOPPER)
    assert len(data) == 57, "the three last rows have no known successor"
    assert np.array_equal(data.next_obs[:19], arrays["observations"][1:20])
    assert not data.terminated.any()


def test_rewards_of_shape_n_1_and_float64_are_accepted(tmp_path: Path) -> None:
    arrays = good_arrays()
    arrays |= {
        "rewards": arrays["rewards"][:, None],
        "observations": arrays["observations"].astype(np.float64),
    }
    assert read_transitions(write(tmp_path / "a.hdf5", arrays), HOPPER).reward.shape == (60,)


def change(key: str, edit: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(arrays: dict[str, Any]) -> None:
        arrays[key] = edit(arrays[key].copy())

    return apply


def put(key: str, index: Any, value: float) -> Callable[[dict[str, Any]], None]:
    def edit(array: Any) -> Any:
        array[index] = value
        return array

    return change(key, edit)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda a: a.pop("rewards"), ":/rewards: missing; the D4RL layout needs it"),
        (lambda a: a.pop("timeouts"), ":/timeouts: missing"),
        (
            change("observations", lambda x: x[:, :10]),
            ":/observations: shape (60, 10), expected (60, 11) for Hopper",
        ),
        (change("actions", lambda x: x[:50]), ":/actions: shape (50, 3), expected (60, 3)"),
        (change("rewards", lambda x: x[:59]), ":/rewards: shape (59,), expected (60,)"),
        (change("observations", lambda x: x.astype("S8")), ":/observations: type |S8, expected numbers"),
        (put("observations", (7, 2), np.nan), ":/observations[7, 2]: not finite (1 such values)"),
        (put("rewards", 9, np.inf), ":/rewards[9]: not finite"),
        (put("actions", (3, 1), 1.5), ":/actions[3, 1]: 1.5 is outside [-1.0, 1.0] of Hopper-v4"),
        (change("terminals", lambda x: x.astype(int) * 2), ":/terminals[19]: 2, expected 0 or 1"),
        (
            put("timeouts", 39, False),
            ":/next_observations[39]: differs from observations[40] although no episode ends",
        ),
        (put("next_observations", (5, 0), 50.0), ":/next_observations[5]: differs from observations[6]"),
    ],
)
def test_a_bad_file_is_refused_by_key(tmp_path: Path, harm: Any, message: str) -> None:
    arrays = good_arrays()
    harm(arrays)
    with pytest.raises(BadInput) as caught:
        read_transitions(write(tmp_path / "bad.hdf5", arrays), HOPPER)
    assert f"bad.hdf5{message}" in str(caught.value)


def test_links_groups_and_lies_about_size_are_refused(tmp_path: Path) -> None:
    other = write(tmp_path / "other.hdf5", good_arrays())
    arrays = good_arrays()
    del arrays["rewards"]
    file = write(tmp_path / "link.hdf5", arrays)
    with h5py.File(file, "a") as root:
        root["rewards"] = h5py.ExternalLink(other, "/rewards")
    with pytest.raises(BadInput, match="/rewards: is a link to another place"):
        read_transitions(file, HOPPER)
    with h5py.File(file, "a") as root:
        del root["rewards"]
        root.create_group("rewards")
    with pytest.raises(BadInput, match="/rewards: is a group"):
        read_transitions(file, HOPPER)
    with h5py.File(file, "a") as root:
        del root["rewards"]
        root.create_dataset("rewards", shape=(2**33,), dtype="f4", chunks=(2**16,))
    with pytest.raises(BadInput, match="/rewards: declares 34359738368 bytes in a file of"):
        read_transitions(file, HOPPER)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    content = write(tmp_path / "a.hdf5", good_arrays()).read_bytes()
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadInput, match=r"cut\.hdf5: not a whole HDF5 file"):
        read_transitions(cut, HOPPER)


def test_actions_are_mapped_to_the_unit_box() -> None:
    pendulum = find_env("InvertedPendulum-v4")
    assert pendulum.to_unit(np.array([-3.0, 0.0, 3.0])).tolist() == [-1.0, 0.0, 1.0]
    assert pendulum.from_unit(np.array([-1.0, 0.5, 1.0])).tolist() == [-3.0, 1.5, 3.0]


def test_the_embedded_data_are_good_and_replay_in_the_simulator() -> None:
    found = dataset.find("invertedpendulum-replay-v0")
    assert found.embedded
    assert found.file is not None
    assert found.file.stat().st_size < 6e6
    data = found.load()
    assert 30_000 <= len(data) <= 50_000
    env = found.env.make()
    env.reset(seed=0)
    simulator = env.unwrapped
    with h5py.File(found.file) as root:
        qpos, qvel = root["infos/qpos"][()], root["infos/qvel"][()]
    random = np.random.default_rng(0)
    for row in random.choice(len(data), 200, replace=False):
        simulator.set_state(qpos[row].astype(np.float64), qvel[row].astype(np.float64))
        assert np.allclose(simulator._get_obs(), data.obs[row], atol=1e-5)
        obs, reward, *_ = simulator.step(found.env.from_unit(data.action[row]))
        assert np.allclose(obs, data.next_obs[row], atol=1e-3), row
        assert reward == pytest.approx(float(data.reward[row]), abs=1e-4)


def test_scores_are_normalised_to_100() -> None:
    hopper = reference("hopper-medium-v2")
    assert hopper.score(hopper.ref_max) == 100.0
    assert hopper.score(np.array([hopper.ref_min])).tolist() == [0.0]
    assert all(entry.source for entry in references().values())
    assert all(entry.ref_max > entry.ref_min for entry in references().values())


def test_toy_data_are_always_the_same() -> None:
    a, b = mixed_data(), mixed_data()
    assert all(np.array_equal(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    assert dataset.find("pointmass-mixed-v0").sha256() == dataset.find("pointmass-mixed-v0").sha256()


def test_other_bytes_than_planned_are_refused() -> None:
    with pytest.raises(BadInput, match=r"SHA-256 is .*, the run was planned on 000000000000"):
        dataset.find("invertedpendulum-replay-v0").load("0" * 64)
