"""Data: the D4RL layout is read with the right ends of episodes, and a bad file is refused by name."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from o2obench import dataset
from o2obench.agent import Transitions
from o2obench.dataset import gate, reference
from o2obench.dataset.admission import read_columns
from o2obench.dataset.describe import episode_returns
from o2obench.env import find_env
from o2obench.errors import BadInput
from o2obench.pointmass import mixed_data
from o2obench.scores import references

from .datasets_for_tests import hopper_arrays, minari_episodes, write, write_minari

HOPPER = find_env("Hopper-v4")


def load(file: Path) -> Transitions:
    """Let a file pass the gate and return its transitions."""
    findings = gate.Findings(file)
    columns = read_columns(file, HOPPER, findings)
    gate.check(columns, HOPPER, findings)
    return gate.transitions(columns, HOPPER)


def test_a_good_file_is_read_as_it_is(tmp_path: Path) -> None:
    arrays = hopper_arrays()
    data = load(write(tmp_path / "a.hdf5", arrays))
    assert np.array_equal(data.next_obs, arrays["next_observations"])
    assert np.flatnonzero(data.terminated).tolist() == [19]
    assert np.flatnonzero(data.truncated).tolist() == [39, 59]
    assert np.flatnonzero(data.episode_start).tolist() == [0, 20, 40]
    assert {getattr(data, name).dtype for name in ("obs", "action", "reward", "next_obs")} == {np.dtype("f4")}
    returns, lengths = episode_returns(data)
    assert lengths.tolist() == [20, 20, 20]
    assert returns[0] == pytest.approx(arrays["rewards"][:20].sum(), rel=1e-5)


def test_without_next_observations_none_runs_over_an_end(tmp_path: Path) -> None:
    arrays = hopper_arrays()
    del arrays["next_observations"]
    data = load(write(tmp_path / "a.hdf5", arrays))
    assert len(data) == 57, "the three last rows have no known successor"
    assert np.array_equal(data.next_obs[:19], arrays["observations"][1:20])
    assert not data.terminated.any()


def test_final_observations_take_the_place_of_all_next_observations(tmp_path: Path) -> None:
    arrays = hopper_arrays()
    whole = load(write(tmp_path / "whole.hdf5", arrays))
    arrays["final_observations"] = arrays.pop("next_observations")[[19, 39, 59]]
    lean = load(write(tmp_path / "lean.hdf5", arrays))
    assert all(np.array_equal(getattr(whole, n), getattr(lean, n)) for n in whole.__dataclass_fields__)


def test_minari_and_d4rl_layouts_give_the_same_transitions(tmp_path: Path) -> None:
    flat = load(write(tmp_path / "flat.hdf5", hopper_arrays(600)))
    grouped = load(write_minari(tmp_path / "set-v0", minari_episodes(600)))
    assert all(np.array_equal(getattr(flat, n), getattr(grouped, n)) for n in flat.__dataclass_fields__)


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
