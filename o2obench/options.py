"""How to compute, as opposed to what: nothing here changes a result by more than rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .errors import BadInput

VALUES = ("device", "threads", "checkpoint_seconds")
SWITCHES = ("allow_drift", "eager", "tf32")


@dataclass(frozen=True)
class Options:
    """What the command line says about the machine; ``stop`` is asked between two pieces of work."""

    device: str = "cpu"
    threads: int = 1
    checkpoint_seconds: float = 60.0
    allow_drift: bool = False
    eager: bool = False
    tf32: bool = False
    stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.tf32 and self.device == "cpu":
            raise BadInput("--tf32: only GPUs know these products; add --device cuda or leave it out")

    def flags(self) -> list[str]:
        """Return the command line options that say the same to a worker process."""
        flags = []
        for name in VALUES:
            flags += [_flag(name), str(getattr(self, name))]
        return flags + [_flag(name) for name in SWITCHES if getattr(self, name)]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
