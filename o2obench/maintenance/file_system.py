"""What a file system can do, measured where the results lie: what exactly-once rests on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import SoftFileLease

from ..runs.folder import ResultsFolder
from ..util.files import sync_folder, temporary_name, write_atomically
from ..util.interpreter import PYTHON

CONTENDER = """
import sys
from filelock import SoftFileLease, Timeout
try:
    SoftFileLease(sys.argv[1], lease_duration=60, timeout=0).acquire()
except Timeout:
    raise SystemExit(7)
"""
REFUSED = 7


@dataclass(frozen=True)
class Ability:
    """Something that was tried, whether it went as results folders need it, and what was seen."""

    name: str
    works: bool
    seen: str


def measure(results: ResultsFolder) -> list[Ability]:
    """Try in a temporary folder inside ``results`` what runs rely on, and remove that folder again."""
    try:
        with _probe(results) as folder:
            abilities = [_try(name, trial, folder) for name, trial in TRIALS.items()]
    except OSError as error:
        return [Ability("writing", False, f"nothing can be written here: {error.strerror}")]
    return [*abilities, _space(results)]


@contextmanager
def _probe(results: ResultsFolder) -> Iterator[Path]:
    folder = temporary_name(results.path / "doctor")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _try(name: str, trial: Callable[[Path], str], folder: Path) -> Ability:
    try:
        return Ability(name, True, trial(folder))
    except (OSError, AssertionError, subprocess.SubprocessError) as error:
        return Ability(name, False, str(error) or type(error).__name__)


def _replace(folder: Path) -> str:
    file = folder / "probe-replace"
    file.write_text("old")
    with open(file) as before:
        write_atomically(file, "new")
        assert before.read() == "old", "an open file changes when its name is given to another"
    assert file.read_text() == "new", "the new content is not seen"
    return "a reader keeps the old file, the name has the new one"


def _link(folder: Path) -> str:
    first, second, name = folder / "probe-first", folder / "probe-second", folder / "probe-linked"
    first.write_text("first")
    second.write_text("second")
    os.link(first, name)
    try:
        os.link(second, name)
    except FileExistsError:
        assert name.read_text() == "first", "a second link replaced the first"
        return "the first of two wins"
    raise AssertionError("a second link of one name was not refused")


def _exclusive(folder: Path) -> str:
    file = folder / "probe-exclusive"
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return "the second of two is refused"
    raise AssertionError("a file was created twice")


def _fsync(folder: Path) -> str:
    with open(folder / "probe-fsync", "wb") as file:
        file.write(b"content")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return "files and folders"


def _times(folder: Path) -> str:
    file = folder / "probe-mtime"
    file.touch()
    moment = 1_600_000_001_234_567_891
    os.utime(file, ns=(moment, moment))
    off = abs(moment - file.stat().st_mtime_ns) / 1e9
    assert off < 3, f"a time comes back {off:.0f} s off"
    return f"a time comes back {off:g} s off"


def _lock(folder: Path) -> str:
    path = folder / "probe-lock"
    contender = [*PYTHON, "-c", CONTENDER, str(path)]
    with SoftFileLease(path, lease_duration=60, timeout=0):
        held = subprocess.run(contender, capture_output=True, timeout=60, check=False).returncode
    assert held == REFUSED, "a second process got a lock that was held"
    free = subprocess.run(contender, capture_output=True, timeout=60, check=False).returncode
    assert free == 0, "a lock that was given back cannot be acquired"
    return "held by one, refused to another process, given back"


def _space(results: ResultsFolder) -> Ability:
    stats = os.statvfs(results.path)
    free, files = stats.f_bavail * stats.f_frsize, stats.f_favail
    space = f"{free / 2**30:,.1f} GiB" + (f", {files:,} files" if stats.f_files else "")
    return Ability("free space", free > 0 and (files > 0 or not stats.f_files), space)


TRIALS = {
    "atomic replace": _replace,
    "hard links": _link,
    "exclusive create": _exclusive,
    "fsync": _fsync,
    "times of files": _times,
    "locks": _lock,
}
