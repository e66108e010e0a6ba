"""What the pool and its screen cost while nothing can be started."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from o2obench.cli.progress import SHARE, _at_most_every
from o2obench.launch.local import Pool, WorkerSettings
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.training.options import Options
from tests.helpers.suites import toy_plan


def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every look at a run's folder."""
    found: list[str] = []
    made = RunFolder.__init__

    def counted(self: RunFolder, path: Path, run_id: str) -> None:
        found.append(run_id)
        made(self, path, run_id)

    monkeypatch.setattr(RunFolder, "__init__", counted)
    return found


def test_without_a_free_slot_no_folder_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(
        toy_plan(seeds=20), tmp_path / "plan.json", ResultsFolder(tmp_path), WorkerSettings(jobs=1), Options()
    )
    pool.free_slots.clear()
    seen = looks(monkeypatch)
    pool._start_what_is_ready()
    assert seen == []


def test_a_parent_that_many_wait_for_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = toy_plan({"toy_tune": {"every": list(range(1, 51))}}, seeds=1)
    pool = Pool(plan, tmp_path / "plan.json", ResultsFolder(tmp_path), WorkerSettings(jobs=1), Options())
    seen = looks(monkeypatch)
    [ready] = pool._ready()
    assert ready.algorithm == "toy_offline"
    assert set(seen) == {ready.id}, "who cannot start yet need not be looked at"
    assert len(seen) <= 2


def test_the_screen_takes_a_small_share_of_the_time() -> None:
    calls: list[float] = []

    def slow() -> None:
        calls.append(time.monotonic())
        time.sleep(0.02)

    show = _at_most_every(0.01, slow)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        show()
    assert len(calls) <= 2 + 0.5 * SHARE / 0.02
