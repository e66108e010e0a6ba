"""Maintaining results folders: ``doctor | clean | merge | mirror``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..runs.folder import ResultsFolder
from .app import app
from .options import stop_on_signal


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as one JSON value.")] = False,
) -> None:
    """Verify a results folder: runs, plans, locks, leftovers, and what its file system can do."""
    from ..maintenance.doctor import examine
    from .progress import busy

    with busy(f"reading every file of {folder}"):
        diagnosis = examine(ResultsFolder(folder))
    print(json.dumps(diagnosis.to_json(), indent=1) if as_json else "\n".join(diagnosis.lines()))
    if not diagnosis.whole:
        raise typer.Exit(1)


@app.command()
def clean(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Also last checkpoints that no planned run needs.")
    ] = False,
    unplanned: Annotated[
        bool, typer.Option("--unplanned", help="Also runs that no plan names, those of `o2obench run` too.")
    ] = False,
) -> None:
    """Show where a results folder's space goes, and remove what killed processes left."""
    from ..maintenance import clean as maintenance
    from .progress import busy

    choice = maintenance.Choice(dry_run, checkpoints, unplanned)
    with busy(f"looking through {folder}"):
        cleaned = maintenance.clean(ResultsFolder(folder), choice)
    print("\n".join(cleaned.lines(choice)))


@app.command()
def merge(
    into: Annotated[Path, typer.Argument(help="The results folder that takes runs over.")],
    source: Annotated[Path, typer.Argument(metavar="FROM", help="The one they come from; not changed.")],
) -> None:
    """Copy finished runs and plans that one results folder lacks from another."""
    from ..maintenance.merge import merge as merge_folders
    from .progress import busy

    with busy(f"copying runs from {source}"):
        merged = merge_folders(ResultsFolder(into), ResultsFolder(source))
    print("\n".join(merged.lines()))
    if merged.problems:
        raise typer.Exit(1)


@app.command()
def mirror(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    to: Annotated[str, typer.Option(help="tensorboard or wandb.")],
    out: Annotated[Path, typer.Option(help="Where event files, or W&B's, and the mirror's state go.")],
    suite: Annotated[str, typer.Option(help="Only this suite.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Go on every few seconds until Ctrl-C.")] = False,
) -> None:
    """Mirror a results folder's logs in TensorBoard or W&B; only what is new is added."""
    from ..analysis.trackers import mirror as mirror_folder

    mirror_folder(ResultsFolder(folder), to, out, suite, stop_on_signal() if watch else lambda: True)
