"""Append-only JSONL logs: one writer, one line per record, truncated to a known content on resume."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..util.files import naming, open_plain, read_plain, write_atomically


@dataclass(frozen=True)
class LogMark:
    """What a checkpoint knows of a log: how long it was and the SHA-256 of its content."""

    length: int = 0
    sha256: str = hashlib.sha256().hexdigest()

    def truncated(self, path: Path) -> bytes | None:
        """Return what a file held at this mark, or None when it does not hold it any more."""
        content = read_plain(path)[: self.length] if self.length and path.exists() else b""
        return content if hashlib.sha256(content).hexdigest() == self.sha256 else None


class JsonlLog:
    """A file of JSON records.

    Opening replaces the file by one that holds ``content``: a former owner that still has the old one open
    writes where nobody reads. Records are written without a buffer: what could not be written is never
    tried again when the file is closed.
    """

    def __init__(self, path: Path, content: bytes = b"") -> None:
        write_atomically(path, content)
        self.path = path
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115  (open as long as the run)
        self.length, self.hash = len(content), hashlib.sha256(content)

    def append(self, record: dict[str, Any]) -> None:
        """Write one record as one line; NaN and infinity are refused by ValueError."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with naming(self.path, len(line)):
            written = self.file.write(line)
            while written < len(line):  # the rest either fits or says why not
                written += self.file.write(line[written:])
        self.length += len(line)
        self.hash.update(line)

    def mark(self) -> LogMark:
        """Return what the file holds now."""
        return LogMark(self.length, self.hash.hexdigest())

    def sync(self) -> None:
        """Force what was appended to the disk."""
        with naming(self.path):
            os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file; no append may follow."""
        self.file.close()


def with_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record that carries a checksum of itself, for a log that is not truncated to a mark."""
    return {**record, "checksum": _checksum(record)}


def valid_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the lines of a log with checksums, and the records: those that are as they were written."""
    try:
        content = read_plain(path)
    except FileNotFoundError:
        return
    for line in content.split(b"\n")[:-1]:
        try:
            record = dict(json.loads(line))
        except (ValueError, TypeError, RecursionError):
            continue
        if record.pop("checksum", None) == _checksum(record):
            yield line + b"\n", record


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a log that may still be written: an unfinished last line is left out.

    Raises ValueError naming file and line for any other corruption.
    """
    try:
        content = read_plain(path)
    except FileNotFoundError:
        return
    lines = content.split(b"\n")[:-1]
    records = parse_lines(lines)
    if records is not None:
        yield from records
        return
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"{path}:{number}: not a JSON record") from None


def parse_lines(lines: Sequence[bytes]) -> list[Any] | None:
    """Return the records of lines, parsed together, which is fast; None where one of them may be none."""
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return None
    return records if len(records) == len(lines) else None


def last_record(path: Path) -> dict[str, Any] | None:
    """Return the last whole record of a log without reading all of it; None where there is none."""
    try:
        with open_plain(path) as file:
            size, span = file.seek(0, os.SEEK_END), 4096
            while True:
                file.seek(max(0, size - span))
                lines = file.read().split(b"\n")
                if len(lines) > 2 or span >= size:
                    return dict(json.loads(lines[-2])) if len(lines) > 1 else None
                span *= 8
    except (OSError, ValueError, TypeError, RecursionError):
        return None
