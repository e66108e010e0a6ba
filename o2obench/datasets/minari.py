"""Minari's layout: an HDF5 group per episode, and a metadata.json that names the environment.

Read here without Minari, which would make the environment from code that the metadata name; of these only
an id and plain arguments are used (``minari_environment``). Written through Minari itself.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.goals import GoalObservations
from ..envs.spec import EnvSpec, is_registered
from ..errors import UserError
from ..transitions import Array
from ..util.files import folder_of_user, is_number, usable
from ..util.interpreter import variable
from .minari_environment import environment_of
from .validation import RATIO, Columns, Summary, array, flags, floats, open_hdf5

MAIN, METADATA = "main_data.hdf5", "metadata.json"
MOST_METADATA = 2**24
FOLDER = "MINARI_DATASETS_PATH"
CONVERT = (
    "to convert it, write with d = minari.load_dataset(...): minari.create_dataset_from_buffers('new-v0', "
    "[minari.data_collector.EpisodeBuffer(**vars(e)) for e in d], env=d.env_spec, data_format='hdf5')"
)


def root_folder() -> Path:
    """Return where Minari keeps its data sets: $MINARI_DATASETS_PATH, else ~/.minari/datasets."""
    return folder_of_user(FOLDER, ".minari", "datasets")


def main_file(name: str) -> Path:
    """Return where a data set of Minari's lies, or would lie."""
    return root_folder() / name / "data" / MAIN


def metadata(file: Path, env: str = "") -> dict[str, Any]:
    """Return the metadata beside a main_data.hdf5; raise UserError naming the key that is wrong.

    ``env``: the environment as the user says it is, whatever the metadata say or lack.

    Keys: ``environment`` (id), ``total_episodes``, ``total_steps``, ``ref_min`` and ``ref_max`` or None.
    """
    path = file.with_name(METADATA)
    if not path.is_file():
        raise UserError(f"{path}: not found; it names the environment, get the data set again")
    if path.stat().st_size > MOST_METADATA:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes; metadata are a few thousand")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({str(error)[:80]}); get the data set again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected an object, found a {type(value).__name__}")
    if value.get("data_format", "hdf5") != "hdf5":
        raise UserError(f"{path}: data_format: {value['data_format']!s:.40}; only hdf5 is read; {CONVERT}")
    counts = {}
    for key in ("total_episodes", "total_steps"):
        count = value.get(key)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise UserError(f"{path}: {key}: {count!r}, expected a count")
        counts[key] = count
    return {**counts, "environment": env or environment_of(path, value), **_reference(path, value)}


def _reference(path: Path, value: dict[str, Any]) -> dict[str, float | None]:
    low, high = value.get("ref_min_score"), value.get("ref_max_score")
    if low is None or high is None:
        return {"ref_min": None, "ref_max": None}
    if not (is_number(low) and is_number(high) and low < high):
        raise UserError(
            f"{path}: ref_max_score: {high!r:.20} must be a number above ref_min_score {low!r:.20}"
        )
    return {"ref_min": float(low), "ref_max": float(high)}


def read_columns(file: Path, env: EnvSpec, findings: Summary, trust_env: bool = False) -> Columns:
    """Return the arrays of a data set, its episodes one after the other in the order of their numbers.

    ``trust_env``: the environment is the user's word, whatever the metadata say.
    """
    meta = metadata(file, env.id if trust_env else "")
    if meta["environment"] != env.id:
        raise UserError(f"{file.with_name(METADATA)}: env_spec.id: {meta['environment']}, this is {env.id}")
    rows, episodes = meta["total_steps"], meta["total_episodes"]
    with open_hdf5(file) as root:
        if len(root) != episodes:
            raise UserError(f"{file}:/: {len(root):,} episodes, {METADATA} says {episodes:,}")
        if 4 * rows * env.obs_dim > RATIO * file.stat().st_size:
            raise UserError(
                f"{file}:/: {METADATA} says {rows:,} steps, more than {file.stat().st_size:,} bytes hold"
            )
        columns = _read(root, rows, episodes, env, findings)
    findings.settle()
    return columns


PARTS = {
    "observations": "floats",
    "actions": "actions",
    "rewards": "floats",
    "terminations": "flags",
    "truncations": "flags",
}


def _group(root: Any, key: str, lacks: str, findings: Summary) -> Any:
    """Return a group that lies in the file itself; raise UserError where there is none."""
    import h5py

    where = f"{root.name}/{key}".strip("/")
    link = root.get(key, getlink=True)
    if link is None:
        findings.add(where, f"missing; {lacks}")
    elif not isinstance(link, h5py.HardLink):
        findings.add(where, "is a link; links are refused")
    elif not isinstance(root[key], h5py.Group):
        findings.add(where, "is an array, expected a group")
    findings.settle()
    return root[key]


def _episode(root: Any, number: int, env: EnvSpec, findings: Summary) -> dict[str, Any]:
    """Return the nodes of an episode, looked at but not read; those of a dictionary by their paths."""
    name = f"episode_{number}"
    group = _group(root, name, "episodes are numbered from 0 without gaps", findings)
    form, nodes = env.goal_observations, dict[str, Any]()
    for key, kinds in PARTS.items():
        if form and key == "observations":
            dictionary = _group(group, key, f"an episode needs {', '.join(PARTS)}", findings)
            nodes |= _dictionary(dictionary, form, findings)
            continue
        before = len(findings.problems)
        node = array(group, key, findings, kinds)
        if node is not None:
            nodes[key] = node
        elif len(findings.problems) == before:
            findings.add(f"{name}/{key}", f"missing; an episode needs {', '.join(PARTS)}")
    findings.settle()
    _episode_shapes(name, nodes, env, findings)
    findings.settle()
    return nodes


def _dictionary(group: Any, form: GoalObservations, findings: Summary) -> dict[str, Any]:
    """Return the nodes of a dictionary of observations."""
    nodes, lacks = dict[str, Any](), f"observations are {', '.join(form.widths)}"
    for path in form.widths:
        *outer, key = path.split("/")
        inner, before = group, len(findings.problems)
        for name in outer:
            inner = _group(inner, name, lacks, findings)
        node = array(inner, key, findings)
        if node is not None:
            nodes[f"observations/{path}"] = node
        elif len(findings.problems) == before:
            findings.add(f"{inner.name}/{key}".strip("/"), f"missing; {lacks}")
    return nodes


def _widths(env: EnvSpec) -> dict[str, int]:
    """Return the width of a row of each array of an episode, 0 where it is a number."""
    observed = {"observations": env.obs_dim}
    if env.goal_observations:
        observed = {f"observations/{path}": width for path, width in env.goal_observations.widths.items()}
    return observed | {"actions": env.act_dim, "rewards": 0, "terminations": 0, "truncations": 0}


def _episode_shapes(name: str, nodes: dict[str, Any], env: EnvSpec, findings: Summary) -> None:
    steps = nodes["rewards"].shape[0] if nodes["rewards"].ndim else 0
    if steps == 0:
        findings.add(f"{name}/rewards", "an episode without steps")
    for key, width in _widths(env).items():
        shape, is_observation = nodes[key].shape, key.startswith("observations")
        count = steps + is_observation
        if len(shape) != (2 if width else 1) or (width and shape[1] != width):
            expected = f"rows of {width}" if width else "one number per step"
            findings.add(f"{name}/{key}", f"shape {shape}: expected {expected} for {env.id}")
        elif shape[0] == steps and is_observation:
            findings.add(
                f"{name}/{key}", f"{steps} rows for {steps} steps; the last next observation is missing"
            )
        elif shape[0] != count:
            findings.add(f"{name}/{key}", f"{shape[0]:,} rows for {steps:,} steps, expected {count:,}")


def _read(root: Any, rows: int, episodes: int, env: EnvSpec, findings: Summary) -> Columns:
    """Read one episode after the other; none stays open, since each holds a cache of its own."""
    obs, next_obs = np.empty((rows, env.obs_dim), np.float32), np.empty((rows, env.obs_dim), np.float32)
    action, reward = np.empty((rows, env.act_dim), np.float32), np.empty(rows, np.float32)
    ends = {"terminations": np.zeros(rows, bool), "truncations": np.zeros(rows, bool)}
    starts, start, cut = np.zeros(episodes, np.int64), 0, 0
    whole = np.empty((0, env.obs_dim), np.float32)
    form, by_rule = env.goal_observations, _ByRule(np.zeros(rows), np.zeros(rows, bool), np.zeros(rows, bool))
    for number in range(episodes):
        name, episode = f"episode_{number}", _episode(root, number, env, findings)
        steps = episode["rewards"].shape[0]
        span, starts[number] = slice(start, start + steps), start
        if span.stop > rows:
            break
        if len(whole) <= steps:
            whole = np.empty((2 * steps + 1, env.obs_dim), np.float32)
        if form:
            parts = _parts(episode, form, f"{name}/observations", findings)
            whole[: steps + 1] = form.vector(parts)
            by_rule.note(span, *form.outcome(parts))
        else:
            floats(episode["observations"], whole[: steps + 1], f"{name}/observations", findings)
        obs[span], next_obs[span] = whole[:steps], whole[1 : steps + 1]
        floats(episode["actions"], action[span], f"{name}/actions", findings)
        floats(episode["rewards"], reward[span], f"{name}/rewards", findings)
        for key, column in ends.items():
            column[span] = flags(episode[key], steps, f"{name}/{key}", findings)
            early = np.flatnonzero(column[span][:-1])
            if len(early):
                findings.add(f"{name}/{key}[{early[0]}]", f"an end before the last of {steps} steps")
        start = span.stop
        if not (ends["terminations"][start - 1] or ends["truncations"][start - 1]):
            ends["truncations"][start - 1], cut = True, cut + 1
    if span.stop != rows:
        raise UserError(f"{root.filename}:/: {span.stop:,} steps up to {name}, {METADATA} says {rows:,}")
    if cut:
        findings.notes.append(f"{cut:,} episodes are cut off; they count as truncated")

    def place(column: str, row: int) -> str:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        inside, key = row - int(starts[number]), column
        if column == "next_observations":
            inside, key = inside + 1, "observations"
        key = {"terminals": "terminations", "timeouts": "truncations"}.get(key, key)
        return f"episode_{number}/{key}[{inside}]"

    truncated = ends["truncations"] & ~ends["terminations"]
    ends_of = (ends["terminations"], truncated)
    columns = Columns(obs, action, reward, next_obs, *ends_of, stored=False, place=place)
    return by_rule.columns(columns, env, findings) if form else columns


def _parts(nodes: dict[str, Any], form: GoalObservations, where: str, findings: Summary) -> dict[str, Array]:
    """Read a dictionary of observations, in which everything must be finite: rewards follow from it."""
    parts = dict[str, Array]()
    for path, width in form.widths.items():
        node = nodes[f"observations/{path}"]
        parts[path] = np.zeros((node.shape[0], width))
        floats(node, parts[path], f"{where}/{path}", findings)
        bad = np.flatnonzero(~np.isfinite(parts[path]).all(axis=1))
        if len(bad):
            findings.add(f"{where}/{path}[{bad[0]}]", f"not a number or infinite ({len(bad):,} rows)")
    findings.settle()
    return parts


@dataclass(frozen=True)
class _ByRule:
    """What an environment pays in each row (rows,) and whether it ends there, whatever the file says."""

    reward: Array
    terminated: Array
    after: Array
    """Rows after the end of the task, in the same episode of the file."""

    def note(self, span: slice, reward: Array, terminated: Array) -> None:
        """Take what holds in the rows of an episode."""
        self.reward[span], self.terminated[span] = reward, terminated
        self.after[span] = np.cumsum(terminated) > terminated

    def columns(self, read: Columns, env: EnvSpec, findings: Summary) -> Columns:
        """Return the rows up to the task's ends, by the rule; note what the file says otherwise."""
        kept = np.flatnonzero(~self.after)
        terminated = self.terminated[kept]
        counts = {
            "rows are paid otherwise than by {}'s rule, which counts": read.reward != self.reward,
            "rows come after the end of the task, left out": self.after,
            "terminations are set where {} goes on; they count as truncated": read.terminated
            & ~self.terminated,
        }
        for said, rows in counts.items():
            if rows.any():
                findings.notes.append(f"{int(rows.sum()):,} {said.format(env.id)}")
        return Columns(
            *(read.obs[kept], read.action[kept], self.reward[kept].astype(np.float32), read.next_obs[kept]),
            *(terminated, read.ends[kept] & ~terminated),
            stored=False,
            place=lambda column, row: read.place(column, int(kept[row])),
        )


def write(
    name: str,
    root: Path,
    env: EnvSpec,
    columns: Columns,
    scores: tuple[float, float],
    card: Mapping[str, Any],
) -> Path:
    """Write columns as the Minari data set ``name`` under ``root``, through Minari; return its folder.

    Raises UserError when it exists, or when Gymnasium does not know its environment.
    """
    if not is_registered(env.id):
        raise UserError(f"{name}: Minari names environments as Gymnasium does, which does not know {env.id}")
    import minari
    from minari.data_collector import EpisodeBuffer

    buffers = [
        EpisodeBuffer(
            id=number,
            observations=np.concatenate([columns.obs[start:stop], columns.next_obs[stop - 1 : stop]]),
            actions=columns.action[start:stop],
            rewards=columns.reward[start:stop],
            terminations=columns.terminated[start:stop],
            truncations=columns.truncated[start:stop],
            infos={},
        )
        for number, (start, stop) in enumerate(zip(*columns.start_and_stop(), strict=True))
    ]
    with arriving(name, root):
        minari.create_dataset_from_buffers(
            *(name, buffers),
            env=env.id,
            algorithm_name="SAC",
            author="o2obench",
            description=json.dumps(card),
            ref_min_score=scores[0],
            ref_max_score=scores[1],
            data_format="hdf5",
        )
    return root / name


def fetch(name: str, root: Path) -> Path:
    """Bring a remote data set to ``root`` through Minari; return its main file, not checked yet.

    Raises UserError when it cannot be had, with Minari's reason in one line.
    """
    import minari

    with arriving(name, root):
        try:
            minari.download_dataset(name)
        except ImportError:
            raise UserError(f"dataset minari:{name}: fetching needs `pip install 'minari[hf]'`") from None
        except Exception as error:  # noqa: BLE001  (whatever its network libraries raise)
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"dataset minari:{name}: Minari could not fetch it: {why}") from None
    return root / name / "data" / MAIN


@contextmanager
def arriving(name: str, root: Path) -> Iterator[None]:
    """Give Minari a folder of its own to write ``name`` to; when it is whole, rename it to its place."""
    root = root.resolve()
    target = root / name
    if target.exists():
        raise UserError(f"{target}: exists; a data set is never overwritten")
    usable(root)
    with tempfile.TemporaryDirectory(dir=root, prefix=".") as temporary:
        with variable(FOLDER, temporary), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except OSError as error:
                if "unable to lock" not in str(error):
                    raise
                raise UserError(
                    f"{root}: its file system refuses HDF5's locks; set HDF5_USE_FILE_LOCKING=FALSE"
                ) from None
        target.parent.mkdir(parents=True, exist_ok=True)
        for file in sorted(Path(temporary).rglob("namespace_metadata.json")):
            place = root / file.relative_to(temporary)
            if not place.exists():
                shutil.copy(file, place)
        os.replace(Path(temporary) / name, target)
