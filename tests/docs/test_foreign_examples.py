"""The examples of docs/algorithms/foreign.md run as they stand there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from o2obench.runs.jsonl import read_jsonl
from tests.conftest import Command

PAGE = Path(__file__).parents[2] / "docs" / "algorithms" / "foreign.md"
EXAMPLES = dict(
    zip(
        ("stable_baselines3", "d3rlpy"),
        re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S),
        strict=True,
    )
)


@pytest.mark.slow
@pytest.mark.parametrize("library", EXAMPLES)
def test_a_program_of_another_library_is_a_member(
    library: str, tmp_path: Path, o2obench_process: Command
) -> None:
    pytest.importorskip(library)
    program = tmp_path / "theirs.py"
    program.write_text(EXAMPLES[library])
    done = o2obench_process(
        *("run", "foreign", "pointmass-mixed-v0", "--set", "name=theirs", "--defaults"),
        *("--program", f"theirs={sys.executable} {program}", "--steps", "500", "--every", "250"),
    )
    assert done.returncode == 0, done.stderr
    [file] = Path("results").glob("*/foreign/*/seed-0/evaluations.jsonl")
    assert [row["env_steps"] for row in read_jsonl(file)] == [0, 250, 500]
