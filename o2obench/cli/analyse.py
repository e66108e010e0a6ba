"""Analysing results: ``report | plot | diagnose | compare | diff | export | render | policy``."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from ..runs.folder import ResultsFolder
from ..util.files import usable
from .app import app
from .options import (
    AsJson,
    Folder,
    Results,
    RunName,
    RunNames,
    Suite,
    names_of,
    require_picture,
    runs_to_complete,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WATCH_EVERY = 20
"""Seconds between two reports of a suite that goes on."""


@app.command()
def report(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FOLDER | RUN...]", help="A results folder, or runs.", autocompletion=runs_to_complete
        ),
    ] = None,
    results: Annotated[Path, typer.Option(help="The results folder that runs are in.")] = Path("results"),
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("reports"),
    suite: Annotated[str, typer.Option(help="Only this suite.")] = "",
    formats: Annotated[
        str,
        typer.Option("--format", help="What to write, such as html,csv; all: html,md,tex,csv,svg,pdf,png."),
    ] = "",
    reference: Annotated[str, typer.Option(help="The method that others are compared with.")] = "",
    pairs: Annotated[bool, typer.Option("--pairs", help="Compare all pairs in a table, too.")] = False,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help="Curves of others: name=file.csv with env_steps, score, seed (, dataset)."
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Make the page anew while a suite runs, until it is done.")
    ] = False,
) -> None:
    """Write tables, figures and one HTML page per suite of a results folder, or of some runs."""
    from ..launch.status import is_going_on

    names = what or [str(results)]
    if len(names) == 1 and not _is_run(names[0], results):
        folder = ResultsFolder(Path(names[0]))
        options = {"reference": reference, "pairs": pairs, "external": tuple(with_ or ())}
        write_reports(folder, out, suite, formats, **options, refresh=WATCH_EVERY if watch else 0)
        while watch and is_going_on(folder, suite):
            time.sleep(WATCH_EVERY)
            write_reports(folder, out, suite, formats, **options, refresh=WATCH_EVERY)
        if watch:
            write_reports(folder, out, suite, formats, **options)
        return
    for flag, given in (("--suite", suite), ("--with", with_), ("--watch", watch)):
        if given:
            raise UserError(f"{flag}: belongs to the report of a results folder, not of runs")
    from ..analysis.from_runs import plan_of_runs
    from ..report import FORMATS, ReportOptions, write_runs

    folder, folders = _runs_of(names, results)
    chosen = ReportOptions(names_of(formats) or FORMATS, reference, pairs)
    print(f"report: {write_runs(plan_of_runs(folders, folder), folder, out, chosen)}")


@app.command()
def plot(
    runs: RunNames,
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option(help="The picture: .png, .pdf or .svg.")] = Path("curves.png"),
) -> None:
    """Draw the learning curves of some runs, those of one method as a mean with its band."""
    from ..analysis.from_runs import plan_of_runs
    from ..report.plots.curves import curves
    from ..report.plots.style import Target
    from ..report.summary import summarise

    require_picture(out)
    folder, folders = _runs_of(runs, results)
    summary = summarise(plan_of_runs(folders, folder), folder)
    if len(summary.datasets) > 1:
        raise UserError(f"plot: one picture shows one data set; here are {', '.join(summary.datasets)}")
    if not curves(summary, summary.datasets[0], Target(out.with_suffix(""), (out.suffix[1:],))):
        raise UserError("plot: nothing to draw: " + "; ".join(summary.lacking or ["no run is finished"]))
    print(f"picture: {out}")


def _is_run(name: str, results: Path) -> bool:
    """Tell whether a name means a run, and not a results folder."""
    from ..planning.find_run import names_of_runs

    if Path(name).is_dir():
        return (Path(name) / "run.json").is_file()
    return ":" in name or name in names_of_runs(ResultsFolder(results))


def _runs_of(names: Sequence[str], results: Path) -> tuple[ResultsFolder, list[Path]]:
    """Return the folders of some runs, and the results folder that holds them."""
    from ..planning.find_run import find_run

    folders = [find_run(name, ResultsFolder(results)) for name in names]
    roots = {folder.resolve().parents[3] for folder in folders}
    if len(roots) > 1:
        raise UserError(f"{', '.join(names)}: are in several results folders; `o2obench merge` joins them")
    return ResultsFolder(roots.pop()), folders


@app.command()
def diagnose(
    runs: RunNames,
    results: Results = Path("results"),
    transitions: Annotated[int, typer.Option(min=2, help="States and actions of each source.")] = 2000,
    on: Annotated[
        str, typer.Option(help="Evaluate on transitions of these data sets of the task too, with commas.")
    ] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too.")] = None,
) -> None:
    """Compare the models of finished runs with the simulator, and keep the numbers in their folders."""
    from ..analysis.model_error import diagnose, keep
    from ..planning.find_run import find_run
    from ..registry import algorithm
    from ..util.files import write_atomically
    from .progress import busy, console
    from .tables import model_error_table

    folders = [find_run(name, ResultsFolder(results)) for name in runs]
    algorithm("sac")  # imports torch, which the machine's settings wait for
    errors = []
    for i, run in enumerate(folders, start=1):
        with busy(f"run {i} of {len(folders)}: the model against the simulator"):
            evaluated = diagnose(run, transitions, names_of(on) or ())
        keep(run, transitions, evaluated)
        errors += evaluated
    console().print(model_error_table(errors))
    if json_file:
        write_atomically(json_file, json.dumps([vars(error) for error in errors], indent=1) + "\n")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="The results folder that is the baseline.")],
    b: Annotated[
        Path | None, typer.Argument(help="The one that is evaluated; left out: two methods of A.")
    ] = None,
    suite: Suite = "",
    algorithms: Annotated[str, typer.Option(help="Only these algorithms or methods, with commas.")] = "",
    measures: Annotated[str, typer.Option(help="Show only these measures, with commas.")] = "",
    decide: Annotated[str, typer.Option(help="The measure that decides.")] = "area",
    margin: Annotated[float, typer.Option(help="How much worse is not yet called worse.")] = 0.0,
    require_verdict: Annotated[
        bool, typer.Option("--require-verdict", help="Exit code 3 where a method has no verdict.")
    ] = False,
    of: Annotated[str, typer.Option(help="The method that is evaluated.")] = "",
    against: Annotated[str, typer.Option(help="The method that is the baseline.")] = "",
    as_json: AsJson = False,
) -> None:
    """Hold B against A, or a method against another, run by run; exit code 1 where B is clearly worse."""
    from ..analysis import compare as comparison
    from .progress import busy, console
    from .tables import comparison_table

    names = (names_of(algorithms) or (), names_of(measures) or ())
    choice = comparison.Choice(suite, *names, of, against, decide, margin)
    with busy(f"reading {b or a}"):
        compared = comparison.compare(ResultsFolder(a), ResultsFolder(b) if b else None, choice)
    if as_json:
        print(json.dumps(compared.to_json(), indent=1))
    else:
        for pair in compared.pairs:
            console().print(comparison_table(pair))
        print("\n".join(comparison.verdict(compared)))
    if compared.worse:
        raise typer.Exit(1)
    if compared.undecided and require_verdict:
        raise typer.Exit(3)


@app.command()
def diff(
    a: RunName,
    b: RunName,
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Show what differs between two runs: options, budget, data, versions, and where their scores part."""
    from ..analysis.diff import difference
    from ..planning.find_run import find_run
    from .progress import console
    from .tables import difference_table

    folder = ResultsFolder(results)
    differences = difference(find_run(a, folder), find_run(b, folder))
    if as_json:
        print(json.dumps(asdict(differences), indent=1))
    else:
        console().print(difference_table(differences))


@app.command()
def export(
    results: Folder,
    out: Annotated[Path, typer.Option(help="The folder that takes the tables.")],
    suite: Suite = "",
    format: Annotated[str, typer.Option(help="csv, parquet or both, with a comma.")] = "csv",
) -> None:
    """Write runs, evaluations, episodes and metrics as tidy tables, and what could not be used."""
    from ..analysis.export import export as export_tables
    from .progress import busy

    with busy(f"writing the tables of {results}"):
        lines = list(export_tables(ResultsFolder(results), out, suite, names_of(format) or ()))
    print("\n".join(lines))


@app.command()
def render(
    run: RunName,
    results: Results = Path("results"),
    episodes: Annotated[int, typer.Option(min=1, help="How many are shown.")] = 1,
    out: Annotated[Path | None, typer.Option(help="The GIF; default: named after the run.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Start states; default: the run's own.")] = None,
) -> None:
    """Draw a finished run's policy in its environment, from the start states of its evaluation, as a GIF."""
    from ..analysis.video import render as draw
    from ..planning.find_run import find_run
    from .progress import busy

    folder = find_run(run, ResultsFolder(results))
    with busy(f"drawing {episodes} episode{'s' if episodes > 1 else ''}"):
        lines = draw(folder, episodes, out, seed)
    print("\n".join(lines))


@app.command()
def policy(
    run: RunName,
    out: Annotated[Path, typer.Option(help="FILE.npz, or a folder.")],
    results: Results = Path("results"),
) -> None:
    """Write a finished run's policy as plain arrays and a JSON file that says how to use them.

    Runs start from such a file by `--from`, and from policies of Stable-Baselines3 and d3rlpy.
    """
    from ..analysis.policy import write_policy
    from ..planning.find_run import find_run
    from .progress import busy

    folder = find_run(run, ResultsFolder(results))
    with busy("writing the policy"):
        lines = write_policy(folder, out)
    print("\n".join(lines))


def write_reports(results: ResultsFolder, out: Path, suite: str, formats: str = "", **fields: Any) -> None:
    """Write the reports of a results folder and name their pages."""
    from ..report import FORMATS, ReportOptions, write_report

    usable(out)
    options = ReportOptions(names_of(formats) or FORMATS, watch=_watched, **fields)
    for page in write_report(results, out, suite, options):
        print(f"report: {page}")


def _watched(items: Sequence[Any], label: str) -> Iterable[Any]:
    """Show on a terminal how far a loop is, and take the line away at its end."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, label, console=console, transient=True, disable=not console.is_terminal)
