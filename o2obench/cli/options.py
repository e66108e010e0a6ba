"""What commands share: options by name, how their texts are read, how a process is asked to end."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from time import sleep
from typing import Annotated

import typer

from ..errors import BadInput

ORPHAN_SECONDS = 8.0
"""So long a worker may take to save and end after its launcher is gone."""

Results = Annotated[Path, typer.Option(help="The results folder.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads per run.")]
Checkpoints = Annotated[float, typer.Option(min=0.0, help="Seconds between two checkpoints of a run.")]
Drift = Annotated[bool, typer.Option("--allow-drift", help="Resume on another machine or version; marked.")]
Eager = Annotated[bool, typer.Option("--eager", help="Never compile the updates of a run.")]
Tf32 = Annotated[bool, typer.Option("--tf32", help="Faster, coarser products on a GPU; recorded.")]
Evaluation = Annotated[
    str, typer.Option(help="Judge policies here or apart, in a process of its own (the rule on GPUs).")
]
Folder = Annotated[Path, typer.Argument(help="The results folder.")]
Suite = Annotated[str, typer.Option(help="Only this suite.")]
Gpus = Annotated[str | None, typer.Option(help="GPUs to use with --device cuda: all, or 0,1,3.")]
Pack = Annotated[str | None, typer.Option(help="Seeds trained side by side in a process: auto, or a number.")]
Sbatch = Annotated[list[str] | None, typer.Option(help="SLURM: one more sbatch option, key=value.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
Defaults = Annotated[bool, typer.Option("--defaults", help="Accept data sets without a row of options.")]


def usable(folder: Path) -> None:
    """Make a folder that can be written to; raise BadInput where that cannot be."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(f"{folder}: cannot be used as a folder: {error.strerror}; name another") from None


def names_of(text: str) -> tuple[str, ...] | None:
    """Read ``a,b``; None of an empty text."""
    return tuple(part.strip() for part in text.split(",")) if text else None


def seeds_of(text: str) -> tuple[int, ...] | None:
    """Read ``5`` (0 to 4), ``0,3,4`` or ``5-9``."""
    if not text:
        return None
    try:
        if "-" in text:
            first, last = text.split("-")
            if int(last) - int(first) > 1000:
                raise ValueError
            chosen = tuple(range(int(first), int(last) + 1))
        else:
            chosen = tuple(int(part) for part in text.split(",")) if "," in text else tuple(range(int(text)))
    except ValueError:
        chosen = ()
    if not chosen or min(chosen) < 0:
        raise BadInput(f"--seeds {text}: expected a number of seeds, a list like 0,3,4 or a range like 5-9")
    return chosen


def listed(gpus: str | None) -> str | list[str] | None:
    """Read ``all`` or ``0,1,3``."""
    return gpus if gpus in (None, "all") else [part.strip() for part in str(gpus).split(",")]


def pack_of(text: str | None) -> str | int | None:
    """Read ``auto`` or a number of seeds."""
    if text is None or not text.isdigit():
        return text
    return int(text)


def minutes(time: str | None) -> str | int | None:
    """Read a number of minutes, or leave SLURM's own way of writing a time as it is."""
    return int(time) if time and time.isdigit() else time


def pairs_of(sbatch: list[str] | None) -> dict[str, str | bool] | None:
    """Read ``key=value`` pairs; a name alone is a switch."""
    if sbatch is None:
        return None
    parted = (text.removeprefix("--").partition("=") for text in sbatch)
    return {name: value if sign else True for name, sign, value in parted}


class Stop:
    """True once the process was asked to end: by a signal, or because its launcher is gone."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        """Return whether it was asked to."""
        return self.asked

    def ask(self, *_: object) -> None:
        """Remember it; a signal handler."""
        self.asked = True


def stop_on_signal(watch_parent: bool = False) -> Stop:
    """Return what turns true at SIGINT and SIGTERM, or at the end of input where a launcher is watched."""
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.ask)
    if watch_parent:

        def wait_for_end_of_input() -> None:
            while os.read(0, 1024):
                pass
            stop.ask()
            sleep(ORPHAN_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)  # it hangs, and its heartbeat would hold the run for ever

        threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    return stop
