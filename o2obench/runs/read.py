"""The evaluations of one finished run, vouched for and checked line by line."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..transitions import Array
from ..util.files import is_file, is_number, read_json, read_plain
from .folder import RunFolder
from .jsonl import parse_lines, read_jsonl
from .spec import MOST, Run


class Unusable(Exception):
    """Why a run or a experiment is left out."""


@dataclass(frozen=True, eq=False)
class Evaluations:
    """One finished run's evaluations, in the order in which they were made: one entry of each per row."""

    stages: Array
    env_steps: Array
    updates: Array
    episodes: Array
    mean_returns: Array
    deviations: Array
    """Standard deviation of the episodes' returns; 0 where there is one episode."""
    first: Array
    """The returns of the first evaluation."""
    last: Array
    """The returns of the last one."""
    content: str
    """The hashes of all values: evaluations, episodes and training, which no other run should share; empty
    where nothing was logged in training, since two runs may well play the same."""
    compute: Any
    """What run.json says of the machine."""
    played: Episodes
    """The training episodes."""
    data: str = ""
    """The SHA-256 of the data, where the run's identity names their recipe only; else empty."""


@dataclass(frozen=True, eq=False)
class Episodes:
    """A run's training episodes in the order in which they ended: one entry of each per episode."""

    stages: Array
    env_steps: Array
    returns: Array
    lengths: Array


def read_evaluations(folder: RunFolder, run: Run, env_steps: int) -> Evaluations:
    """Return what a finished run evaluated; raise Unusable when a file or a number is not as it should be.

    Args:
        folder: The run's folder.
        run: The run as planned.
        env_steps: The environment steps it was to take; its last evaluation stands there.
    """
    record = require_intact(folder, run)
    rows = _rows(read_plain(folder.evaluations), run)
    clocks = [(row["env_steps"], row["updates"]) for row in rows]
    faults = {
        "an evaluation stands there twice": len(
            {(row["stage"], *c) for row, c in zip(rows, clocks, strict=True)}
        )
        < len(rows),
        "its clock runs backwards": any(a[0] > b[0] or a[1] > b[1] for a, b in itertools.pairwise(clocks)),
        f"its evaluations end at step {clocks[-1][0]:,} of {env_steps:,}": clocks[-1][0] != env_steps,
        **_episode_faults(rows, run),
    }
    messages = [fault for fault, holds in faults.items() if holds]
    if messages:
        raise Unusable(f"{run.algorithm}: evaluations.jsonl: {'; '.join(messages)}")
    data = str(record.get("data_sha256", ""))
    return _evaluations(folder, run, rows, record.get("compute"), _content(folder), data)


def read_unfinished(folder: RunFolder, run: Run) -> Evaluations | None:
    """Return what a run that is not finished has evaluated so far; None where nothing of it can be read."""
    try:
        content = read_plain(folder.evaluations)
        rows = _rows(content[: content.rfind(b"\n") + 1], run)
        return _evaluations(folder, run, rows, None, "")
    except (OSError, Unusable):
        return None


def _content(folder: RunFolder) -> str:
    """Return the hashes that an intact run was published with, which were just compared with its files."""
    if not is_file(folder.train) or not folder.train.stat().st_size:
        return ""
    published = read_json(folder.done)["sha256"]
    return "-".join(
        published.get(file.name, "") for file in (folder.evaluations, folder.episodes, folder.train)
    )


def _evaluations(
    folder: RunFolder, run: Run, rows: Sequence[dict[str, Any]], compute: Any, content: str, data: str = ""
) -> Evaluations:
    return Evaluations(
        stages=np.array([sys.intern(row["stage"]) for row in rows], object),
        env_steps=np.array([row["env_steps"] for row in rows]),
        updates=np.array([row["updates"] for row in rows]),
        episodes=np.array([len(row["returns"]) for row in rows]),
        mean_returns=np.array([sum(row["returns"]) / len(row["returns"]) for row in rows]),
        deviations=_deviations(rows),
        first=np.array(rows[0]["returns"], float),
        last=np.array(rows[-1]["returns"], float),
        content=content,
        compute=compute,
        played=_read_episodes(folder, run),
        data=data,
    )


def _deviations(rows: Sequence[dict[str, Any]]) -> Array:
    """Return the standard deviation of each evaluation's returns (rows,)."""
    counts = np.array([len(row["returns"]) for row in rows])
    first = np.append(0, np.cumsum(counts)[:-1])
    returns = np.array([value for row in rows for value in row["returns"]], float)
    means = np.add.reduceat(returns, first) / counts
    squares = np.add.reduceat((returns - np.repeat(means, counts)) ** 2, first)
    return np.asarray(np.sqrt(squares / np.maximum(counts - 1, 1)))


def _read_episodes(folder: RunFolder, run: Run) -> Episodes:
    """Return a run's training episodes; raise Unusable when they are not what they should be."""
    stages, env_steps, returns, lengths = [], [], [], []
    try:
        for number, row in enumerate(read_jsonl(folder.episodes), start=1):
            if not is_episode(row):
                raise Unusable(f"{run.algorithm}: episodes.jsonl:{number}: not an episode")
            stages.append(sys.intern(row["stage"]))
            env_steps.append(row["env_steps"])
            returns.append(row["return"])
            lengths.append(row["length"])
    except ValueError:
        raise Unusable(f"{run.algorithm}: episodes.jsonl: a line is not an episode") from None
    return Episodes(
        stages=np.array(stages, object),
        env_steps=np.array(env_steps, np.int64),
        returns=np.array(returns, np.float64),
        lengths=np.array(lengths, np.int64),
    )


def computed_record(folder: RunFolder) -> dict[str, Any] | None:
    """Return run.json where it says as it should what a run was computed with, else None.

    Runs of before there was an ``engine`` get the first.
    """
    record = read_json(folder.record)
    if not isinstance(record, dict):
        return None
    compute, code = record.get("compute"), record.get("code")
    whole = (
        isinstance(compute, dict)
        and isinstance(compute.get("versions"), dict)
        and all(isinstance(value, str) for value in compute["versions"].values())
        and all(isinstance(compute.get(name), str) for name in ("processor", "device", "matmul_precision"))
        and type(compute.get("threads")) is int
        and 0 < compute["threads"] < MOST
        and isinstance(compute.get("compiled"), bool)
        and type(compute.setdefault("engine", 1)) is int
        and isinstance(code, dict)
        and isinstance(code.get("version"), str)
        and isinstance(code.get("dirty", 0), bool | None)
        and isinstance(code.get("commit", 0), str | None)
        and isinstance(record.get("mismatch"), list)
    )
    return record if whole else None


def unreadable(error: Exception) -> str:
    """Say in a line what an unexpected error means; no path of this machine in it."""
    errno = error.errno if isinstance(error, OSError) else None
    return f"could not be read: {os.strerror(errno) if errno else type(error).__name__}"


def require_intact(folder: RunFolder, run: Run) -> dict[str, Any]:
    """Return run.json; refuse a run that is not done, or whose files are not those it was published with."""
    state = folder.state()
    if state != "done":
        error = folder.failure().replace(f"{folder.path.parents[3]}{os.sep}", "")  # no path of this machine
        raise Unusable(f"{run.algorithm}: {state}{': ' + error if error else ''}")
    try:
        corruption = folder.corruption()
    except OSError as error:
        corruption = unreadable(error)
    if corruption:
        raise Unusable(f"{run.algorithm}: {corruption}")
    record = read_json(folder.record)
    if not isinstance(record, dict) or record.get("identity") != run.identity:
        raise Unusable(f"{run.algorithm}: run.json belongs to another run")
    return record


def _rows(content: bytes, run: Run) -> list[dict[str, Any]]:
    """Return the rows of evaluations.jsonl, each of the right form and finite."""
    *lines, rest = content.split(b"\n")
    if rest or not lines:
        message = "its last line is cut off" if rest else "it holds no evaluation"
        raise Unusable(f"{run.algorithm}: evaluations.jsonl: {message}")
    rows = []
    parsed = parse_lines(lines)
    for number, line in enumerate(lines, start=1):
        where = f"{run.algorithm}: evaluations.jsonl:{number}"
        try:
            row = json.loads(line) if parsed is None else parsed[number - 1]
        except (ValueError, RecursionError):
            raise Unusable(f"{where}: not a JSON record") from None
        if not is_evaluation(row):
            raise Unusable(f"{where}: not an evaluation: stage, env_steps, updates, returns")
        if not all(map(math.isfinite, row["returns"])):
            raise Unusable(f"{where}: a return is not finite")
        rows.append(row)
    return rows


def is_evaluation(row: Any) -> bool:
    """Tell whether a value from evaluations.jsonl is an evaluation: stage, clocks, returns."""
    if not (is_clocked(row) and min(row["env_steps"], row["updates"]) >= 0):
        return False
    returns = row.get("returns")
    return isinstance(returns, list) and bool(returns) and all(map(_is_return, returns))


def is_episode(row: Any) -> bool:
    """Tell whether a value from episodes.jsonl is an episode: stage, clock, length, finite return, end."""
    whole = _is_row(row, "env_steps", "length") and is_number(row.get("return"))
    return whole and isinstance(row.get("terminated"), bool)


def is_clocked(row: Any) -> bool:
    """Tell whether a value from train.jsonl has a stage and clocks."""
    return _is_row(row, "env_steps", "updates")


def _is_row(row: Any, *counts: str) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("stage"), str):
        return False
    return all(type(row.get(name)) is int and abs(row[name]) < MOST for name in counts)


def _is_return(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < MOST)


def _episode_faults(rows: Sequence[dict[str, Any]], run: Run) -> dict[str, bool]:
    """Name evaluations over another number of episodes than the run's protocol has."""
    protocol = run.spec.protocol
    some, many = protocol.episodes, protocol.final_episodes
    counts, last = {len(row["returns"]) for row in rows}, len(rows[-1]["returns"])
    strange = sorted(counts - {some, many})
    return {
        f"an evaluation of {strange[0] if strange else 0} episodes, the protocol has {some} and {many}": bool(
            strange
        ),
        f"its last evaluation has {last} episodes, the protocol {many}": not strange and last != many,
    }
