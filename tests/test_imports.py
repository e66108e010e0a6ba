"""Imports that the linter cannot see: those of algorithms/, and what light commands load."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = re.compile(r"^ *(?:from|import) (o2obench\.(?!agent|transitions|util|kit)\S*)", re.M)
COMMANDS = ["report {} --suite quick --format csv --out out", "status {}", "suite --help"]
COMMANDS += ["compare {} --suite quick --of naive --against frozen", "plan"]


def test_an_algorithm_imports_the_interface_and_the_kit_only() -> None:
    assert not [file for file in (ROOT / "algorithms").glob("*.py") if FORBIDDEN.search(file.read_text())]
    assert FORBIDDEN.search("from o2obench.runs.folder import X")


@pytest.mark.parametrize("command", [*COMMANDS, "planted"])
def test_light_commands_load_neither_torch_nor_gymnasium(command: str, tmp_path: Path) -> None:
    words = command.format(ROOT / "results" / "published").split()
    codes = {"plan": "import o2obench.planning.plan", "planted": "import o2obench.cli, gymnasium"}
    run = ["-c", codes[command]] if command in codes else ["-m", "o2obench", *words]
    words = [sys.executable, "-Ximporttime", *run]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode <= ("compare" in words), done.stderr.splitlines()[-1]
    found = {"torch", "gymnasium", "mujoco"} & set(re.findall(r"\| +(\S+)$", done.stderr, re.M))
    assert found == ({"gymnasium"} if command == "planted" else set())
