"""Append-only JSON lines: one writer, one line per record, cut back to a known content on resume."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..util.files import naming, write_atomically


@dataclass(frozen=True)
class Mark:
    """What a checkpoint knows of a journal: how long it was and the SHA-256 of its content."""

    length: int = 0
    sha256: str = ""
    """Empty: not known; checkpoints of older versions held lengths only."""

    def cut(self, path: Path) -> bytes | None:
        """Return what a file held at this mark, or None when it does not hold it any more."""
        kept = path.read_bytes()[: self.length] if self.length and path.exists() else b""
        same = self.sha256 in ("", hashlib.sha256(kept).hexdigest())
        return kept if len(kept) == self.length and same else None


class Journal:
    """A file of JSON records.

    Opening replaces the file by one that holds ``kept``: a former owner that still has the old one open
    writes where nobody reads. Records are written without a buffer: what could not be written is never
    tried again when the file is closed.
    """

    def __init__(self, path: Path, kept: bytes = b"") -> None:
        write_atomically(path, kept)
        self.path = path
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115  (open as long as the run)
        self.length, self.hash = len(kept), hashlib.sha256(kept)

    def append(self, record: dict[str, Any]) -> None:
        """Write one record as one line; NaN and infinity are refused by ValueError."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with naming(self.path, len(line)):
            written = self.file.write(line)
            while written < len(line):  # the rest either fits or says why not
                written += self.file.write(line[written:])
        self.length += len(line)
        self.hash.update(line)

    def mark(self) -> Mark:
        """Return what the file holds now."""
        return Mark(self.length, self.hash.hexdigest())

    def sync(self) -> None:
        """Force what was appended to the disk."""
        with naming(self.path):
            os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file; no append may follow."""
        self.file.close()


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record that carries a hash of itself, for a journal that is not cut back to a mark."""
    return {**record, "seal": _seal(record)}


def sound(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the lines of a journal of sealed records, and the records: those that are as they were written.

    Older versions wrote no seals; their records are believed.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for line in content.split(b"\n")[:-1]:
        try:
            record = dict(json.loads(line))
        except (ValueError, TypeError):
            continue
        seal = record.pop("seal", None)
        if seal in (None, _seal(record)):
            yield line + b"\n", record


def _seal(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal that may still be written: an unfinished last line is left out.

    Raises ValueError naming file and line for any other damage.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    lines = content.split(b"\n")[:-1]
    whole = at_once(lines)
    if whole is not None:
        yield from whole
        return
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError:
            raise ValueError(f"{path}:{number}: not a JSON record") from None


def at_once(lines: Sequence[bytes]) -> list[Any] | None:
    """Return the records of lines, parsed together, which is fast; None where one of them may be none."""
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return None
    return records if len(records) == len(lines) else None


def last_record(path: Path) -> dict[str, Any] | None:
    """Return the last whole record of a journal without reading all of it; None where there is none."""
    try:
        with open(path, "rb") as file:
            size, span = file.seek(0, os.SEEK_END), 4096
            while True:
                file.seek(max(0, size - span))
                lines = file.read().split(b"\n")
                if len(lines) > 2 or span >= size:
                    return dict(json.loads(lines[-2])) if len(lines) > 1 else None
                span *= 8
    except (OSError, ValueError, TypeError):
        return None
