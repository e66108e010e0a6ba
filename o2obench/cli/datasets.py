"""Data sets: ``data list | info | check | plot | export | import | card | scores | fetch | collect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from ..util.files import shown
from .app import App, app
from .options import DatasetName, require_picture, stop_on_signal

COLUMN, COLUMNS = "The column's name, where it is not a usual one.", "Columns"
"""Help, and the group of options that name columns."""
data_app = App(help="Look at data sets, fetch them, check them, collect or import one.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command("list")
def data_list(
    words: Annotated[str, typer.Argument(help="Only names that hold this.")] = "",
) -> None:
    """List the known data sets: environment, size, reference scores, where they are, what cannot be used."""
    from ..datasets.registry import unusable_datasets
    from .progress import console
    from .tables import datasets_table

    console().print(datasets_table(words))
    for name, why in unusable_datasets().items():
        if words in name:
            print(shown(f"{name}: cannot be used: {why}"))


@data_app.command("info")
def data_info(name: DatasetName) -> None:
    """Show what a data set holds: episodes, returns, ends, hash."""
    from ..datasets import describe
    from .progress import busy

    with busy(f"reading {name}"):
        text = describe.info_text(name)
    print(text)


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A data set's name or an HDF5 file.")],
    env: Annotated[str, typer.Option(help="The environment, when checking a file.")] = "",
) -> None:
    """Check keys, shapes, values and episode ends of a data set."""
    from ..datasets import describe
    from .progress import busy

    with busy(f"reading {name}"):
        text = describe.check_text(name, env)
    print(text)


@data_app.command("plot")
def data_plot(
    name: DatasetName,
    file: Annotated[Path | None, typer.Argument(help="The picture: .png, .pdf or .svg.")] = None,
) -> None:
    """Draw a data set: returns, how episodes end, where its states lie."""
    from ..report.plots.dataset import plot
    from ..runs.spec import folder_name
    from .progress import busy

    file = file or Path(f"{folder_name(name)}.png")
    require_picture(file)
    with busy(f"drawing {name}"):
        plot(name, file)
    print(f"picture: {file}")


@data_app.command("export")
def data_export(
    name: DatasetName,
    folder: Annotated[
        Path | None, typer.Argument(help="Where Minari keeps its data sets; default: its own.")
    ] = None,
) -> None:
    """Write a data set in Minari's layout, for minari.load_dataset and what builds on it."""
    from ..datasets import describe, minari
    from .progress import busy

    root = folder or minari.root_folder()
    with busy(f"writing {name}"):
        written = describe.export(name, root)
    print(f"{written}: minari.load_dataset('{written.relative_to(root)}') with {minari.FOLDER}={root}")


@data_app.command("import")
def data_import(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="An .npz, .csv, .parquet or .hdf5 file, or minari:ID.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The data set to write; it must not exist.")],
    env: Annotated[str, typer.Option(help="The environment it was recorded in, such as Hopper-v4.")],
    obs: Annotated[str, typer.Option(help=COLUMN, rich_help_panel=COLUMNS)] = "",
    action: Annotated[str, typer.Option(help=COLUMN, rich_help_panel=COLUMNS)] = "",
    reward: Annotated[str, typer.Option(help=COLUMN, rich_help_panel=COLUMNS)] = "",
    next_obs: Annotated[
        str, typer.Option(help="What was observed after a step.", rich_help_panel=COLUMNS)
    ] = "",
    terminated: Annotated[str, typer.Option(help="Ends of the task.", rich_help_panel=COLUMNS)] = "",
    truncated: Annotated[str, typer.Option(help="Ends by the clock.", rich_help_panel=COLUMNS)] = "",
    done: Annotated[str, typer.Option(help="Ends of either kind.", rich_help_panel=COLUMNS)] = "",
    episode: Annotated[str, typer.Option(help="The number of the episode.", rich_help_panel=COLUMNS)] = "",
    ref_min: Annotated[float | None, typer.Option(help="The return of score 0.")] = None,
    ref_max: Annotated[float | None, typer.Option(help="The return of score 100.")] = None,
) -> None:
    """Make a data set of your own file: its columns are named by you, or guessed and shown."""
    from ..datasets.importing import NAMES, Imported, import_file
    from .progress import busy

    given = (obs, action, reward, next_obs, terminated, truncated, done, episode)
    columns = {column: name for column, name in zip(NAMES, given, strict=True) if name}
    with busy(f"reading {source}"):
        text = import_file(source, out, Imported(env, columns, ref_min, ref_max))
    print("\n".join(map(shown, text.split("\n"))))


@data_app.command("card")
def data_card(name: DatasetName) -> None:
    """Write Croissant metadata and a datasheet beside a data set; what nobody says is said to be unknown."""
    from ..datasets import papers
    from ..datasets.registry import find_dataset
    from .progress import busy

    with busy(f"reading {name}"):
        lines = papers.write(find_dataset(name))
    print("\n".join(lines))


@data_app.command("scores")
def data_scores(
    env: Annotated[str, typer.Argument(help="An environment: hopper, or an id such as Hopper-v4.")],
    policy: Annotated[Path | None, typer.Option(help="An expert's policy: .npz, .zip, .pt or .d3.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each policy.")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    write: Annotated[Path | None, typer.Option(help="The data set whose card is to hold them.")] = None,
) -> None:
    """Measure which returns score 0 (random actions) and 100 (an expert's policy)."""
    from ..datasets.registry import find_task
    from ..training.reference_returns import measured, write_scores
    from .progress import busy

    spec = find_task(env)
    with busy(f"playing {spec.id}"):
        scores = measured(spec, policy, seed, episodes)
    print("\n".join([spec.id, *(f"  {name:<8} {value}" for name, value in scores.items())]))
    if write:
        print(f"written to {write_scores(scores, spec, write)}")


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="Names of D4RL's or Minari's data sets.")],
    offline: Annotated[bool, typer.Option("--offline", help="Do not touch the network.")] = False,
) -> None:
    """Fetch D4RL's and Minari's sets, going on where a download broke off; check those that are here."""
    from ..datasets.download import fetch_named
    from .progress import download_progress

    problems = list[str]()
    with download_progress() as (say, show):
        for name in names:
            try:
                fetch_named(name, offline, say, show)
            except UserError as error:
                problems += error.problems
    if problems:
        raise UserError(*problems)


@data_app.command("collect")
def data_collect(
    task: Annotated[str, typer.Argument(help="An environment: hopper, or an id such as Hopper-v4.")],
    file: Annotated[Path | None, typer.Argument(help="The HDF5 file to write; it must not exist.")] = None,
    kind: Annotated[
        str, typer.Option(help="random, medium-replay, medium, expert, high, ...; of mazes play, diverse.")
    ] = "medium-replay",
    level: Annotated[
        int | None,
        typer.Option(min=1, max=99, help="Score up to which a medium-replay set goes; default: 33."),
    ] = None,
    rows: Annotated[int, typer.Option(min=2, help="Rows of the set, or at most so many.")] = 200_000,
    steps: Annotated[int, typer.Option(min=2, help="Environment steps of the SAC training.")] = 200_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    work: Annotated[
        Path | None, typer.Option(help="Where trainings are kept; default: trainings/ in the data folder.")
    ] = None,
    minari: Annotated[bool, typer.Option(help="Write it in Minari's layout too.")] = True,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="A set that exists is fine.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Record a data set of D4RL's kinds: by SAC, trained from scratch, or in a maze by a controller."""
    from ..datasets.reference_scores import COLLECTED, KINDS, WALKS, task_name
    from ..datasets.registry import data_folder, find_task
    from ..planning.collections import collection
    from ..planning.schema import Collect
    from ..training.collect import Recipe, collect
    from ..util.config import nearest

    work = work or data_folder() / "trainings"
    if kind not in (*KINDS, *WALKS):
        raise UserError(f"--kind {kind}: not known; {nearest(kind, (*KINDS, *WALKS))}")
    if level is not None and kind != "medium-replay":
        raise UserError(
            f"--level {level}: only a medium-replay set goes up to a level; leave out --kind {kind}"
        )
    name = f"o2o:{task_name(find_task(task).id)}-{f'replay{level}' if level else kind}-v0"
    own = file is None and COLLECTED.fullmatch(name)
    identity = collection(name, Collect(rows=rows, steps=steps, seed=seed)).identity if own else ""
    recipe = Recipe(rows, steps, seed, work, threads, level, minari, if_missing, identity)
    collect(task, kind, file, recipe, stop_on_signal())
