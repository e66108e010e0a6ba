"""Normalised scores: 100 x (return - ref_min) / (ref_max - ref_min), from one table with its sources."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

from .config import nearest
from .errors import BadInput


@dataclass(frozen=True)
class Reference:
    """What a score of 0 and of 100 mean on a data set, and who measured it."""

    dataset: str
    environment: str
    ref_min: float
    ref_max: float
    folder: str
    """Where the file lies under D4RL's public address."""
    file: str
    source: str

    def score(self, returns: Any) -> Any:
        """Normalise raw returns (a number or an array) to a scale of 100."""
        return 100.0 * (returns - self.ref_min) / (self.ref_max - self.ref_min)


@functools.cache
def references() -> dict[str, Reference]:
    """Return the table of all known data sets."""
    text = resources.files("o2obench").joinpath("reference_scores.csv").read_text(encoding="utf-8")
    return {
        row["dataset"]: Reference(
            row["dataset"],
            row["environment"],
            float(row["ref_min"]),
            float(row["ref_max"]),
            row["folder"],
            row["file"],
            row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    }


def reference(dataset: str) -> Reference:
    """Return the reference scores of a data set; raise BadInput when it is not known."""
    known = references()
    if dataset not in known:
        raise BadInput(f"dataset {dataset}: no reference scores are known; {nearest(dataset, known)}")
    return known[dataset]
