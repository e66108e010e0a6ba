"""Algorithms: ``list | check | new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app


@app.command("list")
def list_() -> None:
    """List algorithms, suites and data sets, one line each."""
    from .. import registry
    from ..datasets.registry import dataset_names, find_dataset
    from ..planning.load import find_suite, read_layers, suite_names

    print("Algorithms")
    for name in registry.names():
        print(f"  {name:<28} {registry.summary(name)}")
    print("\nSuites")
    for name in suite_names():
        print(f"  {name:<28} {read_layers(find_suite(name)).value.get('title', '')}")
    print("\nData sets")
    for name in dataset_names():
        dataset = find_dataset(name)
        where = "embedded" if dataset.embedded else "present" if dataset.present else "not on this machine"
        print(f"  {name:<28} {dataset.env.id}, {where}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A registered algorithm, yours or one of ours.")],
) -> None:
    """Run the checks of an agent on an algorithm: resume, seeds, bounds, no traces."""
    from ..testing.check_agent import check as check_algorithm

    if not check_algorithm(name, print):
        raise typer.Exit(1)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The algorithm's name, for example my_method.")],
    folder: Annotated[
        Path, typer.Option(help="Where to write; a checkout of o2obench or any folder.")
    ] = Path(),
) -> None:
    """Write the template of an algorithm: its file, its options and its test."""
    from ..testing.template import write_template

    for path in write_template(name, folder):
        print(f"wrote {path}")
