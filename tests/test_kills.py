"""A run killed by SIGKILL at any instant, and started again, ends with the bytes of an undisturbed one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import environment

SERVER = Path(__file__).with_name("kill_server.py")


def kill_everywhere(algorithm: str, folder: Path, *more: str) -> dict[str, dict[str, bool]]:
    done = subprocess.run(
        [sys.executable, SERVER, algorithm, folder, *more],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, bool]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("algorithm", ["toy_offline", "toy_tune", "mopo", "naive"])
def test_killed_runs_end_with_equal_bytes(algorithm: str, tmp_path: Path) -> None:
    found = kill_everywhere(algorithm, tmp_path)
    assert all(result["equal"] for result in found.values()), found
    named = [place for place in found if not place.startswith("random")]
    assert all(found[place]["killed"] for place in named), found
    redone = [place for place in named if found[place]["redone"]]
    assert len(redone) >= 2, f"hardly any work was lost and redone, so little was tested: {found}"


def test_the_comparison_notices_a_forgotten_stream(tmp_path: Path) -> None:
    found = kill_everywhere("naive", tmp_path, "--forget", "sac noise", "--only", "mid-episode")
    assert not all(result["equal"] for result in found.values()), "the control passed: the test is blind"


@pytest.mark.faults
@pytest.mark.parametrize("algorithm", ["toy_offline", "toy_tune", "mopo", "naive", "mbpo", "frozen", "sac"])
def test_many_random_instants(algorithm: str, tmp_path: Path) -> None:
    found = kill_everywhere(algorithm, tmp_path, "--instants", "15")
    assert all(result["equal"] for result in found.values()), found
    random = [result for place, result in found.items() if place.startswith("random")]
    assert sum(result["killed"] for result in random) >= 5, found
