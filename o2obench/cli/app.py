"""The command line's root; commands are added to it where they are written."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Annotated

import typer

NAME, DEBUG = "o2obench", "--debug"
UsageError = typer.TyperException
"""A word on the command line that it cannot take."""

app = typer.Typer(
    name=NAME,
    help="Which method fine-tunes an offline-trained agent fastest without a collapse?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"{NAME} {version(NAME)}")
        raise typer.Exit


@app.callback()
def _common(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show tracebacks; may stand anywhere.")] = False,
    data_folder: Annotated[str, typer.Option(help="Where data sets lie; like $O2OBENCH_DATA.")] = "",
) -> None:
    """Which method fine-tunes an offline-trained agent fastest without a collapse?"""
    if data_folder:
        os.environ["O2OBENCH_DATA"] = data_folder
        os.environ.setdefault("MINARI_DATASETS_PATH", os.path.join(data_folder, "minari"))
