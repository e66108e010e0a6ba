"""What a run computes: its identity.

The identity is all that decides the numbers: algorithm and versions, resolved options, budget, evaluation
protocol, data, the parent's identity, seed. Not paths, times, devices or the suite that asked. Its hash names
the folder::

    results/<dataset>/<algorithm>/<hash without the seed>/seed-<n>/
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ..agent import Budget

MOST = 2**53
"""Counts from here on are none: a JSON number holds them no longer."""
LEVELS = (
    r"[A-Za-z0-9_()=-][A-Za-z0-9._()=-]*",
    r"[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*",
    r"[0-9a-f]{8}",
    r"seed-[0-9]+",
)
"""The names of a run's folder and those above it: data set, algorithm, identity, seed."""


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def folder_name(dataset: str) -> str:
    """Return a data set's name as a folder's: without ``:`` and ``/``, of ``file:PATH`` the file's name."""
    name = f"file-{Path(dataset).name}" if dataset.startswith("file:") else dataset
    return re.sub(r"[^A-Za-z0-9._()=-]+", "-", name)


def film_name(run_id: str) -> str:
    """Return what the film of a run's policy is called where nobody names it."""
    return f"{run_id.replace('/', '-')}.gif"


@dataclass(frozen=True)
class Interval:
    """A part of an evaluation schedule: each multiple of ``every``, up to ``until`` (None: to the end)."""

    every: int
    until: int | None = None


EvaluationSchedule = int | tuple[Interval, ...]
"""When a run is evaluated, on a clock of steps or updates: each multiple of a number (0: never), or parts."""


def evaluations_due(schedule: EvaluationSchedule, clock: int) -> int:
    """Return how many evaluations a schedule has from the start to ``clock``, that one included."""
    if isinstance(schedule, int):
        return clock // schedule if schedule else 0
    due, begin = 0, 0
    for interval in schedule:
        end = clock if interval.until is None else min(clock, interval.until)
        due, begin = due + max(0, end // interval.every - begin // interval.every), max(begin, end)
    return due


def schedule_text(schedule: EvaluationSchedule, unit: str) -> str:
    """Return a schedule in words: ``every 500 steps to 5,000, then every 1,000 steps``."""
    parts = (Interval(schedule),) if isinstance(schedule, int) else schedule
    return ", then ".join(
        f"every {part.every:,} {unit}" + ("" if part.until is None else f" to {part.until:,}")
        for part in parts
    )


@dataclass(frozen=True)
class Protocol:
    """When a run is evaluated, on how many episodes.

    ``steps`` is the schedule in environment steps, ``updates`` in gradient updates in stages without the
    environment. ``final_episodes`` are played at the start and the end of each stage.
    """

    steps: EvaluationSchedule
    updates: EvaluationSchedule
    episodes: int
    final_episodes: int


COLLECT = "collect"
"""Stands for an algorithm in the runs that collect a data set."""
FOREIGN = "foreign"
"""The algorithm of runs in which somebody's own program learns."""


@dataclass(frozen=True)
class DataSource:
    """The data set of a run: its name and the SHA-256 of its file.

    Of a set that is collected here, before which nobody knows the file, ``recipe`` instead: the identity of
    the run that collects it. run.json then says which file it was.
    """

    name: str
    sha256: str = ""
    recipe: str = ""

    def to_json(self) -> dict[str, str]:
        """Return it as a JSON value, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value}


PARTS = ("budget", "protocol", "data")
"""The parts of an identity that have parts of their own."""


@dataclass(frozen=True)
class RunSpec:
    """The identity of a run without its seed; ``parent`` is the hash of the pretraining's.

    ``terminal`` is a user's own termination rule (``envs.spec.with_rule``).
    """

    algorithm: str
    versions: Mapping[str, int]
    config: Mapping[str, Any]
    environment: str
    data: DataSource | None
    budget: Budget
    protocol: Protocol
    parent: str | None
    terminal: Any = None

    @functools.cached_property
    def hash(self) -> str:
        """The hash shared by all seeds of this computation."""
        return digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the identity as a JSON value; ``from_json`` reads it back."""
        value = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.terminal is None:  # as it is where nobody gives one
            del value["terminal"]
        parts = {name: asdict(value[name]) for name in PARTS if value[name] is not None}
        return value | parts | ({"data": self.data.to_json()} if self.data else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunSpec:
        """Rebuild an identity; raise ValueError where the value is none."""
        spec = _identity().validate_json(json.dumps(value), strict=True)
        counts = (spec.budget.offline_updates, spec.budget.online_steps, *spec.versions.values())
        if not all(0 <= count < MOST for count in counts):
            raise ValueError("a number is no count")
        for part, whole in ((spec, value), *((getattr(spec, name), value[name]) for name in PARTS)):
            known = part.to_json() if isinstance(part, DataSource) else part and vars(part)
            if known is not None and known.keys() != whole.keys() | ({"terminal"} & known.keys()):
                raise ValueError("there is more than an identity")
        return spec


@functools.cache
def _identity() -> TypeAdapter[RunSpec]:
    return TypeAdapter(RunSpec)


@dataclass(frozen=True)
class Run:
    """One computation with one seed, on one data set (or environment, where no data are used).

    ``parent`` is the id of the pretraining run.
    """

    dataset: str
    seed: int
    spec: RunSpec
    parent: str | None = None

    @property
    def algorithm(self) -> str:
        """The name of the algorithm."""
        return self.spec.algorithm

    @property
    def collects(self) -> bool:
        """Whether it collects a data set, and trains no agent."""
        return self.algorithm == COLLECT

    @property
    def group(self) -> str:
        """The hash shared by all seeds of this computation."""
        return self.spec.hash

    @property
    def identity(self) -> str:
        """The full hash, seed included."""
        return digest([self.spec.to_json(), self.seed])

    @functools.cached_property
    def id(self) -> str:
        """The folder's path below the results folder; also the run's name."""
        return f"{folder_name(self.dataset)}/{self.algorithm}/{self.group[:8]}/seed-{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Return the run as a JSON value; ``from_json`` reads it back."""
        named = {"id": self.id, "dataset": self.dataset, "seed": self.seed, "parent": self.parent}
        return {**named, "spec": self.spec.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], spec: RunSpec | None = None) -> Run:
        """Rebuild a run; raise ValueError when its id is not that of its contents, or is no run's name."""
        run = cls(value["dataset"], value["seed"], spec or RunSpec.from_json(value["spec"]), value["parent"])
        if run.id != value["id"]:
            raise ValueError(f"{value['id']}: the contents belong to {run.id}; the record was edited")
        for name in filter(None, (run.id, run.parent)):
            if not (re.fullmatch("/".join(LEVELS), name) and name.isprintable()):
                raise ValueError(f"{name!r} is not the name of a run; the record was edited")
        return run


def differing(value: Any, other: Any, name: str = "") -> Iterator[str]:
    """Yield the names of what differs between two identities, as JSON values."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        for key in sorted({*value, *other}):
            yield from differing(value.get(key), other.get(key), f"{name}.{key}" if name else key)
    elif value != other:
        yield name
