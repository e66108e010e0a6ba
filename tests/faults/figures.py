"""What the fault tests measured, as one table.

    O2O_FAULT_FIGURES=FOLDER python -m pytest -m faults
    python -m tests.faults.figures FOLDER

A test hands its numbers to ``record``; each figure has a file of its own, a line for everything measured.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from o2obench.util.files import read_json, write_atomically

FOLDER = "O2O_FAULT_FIGURES"
Number = int | float | str

COLUMNS = {
    "injections": "injections",
    "runs_lost": "runs lost",
    "updates_lost": "updates lost beyond the last checkpoint",
    "identical": "final bytes identical",
    "bad_states": "bad states used",
    "seconds": "seconds",
}
"""The numbers that have a column; others stand in the last one, by name."""


def record(figure: str, what: str, **numbers: int | float | str) -> None:
    """Write down what a test measured, where O2O_FAULT_FIGURES names a folder."""
    named = os.environ.get(FOLDER)
    if not named:
        return
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{figure}.json"
    with FileLock(folder / f".{figure}.lock"):
        known = read_json(file) or {}
        known[what] = numbers
        write_atomically(file, json.dumps(known, indent=1) + "\n", durable=False)


def share(right: int, of: int) -> str:
    """Return ``right`` of ``of`` as the table says it."""
    return f"{right} of {of}"


def table(folder: Path) -> str:
    """Return all figures of a folder as a Markdown table."""
    lines = [("figure", "what", *COLUMNS.values(), "also")]
    for file in sorted(folder.glob("*.json"), key=lambda file: _order(file.stem)):
        for what, numbers in (read_json(file) or {}).items():
            experiments = (_said(numbers.get(name, "")) for name in COLUMNS)
            others = sorted(numbers.keys() - COLUMNS)
            also = "; ".join(f"{name.replace('_', ' ')}: {_said(numbers[name])}" for name in others)
            lines.append((file.stem, what, *experiments, also))
    return _markdown(lines)


def _order(figure: str) -> tuple[str, int]:
    """Sort F2 before F10."""
    letters = figure.rstrip("0123456789")
    return letters, int(figure[len(letters) :] or 0)


def _said(number: Number) -> str:
    return f"{number:.1f}" if isinstance(number, float) else str(number)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    return "\n".join([rows[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows[1:]])


def main(arguments: Sequence[str]) -> None:
    """Print the table of the folder that is named."""
    print(table(Path(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
