"""``~`` and variables in paths that a shell left as they were; users without a home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command, environment
from tests.helpers.datasets import hopper_file, minari_episodes, write_minari

NOBODY = """
import pathlib, pwd

def nobody(uid):
    raise KeyError(uid)

def guarded(path, *arguments, **more):
    if path.parts[:2] == ("/", "nonexistent"):
        raise PermissionError(13, "Permission denied", str(path))
    make(path, *arguments, **more)

pwd.getpwuid, make, pathlib.Path.mkdir = nobody, pathlib.Path.mkdir, guarded
"""
"""Makes a process that of a user id nobody knows, who may not make a home; root, who may run this, could."""

PACKAGED = "invertedpendulum-replay-v0"


@pytest.mark.slow
def test_a_paths_tilde_and_variables_are_the_users(o2obench: Command, tmp_path: Path) -> None:
    user = {"HOME": str(tmp_path / "home"), "PROJECT": "mine"}
    (tmp_path / "home" / "mine").mkdir(parents=True)
    for file in ("~/a.png", "$HOME/mine/b.png", "~/${PROJECT}/c.png"):
        assert o2obench("data", "plot", PACKAGED, file, **user).returncode == 0
    drawn = sorted(path.name for path in (tmp_path / "home").rglob("*.png"))
    assert drawn == ["a.png", "b.png", "c.png"]
    assert "~/missing is missing" not in o2obench("status", "~/missing", **user).stderr
    assert not (tmp_path / "~").exists()
    wrong = o2obench("status", "~nosuchuser/results")
    assert wrong.returncode == 2
    assert "~nosuchuser/results: not a path" in wrong.stderr


def test_a_folders_tilde_in_the_environment_is_the_users(o2obench: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"
    hopper_file(home / "data" / "hopper_medium-v2.hdf5")
    write_minari(home / "m" / "own" / "hop-v0", minari_episodes())
    user = {"HOME": str(home), "O2OBENCH_DATA": "$HOME/data", "MINARI_DATASETS_PATH": "~/m"}
    user["XDG_CACHE_HOME"] = "~/cache"
    for name in ("hopper-medium-v2", "minari:own/hop-v0"):
        done = o2obench("data", "check", name, **user)
        assert f"{name}: good" in done.stdout, done.stderr
    assert list((home / "cache").rglob("*.json"))
    given = o2obench("--data-folder", "~/data", "data", "check", "hopper-medium-v2", HOME=str(home))
    assert "good" in given.stdout, given.stderr
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("data", "check", PACKAGED), "good"),
        (("data", "list", "hopper"), "hopper-medium-v2"),
        (("suite", "smoke", "--dry-run"), "smoke"),
        (("data", "check", "hopper-medium-v2"), "or name its folder in O2OBENCH_DATA"),
        (("data", "fetch", "hopper-medium-v2"), "name a place that you may use"),
        (("status", "~/results"), "~/results: not a path"),
    ],
)
def test_a_user_without_a_home(tmp_path: Path, command: tuple[str, ...], said: str) -> None:
    """HOME is not set, and the list of users does not know who this is; so it is for all child processes."""
    (tmp_path / "sitecustomize.py").write_text(NOBODY)
    variables = environment(PYTHONPATH=str(tmp_path))
    for name in ("HOME", "XDG_CACHE_HOME", "O2OBENCH_DATA", "MINARI_DATASETS_PATH"):
        variables.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "o2obench", *command],
        capture_output=True,
        text=True,
        env=variables,
        timeout=120,
        check=False,
    )
    assert said in done.stdout + done.stderr
