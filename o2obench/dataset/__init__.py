"""Data sets by name: where they lie, what they are, and their transitions, checked before use."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ..agent import Transitions
from ..env import EnvSpec, environments, find_env
from ..errors import BadInput
from ..pointmass import mixed_data
from ..scores import COLLECTED, KINDS, Reference, reference, references
from .hdf5 import read_transitions

EMBEDDED = Path(__file__).parent / "embedded"
TOY = "pointmass-mixed-v0"


@dataclass(frozen=True)
class Dataset:
    """A named data set: its environment, its reference scores and the file that holds it.

    ``file`` is None for the toy data, which are made when they are asked for.
    """

    name: str
    env: EnvSpec
    scores: Reference
    file: Path | None

    @property
    def embedded(self) -> bool:
        """Whether the data came with the package."""
        return self.file is None or self.file.parent == EMBEDDED

    @property
    def present(self) -> bool:
        """Whether the data are on this machine."""
        return self.file is None or self.file.is_file()

    def sha256(self) -> str:
        """Return the SHA-256 of the file (of the arrays, for the toy data)."""
        if self.file is None:
            data = mixed_data()
            arrays = [getattr(data, name) for name in data.__dataclass_fields__]
            return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
        self.require()
        stat = self.file.stat()
        return _sha256(self.file, stat.st_size, stat.st_mtime_ns)

    def require(self) -> None:
        """Raise BadInput, saying where to put the file, when the data are not on this machine."""
        if not self.present:
            raise BadInput(f"dataset {self.name}: {self.file} is missing; {self.remedy()}")

    def remedy(self) -> str:
        """Return how a missing file can be had."""
        collected = COLLECTED.fullmatch(self.name)
        if collected:
            how = f"`o2obench data collect {collected['task']} --kind {collected['kind']}` makes it"
        else:
            how = f"`o2obench data fetch {self.name}`" if self.scores.folder else "it cannot be fetched"
        return f"{how}, or put the file there, or name its folder in O2OBENCH_DATA"

    def load(self, sha256: str | None = None) -> Transitions:
        """Return the transitions, checked; raise BadInput when they are not those of ``sha256``."""
        if sha256 is not None and sha256 != self.sha256():
            raise BadInput(
                f"{self.file}: SHA-256 is {self.sha256()[:12]}, the run was planned on {sha256[:12]}"
            )
        if self.file is None:
            return mixed_data()
        self.require()
        return read_transitions(self.file, self.env)


def find(name: str) -> Dataset:
    """Return the data set of this name; raise BadInput when it or its environment is not known."""
    scores = reference(name)
    env = find_env(scores.environment)
    if name == TOY:
        return Dataset(name, env, scores, None)
    embedded = EMBEDDED / f"{name.replace(':', '-')}.hdf5"
    file = embedded if embedded.is_file() else data_folder() / scores.file
    return Dataset(name, env, scores, file)


def names() -> list[str]:
    """Return all names whose environment is known here, those that came with the package first."""
    known = [name for name, entry in references().items() if entry.environment in environments()]
    known += [f"o2o:{task}-{kind}-v0" for task in ("halfcheetah", "hopper", "walker2d") for kind in KINDS]
    return sorted(known, key=lambda name: (not find(name).embedded, name))


def data_folder() -> Path:
    """Return the folder of downloaded data: $O2OBENCH_DATA, else ~/.o2obench/data."""
    return Path(os.environ.get("O2OBENCH_DATA") or Path.home() / ".o2obench" / "data")


@functools.cache
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
