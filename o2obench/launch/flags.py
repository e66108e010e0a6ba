"""What the command line says about a launch, laid over its profile."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..training.options import option

LAUNCH, SLURM = "Launch", "SLURM"
"""Groups of options in the help."""


@dataclass(frozen=True)
class LaunchFlags:
    """What the command line lays over a launch profile."""

    jobs: int | None = option(None, "Runs at once on this machine; 0: one per CPU core.", LAUNCH, min=0)
    gpus: str | None = option(None, "GPUs to use with --device cuda: all, or 0,1,3.", LAUNCH)
    per_gpu: int | None = option(None, "Processes that share a GPU.", LAUNCH, min=1)
    seed_batch: str | None = option(
        None, "Seeds trained side by side in a process: auto, or a number.", LAUNCH
    )
    stall_minutes: float | None = option(
        None, "Kill and resume a run that stands still so long; 0: never.", LAUNCH, min=0
    )
    partition: str | None = option(None, "The partition.", SLURM)
    account: str | None = option(None, "The account.", SLURM)
    constraint: str | None = option(None, "Features of a node.", SLURM)
    gpus_per_task: int | None = option(None, "GPUs of an array task.", SLURM, min=0)
    time: str | None = option(None, "Minutes, H:MM:SS or D-HH:MM:SS.", SLURM)
    memory_gb: float | None = option(None, "Memory of an array task.", SLURM)
    parallel: int | None = option(None, "Array tasks at work at once.", SLURM, min=1)
    sbatch: list[str] | None = option(None, "One more sbatch option, key=value.", SLURM)

    def values(self) -> dict[str, Any]:
        """Return what was given, as a profile would hold it."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        for name in ("seed_batch", "time"):
            if re.fullmatch("[0-9]{1,9}", str(given.get(name, ""))):
                given[name] = int(given[name])
        if given.get("gpus", "all") != "all":
            given["gpus"] = [part.strip() for part in given["gpus"].split(",")]
        if "sbatch" in given:
            parted = (text.removeprefix("--").partition("=") for text in given["sbatch"])
            given["sbatch"] = {name: value if sign else True for name, sign, value in parted}
        return given
