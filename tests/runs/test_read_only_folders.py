"""A results folder that may only be read: what reads works, what writes is refused in a line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from o2obench.runs.folder import RunFolder
from tests.conftest import environment
from tests.helpers.results import listing

WITHOUT_OVERRIDE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner")
"""For root, whom modes do not hold back: a process that they do."""
READING = (
    "status locked",
    "report locked --out out",
    "plot RUN --results locked --out curves.png",
    "export locked --out tables",
    "diff RUN OTHER --results locked",
    "compare locked whole",
    "doctor locked",
    "clean locked --dry-run",
    "mirror locked --to tensorboard --out board",
    "merge copy locked",
)
WRITING = (
    "retry locked --failed --diverged",
    "clean locked",
    "merge locked whole",
    "suite toys.yaml --results locked",
)


@pytest.fixture
def folder(tmp_path: Path, two_seeds: Path) -> Iterator[Path]:
    """Return a copy of a results folder, beside it an own one, and a read-only one."""
    for name in ("locked", "whole"):
        shutil.copytree(two_seeds, tmp_path / name, symlinks=True)
    for run in (tmp_path / "locked").glob("*/*/*/seed-0"):
        shutil.rmtree(run)
    for run in (tmp_path / "locked").glob("*/toy_tune/*/seed-1"):
        RunFolder(run, str(run.relative_to(tmp_path / "locked"))).fail("for a retry")
    for path in (tmp_path / "locked", *(tmp_path / "locked").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    suite = {"title": "Toys", "algorithms": ["toy_tune"], "datasets": ["pointmass-mixed-v0"], "seeds": 1}
    budget = {
        "offline": {"updates": 100, "evaluate_every": 50},
        "online": {"steps": 20, "evaluate_every": 10},
    }
    (tmp_path / "toys.yaml").write_text(json.dumps(suite | budget))
    yield tmp_path / "locked"
    for path in (tmp_path / "locked", *(p for p in (tmp_path / "locked").rglob("*") if p.is_dir())):
        path.chmod(0o755)


def said(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line beside the folder, as somebody whom modes hold back."""
    runs = sorted(str(run.relative_to(folder)) for run in folder.glob("*/*/*/seed-1"))
    words = command.replace("RUN", runs[0]).replace("OTHER", runs[-1]).split()
    before = WITHOUT_OVERRIDE if os.geteuid() == 0 else ()
    return subprocess.run(
        [*before, sys.executable, "-m", "o2obench", *words],
        capture_output=True,
        text=True,
        cwd=folder.parent,
        timeout=100,
        env=environment(
            O2OBENCH_DATA=str(folder.parent / "data"), XDG_CACHE_HOME=str(folder.parent / "cache")
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", READING)
def test_what_reads_works(folder: Path, command: str) -> None:
    before = listing(folder)
    done = said(command, folder)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert "denied" not in done.stderr
    assert listing(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITING)
def test_what_writes_is_refused_in_a_line_and_changes_nothing(folder: Path, command: str) -> None:
    before = listing(folder)
    done = said(command, folder)
    assert done.returncode in (1, 2), (done.stdout, done.stderr)
    words = done.stdout + done.stderr
    assert "Traceback" not in words
    assert "locked" in words
    assert "denied" in words or "read-only" in words or "cannot be written" in words, words
    assert listing(folder) == before
