"""What differs between two runs: what they compute, what they were computed with, and where scores part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..runs.folder import Run, RunFolder
from ..runs.jsonl import read_journal
from ..util.files import read_json

if TYPE_CHECKING:
    from rich.table import Table

KINDS = {"config": "option", "budget": "budget", "protocol": "protocol", "data": "data", "version": "version"}
"""Parts of a run's specification and what they are called here; the rest is its identity."""
JOURNALS = ("scores.jsonl", "episodes.jsonl")


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


@dataclass(frozen=True)
class Differs:
    """A value that is not the same in both runs; ``kind`` says where it stands. "absent": in one only."""

    kind: str
    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Parted:
    """Where two journals part: the line (from 1) of each file that differs first, both rows; None: ended."""

    journal: str
    line: int
    a: Mapping[str, Any] | None
    b: Mapping[str, Any] | None


@dataclass(frozen=True)
class Difference:
    """All that differs between two runs, and how many lines of each journal are equal from the start."""

    a: str
    b: str
    differs: tuple[Differs, ...]
    parted: tuple[Parted, ...]
    equal: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON value."""
        return asdict(self)


def difference(a: Path, b: Path) -> Difference:
    """Return what differs between the runs in two folders, finished or not.

    Raises:
        BadInput: One is not a run's folder, or a journal is damaged.
    """
    (one, first), (other, second) = read_record(a), read_record(b)
    differs = list[Differs]()
    for name in ("algorithm", "dataset", "seed"):
        differs += _unlike("identity", {name: getattr(one, name)}, {name: getattr(other, name)})
    for name in sorted({*one.spec, *other.spec} - {"algorithm"}):
        left, right = one.spec.get(name), other.spec.get(name)
        differs += _unlike(KINDS.get(name, "identity"), _named(name, left), _named(name, right))
    states = RunFolder(a.parent, a.name).state(), RunFolder(b.parent, b.name).state()
    differs += _unlike("outcome", {"state": states[0]}, {"state": states[1]})
    for name in ("compute", "code", "drift", "damage"):
        left, right = (_flat(name, record.get(name, [])) for record in (first, second))
        differs += _unlike("provenance", left, right)
    parted, equal = list[Parted](), dict[str, int]()
    for name in JOURNALS:
        equal[name], found = _part(name, a / name, b / name)
        parted += [found] if found else []
    return Difference(one.id, other.id, tuple(differs), tuple(parted), equal)


def read_record(folder: Path) -> tuple[Run, dict[str, Any]]:
    """Return the run in a folder and what its run.json says; raise BadInput where there is none."""
    record = read_json(folder / "run.json")
    try:
        return Run.from_json(record["run"]), record
    except (KeyError, TypeError, AttributeError):
        why = "is not a run's folder; give results/DATASET/ALGORITHM/HASH/seed-N"
    except ValueError as error:
        why = f"run.json was edited ({error}); see `o2obench doctor`"
    raise BadInput(f"{folder}: {why}")


def _named(name: str, value: Any) -> dict[str, Any]:
    """Return a part of a specification by name; its name is left out where the kind says it."""
    if name == "version":
        return dict(zip(("version of the algorithm", "version of its kit"), value or (), strict=False))
    flat = _flat(name, value)
    return {key.removeprefix(f"{name}."): item for key, item in flat.items()} if name in KINDS else flat


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Return nested dicts as one, with dots in the names."""
    if not isinstance(value, dict):
        return {name: value}
    return {key: found for part in value for key, found in _flat(f"{name}.{part}", value[part]).items()}


def _unlike(kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Differs]:
    for name in sorted({*a, *b}):
        left, right = a.get(name, ABSENT), b.get(name, ABSENT)
        if left != right:
            values = ("absent" if value is ABSENT else value for value in (left, right))
            yield Differs(kind, name, *values)


def _part(name: str, a: Path, b: Path) -> tuple[int, Parted | None]:
    """Return how many lines of two journals are equal, and the first that is not."""
    line = 0
    try:
        for line, (left, right) in enumerate(zip_longest(read_journal(a), read_journal(b)), start=1):
            if left != right:
                return line - 1, Parted(name, line, left, right)
    except ValueError as error:
        raise BadInput(f"{error}; see `o2obench doctor`") from None
    return line, None


def shown(found: Difference) -> Table:
    """Return the difference as a table."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"A: {found.a}\nB: {found.b}"), title_justify="left")
    table.caption_justify = "left"
    for name in ("kind", "what", "A", "B"):
        table.add_column(name, overflow="fold")
    for one in found.differs:
        table.add_row(one.kind, escape(one.what), escape(_short(one.a)), escape(_short(one.b)))
    for parted in found.parted:
        where = f"{parted.journal}, line {parted.line}"
        table.add_row("outcome", where, *(escape(_row(row)) for row in (parted.a, parted.b)))
    ends = [name for name in JOURNALS if name not in {parted.journal for parted in found.parted}]
    same = [f"{name}: all {found.equal[name]} lines are equal" for name in ends if found.equal[name]]
    if not found.differs and not found.parted:
        same.insert(0, "nothing differs")
    table.caption = "\n".join(same) or None
    return table


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _row(row: Mapping[str, Any] | None) -> str:
    """Say a journal's row in a few words: its clock and its return."""
    if row is None:
        return "has ended"
    clock = f"{row['stage']}, {row['env_steps']:,} steps"
    if "returns" in row:
        mean = sum(row["returns"]) / len(row["returns"])
        return f"{clock}, {row['updates']:,} updates: mean return {mean:.6g} of {len(row['returns'])}"
    return f"{clock}: return {row['return']:.6g}, length {row['length']:,}"
