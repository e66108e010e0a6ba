"""Append-only JSON lines: one writer, one line per record, cut back to a known length on resume."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .files import write_atomically


class Journal:
    """A file of JSON records.

    Opening keeps the first ``keep`` bytes and drops the rest. The kept bytes move to a new file
    first: a former owner that still holds the old one open writes where nobody reads.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        kept = path.read_bytes()[:keep] if keep else b""
        if len(kept) != keep:
            raise ValueError(f"{path}: {len(kept)} bytes where the checkpoint knows {keep}; the file was cut")
        write_atomically(path, kept)
        self.file = open(path, "ab")  # noqa: SIM115  (open as long as the run)
        self.length = keep

    def append(self, record: dict[str, Any]) -> None:
        """Write one record as one line; NaN and infinity are refused by ValueError."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        self.file.write(line)
        self.file.flush()
        self.length += len(line)

    def sync(self) -> None:
        """Force what was appended to the disk."""
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file; no append may follow."""
        self.file.close()


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal that may still be written: an unfinished last line is left out.

    Raises ValueError naming file and line for any other damage.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            yield json.loads(line)
        except ValueError:
            raise ValueError(f"{path}:{number}: not a JSON record") from None


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
