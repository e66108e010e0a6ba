"""A run killed by SIGKILL at any instant, and started again, ends with the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environment

from .figures import record, share

SERVER = Path(__file__).parents[1] / "helpers" / "kill_server.py"
KILLS = int(os.environ.get("N", "50"))
"""Random instants of all four agents together: make test-faults N=200."""
Found = dict[str, dict[str, Any]]


def kill_everywhere(algorithm: str, folder: Path, *more: str) -> Found:
    done = subprocess.run(
        [sys.executable, SERVER, algorithm, folder, *more],
        capture_output=True,
        text=True,
        timeout=1800,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def assert_nothing_was_lost(found: Found) -> None:
    for place, result in found.items():
        assert (result["lost"], result["behind"], result["wrong records"]) == (0, 0, 0), (place, result)
        assert result["equal"], (place, result)


def write_down(what: str, found: Found, seconds: float) -> None:
    def total(name: str) -> int:
        return sum(result[name] for result in found.values())

    record(
        "F1",
        what,
        injections=total("kills"),
        runs_lost=total("lost"),
        updates_lost=total("behind"),
        identical=share(total("equal"), len(found)),
        seconds=seconds,
        records_doubled_or_missing=total("wrong records"),
    )


@pytest.mark.parametrize(
    "algorithm",
    ["toy_offline", "toy_tune", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mopo", "naive"))],
)
def test_killed_runs_end_with_equal_bytes(algorithm: str, tmp_path: Path) -> None:
    found = kill_everywhere(algorithm, tmp_path)
    assert_nothing_was_lost(found)
    assert all(result["kills"] for result in found.values()), found
    redone = [place for place in found if found[place]["redone"]]
    assert len(redone) >= 2, f"hardly any work was lost and redone, so little was tested: {found}"


@pytest.mark.slow
def test_the_comparison_notices_a_forgotten_stream(tmp_path: Path) -> None:
    found = kill_everywhere("naive", tmp_path, "--forget", "sac noise", "--only", "mid-episode")
    assert not all(result["equal"] for result in found.values()), "the control passed: the test is blind"


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "keep"), [("toy_offline", "2"), ("toy_tune", "1")])
def test_killed_between_the_parts_of_a_commit(algorithm: str, keep: str, tmp_path: Path) -> None:
    found = kill_everywhere(algorithm, tmp_path, "--only", "commit", "--keep", keep)
    assert_nothing_was_lost(found)
    assert all(result["kills"] == 1 for result in found.values()), found
    assert all(result["whole"] > 0 for result in found.values()), f"a moment without a checkpoint: {found}"


@pytest.mark.parametrize("algorithm", ["toy_offline", "toy_tune"])
def test_a_run_killed_twelve_times_in_succession(algorithm: str, tmp_path: Path) -> None:
    found = kill_everywhere(algorithm, tmp_path, "--only", "succession", "--number", "12")
    assert_nothing_was_lost(found)
    assert found["succession"]["kills"] == 12, found


@pytest.mark.faults
@pytest.mark.parametrize("algorithm", ["toy_offline", "toy_tune", "mopo", "naive"])
def test_random_instants(algorithm: str, tmp_path: Path) -> None:
    began = time.monotonic()
    found = kill_everywhere(algorithm, tmp_path, "--only", "random", "--number", str(-(-KILLS // 4)))
    write_down(f"{algorithm} killed at random instants", found, time.monotonic() - began)
    assert_nothing_was_lost(found)
    assert sum(result["kills"] for result in found.values()) >= KILLS // 8, found


@pytest.mark.faults
@pytest.mark.parametrize("algorithm", ["mbpo", "frozen", "sac"])
def test_a_few_instants_of_the_others(algorithm: str, tmp_path: Path) -> None:
    found = kill_everywhere(algorithm, tmp_path, "--only", "random", "--number", "10")
    assert_nothing_was_lost(found)


@pytest.mark.faults
@pytest.mark.parametrize("algorithm", ["mopo", "naive"])
def test_a_method_killed_again_and_again(algorithm: str, tmp_path: Path) -> None:
    began = time.monotonic()
    found = kill_everywhere(algorithm, tmp_path, "--only", "succession", "--number", "12")
    write_down(f"{algorithm}, one run killed again and again", found, time.monotonic() - began)
    assert_nothing_was_lost(found)
