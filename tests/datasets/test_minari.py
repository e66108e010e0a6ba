"""Minari's sets: formats that are not read, and what their metadata say of the environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from o2obench.datasets.minari import arriving
from o2obench.datasets.registry import find_dataset
from o2obench.errors import UserError
from tests.conftest import Command
from tests.helpers.datasets import minari_episodes, minari_metadata, write_minari

MONITOR = {"name": "Monitor", "entry_point": "stable_baselines3.common.monitor:Monitor", "kwargs": None}
STATISTICS = {
    "name": "RecordEpisodeStatistics",
    "entry_point": "gymnasium.wrappers.common:RecordEpisodeStatistics",
    "kwargs": {"buffer_length": 100, "stats_key": "episode"},
}


@pytest.fixture(autouse=True)
def minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def made_in(folder: Path, **spec: Any) -> None:
    """Write the set own/hop-v0 whose metadata describe its environment so."""
    episodes = minari_episodes()
    text = json.dumps({"id": "Hopper-v4", "kwargs": {}, **spec})
    write_minari(folder / "own" / "hop-v0", episodes, {**minari_metadata(episodes), "env_spec": text})


def test_a_set_in_arrow_format_is_there_and_not_read(o2obench: Command, minari_folder: Path) -> None:
    data = minari_folder / "own" / "arrow-v0" / "data"
    (data / "0").mkdir(parents=True)
    metadata = {**minari_metadata(minari_episodes()), "data_format": "arrow"}
    (data / "metadata.json").write_text(json.dumps(metadata))
    checked = o2obench("data", "check", "minari:own/arrow-v0")
    assert checked.returncode == 2
    assert "data_format: arrow; only hdf5 is read" in checked.stderr
    assert "to convert it" in checked.stderr
    assert checked.stderr.count("\n") == 1
    assert "missing" not in checked.stderr
    listed = o2obench("data", "list", "minari:own")
    assert listed.returncode == 0
    assert (
        f"minari:own/arrow-v0: cannot be used: {data / 'metadata.json'}: data_format: arrow" in listed.stdout
    )
    assert "arrow-v0" not in o2obench("data", "list", "minari:mujoco").stdout


@pytest.mark.parametrize(
    "spec",
    [
        {"additional_wrappers": [MONITOR, STATISTICS]},
        {"kwargs": {"width": 480, "height": 480, "camera_name": "track", "render_mode": "rgb_array"}},
        {"kwargs": {"reset_noise_scale": 0.005, "healthy_z_range": [0.7, float("inf")]}},
    ],
    ids=["records", "drawing", "defaults"],
)
def test_what_leaves_the_task_as_it_is_is_admitted(minari_folder: Path, spec: dict[str, Any]) -> None:
    made_in(minari_folder, **spec)
    assert find_dataset("minari:own/hop-v0").admit() is not None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"kwargs": {"reset_noise_scale": 0.5, "width": 480}},
            r"env_spec\.kwargs: reset_noise_scale: the data",
        ),
        ({"kwargs": {"gravity": 1}}, "gravity: the data come from a changed Hopper-v4"),
        (
            {"additional_wrappers": [MONITOR, {"entry_point": "gymnasium.wrappers:NormalizeReward"}]},
            "additional_wrappers: gymnasium.wrappers:NormalizeReward: the data",
        ),
        (
            {"additional_wrappers": [{"entry_point": "own.wrappers:Monitor"}]},
            "own.wrappers:Monitor: the data",
        ),
        ({"additional_wrappers": "all"}, "additional_wrappers: all: the data"),
    ],
)
def test_what_changes_the_task_is_refused(minari_folder: Path, spec: dict[str, Any], said: str) -> None:
    made_in(minari_folder, **spec)
    with pytest.raises(UserError, match=said):
        find_dataset("minari:own/hop-v0")


def test_a_set_cannot_be_written_where_minaris_locks_are_refused(tmp_path: Path) -> None:
    said = f"{tmp_path}: its file system refuses HDF5's locks; set HDF5_USE_FILE_LOCKING=FALSE"
    with pytest.raises(UserError, match=said), arriving("own/hop-v0", tmp_path):
        raise OSError("Unable to synchronously open file (unable to lock file, errno = 37)")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_the_way_to_convert_arrow_works(minari_folder: Path) -> None:
    made = minari_episodes()
    for episode in made:
        episode["observations"] = episode["observations"].astype(np.float64)  # as Hopper's space has it
    episodes = [EpisodeBuffer(id=i, **episode, infos={}) for i, episode in enumerate(made)]
    minari.create_dataset_from_buffers("own/arrow-v0", episodes, env="Hopper-v4", data_format="arrow")
    with pytest.raises(UserError, match="to convert it") as refused:
        find_dataset("minari:own/arrow-v0").admit()
    names = {"d": minari.load_dataset("own/arrow-v0"), "minari": minari}
    eval(str(refused.value).partition("minari.load_dataset(...): ")[2], names)
    assert find_dataset("minari:new-v0").admit() is not None
