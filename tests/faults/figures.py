"""Where the long fault tests leave their figures: one JSON file for each figure, one entry for each test."""

from __future__ import annotations

import json
import os
from pathlib import Path

from filelock import FileLock

FOLDER = "O2O_FAULT_FIGURES"


def record(figure: str, what: str, **numbers: int | float | str) -> None:
    """Note the numbers of ``what`` in ``<figure>.json`` of the folder that O2O_FAULT_FIGURES names."""
    named = os.environ.get(FOLDER)
    if not named:
        return
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{figure}.json"
    with FileLock(folder / f".{figure}.lock"):
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**known, what: numbers}, indent=1, sort_keys=True) + "\n")
