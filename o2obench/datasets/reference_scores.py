"""Normalised scores: 100 x (return - ref_min) / (ref_max - ref_min), from one table with its sources."""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

KINDS = ("random", "medium-replay", "medium", "expert", "high", "medium-expert")
"""D4RL's kinds of data, and ``high``: the best policy of a training that reached no expert."""
WALKS = ("play", "diverse")
"""Kinds of data of mazes, by a scripted controller."""
ANY_KIND = rf"{'|'.join((*KINDS, *WALKS))}|replay(?:[1-9]|[1-9][0-9])"
"""Kinds as names hold them: ``replay60`` is a medium-replay set of a training that reached a score of 60."""
COLLECTED = re.compile(rf"o2o:(?P<task>[a-z0-9]+(?:-[a-z0-9]+)*?)-(?P<kind>{ANY_KIND})-v0")


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
    text = resources.files("o2obench.datasets").joinpath("reference_scores.csv").read_text(encoding="utf-8")
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


def known_reference(dataset: str) -> Reference | None:
    """Return the reference scores of a data set, None where the table has none.

    ``o2o:TASK-KIND-v0``, a set in D4RL's way that was collected by this project, is measured by D4RL's
    scores of the same task, so that scores mean the same on both.
    """
    table = references()
    if dataset in table:
        return table[dataset]
    collected = COLLECTED.fullmatch(dataset)
    if collected:
        for entry in table.values():
            if entry.folder and task_name(entry.environment) == collected["task"]:
                source = f"{entry.source}; data collected by o2obench"
                file = f"{dataset.removeprefix('o2o:')}.hdf5"
                return replace(entry, dataset=dataset, folder="", file=file, source=source)
    return None


def reference_of(environment: str) -> Reference | None:
    """Return the reference scores of an environment, which all its data sets share; None if not known."""
    return next((entry for entry in references().values() if entry.environment == environment), None)


def task_name(environment: str) -> str:
    """Return an environment's name in data sets: Hopper-v4 is hopper, Hopper-v5 hopperv5."""
    name, _, version = environment.lower().rpartition("-v")
    return f"{name}v5" if version == "5" else name or environment.lower()


def task_and_kind(dataset: str) -> tuple[str, str] | None:
    """Return task and kind of data of a set that is named in D4RL's way, such as hopper and medium-replay."""
    match = re.fullmatch(rf"(?:o2o:)?([a-z0-9]+(?:-[a-z0-9]+)*?)-({ANY_KIND})-v\d+", dataset)
    return (match[1], match[2]) if match else None


def twin(dataset: str) -> str:
    """Return the D4RL v2 set of the same task and kind, whose rows of options hold for a collected set.

    Replays up to another level have medium-replay's.
    """
    collected = COLLECTED.fullmatch(dataset)
    if not collected:
        return dataset
    kind = collected["kind"] if collected["kind"] in (*KINDS, *WALKS) else "medium-replay"
    return f"{collected['task']}-{kind}-v2"
