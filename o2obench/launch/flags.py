"""What the command line says about a launch, laid over its profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..training.options import option


@dataclass(frozen=True)
class LaunchFlags:
    """What the command line lays over a launch profile."""

    jobs: int | None = option(None, "Runs at once on this machine; 0: one per CPU core.", min=0)
    gpus: str | None = option(None, "GPUs to use with --device cuda: all, or 0,1,3.")
    per_gpu: int | None = option(None, "Processes that share a GPU.", min=1)
    seed_batch: str | None = option(None, "Seeds trained side by side in a process: auto, or a number.")
    stall_minutes: float | None = option(
        None, "Kill and resume a run that stands still so long; 0: never.", min=0
    )
    partition: str | None = option(None, "SLURM: the partition.")
    account: str | None = option(None, "SLURM: the account.")
    constraint: str | None = option(None, "SLURM: features of a node.")
    gpus_per_task: int | None = option(None, "SLURM: GPUs of an array task.", min=0)
    time: str | None = option(None, "SLURM: minutes, H:MM:SS or D-HH:MM:SS.")
    memory_gb: float | None = option(None, "SLURM: memory of an array task.")
    parallel: int | None = option(None, "SLURM: array tasks at work at once.", min=1)
    sbatch: list[str] | None = option(None, "SLURM: one more sbatch option, key=value.")

    def values(self) -> dict[str, Any]:
        """Return what was given, as a profile would hold it."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        for name in ("seed_batch", "time"):
            if str(given.get(name, "")).isdigit():
                given[name] = int(given[name])
        if given.get("gpus", "all") != "all":
            given["gpus"] = [part.strip() for part in given["gpus"].split(",")]
        if "sbatch" in given:
            parted = (text.removeprefix("--").partition("=") for text in given["sbatch"])
            given["sbatch"] = {name: value if sign else True for name, sign, value in parted}
        return given
