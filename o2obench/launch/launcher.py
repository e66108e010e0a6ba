"""Launching a plan: on this machine or through SLURM, by the same few steps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..datasets.registry import find_dataset
from ..errors import UserError
from ..planning.plan import Plan
from ..runs.folder import ResultsFolder
from ..training.foreign import require_commands
from ..training.options import Options
from ..util.files import as_argument
from . import jobs
from .local import Outcome, Pool, WorkerSettings, visible_gpus
from .profile import Local, Slurm
from .slurm import Cluster

Display = Callable[[], AbstractContextManager[Callable[[], None]]]
"""Shows a launch while it goes on: a context that yields what is called again and again."""


@contextmanager
def no_display() -> Iterator[Callable[[], None]]:
    """Show nothing."""
    yield lambda: None


@dataclass(frozen=True)
class Launch:
    """A plan, where its results go, and how it is launched."""

    plan: Plan
    results: ResultsFolder
    profile: Local | Slurm
    options: Options

    @property
    def at_once(self) -> int:
        """How many processes are at work at the same time, for forecasts."""
        if isinstance(self.profile, Slurm):
            return self.profile.parallel * self.profile.runs_per_task
        return len(self._settings(self.profile).device_slots()) or 1

    def scripts(self) -> Iterator[str]:
        """Yield the sbatch scripts that would be submitted; none on this machine."""
        if isinstance(self.profile, Slurm):
            yield from self._cluster(self.profile, Path("plan.json")).scripts()

    def require(self) -> None:
        """Raise UserError where this machine cannot launch it, or where data that were collected are gone."""
        for run in self.plan.runs:
            folder = self.results.run(run.id)
            if run.collects and folder.done.exists() and not find_dataset(run.dataset).present:
                raise UserError(
                    f"dataset {run.dataset}: was collected and is gone; put its file back, or remove "
                    f"{folder.path}, and it is collected anew"
                )
        require_commands(self.plan.runs, self.options)
        if not isinstance(self.profile, Slurm):
            self._settings(self.profile)
        elif self.options.program:  # it would stand in a file
            raise UserError("--program: programs run on this machine only; leave --launcher out")
        elif shutil.which("sbatch") is None:
            raise UserError(
                "no sbatch was found here; start this where jobs are submitted, or --launcher local"
            )

    def go(self, wait: bool = True, display: Display = no_display) -> Outcome | None:
        """Compute what is not done and return what happened; None where it was submitted only."""
        if isinstance(self.profile, Slurm):
            return self._submit(self.profile, wait, display)
        settings, plan_file = self._settings(self.profile), self.plan.write(self.results)
        options = replace(self.options, device="cuda") if settings.gpus else self.options
        pool = Pool(self.plan, plan_file, self.results, settings, options)
        with jobs.announced(self.results, self.plan.suite), display() as show:
            return pool.launch(show)

    def _submit(self, profile: Slurm, wait: bool, display: Display) -> Outcome | None:
        cluster = self._cluster(profile, self.plan.write(self.results))
        count = cluster.submit()
        command = f"o2obench cancel {as_argument(self.results)}"
        print(f"{self.plan.suite}: {count} array tasks submitted; `{command}` ends them")
        if not wait:
            return None
        try:
            with display() as show:
                return cluster.watch(show)
        except KeyboardInterrupt:
            print("No longer watching; the jobs go on, and the same command watches again.")
            raise

    def _cluster(self, profile: Slurm, plan_file: Path) -> Cluster:
        return Cluster(self.plan, plan_file, self.results, profile, self.options)

    def _settings(self, profile: Local) -> WorkerSettings:
        gpus: tuple[str, ...] = ()
        if self.options.device.startswith("cuda"):
            named = self.options.device.removeprefix("cuda").removeprefix(":")
            gpus = visible_gpus() if profile.gpus == "all" else tuple(profile.gpus)
            gpus = (named,) if named else gpus
            if not gpus:
                raise UserError(
                    "--device cuda: no GPU was found here; name them with --gpus 0,1, or leave it out"
                )
        most = len(gpus) * profile.per_gpu if gpus else os.cpu_count() or 1
        jobs = profile.jobs or (most if gpus else max(1, most // self.options.threads))
        seeds = 0 if profile.seed_batch == "auto" else profile.seed_batch
        return WorkerSettings(jobs, gpus, profile.per_gpu, seeds, profile.stall_minutes)
