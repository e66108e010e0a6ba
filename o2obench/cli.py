"""The command line: ``o2obench suite | run | status | report | list | data | doctor | check | new`` and more.

Exit codes: 0 all done, 1 a run failed, 2 bad input, 130 interrupted (143: a suite, by SIGTERM). Heavy
libraries are imported by the commands that need them.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import BadInput, Interrupted, LostLease, RunFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ORPHAN_SECONDS = 8.0
"""So long a worker may take to save and end after its launcher is gone."""

app = typer.Typer(
    name="o2obench",
    help="Which method tunes an offline-trained agent fastest without a collapse?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

data_app = typer.Typer(help="Look at data sets, fetch them, check them, collect one.", no_args_is_help=True)
app.add_typer(data_app, name="data")

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
Gpus = Annotated[str, typer.Option(help="GPUs to use with --device cuda: all, or 0,1,3.")]
Pack = Annotated[str, typer.Option(help="Seeds trained side by side in a process: auto, or a number.")]
Sbatch = Annotated[list[str] | None, typer.Option(help="SLURM: one more sbatch option, key=value.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
Defaults = Annotated[bool, typer.Option("--defaults", help="Accept data sets without a row of options.")]


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    data_folder: Annotated[str, typer.Option(help="Where data sets lie; like $O2OBENCH_DATA.")] = "",
) -> None:
    """Which method tunes an offline-trained agent fastest without a collapse?"""
    if data_folder:
        os.environ["O2OBENCH_DATA"] = data_folder


@app.command()
def suite(
    name: Annotated[str, typer.Argument(help="A suite's name (see `o2obench list`) or a YAML file.")],
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("reports"),
    launcher: Annotated[
        str, typer.Option(help="local, slurm, slurm_gpu, or a YAML file: how runs are launched.")
    ] = "local",
    jobs: Annotated[
        int | None, typer.Option(min=0, help="Runs at once on this machine; 0: one per CPU core.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds instead of the suite's: 5, 0,3,4 or 5-9.")] = "",
    datasets: Annotated[str, typer.Option(help="Only these data sets, separated by commas.")] = "",
    algorithms: Annotated[str, typer.Option(help="Only these algorithms, separated by commas.")] = "",
    data: Annotated[str, typer.Option(help="o2o: the collected sets in place of D4RL's.")] = "",
    device: Device = "cpu",
    threads: Threads = 1,
    checkpoint_seconds: Checkpoints = 60.0,
    gpus: Gpus | None = None,
    per_gpu: Annotated[int | None, typer.Option(min=1, help="Processes that share a GPU.")] = None,
    pack: Pack | None = None,
    stall_minutes: Annotated[
        float | None, typer.Option(min=0, help="Kill and resume a run that stands still so long; 0: never.")
    ] = None,
    partition: Annotated[str | None, typer.Option(help="SLURM: the partition.")] = None,
    account: Annotated[str | None, typer.Option(help="SLURM: the account.")] = None,
    constraint: Annotated[str | None, typer.Option(help="SLURM: features of a node.")] = None,
    gpus_per_task: Annotated[int | None, typer.Option(min=0, help="SLURM: GPUs of an element.")] = None,
    time: Annotated[str | None, typer.Option(help="SLURM: minutes, H:MM:SS or D-HH:MM:SS.")] = None,
    memory_gb: Annotated[float | None, typer.Option(help="SLURM: memory of an element.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="SLURM: elements at work at once.")] = None,
    sbatch: Sbatch = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="SLURM: submit, and do not wait.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, its cost and, for SLURM, the scripts only.")
    ] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Do not write the report.")] = False,
    allow_drift: Drift = False,
    eager: Eager = False,
    tf32: Tf32 = False,
    evaluation: Evaluation = "",
    defaults: Defaults = False,
) -> None:
    """Run a grid (algorithms x data sets x seeds), resume what is unfinished, write the report."""
    from . import launch
    from .launch.profile import read_profile
    from .launch.screen import dry_run_table, summary
    from .options import Options
    from .suite import Narrow, find_suite, read_suite

    flags = {
        **{"jobs": jobs, "gpus": _listed(gpus), "per_gpu": per_gpu, "pack": _pack(pack)},
        **{"stall_minutes": stall_minutes, "partition": partition, "account": account},
        **{"constraint": constraint, "gpus_per_task": gpus_per_task, "time": _minutes(time)},
        **{"memory_gb": memory_gb, "parallel": parallel, "sbatch": _pairs(sbatch)},
    }
    profile = read_profile(launcher, flags)
    options = Options(device, threads, checkpoint_seconds, allow_drift, eager, tf32, evaluation)
    narrow = Narrow(_seeds(seeds), _names(datasets), _names(algorithms), data, defaults)
    plan = read_suite(find_suite(name), narrow)
    way = launch.Launch(plan, results, profile, options)
    if dry_run:
        dry_run_table(plan, results, way.at_once)
        for script in way.scripts():
            print(f"\n{script}")
        return
    for folder in (results, out):
        _usable(folder)
    outcome = way.go(wait=not no_wait)
    if outcome is None:
        return
    print(summary(plan, results, outcome))
    if outcome.interrupted:
        print("Interrupted; the same command goes on from here.")
        raise typer.Exit(128 + outcome.interrupted)
    if not no_report:
        _report(results, out, plan.suite)
    if outcome.failed or outcome.blocked or outcome.stopped:
        raise typer.Exit(1)


@app.command()
def run(
    algorithm: Annotated[str, typer.Argument(help="An algorithm's name.")],
    dataset: Annotated[str, typer.Argument(help="A data set's name.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    options: Annotated[list[str] | None, typer.Option("--set", help="An option: key=value.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Offline epochs of 1,000 updates.")] = 3000,
    steps: Annotated[int, typer.Option(min=1, help="Online environment steps.")] = 100_000,
    every: Annotated[int, typer.Option(min=1, help="Online steps between evaluations.")] = 1000,
    results: Results = Path("results"),
    device: Device = "cpu",
    threads: Threads = 1,
    checkpoint_seconds: Checkpoints = 60.0,
    allow_drift: Drift = False,
    eager: Eager = False,
    tf32: Tf32 = False,
    evaluation: Evaluation = "",
    defaults: Defaults = False,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time went.")] = False,
) -> None:
    """Compute one run in this process, after the pretraining run it starts from."""
    from .execute import execute
    from .launch.screen import console, single_run, where_time_went
    from .options import Options
    from .run import RunFolder
    from .suite import Narrow, single

    plan = single(algorithm, dataset, seed, options or [], (epochs, steps, every), Narrow(defaults=defaults))
    _usable(results)
    stop = _stop_on_signal()
    how = Options(device, threads, checkpoint_seconds, allow_drift, eager, tf32, evaluation, profile, stop)
    for one in plan.runs:
        with single_run(plan, one, results):
            execute([one], results, how)
        print(f"done: {RunFolder(results, one.id).path}")
        if profile:
            console().print(where_time_went(one, results))


@app.command(hidden=True)
def work(
    plan_file: Path,
    run_ids: list[str],
    results: Results = Path("results"),
    device: Device = "cpu",
    threads: Threads = 1,
    checkpoint_seconds: Checkpoints = 60.0,
    allow_drift: Drift = False,
    eager: Eager = False,
    tf32: Tf32 = False,
    evaluation: Evaluation = "",
) -> None:
    """Compute runs of a plan; several ids are a pack of seeds that train side by side."""
    from .execute import Busy, Uneven, execute
    from .launch.worker import BUSY, INTERRUPTED
    from .options import Options
    from .plan import read_plan

    plan = read_plan(plan_file)
    runs = [plan.run(run_id) for run_id in run_ids]
    stop = _stop_on_signal(watch_parent=True)
    options = Options(device, threads, checkpoint_seconds, allow_drift, eager, tf32, evaluation, stop=stop)
    try:
        try:
            execute(runs, results, options)
        except Uneven:
            for one in runs:
                execute([one], results, options)
    except (Busy, LostLease) as error:
        print(error)
        raise typer.Exit(BUSY) from None
    except Interrupted:
        raise typer.Exit(INTERRUPTED) from None
    except (BadInput, RunFailed):
        raise
    except Exception:
        traceback.print_exc()  # goes to the run's log.txt
        raise


@app.command()
def status(
    results: Annotated[Path, typer.Argument(help="The results folder.")] = Path("results"),
    suite: Annotated[str, typer.Option(help="Only this suite, run by run.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every few seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show where every suite of a results folder stands: one line each, and the runs of one."""
    from .launch.screen import show_status

    show_status(results, suite, watch, as_json)


@app.command()
def cancel(results: Folder = Path("results"), suite: Suite = "") -> None:
    """Let every launcher of this machine save and end; cancel the jobs that were submitted."""
    from .launch import ledger
    from .results import plans

    for plan in plans(results, suite):
        for said in ledger.cancel(results, plan.suite):
            print(f"{plan.suite}: {said}")


@app.command()
def retry(
    results: Folder = Path("results"),
    suite: Suite = "",
    failed: Annotated[bool, typer.Option("--failed", help="Runs that failed.")] = False,
    diverged: Annotated[bool, typer.Option("--diverged", help="Runs whose numbers were not finite.")] = False,
) -> None:
    """Forget that runs failed, so that the next launch goes on with them from their checkpoints."""
    from .results import plans
    from .run import RunFolder

    wanted = {"failed"} if failed else set[str]()
    wanted |= {"diverged"} if diverged else set()
    if not wanted:
        raise BadInput("retry: name what to try again: --failed, --diverged or both")
    for plan in plans(results, suite):
        folders = [RunFolder(results, run.id) for run in plan.runs]
        again = [folder for folder in folders if folder.state() in wanted]
        for folder in again:
            folder.failed.unlink(missing_ok=True)
        print(f"{plan.suite}: {len(again)} runs to try again; start them with: {plan.command}")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="The results folder.")] = Path("results"),
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("reports"),
    suite: Annotated[str, typer.Option(help="Only this suite.")] = "",
    formats: Annotated[
        str,
        typer.Option("--format", help="What to write, such as html,csv; all: html,md,tex,csv,svg,pdf,png."),
    ] = "",
    reference: Annotated[str, typer.Option(help="The algorithm that others are compared with.")] = "",
    pairs: Annotated[bool, typer.Option("--pairs", help="Compare all pairs in a table, too.")] = False,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help="Curves of others: name=file.csv with env_steps, score, seed (, dataset)."
        ),
    ] = None,
) -> None:
    """Write tables, figures and one HTML page per suite from a results folder."""
    _report(results, out, suite, formats, reference=reference, pairs=pairs, beside=tuple(with_ or ()))


@app.command("list")
def list_() -> None:
    """List algorithms, suites and data sets, one line each."""
    from . import dataset, registry
    from .suite import find_suite, read_layers, suite_names

    print("Algorithms")
    for name in registry.names():
        print(f"  {name:<28} {registry.summary(name)}")
    print("\nSuites")
    for name in suite_names():
        print(f"  {name:<28} {read_layers(find_suite(name)).value.get('title', '')}")
    print("\nData sets")
    for name in dataset.names():
        found = dataset.find(name)
        where = "embedded" if found.embedded else "present" if found.present else "not on this machine"
        print(f"  {name:<28} {found.env.id}, {where}")


@data_app.command("list")
def data_list(
    words: Annotated[str, typer.Argument(help="Only names that hold this.")] = "",
) -> None:
    """List the known data sets: environment, size, reference scores, where they are."""
    from .dataset import describe
    from .launch.screen import console

    console().print(describe.table(words))


@data_app.command("info")
def data_info(name: Annotated[str, typer.Argument(help="A data set's name.")]) -> None:
    """Show what a data set holds: episodes, returns, ends, hash."""
    from .dataset import describe

    print(describe.info_text(name))


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A data set's name or an HDF5 file.")],
    env: Annotated[str, typer.Option(help="The environment, when checking a file.")] = "",
) -> None:
    """Check keys, shapes, values and episode ends of a data set."""
    from .dataset import describe

    print(describe.check_text(name, env))


@data_app.command("plot")
def data_plot(
    name: Annotated[str, typer.Argument(help="A data set's name.")],
    file: Annotated[Path | None, typer.Argument(help="The picture: .png, .pdf or .svg.")] = None,
) -> None:
    """Draw a data set: returns, how episodes end, where its states lie."""
    from .report.dataset import plot
    from .run import folder_name

    file = file or Path(f"{folder_name(name)}.png")
    if file.suffix not in (".png", ".pdf", ".svg"):
        raise BadInput(f"{file}: a picture ends in .png, .pdf or .svg")
    if not file.parent.is_dir() or file.is_dir():
        raise BadInput(
            f"{file}: its folder is missing, or it is a folder; name a picture in a folder that is there"
        )
    plot(name, file)
    print(f"picture: {file}")


@data_app.command("export")
def data_export(
    name: Annotated[str, typer.Argument(help="A data set's name.")],
    folder: Annotated[
        Path | None, typer.Argument(help="Where Minari keeps its data sets; default: its own.")
    ] = None,
) -> None:
    """Write a data set in Minari's layout, for minari.load_dataset and what builds on it."""
    from .dataset import describe, minari

    root = folder or minari.root_folder()
    written = describe.export(name, root)
    print(f"{written}: minari.load_dataset('{written.relative_to(root)}') with {minari.FOLDER}={root}")


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="Names of D4RL's or Minari's data sets.")],
    offline: Annotated[bool, typer.Option("--offline", help="Do not touch the network.")] = False,
) -> None:
    """Fetch D4RL's and Minari's sets, going on where a download broke off; check those that are here."""
    from .dataset import find
    from .dataset.fetch import fetch

    problems = list[str]()
    for name in names:
        try:
            fetch(find(name), offline)
        except BadInput as error:
            problems += error.problems
    if problems:
        raise BadInput(*problems)


@data_app.command("collect")
def data_collect(
    task: Annotated[str, typer.Argument(help="An environment: hopper, or an id such as Hopper-v4.")],
    file: Annotated[Path | None, typer.Argument(help="The HDF5 file to write; it must not exist.")] = None,
    kind: Annotated[
        str, typer.Option(help="random, medium-replay, medium, expert, high, ...")
    ] = "medium-replay",
    rows: Annotated[int, typer.Option(min=2, help="Rows of the set, or at most so many.")] = 200_000,
    steps: Annotated[int, typer.Option(min=2, help="Environment steps of the SAC training.")] = 200_000,
    until: Annotated[
        float, typer.Option(help="For beginnings: end a training at this mean return of ten episodes.")
    ] = math.inf,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    work: Annotated[
        Path | None, typer.Option(help="Where trainings are kept; default: trainings/ in the data folder.")
    ] = None,
    minari: Annotated[bool, typer.Option(help="Write it in Minari's layout too.")] = True,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="A set that exists is fine.")] = False,
    threads: Threads = 1,
) -> None:
    """Train SAC from scratch and record a data set of D4RL's kinds (obs, actions, qpos, qvel ...)."""
    from .config import nearest
    from .dataset import data_folder
    from .dataset.collect import Recipe, collect, collect_beginnings
    from .scores import KINDS

    recipe = Recipe(rows, steps, seed, work or data_folder() / "trainings", threads, minari, if_missing)

    if kind == "beginnings" and file is not None:
        collect_beginnings(task, file, steps, seed, threads, until)
    elif kind in KINDS:
        collect(task, kind, file, recipe, _stop_on_signal())
    else:
        raise BadInput(f"--kind {kind}: not known; {nearest(kind, KINDS)}")


@app.command()
def diagnose(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    rows: Annotated[int, typer.Option(min=2, help="States and actions in each set.")] = 2000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too.")] = None,
) -> None:
    """Compare the models of finished runs with the simulator, and keep the numbers in their folders."""
    from .diagnose import diagnose, keep, table
    from .files import write_atomically
    from .launch.screen import console
    from .registry import algorithm

    algorithm("sac")  # imports torch, which the machine's settings wait for
    found = []
    for run in runs:
        judged = diagnose(run, rows)
        keep(run, rows, judged)
        found += judged
    console().print(table(found))
    if json_file:
        write_atomically(json_file, json.dumps([vars(one) for one in found], indent=1) + "\n")


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as one JSON value.")] = False,
) -> None:
    """Verify a results folder: runs, plans, leases, leftovers, and what its file system can do."""
    from .upkeep.doctor import examine

    found = examine(folder)
    print(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(found.lines()))
    if not found.whole:
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
    from .upkeep import clean as upkeep

    choice = upkeep.Choice(dry_run, checkpoints, unplanned)
    print("\n".join(upkeep.clean(folder, choice).lines(choice)))


@app.command()
def merge(
    into: Annotated[Path, typer.Argument(help="The results folder that takes runs over.")],
    source: Annotated[Path, typer.Argument(metavar="FROM", help="The one they come from; not changed.")],
) -> None:
    """Copy finished runs and plans that one results folder lacks from another."""
    from .upkeep.merge import merge as merge_folders

    merged = merge_folders(into, source)
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
    """Mirror a results folder's journals in TensorBoard or W&B; only what is new is added."""
    from .mirror import mirror as mirror_folder

    mirror_folder(folder, to, out, suite, _stop_on_signal() if watch else lambda: True)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="The results folder that is the baseline.")],
    b: Annotated[
        Path | None, typer.Argument(help="The one that is judged; left out: two labels of A.")
    ] = None,
    suite: Suite = "",
    algorithms: Annotated[str, typer.Option(help="Only these algorithms or labels, with commas.")] = "",
    measures: Annotated[str, typer.Option(help="Only these measures, with commas.")] = "",
    of: Annotated[str, typer.Option(help="The label that is judged.")] = "",
    against: Annotated[str, typer.Option(help="The label that is the baseline.")] = "",
    as_json: AsJson = False,
) -> None:
    """Hold B against A, or a label against another, run by run; exit code 1 where B is clearly worse."""
    from .launch.screen import console
    from .report import compare as comparison

    names = (_names(algorithms) or (), _names(measures) or ())
    found = comparison.compare(a, b, comparison.Choice(suite, *names, of, against))
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        for pair in found.pairs:
            console().print(comparison.shown(pair))
        print("\n".join(comparison.verdict(found)))
    if found.regressions:
        raise typer.Exit(1)


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    b: Annotated[Path, typer.Argument(metavar="RUN", help="Another.")],
    as_json: AsJson = False,
) -> None:
    """Show what differs between two runs: options, budget, data, versions, and where their scores part."""
    from .difference import difference, shown
    from .launch.screen import console

    found = difference(a, b)
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        console().print(shown(found))


@app.command()
def export(
    results: Folder,
    out: Annotated[Path, typer.Option(help="The folder that takes the tables.")],
    suite: Suite = "",
    format: Annotated[str, typer.Option(help="csv, parquet or both, with a comma.")] = "csv",
) -> None:
    """Write runs, evaluations, episodes and metrics as tidy tables, and what could not be used."""
    from .export import export as export_tables

    for line in export_tables(results, out, suite, _names(format) or ()):
        print(line)


@app.command()
def render(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    episodes: Annotated[int, typer.Option(min=1, help="How many are shown.")] = 1,
    out: Annotated[Path | None, typer.Option(help="The GIF; default: named after the run.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Start states; default: the run's own.")] = None,
) -> None:
    """Draw a finished run's policy in its environment, from the start states of the switch, as a GIF."""
    from .render import render as draw

    for line in draw(run, episodes, out, seed):
        print(line)


@app.command()
def policy(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    out: Annotated[Path, typer.Option(help="FILE.npz, or a folder.")],
) -> None:
    """Write a finished run's policy as plain arrays and a JSON file that says how to use them."""
    from .judged import write_policy

    for line in write_policy(run, out):
        print(line)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A registered algorithm, yours or one of ours.")],
) -> None:
    """Hold an algorithm against the agent contract: resume, seeds, bounds, no traces."""
    from .contract import check as check_algorithm

    if not check_algorithm(name, print):
        raise typer.Exit(1)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The algorithm's name, for example my_method.")],
    folder: Annotated[
        Path, typer.Option(help="Where to write; a checkout of o2obench or any folder.")
    ] = Path(),
) -> None:
    """Write the scaffold of an algorithm: its file, its options and its test."""
    from .scaffold import scaffold

    for path in scaffold(name, folder):
        print(f"wrote {path}")


def main() -> None:
    """Run the command line; bad input is one line per problem and exit code 2."""
    try:
        app()
    except BadInput as error:
        _fail(error, 2)
    except (Interrupted, KeyboardInterrupt) as error:
        _fail(error if str(error) else "interrupted; the same command goes on from here", 130)
    except RunFailed as error:
        _fail(error, 1)
    except Exception as error:  # noqa: BLE001  (the last resort: one line instead of a traceback)
        _fail(f"{type(error).__name__}: {error} (o2obench --debug shows where)", 1)


def _fail(problem: object, code: int) -> None:
    if "--debug" in sys.argv:
        raise
    print(problem, file=sys.stderr)
    raise SystemExit(code)


def _usable(folder: Path) -> None:
    """Make a folder that can be written to; raise BadInput where that cannot be."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(f"{folder}: cannot be used as a folder: {error.strerror}; name another") from None


def _report(results: Path, out: Path, suite: str, formats: str = "", **asked: Any) -> None:
    from .report import FORMATS, Wish, write_report

    _usable(out)
    wish = Wish(_names(formats) or FORMATS, watch=_watched, **asked)
    for page in write_report(results, out, suite, wish):
        print(f"report: {page}")


def _watched(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Show on a terminal how far a loop is, and take the line away at its end."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


def _names(text: str) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in text.split(",")) if text else None


def _seeds(text: str) -> tuple[int, ...] | None:
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


def _listed(gpus: str | None) -> str | list[str] | None:
    return gpus if gpus in (None, "all") else [part.strip() for part in str(gpus).split(",")]


def _pack(text: str | None) -> str | int | None:
    if text is None or not text.isdigit():
        return text
    return int(text)


def _minutes(time: str | None) -> str | int | None:
    return int(time) if time and time.isdigit() else time


def _pairs(sbatch: list[str] | None) -> dict[str, str | bool] | None:
    """Read ``key=value`` pairs; a name alone is a switch."""
    if sbatch is None:
        return None
    parted = (text.removeprefix("--").partition("=") for text in sbatch)
    return {name: value if sign else True for name, sign, value in parted}


class _Stop:
    """True once the process was asked to end: by a signal, or because its launcher is gone."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def ask(self, *_: object) -> None:
        self.asked = True


def _stop_on_signal(watch_parent: bool = False) -> _Stop:
    stop = _Stop()
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
