"""Profiles: how a suite is launched, as a YAML file in ``profiles/`` or of the user's own."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..errors import UserError
from ..util.config import Located, merge, nearest, read_yaml, validate
from ..util.files import expanded

Amount = Annotated[int, Field(ge=0, le=100_000)]
Word = Annotated[str, Field(pattern=r"^[^\s'\"`$\\;&|<>]+$")]
"""What stands in an sbatch line: no blank, no quote, nothing that a shell would read."""


MOST_SECONDS = 10 * 366 * 86_400


class PoolProfile(BaseModel):
    """What a process pool is told, on this machine and inside a SLURM job."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seed_batch: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1, le=1000)], Field(union_mode="left_to_right")
    ] = "auto"
    """Seeds trained side by side in a process; auto: all on a GPU, one on a CPU."""
    per_gpu: Annotated[int, Field(ge=1, le=1000)] = 1
    """Processes that share a GPU."""
    stall_minutes: Annotated[float, Field(ge=0, le=1e6)] = 30.0
    """A worker without progress for so long is killed, and its run goes on from its checkpoint; 0: never."""


class Local(PoolProfile):
    """Processes on this machine."""

    launcher: Literal["local"]
    jobs: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Runs at once; 0: one per CPU core, or as many as GPUs allow."""
    gpus: Literal["all"] | list[str] = "all"


WRITTEN = {
    **{"time": "use the key time", "cpus-per-task": "use the key cpus_per_task"},
    **{"signal": "use the key signal_seconds", "array": "use the keys array and parallel"},
    **dict.fromkeys(("job-name", "dependency", "output", "error", "open-mode"), "leave it out"),
    **dict.fromkeys(("requeue", "no-requeue", "kill-on-invalid-dep"), "leave it out"),
}
"""Options of sbatch that the launcher always writes itself, and what to do instead."""
SAID = {
    **{name: (name,) for name in ("partition", "account", "qos", "constraint")},
    "memory_gb": ("mem", "mem-per-cpu", "mem-per-gpu"),
    "gpus_per_task": ("gpus-per-node",),
}
"""Keys, and the options of sbatch that say the same: one of them may be given."""


class Slurm(PoolProfile):
    """Array jobs, submitted through submitit."""

    launcher: Literal["slurm"]
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    time: str | int = "24:00:00"
    """Of one array task: minutes, H:MM:SS or D-HH:MM:SS."""
    memory_gb: Annotated[float, Field(gt=0, le=1e5)] | None = None
    cpus_per_task: Amount = 0
    """0: as many as the processes of an array task have threads."""
    gpus_per_task: Amount = 0
    runs_per_task: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Runs (or seed_batches) that an array task computes at once."""
    parallel: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Array tasks at work at once, at most."""
    array: Amount = 0
    """Array tasks in an array; 0: what the site allows."""
    signal_seconds: Annotated[int, Field(ge=30, le=86_400)] = 120
    """So long before its time limit an array task is told to save and be queued again."""
    setup: list[str] = []
    """Shell lines before the job's command, such as module load."""
    sbatch: dict[Word, Word | int | bool] = {}
    """More sbatch options: name and value, or true for one without."""
    folder: str = "~/.o2obench/slurm"
    """Where submitit keeps its files: shared by all nodes, outside the results, for the owner's eyes only."""
    poll_seconds: Annotated[float, Field(gt=0, le=86_400)] = 15.0

    @model_validator(mode="after")
    def _said_once(self) -> Slurm:
        plain = {name.lstrip("-").replace("_", "-"): name for name in self.sbatch}
        for option in plain.keys() & WRITTEN.keys():
            raise ValueError(f"sbatch.{plain[option]} is written by the launcher; {WRITTEN[option]}")
        for key, options in SAID.items():
            for option in plain.keys() & set(options if getattr(self, key) else ()):
                raise ValueError(
                    f"{key} and sbatch.{plain[option]} contradict each other; leave one out in your file"
                )
        if len(plain.keys() & set(SAID["memory_gb"])) > 1:
            raise ValueError("sbatch has two options for memory; leave one out")
        return self

    @field_validator("time")
    @classmethod
    def _readable(cls, value: str | int) -> str | int:
        minutes(value)
        return value


def minutes(time: str | int) -> int:
    """Return a time limit in whole minutes, rounded up: minutes, H:MM:SS or D-HH:MM:SS.

    Raises ValueError for anything else.
    """
    if isinstance(time, int):
        total = time * 60
    elif match := re.fullmatch(r"(?:([0-9]{1,4})-)?([0-9]{1,5}):([0-9]{2}):([0-9]{2})", time):
        days, hours, mins, seconds = (int(part or 0) for part in match.groups())
        total = ((days * 24 + hours) * 60 + mins) * 60 + seconds
    else:
        raise ValueError("expected minutes, H:MM:SS or D-HH:MM:SS")
    if not 60 <= total < MOST_SECONDS:
        raise ValueError("at least one minute is needed, and at most ten years")
    return -(-total // 60)


def names() -> list[str]:
    """Return the names of the profiles that come with the package."""
    files = (file.name for file in resources.files("o2obench.launch").joinpath("profiles").iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def read_profile(name: str, given: dict[str, Any]) -> Local | Slurm:
    """Read a profile by name or path, with the values ``given`` on the command line over it.

    Raises UserError naming file, line and key, or the flag.
    """
    if name.endswith((".yaml", ".yml")):
        if not expanded(name).is_file():
            raise UserError(f"--launcher {name}: no such file; give a path, or one of {', '.join(names())}")
        source = read_yaml(expanded(name))
    elif name in names():
        source = read_yaml(Path(str(resources.files("o2obench.launch").joinpath(f"profiles/{name}.yaml"))))
    else:
        raise UserError(f"--launcher {name}: not known; {nearest(name, names())}")
    kind = source.value.get("launcher") if isinstance(source.value, dict) else None
    if kind not in ("local", "slurm"):
        raise UserError(f"{source.at(('launcher',)) or name}: launcher: has to be local or slurm")
    model: type[Local] | type[Slurm] = Local if kind == "local" else Slurm
    strange = given.keys() - model.model_fields.keys()
    if strange:
        unknown = min(strange).replace("_", "-")
        raise UserError(f"--{unknown}: means nothing to the launcher {name}, which is {kind}; leave it out")
    whole = merge(source, Located(given, {(key,): f"--{key.replace('_', '-')}" for key in given}))
    return validate(Local, whole) if kind == "local" else validate(Slurm, whole)
