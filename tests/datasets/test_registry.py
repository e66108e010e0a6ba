"""Data: the D4RL layout is read with the right ends of episodes, and a bad file is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from o2obench.datasets import d4rl, describe, validation
from o2obench.datasets import registry as datasets
from o2obench.datasets.d4rl import read_simulator
from o2obench.datasets.describe import check_text, doubts, info_text
from o2obench.datasets.isolated_validation import read_columns
from o2obench.datasets.reference_scores import references
from o2obench.datasets.registry import reference
from o2obench.datasets.toy import mixed_data
from o2obench.envs.spec import find_env
from o2obench.errors import UserError
from o2obench.transitions import Transitions, episode_returns
from tests.helpers.datasets import hopper_arrays, minari_episodes, write, write_minari

HOPPER = find_env("Hopper-v4")


def load(file: Path) -> Transitions:
    """Let a file pass validation and return its transitions."""
    findings = validation.Summary(file)
    columns = read_columns(file, HOPPER, findings)
    validation.check(columns, HOPPER, findings)
    return validation.transitions(columns, HOPPER)


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


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"rewards": 1e6}, "in other units than those of Hopper-v4"),
        ({"actions": 0.5}, "actions use 50 % of what Hopper-v4 allows: are they scaled to other bounds"),
        (
            {"rewards": 1.0},
            "all 2 episodes that are truncated have 20 steps, Hopper-v4 is played for 1,000 here",
        ),
    ],
)
def test_valid_data_that_look_wrong_are_said_to(tmp_path: Path, change: dict[str, float], doubt: str) -> None:
    arrays = hopper_arrays()
    file = write(tmp_path / "mine.hdf5", {k: v * change[k] if k in change else v for k, v in arrays.items()})
    card = {"environment": "Hopper-v4", "ref_min": -20.0, "ref_max": 3234.0}
    file.with_suffix(".json").write_text(json.dumps(card))
    assert doubt in check_text(f"file:{file}", "")
    assert doubt in info_text(f"file:{file}")


def test_no_packaged_set_is_in_doubt() -> None:
    for name in datasets.dataset_names():
        dataset = datasets.find_dataset(name)
        if dataset.embedded and dataset.present:
            assert not list(doubts(dataset, dataset.load())), name


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


def test_a_few_ends_that_are_not_marked_are_taken_for_time_outs(tmp_path: Path) -> None:
    """One in a thousand rows at most, and a note says so; more are refused (tests/test_gate.py)."""
    arrays = hopper_arrays(4000)
    arrays["timeouts"][39] = False
    file = write(tmp_path / "mine.hdf5", arrays)
    file.with_suffix(".json").write_text('{"environment": "Hopper-v4"}')
    found = datasets.find_dataset(f"file:{file}")
    assert "1 ends that are not marked (next_observations do not go on), taken for time-outs" in found.admit()
    data = found.load()
    assert data.truncated[39]
    assert data.episode_start[40]


def test_an_end_that_is_not_marked_may_join_two_long_episodes(tmp_path: Path) -> None:
    """The repair comes before episodes are measured: 2,000 steps would be too long for Hopper."""
    arrays = hopper_arrays(5000)
    arrays["terminals"][:] = arrays["timeouts"][:] = False
    arrays["next_observations"][:-1] = arrays["observations"][1:]
    arrays["next_observations"][999::1000, 2:] += 1.0
    arrays["next_observations"][-1] = arrays["observations"][-1]
    arrays["timeouts"][[999, 2999, 3999, 4999]] = True
    data = load(write(tmp_path / "a.hdf5", arrays))
    assert np.flatnonzero(data.truncated).tolist() == [999, 1999, 2999, 3999, 4999]


def test_minari_and_d4rl_layouts_give_the_same_transitions(tmp_path: Path) -> None:
    flat = load(write(tmp_path / "flat.hdf5", hopper_arrays(600)))
    grouped = load(write_minari(tmp_path / "set-v0", minari_episodes(600)))
    assert all(np.array_equal(getattr(flat, n), getattr(grouped, n)) for n in flat.__dataclass_fields__)


def test_actions_are_mapped_to_the_unit_box() -> None:
    pendulum = find_env("InvertedPendulum-v4")
    assert pendulum.to_unit(np.array([-3.0, 0.0, 3.0])).tolist() == [-1.0, 0.0, 1.0]
    assert pendulum.from_unit(np.array([-1.0, 0.5, 1.0])).tolist() == [-3.0, 1.5, 3.0]


EMBEDDED = ["invertedpendulum-replay-v0", *(f"o2o:{task}-medium-replay-v0" for task in datasets.TASKS)]


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_data_are_good_and_replay_in_the_simulator(name: str) -> None:
    found = datasets.find_dataset(name)
    assert found.embedded
    assert found.file is not None
    assert found.file.stat().st_size < 5e6
    data, state = found.load(), read_simulator(found.file)
    assert 30_000 <= len(data) <= 50_000
    assert state
    env = found.env.make()
    env.reset(seed=0)
    simulator = env.unwrapped
    errors = []
    for row in np.random.default_rng(0).choice(len(data), 500, replace=False):
        simulator.set_state(*(part[row].astype(np.float64) for part in state))
        assert np.allclose(simulator._get_obs(), data.obs[row], atol=1e-5)
        obs, reward, *_ = simulator.step(found.env.from_unit(data.action[row]))
        errors.append(np.abs(obs - data.next_obs[row]).max())
        assert reward == pytest.approx(float(data.reward[row]), abs=1e-3)
    assert np.quantile(errors, 0.99) < 1e-4
    assert max(errors) < 2e-3, "float32 states, and contacts that magnify their rounding"


def test_what_observations_tell_of_the_state_is_not_stored_twice(tmp_path: Path) -> None:
    """Velocities that an observation clips are kept; of a task without this form the state is kept whole."""
    random = np.random.default_rng(0)
    arrays = hopper_arrays()
    qvel = arrays["observations"][:, 5:] * 30
    arrays["observations"][:, 5:] = np.clip(qvel, -10, 10)
    arrays["infos/qpos"] = np.concatenate([random.normal(size=(60, 1)), arrays["observations"][:, :5]], 1)
    arrays["infos/qvel"] = qvel
    d4rl.write(tmp_path / "lean.hdf5", arrays, {})
    with h5py.File(tmp_path / "lean.hdf5") as root:
        assert "infos/qpos" not in root
        assert not np.any(root["infos/qvel_cut_off"][()][np.abs(qvel) < 10])
    lean = read_simulator(tmp_path / "lean.hdf5")
    assert lean
    qpos, again = lean
    assert np.array_equal(qpos[:, 1:], arrays["infos/qpos"][:, 1:].astype(np.float32))
    assert np.allclose(again, qvel, rtol=1e-6)
    arrays["infos/qpos"][:, 3] += 1.0
    d4rl.write(tmp_path / "whole.hdf5", arrays, {})
    whole = read_simulator(tmp_path / "whole.hdf5")
    assert whole
    qpos, again = whole
    assert np.array_equal(qpos, arrays["infos/qpos"].astype(np.float32))
    assert np.array_equal(again, qvel)
    assert read_simulator(write(tmp_path / "none.hdf5", hopper_arrays())) is None


MINARI = """
import json, sys
import minari
import numpy as np
data = minari.load_dataset("o2o/hopper/medium-replay-v0")
episodes = list(data.iterate_episodes())
print(json.dumps({
    "environment": data.spec.env_spec.id,
    "steps": int(data.total_steps),
    "observations": [float(e.observations[-1].sum()) for e in episodes],
    "terminated": sum(bool(e.terminations[-1]) for e in episodes),
    "score": minari.get_normalized_score(data, np.array([3234.3])).tolist(),
}))
"""
D3RLPY = """
import json
from d3rlpy.datasets import get_minari
replay, env = get_minari("o2o/hopper/medium-replay-v0")
print(json.dumps({
    "steps": replay.transition_count,
    "returns": [float(e.rewards.sum()) for e in replay.episodes],
    "terminated": sum(bool(e.terminated) for e in replay.episodes),
    "obs": list(replay.episodes[0].observation_signature.shape[0]),
}))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minari")
    describe.export("o2o:hopper-medium-replay-v0", folder)
    return folder


def answer(code: str, root: Path) -> Any:
    """Run a external in a process of its own; it prints one line of JSON last."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "MINARI_DATASETS_PATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_minari_itself_reads_what_is_exported(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.find_dataset("o2o:hopper-medium-replay-v0").load()
    said = answer(MINARI, exported)
    ends = data.terminated | data.truncated
    assert (said["environment"], said["steps"], said["score"]) == ("Hopper-v4", len(data), [1.0])
    assert said["terminated"] == data.terminated.sum()
    assert np.allclose(said["observations"], data.next_obs[ends].sum(axis=1), atol=1e-3)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(exported))
    again = datasets.find_dataset("minari:o2o/hopper/medium-replay-v0").load()
    assert all(np.array_equal(getattr(data, n), getattr(again, n)) for n in data.__dataclass_fields__)
    with pytest.raises(UserError, match="never overwritten"):
        describe.export("o2o:hopper-medium-replay-v0", exported)


@pytest.mark.slow
def test_d3rlpy_reads_what_is_exported(exported: Path) -> None:
    """Steps, returns and ends; its ``get_minari`` (2.8) shifts observations by a row per episode."""
    data = datasets.find_dataset("o2o:hopper-medium-replay-v0").load()
    said = answer(D3RLPY, exported)
    assert (said["steps"], said["obs"]) == (len(data), [11])
    assert said["terminated"] == data.terminated.sum()
    assert np.allclose(said["returns"], episode_returns(data)[0], atol=1e-2)


def test_scores_are_normalised_to_100() -> None:
    hopper = reference("hopper-medium-v2")
    assert hopper.score(hopper.ref_max) == 100.0
    assert hopper.score(np.array([hopper.ref_min])).tolist() == [0.0]
    assert all(entry.source for entry in references().values())
    assert all(entry.ref_max > entry.ref_min for entry in references().values())


def test_toy_data_are_always_the_same() -> None:
    a, b = mixed_data(), mixed_data()
    assert all(np.array_equal(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    assert (
        datasets.find_dataset("pointmass-mixed-v0").sha256()
        == datasets.find_dataset("pointmass-mixed-v0").sha256()
    )


def test_other_bytes_than_planned_are_refused() -> None:
    with pytest.raises(UserError, match=r"SHA-256 is .*, the run was planned on 000000000000"):
        datasets.find_dataset("invertedpendulum-replay-v0").load("0" * 64)
