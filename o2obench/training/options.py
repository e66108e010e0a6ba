"""How to compute, as opposed to what: nothing here changes a result by more than rounding."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BadInput

VALUES = ("device", "threads", "checkpoint_seconds", "evaluation")
SWITCHES = ("allow_drift", "eager", "tf32", "profile")


@dataclass(frozen=True)
class Options:
    """What the command line says about the machine; ``stop`` is asked between two pieces of work."""

    device: str = "cpu"
    threads: int = 1
    checkpoint_seconds: float = 60.0
    allow_drift: bool = False
    eager: bool = False
    tf32: bool = False
    evaluation: str = ""
    """Where policies are judged: "here", or "apart" in a process of its own; "": apart on GPUs."""
    profile: bool = False
    """Wait for the GPU at each reading of the stopwatch, so that it is right to the part."""
    stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise BadInput(f"--device {self.device}: has to be cpu, cuda or cuda:N")
        if self.tf32 and self.device == "cpu":
            raise BadInput("--tf32: only GPUs know these products; add --device cuda or leave it out")
        if self.evaluation not in ("", "here", "apart"):
            raise BadInput(f"--evaluation {self.evaluation}: has to be here or apart")
        if not self.evaluation:
            object.__setattr__(self, "evaluation", "here" if self.device == "cpu" else "apart")

    def flags(self) -> list[str]:
        """Return the command line options that say the same to a worker process."""
        flags = []
        for name in VALUES:
            flags += [_flag(name), str(getattr(self, name))]
        return flags + [_flag(name) for name in SWITCHES if getattr(self, name)]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
