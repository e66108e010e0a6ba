"""Validation: what every data set must satisfy, whatever its layout, before a run may use it.

A file is a stranger. Its name, its headers and its declared sizes are looked at before a value is read;
links, values kept elsewhere and unknown filters are refused. Then every value is looked at, once per
hash (``isolated_validation``). Each problem is one line: ``file:/key: what is wrong; what to do``.
"""

from __future__ import annotations

import fcntl
import zipfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.simulator import simulate
from ..envs.spec import EnvSpec
from ..errors import UserError
from ..transitions import Array, Transitions

VERSION = 2
"""Raised when a check is added: what was admitted before is then looked at again."""
LARGEST = 16 * 2**30
LARGEST_CHUNK = 2**28
RATIO = 100
"""Bytes that arrays may declare per byte of the file: gzip halves real data, and shrinks zeros far more."""
UNMARKED = "ends that are not marked"
FEW = 1e-3
"""Share of rows up to which ends that are not marked are taken for ends."""
HUGE = 1e8
"""A value beyond it is an error of units or a broken simulator; its square would drown all others."""
BLOCK = 2**16
ACTION_SLACK = 1e-4
GAP = 1e-3
JUDGED = 1000
"""Rows from which on it can be told that they are not in the order in which they were played."""
NARROW = 0.5
"""The width of all starts, in standard deviations of observations, up to which a start is known as one."""
JUMP = 2.0
"""Of a step to a start, in those that are usual in an episode."""
STEPPED, SAME_STEP = 1000, 1e-3
"""Rows that are stepped again, and by how much their next observations may differ in the median."""
RULE_SHARE = 0.1
"""Share of ends that may disagree with the task's rule: rounding, and states that observations clip."""

WRITTEN = "is still being written, or its writer was killed; wait for it, or get the file again"
SIGNATURE = b"\x89HDF\r\n\x1a\n"
STRANGERS = (
    (b"\x1f\x8b", "is gzip-compressed; unpack it with gunzip"),
    (b"PK", "is a zip archive (an .npz?); `o2obench data import` makes a data set of it"),
    (b"\x80\x03", "is a Python pickle; pickles are never opened"),
    (b"\x80\x04", "is a Python pickle; pickles are never opened"),
    (b"\x80\x05", "is a Python pickle; pickles are never opened"),
    (b"\x93NUMPY", "is a single numpy array; `o2obench data import` takes an .npz of several"),
    (b"version https://git-lfs", "is a pointer of git-lfs, not the data; get them with `git lfs pull`"),
    (b"<", "is a web page, not the data; what was downloaded is an error message"),
    (b"{", "is JSON, not the data; what was downloaded is an error message"),
    (b"PAR1", "is Parquet; `o2obench data import` makes a data set of it"),
    (b"ARROW1", "is Arrow; only HDF5 is read"),
)


@dataclass
class Columns:
    """The arrays of a file, one row per step, floats as float32, actions in the environment's own range.

    ``next_obs`` is whole, ``known`` says in which rows it is: where a file does not store the observation
    after the last row of an episode, there is none.
    """

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array
    truncated: Array
    known: Array | None = None
    stored: bool = True
    """Whether the file says what was observed after each step; else that is the next row's observation."""
    task_agnostic: bool = False
    """Whether the task was not in mind when trajectories were recorded: they go on after its end."""
    place: Callable[[str, int], str] = lambda column, row: f"{column}[{row}]"
    """Where a row of a column (observations, actions, ...) stands in the file."""

    @property
    def ends(self) -> Array:
        """Rows that end an episode."""
        return self.terminated | self.truncated

    def start_and_stop(self) -> tuple[Array, Array]:
        """Return first row and last row + 1 of every episode."""
        stops = np.flatnonzero(self.ends) + 1
        return np.concatenate([[0], stops[:-1]]), stops


@dataclass
class Summary:
    """What is wrong with a file, and what is worth knowing about it."""

    file: Path
    admitted: bool = False
    """Whether validation let this very file pass before: its headers are then taken as they are."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, key: str, problem: str) -> None:
        """Record a problem of a key."""
        self.problems.append(f"{self.file}:/{key}: {problem}")

    def settle(self) -> None:
        """Raise UserError with all problems, if there are any."""
        if self.problems:
            raise UserError(*self.problems)


# ---- files and headers --------------------------------------------------------------------------------


@contextmanager
def open_hdf5(file: Path) -> Iterator[Any]:
    """Open a file after a look at its first bytes; raise UserError saying what it is, if it is not HDF5."""
    import h5py

    if not file.exists():
        raise UserError(f"{file}: not found; give the path of an HDF5 file")
    if not file.is_file():
        raise UserError(f"{file}: is not a file")
    with open(file, "rb") as stream:
        head = stream.read(4096)
        blocks = [0, *(512 * 2**k for k in range(12))]  # a user's own block may stand before the signature
        matches = [stream.seek(at) == at and stream.read(8) == SIGNATURE for at in blocks]
    if not head:
        raise UserError(f"{file}: is empty; delete it and get it again")
    if not any(matches):
        kind = [message for start, message in STRANGERS if head.lstrip().startswith(start)]
        raise UserError(f"{file}: {kind[0] if kind else 'is not an HDF5 file; delete it and get it again'}")
    with _shared_lock(file):
        try:
            root = h5py.File(file, "r", locking=False)  # with its own lock, nothing is read without flock
        except OSError as error:
            why = str(error)
            if "truncated" in why:
                raise UserError(f"{file}: is cut off ({file.stat().st_size:,} bytes); get it again") from None
            if "already open" in why:
                raise UserError(f"{file}: {WRITTEN}") from None
            raise UserError(f"{file}: is corrupted ({why.splitlines()[0]}); get it again") from None
        with root:
            yield root


@contextmanager
def _shared_lock(file: Path) -> Iterator[None]:
    """Hold HDF5's own lock on a file that is read; do without on a file system that has none.

    Such are NFS without lockd and Lustre without its option flock.
    """
    with open(file, "rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{file}: {WRITTEN}") from None
        except OSError:
            pass
        yield


def array(root: Any, key: str, findings: Summary, kinds: str = "floats") -> Any:
    """Return the array under ``key`` after a look at its header, None where there is none that can be used.

    ``kinds`` is floats, actions (whole numbers are refused) or flags. Nothing is read.
    """
    import h5py

    if findings.admitted:
        try:
            return root[key]
        except KeyError:
            return None
    where = f"{root.name.strip('/')}/{key}".strip("/")
    try:
        link = root.get(key, getlink=True)
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        findings.add(where, f"the index of the file is corrupted ({error}); get the file again")
        return None
    if link is None:
        return None
    if isinstance(link, h5py.ExternalLink):
        findings.add(where, f"is a link into another file ({link.filename}); links are refused")
        return None
    if isinstance(link, h5py.SoftLink):
        findings.add(where, f"is a link to {link.path}; links are refused")
        return None
    try:
        node = root[key]
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        findings.add(where, f"its header is corrupted ({error}); get the file again")
        return None
    if isinstance(node, h5py.Group):
        findings.add(where, "is a group, expected one array; only vector observations are read")
        return None
    if not isinstance(node, h5py.Dataset):
        findings.add(where, "is a named type, expected an array")
        return None
    return node if _storage(node, where, findings) and has_type(node, where, findings, kinds) else None


FILTERS = {1, 2, 3, 6, 32000}
"""gzip, shuffle, fletcher32, scaleoffset, lzf: those that need no plug-in."""


def _storage(node: Any, where: str, findings: Summary) -> bool:
    """Tell whether the values lie in this file, in a size that this file can have."""
    size = node.file.id.get_filesize()
    filters = node.id.get_create_plist()
    unknown = {filters.get_filter(i)[0] for i in range(filters.get_nfilters())} - FILTERS
    if node.is_virtual:
        findings.add(where, "is a view of other files; refused")
    elif node.external:
        findings.add(where, f"keeps its values in another file ({node.external[0][0]}); refused")
    elif node.shape is None:
        findings.add(where, "is declared without values")
    elif unknown:
        findings.add(where, f"is packed with filter {min(unknown)}, a plug-in; write it again with gzip")
    elif node.nbytes > LARGEST:
        findings.add(where, f"declares {node.nbytes / 2**30:,.0f} GiB; {LARGEST // 2**30} GiB is the most")
    elif node.nbytes > RATIO * size:
        findings.add(where, f"declares {node.nbytes:,} bytes in a file of {size:,}")
    elif node.chunks and int(np.prod(node.chunks)) * node.dtype.itemsize > LARGEST_CHUNK:
        findings.add(where, f"is stored in pieces of shape {node.chunks}, too large to unpack safely")
    else:
        return True
    return False


def has_type(node: Any, where: str, findings: Summary, kinds: str) -> bool:
    """Tell whether the array holds the numbers it should."""
    kind, dtype = node.dtype.kind, node.dtype
    if kind in "OSUV" or kind == "c":
        names = {"O": "objects", "V": "records", "c": "complex numbers"}
        findings.add(where, f"holds {names.get(kind, 'text')} ({dtype}), expected numbers")
    elif kinds == "flags":
        return True  # 0 and 1 of any type; the values are looked at
    elif kind == "b":
        findings.add(where, "holds true and false, expected numbers")
    elif dtype == np.float16:
        findings.add(where, "is float16, which keeps 3 digits; write it as float32")
    elif kinds == "actions" and kind in "iu":
        findings.add(where, f"holds whole numbers ({dtype}): discrete actions are not supported")
    elif kind == "u" and dtype.itemsize == 1:
        findings.add(where, "holds bytes: images are not supported")
    else:
        return True
    return False


def floats(node: Any, out: Array, where: str, findings: Summary) -> None:
    """Read an array into ``out`` (float32), which HDF5 converts on the way."""
    import h5py

    try:
        node.id.read(h5py.h5s.ALL, h5py.h5s.ALL, out)
    except (OSError, RuntimeError) as error:
        findings.add(where, f"its values are corrupted ({str(error).splitlines()[0]}); get the file again")


def flags(node: Any, rows: int, where: str, findings: Summary) -> Array:
    """Return an array of 0 and 1 as bool (rows,)."""
    import h5py

    values = np.empty(node.shape, node.dtype)
    try:
        node.id.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    except (OSError, RuntimeError) as error:
        findings.add(where, f"its values are corrupted ({str(error).splitlines()[0]}); get the file again")
        return np.zeros(rows, bool)
    return as_flags(values.reshape(rows), where, findings)


def as_flags(values: Array, where: str, findings: Summary) -> Array:
    """Return values (rows,), which must be 0 and 1, as bool."""
    if values.dtype == bool:
        return values
    other = np.flatnonzero((values != 0) & (values != 1))
    if len(other):
        findings.add(f"{where}[{other[0]}]", f"{values[other[0]]}, expected 0 or 1 ({len(other)} others)")
    return values.astype(bool)


def read_npz(file: Path, names: Container[str] | None = None) -> dict[str, Array]:
    """Return the arrays of an .npz file, of these names if given; nothing is unpickled.

    Raises UserError when it is none, is cut off, declares more than it can hold, or holds objects.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            require_size(file, sum(member.file_size for member in archive.infolist()))
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if names is None or name in names}
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise UserError(
            f"{file}: holds Python objects, which are never unpickled; write plain arrays: "
            "np.savez('plain.npz', observations=np.stack(...), ...)"
        ) from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError):
        raise UserError(f"{file}: is not an .npz file, or is cut off; write it by np.savez") from None


def require_size(file: Path, declared: int) -> None:
    """Raise UserError when a file declares more bytes than it can hold."""
    if declared > min(LARGEST, RATIO * file.stat().st_size):
        raise UserError(f"{file}: declares {declared:,} bytes in a file of {file.stat().st_size:,}")


# ---- values -------------------------------------------------------------------------------------------


def check(columns: Columns, env: EnvSpec, findings: Summary) -> None:
    """Look at every value; raise UserError with all that is wrong, note what is unusual."""
    for name, values in (
        *(("observations", columns.obs), ("actions", columns.action)),
        *(("rewards", columns.reward), ("next_observations", columns.next_obs)),
    ):
        _finite(name, values, columns, findings)
    findings.settle()
    gaps, _ = _gaps(columns)
    if 0 < len(gaps) <= FEW * len(columns.obs):
        findings.notes.append(f"{len(gaps):,} {UNMARKED} ({_how(columns)}), taken for time-outs")
        mark_ends(columns)
    _actions(columns, env, findings)
    _spread(columns, findings)
    if not columns.task_agnostic:
        _episodes(columns, env, findings)
    findings.settle()
    _successors(columns, findings)
    _left_out(columns, findings)
    findings.settle()
    _rule(columns, env, findings)
    findings.settle()


def _finite(name: str, values: Array, columns: Columns, findings: Summary) -> None:
    for problem, wrong in (("not a number", np.isnan), ("infinite as float32", np.isinf)):
        row, count = _first(values, wrong)
        if count:
            findings.add(
                columns.place(name, row), f"{problem} ({count:,} such rows); leave these episodes out"
            )
            return
    row, count = _first(values, lambda block: np.abs(block) > HUGE)
    if count:
        findings.add(
            columns.place(name, row), f"{np.abs(values[row]).max():g} is beyond {HUGE:g} ({count:,} rows)"
        )


def _first(values: Array, wrong: Callable[[Array], Array]) -> tuple[int, int]:
    """Return the first row in which ``wrong`` holds somewhere, and how many there are; a block at a time."""
    first, count = -1, 0
    for start in range(0, len(values), BLOCK):
        bad = wrong(values[start : start + BLOCK])
        rows = np.flatnonzero(bad.any(axis=1) if bad.ndim == 2 else bad)
        if len(rows):
            first, count = (start + int(rows[0]) if first < 0 else first), count + len(rows)
    return first, count


def _actions(columns: Columns, env: EnvSpec, findings: Summary) -> None:
    low, high = env.low - ACTION_SLACK, env.high + ACTION_SLACK
    row, count = _first(columns.action, lambda block: (block < low) | (block > high))
    if count:
        worst = np.abs(columns.action[row]).max()
        findings.add(
            columns.place("actions", row),
            f"{worst:g} is outside [{np.min(env.low):g}, {np.max(env.high):g}] of {env.id} ({count:,} rows); "
            "scale them to it, or clip what overshoots",
        )
    elif (columns.action == columns.action[0]).all():
        findings.add("actions", f"is the same in all {len(columns.action):,} rows")
    elif float(np.abs(env.to_unit(columns.action)).max()) < 1e-2:
        findings.add("actions", f"stays within a hundredth of what {env.id} allows; is it in other units?")


def _spread(columns: Columns, findings: Summary) -> None:
    low, high = columns.obs.min(axis=0), columns.obs.max(axis=0)
    constant = np.flatnonzero(low == high)
    if len(constant) == len(low):
        findings.add("observations", f"is the same in all {len(columns.obs):,} rows")
    elif len(constant):
        findings.notes.append(f"observations[:, {constant.tolist()}] never change")
    still = np.flatnonzero((columns.action == columns.action[0]).all(axis=0))
    if 0 < len(still) < columns.action.shape[1]:
        findings.notes.append(f"actions[:, {still.tolist()}] never change")
    if (columns.reward == columns.reward[0]).all():
        findings.notes.append(f"rewards are {columns.reward[0]:g} in all rows")


def _episodes(columns: Columns, env: EnvSpec, findings: Summary) -> None:
    starts, stops = columns.start_and_stop()
    lengths, most = stops - starts, env.recorded or env.horizon
    longest = int(lengths.argmax())
    row = int(starts[longest])
    if len(stops) == 1 and lengths[0] > most:
        findings.add("timeouts", f"no end of an episode in {len(columns.obs):,} rows, {env.id} has {most}")
    elif lengths[longest] > most:
        findings.add(
            columns.place("timeouts", row + most - 1),
            f"an episode of {lengths[longest]:,} steps, {env.id} ends after {most}; mark its end",
        )
    elif (lengths == 1).all() and env.horizon > 1:
        findings.add("terminals", f"all {len(lengths):,} rows end an episode")
    short = int((lengths == 1).sum())
    if short:
        findings.notes.append(f"{short:,} episodes of one step")


def _successors(columns: Columns, findings: Summary) -> None:
    """Hold stored next observations against the next rows."""
    inside = ~columns.ends[:-1]
    gaps, standing = _gaps(columns)
    if not columns.stored:
        _order(columns, findings)
    if gaps and not columns.stored:
        findings.add(
            columns.place("observations", gaps[0] + 1),
            f"is the start of an episode, and no end is marked before it ({len(gaps):,} such rows); mark the "
            "ends in terminals or timeouts",
        )
    elif standing > 0.9 * inside.sum() > 0:
        findings.add("next_observations", "is the same as observations; it is shifted by one row")
    elif len(gaps) > 0.5 * inside.sum():
        findings.add(
            "next_observations", f"does not follow from observations in {len(gaps):,} rows; other units?"
        )
    elif gaps:
        findings.add(
            columns.place("next_observations", gaps[0]),
            f"differs from {columns.place('observations', gaps[0] + 1)} although no episode ends there "
            f"({len(gaps):,} such rows); mark an episode's end there, by the task in terminals, by the clock "
            "in timeouts",
        )
    if columns.task_agnostic:
        return
    ends = np.flatnonzero(columns.ends[:-1] & (columns.known[:-1] if columns.known is not None else True))
    over = (columns.next_obs[ends] == columns.obs[ends + 1]).all(axis=1)
    if len(ends) and over.mean() > 0.5 and columns.ends[ends[over] + 1].mean() > 0.5:
        findings.add(
            columns.place("terminals", int(ends[over][0])),
            f"ends an episode, and so does the next row ({int(over.sum()):,} such rows); set the flag in the "
            "last row of an episode only",
        )
    elif len(ends) and over.mean() > 0.5:
        findings.add(
            columns.place("next_observations", int(ends[over][0])),
            f"is the first observation of the next episode ({int(over.sum()):,} such ends); "
            "leave next_observations out, or store the true ones",
        )


def _how(columns: Columns) -> str:
    return "next_observations do not go on" if columns.stored else "the next row is a start"


def _order(columns: Columns, findings: Summary) -> None:
    """Refuse rows that follow each other no more than any two rows do, as those of a shuffled buffer."""
    inside, spread = ~columns.ends[:-1], columns.obs.var(axis=0, dtype=np.float64)
    if inside.sum() < JUDGED or not spread.any():
        return
    steps = (np.diff(columns.obs, axis=0)[inside] ** 2).mean(axis=0, dtype=np.float64)
    if (steps[spread > 0] / spread[spread > 0]).min() > 1.0:  # 2 where rows are drawn at random
        findings.add(
            "observations",
            "the rows do not follow each other; write them in the order in which they were played, or store "
            "next_observations",
        )


def _unmarked_starts(columns: Columns) -> list[int]:
    """Return the rows inside episodes after which one begins: the next row lies among the starts.

    It must be a jump there, from somewhere else: some tasks are played where they start.
    """
    obs, inside = columns.obs, ~columns.ends[:-1]
    starts = obs[columns.start_and_stop()[0]]
    low, high, spread = starts.min(axis=0), starts.max(axis=0), obs.std(axis=0)
    if len(starts) < 2 or np.median((high - low) / np.maximum(spread, 1e-12)) > NARROW:
        return []
    rows = np.flatnonzero(inside & ((obs[1:] >= low - GAP) & (obs[1:] <= high + GAP)).all(axis=1))
    wide = (high - low) / 2 + GAP
    away = ((obs[rows] < low - wide) | (obs[rows] > high + wide)).any(axis=1)
    steps = np.diff(obs, axis=0)[inside]
    usual = np.sqrt((steps.astype(np.float64) ** 2).mean(axis=0)) + 1e-12
    jump = (np.abs(obs[rows + 1] - obs[rows]) / usual).max(axis=1, initial=0.0) > JUMP
    return [int(row) for row in rows[away & jump]]


def _gaps(columns: Columns) -> tuple[list[int], int]:
    """Return the rows inside episodes that the next row does not follow, and how many stand still."""
    if not columns.stored:
        return _unmarked_starts(columns), 0
    inside, gaps, standing = ~columns.ends[:-1], list[int](), 0
    for start in range(0, len(inside), BLOCK):
        rows = slice(start, min(start + BLOCK, len(inside)))
        after = slice(rows.start + 1, rows.stop + 1)
        gap = np.abs(columns.next_obs[rows] - columns.obs[after]).max(axis=1)
        tolerated = GAP * (1.0 + np.abs(columns.obs[after]).max(axis=1))
        gaps += (start + np.flatnonzero(inside[rows] & (gap > tolerated))).tolist()
        standing += int((inside[rows] & (columns.next_obs[rows] == columns.obs[rows]).all(axis=1)).sum())
    return gaps, standing


def _left_out(columns: Columns, findings: Summary) -> None:
    """Refuse a file whose rewards differ in rows only that have no successor and are left out."""
    if columns.known is None:
        return
    used = columns.reward[columns.known]
    if len(used) and (used == used[0]).all() and not (columns.reward == used[0]).all():
        findings.add(
            "next_observations",
            f"missing: the rows left out for it hold all rewards other than {used[0]:g}; store them",
        )


def _rule(columns: Columns, env: EnvSpec, findings: Summary) -> None:
    """Hold the ends against the task's rule of termination, where it is known."""
    if env.terminal is None:
        return
    if columns.known is not None:
        findings.notes.append(
            f"ends could not be held against {env.id}'s rule: there are no next observations"
        )
    dead = np.zeros(len(columns.obs), bool)
    for start in range(0, len(dead), BLOCK):
        rows = slice(start, start + BLOCK)
        dead[rows] = env.terminal(columns.obs[rows], columns.action[rows], columns.next_obs[rows])
    has_next = columns.known if columns.known is not None else np.ones_like(dead)
    inside = has_next & ~columns.ends
    for mask, wrong, key, message in (
        (inside, dead, "observations", "go on where {env} would have ended: another task, or other units"),
        (
            columns.terminated & has_next,
            ~dead,
            "terminals",
            "are set where {env} goes on: ends by the clock belong in timeouts",
        ),
        (columns.truncated & has_next, dead, "timeouts", "are set where {env} ends: these are terminals"),
    ):
        count, of = int((mask & wrong).sum()), int(mask.sum())
        allowed = 0.01 if key == "observations" else RULE_SHARE
        if count > max(1, allowed * of):
            findings.add(
                columns.place(key, int(np.flatnonzero(mask & wrong)[0])),
                f"{count:,} of {of:,} {message.format(env=env.id)}",
            )
        elif count:
            findings.notes.append(f"{count:,} of {of:,} {key} disagree with {env.id}'s rule of termination")


def check_own(columns: Columns, env: EnvSpec, state: tuple[Array, Array] | None, findings: Summary) -> None:
    """Hold a file against its environment's own check, if it has one; raise UserError with what is wrong.

    ``state`` is the simulator's (qpos, qvel) before each row, None where the file does not hold it.
    """
    if env.own_check is None:
        return
    is_known = np.ones(len(columns.obs), bool) if columns.known is None else columns.known
    known, followed = np.flatnonzero(is_known), np.flatnonzero(is_known & ~columns.terminated)
    if env.own_check.stepped and state is None:
        findings.add(
            "infos/qpos",
            f"missing, or infos/qvel: {env.id} is rebuilt here, and a file shows by them that it is the same",
        )
    elif env.own_check.stepped and state is not None:
        rows = followed[:: max(1, len(followed) // STEPPED)]
        steps = simulate(
            *(env, columns.obs[rows], env.to_unit(columns.action[rows])),
            state=(state[0][rows], state[1][rows]),
        )
        off = float(np.median(np.abs(steps.next_obs - columns.next_obs[rows]).max(axis=1)))
        if not off <= SAME_STEP:
            findings.add(
                columns.place("next_observations", int(rows[0])),
                f"{len(rows):,} rows stepped again from infos/qpos and infos/qvel are off by {off:.2g} in "
                f"the median, {SAME_STEP:g} is allowed: {env.id} has other physics",
            )
    episode = np.cumsum(columns.ends) - columns.ends
    parts = (columns.obs, columns.next_obs, columns.reward, episode)
    wrong = env.own_check.wrong_rewards(*(part[known] for part in parts))
    if wrong:
        findings.add("rewards", wrong)
    findings.settle()


def mark_ends(columns: Columns) -> Columns:
    """Mark the few ends that next observations show and no flag does; ``check`` notes them."""
    gaps, _ = _gaps(columns)
    columns.truncated[gaps] = True
    if gaps and not columns.stored:  # nobody wrote down what came after them
        columns.known = np.ones(len(columns.obs), bool) if columns.known is None else columns.known
        columns.known[gaps] = False
    return columns


# ---- what agents get ----------------------------------------------------------------------------------


def transitions(columns: Columns, env: EnvSpec) -> Transitions:
    """Return the rows whose next observation is known, actions mapped to [-1, 1]."""
    start = np.concatenate([[True], columns.ends[:-1]])
    data = Transitions(
        obs=columns.obs,
        action=np.clip(env.to_unit(columns.action), -1.0, 1.0).astype(np.float32, copy=False),
        reward=columns.reward,
        next_obs=columns.next_obs,
        terminated=columns.terminated,
        truncated=columns.truncated,
        episode_start=start,
    )
    return data if columns.known is None else data[columns.known]
