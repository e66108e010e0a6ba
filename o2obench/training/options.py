"""How to compute, as opposed to what: nothing here changes a result by more than rounding."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import UserError

MOST_THREADS = 1024


def option(default: Any, text: str, group: str = "How it is computed", **more: Any) -> Any:
    """Declare an option of the command line: its default, its help, its group there, its least value."""
    return field(default=default, metadata={"help": text, "group": group, **more})


@dataclass(frozen=True)
class Options:
    """What the command line says about the machine; every worker process is told the same."""

    device: str = option("cpu", "cpu, cuda or cuda:N.")
    threads: int = option(1, "CPU threads per run.", min=1)
    checkpoint_seconds: float = option(60.0, "Seconds between two checkpoints of a run.", min=0.0)
    allow_mismatch: bool = option(False, "Resume on another machine or version; marked.")
    eager: bool = option(False, "Never compile the updates of a run.")
    tf32: bool = option(False, "Faster, coarser matrix products on a GPU; recorded.")
    evaluation: str = option(
        "", "Evaluate policies here or apart, in a process of its own (the rule on GPUs)."
    )
    program: tuple[str, ...] = option(
        (), "NAME=COMMAND: start this for `foreign: {name: NAME}`; once for each."
    )
    profile: bool = option(False, "Wait for the GPU at each timer; shows where the time went.")

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        object.__setattr__(self, "program", tuple(self.program))
        if not 1 <= self.threads <= MOST_THREADS:
            raise UserError(f"--threads {self.threads}: expected 1 to {MOST_THREADS:,}")
        if not 0 <= self.checkpoint_seconds < 1e9:
            raise UserError(
                f"--checkpoint-seconds {self.checkpoint_seconds}: expected seconds, 60 for example"
            )
        if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", self.device):
            raise UserError(f"--device {self.device}: has to be cpu, cuda or cuda:N")
        if self.tf32 and self.device == "cpu":
            raise UserError("--tf32: only GPUs know these products; add --device cuda or leave it out")
        if self.evaluation not in ("", "here", "apart"):
            raise UserError(f"--evaluation {self.evaluation}: has to be here or apart")
        if not self.evaluation:
            object.__setattr__(self, "evaluation", "here" if self.device == "cpu" else "apart")

    def flags(self) -> list[str]:
        """Return the command line options that say the same to a worker process."""
        flags = []
        for setting in fields(self):
            value, flag = getattr(self, setting.name), "--" + setting.name.replace("_", "-")
            if isinstance(value, tuple):
                flags += [part for one in value for part in (flag, one)]
            elif not isinstance(value, bool):
                flags += [flag, str(value)]
            elif value:
                flags.append(flag)
        return flags


DEFAULT = Options()


def never() -> bool:
    """Return False: a run that is not asked to stop."""
    return False


Stop = Callable[[], bool]
"""Asked between two pieces of work; True: save and end."""
