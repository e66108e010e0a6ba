"""Running: ``suite | run | work | status | cancel | retry``."""

from __future__ import annotations

import shlex
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Interrupted, LostLock, RunFailed, UserError
from ..launch.flags import LAUNCH, SLURM, LaunchFlags
from ..runs.folder import ResultsFolder
from ..training.options import Options
from ..util.files import usable
from .analyse import write_reports
from .app import app
from .options import (
    COMPUTED,
    AlgorithmName,
    DatasetName,
    Defaults,
    Folder,
    Offline,
    Results,
    Suite,
    names_of,
    seeds_of,
    stop_on_signal,
    suites_to_complete,
    takes,
)

if TYPE_CHECKING:
    from ..planning.plan import Plan


@app.command()
@takes("flags", LaunchFlags)
@takes("options", Options, leave_out=("profile",))
def suite(
    *,
    name: Annotated[
        str,
        typer.Argument(
            help="A suite's name (see `o2obench list`) or a YAML file.", autocompletion=suites_to_complete
        ),
    ],
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("reports"),
    seeds: Annotated[
        str, typer.Option(help="Seeds instead of the suite's: 5, 0,3,4 or 5-9.", rich_help_panel=COMPUTED)
    ] = "",
    datasets: Annotated[
        str, typer.Option(help="Only these data sets, separated by commas.", rich_help_panel=COMPUTED)
    ] = "",
    algorithms: Annotated[
        str, typer.Option(help="Only these algorithms, separated by commas.", rich_help_panel=COMPUTED)
    ] = "",
    data: Annotated[
        str, typer.Option(help="o2o: the collected sets in place of D4RL's.", rich_help_panel=COMPUTED)
    ] = "",
    defaults: Defaults = False,
    launcher: Annotated[
        str,
        typer.Option(
            help="local, slurm, slurm_gpu, or a YAML file: how runs are launched.", rich_help_panel=LAUNCH
        ),
    ] = "local",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Submit, and do not wait.", rich_help_panel=SLURM)
    ] = False,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(
            help="A results folder: its finished runs of this grid are copied.", rich_help_panel=COMPUTED
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, its cost and, for SLURM, the scripts only.")
    ] = False,
    offline: Offline = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Do not write the report.")] = False,
    flags: LaunchFlags,
    options: Options,
) -> None:
    """Run a grid (algorithms x data sets x seeds), resume what is unfinished, write the report."""
    from ..datasets.download import with_data
    from ..launch.launcher import Launch
    from ..launch.profile import read_profile
    from ..maintenance.merge import reuse as take_over
    from ..planning.expand import read_suite
    from ..planning.load import find_suite
    from ..planning.schema import Selection
    from .progress import (
        busy,
        cautions,
        console,
        download_progress,
        dry_run_table,
        launch_progress,
        launch_summary,
    )
    from .tables import answer

    profile = read_profile(launcher, flags.values())
    selection = Selection(seeds_of(seeds), names_of(datasets), names_of(algorithms), data, defaults)
    folder = ResultsFolder(results)

    def read() -> Plan:
        with busy(f"{name}: looking at its options and data"):
            return read_suite(find_suite(name), selection, folder)

    plan = with_data(read, offline or dry_run, download_progress)
    launch = Launch(plan, folder, profile, options)
    if dry_run:
        for path in (results, out):
            if path.exists() and not path.is_dir():
                raise UserError(f"{path}: is not a folder; name another")
        dry_run_table(plan, folder, launch.at_once)
        for script in launch.scripts():
            print(f"\n{script}")
        return
    launch.require()
    for path in (results, out):
        usable(path)
    for line in cautions(plan):
        print(line)
    for other in reuse or ():
        taken = take_over(plan, folder, ResultsFolder(other))
        print("\n".join([*taken.problems, f"{other}: {len(taken.copied)} finished runs taken over"]))
    outcome = launch.go(not no_wait, lambda: launch_progress(plan, folder, launch.at_once))
    if outcome is None:
        return
    print(launch_summary(plan, folder, outcome))
    if outcome.interrupted:
        print("Interrupted; the same command goes on from here.")
        raise typer.Exit(128 + outcome.interrupted)
    if any(run.collects for run in plan.runs):  # whose statistics nobody knew before
        read().write(folder)
    if not no_report:
        write_reports(folder, out, plan.suite)
        for part in answer(out / plan.suite):
            console().print(part)
    if outcome.failed or outcome.blocked or outcome.stopped:
        raise typer.Exit(1)


@app.command()
@takes("options", Options)
def run(
    *,
    algorithm: AlgorithmName,
    dataset: DatasetName,
    seed: Annotated[int, typer.Option(min=0, help="The seed.", rich_help_panel=COMPUTED)] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="key=value; of what it starts from: mopo.key=value.", rich_help_panel=COMPUTED
        ),
    ] = None,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            help="The pretraining, if not the algorithm's own; or a policy's file: .npz, .zip of "
            "Stable-Baselines3, .pt or .d3 of d3rlpy.",
            rich_help_panel=COMPUTED,
        ),
    ] = "",
    updates: Annotated[
        int, typer.Option(min=1, help="Offline gradient updates.", rich_help_panel=COMPUTED)
    ] = 3_000_000,
    steps: Annotated[
        int, typer.Option(min=1, help="Online environment steps.", rich_help_panel=COMPUTED)
    ] = 100_000,
    every: Annotated[
        int, typer.Option(min=1, help="Online steps between evaluations.", rich_help_panel=COMPUTED)
    ] = 1000,
    results: Results = Path("results"),
    defaults: Defaults = False,
    offline: Offline = False,
    options: Options,
) -> None:
    """Compute one run in this process, after the pretraining run it starts from."""
    from ..datasets.download import with_data
    from ..launch.local import visible_gpus
    from ..planning.expand import single
    from ..planning.schema import Selection
    from ..training.foreign import require_commands
    from ..training.runner import execute
    from .progress import busy, console, download_progress, run_progress, where_time_went

    stop, folder = stop_on_signal(), ResultsFolder(results)
    if options.device != "cpu" and not visible_gpus():
        raise UserError(
            f"--device {options.device}: no GPU was found here; leave it out to compute on the CPU"
        )
    budget = (updates, steps, every)
    chosen = Selection(defaults=defaults)

    def read() -> Plan:
        with busy(f"{algorithm} on {dataset}: looking at its options and data"):
            return single(algorithm, dataset, seed, set_ or [], budget, chosen, from_, folder)

    plan = with_data(read, offline, download_progress)
    require_commands(plan.runs, options)
    usable(results)
    plan.copy_policies(folder)
    for planned_run in plan.runs:
        with run_progress(plan, planned_run, folder):
            execute([planned_run], folder, options, stop)
        if options.profile:
            console().print(where_time_went(planned_run, folder))


@app.command(hidden=True)
@takes("options", Options)
def work(
    *, plan_file: Path, run_ids: list[str], results: Results = Path("results"), options: Options
) -> None:
    """Compute runs of a plan; several ids are a seed batch that trains side by side."""
    from ..launch.worker import BUSY, INTERRUPTED
    from ..planning.plan import read_plan
    from ..training.runner import Busy, CheckpointMismatch, execute

    plan, folder = read_plan(plan_file), ResultsFolder(results)
    runs = [plan.run(run_id) for run_id in run_ids]
    stop = stop_on_signal(watch_parent=True)
    try:
        try:
            execute(runs, folder, options, stop)
        except CheckpointMismatch:
            for seed_run in runs:
                execute([seed_run], folder, options, stop)
    except (Busy, LostLock) as error:
        print(error)
        raise typer.Exit(BUSY) from None
    except Interrupted:
        raise typer.Exit(INTERRUPTED) from None
    except (UserError, RunFailed):
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
    from .progress import show_status

    show_status(ResultsFolder(results), suite, watch, as_json)


@app.command()
def cancel(results: Folder = Path("results"), suite: Suite = "") -> None:
    """Let every launcher of this machine save and end; cancel the jobs that were submitted."""
    from ..launch import jobs
    from ..planning.plan import read_plans

    folder = ResultsFolder(results)
    lines = [
        f"{plan.suite}: {line}"
        for plan in read_plans(folder, suite)
        for line in jobs.cancel(folder, plan.suite)
    ]
    print("\n".join(lines) or "nothing to cancel: no launcher is at work, no job was submitted")


@app.command()
def retry(
    results: Folder = Path("results"),
    suite: Suite = "",
    failed: Annotated[bool, typer.Option("--failed", help="Runs that failed.")] = False,
    diverged: Annotated[bool, typer.Option("--diverged", help="Runs whose numbers were not finite.")] = False,
) -> None:
    """Forget that runs failed, so that the next launch goes on with them from their checkpoints."""
    from ..planning.plan import read_plans

    states = {"failed"} if failed else set[str]()
    states |= {"diverged"} if diverged else set()
    if not states:
        raise UserError("retry: name what to try again: --failed, --diverged or both")
    folder = ResultsFolder(results)
    place = "" if results == Path("results") else f" --results {shlex.quote(str(results))}"
    for plan in read_plans(folder, suite):
        chosen = [run_folder for run in plan.runs if (run_folder := folder.run(run.id)).state() in states]
        again = [run_folder for run_folder in chosen if run_folder.forget_failure()]
        for run_folder in chosen:
            if run_folder not in again:
                print(f"{plan.suite}: left: {run_folder.failure()}")
        start = f"; start them with: {plan.command}{place}" if again else ""
        print(f"{plan.suite}: {len(again)} runs to try again{start}")
