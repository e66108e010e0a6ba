"""How suites are launched: profiles, the pool's slots and seed batches, arrays, jobs, status."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from filelock import SoftFileLease
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from o2obench.cli.tables import at_about, runs_table, suites_table
from o2obench.errors import Interrupted, RunFailed, UserError
from o2obench.launch import jobs as job_registry
from o2obench.launch import local, queue
from o2obench.launch.flags import LaunchFlags
from o2obench.launch.local import Pool, WorkerSettings
from o2obench.launch.profile import Slurm, minutes, names, read_profile
from o2obench.launch.slurm import Cluster, arrays
from o2obench.launch.status import RunStatus, clock, status, summarise
from o2obench.planning.plan import Plan
from o2obench.runs.folder import ResultsFolder
from o2obench.training.options import Options
from o2obench.training.runner import execute
from tests.conftest import Command, environment
from tests.helpers import fake_slurm
from tests.helpers.suites import compute, toy_plan

# ---- profiles ---------------------------------------------------------------------------------------------


def test_every_profile_of_the_package_can_be_read() -> None:
    assert {"local", "slurm", "slurm_gpu"} <= set(names())
    for name in names():
        assert read_profile(name, {}).launcher in ("local", "slurm")


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("launcher: slurm\npartition: long\ntime: 2-00:00:00\nsbatch: {qos: high}\n")
    profile = read_profile(str(file), LaunchFlags(partition="short", account="me", time=None).values())
    assert isinstance(profile, Slurm)
    assert (profile.partition, profile.account, profile.sbatch) == ("short", "me", {"qos": "high"})
    assert minutes(profile.time) == 2 * 24 * 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "launcher: slurm\npartitoin: long\n",
            "site.yaml:2:1: partitoin: unknown key; did you mean partition?",
        ),
        ("launcher: slurm\ntime: tomorrow\n", "site.yaml:2:1: time: expected minutes, H:MM:SS or D-HH:MM:SS"),
        ("launcher: cloud\n", "site.yaml:1:1: launcher: has to be local or slurm"),
        ("partition: long\n", "site.yaml:1:1: launcher: has to be local or slurm"),
        ("launcher: slurm\npartition: 'a; rm -rf /'\n", "site.yaml:2:1: partition: "),
        ('launcher: slurm\nsbatch: {"x\\n#SBATCH --uid=0": 1}\n', "site.yaml:2:10: sbatch."),
        ("launcher: slurm\nsignal_seconds: 3\n", "site.yaml:2:1: signal_seconds: "),
        ("launcher: local\nseed_batch: 0\n", "site.yaml:2:1: seed_batch"),
    ],
)
def test_a_profile_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        read_profile(str(file), {})
    assert said in str(refused.value)


def test_flags_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="--partition: means nothing to the launcher local"):
        read_profile("local", {"partition": "long"})
    with pytest.raises(UserError, match="--launcher slurn: not known; did you mean slurm"):
        read_profile("slurn", {})
    with pytest.raises(UserError, match="--time: time: at least one minute"):
        read_profile("slurm", {"time": "0:00:30"})


@pytest.mark.parametrize(
    ("time", "expected"), [(90, 90), ("1:30:00", 90), ("1-00:00:01", 1441), ("0:01:00", 1), ("00:59:30", 60)]
)
def test_time_limits_are_whole_minutes(time: str | int, expected: int) -> None:
    assert minutes(time) == expected


# ---- the pool ---------------------------------------------------------------------------------------------


def make_pool(plan: Plan, results: Path, workers: WorkerSettings) -> Pool:
    return Pool(plan, plan.write(ResultsFolder(results)), ResultsFolder(results), workers, Options())


def test_device_slots_of_gpus_are_dealt_out_in_turn() -> None:
    slots = WorkerSettings(jobs=4, gpus=("0", "3"), per_gpu=2).device_slots()
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "3", "0", "3"]
    assert WorkerSettings(jobs=3).device_slots() == [{}, {}, {}]


def test_visible_gpus_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-7f")
    assert local.visible_gpus() == ("2", "GPU-7f")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.visible_gpus() == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 0\necho 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert local.visible_gpus() == ("0", "1")


@pytest.mark.parametrize(
    ("workers", "sizes"),
    [
        (WorkerSettings(2), [1, 1, 1, 1, 1]),
        (WorkerSettings(2, seed_batch=2), [2, 2, 1]),
        (WorkerSettings(2, gpus=("0",)), [5]),
        (WorkerSettings(2, gpus=("0",), seed_batch=1), [1, 1, 1, 1, 1]),
    ],
)
def test_seed_batches_hold_seeds_of_one_computation(
    tmp_path: Path, workers: WorkerSettings, sizes: list[int]
) -> None:
    plan = toy_plan("toy_offline", {"toy_offline": {"rate": 0.5, "label": "fast"}}, seeds=5)
    seed_batches = list(make_pool(plan, tmp_path, workers)._seed_batches(plan.runs))
    assert [len(runs) for runs in seed_batches] == sizes * 2
    assert all(len({run.group for run in runs}) == 1 for runs in seed_batches)


@pytest.mark.slow
def test_whole_seeds_are_done_first(tmp_path: Path) -> None:
    plan = toy_plan("toy_offline", "toy_tune", seeds=[2, 0, 1])
    pool = Pool(plan, tmp_path / "plan.json", ResultsFolder(tmp_path), WorkerSettings(1), Options())
    order = [(run.seed, run.algorithm) for [run] in pool._seed_batches(pool.waiting)]
    assert order == [(seed, name) for seed in (0, 1, 2) for name in ("toy_offline", "toy_tune")]


def test_a_seed_batch_of_a_launch_writes_what_single_runs_write(tmp_path: Path) -> None:
    plan = toy_plan(seeds=3, steps=60)
    for folder, workers in (("alone", WorkerSettings(2)), ("together", WorkerSettings(2, seed_batch=3))):
        outcome = make_pool(plan, tmp_path / folder, workers).launch()
        assert sorted(outcome.finished) == sorted(run.id for run in plan.runs)
    for run in plan.runs:
        alone, together = (
            ResultsFolder(tmp_path / name).run(run.id).evaluations for name in ("alone", "together")
        )
        assert alone.read_bytes() == together.read_bytes()


def test_a_worker_stopped_from_outside_is_not_started_again(tmp_path: Path) -> None:
    plan = toy_plan(
        "toy_offline", "toy_tune", seeds=1, offline={"updates": 200_000, "evaluate_every": 200_000}
    )
    at_work = make_pool(plan, tmp_path, WorkerSettings(1))

    def stop_it() -> None:
        for worker in at_work.workers:
            if worker.folders[0].progress.exists():
                worker.ask()

    outcome = at_work.launch(stop_it)
    assert outcome.stopped == [plan.runs[0].id]
    assert outcome.blocked == [plan.runs[1].id]
    assert not outcome.interrupted
    assert ResultsFolder(tmp_path).run(plan.runs[0].id).state() == "interrupted"


@pytest.mark.slow
def test_a_run_that_failed_with_another_launcher_is_not_tried_again(tmp_path: Path) -> None:
    plan = toy_plan("toy_breaks", seeds=1, steps=60)
    one, two = (make_pool(plan, tmp_path, WorkerSettings(1)) for _ in range(2))
    broken = plan.runs[-1].id
    assert one.launch().failed == [broken]
    size = ResultsFolder(tmp_path).run(broken).log.stat().st_size
    assert two.launch().failed == [broken]
    assert ResultsFolder(tmp_path).run(broken).log.stat().st_size == size, "nobody started it again"
    assert make_pool(plan, tmp_path, WorkerSettings(1)).launch().failed == [broken]
    assert ResultsFolder(tmp_path).run(broken).log.stat().st_size > size, "a later launch does"


# ---- arrays for a cluster ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seeds=st.integers(1, 6),
    children=st.integers(0, 3),
    most=st.integers(1, 5),
    per_task=st.integers(1, 3),
    seed_batch=st.booleans(),
    data=st.data(),
)
def test_arrays_hold_every_run_once_and_wait_for_parents(
    tmp_path_factory: pytest.TempPathFactory,
    seeds: int,
    children: int,
    most: int,
    per_task: int,
    seed_batch: bool,
    data: st.DataObject,
) -> None:
    results = tmp_path_factory.getbasetemp() / "nothing here"
    online = [{"toy_tune": {"inner": 10 + k, "label": f"tune {k}"}} for k in range(children)]
    plan = toy_plan("toy_offline", *online, seeds=seeds)
    queued = {run.id: f"7_{i}" for i, run in enumerate(plan.runs) if data.draw(st.booleans())}
    profile = Slurm(launcher="slurm", runs_per_task=per_task)
    found = arrays(plan, ResultsFolder(results), profile, queued, seed_batch, most)
    submitted = Counter(run for array in found for task in array.tasks for run in task)
    assert submitted == Counter(run.id for run in plan.runs if run.id not in queued)
    before: set[str] = set()
    for array in found:
        assert 1 <= len(array.tasks) <= most
        for i, task in enumerate(array.tasks):
            for run in map(plan.run, task):
                if run.parent in queued:
                    assert array.after_job == queued[run.parent]
                elif run.parent:
                    assert array.after is not None
                    assert run.parent in array.after.tasks[i], "task i waits for task i"
                    assert run.parent in before
        before |= {run for task in array.tasks for run in task}


def cluster_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **limits: int) -> tuple[Cluster, Path]:
    state = fake_slurm.install(tmp_path / "bin", **limits)
    monkeypatch.setenv("PATH", f"{state.parent}:{os.environ['PATH']}")
    plan, results = toy_plan(seeds=5), tmp_path / "results"
    profile = Slurm(launcher="slurm", folder=str(tmp_path / "submitit"), partition="long")
    return Cluster(
        plan, plan.write(ResultsFolder(results)), ResultsFolder(results), profile, Options()
    ), state


def jobs(state: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(state.read_text())["jobs"]
    return found


def test_a_grid_is_split_to_the_limits_of_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, state = cluster_of(tmp_path, monkeypatch, max_array=2)
    assert cluster.submit() == 10
    assert [job["size"] for job in jobs(state)] == [2, 2, 2, 2, 0, 0], "parents and children in turn"
    assert cluster.submit() == 0, "all of them are in the queue"


def test_a_refused_half_is_submitted_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, state = cluster_of(tmp_path, monkeypatch, max_array=2, refuse_from=3)
    with pytest.raises(Exception, match=r"Job violates accounting/QOS policy; 6 of 10 tasks") as refused:
        cluster.submit()
    assert "same command again" in str(refused.value)
    known = json.loads(state.read_text())
    state.write_text(json.dumps({**known, "refuse_from": -1}))
    assert cluster.submit() == 4
    noted = job_registry.submitted(cluster.results, "toy")
    assert Counter(run for runs in noted.values() for run in runs) == Counter(r.id for r in cluster.plan.runs)


def test_the_dry_run_prints_what_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, state = cluster_of(tmp_path, monkeypatch)
    shown = list(cluster.scripts())
    assert not jobs(state)
    cluster.submit()
    [folder] = (tmp_path / "submitit").iterdir()
    submitted = [str(job["script"]).replace(folder.name, "LAUNCH") for job in jobs(state)]
    assert [text.replace("JOB1", "1") for text in shown] == submitted
    assert "--dependency=aftercorr:1" in submitted[1]


@pytest.mark.slow
def test_cancelled_jobs_are_submitted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, state = cluster_of(tmp_path, monkeypatch)
    cluster.submit()
    said = job_registry.cancel(cluster.results, "toy")
    assert said == ["SLURM jobs 1, 2: cancelled"]
    assert cluster.submit() == 10
    assert len(jobs(state)) == 4


def test_pickles_stay_outside_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, _ = cluster_of(tmp_path, monkeypatch)
    inside = Slurm(launcher="slurm", folder=str(cluster.results.path / "jobs"))
    with pytest.raises(UserError, match="lies among the results"):
        Cluster(cluster.plan, cluster.plan_file, cluster.results, inside, Options()).submit()
    cluster.submit()
    assert (tmp_path / "submitit").stat().st_mode & 0o777 == 0o700
    assert not list(cluster.results.path.rglob("*.pkl"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"sbatch": {"job-name": "mine"}}, "job-name is written by the launcher; leave it out"),
        ({"sbatch": {"cpus_per_task": "4"}}, "use the key cpus_per_task"),
        ({"sbatch": {"mem": "4G", "mem_per_cpu": "1G"}}, "memory_gb and sbatch.mem.* contradict each other"),
        ({"sbatch": {"qos": "high"}, "qos": "low"}, "contradict each other"),
        ({"sbatch": {"requeue": True}}, "leave it out"),
        ({"sbatch": {"mem-per-cpu": "2G"}, "memory_gb": 4.0}, "contradict each other"),
    ],
)
def test_options_that_the_launcher_writes_are_not_overwritten(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_profile("slurm", flags)
    assert Slurm(launcher="slurm", sbatch={"mem-per-cpu": "2G", "exclusive": True, "qos": "high"})


def test_a_silent_scheduler_is_told_and_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr(subprocess, "run", silent)
    assert queue.still(["12_0"], queue.queue()) == ["12_0"]
    assert "squeue does not answer" in capsys.readouterr().err


def change(state: Path, **values: Any) -> None:
    state.write_text(json.dumps({**json.loads(state.read_text()), **values}))


def test_jobs_that_slurm_holds_are_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, state = cluster_of(tmp_path, monkeypatch)
    cluster.submit()
    change(state, reason="JobHeldUser")
    polls = iter(range(100))

    def show() -> None:
        if next(polls) == 4:
            change(state, gone=[f"{job}_{i}" for job in (1, 2) for i in range(10)])

    hurried = cluster.profile.model_copy(update={"poll_seconds": 0.01})
    fast = replace(cluster, profile=hurried)
    fast.watch(show)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "SLURM holds 10 array tasks (JobHeldUser): `scontrol release 1 2` lets them go on; "
        "`scancel 1 2` ends them"
    ]
    assert "mend it" in queue.told("PartitionDown", ["3"])


def test_an_answer_of_sbatch_that_names_no_job_submits_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, state = cluster_of(tmp_path, monkeypatch)
    change(state, answer="Welcome to the cluster!")
    with pytest.raises(RunFailed, match=r"Welcome to the cluster!.*names no job.*squeue --me"):
        cluster.submit()
    change(state, answer="")
    with pytest.raises(UserError, match=r"are in SLURM's queue and not noted here.*`scancel 1`"):
        cluster.submit()
    assert len(jobs(state)) == 1
    change(state, gone=[f"1_{i}" for i in range(10)])
    cluster.submit()


def test_another_results_folder_with_the_same_suite_is_not_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, state = cluster_of(tmp_path, monkeypatch)
    cluster.submit()
    other = ResultsFolder(tmp_path / "other")
    before = len(jobs(state))
    replace(cluster, results=other, plan_file=cluster.plan.write(other)).submit()
    assert len(jobs(state)) == 2 * before


def test_programs_that_hang_are_named_while_one_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(queue, "SLOW", 0.05)
    monkeypatch.setattr(queue, "AGAIN", 0.1)
    with queue.aloud("sbatch"):
        time.sleep(0.3)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "sbatch has not answered for 0 s; waiting"
    assert len(said) >= 2
    with queue.aloud("squeue"):
        pass
    assert not capsys.readouterr().err


@pytest.mark.slow
def test_a_submission_of_another_machine_is_named_while_one_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, _ = cluster_of(tmp_path, monkeypatch)
    monkeypatch.setattr(queue, "SLOW", 0.05)
    cluster.results.jobs.mkdir(parents=True)
    other = SoftFileLease(cluster.results.jobs / "toy.lock", lease_duration=60, thread_local=False)
    other.acquire()
    threading.Timer(1.0, other.release).start()
    cluster.submit()
    said = capsys.readouterr().err
    assert f"another launcher, which submits this suite (process {os.getpid()} on" in said


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "submitit").mkdir(mode=0o755)
    cluster, _ = cluster_of(tmp_path, monkeypatch)
    cluster.submit()
    assert (tmp_path / "submitit").stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "submitit").iterdir()} == {0o700}


def test_a_folder_where_others_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "submitit").mkdir()
    (tmp_path / "submitit").chmod(0o777)
    cluster, _ = cluster_of(tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"others can write to it.*chmod go-w"):
        cluster.submit()
    assert not list((tmp_path / "submitit").iterdir())


def test_a_watched_grid_ends_when_nobody_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, state = cluster_of(tmp_path, monkeypatch)
    cluster.submit()
    execute([cluster.plan.runs[0]], cluster.results, Options())
    known = json.loads(state.read_text())
    state.write_text(json.dumps({**known, "gone": [f"{job}_{i}" for job in (1, 2) for i in range(5)]}))
    impatient = Slurm(launcher="slurm", folder=str(tmp_path / "submitit"), poll_seconds=0.1)
    outcome = Cluster(cluster.plan, cluster.plan_file, cluster.results, impatient, Options()).watch(
        lambda: None
    )
    assert outcome.skipped == [cluster.plan.runs[0].id]
    assert len(outcome.stopped) == 5, "four pretraining runs and the child of the one that is done"
    assert len(outcome.blocked) == 4


def test_gpus_and_device_must_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, _ = cluster_of(tmp_path, monkeypatch)
    asked = Slurm(launcher="slurm", gpus_per_task=1)
    with pytest.raises(UserError, match="contradict each other"):
        list(Cluster(cluster.plan, cluster.plan_file, cluster.results, asked, Options()).scripts())


# ---- jobs, status, retry --------------------------------------------------------------------------------


@pytest.mark.slow
def test_cancel_lets_a_launcher_save_and_end(tmp_path: Path, o2obench: Command) -> None:
    suite = tmp_path / "long.yaml"
    suite.write_text(
        "algorithms: [toy_offline]\ndatasets: [pointmass-mixed-v0]\nseeds: 2\n"
        "offline: {updates: 500000, evaluate_every: 500000}\n"
    )
    command = [sys.executable, "-m", "o2obench", "suite", str(suite), "--jobs", "1"]
    launcher = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("progress.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    said = o2obench("cancel", "results")
    assert f"launcher {launcher.pid}: asked to save and end" in said.stdout
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 143, out
    assert not list((tmp_path / "results" / "jobs").iterdir())
    assert "nothing to cancel" in o2obench("cancel", "results").stdout


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    with job_registry.announced(ResultsFolder(tmp_path), "toy"):
        [note] = (tmp_path / "jobs").iterdir()
        known = json.loads(note.read_text())
        note.write_text(json.dumps({**known, "began": "1"}))
        assert job_registry.cancel(ResultsFolder(tmp_path), "toy") == [
            f"launcher {os.getpid()}: is gone already"
        ]


@pytest.mark.slow
def test_status_tells_the_last_error_and_its_log(tmp_path: Path, o2obench: Command) -> None:
    plan = toy_plan("toy_tune", "toy_breaks", seeds=1, steps=60)
    make_pool(plan, tmp_path, WorkerSettings(2)).launch()
    told = summarise(plan, status(plan, ResultsFolder(tmp_path)), ResultsFolder(tmp_path))
    assert told.counts["done"] == 2
    assert told.counts["failed"] == 1
    assert told.error.endswith("RuntimeError: broken on purpose")
    assert Path(told.log).is_file()
    shown = o2obench("status", tmp_path).stdout
    assert "broken on purpose" in shown
    assert told.log in shown.replace("\n", "")
    [as_json] = json.loads(o2obench("status", tmp_path, "--json").stdout)
    assert as_json["counts"] == dict(told.counts)
    assert len(as_json["runs"]) == 3


def test_status_knows_a_run_without_a_speed_from_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stands = summarise(toy_plan(seeds=1), [], ResultsFolder(tmp_path))
    counts = {**stands.counts, "running": 1}
    begun = replace(stands, suite="begun", share=0.0, seconds_left=None, counts=counts)
    idle = replace(begun, suite="idle", counts=stands.counts)
    Console(width=120).print(suites_table([begun, idle]))
    told = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "%" in line}
    assert "no speed yet" in told["begun"]
    assert "nothing runs" in told["idle"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (720, "12 min"), (7500, "2 h 05 min"), (71.5 * 3600, "71 h 30 min"), (1e8, "1,157 days")],
)
def test_a_time_is_told_in_the_unit_that_one_thinks_in(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_of_very_many_suites_the_most_telling_are_listed() -> None:
    waits = summarise(toy_plan(seeds=1), [], ResultsFolder(Path("results")))
    states = ["waiting"] * 500 + ["failed", "running"] + ["done"] * 500
    suites = [
        replace(waits, suite=f"{state}-{i}", counts={**waits.counts, state: 1})
        for i, state in enumerate(states)
    ]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(suites_table(suites, limit=4))
    told = console.export_text()
    assert [line.split()[1] for line in told.splitlines() if "%" in line] == [
        *("failed-500", "running-501", "waiting-0", "waiting-1")
    ]
    assert "and 998 more suites; --suite NAME shows one, --json all" in told
    console.print(suites_table(suites[:4], limit=4))
    assert "more suites" not in console.export_text()


def stop_after(beats: int) -> Callable[[], bool]:
    """Return what asks a run to stop at its so-many-eth heartbeat."""
    counted = itertools.count(1)
    return lambda: next(counted) >= beats


def test_an_interrupted_run_stands_where_it_will_go_on(tmp_path: Path) -> None:
    plan, results = toy_plan("toy_offline", seeds=1), ResultsFolder(tmp_path)
    with pytest.raises(Interrupted):
        execute(plan.runs, results, Options(), stop_after(92))
    [stands] = status(plan, results)
    assert (stands.state, stands.doing, stands.done) == ("interrupted", "imitate 910/1,000 updates", 910.0)
    whole = summarise(plan, [stands], results)
    assert whole.share == 0.91
    assert whole.seconds_left is None, "nothing runs"


def test_a_killed_run_stands_at_its_checkpoint_not_where_it_died(tmp_path: Path) -> None:
    plan, results = toy_plan("toy_tune", seeds=1), ResultsFolder(tmp_path)
    compute(replace(plan, runs=plan.runs[:1]), tmp_path)
    with pytest.raises(Interrupted):
        execute(plan.runs[1:], results, Options(), stop_after(50))
    folder = results.run(plan.runs[1].id)
    saved = status(plan, results)[1].done
    assert 0 < saved < status(plan, results)[1].planned
    folder.progress.write_text(json.dumps({"stage": "fine-tune", "env_steps": 119, "updates": 140}))
    assert status(plan, results)[1].done == saved
    newest = max((folder.checkpoint).iterdir())
    (newest.with_name("00009999-killed")).mkdir()  # before its manifest was written
    assert status(plan, results)[1].done == saved


def test_status_says_when_a_suite_and_its_runs_will_be_done() -> None:
    plan, now = toy_plan(seeds=1), datetime(2026, 3, 2, 23, 0)
    assert at_about(1800, now) == "23:30"
    assert at_about(7200, now) == "Tue 01:00"
    assert at_about(40 * 86400, now) == "11 Apr"
    run = RunStatus("r", "toy", "d", 0, "running", "look 1/9 updates", 100.0, 400.0, 2.0, None, "", "")
    assert run.seconds_left == 150.0
    assert replace(run, rate=0.0).seconds_left is None
    assert replace(run, state="interrupted").seconds_left is None
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(runs_table(plan, [run]))
    console.print(runs_table(plan, [replace(run, state="interrupted")]))
    running, _, idle = console.export_text().partition("1 interrupted")
    assert "2 min" in running
    assert "left" not in idle, "nothing that runs, no column for its time"


@pytest.mark.slow
def test_retry_forgets_failures_only(tmp_path: Path, o2obench: Command) -> None:
    plan = toy_plan("toy_tune", "toy_breaks", seeds=1, steps=60)
    make_pool(plan, tmp_path, WorkerSettings(2)).launch()
    [broken] = [ResultsFolder(tmp_path).run(run.id) for run in plan.runs if run.algorithm == "toy_breaks"]
    assert o2obench("retry", tmp_path).returncode == 2
    assert o2obench("retry", tmp_path, "--diverged").stdout.endswith("0 runs to try again\n")
    assert broken.state() == "failed"
    again = o2obench("retry", tmp_path, "--failed").stdout
    assert "1 runs to try again; start them with: o2obench suite" in again
    assert f" --results {tmp_path}" in again, "where these runs are, not where suites go by default"
    assert broken.state() == "interrupted"


@pytest.mark.slow
def test_a_dead_owner_makes_a_run_stale(tmp_path: Path) -> None:
    plan = toy_plan("toy_offline", seeds=1)
    folder = ResultsFolder(tmp_path).run(plan.runs[0].id)
    folder.path.mkdir(parents=True)
    code = (
        "import os\nfrom o2obench.runs.folder import ResultsFolder\n"
        "from o2obench.runs.lock import lock_on\n"
        f"lease = lock_on(ResultsFolder({str(tmp_path)!r}).run({plan.runs[0].id!r}))\n"
        "lease.acquire()\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)
    assert folder.state() == "stale"
    outcome = make_pool(plan, tmp_path, WorkerSettings(1)).launch()
    assert outcome.finished == [plan.runs[0].id]


@pytest.mark.slow
def test_a_lock_without_an_owner_does_not_block_a_run(tmp_path: Path) -> None:
    plan = toy_plan("toy_offline", seeds=1)
    folder = ResultsFolder(tmp_path).run(plan.runs[0].id)
    folder.path.mkdir(parents=True)
    folder.lock.touch()  # its writer was killed between creating and writing it
    assert make_pool(plan, tmp_path, WorkerSettings(1)).launch().finished == [plan.runs[0].id]


@pytest.mark.slow
def test_a_publish_lock_of_a_dead_machine_does_not_block_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("O2OBENCH_LOCK_SECONDS", "1")
    plan = toy_plan("toy_offline", seeds=1)
    folder = ResultsFolder(tmp_path).run(plan.runs[0].id)
    folder.path.mkdir(parents=True)
    folder.publish_lock.write_text("4711\nelsewhere\n")
    monkeypatch.setattr("o2obench.runs.lock.LOCK_SECONDS", 1.0)
    assert make_pool(plan, tmp_path, WorkerSettings(1)).launch().finished == [plan.runs[0].id]


def test_a_damaged_plan_does_not_hide_the_others(tmp_path: Path, o2obench: Command) -> None:
    toy_plan(seeds=1).write(ResultsFolder(tmp_path))
    (tmp_path / "plans" / "torn.json").write_text('{"suite": ')
    shown = o2obench("status", tmp_path)
    assert shown.returncode == 0
    assert "torn.json: not a plan" in shown.stderr
    assert "toy" in shown.stdout
    assert o2obench("status", tmp_path, "--suite", "torn").returncode == 2
