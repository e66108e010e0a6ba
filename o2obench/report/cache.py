"""Made once: a report whose every input and output is as it was is not made again.

The note beside a page names the content of all it rests on and of all that was written. It saves time and
nothing else: without it the report is made anew, with the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from ..planning.plan import Plan
from ..planning.report_items import plugin_figures
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.inventory import LOGS, RECORDS
from ..util.files import read_json, sha256, write_atomically

NAME = ".made.json"
LIBRARIES = ("numpy", "pandas", "scipy", "matplotlib", "rliable", "arch", "jinja2")
READ = frozenset((*RECORDS, *LOGS)) - {"progress.json"}
"""The files of a run that a report reads; of all others only the names count."""


def key(plan: Plan, results: ResultsFolder, *others: Any) -> str:
    """Return what a page of this plan rests on, as one hash.

    That is: this program, the libraries, installed packages' figures, the plan, the content of every run's
    files, and ``others``, JSON values: what was asked for, and what lies around the runs.
    """
    about = [_program(), list(_plugins(plan)), sha256(results.plan_file(plan.suite)), *others]
    of = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for run in plan.runs:
        of.update(_fingerprint(results.run(run.id)))
    return of.hexdigest()


def write(out: Path, made_from: str, about: Mapping[str, Any]) -> None:
    """Note what the files of a report rest on, and what it says in short; all of them were just written."""
    written = {name: sha256(out / name) for name in _files(out)}
    note = {"key": made_from, "files": written, "about": about}
    write_atomically(out / NAME, json.dumps(note, indent=1) + "\n")


def about(out: Path) -> dict[str, Any]:
    """Return what a report says in short; empty where there is no note of it."""
    note = read_json(out / NAME)
    said = note.get("about") if isinstance(note, dict) else None
    return said if isinstance(said, dict) else {}


def holds(out: Path, made_from: str) -> bool:
    """Tell whether the report in a folder was made from the same, and is as it was written."""
    note = read_json(out / NAME)
    if not isinstance(note, dict) or note.get("key") != made_from:
        return False
    try:
        return note.get("files") == {name: sha256(out / name) for name in _files(out)}
    except OSError:
        return False


def _files(out: Path) -> Iterator[str]:
    """Return the names of a report's files; folders beside them are somebody else's."""
    files = (entry.name for entry in os.scandir(out) if entry.is_file(follow_symlinks=False))
    return (name for name in sorted(files) if name != NAME)


def _fingerprint(folder: RunFolder) -> bytes:
    """Return state and content of a run's folder: files that are read by their bytes, all others by name."""
    of = hashlib.sha256(folder.state().encode())
    for directory, below, names in os.walk(folder.path):
        below.sort()
        for path in sorted(Path(directory, name) for name in (*below, *names)):
            of.update(f"{path.relative_to(folder.path)}\n".encode(errors="surrogateescape"))
            if (path.parent == folder.path and path.name in READ) or path.name == "manifest.json":
                try:
                    of.update(sha256(path).encode())
                except OSError as error:
                    of.update(str(error.errno).encode())
    return of.digest()


def _plugins(plan: Plan) -> Iterator[str]:
    """Yield the modules that draw installed packages' figures, and those beside them, by their hashes."""
    entries = plugin_figures()
    for name in sorted(entries.keys() & set(plan.figures)):
        try:
            spec = importlib.util.find_spec(entries[name].module)
        except ImportError:  # whoever draws it says which package is broken
            continue
        if spec is None or not spec.origin:
            continue
        file = Path(spec.origin)
        for source in sorted(file.parent.glob("*.py")) if spec.parent else [file]:
            yield f"{name} {source.name} {sha256(source)}"


@functools.cache
def _program() -> list[str]:
    """Return this program's files by their hashes, and the versions of what it computes and draws with."""
    package = Path(str(resources.files("o2obench")))
    sources = sorted(
        file for file in package.rglob("*") if file.suffix in (".py", ".csv", ".html", ".md", ".js", ".css")
    )
    hashes = [f"{file.relative_to(package)} {sha256(file)}" for file in sources]
    return [sys.version, *(f"{name} {metadata.version(name)}" for name in LIBRARIES), *hashes]
