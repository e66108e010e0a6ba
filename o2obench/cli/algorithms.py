"""Algorithms: ``list | info | check | new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .markup import escape
from .options import AlgorithmName


@app.command("list")
def list_(
    available: Annotated[
        bool, typer.Option("--available", help="Only data sets that are on this machine, and suites on them.")
    ] = False,
) -> None:
    """List algorithms, suites and data sets, one line each."""
    from .. import registry
    from ..datasets.registry import dataset_names, find_dataset
    from ..planning.expand import suite_datasets
    from ..planning.load import find_suite, read_layers, suite_names
    from .progress import busy

    with busy("importing every algorithm"):
        algorithms = {name: registry.summary(name) for name in registry.names()}
    datasets = {name: find_dataset(name) for name in dataset_names()}
    here = {name for name, dataset in datasets.items() if dataset.present}
    print("Algorithms")
    for name, summary in algorithms.items():
        print(f"  {name:<28} {summary}")
    print("\nSuites")
    for name in suite_names():
        if not available or here.issuperset(suite_datasets(find_suite(name))):
            print(f"  {name:<28} {read_layers(find_suite(name)).value.get('title', '')}")
    print("\nData sets")
    for name, dataset in datasets.items():
        if available and name not in here:
            continue
        where = "embedded" if dataset.embedded else "present" if dataset.present else "not on this machine"
        print(f"  {name:<28} {dataset.env.id}, {where}")


@app.command()
def info(name: AlgorithmName) -> None:
    """Show an algorithm: what it starts from, its options with ranges and meaning, its rows per data set."""
    from ..registry import algorithm
    from .info import facts, options_table, rows_table
    from .progress import console

    agent = algorithm(name)
    for line in facts(name):
        console().print(escape(line), soft_wrap=True)
    for table in (options_table(agent), rows_table(agent, name)):
        if table is not None and table.row_count:
            console().print(table)


@app.command()
def check(
    name: AlgorithmName,
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
