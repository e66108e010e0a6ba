"""One's own files become data sets: columns are guessed and shown or named, what is no data is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from o2obench.datasets.importing import Imported, import_file
from o2obench.datasets.registry import find_dataset
from o2obench.errors import UserError
from tests.conftest import Command
from tests.helpers.datasets import hopper_arrays, minari_episodes, write_minari

ARRAYS = hopper_arrays(400)
ENV = "Hopper-v4"
OURS = {"obs": "observations", "action": "actions", "reward": "rewards", "next_obs": "next_observations"}


def named(*names: str) -> dict[str, Any]:
    """Return the arrays under other names, in the order of D4RL's."""
    return dict(zip(names, ARRAYS.values(), strict=False))


def flat(arrays: dict[str, Any], mark: str = "_") -> pd.DataFrame:
    """Return a table with a column for each component of a vector."""
    columns: dict[str, Any] = {}
    for name, values in arrays.items():
        if values.ndim == 1:
            columns[name] = values.astype(int) if values.dtype == bool else values
        else:
            columns |= {f"{name}{mark}{i}": values[:, i] for i in range(values.shape[1])}
    return pd.DataFrame(columns)


def as_npz(file: Path) -> None:
    np.savez(file, **named("obs", "act", "rew", "terminated", "truncated", "next_obs"))


def as_compressed_npz(file: Path) -> None:
    arrays = named("Observations", "ACTIONS", "reward", "terminals", "timeouts", "next_observations")
    arrays["reward"] = arrays["reward"][:, None].astype(np.float64)
    np.savez_compressed(file, **arrays)


def as_csv(file: Path) -> None:
    flat(named("obs", "action", "reward", "terminated", "truncated", "next_obs")).to_csv(file, index=False)


def as_semicolons(file: Path) -> None:
    table = flat(named("state", "action", "reward", "terminal", "timeout", "next_state"), ".")
    table.to_csv(file, index=False, sep=";", encoding="utf-8-sig")


def as_parquet(file: Path) -> None:
    arrays = named("obs", "action", "reward", "terminated", "truncated", "next_obs")
    pd.DataFrame({name: list(values) for name, values in arrays.items()}).to_parquet(file)


def as_hdf5(file: Path) -> None:
    with h5py.File(file, "w") as root:
        for name, values in named("states", "acts", "rews", "terminated", "truncated", "next_states").items():
            root[name] = values
        root["infos"] = np.zeros(3)
        root.create_group("metadata")


KINDS = {
    "a.npz": as_npz,
    "b.npz": as_compressed_npz,
    "a.csv": as_csv,
    "b.csv": as_semicolons,
    "a.parquet": as_parquet,
    "a.hdf5": as_hdf5,
}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", KINDS)
def test_what_was_in_the_file_is_in_the_data_set(name: str, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name)
    said = import_file(str(tmp_path / name), tmp_path / "mine.hdf5", Imported(ENV, {}))
    assert "reward" in said
    columns = find_dataset(f"file:{tmp_path / 'mine.hdf5'}").columns()
    for mine, theirs in zip((columns.obs, columns.action, columns.next_obs), (0, 1, 5), strict=True):
        np.testing.assert_allclose(mine, list(ARRAYS.values())[theirs], rtol=1e-6)
    np.testing.assert_allclose(columns.reward, ARRAYS["rewards"], rtol=1e-6)
    assert (columns.terminated == ARRAYS["terminals"]).all()
    assert (columns.truncated[:-1] == ARRAYS["timeouts"][:-1]).all()
    card = json.loads((tmp_path / "mine.json").read_text())
    assert card["environment"] == ENV
    assert len(card["imported"]["sha256"]) == 64
    made = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert made == {name, "mine.hdf5", "mine.json"}, "no temporary file is left"


@pytest.mark.usefixtures("in_this_process")
def test_ends_by_done_and_by_the_number_of_the_episode(tmp_path: Path) -> None:
    ends = ARRAYS["terminals"] | ARRAYS["timeouts"]
    episode = np.concatenate([[0], np.cumsum(ends)[:-1]])
    parts = {key: ARRAYS[key] for key in ("observations", "actions", "rewards", "terminals")}
    np.savez(tmp_path / "numbered.npz", **parts, episode_id=episode)
    import_file(str(tmp_path / "numbered.npz"), tmp_path / "n.hdf5", Imported(ENV, {}))
    columns = find_dataset(f"file:{tmp_path / 'n.hdf5'}").columns()
    assert (columns.ends[:-1] == ends[:-1]).all()
    assert (columns.terminated == ARRAYS["terminals"]).all()
    assert columns.known is not None, "nobody says what came after an episode's last row"
    rest = {key: ARRAYS[key] for key in ("observations", "actions", "rewards", "next_observations")}
    np.savez(tmp_path / "done.npz", **rest, dones=ends, terminated=ARRAYS["terminals"])
    import_file(str(tmp_path / "done.npz"), tmp_path / "d.hdf5", Imported(ENV, {}))
    columns = find_dataset(f"file:{tmp_path / 'd.hdf5'}").columns()
    assert (columns.truncated[:-1] == ARRAYS["timeouts"][:-1]).all()


GIVEN = {
    "obs": "q",
    "action": "u",
    "reward": "cost",
    "terminated": "dead",
    "truncated": "late",
    "next-obs": "q_after",
}


def test_names_that_nobody_can_guess_are_given(tmp_path: Path, o2obench: Command) -> None:
    np.savez(tmp_path / "x.npz", **named(*GIVEN.values()))
    out = tmp_path / "x.hdf5"
    guessed = o2obench("data", "import", tmp_path / "x.npz", "--env", ENV, "-o", out)
    assert guessed.returncode == 2
    assert len(guessed.stderr.splitlines()) == 3, "a line for each that is needed"
    assert "name it with --obs; found q (400, 11), u (400, 3)" in guessed.stderr
    flags = [f"--{flag}={name}" for flag, name in GIVEN.items()]
    given = o2obench("data", "import", tmp_path / "x.npz", "--env", ENV, "-o", out, *flags)
    assert given.returncode == 0, given.stderr
    assert "obs         q" in given.stdout
    assert "good" in o2obench("data", "check", f"file:{out}").stdout
    again = o2obench("data", "import", tmp_path / "x.npz", "--env", ENV, "-o", out, *flags)
    assert "exists; a data set is never overwritten" in again.stderr


def test_a_minari_set_takes_what_its_metadata_lack(tmp_path: Path, o2obench: Command) -> None:
    folder = tmp_path / "m" / "own" / "hop-v0"
    write_minari(folder, minari_episodes(400))
    metadata = folder / "data" / "metadata.json"
    value = json.loads(metadata.read_text())
    del value["env_spec"]
    metadata.write_text(json.dumps(value))
    user = {"MINARI_DATASETS_PATH": str(tmp_path / "m")}
    assert "env_spec: missing" in o2obench("data", "check", "minari:own/hop-v0", **user).stderr
    words = ("data", "import", "minari:own/hop-v0", "--env", ENV, "-o", tmp_path / "mine.hdf5")
    done = o2obench(*words, "--ref-min", "1", "--ref-max", "3", **user)
    assert done.returncode == 0, done.stderr
    scores = find_dataset(f"file:{tmp_path / 'mine.hdf5'}").scores
    assert (scores.ref_min, scores.ref_max) == (1.0, 3.0)


def objects(file: Path) -> None:
    np.savez(file, **named("obs", "action"), reward=np.array([{}] * 400, object))


def with_words(file: Path) -> None:
    table = flat(named("obs", "action", "reward", "terminated", "truncated", "next_obs"))
    table["reward"] = "high"
    table.to_csv(file, index=False)


def cut(file: Path) -> None:
    as_npz(file)
    os.truncate(file, 900)


def of_bombs(file: Path) -> None:
    np.savez_compressed(file, observations=np.zeros((10_000, 1000), np.float32))


BAD = {
    "objects.npz": (objects, "never unpickled"),
    "words.csv": (with_words, "reward: holds object, expected numbers in every row"),
    "bomb.npz": (of_bombs, "declares 40,000,"),
    "cut.npz": (cut, "is not an .npz file, or is cut off"),
    "short.npz": (
        lambda file: np.savez(file, **named("obs", "action") | {"reward": ARRAYS["rewards"][:-1]}),
        "reward: 399 rows, the observations have 400",
    ),
    "other.npz": (
        lambda file: np.savez(file, **named("obs", "action", "reward") | {"obs": np.zeros((400, 17))}),
        "obs: shape (400, 17): expected (400, 11) for Hopper-v4",
    ),
    "twice.npz": (
        lambda file: np.savez(file, **named("obs", "action", "reward"), state=ARRAYS["observations"]),
        "obs and state may both be the obs; say which with --obs",
    ),
    "flags.npz": (
        lambda file: np.savez(file, **named("obs", "action", "reward"), terminated=np.full(400, 2)),
        "terminated: holds other values than 0 and 1",
    ),
    "empty.csv": (lambda file: file.write_text(""), "is not a table"),
    "page.parquet": (lambda file: file.write_text("<html>"), "is not a Parquet file"),
    "page.hdf5": (lambda file: file.write_text("<html>"), "is a web page, not the data"),
    "nan.npz": (
        lambda file: np.savez(
            file, **named("obs", "action", "r", "terminals", "timeouts") | {"obs": np.full((400, 11), np.nan)}
        ),
        "not a number",
    ),
    "what.pkl": (lambda file: file.write_text(""), "its kind is not known"),
}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_data_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    make, message = BAD[name]
    make(tmp_path / name)
    with pytest.raises(UserError) as refused:
        import_file(str(tmp_path / name), tmp_path / "mine.hdf5", Imported(ENV, {}))
    assert message in str(refused.value)
    assert name in str(refused.value)
    assert all("\n" not in problem for problem in refused.value.problems)
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing is left behind"


def test_scores_of_an_environment_are_measured(tmp_path: Path, o2obench: Command) -> None:
    shown = o2obench("data", "scores", "PointMass-v0", "--episodes", "5")
    assert shown.returncode == 0, shown.stderr
    assert "5 episodes of uniform random actions (seed 0)" in shown.stdout
    assert "ref_max" not in shown.stdout
    refused = o2obench("data", "scores", "PointMass-v0", "--episodes", "5", "--write", tmp_path / "m.hdf5")
    assert "a score of 100 needs an expert; name its policy with --policy" in refused.stderr
    assert not list(tmp_path.glob("m.*"))
    weight = np.zeros((4, 2), np.float32)
    weight[[0, 1], [0, 1]] = -1.0  # towards the origin
    np.savez(tmp_path / "policy.npz", weight_0=weight, bias_0=np.zeros(2, np.float32))
    words = ("data", "scores", "PointMass-v0", "--policy", tmp_path / "policy.npz", "--episodes", "5")
    done = o2obench(*words, "--write", tmp_path / "m.hdf5")
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "m.json").read_text())
    assert card["environment"] == "PointMass-v0"
    assert card["ref_min"] < card["ref_max"]
    assert "and of the policy of SHA-256" in card["source"]
