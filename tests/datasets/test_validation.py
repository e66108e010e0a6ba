"""Validation: over a hundred bad files, each refused by its own message, and good ones of every kind let through.

``pytest tests/test_gate.py -s -k table`` prints the table of cases.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import gzip
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from o2obench.datasets import isolated_validation, validation
from o2obench.datasets import registry as datasets
from o2obench.datasets.isolated_validation import admit, apart, examine, read_columns
from o2obench.envs.spec import EnvSpec, find_env
from o2obench.errors import UserError
from tests.conftest import Command
from tests.helpers import ogbench, robotics_sets
from tests.helpers.datasets import (
    Arrays,
    ant_maze_arrays,
    hopper_arrays,
    kitchen_arrays,
    minari_episodes,
    minari_metadata,
    write,
    write_minari,
)

HOPPER, ANT, KITCHEN = map(find_env, ("Hopper-v4", "AntMaze-UMaze-v2", "Kitchen-Mixed-v0"))
SECONDS = 2.0
"""Within which a file is refused, whatever it declares."""


@dataclass(frozen=True)
class Case:
    """A file, made by ``make(folder)``, and what is said about it; ``shares``: whose line of code says it."""

    name: str
    make: Callable[[Path], Path]
    said: str
    shares: str = ""
    env: EnvSpec | str = HOPPER


# ---- makers -------------------------------------------------------------------------------------------


def raw(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = folder / "a.hdf5"
        file.write_bytes(content)
        return file

    return make


def spoilt(harm: Callable[[Arrays], Any], rows: int = 60) -> Callable[[Path], Path]:
    """A D4RL file whose arrays were changed before writing."""

    def make(folder: Path) -> Path:
        arrays = hopper_arrays(rows)
        harm(arrays)
        return write(folder / "a.hdf5", arrays)

    return make


def change(key: str, edit: Callable[[Any], Any]) -> Callable[[Path], Path]:
    def harm(arrays: Arrays) -> None:
        arrays[key] = edit(arrays[key])

    return spoilt(harm)


def put(key: str, index: Any, value: float) -> Callable[[Path], Path]:
    def edit(array: Any) -> Any:
        array[index] = value
        return array

    return change(key, edit)


def remade(key: str, harm: Callable[[Any, Path], Any]) -> Callable[[Path], Path]:
    """A D4RL file in which one key was removed, and made anew by ``harm(root, folder)``."""

    def make(folder: Path) -> Path:
        file = write(folder / "a.hdf5", hopper_arrays())
        write(folder / "other.hdf5", hopper_arrays())
        with h5py.File(file, "a") as root:
            del root[key]
            harm(root, folder)
        return file

    return make


def declared(**options: Any) -> Callable[[Path], Path]:
    return remade("rewards", lambda root, folder: root.create_dataset("rewards", **options))


def cut(share: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = write(folder / "a.hdf5", hopper_arrays())
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        return file

    return make


def corrupted_header(folder: Path) -> Path:
    content = bytearray(write(folder / "a.hdf5", hopper_arrays()).read_bytes())
    content[8:40] = b"\xff" * 32
    return raw(bytes(content))(folder)


def corrupted_node(folder: Path) -> Path:
    file = write(folder / "a.hdf5", hopper_arrays())
    with h5py.File(file) as root:
        at = h5py.h5o.get_info(root["rewards"].id).addr
    content = bytearray(file.read_bytes())
    content[at : at + 64] = b"\xff" * 64
    return raw(bytes(content))(folder)


def corrupted_values(key: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        arrays = hopper_arrays()
        file = folder / "a.hdf5"
        with h5py.File(file, "w") as root:
            for name, array in arrays.items():
                root.create_dataset(name, data=array, chunks=array.shape, fletcher32=True)
            at = root[key].id.get_chunk_info(0).byte_offset
        content = bytearray(file.read_bytes())
        content[at] ^= 0xFF
        return raw(bytes(content))(folder)

    return make


def still_open(folder: Path) -> Path:
    with h5py.File(folder / "busy.hdf5", "w", libver="latest") as root:
        root.create_dataset("observations", data=np.zeros((4, 11)), maxshape=(None, 11))
        root.swmr_mode = True
        root.flush()
        shutil.copy(folder / "busy.hdf5", folder / "a.hdf5")
    return folder / "a.hdf5"


def named_type(root: Any, folder: Path) -> None:
    root["rewards"] = np.dtype("f4")


def packed(root: Any, folder: Path) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((60,))
    plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((60,))
    h5py.h5d.create(root.id, b"rewards", h5py.h5t.IEEE_F32LE, space, plan)


def packed_zeros(folder: Path) -> Path:
    """Each array may be so large, all together may not."""
    arrays = hopper_arrays(300_000)
    file = folder / "a.hdf5"
    with h5py.File(file, "w", userblock_size=2**16) as root:
        for key, array in arrays.items():
            root.create_dataset(key, data=np.zeros_like(array), compression="gzip")
    return file


def view(root: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(60,), dtype="f4")
    layout[:] = h5py.VirtualSource(folder / "other.hdf5", "rewards", shape=(60,))
    root.create_virtual_dataset("rewards", layout)


def with_card(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = write(folder / "a.hdf5", hopper_arrays())
        with h5py.File(file, "a") as root:
            root.attrs["card"] = text
        return file

    return make


def rows_of(count: int) -> Callable[[Arrays], None]:
    def harm(arrays: Arrays) -> None:
        arrays.update({key: array[:count] for key, array in arrays.items()})

    return harm


def all_ends(arrays: Arrays) -> None:
    arrays["terminals"][:] = True
    arrays["next_observations"][:, 0] = 0.6


def no_ends(arrays: Arrays) -> None:
    arrays["terminals"][:] = arrays["timeouts"][:] = False


def one_end(arrays: Arrays) -> None:
    no_ends(arrays)
    arrays["timeouts"][10] = True


def normalised(arrays: Arrays) -> None:
    for key in ("observations", "next_observations"):
        arrays[key][:, 0] -= 1.2


def swapped_flags(arrays: Arrays) -> None:
    arrays["terminals"], arrays["timeouts"] = arrays["timeouts"], arrays["terminals"]


def only_timeouts(arrays: Arrays) -> None:
    arrays["timeouts"] |= arrays["terminals"]
    arrays["terminals"][:] = False


def only_terminals(arrays: Arrays) -> None:
    arrays["terminals"] |= arrays["timeouts"]
    arrays["timeouts"][:] = False


def over_the_ends(arrays: Arrays) -> None:
    arrays["next_observations"][:-1] = arrays["observations"][1:]


def too_few_finals(arrays: Arrays) -> None:
    arrays["final_observations"] = arrays.pop("next_observations")[:1]


def empty(arrays: Arrays) -> None:
    arrays.clear()
    arrays["data"] = np.zeros(3)


def group(root: Any, folder: Path) -> None:
    root.create_group("observations")["camera"] = np.zeros(3)


def episodes(harm: Callable[[list[Arrays]], Any]) -> Callable[[Path], Path]:
    """A Minari set whose episodes were changed before writing."""

    def make(folder: Path) -> Path:
        made = minari_episodes()
        harm(made)
        return write_minari(folder / "set-v0", made)

    return make


def episode(key: str, edit: Callable[[Any], Any]) -> Callable[[Path], Path]:
    def harm(made: list[Arrays]) -> None:
        made[1][key] = edit(made[1][key])

    return episodes(harm)


def said(**changes: Any) -> Callable[[Path], Path]:
    """A Minari set whose metadata say something else."""

    def make(folder: Path) -> Path:
        made = minari_episodes()
        metadata = {**minari_metadata(made), **changes}
        return write_minari(folder / "set-v0", made, {k: v for k, v in metadata.items() if v is not None})

    return make


def metadata_text(text: str | None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = write_minari(folder / "set-v0", minari_episodes())
        file.with_name("metadata.json").unlink()
        if text is not None:
            file.with_name("metadata.json").write_text(text)
        return file

    return make


def grouped(harm: Callable[[Any], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = write_minari(folder / "set-v0", minari_episodes())
        with h5py.File(file, "a") as root:
            harm(root)
        return file

    return make


def relink(root: Any) -> None:
    root["episode_1"] = h5py.SoftLink("/episode_0")


def gap(root: Any) -> None:
    root.move("episode_1", "episode_7")


def linked(root: Any) -> None:
    del root["episode_1"]
    relink(root)


def flat(root: Any) -> None:
    del root["episode_1"]
    root["episode_1"] = np.zeros(3)


def dict_observations(root: Any) -> None:
    del root["episode_1/observations"]
    root["episode_1/observations/camera"] = np.zeros((21, 3))


def no_steps(made: list[Arrays]) -> None:
    made[1] = {key: array[:1] if key == "observations" else array[:0] for key, array in made[1].items()}


def early_end(made: list[Arrays]) -> None:
    made[0]["terminations"][4] = True


def zeros(*shape: int, dtype: Any = "f4") -> Callable[[Any], Any]:
    return lambda old: np.zeros(shape, dtype)


@functools.cache
def ant_maze(gear: float | None = None) -> Arrays:
    return ant_maze_arrays(ANT, gear=gear)


def of_ant_maze(harm: Callable[[Arrays], Any], gear: float | None = None) -> Callable[[Path], Path]:
    """A file of AntMaze's layout, spoilt."""

    def make(folder: Path) -> Path:
        arrays = dict(ant_maze(gear))
        harm(arrays)
        return write(folder / "a.hdf5", arrays)

    return make


def goal(x: float, y: float, radius: float) -> Callable[[Path], Path]:
    """Rewards of a goal elsewhere, or of another radius."""

    def harm(arrays: Arrays) -> None:
        far = np.linalg.norm(arrays["next_observations"][:, :2] - np.array([x, y]), axis=1)
        arrays["rewards"] = (far < radius).astype(np.float32)

    return of_ant_maze(harm)


def rewards_at_ends(arrays: Arrays) -> None:
    del arrays["next_observations"]
    arrays["rewards"] = (arrays["terminals"] | arrays["timeouts"]).astype(np.float32)


MAZE = "AntMaze_UMaze-v4(maze_map=11111.1g001.11101.1r001.11111,max_episode_steps=700)"


@functools.cache
def robotics_set(kind: str) -> tuple[bytes, dict[str, Any]]:
    """A set of Minari's antmaze or kitchen, as Minari writes it, and its metadata."""
    env = robotics_sets.ant_maze() if kind == "antmaze" else robotics_sets.kitchen()
    act = robotics_sets.towards_the_goal if kind == "antmaze" else robotics_sets.task_by_task
    with tempfile.TemporaryDirectory() as folder:
        file = robotics_sets.write("set-v0", Path(folder), env, robotics_sets.episodes(env, act))
        return file.read_bytes(), json.loads(file.with_name("metadata.json").read_text())


def of_robotics(
    kind: str, harm: Callable[[Any], Any] = lambda root: None, **metadata: Any
) -> Callable[[Path], Path]:
    """Such a set with a spoilt file, or other metadata."""

    def make(folder: Path) -> Path:
        content, known = robotics_set(kind)
        file = raw(content)(folder).rename(folder / "main_data.hdf5")
        with h5py.File(file, "a") as root:
            harm(root)
        file.with_name("metadata.json").write_text(json.dumps({**known, **metadata}))
        return file

    return make


def described(
    kind: str, arguments: Any = (), key: str = "env_spec", **changes: Any
) -> Callable[[Path], Path]:
    """Such a set whose environment is described otherwise."""

    def make(folder: Path) -> Path:
        spec = json.loads(robotics_set(kind)[1]["env_spec"])
        spec["kwargs"].update(arguments)
        metadata: dict[str, Any] = {key: json.dumps({**spec, **changes})}
        return of_robotics(kind, **metadata)(folder)

    return make


def observed(kind: str, path: str, edit: Callable[[Any], Any] | None = None) -> Callable[[Path], Path]:
    """Such a set in whose second episode a part of the observations was changed, or left out."""

    def harm(root: Any) -> None:
        group = root["episode_1/observations"]
        values = group[path][()]
        del group[path]
        if edit:
            group[path] = edit(values)

    return of_robotics(kind, harm)


def flat_observations(root: Any) -> None:
    del root["episode_1/observations"]
    root["episode_1/observations"] = np.zeros((13, 29))


def borrowed_observations(root: Any) -> None:
    del root["episode_1/observations"]
    root["episode_1/observations"] = h5py.ExternalLink("elsewhere.hdf5", "/observations")


def no_achieved_goals(root: Any) -> None:
    del root["episode_1/observations/achieved_goal"]


@functools.cache
def kitchen() -> Arrays:
    return kitchen_arrays(KITCHEN)


def of_kitchen(harm: Callable[[Arrays], Any]) -> Callable[[Path], Path]:
    """A file of Kitchen's layout, spoilt."""

    def make(folder: Path) -> Path:
        arrays = {key: array.copy() for key, array in kitchen().items()}
        harm(arrays)
        return write(folder / "a.hdf5", arrays)

    return make


def standing(arrays: Arrays) -> None:
    total = np.cumsum(arrays["rewards"])
    arrays["rewards"] = (total - 4 * (np.arange(40) > 19)).astype(np.float32)


def no_goal(arrays: Arrays) -> None:
    arrays["observations"][:, 30:] = arrays["next_observations"][:, 30:] = 0.0


MISSING, SHAPE, TYPE, NAN, STRANGER = "a missing key", "another width", "text", "not a number", "a web page"
GOAL = "another goal"

BAD = [
    # files
    Case("no such file", lambda folder: folder / "a.hdf5", "a.hdf5: not found"),
    Case("a folder", lambda folder: folder, ": is not a file"),
    Case("an empty file", raw(b""), "a.hdf5: is empty; delete it"),
    Case(STRANGER, raw(b"<!DOCTYPE html><html>Moved"), "is a web page, not the data"),
    Case("JSON", raw(b'\n{"error": "rate limit"}'), "is JSON, not the data", STRANGER),
    Case("gzip", raw(gzip.compress(b"x" * 99)), "gzip-compressed; unpack it", STRANGER),
    Case("a zip archive", raw(b"PK\x03\x04" + b"x" * 99), "is a zip archive", STRANGER),
    Case("a pickle", raw(b"\x80\x04\x95" + b"x" * 99), "pickles are never opened", STRANGER),
    Case("an old pickle", raw(b"\x80\x03c" + b"x" * 99), "pickles are never opened", STRANGER),
    Case("a numpy array", raw(b"\x93NUMPY" + b"x" * 99), "a single numpy array", STRANGER),
    Case("a git-lfs pointer", raw(b"version https://git-lfs.github.com/spec/v1"), "git lfs pull", STRANGER),
    Case("Parquet", raw(b"PAR1" + b"x" * 99), "is Parquet", STRANGER),
    Case("Arrow", raw(b"ARROW1" + b"x" * 99), "is Arrow", STRANGER),
    Case("noise", raw(bytes(range(256))), "is not an HDF5 file", STRANGER),
    Case("cut at a third", cut(0.3), "a.hdf5: is cut off ("),
    Case("cut near its end", cut(0.95), "a.hdf5: is cut off (", "cut at a third"),
    Case("corrupted header", corrupted_header, "a.hdf5: is corrupted ("),
    Case("still being written", still_open, "is still being written"),
    Case("corrupted node", corrupted_node, ":/rewards: its header is corrupted"),
    Case("corrupted floats", corrupted_values("observations"), ":/observations: its values are corrupted"),
    Case("corrupted flags", corrupted_values("terminals"), ":/terminals: its values are corrupted"),
    # headers
    Case(MISSING, spoilt(lambda a: a.pop("observations")), ":/observations: missing; D4RL's layout needs"),
    Case("no actions", spoilt(lambda a: a.pop("actions")), ":/actions: missing; D4RL's", MISSING),
    Case("no rewards", spoilt(lambda a: a.pop("rewards")), ":/rewards: missing; D4RL's", MISSING),
    Case("no terminals", spoilt(lambda a: a.pop("terminals")), ":/terminals: missing; D4RL's", MISSING),
    Case("no timeouts", spoilt(lambda a: a.pop("timeouts")), ":/timeouts: missing; D4RL's", MISSING),
    Case("nothing known", spoilt(empty), "missing, as is every key of D4RL's layout; found data", MISSING),
    Case(
        "Minari's under D4RL's name",
        lambda folder: write_minari(folder, minari_episodes()).rename(folder / "a.hdf5"),
        ":/observations: missing: this is Minari's layout; name the data set minari:ID",
        MISSING,
    ),
    Case(
        "a link into another file",
        remade(
            "rewards",
            lambda root, folder: root.__setitem__(
                "rewards", h5py.ExternalLink(folder / "other.hdf5", "/rewards")
            ),
        ),
        ":/rewards: is a link into another file (",
    ),
    Case(
        "a link within the file",
        remade("rewards", lambda root, folder: root.__setitem__("rewards", h5py.SoftLink("/terminals"))),
        ":/rewards: is a link to /terminals",
    ),
    Case("a group", remade("observations", group), ":/observations: is a group"),
    Case("a named type", remade("rewards", named_type), ":/rewards: is a named type"),
    Case("a view of another file", remade("rewards", view), ":/rewards: is a view of other files"),
    Case(
        "values kept elsewhere",
        declared(shape=(60,), dtype="f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]),
        ":/rewards: keeps its values in another file (/etc/hostname)",
    ),
    Case("no values", declared(data=h5py.Empty("f4")), ":/rewards: is declared without values"),
    Case("packed by a plug-in", remade("rewards", packed), ":/rewards: is packed with filter 32001"),
    Case("8 TB declared", declared(shape=(2**41,), dtype="f4", chunks=(2**16,)), ":/rewards: declares 8,192 GiB"),
    Case("8 GB declared", declared(shape=(2**31,), dtype="f4", chunks=(2**16,)), "bytes in a file of"),
    Case("a vast chunk", declared(shape=(60,), maxshape=(None,), dtype="f4", chunks=(2**27,)), "stored in pieces of"),
    Case(TYPE, change("observations", lambda x: x.astype("S8")), ":/observations: holds text (|S8)"),
    Case("objects", declared(shape=(60,), dtype=h5py.vlen_dtype("f4")), ":/rewards: holds objects", TYPE),
    Case("records", declared(shape=(60,), dtype=[("a", "f4")]), ":/rewards: holds records", TYPE),
    Case("complex numbers", declared(shape=(60,), dtype="c8"), ":/rewards: holds complex numbers", TYPE),
    Case("text for flags", change("terminals", lambda x: x.astype("S1")), ":/terminals: holds text", TYPE),
    Case("true and false", change("rewards", lambda x: x > 0), ":/rewards: holds true and false"),
    Case("float16", change("observations", lambda x: x.astype("f2")), ":/observations: is float16"),
    Case("discrete actions", change("actions", lambda x: x.astype(int)), ":/actions: holds whole numbers (int64)"),
    Case("bytes", change("observations", lambda x: x.astype("u1")), ":/observations: holds bytes: images"),
    Case("images", change("observations", zeros(60, 8, 8)), ":/observations: shape (60, 8, 8): images"),
    Case("two rewards a row", change("rewards", zeros(60, 2)), ":/rewards: shape (60, 2): expected one number"),
    Case(SHAPE, change("observations", lambda x: x[:, :10]), ":/observations: shape (60, 10): expected rows of 11"),
    Case("another action", change("actions", lambda x: x[:, :2]), ":/actions: shape (60, 2): expected rows of 3", SHAPE),
    Case("another next_obs", change("next_observations", zeros(60, 17)), ":/next_observations: shape (60, 17)", SHAPE),
    Case("one flat array", change("observations", np.ravel), ":/observations: shape (660,): expected rows", SHAPE),
    Case("a scalar", change("observations", lambda x: x[0, 0]), ":/observations: shape (): expected rows", SHAPE),
    Case("fewer actions", change("actions", lambda x: x[:50]), ":/actions: 50 rows, observations has 60"),
    Case("fewer rewards", change("rewards", lambda x: x[:59]), ":/rewards: 59 rows", "fewer actions"),
    Case("fewer flags", change("timeouts", lambda x: x[:59]), ":/timeouts: 59 rows", "fewer actions"),
    Case("one row", spoilt(rows_of(1)), ":/observations: 1 rows; a data set needs at least 2"),
    Case("no rows", spoilt(rows_of(0)), ":/observations: 0 rows", "one row"),
    Case("a card that is not JSON", with_card("{"), ":/: its attribute `card` is not JSON"),
    Case("a card nested for ever", with_card("[" * 60_000), "its attribute `card` is not JSON", "a card that is not JSON"),
    Case("too much in all", packed_zeros, ":/: declares 31,"),
    Case("made elsewhere", with_card('{"environment": "Walker2d-v4"}'), "was made in Walker2d-v4, this is Hopper-v4"),
    # values
    Case(NAN, put("observations", (7, 2), np.nan), ":/observations[7]: not a number (1 such rows)"),
    Case("NaN action", put("actions", (59, 0), np.nan), ":/actions[59]: not a number", NAN),
    Case("NaN reward", put("rewards", 0, np.nan), ":/rewards[0]: not a number", NAN),
    Case("NaN next_obs", put("next_observations", 5, np.nan), ":/next_observations[5]: not a number", NAN),
    Case("infinite", put("rewards", 9, np.inf), ":/rewards[9]: infinite", NAN),
    Case(
        "beyond float32",
        change("rewards", lambda x: x.astype("f8") * 1e300),
        ":/rewards[0]: infinite as float32 (60 such rows)",
        NAN,
    ),
    Case("huge", put("observations", (3, 3), 1e30), ":/observations[3]: 1e+30 is beyond 1e+08 (1 rows)"),
    Case("action out of bounds", put("actions", (3, 1), 1.5), ":/actions[3]: 1.5 is outside [-1, 1] of Hopper-v4"),
    Case("one action for ever", change("actions", lambda x: x * 0 + 0.5), ":/actions: is the same in all 60 rows"),
    Case("tiny actions", change("actions", lambda x: x * 1e-3), "stays within a hundredth of what Hopper-v4 allows"),
    Case(
        "one state for ever",
        spoilt(lambda a: a.update({k: a[k][:1].repeat(60, 0) for k in ("observations", "next_observations")})),
        ":/observations: is the same in all 60 rows",
    ),
    Case("a flag of 2", change("terminals", lambda x: x.astype(int) * 2), ":/terminals[19]: 2, expected 0 or 1"),
    Case("a flag that is NaN", change("timeouts", lambda x: x * np.nan), ":/timeouts[0]: nan, expected", "a flag of 2"),
    Case("no ends", spoilt(no_ends, 1200), ":/timeouts: no end of an episode in 1,200 rows"),
    Case("too long", spoilt(one_end, 1200), ":/timeouts[1010]: an episode of 1,189 steps, Hopper-v4 ends after 1000"),
    Case("nothing but ends", spoilt(all_ends), ":/terminals: all 60 rows end an episode"),
    Case(
        "next_obs not shifted",
        spoilt(lambda a: a.update(next_observations=a["observations"].copy())),
        ":/next_observations: is the same as observations",
    ),
    Case(
        "next_obs in other units",
        spoilt(lambda a: a.update(next_observations=a["next_observations"] * 0.5)),
        ":/next_observations: does not follow from observations in 57 rows",
    ),
    Case(
        "an end not marked",
        put("timeouts", 39, False),
        ":/next_observations[39]: differs from observations[40] although no episode ends there (1 such rows)",
    ),
    Case("one next_obs wrong", put("next_observations", (5, 0), 50.0), ":/next_observations[5]: differs", "an end not marked"),
    Case("over the ends", spoilt(over_the_ends), ":/next_observations[19]: is the first observation of the next episode"),
    Case("too few last states", spoilt(too_few_finals), ":/final_observations: 1 rows for 3 episodes"),
    Case("normalised states", spoilt(normalised), ":/observations[0]: 57 of 57 go on where Hopper-v4 would have ended"),
    Case(
        "time-outs as terminals",
        spoilt(only_terminals, 400),
        ":/terminals[39]: 9 of 19 are set where Hopper-v4 goes on: ends by the clock belong in timeouts",
        "normalised states",
    ),
    Case(
        "terminals as time-outs",
        spoilt(only_timeouts, 400),
        ":/timeouts[19]: 10 of 20 are set where Hopper-v4 ends: these are terminals",
        "normalised states",
    ),
    Case("flags swapped", spoilt(swapped_flags, 400), ":/terminals[39]: 9 of 9 are set where", "normalised states"),
    # Minari's layout
    Case("no metadata", metadata_text(None), "metadata.json: not found"),
    Case("metadata not JSON", metadata_text("{"), "metadata.json: not JSON"),
    Case("metadata nested for ever", metadata_text("[" * 99_999), "metadata.json: not JSON", "metadata not JSON"),
    Case("metadata a list", metadata_text("[]"), "metadata.json: expected an object, found a list"),
    Case("vast metadata", metadata_text(" " * (2**24 + 1)), "metadata.json: 16,777,217 bytes"),
    Case("Arrow's format", said(data_format="arrow"), "metadata.json: data_format: arrow; only hdf5"),
    Case("no count", said(total_episodes="3"), "metadata.json: total_episodes: '3', expected a count"),
    Case("no steps", said(total_steps=-1), "metadata.json: total_steps: -1, expected a count", "no count"),
    Case("no environment", said(env_spec=None), "metadata.json: env_spec: missing"),
    Case("an environment not JSON", said(env_spec="{"), "metadata.json: env_spec: not JSON"),
    Case("an environment without id", said(env_spec="{}"), "metadata.json: env_spec.id: None"),
    Case("another environment", said(env_spec='{"id": "Hopper-v5"}'), "env_spec.id: Hopper-v5, this is Hopper-v4"),
    Case("environment nested for ever", said(env_spec="[" * 60_000), "env_spec: not JSON", "an environment not JSON"),
    Case("another reward", said(env_spec='{"id": "Hopper-v4", "kwargs": {"healthy_reward": 0}}'), "env_spec.kwargs: healthy_reward: the data come"),
    Case("a wrapper", said(env_spec='{"id": "Hopper-v4", "additional_wrappers": [1]}'), "env_spec.additional_wrappers: 1: the data"),
    Case("endless scores", said(ref_min_score=0, ref_max_score=10**400), "must be a number above ref_min_score 0"),
    Case("scores the wrong way", said(ref_min_score=9, ref_max_score=1), "ref_max_score: 1 must be a number above", "endless scores"),
    Case("episodes missing", said(total_episodes=9), ":/: 3 episodes, metadata.json says 9"),
    Case("steps missing", said(total_steps=99), ":/: 60 steps up to episode_2, metadata.json says 99"),
    Case("too many steps", said(total_steps=30), ":/: 40 steps up to episode_1, metadata.json says 30", "steps missing"),
    Case("8 GB of steps", said(total_steps=2**28), ":/: metadata.json says 268,435,456 steps, more than"),
    Case("a gap", grouped(gap), ":/episode_1: missing; episodes are numbered from 0"),
    Case("an episode that is a link", grouped(linked), ":/episode_1: is a link; links are refused"),
    Case("an episode that is an array", grouped(flat), ":/episode_1: is an array"),
    Case("no truncations", grouped(lambda r: r.pop("episode_2/truncations")), ":/episode_2/truncations: missing; an"),
    Case("a dict of observations", grouped(dict_observations), ":/episode_1/observations: is a group", "a group"),
    Case("an episode without steps", episodes(no_steps), ":/episode_1/rewards: an episode without steps"),
    Case("no last observation", episode("observations", lambda x: x[:-1]), ":/episode_1/observations: 20 rows for 20"),
    Case("a short episode of actions", episode("actions", lambda x: x[:9]), ":/episode_1/actions: 9 rows for 20 steps"),
    Case("a wide episode", episode("actions", zeros(20, 6)), ":/episode_1/actions: shape (20, 6): expected rows of 3"),
    Case("an end in the middle", episodes(early_end), ":/episode_0/terminations[4]: an end before the last of 20"),
    Case(
        "NaN in an episode",
        episode("observations", lambda x: np.where(np.arange(21)[:, None] == 20, np.nan, x)),
        ":/episode_1/observations[20]: not a number",
        NAN,
    ),
    # what an environment asks of its own data
    Case("rewards at ends only", spoilt(rewards_at_ends), ":/next_observations: missing: the rows left out for it hold"),
    Case("no simulator's states", of_ant_maze(lambda a: a.pop("infos/qvel")), ":/infos/qpos: missing, or", env=ANT),
    Case("another ant", of_ant_maze(lambda a: None, 30.0), "median, 0.001 is allowed: AntMaze-UMaze-v2 has other", env=ANT),
    Case(GOAL, goal(-0.9, 7.1, 0.5), ":/rewards: follow from no goal of the task: the best one, with a radius", env=ANT),
    Case("a wide goal", goal(0.75, 8.75, 1.5), "rewarded ones, which lie 0.", GOAL, env=ANT),
    Case("another kitchen's goal", of_kitchen(no_goal), "/rewards: are of another goal", GOAL, env=KITCHEN),
    Case("tasks paid for ever", of_kitchen(standing), "/rewards: count a task in every step", GOAL, env=KITCHEN),
    Case(
        "tasks paid late",
        of_kitchen(lambda a: a.update(rewards=np.roll(a["rewards"], 3))),
        "/rewards: are not 1 for each task when it is first done: 175 rows differ for 100 that pay",
        GOAL,
        env=KITCHEN,
    ),
    Case("costs", of_ant_maze(lambda a: a.update(rewards=a["rewards"] - 1)), "hold -1; a step pays 1", GOAL, env=ANT),
]  # fmt: skip


FOREIGN = "a foreign entry point"
POINTMAZE = "pointmaze-medium-singletask-v0"


def navigated(harm: Callable[[Arrays], Any]) -> Callable[[Path], Path]:
    """A file of OGBench's whose arrays were changed before writing."""
    return lambda folder: ogbench.written(folder / "a.npz", ogbench.maze_arrays(), harm)


def put_there(key: str, edit: Callable[[Any], Any]) -> Callable[[Path], Path]:
    return navigated(lambda a: a.update({key: edit(a[key])}))


def truncated(folder: Path) -> Path:
    file = ogbench.written(folder / "a.npz", ogbench.maze_arrays())
    file.write_bytes(file.read_bytes()[:-200])
    return file


def doubled(arrays: Arrays) -> None:
    """As OGBench's reader marks them where it is asked for a compact data set."""
    arrays["terminals"][:-1] |= arrays["terminals"][1:]


def elsewhere(arrays: Arrays) -> None:
    arrays["qpos"] = arrays["qpos"][::-1]


def maze_case(name: str, make: Callable[[Path], Path], said: str, shares: str = "") -> Case:
    return Case(name, make, said, shares, POINTMAZE)


UNLABELLED, WIDE = "no qpos", "another maze"
BAD_OF_OGBENCH = [
    maze_case("no such npz", lambda folder: folder / "a.npz", "a.npz: not found; give the path of an .npz"),
    maze_case(UNLABELLED, navigated(lambda a: a.pop("qpos")), ":/qpos: missing: single-task rewards come from it"),
    maze_case("no terminals in npz", navigated(lambda a: a.pop("terminals")), ":/terminals: missing; OGBench's layout"),
    maze_case("objects in npz", put_there("qpos", lambda x: x.astype(object)), "a.npz: holds Python objects, which"),
    maze_case("a cut zip", truncated, "a.npz: is not an .npz file, or is cut off"),
    maze_case("no zip", lambda folder: raw(b"<html>")(folder).rename(folder / "a.npz"), "not an .npz file", "a cut zip"),
    maze_case("zeros in npz", navigated(lambda a: a.update({k: np.zeros((10**6, 2)) for k in a})), "a.npz: declares 80,"),
    maze_case(WIDE, put_there("observations", lambda x: x[:, :1]), ":/observations: shape (1208, 1): expected rows of 2"),
    maze_case("another body", put_there("qpos", zeros(1208, 15)), ":/qpos: shape (1208, 15): expected rows of 2", WIDE),
    maze_case("a lone flag", put_there("terminals", lambda x: x[0]), ":/terminals: shape (): expected one number", WIDE),
    maze_case("fewer qpos", put_there("qpos", lambda x: x[:-1]), ":/qpos: 1,207 rows, observations has 1,208"),
    maze_case("images in npz", put_there("observations", lambda x: x.astype("u1")), "holds bytes: images", "bytes"),
    maze_case("text in npz", put_there("actions", lambda x: x.astype("S3")), ":/actions: holds text", TYPE),
    maze_case("discrete in npz", put_there("actions", lambda x: x.astype(int)), "holds whole numbers", "discrete actions"),
    maze_case("a flag of 3", put_there("terminals", lambda x: 3 * x), ":/terminals[150]: 3, expected 0 or 1", "a flag of 2"),
    maze_case("no trajectory ends", put_there("terminals", lambda x: 0 * x), ":/terminals: is 0 in all 1,208 rows"),
    maze_case("compact", navigated(doubled), ":/terminals[149]: ends a trajectory, and so does the next row (8 such"),
    maze_case("one transition", navigated(lambda a: a.update({k: v[149:151] for k, v in a.items()})), ":/observations: 1 rows have"),
    maze_case("qpos not a number", put_there("qpos", lambda x: x * np.nan), ":/qpos[0]: not a number or infinite"),
    maze_case("NaN in npz", put_there("actions", lambda x: x * np.nan), ":/actions[0]: not a number", NAN),
    maze_case("actions of 0.2", put_there("actions", lambda x: 5 * x), " is outside [-1, 1] of pointmaze-", "action out of bounds"),
    maze_case("qpos of other rows", navigated(elsewhere), " are set where pointmaze-medium-singletask-v0 goes on", "normalised states"),
]  # fmt: skip


def ant_case(name: str, make: Callable[[Path], Path], said: str, shares: str = "") -> Case:
    return Case(name, make, said, shares, MAZE)


def kitchen_case(name: str, make: Callable[[Path], Path], said: str, shares: str = "") -> Case:
    return Case(name, make, said, shares, KITCHEN)


BAD_OF_ROBOTICS = [
    # Minari's metadata of AntMaze
    ant_case(FOREIGN, described("antmaze", entry_point="os:mkdir"), "env_spec.entry_point: 'os:mkdir', expected gym"),
    ant_case("no entry point", described("antmaze", entry_point=None), "env_spec.entry_point: None, expected", FOREIGN),
    ant_case("another version's", described("antmaze", id="AntMaze_UMaze-v5"), "ant_maze_v4:AntMazeEnv', exp", FOREIGN),
    ant_case("foreign in evaluation", described("antmaze", key="eval_env_spec", entry_point="os:a"), "eval_env_spec.entry_point: 'os:a'", FOREIGN),
    ant_case("unknown arguments", described("antmaze", {"gravity": 1, "xml_file": "/a"}), "env_spec.kwargs: gravity, xml_file: not known; known are"),
    ant_case("arguments in a list", described("antmaze", kwargs=[1]), "env_spec.kwargs: expected an object, found a list"),
    ant_case("an old maze", described("antmaze", id="AntMaze_UMaze-v3"), "env_spec.id: 'AntMaze_UMaze-v3': of AntMaze only"),
    ant_case("a dense reward", described("antmaze", {"reward_type": "dense"}), "env_spec.kwargs.reward_type: 'dense', expected"),
    ant_case("a goal that may end", described("antmaze", {"continuing_task": "yes"}), "continuing_task: 'yes', expected true or"),
    ant_case("no limit", described("antmaze", max_episode_steps=None), "env_spec.max_episode_steps: None, expected a count"),
    ant_case("no maze", described("antmaze", {"maze_map": "U"}), "env_spec.kwargs.maze_map: 'U', expected rows of cells"),
    ant_case("a strange cell", described("antmaze", {"maze_map": [[1, 2], ["r", "g"]]}), "maze_map: a cell is one of 0, 1, 'r'"),
    ant_case("a ragged maze", described("antmaze", {"maze_map": [[1], ["r", "g"]]}), "maze_map: expected rows of one width"),
    ant_case("a vast maze", described("antmaze", {"maze_map": 99 * [["r", "g"]]}), "maze_map: 99 rows of 2 cells are too many"),
    ant_case("nowhere to start", described("antmaze", {"maze_map": [[1, "c"], [1, 1]]}), "a start and a goal in another cell are"),
    ant_case("evaluated elsewhere", described("antmaze", {"maze_map": [["r", "g"]]}, "eval_env_spec"), "eval_env_spec: is another maze than"),
    ant_case("evaluation not JSON", of_robotics("antmaze", eval_env_spec="{"), "eval_env_spec: not JSON", "an environment not JSON"),
    # and of the kitchen
    kitchen_case("a foreign kitchen", described("kitchen", entry_point="os:mkdir"), "env_spec.entry_point: 'os:mkdir'", FOREIGN),
    kitchen_case("an old kitchen", described("kitchen", id="FrankaKitchen-v0"), "env_spec.id: 'FrankaKitchen-v0': of the"),
    kitchen_case("a noisy kitchen", described("kitchen", {"robot_noise_ratio": 1}), "kwargs.robot_noise_ratio: 1, here it is 0.01"),
    kitchen_case("tasks without names", described("kitchen", {"tasks_to_complete": [1]}), "tasks_to_complete: [1], expected names"),
    kitchen_case("other tasks", described("kitchen", {"tasks_to_complete": ["kettle"]}), "tasks_to_complete: kettle; played are micro"),
    kitchen_case("a task not recorded", described("kitchen", {"tasks_to_complete": ["hinge cabinet"]}, "eval_env_spec"), "hinge cabinet: not in env_spec"),
    # their observations
    ant_case("no goal", observed("antmaze", "desired_goal"), ":/episode_1/observations/desired_goal: missing; observations"),
    kitchen_case("no kettle", observed("kitchen", "desired_goal/kettle"), "/desired_goal/kettle: missing; obs", "no goal"),
    kitchen_case("no goals", of_robotics("kitchen", no_achieved_goals), "/achieved_goal: missing; observations are", "a gap"),
    ant_case("no dictionary", of_robotics("antmaze", flat_observations), ":/episode_1/observations: is an array", "an episode that is an array"),
    ant_case("observations elsewhere", of_robotics("antmaze", borrowed_observations), ":/episode_1/observations: is a link", "an episode that is a link"),
    ant_case("a goal in space", observed("antmaze", "desired_goal", zeros(13, 3)), "desired_goal: shape (13, 3): expected rows of 2", "a wide episode"),
    ant_case("a state of D4RL's", observed("antmaze", "observation", zeros(13, 29)), "(13, 29): expected rows of 27", "a wide episode"),
    ant_case("no last goal", observed("antmaze", "desired_goal", lambda x: x[:-1]), "12 rows for 12 steps", "no last observation"),
    ant_case("few goals", observed("antmaze", "desired_goal", lambda x: x[:5]), "5 rows for 12 steps", "a short episode of actions"),
    ant_case("goals in words", observed("antmaze", "desired_goal", lambda x: x.astype("S8")), "holds text", TYPE),
    ant_case("a goal that is NaN", observed("antmaze", "achieved_goal", lambda x: x * np.nan), "/achieved_goal[0]: not a number or inf"),
    kitchen_case("a kettle elsewhere", observed("kitchen", "desired_goal/kettle", lambda x: x + 1), "are of another goal", GOAL),
    kitchen_case("tasks never done", observed("kitchen", "achieved_goal/kettle", lambda x: x + 1), "are not 1 for each task", GOAL),
]  # fmt: skip
if find_spec("gymnasium_robotics"):
    BAD += BAD_OF_ROBOTICS
if find_spec("ogbench"):
    BAD += BAD_OF_OGBENCH


def refuse(case: Case, folder: Path, where: list[tuple[str, int]]) -> tuple[str, float]:
    """Return what validation says of a bad file and how long it took; append the line that said it."""
    file = case.make(folder)
    before = sorted(path.name for path in folder.rglob("*"))
    started = time.perf_counter()
    with pytest.raises(UserError) as caught:
        examine(file, find_env(case.env) if isinstance(case.env, str) else case.env)
    took = time.perf_counter() - started
    assert sorted(path.name for path in folder.rglob("*")) == before, "something was written"
    if not where:  # raised, not added
        frame = caught.traceback[-1]
        where.append((Path(str(frame.path)).name, frame.lineno + 1))
    return str(caught.value), took


@pytest.fixture
def where(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The lines that recorded a problem."""
    found: list[tuple[str, int]] = []
    add = validation.Summary.add

    def noted(self: validation.Summary, key: str, what: str) -> None:
        caller = sys._getframe(1)
        found.append((Path(caller.f_code.co_filename).name, caller.f_lineno))
        add(self, key, what)

    monkeypatch.setattr(validation.Summary, "add", noted)
    return found


def test_the_table_of_bad_files(tmp_path: Path, where: list[tuple[str, int]]) -> None:
    lines: dict[tuple[str, int], str] = {}
    assert len(BAD) >= 60
    assert len({case.name for case in BAD}) == len(BAD)
    for i, case in enumerate(BAD):
        where.clear()
        folder = tmp_path / str(i)
        folder.mkdir()
        text, took = refuse(case, folder, where)
        place = where[0]
        print(
            f"{case.name:<28} {place[0]}:{place[1]:<4} {took:5.2f} s  {text.splitlines()[0].split('/')[-1]}"
        )
        assert case.said in text, f"{case.name}: {text}"
        assert took < SECONDS, case.name
        first = lines.setdefault(place, case.name)
        assert first == case.name or case.shares == first, f"{case.name} fails where {first} does, unnamed"
        assert not case.shares or case.shares == first, f"{case.name} has a line of its own"
    assert len(lines) >= 60, "so many causes have a line of their own"


GOOD: dict[str, Callable[[Path], Path]] = {
    "D4RL's v2": spoilt(lambda a: None),
    "without next_observations": spoilt(lambda a: a.pop("next_observations")),
    "float64": spoilt(lambda a: a.update({k: v.astype("f8") for k, v in a.items() if v.dtype == "f4"})),
    "big-endian": spoilt(lambda a: a.update({k: v.astype(">f4") for k, v in a.items() if v.dtype == "f4"})),
    "rewards in a column": change("rewards", lambda x: x[:, None]),
    "whole rewards": change("rewards", lambda x: np.rint(x).astype(int)),
    "flags as bytes": spoilt(lambda a: a.update({k: a[k].astype("u1") for k in ("terminals", "timeouts")})),
    "flags as floats": spoilt(lambda a: a.update({k: a[k].astype("f4") for k in ("terminals", "timeouts")})),
    "a row with both flags": put("timeouts", 19, True),
    "actions a hair outside": put("actions", (3, 1), 1.00001),
    "other keys, even links": remade(
        "rewards",
        lambda root, folder: (
            root.__setitem__("rewards", np.ones(60)),
            root.__setitem__("metadata/policy", h5py.ExternalLink("elsewhere.hdf5", "/x")),
        ),
    ),
    "a card": with_card('{"environment": "Hopper-v4"}'),
    "one episode": spoilt(rows_of(20)),
    "packed by gzip": remade(
        "rewards", lambda root, folder: root.create_dataset("rewards", data=np.ones(60), compression="gzip")
    ),
    "packed by lzf": remade(
        "rewards", lambda root, folder: root.create_dataset("rewards", data=np.ones(60), compression="lzf")
    ),
    "Minari's": episodes(lambda made: None),
    "Minari's, cut off": episodes(lambda made: made[2]["truncations"].fill(False)),
    "Minari's, scores": said(ref_min_score=0.0, ref_max_score=1.0),
    "Minari's, twelve episodes": lambda folder: write_minari(folder / "set-v0", minari_episodes(240)),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_passes(name: str, tmp_path: Path) -> None:
    file = GOOD[name](tmp_path)
    examine(file, HOPPER)
    data = validation.transitions(read_columns(file, HOPPER, validation.Summary(file)), HOPPER)
    assert len(data) in (20, 57, 60, 240)
    assert np.abs(data.action).max() <= 1.0
    assert data.reward.dtype == np.float32
    assert not (tmp_path / "ran").exists(), "code that the metadata name was run"


def test_rows_keep_their_order_over_more_than_ten_episodes(tmp_path: Path) -> None:
    file = write_minari(tmp_path / "set-v0", minari_episodes(240))
    rewards = read_columns(file, HOPPER, validation.Summary(file)).reward
    assert np.array_equal(rewards, hopper_arrays(240)["rewards"])


# ---- once per hash, in a process of its own -----------------------------------------------------------


def test_a_verdict_holds_for_a_hash_and_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.hdf5", hopper_arrays())
    looked: list[str] = []
    apart = isolated_validation.apart

    def counted(file: Path, env: EnvSpec) -> list[str]:
        looked.append(env.id)
        return list(apart(file, env))

    monkeypatch.setattr(isolated_validation, "apart", counted)
    for _ in range(3):
        assert admit(file, HOPPER, "a" * 64) == ["the last episode is cut off; it counts as truncated"]
    assert len(looked) == 1
    admit(file, HOPPER, "b" * 64)
    assert len(looked) == 2, "another hash is looked at"
    with pytest.raises(UserError, match="expected rows of 17"):
        admit(file, find_env("Walker2d-v4"), "a" * 64)
    monkeypatch.setattr(validation, "VERSION", validation.VERSION + 1)
    admit(file, HOPPER, "a" * 64)
    assert len(looked) == 4, "another version of validation looks again"


def test_a_bad_file_leaves_no_verdict(tmp_path: Path) -> None:
    arrays = hopper_arrays()
    arrays["rewards"][3] = np.nan
    file = write(tmp_path / "a.hdf5", arrays)
    with pytest.raises(UserError, match=r"a\.hdf5:/rewards\[3\]: not a number"):
        admit(file, HOPPER, "a" * 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5"]


@pytest.mark.parametrize(
    ("child", "message"),
    [
        (f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})", r"ended the reading process \(SIGSEGV\)"),
        ("raise SystemExit('library lost')", "could not be read: library lost"),
        ("print('no verdict')", "could not be read: no reason given"),
        (
            "import o2obench.datasets.isolated_validation as a; a.MEMORY = a.MEMORY_PER_BYTE = 1; a.main()",
            "could not be read|more than 0 GiB|is corrupted",
        ),
    ],
)
def test_a_file_that_brings_its_reader_down_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: str, message: str
) -> None:
    file = write(tmp_path / "a.hdf5", hopper_arrays())
    monkeypatch.setattr(isolated_validation, "CHILD", child)
    with pytest.raises(UserError, match=message):
        admit(file, HOPPER, "a" * 64)


def test_a_bad_set_stops_a_suite_before_it_starts(o2obench: Command, tmp_path: Path) -> None:
    arrays = hopper_arrays()
    arrays["actions"][3, 1] = 1.5
    write(tmp_path / "data" / "hopper_medium-v2.hdf5", arrays)
    done = o2obench("run", "mopo", "hopper-medium-v2")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "hopper_medium-v2.hdf5:/actions[3]: 1.5 is outside [-1, 1] of Hopper-v4 (1 rows)" in done.stderr
    assert not (tmp_path / "results").exists()


# ---- names --------------------------------------------------------------------------------------------


def test_a_users_own_file_needs_a_card_beside_it(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.hdf5", hopper_arrays())
    card = file.with_suffix(".json")
    with pytest.raises(UserError, match=r'write \{"environment": "Hopper-v4"\} .* to .*mine\.json'):
        datasets.find_dataset(f"file:{file}")
    card.write_text('{"environment": "Hopper-v4"}')
    found = datasets.find_dataset(f"file:{file}")
    assert len(found.load()) == 60
    assert found.scores.ref_max == 3234.3
    assert found.key == "file:mine.hdf5", "the folder is not part of what a run computes"
    card.write_text('{"environment": "Hopper-v4", "ref_min": 3, "ref_max": 2}')
    with pytest.raises(UserError, match="must be numbers, the first smaller"):
        datasets.find_dataset(f"file:{file}")
    card.write_text('{"environment": "Swimmer-v4"}')
    with pytest.raises(
        UserError, match="no reference scores are known for Swimmer-v4; write ref_min and ref_max"
    ):
        datasets.find_dataset(f"file:{file}")
    card.write_text('{"environment": "Swimmer-v4", "ref_min": 0, "ref_max": 100, "source": "us"}')
    assert datasets.find_dataset(f"file:{file}").scores.source == "us"
    with pytest.raises(UserError, match="is missing; give the path"):
        datasets.find_dataset(f"file:{tmp_path / 'none.hdf5'}")


def test_minari_sets_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    made = minari_episodes()
    write_minari(tmp_path / "own" / "hop-v0", made)
    found = datasets.find_dataset("minari:own/hop-v0")
    assert (found.env.id, found.scores.ref_max) == ("Hopper-v4", 3234.3)
    assert "minari:own/hop-v0" in datasets.dataset_names()
    scored = {**minari_metadata(made), "ref_min_score": 1.0, "ref_max_score": 2.0}
    write_minari(tmp_path / "own" / "hop-v1", made, scored)
    assert datasets.find_dataset("minari:own/hop-v1").scores.ref_max == 2.0
    assert found.sha256() != datasets.find_dataset("minari:own/hop-v1").sha256(), (
        "metadata belong to the data"
    )
    unknown = {**minari_metadata(made), "env_spec": json.dumps({"id": "os:mkdir"})}
    write_minari(tmp_path / "own" / "evil-v0", made, unknown)
    with pytest.raises(UserError, match=r"evil-v0/data/metadata\.json: environment os:mkdir: not known"):
        datasets.find_dataset("minari:own/evil-v0")
    for name in ("minari:../own/hop-v0", "minari:/own/hop-v0", "minari:own/hop", "minari:own//hop-v0"):
        with pytest.raises(UserError, match="not a name of Minari's"):
            datasets.find_dataset(name)
    with pytest.raises(UserError, match=r"is missing; `o2obench data fetch minari:own/none-v0`"):
        datasets.find_dataset("minari:own/none-v0")


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Our own lock is refused; that HDF5 asks for none either is seen by one that somebody else holds."""

    def refused(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    file = write(tmp_path / "a.hdf5", hopper_arrays())
    with open(file, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(fcntl, "flock", refused)
        with validation.open_hdf5(file) as root:
            assert len(root["observations"]) == len(hopper_arrays()["observations"])


def test_a_file_that_is_being_written_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.hdf5", hopper_arrays())
    with h5py.File(file, "a"), pytest.raises(UserError, match="is still being written"):
        apart(file, find_env("Hopper-v4"))
    assert apart(file, find_env("Hopper-v4")) is not None
