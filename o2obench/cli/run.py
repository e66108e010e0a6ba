"""Running: ``suite | run | work | status | cancel | retry``."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BadInput, Interrupted, LostLease, RunFailed
from .analyse import write_reports
from .app import app
from .options import (
    Checkpoints,
    Defaults,
    Device,
    Drift,
    Eager,
    Evaluation,
    Folder,
    Gpus,
    Pack,
    Results,
    Sbatch,
    Suite,
    Tf32,
    Threads,
    listed,
    minutes,
    names_of,
    pack_of,
    pairs_of,
    seeds_of,
    stop_on_signal,
    usable,
)


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
    gpus: Gpus = None,
    per_gpu: Annotated[int | None, typer.Option(min=1, help="Processes that share a GPU.")] = None,
    pack: Pack = None,
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
    from .. import launch
    from ..launch.profile import read_profile
    from ..planning.expand import Narrow, find_suite, read_suite
    from ..training.options import Options
    from .progress import cautions, dry_run_table, summary

    flags = {
        **{"jobs": jobs, "gpus": listed(gpus), "per_gpu": per_gpu, "pack": pack_of(pack)},
        **{"stall_minutes": stall_minutes, "partition": partition, "account": account},
        **{"constraint": constraint, "gpus_per_task": gpus_per_task, "time": minutes(time)},
        **{"memory_gb": memory_gb, "parallel": parallel, "sbatch": pairs_of(sbatch)},
    }
    profile = read_profile(launcher, flags)
    options = Options(device, threads, checkpoint_seconds, allow_drift, eager, tf32, evaluation)
    narrow = Narrow(seeds_of(seeds), names_of(datasets), names_of(algorithms), data, defaults)
    plan = read_suite(find_suite(name), narrow)
    way = launch.Launch(plan, results, profile, options)
    if dry_run:
        dry_run_table(plan, results, way.at_once)
        for script in way.scripts():
            print(f"\n{script}")
        return
    way.require()
    for folder in (results, out):
        usable(folder)
    for line in cautions(plan):
        print(line)
    outcome = way.go(wait=not no_wait)
    if outcome is None:
        return
    print(summary(plan, results, outcome))
    if outcome.interrupted:
        print("Interrupted; the same command goes on from here.")
        raise typer.Exit(128 + outcome.interrupted)
    if not no_report:
        write_reports(results, out, plan.suite)
    if outcome.failed or outcome.blocked or outcome.stopped:
        raise typer.Exit(1)


@app.command()
def run(
    algorithm: Annotated[str, typer.Argument(help="An algorithm's name.")],
    dataset: Annotated[str, typer.Argument(help="A data set's name.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="key=value; of what it starts from: mopo.key=value.")
    ] = None,
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
    from ..launch.local import visible_gpus
    from ..planning.expand import Narrow, single
    from ..training.options import Options
    from ..training.runner import execute
    from .progress import console, single_run, where_time_went

    stop = stop_on_signal()
    how = Options(device, threads, checkpoint_seconds, allow_drift, eager, tf32, evaluation, profile, stop)
    if device != "cpu" and not visible_gpus():
        raise BadInput(f"--device {device}: no GPU was found here; leave it out to compute on the CPU")
    plan = single(algorithm, dataset, seed, options or [], (epochs, steps, every), Narrow(defaults=defaults))
    usable(results)
    for one in plan.runs:
        with single_run(plan, one, results):
            execute([one], results, how)
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
    from ..launch.worker import BUSY, INTERRUPTED
    from ..planning.plan import read_plan
    from ..training.options import Options
    from ..training.runner import Busy, Uneven, execute

    plan = read_plan(plan_file)
    runs = [plan.run(run_id) for run_id in run_ids]
    stop = stop_on_signal(watch_parent=True)
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
    from .progress import show_status

    show_status(results, suite, watch, as_json)


@app.command()
def cancel(results: Folder = Path("results"), suite: Suite = "") -> None:
    """Let every launcher of this machine save and end; cancel the jobs that were submitted."""
    from ..analysis.results import plans
    from ..launch import jobs

    said = [
        f"{plan.suite}: {line}" for plan in plans(results, suite) for line in jobs.cancel(results, plan.suite)
    ]
    print("\n".join(said) or "nothing to cancel: no launcher is at work, no job was submitted")


@app.command()
def retry(
    results: Folder = Path("results"),
    suite: Suite = "",
    failed: Annotated[bool, typer.Option("--failed", help="Runs that failed.")] = False,
    diverged: Annotated[bool, typer.Option("--diverged", help="Runs whose numbers were not finite.")] = False,
) -> None:
    """Forget that runs failed, so that the next launch goes on with them from their checkpoints."""
    from ..analysis.results import plans
    from ..runs.folder import RunFolder

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
