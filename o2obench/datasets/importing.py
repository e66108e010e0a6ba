"""One's own data: npz, CSV, Parquet, HDF5 or a Minari set become a data set in D4RL's layout.

Columns are named by the user or known by the names that others give them; what was taken for what is always
said. Nothing in a file is run: no pickled objects, no environment made from its metadata. It is read in a
process of its own (``isolated_validation``), and what was written there passes validation like any other set
before it gets its name.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..envs.spec import EnvSpec, find_env
from ..errors import UserError
from ..transitions import Array
from ..util.files import sha256, temporary_name, usable, write_atomically
from . import d4rl, isolated_validation, minari
from .reference_scores import reference_of
from .validation import LARGEST, Summary, array, open_hdf5, read_npz, require_size

NAMES: Mapping[str, tuple[str, ...]] = {
    "obs": ("observations", "observation", "obs", "states", "state", "s"),
    "action": ("actions", "action", "acts", "act", "a"),
    "reward": ("rewards", "reward", "rews", "rew", "r"),
    "next_obs": (
        "next_observations",
        "next_observation",
        "next_obs",
        "obs_next",
        "next_states",
        "next_state",
    ),
    "terminated": ("terminals", "terminal", "terminated", "terminations", "termination"),
    "truncated": ("timeouts", "timeout", "truncated", "truncations", "truncation"),
    "done": ("dones", "done"),
    "episode": ("episode", "episode_id", "episode_ids", "episodes", "traj_id", "trajectory", "trajectory_id"),
}
"""What a column is, and what files call it, in any case of letters."""
NEEDED = ("obs", "action", "reward")
KEYS = dict(zip((*NEEDED, "next_obs"), (*d4rl.NEEDED[:3], "next_observations"), strict=True))
"""What D4RL's layout calls them."""
PART = re.compile(r"(?P<name>.*?[^\d._\[ ])[._\[ ]*(?P<index>\d+)\]?")
"""A component of a vector in a table: ``obs_0``, ``obs.0``, ``obs[0]``, ``obs0``."""
KINDS = (".npz", ".csv", ".tsv", ".parquet", ".hdf5", ".h5")


@dataclass(frozen=True)
class Imported:
    """What a user says of a file: the environment, columns by name, and what scores of 0 and 100 mean."""

    env: str
    columns: Mapping[str, str]
    ref_min: float | None = None
    ref_max: float | None = None


def import_file(source: str, out: Path, about: Imported) -> str:
    """Write ``out`` and the card beside it; return what was taken for what, and what is worth knowing.

    ``source`` is a file, or ``minari:ID``, whose metadata may then lack environment and scores.

    Raises:
        UserError: A name is taken, the file cannot be read as data of this environment, or it fails
            validation; nothing is written then.
    """
    file = _source(source)
    scores = _scores(about)
    if out.suffix not in (".hdf5", ".h5"):
        raise UserError(f"--out {out}: a data set's name ends in .hdf5")
    for path in (out, out.with_suffix(".json")):
        if path.exists():
            raise UserError(f"{path}: exists; a data set is never overwritten, choose another name")
    env = find_env(about.env)
    usable(out.parent)
    temporary = temporary_name(out)
    try:
        wishes = json.dumps({"out": str(temporary), "env": env.id, "columns": dict(about.columns)})
        said = isolated_validation.in_child(file, "o2obench.datasets.importing:convert", wishes)
        named = json.loads(said.pop(0))
        try:
            notes = isolated_validation.apart(temporary, env)
        except UserError as error:
            raise UserError(*(p.replace(str(temporary), str(file)) for p in error.problems)) from None
        card = {
            "environment": env.id,
            **scores,
            "imported": {"file": file.name, "sha256": sha256(file, LARGEST, follow=True), "columns": named},
        }
        write_atomically(out.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
        os.replace(temporary, out)
    except BaseException:
        for path in (temporary, out.with_suffix(".json")):  # neither was there before
            path.unlink(missing_ok=True)
        raise
    shown = [f"  {column:<11} {name}" for column, name in named.items()]
    if not (scores or env.success or reference_of(env.id)):
        notes.append(
            f"nobody has written down which returns score 0 and 100 in {env.id}: "
            f"`o2obench data scores {env.id} --policy EXPERT.npz --write {out}` measures them"
        )
    return "\n".join([f"{out}: written; its name is file:{out}", *shown, *said, *notes])


def _source(source: str) -> Path:
    if source.startswith("minari:"):
        file = minari.root_folder() / source.removeprefix("minari:") / "data" / minari.MAIN
        if ".." in Path(source).parts or not file.is_file():
            raise UserError(f"{source}: {file} is missing; name Minari's folder in {minari.FOLDER}")
        return file
    file = Path(source)
    if not file.is_file():
        raise UserError(f"{file}: not found; give the path of a file that ends in {', '.join(KINDS)}")
    if file.suffix.lower() not in KINDS and file.name != minari.MAIN:
        raise UserError(f"{file}: its kind is not known; a file's name ends in {', '.join(KINDS)}")
    return file


def _scores(about: Imported) -> dict[str, object]:
    low, high = about.ref_min, about.ref_max
    if low is None and high is None:
        return {}
    if low is None or high is None or not low < high:
        raise UserError("--ref-min, --ref-max: the returns of score 0 and 100; give both, the first smaller")
    return {"ref_min": low, "ref_max": high, "source": "given by the user at the import"}


# ---- in the process of its own ------------------------------------------------------------------------


def convert(file: Path, wishes: str) -> list[str]:
    """Write a file's rows in D4RL's layout; return the columns' names as JSON, then notes."""
    wish = json.loads(wishes)
    env, out = find_env(wish["env"]), Path(wish["out"])
    columns = None
    if file.name == minari.MAIN:
        columns = minari.read_columns(file, env, Summary(file), trust_env=True)
    elif not wish["columns"] and _is_d4rl(file):
        columns = d4rl.read_columns(file, env, Summary(file))
    if columns is not None:
        arrays = dict(zip(d4rl.NEEDED[:3], (columns.obs, columns.action, columns.reward), strict=True))
        arrays |= {"terminals": columns.terminated, "timeouts": columns.truncated}
        arrays |= {"next_observations": columns.next_obs} if columns.known is None else {}
        d4rl.write(out, arrays, {"environment": env.id})
        return [json.dumps({"layout": "Minari's" if file.name == minari.MAIN else "D4RL's"})]
    table = _vectors(_read(file))
    named = _named(file, table, wish["columns"])
    arrays, notes = _arrays(file, {column: table[name] for column, name in named.items()}, env)
    d4rl.write(out, arrays, {"environment": env.id})
    return [json.dumps(named), *notes]


def _is_d4rl(file: Path) -> bool:
    if file.suffix.lower() not in (".hdf5", ".h5"):
        return False
    with open_hdf5(file) as root:
        return set(d4rl.NEEDED) <= set(root)


def _read(file: Path) -> dict[str, Array]:
    """Return the arrays of a file by name."""
    kind = file.suffix.lower()
    if kind == ".npz":
        return read_npz(file)
    if kind in (".csv", ".tsv"):
        return _read_csv(file)
    return _read_parquet(file) if kind == ".parquet" else _read_hdf5(file)


def _read_csv(file: Path) -> dict[str, Array]:
    import pandas as pd

    with open(file, newline="", encoding="utf-8-sig", errors="replace") as stream:
        first = stream.readline(2**20)
    try:
        separator = csv.Sniffer().sniff(first, ",;\t ").delimiter
    except csv.Error:
        separator = ","
    try:
        table = pd.read_csv(file, sep=separator, skipinitialspace=True, encoding="utf-8-sig", index_col=False)
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{file}: is not a table: {str(error).splitlines()[0]}") from None
    return {str(name).strip(): table[name].to_numpy() for name in table.columns}


def _read_parquet(file: Path) -> dict[str, Array]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UserError(f"{file}: pyarrow is not installed; pip install 'o2obench[parquet]'") from None
    try:
        meta = parquet.read_metadata(file)
        require_size(file, sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups)))
        table = parquet.read_table(file)
    except ArrowException as error:
        raise UserError(f"{file}: is not a Parquet file: {str(error).splitlines()[0]}") from None
    found = dict[str, Array]()
    for name in table.column_names:
        values = table[name].to_numpy()
        lists = values.dtype == object and len(values) and isinstance(values[0], np.ndarray)
        if lists and len({len(value) for value in values}) > 1:
            raise UserError(f"{file}:/{name}: rows of several lengths; write as many numbers in each")
        found[name] = np.stack(list(values)) if lists else values
    return found


def _read_hdf5(file: Path) -> dict[str, Array]:
    findings, usual = Summary(file), {name for names in NAMES.values() for name in names}
    with open_hdf5(file) as root:
        nodes = {
            name: array(root, name, findings, _kinds(name))
            if name.lower() in usual
            else array(root, name, Summary(file), "flags")
            for name in root
        }
        findings.settle()
        return {name: node[()] for name, node in nodes.items() if node is not None}


def _kinds(name: str) -> str:
    kind = next(column for column, names in NAMES.items() if name.lower() in names)
    return {"action": "actions"}.get(kind, "floats" if kind in KEYS else "flags")


def _vectors(table: Mapping[str, Array]) -> dict[str, Array]:
    """Return the columns, and each vector whose components are columns of their own, by its name."""
    parts = dict[str, dict[int, Array]]()
    for name, values in table.items():
        match = PART.fullmatch(name)
        if match and values.ndim == 1:
            parts.setdefault(match["name"], {})[int(match["index"])] = values
    joined = dict(table)
    for name, of in parts.items():
        if name not in table and sorted(of) in (list(range(len(of))), list(range(1, len(of) + 1))):
            joined[name] = np.stack([of[index] for index in sorted(of)], axis=1)
    return joined


def _named(file: Path, table: Mapping[str, Array], given: Mapping[str, str]) -> dict[str, str]:
    """Return which column is what: as the user says, else by the names that are usual."""
    found, problems = dict[str, str](), list[str]()
    for column, names in NAMES.items():
        flag = f"--{column.replace('_', '-')}"
        if column in given:
            if given[column] not in table:
                problems.append(f"{file}: {flag} {given[column]}: no such column; found {_listed(table)}")
            found[column] = given[column]
            continue
        alike = sorted(
            (name for name in table if name.lower() in names), key=lambda n: names.index(n.lower())
        )
        if len(alike) > 1:
            problems.append(f"{file}: {' and '.join(alike)} may both be the {column}; say which with {flag}")
        elif alike:
            found[column] = alike[0]
        elif column in NEEDED:
            problems.append(
                f"{file}: no column is called {', '.join(names[:2])} or the like; name it with {flag}; "
                f"found {_listed(table)}"
            )
    if problems:
        raise UserError(*problems)
    return found


def _listed(table: Mapping[str, Array]) -> str:
    names = [f"{name} {values.shape}" for name, values in table.items()]
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") or "nothing"


def _arrays(file: Path, columns: dict[str, Array], env: EnvSpec) -> tuple[dict[str, Array], list[str]]:
    """Return the arrays of D4RL's layout, and what had to be decided."""
    rows = len(columns["obs"])
    findings = Summary(file)
    for column, values in columns.items():
        for problem in _wrong(column, values, rows, env):
            findings.add(column, problem)
    findings.settle()
    widths = {"action": env.act_dim, "reward": 0}
    arrays = {
        key: columns[column].reshape(rows, widths.get(column, env.obs_dim)).astype(np.float32)
        if widths.get(column, 1)
        else columns[column].reshape(rows).astype(np.float32)
        for column, key in KEYS.items()
        if column in columns
    }
    ends, notes = _ends(columns, rows, env)
    return arrays | ends, notes


def _wrong(column: str, values: Array, rows: int, env: EnvSpec) -> Iterator[str]:
    """Yield what keeps a column from being read: its type, its shape, flags that are none."""
    width = {"obs": env.obs_dim, "next_obs": env.obs_dim, "action": env.act_dim}.get(column, 1)
    if values.dtype.kind not in "fiub" and column != "episode":
        yield f"holds {values.dtype}, expected numbers in every row"
    elif column == "action" and values.dtype.kind in "iu":
        yield f"holds whole numbers ({values.dtype}): discrete actions are not supported"
    elif values.shape[:1] != (rows,):
        yield f"{len(values) if values.ndim else 0:,} rows, the observations have {rows:,}"
    elif values.size != rows * width:
        yield f"shape {values.shape}: expected ({rows}, {width}) for {env.id}"
    elif column in ("terminated", "truncated", "done") and not np.isin(values, (0, 1)).all():
        yield "holds other values than 0 and 1"


def _ends(columns: Mapping[str, Array], rows: int, env: EnvSpec) -> tuple[dict[str, Array], list[str]]:
    """Return terminals and timeouts.

    What is called done does not say whether the task or the clock ended an episode: as long as the task's
    limit it was the clock. Where only the number of an episode changes, it was the clock, too.
    """
    notes = list[str]()
    flags = {
        name: columns[name].reshape(rows).astype(bool) if name in columns else np.zeros(rows, bool)
        for name in ("terminated", "truncated", "done")
    }
    terminals, timeouts = flags["terminated"], flags["truncated"]
    if "done" in columns and not ("terminated" in columns and "truncated" in columns):
        lengths = np.diff(np.flatnonzero(flags["done"]), prepend=-1)
        full = np.zeros(rows, bool)
        full[np.flatnonzero(flags["done"])[lengths >= env.horizon]] = True
        rest = flags["done"] & ~full
        if "terminated" in columns:
            timeouts = timeouts | (flags["done"] & ~terminals)
        else:
            terminals, timeouts = rest & ~timeouts, timeouts | full
            notes.append(
                f"done: {int(terminals.sum()):,} rows count as ends of the task, {int(full.sum()):,} after "
                f"{env.horizon:,} steps as ends by the clock"
            )
    if "episode" in columns:
        number = columns["episode"].reshape(rows)
        last = np.append(number[1:] != number[:-1], True)
        timeouts = timeouts | (last & ~terminals)
    return {"terminals": terminals, "timeouts": timeouts}, notes
