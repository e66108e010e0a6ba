"""Files without next observations: rows out of order, and ends that nobody marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from o2obench.datasets import registry as datasets
from o2obench.datasets import validation
from o2obench.datasets.isolated_validation import examine, read_columns
from o2obench.envs.spec import find_env
from o2obench.errors import UserError
from o2obench.util.files import sha256
from tests.helpers.datasets import Arrays, write, write_minari

SETS = [f"o2o:{task}-medium-replay-v0" for task in ("hopper", "halfcheetah", "walker2d")]
EPISODES = 92


def stored(name: str = SETS[0]) -> Arrays:
    """Return the first episodes of a packaged set, without next observations."""
    columns = datasets.find_dataset(name).columns()
    ends = np.flatnonzero(columns.ends)
    stop = int(ends[min(EPISODES, len(ends) - 1)]) + 1
    return {
        "observations": columns.obs[:stop],
        "actions": columns.action[:stop],
        "rewards": columns.reward[:stop],
        "terminals": columns.terminated[:stop].copy(),
        "timeouts": columns.truncated[:stop].copy(),
    }


def admitted(file: Path) -> datasets.Dataset:
    file.with_suffix(".json").write_text('{"environment": "Hopper-v4"}')
    return datasets.find_dataset(f"file:{file}")


@pytest.mark.parametrize("name", SETS)
def test_good_sets_raise_no_alarm(tmp_path: Path, name: str) -> None:
    env = datasets.find_dataset(name).env
    notes = examine(write(tmp_path / "good.hdf5", stored(name)), env)
    assert validation.UNMARKED not in " ".join(notes)


def test_shuffled_rows_are_refused(tmp_path: Path) -> None:
    arrays = stored()
    order = np.random.default_rng(0).permutation(len(arrays["rewards"]))
    file = write(tmp_path / "shuffled.hdf5", {key: array[order] for key, array in arrays.items()})
    with pytest.raises(UserError, match="the rows do not follow each other; write them in the order"):
        examine(file, find_env("Hopper-v4"))


def test_a_few_unmarked_ends_are_taken_for_time_outs_and_not_learnt_over(tmp_path: Path) -> None:
    arrays = stored()
    rows = np.flatnonzero(arrays["terminals"])[[3, 40, 77]]
    arrays["terminals"][rows] = False
    data = admitted(write(tmp_path / "unmarked.hdf5", arrays))
    if len(rows) > validation.FEW * len(arrays["rewards"]):
        with pytest.raises(UserError, match=r"no end is marked before it \(3 such rows\)"):
            data.admit()
        return
    assert "3 ends that are not marked (the next row is a start), taken for time-outs" in data.admit()
    columns = data.columns()
    assert columns.truncated[rows].all()
    assert columns.known is not None
    assert not columns.known[rows].any(), "no transition leads from a fall to a start"


def test_many_unmarked_ends_are_refused_at_the_first(tmp_path: Path) -> None:
    arrays = stored()
    rows = np.flatnonzero(arrays["terminals"])[::2]
    arrays["terminals"][rows] = False
    with pytest.raises(UserError) as refused:
        examine(write(tmp_path / "unmarked.hdf5", arrays), find_env("Hopper-v4"))
    [line] = [text for text in refused.value.problems if "no end is marked" in text]
    assert f"/observations[{rows[0] + 1}]: is the start of an episode" in line


def test_episodes_of_minari_are_looked_into_too(tmp_path: Path) -> None:
    arrays = stored()
    stops = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])[::2] + 1
    episodes = [
        {
            "observations": np.concatenate([arrays["observations"][a:b], arrays["observations"][b - 1 : b]]),
            "actions": arrays["actions"][a:b],
            "rewards": arrays["rewards"][a:b],
            "terminations": np.zeros(b - a, bool),
            "truncations": np.arange(b - a) == b - a - 1,
        }
        for a, b in zip([0, *stops[:-1]], stops, strict=True)
    ]
    with pytest.raises(UserError, match=r"episode_\d+/observations\[\d+\]: is the start of an episode"):
        examine(write_minari(tmp_path / "set-v0", episodes), find_env("Hopper-v4"))


def test_a_repaired_file_is_its_own_data_set(tmp_path: Path) -> None:
    """Marking an end changes what is learnt, never the hash that names the data."""
    file = write(tmp_path / "a.hdf5", stored())
    before = sha256(file)
    read_columns(file, find_env("Hopper-v4"), validation.Summary(file))
    assert sha256(file) == before
