"""What commands share: options by name, how their texts are read, how a process is asked to end."""

from __future__ import annotations

import functools
import inspect
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from time import sleep
from typing import Annotated, Any, get_type_hints

import typer

from ..errors import UserError

MOST_SEEDS = 1000
ORPHAN_SECONDS = 8.0
"""So long a worker may take to save and end after its launcher is gone."""


def runs_to_complete() -> list[str]:
    """Return what completion offers for RUN: the short names of the runs below results/."""
    from ..planning.find_run import names_of_runs
    from ..runs.folder import ResultsFolder

    called = names_of_runs(ResultsFolder("results")).values()
    return sorted({name.rpartition("/")[2] for names in called for name in names if ":" in name})


def algorithms_to_complete() -> list[str]:
    """Return what completion offers for an algorithm."""
    from ..registry import names

    return names()


def suites_to_complete() -> list[str]:
    """Return what completion offers for a suite."""
    from ..planning.load import suite_names

    return suite_names()


def datasets_to_complete() -> list[str]:
    """Return what completion offers for a data set."""
    from ..datasets.registry import dataset_names

    return dataset_names()


AlgorithmName = Annotated[
    str, typer.Argument(help="An algorithm's name, ours or yours.", autocompletion=algorithms_to_complete)
]
DatasetName = Annotated[str, typer.Argument(help="A data set's name.", autocompletion=datasets_to_complete)]
RUN_HELP = "A run: its folder, METHOD:SEED, or as much of its id as no other run shares."
RunName = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=runs_to_complete)]
RunNames = Annotated[
    list[str], typer.Argument(metavar="RUN...", help=RUN_HELP, autocompletion=runs_to_complete)
]
Results = Annotated[Path, typer.Option(help="The results folder.")]
Folder = Annotated[Path, typer.Argument(help="The results folder.")]
Suite = Annotated[str, typer.Option(help="Only this suite.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
COMPUTED = "What is computed"
"""The group of options that decide it, in the help."""
Defaults = Annotated[
    bool,
    typer.Option("--defaults", help="Accept data sets without a row of options.", rich_help_panel=COMPUTED),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Fetch no missing data sets.", rich_help_panel=COMPUTED)
]


def takes(name: str, model: type[Any], leave_out: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Give a command every field of a dataclass as an option, and what they say as the argument ``name``.

    A field's metadata hold its help, its group there and, where there is one, its least value; a field that
    begins as None was not given.
    """
    hints = get_type_hints(model)
    added = []
    for field in fields(model):
        if field.name in leave_out:
            continue
        flag = "--" + field.name.replace("_", "-")
        least = field.metadata.get("min")
        only_yes = [flag] if hints[field.name] is bool else []
        default: Any = field.default
        many = isinstance(default, tuple)
        text, group = field.metadata["help"], field.metadata["group"]
        about = typer.Option(
            list(default) if many else default,
            *only_yes,
            help=text,
            min=least,
            rich_help_panel=group,
        )
        added.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=about,
                annotation=list[str] if many else hints[field.name],
            )
        )
    names = {parameter.name for parameter in added}

    def decorate(command: Any) -> Any:
        signature = inspect.signature(command, eval_str=True)
        kept = [p.replace(kind=p.KEYWORD_ONLY) for p in signature.parameters.values() if p.name != name]

        @functools.wraps(command)
        def call(**arguments: Any) -> Any:
            given = {key: arguments.pop(key) for key in names & arguments.keys()}
            own = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
            return command(**arguments, **{name: model(**own)})

        vars(call).pop("__wrapped__")
        vars(call)["__signature__"] = signature.replace(parameters=[*kept, *added])
        call.__annotations__ = {p.name: p.annotation for p in (*kept, *added)}
        return call

    return decorate


def names_of(text: str) -> tuple[str, ...] | None:
    """Read ``a,b``; None of an empty text."""
    return tuple(part.strip() for part in text.split(",")) if text else None


def seeds_of(text: str) -> tuple[int, ...] | None:
    """Read ``5`` (0 to 4), ``0,3,4`` or ``5-9``."""
    if not text:
        return None
    number = r"\s*[0-9]{1,10}\s*"
    chosen: Sequence[int] = ()
    if re.fullmatch(number, text):
        chosen = range(int(text))
    elif re.fullmatch(f"{number}-{number}", text):
        first, last = map(int, text.split("-"))
        chosen = range(first, last + 1)
    elif re.fullmatch(f"{number}(,{number})*,?", text):  # "3," is seed 3, "3" are three seeds
        chosen = [int(part) for part in text.removesuffix(",").split(",")]
    if not chosen:
        shown = text if len(text) < 40 else f"{text[:40]}..."
        raise UserError(f"--seeds {shown}: expected a number of seeds, a list like 0,3,4 or a range like 5-9")
    if len(chosen) > MOST_SEEDS or max(chosen) >= 2**32:
        raise UserError(f"--seeds {text[:40]}: at most {MOST_SEEDS:,} seeds, each below 2^32, can be meant")
    return tuple(chosen)


def require_picture(file: Path) -> None:
    """Refuse a name that no picture can be written to, before anything is drawn."""
    if file.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"{file}: a picture ends in .png, .pdf or .svg")
    if not file.parent.is_dir() or file.is_dir():
        raise UserError(
            f"{file}: its folder is missing, or it is a folder; name a picture in a folder that is there"
        )


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
