"""SLURM through submitit: arrays of tasks, each a small local pool; run folders stay the only truth.

submitit submits, and queues an task again when its time ends or it is preempted. What it pickles (the
arguments of ``ArrayTask``) lies in a folder of the owner's, never among results, and is read by the job
alone. A job's state, as the scheduler tells it, is used only to see whether somebody is still at work.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import shlex
import shutil
import socket
import stat
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import SoftFileLease, Timeout

from ..envs.own import own_arguments, take_own_of
from ..errors import RunFailed, UserError
from ..planning.plan import Plan, read_plan
from ..runs.folder import ResultsFolder
from ..runs.owner import LOCK_SECONDS, owner_of
from ..runs.spec import Run, folder_name
from ..training.options import Options
from ..util.files import expanded, make_below, shown
from ..util.interpreter import PYTHON
from . import jobs as job_registry
from .local import Outcome, Pool, WorkerSettings, visible_gpus
from .profile import Slurm, minutes
from .queue import Job, aloud, held, queue, site_limit, still, told

Runs = tuple[str, ...]
LATENCY = 60.0
"""Seconds after which a file written on one node is seen by all; NFS's default cache time."""
END = 600.0
"""Seconds that an task, told to end, waits for its end."""


class ArrayTask:
    """What one task of an array does: the runs of its list, with a pool of its own.

    On the scheduler's signal the pool saves and ends, and submitit queues the task again. A mere SIGTERM
    (scancel, or a preemption without a signal before it) saves too, and leaves the rest to the scheduler.
    """

    def __init__(
        self,
        plan_file: str,
        results: str,
        runs: Runs,
        settings: WorkerSettings,
        options: dict[str, Any],
        patience: float,
    ) -> None:
        self.plan_file, self.results, self.runs = plan_file, results, runs
        self.settings, self.options, self.patience = settings, options, patience
        self.pool: Pool | None = None
        self.own = own_arguments()

    def __call__(self) -> None:
        """Compute the runs; raise RunFailed where one could not be finished."""
        take_own_of(self.own)
        file = Path(self.plan_file)
        if not _appears(file):
            raise RunFailed(
                f"{file} cannot be seen on {socket.gethostname()}: results have to lie on a file system that "
                "all nodes share"
            )
        plan, results = read_plan(file), ResultsFolder(self.results)
        parents = {needed for run in map(plan.run, self.runs) for needed in plan.needs(run)}
        for parent in sorted(parents - set(self.runs)):
            _appears(results.run(parent).done)
        settings = self.settings
        if self.options["device"] != "cpu":
            settings = replace(settings, gpus=visible_gpus())
        self.pool = Pool(plan, file, results, settings, Options(**self.options), self.runs)
        outcome = self.pool.launch()
        if outcome.interrupted:
            time.sleep(END)
        wrong = [*outcome.failed, *outcome.blocked, *outcome.stopped]
        if wrong or outcome.interrupted:
            raise RunFailed(f"not finished: {', '.join(wrong) or 'interrupted'}; see the log.txt of each run")

    def checkpoint(self) -> Any:
        """Save all that is at work and return what shall be queued again; called by submitit."""
        import submitit

        if self.pool:
            self.pool.stop(self.patience)
            self.pool = None
        return submitit.helpers.DelayedSubmission(self)


def _appears(file: Path) -> bool:
    """Wait until a file that was told to exist is seen here."""
    deadline = time.monotonic() + LATENCY
    while not file.exists():
        if time.monotonic() > deadline:
            return False
        with contextlib.suppress(OSError):
            os.listdir(file.parent)  # makes NFS look again
        time.sleep(1.0)
    return True


@dataclass(frozen=True)
class Array:
    """Array tasks that are submitted together; ``after``: task i starts when i of that array has succeeded.

    ``after_job`` names a job that was submitted earlier instead.
    """

    tasks: tuple[Runs, ...]
    after: Array | None = None
    after_job: str = ""


def arrays(
    plan: Plan, results: ResultsFolder, profile: Slurm, queued: Mapping[str, str], in_batches: bool, most: int
) -> list[Array]:
    """Return what has to be submitted so that every run gets done, parents first.

    ``queued`` says which runs are in the queue already, and as what job. A collection of data is a job of its
    own, after which the runs on these data start.
    """
    todo = [run for run in plan.runs if _is_open(results, run) and run.id not in queued]
    to_submit, on_new_data = list[Array](), dict[str, Array]()
    for run in (run for run in todo if run.collects):
        before = next(iter(plan.needs(run)), "")
        array = Array(((run.id,),), on_new_data.get(before), queued.get(before, ""))
        on_new_data[run.id] = array
        to_submit.append(array)
    collected = {run.id: [n for n in plan.needs(run) if plan.run(n).collects] for run in todo}
    waiting: dict[str, list[Run]] = defaultdict(list)
    for run in (run for run in todo if not run.collects):
        waiting[next((n for n in collected[run.id] if n in on_new_data or n in queued), "")].append(run)
    for collection, runs in waiting.items():
        first = (on_new_data.get(collection), queued.get(collection, ""))
        to_submit += _arrays(runs, profile, queued, in_batches, most, first)
    return to_submit


def _arrays(
    todo: Sequence[Run],
    profile: Slurm,
    queued: Mapping[str, str],
    in_batches: bool,
    most: int,
    first: tuple[Array | None, str],
) -> list[Array]:
    """Return the arrays of runs that wait for ``first`` and for those that they start from.

    The runs that start from those of an array form arrays of their own, the first child of each task, the
    second and so on, so that the indices agree and each task waits for its own parent only. None is longer
    than ``most``.
    """
    missing = {run.id for run in todo}
    roots = [run for run in todo if run.parent not in missing and run.parent not in queued]
    parent_ids = {run.parent for run in todo}
    to_submit: list[Array] = []
    parents = list(_tasks_of([run for run in roots if run.id in parent_ids], profile, in_batches))
    children = {
        task: list(_tasks_of([run for run in todo if run.parent in task], profile, in_batches))
        for task in parents
    }
    parents.sort(key=lambda task: -len(children[task]))
    for start in range(0, len(parents), most):
        array = Array(tuple(parents[start : start + most]), *first)
        to_submit.append(array)
        for layer in range(len(children[array.tasks[0]])):
            of = [children[task][layer] for task in array.tasks if len(children[task]) > layer]
            to_submit.append(Array(tuple(of), after=array))
    job_of = {run.id: queued[run.parent] for run in todo if run.parent and run.parent in queued}
    for job in sorted(set(job_of.values())):
        late = [run for run in todo if job_of.get(run.id) == job]
        to_submit += [Array(part, after_job=job) for part in _batches(late, profile, in_batches, most)]
    rest = [run for run in roots if run.id not in parent_ids]
    return to_submit + [Array(part, *first) for part in _batches(rest, profile, in_batches, most)]


def _is_open(results: ResultsFolder, run: Run) -> bool:
    folder = results.run(run.id)
    return folder.state() not in ("done", "diverged") and not folder.obstacle()


def _batches(runs: Sequence[Run], profile: Slurm, in_batches: bool, most: int) -> Iterator[tuple[Runs, ...]]:
    tasks = list(_tasks_of(runs, profile, in_batches))
    yield from (tuple(tasks[i : i + most]) for i in range(0, len(tasks), most))


def _tasks_of(runs: Sequence[Run], profile: Slurm, in_batches: bool) -> Iterator[Runs]:
    """Yield the runs of each task: ``runs_per_task`` of them, or seed_batches of seeds."""
    batches: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        batches[run.group if in_batches else run.id].append(run.id)
    units = list(batches.values())
    n = profile.runs_per_task
    yield from (tuple(itertools.chain(*units[i : i + n])) for i in range(0, len(units), n))


@dataclass(frozen=True)
class Cluster:
    """A plan on its way to a cluster."""

    plan: Plan
    plan_file: Path
    results: ResultsFolder
    profile: Slurm
    options: Options

    @property
    def on_gpus(self) -> bool:
        """Whether tasks compute on GPUs."""
        return self.options.device != "cpu"

    def check(self) -> None:
        """Refuse what could only fail after it was submitted."""
        if self.on_gpus != bool(self.profile.gpus_per_task):
            raise UserError(
                f"--device {self.options.device} and gpus_per_task: {self.profile.gpus_per_task} contradict "
                "each other; give --device cuda together with --gpus-per-task"
            )

    def settings(self) -> WorkerSettings:
        """Return what the pool inside an task is told."""
        profile, in_batches = (
            self.profile,
            0 if self.profile.seed_batch == "auto" else self.profile.seed_batch,
        )
        return WorkerSettings(profile.runs_per_task, (), profile.per_gpu, in_batches, profile.stall_minutes)

    def pending(self, queued: Mapping[str, str]) -> list[Array]:
        """Return the arrays that are not in the queue yet."""
        in_batches = self.profile.seed_batch not in ("auto", 1) or (
            self.profile.seed_batch == "auto" and self.on_gpus
        )
        most = self.profile.array or site_limit()
        return arrays(self.plan, self.results, self.profile, queued, in_batches, most)

    def parameters(self, layers: int, dependency: str) -> dict[str, Any]:
        """Return submitit's parameters of an array; the cap on what runs at once is shared by ``layers``."""
        profile = self.profile
        parameters: dict[str, Any] = {
            "job_name": f"o2obench-{folder_name(self.plan.suite)}",
            "time": minutes(profile.time),
            "cpus_per_task": profile.cpus_per_task or profile.runs_per_task * self.options.threads,
            "array_parallelism": max(1, profile.parallel // max(1, layers)),
            "signal_delay_s": profile.signal_seconds,
            "stderr_to_stdout": True,
            "additional_parameters": {
                "requeue": True,
                "kill-on-invalid-dep": "yes",
                "comment": self.comment,
                **profile.sbatch,
            },
        }
        optional = {
            "partition": profile.partition,
            "account": profile.account,
            "qos": profile.qos,
            "constraint": profile.constraint,
            "mem": f"{profile.memory_gb * 1024:.0f}M" if profile.memory_gb else None,
            "gpus_per_node": profile.gpus_per_task or None,
            "setup": profile.setup or None,
            "dependency": dependency or None,
        }
        return parameters | {name: value for name, value in optional.items() if value is not None}

    def submit(self) -> int:
        """Submit what is neither done nor in the queue; return how many tasks that were.

        Each array is noted as soon as the scheduler has taken it. Raises RunFailed when it refuses one; the
        same command submits the rest.
        """
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        self.check()
        count = 0
        make_below(self.results.path, self.results.jobs)
        with (
            self._alone(),
            _outside_jobs(),
        ):
            noted = job_registry.submitted(self.results, self.plan.suite)
            found = queue()
            self._require_all_noted(noted, found or [])
            alive = set(still(list(noted), found))
            noted = {job: runs for job, runs in noted.items() if job in alive}
            queued = {run: job for job, runs in noted.items() for run in runs}
            todo, jobs_of = self.pending(queued), dict[int, list[str]]()
            folder = self.folder()
            for array in todo:
                executor = submitit.SlurmExecutor(folder, max_num_timeout=10_000, python=shlex.join(PYTHON))
                executor.update_parameters(**self.parameters(_layers(todo), _dependency(array, jobs_of)))
                try:
                    with aloud("sbatch"):
                        jobs = executor.submit_array(self.tasks(array))
                except FailedJobError as error:
                    if not count:
                        shutil.rmtree(folder)
                    raise RunFailed(_refusal(error, count, sum(len(a.tasks) for a in todo))) from None
                except FailedSubmissionError as error:
                    raise RunFailed(_unclear(error, count, sum(len(a.tasks) for a in todo))) from None
                jobs_of[id(array)] = [job.job_id for job in jobs]
                noted |= {job.job_id: list(runs) for job, runs in zip(jobs, array.tasks, strict=True)}
                job_registry.note_submitted(self.results, self.plan.suite, noted)
                count += len(jobs)
        return count

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Submit while no other launcher of this suite does, on whichever machine."""
        file = self.results.jobs / f"{self.plan.suite}.lock"
        lease = SoftFileLease(file, lease_duration=LOCK_SECONDS, timeout=600)
        try:
            with aloud(f"another launcher, which submits this suite ({owner_of(file) or file}),"):
                lease.acquire()
        except Timeout:
            raise RunFailed(
                f"{file}: another launcher is still submitting after 10 minutes; try again"
            ) from None
        try:
            yield
        finally:
            lease.release()

    def _require_all_noted(self, noted: Mapping[str, list[str]], found: Sequence[Job]) -> None:
        """Refuse to submit twice what SLURM has taken without an answer that could be read."""
        stray = [job.id for job in found if job.comment == self.comment and job.id not in noted]
        if stray:
            whole = " ".join(sorted({job.split("_")[0] for job in stray}))
            raise UserError(
                f"{self.results}: {len(stray)} tasks of {self.plan.suite} are in SLURM's queue and not noted "
                f"here; `scancel {whole}`, then start the same command again: nothing is submitted twice"
            )

    @property
    def comment(self) -> str:
        """What marks this suite's jobs of this results folder in SLURM's queue."""
        where = hashlib.sha256(str(self.results.path.resolve()).encode()).hexdigest()[:12]
        return f"o2obench {folder_name(self.plan.suite)} {where}"

    def tasks(self, array: Array) -> list[ArrayTask]:
        """Return what the jobs of an array do, task by task."""
        options = asdict(self.options)
        where = (str(self.plan_file.resolve()), str(self.results.path.resolve()))
        patience = max(5.0, self.profile.signal_seconds - 20.0)
        return [ArrayTask(*where, runs, self.settings(), options, patience) for runs in array.tasks]

    def scripts(self) -> Iterator[str]:
        """Yield the sbatch scripts, as they would be submitted now; jobs not known yet have numbers."""
        from submitit.slurm.slurm import _make_sbatch_string

        self.check()
        folder = expanded(self.profile.folder) / "LAUNCH"
        todo, jobs_of = self.pending({}), dict[int, list[str]]()
        for number, array in enumerate(todo, start=1):
            parameters = self.parameters(_layers(todo), _dependency(array, jobs_of))
            if len(array.tasks) > 1:
                parameters["map_count"] = len(array.tasks)
            jobs_of[id(array)] = [f"JOB{number}_{i}" for i in range(len(array.tasks))]
            command = f"{shlex.join(PYTHON)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
            yield _make_sbatch_string(command=command, folder=folder, **parameters)

    def folder(self) -> Path:
        """Make the folder of this launch for submitit's files, which only the owner can enter."""
        root = expanded(self.profile.folder).resolve()
        if root.is_relative_to(self.results.path.resolve()):
            raise UserError(
                f"folder: {root}: lies among the results; submitit's pickles have to stay outside"
            )
        folder = root / f"{self.plan.suite}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            others = root.stat()
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise UserError(f"folder: {root}: cannot be used: {error.strerror}; name another") from None
        if others.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not others.st_mode & stat.S_ISVTX:
            folder.rmdir()
            raise UserError(
                f"folder: {root}: others can write to it, and what lies there is unpickled by your jobs; "
                f"`chmod go-w {shlex.quote(str(root))}`, or name another"
            )
        return folder

    def watch(self, show: Callable[[], None]) -> Outcome:
        """Wait until every run is settled or nobody is at work any more; return what happened."""
        outcome, asked_at, idle, said = Outcome(), 0.0, 0, dict[str, list[str]]()
        before = [run.id for run in self.plan.runs if self.results.run(run.id).done.exists()]
        while True:
            states = {run.id: self.results.run(run.id).state() for run in self.plan.runs}
            open_ = [run for run in self.plan.runs if states[run.id] not in ("done", "diverged")]
            if time.monotonic() - asked_at >= self.profile.poll_seconds or not open_:
                asked_at = time.monotonic()
                noted = job_registry.submitted(self.results, self.plan.suite)
                found = queue() if noted else []
                busy = still(list(noted), found) or any(states[run.id] == "running" for run in open_)
                idle = 0 if busy else idle + 1
                said, before_that = held(list(noted), found), said
                for reason in sorted(said.keys() - before_that.keys()):
                    print(told(reason, said[reason]), file=sys.stderr, flush=True)
            if not open_ or idle > 2:
                break
            show()
            time.sleep(min(1.0, self.profile.poll_seconds))
        for run in self.plan.runs:
            bad = {"failed": outcome.failed, "diverged": outcome.failed}
            is_blocked = any(states[needed] != "done" for needed in self.plan.needs(run))
            lost = outcome.blocked if is_blocked else outcome.stopped
            done = outcome.skipped if run.id in before else outcome.finished
            (done if states[run.id] == "done" else bad.get(states[run.id], lost)).append(run.id)
        return outcome


@contextlib.contextmanager
def _outside_jobs() -> Iterator[None]:
    """Hide the variables of a surrounding job, where a launch is started from inside one."""
    import submitit

    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    where = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with submitit.helpers.clean_env():
        os.environ.update(where)
        yield


def _layers(todo: Sequence[Array]) -> int:
    """Return how many arrays can be at work at the same time: those that wait for nothing, or the layers."""
    waiting = sum(array.after is not None or bool(array.after_job) for array in todo)
    return max(1, waiting, len(todo) - waiting)


def _dependency(array: Array, jobs_of: Mapping[int, list[str]]) -> str:
    """Return the dependency of an array, in sbatch's words."""
    if array.after_job:
        return f"afterok:{array.after_job}"
    if array.after is None:
        return ""
    jobs = jobs_of[id(array.after)]
    whole = jobs[0].split("_")[0]
    one_by_one = len(jobs) > 1 and len(array.tasks) > 1
    return f"aftercorr:{whole}" if one_by_one else f"afterok:{jobs[0]}"


def _unclear(error: Exception, submitted: int, total: int) -> str:
    """Say that an array may have been submitted and may not, by an answer that names no job."""
    answer = shown(str(error).partition("output")[2].partition("Job instance")[0].strip())
    return (
        f"sbatch answered {answer}, which names no job; {submitted} of {total} tasks were submitted and are "
        "noted; if `squeue --me` shows more of this suite, `scancel` them; then start the same command again"
    )


def _refusal(error: Exception, submitted: int, total: int) -> str:
    lines = str(error).splitlines()
    lines = [line for line in lines if "error" in line.lower()] or lines
    why = lines[-1].strip() if lines else "no reason given"
    return (
        f"SLURM refused an array: {why}; {submitted} of {total} tasks were submitted and are noted; "
        "mend the cause and start the same command again: it submits the rest"
    )
