"""What `make` installs: on which Pythons, as pyproject.toml says it, and which extras."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PRETENDER = (
    "#!/bin/sh\nexec {python} -c 'import sys; sys.version_info = (3, {minor}); exec(sys.argv[2])' \"$@\"\n"
)


@pytest.mark.parametrize("minor", [10, 11, 12, 13, 14, 15])
def test_other_pythons_are_refused_before_anything_is_made(minor: int, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = f"3.{minor}" in SpecifierSet(project["requires-python"])
    assert supported == (11 <= minor <= 13)
    assert supported == (f"Programming Language :: Python :: 3.{minor}" in project["classifiers"])
    python = tmp_path / "python"
    python.write_text(PRETENDER.format(python=sys.executable, minor=minor))
    python.chmod(0o755)
    command = ("make", "-C", ROOT, "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, "the pretender makes no environment"
    assert ("Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=..." in done.stderr) == (not supported)
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("target", "extra"), [("suite", "robotics"), ("setup", "robotics"), ("check", "dev"), ("test", "dev")]
)
def test_a_run_s_environment_has_no_tools_of_developers(target: str, extra: str, tmp_path: Path) -> None:
    command = ("make", "-n", "-C", ROOT, target, f"VENV={tmp_path / 'venv'}")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.count("pip install") == 1
    assert f'-e ".[{extra}]"' in said
