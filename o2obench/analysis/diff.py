"""What differs between two runs: what they compute, what they were computed with, and where scores part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..runs.folder import RunFolder
from ..runs.jsonl import read_jsonl
from ..runs.read import is_episode, is_evaluation
from ..runs.spec import Run
from ..util.files import read_json

KINDS = {
    "config": "option",
    "budget": "budget",
    "protocol": "protocol",
    "data": "data",
    "versions": "version",
}
"""Parts of a run's specification and what they are called here; the rest is its identity."""
LOGS: Mapping[str, Callable[[Any], bool]] = {"evaluations.jsonl": is_evaluation, "episodes.jsonl": is_episode}
"""What is held line by line, and what a line has to be."""


@dataclass(frozen=True)
class Differs:
    """A value that is not the same in both runs; ``kind`` says where it stands. "absent": in one only."""

    kind: str
    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Parted:
    """Where two logs part: the line (from 1) of each file that differs first, both rows; None: ended."""

    log: str
    line: int
    a: Mapping[str, Any] | None
    b: Mapping[str, Any] | None


@dataclass(frozen=True)
class Difference:
    """All that differs between two runs, and how many lines of each log are equal from the start."""

    a: str
    b: str
    differs: tuple[Differs, ...]
    parted: tuple[Parted, ...]
    equal: Mapping[str, int]


def difference(a: Path, b: Path) -> Difference:
    """Return what differs between the runs in two folders, finished or not.

    Raises:
        UserError: One is not a run's folder, or a log is corrupted.
    """
    (run_a, first), (run_b, second) = read_record(a), read_record(b)
    differs = list[Differs]()
    for name in ("algorithm", "dataset", "seed"):
        differs += differing_values("identity", {name: getattr(run_a, name)}, {name: getattr(run_b, name)})
    specs = run_a.spec.to_json(), run_b.spec.to_json()
    for name in sorted(specs[0].keys() - {"algorithm"}):
        left, right = (spec[name] for spec in specs)
        differs += differing_values(KINDS.get(name, "identity"), _named(name, left), _named(name, right))
    states = RunFolder(a, run_a.id).state(), RunFolder(b, run_b.id).state()
    differs += differing_values("outcome", {"state": states[0]}, {"state": states[1]})
    for name in ("compute", "code", "mismatch", "corruption"):
        left, right = (_flat(name, record.get(name, [])) for record in (first, second))
        differs += differing_values("provenance", left, right)
    parted, equal = list[Parted](), dict[str, int]()
    for name in LOGS:
        equal[name], part = _part(name, a / name, b / name)
        parted += [part] if part else []
    return Difference(run_a.id, run_b.id, tuple(differs), tuple(parted), equal)


def read_record(folder: Path) -> tuple[Run, dict[str, Any]]:
    """Return the run in a folder and what its run.json says; raise UserError where there is none."""
    record = read_json(folder / "run.json")
    try:
        return Run.from_json(record["run"]), record
    except (KeyError, TypeError, AttributeError):
        why = "is not a run's folder; give results/DATASET/ALGORITHM/HASH/seed-N"
    except ValueError as error:
        why = f"run.json was edited ({error}); see `o2obench doctor`"
    raise UserError(f"{folder}: {why}")


def _named(name: str, value: Any) -> dict[str, Any]:
    """Return a part of a specification by name; its name is left out where the kind says it."""
    flat = _flat(name, value)
    return {key.removeprefix(f"{name}."): item for key, item in flat.items()} if name in KINDS else flat


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Return nested dicts as one, with dots in the names."""
    if not isinstance(value, dict):
        return {name: value}
    return {key: item for part in value for key, item in _flat(f"{name}.{part}", value[part]).items()}


def differing_values(kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Differs]:
    """Yield what is not the same in both mappings, by name."""
    for name in sorted({*a, *b}):
        left, right = a.get(name, "absent"), b.get(name, "absent")
        if left != right:
            yield Differs(kind, name, left, right)


def _part(name: str, a: Path, b: Path) -> tuple[int, Parted | None]:
    """Return how many lines of two logs are equal, and the first that is not."""
    line = 0
    try:
        for line, (left, right) in enumerate(zip_longest(read_jsonl(a), read_jsonl(b)), start=1):
            for file, row in ((a, left), (b, right)):
                if row is not None and not LOGS[name](row):
                    raise ValueError(f"{file}:{line}: not a line of such a log")
            if left != right:
                return line - 1, Parted(name, line, left, right)
    except ValueError as error:
        raise UserError(f"{error}; see `o2obench doctor`") from None
    return line, None
