"""The command line's root; commands are added to it where they are written."""

from __future__ import annotations

import os
from typing import Annotated

import typer

app = typer.Typer(
    name="o2obench",
    help="Which method fine-tunes an offline-trained agent fastest without a collapse?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    data_folder: Annotated[str, typer.Option(help="Where data sets lie; like $O2OBENCH_DATA.")] = "",
) -> None:
    """Which method fine-tunes an offline-trained agent fastest without a collapse?"""
    if data_folder:
        os.environ["O2OBENCH_DATA"] = data_folder
        os.environ.setdefault("MINARI_DATASETS_PATH", os.path.join(data_folder, "minari"))
