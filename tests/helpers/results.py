"""A small results folder of toy runs: all kinds of files, one run that is not finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from o2obench.errors import Interrupted
from o2obench.runs.folder import ResultsFolder
from o2obench.training.options import Options
from o2obench.training.runner import execute
from tests.helpers.suites import toy_plan


def make_results(folder: Path, seeds: int = 3) -> None:
    """Compute a plan of ``seeds`` pretraining and fine-tuning runs; the last of these is interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("O2OBENCH_DATA", str(folder.with_name("data")))
        patch.setenv("XDG_CACHE_HOME", str(folder.with_name("cache")))
        plan = toy_plan(seeds=seeds)
        results = ResultsFolder(folder)
        plan.write(results)
        *runs, last = sorted(plan.runs, key=lambda run: (run.algorithm, run.seed))
        for run in runs:
            execute([run], results, Options())
        calls = iter(range(10**6))
        with pytest.raises(Interrupted):
            execute([last], results, Options(checkpoint_seconds=0), stop=lambda: next(calls) == 60)
    for run in plan.runs:
        results.run(run.id).log.write_text("a word\n")


def listing(folder: Path) -> dict[str, bytes]:
    """Return every path below a folder: a file's bytes, a link's target, nothing for a folder."""
    return {
        str(path.relative_to(folder)): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.name not in (".", "..")
    }


def _content(path: Path) -> bytes:
    if path.is_symlink():
        return b"-> " + bytes(path.readlink())
    return path.read_bytes() if path.is_file() else b""
