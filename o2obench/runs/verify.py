"""Is a run what it was when it was published? Every fault of a run's folder, found by reading alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..util.files import is_file, is_folder, is_readable, read_json, read_plain, sha256, shown
from . import checkpoint
from .folder import RunFolder
from .inventory import LOGS, REMOVED
from .jsonl import LogMark
from .spec import Run
from .writer import log_marks_in

AGAIN = "remove the run's folder and start its suite again, or merge it from where it is whole"
RESUMES = "start the suite again, it goes on from the last whole checkpoint"
VOUCHED = ("run.json", *LOGS)
"""The files whose SHA-256 stand in DONE."""


@dataclass(frozen=True)
class Finding:
    """One thing to know about a folder: where, what is wrong, what to do.

    Kinds: ``corruption`` (numbers are at stake), ``leftover`` (`clean` removes it), ``note`` (nothing is
    wrong).
    """

    path: Path
    what: str
    do: str
    kind: str = "corruption"

    def __str__(self) -> str:
        return f"{shown(self.path)}: {shown(self.what)}; {shown(self.do)}"


def published(folder: RunFolder, run_id: str) -> Iterator[Finding]:
    """Yield what is wrong with a run that is done."""
    done = _record(folder)
    if done is None:
        yield Finding(folder.done, "is not the record of a published run", AGAIN)
        return
    hashes = done["sha256"]
    for name in VOUCHED:
        file = folder.path / name
        if name not in hashes:
            if is_file(file) or name in VOUCHED[:2]:
                yield Finding(file, "DONE does not vouch for this file", AGAIN)
        elif not is_readable(file):
            yield Finding(file, "is missing, or not a plain file of a usual size", AGAIN)
        elif sha256(file) != hashes[name]:
            yield Finding(file, "was changed after the run was finished", AGAIN)
        elif name.endswith(".jsonl"):
            yield from _lines(file, AGAIN)
    yield from identity(folder, run_id)
    yield from _last_state(folder)


ENDED = ("done", "diverged")
"""The states of a run that nothing goes on with."""


def ended(folder: RunFolder, run_id: str) -> Iterator[Finding]:
    """Yield what is wrong with a run that has ended: one that is done, or that diverged."""
    yield from (published if folder.done.exists() else unfinished)(folder, run_id)


def _record(folder: RunFolder) -> dict[str, Any] | None:
    """Return DONE; None where it does not have the form that `RunFolder.finish` writes."""
    done = read_json(folder.done) if is_file(folder.done) else None
    if not isinstance(done, dict) or done.keys() != {"sha256", "checkpoint"}:
        return None
    hashes = done["sha256"]
    whole = isinstance(hashes, dict) and hashes.keys() <= set(VOUCHED)
    return done if whole and isinstance(done["checkpoint"], str) else None


def identity(folder: RunFolder, run_id: str) -> Iterator[Finding]:
    """Yield what is wrong with run.json: unreadable, edited, or of another folder."""
    record = record_of(folder)
    try:
        run = Run.from_json(record["run"])
        if record["identity"] != run.identity:
            raise ValueError("its identity is not that of its contents; the record was edited")
    except ValueError as error:
        yield Finding(folder.record, str(error), AGAIN)
    except (KeyError, TypeError, AttributeError):
        yield Finding(folder.record, "is not the record of a run", AGAIN)
    else:
        if run.id != run_id:
            message = f"belongs to {run.id}: the folder was copied or renamed"
            yield Finding(folder.record, message, "give it that name again, or remove it")


def _last_state(folder: RunFolder) -> Iterator[Finding]:
    """Yield what is wrong with the state that a finished run hands over."""
    if folder.checkpoint.is_symlink():
        yield Finding(folder.checkpoint, "is a link", AGAIN)
        return
    last = folder.final_checkpoint()
    if last is None or not (last.exists() or last.is_symlink()):
        if is_stateless(folder):
            return
        message = f"{last.name if last else 'the last state'} is missing: no run can start from this one"
        yield Finding(folder.checkpoint, message, AGAIN)
        return
    yield from _checkpoint(last, AGAIN)


def is_stateless(folder: RunFolder) -> bool:
    """Tell whether a run is without its last state on purpose: `clean` took it, or only files were copied."""
    return is_file(folder.checkpoint / REMOVED) or not os.path.lexists(folder.checkpoint)


def _checkpoint(target: Path, do: str) -> Iterator[Finding]:
    if not is_folder(target) or not all(
        is_file(target / name) for name in ("manifest.json", "state.safetensors")
    ):
        yield Finding(target, "is not a whole checkpoint", do)
    elif fault := checkpoint.fault(target):
        yield Finding(target, fault, do)


def unfinished(folder: RunFolder, run_id: str) -> Iterator[Finding]:
    """Yield what is wrong with a run that is not done and that nobody computes."""
    saved = [target for target in checkpoint.numbered(folder.checkpoint) if is_file(target / "manifest.json")]
    if not saved and not folder.record.exists():
        return  # it has not begun
    yield from identity(folder, run_id)
    marks: dict[str, LogMark] = {}
    if saved:
        faults = list(_checkpoint(saved[-1], RESUMES))
        yield from faults
        marks = {} if faults else log_marks_in(read_json(saved[-1] / "manifest.json")["values"])
    for name in LOGS:
        file, mark = folder.path / name, marks.get(Path(name).stem, LogMark())
        if os.path.lexists(file) and not is_readable(file):
            yield Finding(file, "is not a plain file of a usual size", AGAIN)
            continue
        size = file.stat().st_size if file.exists() else 0
        if size < mark.length:
            yield Finding(file, f"has {size} bytes where the newest checkpoint knows {mark.length}", RESUMES)
        elif mark.truncated(file) is None:
            yield Finding(file, "is not what the newest checkpoint knows of it", RESUMES)
        else:
            yield from _lines(file, RESUMES, mark.length)


def _lines(file: Path, do: str, length: int = 0) -> Iterator[Finding]:
    """Yield the first line that is not a record; an unfinished last line is none.

    What a checkpoint knows is kept by a resume: a bad line there cannot be mended by one.
    """
    at = 0
    for number, line in enumerate(read_plain(file).split(b"\n")[:-1] if file.exists() else [], start=1):
        try:
            if not isinstance(json.loads(line, parse_constant=_refuse), dict):
                raise ValueError
        except (ValueError, RecursionError):
            place = file.with_name(f"{file.name}:{number}")
            yield Finding(place, "not a JSON record", AGAIN if at < length else do)
            return
        at += len(line) + 1


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def record_of(folder: RunFolder) -> dict[str, Any]:
    """Return run.json as a dict, empty where it is none."""
    record = read_json(folder.record) if is_file(folder.record) else None
    return record if isinstance(record, dict) else {}
