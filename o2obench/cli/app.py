"""The command line's root; commands are added to it where they are written."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.models import CommandFunctionType

from ..util.files import expanded

NAME, DEBUG = "o2obench", "--debug"
UsageError = typer.TyperException
"""A word on the command line that it cannot take."""


class _Command(TyperCommand):
    """A command whose paths are what users meant: a shell leaves the ``~`` of ``--out=~/x`` as it is."""

    def invoke(self, ctx: Any) -> Any:
        """Call the command with ``~`` and variables in its paths replaced."""
        paths = {name: expanded(value) for name, value in ctx.params.items() if isinstance(value, Path)}
        ctx.params.update(paths)
        return super().invoke(ctx)


class App(typer.Typer):
    """Commands in a group."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = _Command, **about: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Add a command."""
        return super().command(name, cls=cls, **about)


app = App(
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
    import_: Annotated[
        list[str] | None,
        typer.Option("--import", help="A module of your own, which registers environments; or its .py file."),
    ] = None,
    terminal: Annotated[
        str, typer.Option(help="MODULE:FUNCTION of it: when environments end for which nobody has said so.")
    ] = "",
) -> None:
    """Which method fine-tunes an offline-trained agent fastest without a collapse?"""
    if import_ or terminal:
        from ..envs.own import take_own

        take_own(import_ or [], terminal)
    if data_folder:
        os.environ["O2OBENCH_DATA"] = data_folder
        os.environ.setdefault("MINARI_DATASETS_PATH", os.path.join(data_folder, "minari"))
        os.environ.setdefault("OGBENCH_DATASET_DIR", os.path.join(data_folder, "ogbench"))
