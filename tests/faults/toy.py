"""The toy agents' chain, offline training and fine-tuning, computed in forked children that may die.

A fork imports nothing anew, so a fault costs only the work that it interrupts. Meant for a process of its
own (see ``sweep.py``): pytest's has threads, which a fork does not survive.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

from o2obench.datasets import registry as datasets
from o2obench.errors import Interrupted
from o2obench.planning.plan import Plan
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.lock import Busy
from o2obench.runs.spec import Run
from o2obench.testing.check_agent import small_plan
from o2obench.training import loop, provenance
from o2obench.training.options import Options
from o2obench.training.runner import execute

SAVE_EVERY = 8
"""Units of work between two checkpoints."""


@functools.cache
def plan() -> Plan:
    """Return the small plan, toy_offline, then toy_tune, with experiments that fit its shortened runs."""
    small = small_plan("toy_tune")
    offline, tune = small.runs
    experiments = [replace(experiment, run=tune.id, parent=offline.id) for experiment in small.experiments]
    groups = (offline.group, tune.group)
    stages = dict(zip(groups, small.stages.values(), strict=True))
    schedules = dict(zip(groups, small.schedules.values(), strict=True))
    return replace(small, experiments=tuple(experiments), stages=stages, schedules=schedules)


@contextmanager
def settled() -> Iterator[None]:
    """Save by units of work instead of seconds; measure the machine and make the data only once."""
    heartbeat, breaths = loop.Training.heartbeat, itertools.count(1)

    def saving(self: Any, stage: Any) -> None:
        self.saved_at, self.save_cost = (0.0 if next(breaths) % SAVE_EVERY == 0 else math.inf), 0.0
        heartbeat(self, stage)

    machine = {
        "device": "cpu",
        "threads": 1,
        "matmul_precision": "highest",
        "compiled": False,
        "evaluation": "here",
    }
    machine |= {"processor": "any", "versions": {"numpy": "any"}}
    code = {"version": "any", "commit": None, "dirty": None}
    with ExitStack() as patches:
        for patch in (
            mock.patch.object(loop.Training, "heartbeat", saving),
            mock.patch.object(provenance, "compute", return_value=machine),
            mock.patch.object(provenance, "code", return_value=code),
            mock.patch("importlib.metadata.entry_points", functools.cache(metadata.entry_points)),
        ):
            patches.enter_context(patch)
        for run in plan().runs:
            datasets.find_dataset(run.dataset).load()
        yield


def compute(results: Path) -> None:
    """Compute the chain, or what is left of it."""
    for run in plan().runs:
        execute([run], ResultsFolder(results), Options())


def compute_in_part(results: Path, breaths: int) -> None:
    """Compute the chain until the fine-tuning run has done so much; it is asked to stop and saves."""
    offline, tune = plan().runs
    execute([offline], ResultsFolder(results), Options())
    calls = itertools.count(1)
    with contextlib.suppress(Interrupted):
        execute([tune], ResultsFolder(results), Options(), stop=lambda: next(calls) == breaths)


def compute_patiently(results: Path) -> None:
    """Compute what is left as a launcher does: a run that seems to be held is asked for again."""
    for _ in range(40):
        try:
            return compute(results)
        except Busy:
            time.sleep(0.1)
    raise TimeoutError(f"{results}: a run stayed busy")


def in_child(work: Callable[..., None], *arguments: Any, said: Path | None = None) -> int:
    """Run ``work`` in a forked child and return its exit status (negative: a signal)."""
    return ended(start_child(work, *arguments, said=said))


def start_child(work: Callable[..., None], *arguments: Any, said: Path | None = None) -> int:
    """Start ``work`` in a forked child and return its process id; its last error goes to ``said``."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(*arguments)
            code = 0
        except BaseException:  # noqa: BLE001  (whatever a fault led to is the finding)
            if said:
                said.write_text(traceback.format_exc())
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def ended(child: int) -> int:
    """Wait for a child and return its exit status (negative: a signal)."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def folders(results: Path) -> list[RunFolder]:
    """Return the folders of the chain."""
    return [ResultsFolder(results).run(run.id) for run in plan().runs]


def final_bytes(results: Path) -> list[bytes]:
    """Return what must not depend on faults: scores, episodes and final parameters of both runs."""
    found = []
    for folder in folders(results):
        last = folder.final_checkpoint()
        assert last is not None, f"{folder.path}: no last checkpoint"
        found += [folder.evaluations.read_bytes(), folder.episodes.read_bytes(), folder.train.read_bytes()]
        found.append((last / "state.safetensors").read_bytes())
    return found


def failure(results: Path) -> tuple[Run | None, str]:
    """Return the run that says FAILED and what it says; an empty string where none does."""
    for run, folder in zip(plan().runs, folders(results), strict=True):
        if folder.failed.exists():
            return run, folder.failure()
    return None, ""
