"""Kill a run at named places, resume it, and compare bytes; one process that forks a child for each kill.

    python kill_server.py ALGORITHM FOLDER [--forget PURPOSE] [--only KIND] [--number N]

prints a JSON object: place -> what became of the run (see ``Ground.kill``). A child imports nothing anew, so
a kill costs only the work it interrupts. Kinds of places: ``named`` ones, ``random`` instants (as many as
``--number`` says), the parts of a ``commit``, a ``succession`` of kills of one run, or one place by its name.
``--forget`` leaves one random stream out of every checkpoint: the control that must not end with equal bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from o2obench.datasets import registry as datasets
from o2obench.envs.episode import Interaction
from o2obench.runs import checkpoint, jsonl, writer
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.lock import Busy, RunLock
from o2obench.runs.spec import Run
from o2obench.testing.check_agent import small_plan
from o2obench.training import evaluation, loop, provenance, restore, runner
from o2obench.training.options import Options
from o2obench.training.runner import execute


def kill_at_call(owner: Any, name: str, nth: int) -> Callable[[], None]:
    """Return a set-up that kills this process at the nth call of ``owner.name``."""
    return at_call(owner, name, nth, lambda: os.kill(os.getpid(), signal.SIGKILL))


def at_call(owner: Any, name: str, nth: int, do: Callable[[], None]) -> Callable[[], None]:
    """Return a set-up that does something just before the nth call of ``owner.name``."""

    def set_up() -> None:
        original, calls = getattr(owner, name), itertools.count(1)

        def counted(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == nth:
                do()
            return original(*args, **kwargs)

        setattr(owner, name, counted)

    return set_up


def kill_after(seconds: float) -> Callable[[], None]:
    """Return a set-up that kills this process after a while."""

    def set_up() -> None:
        timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()

    return set_up


Places = dict[str, Callable[[], None]]


def kill_after_call(owner: Any, name: str, nth: int) -> Callable[[], None]:
    """Return a set-up that kills this process when the nth call of ``owner.name`` has returned."""

    def set_up() -> None:
        original, calls = getattr(owner, name), itertools.count(1)

        def counted(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if next(calls) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, counted)

    return set_up


def named_places(interacts: bool, torch_agent: bool) -> Places:
    """Return places in the life of a run at which to kill it."""
    found = {
        "evaluation": kill_at_call(evaluation.Arena, "_wave", 2 if interacts else 1),
        "before the arrays of a checkpoint": kill_at_call(checkpoint, "write_arrays", 2),
        "between the parts of a checkpoint": kill_at_call(checkpoint, "write_manifest", 2),
        "after a checkpoint": kill_at_call(checkpoint, "numbered", 3),
    }
    if interacts:
        found["mid-episode"] = kill_at_call(Interaction, "step", 12)
    if torch_agent:
        from o2obench.kit.model_based import template
        from o2obench.kit.model_based.ensemble import Ensemble

        found["model fit"] = kill_at_call(Ensemble, "_one", 8)
        found["rollout"] = kill_at_call(template, "branch", 2 if interacts else 1)
    return found


def random_instants(number: int, seconds: float) -> Places:
    """Return instants spread over a run that takes ``seconds``."""
    chance = random.Random(0)
    return {f"random instant {k}": kill_after(chance.uniform(0.0, seconds)) for k in range(number)}


def parts_of_a_commit() -> Places:
    """Return the steps of writing a checkpoint (the second) and of publishing a run, in their order."""
    save = {
        "logs not yet on the disk": kill_at_call(jsonl.JsonlLog, "sync", 4),
        "some logs on the disk": kill_at_call(jsonl.JsonlLog, "sync", 6),
        "folder not yet made": kill_at_call(checkpoint, "save", 2),
        "no arrays": kill_at_call(checkpoint, "write_arrays", 2),
        "no manifest": kill_after_call(checkpoint, "write_arrays", 2),
        "manifest not yet in its place": kill_at_call(checkpoint, "write_atomically", 2),
        "manifest's folder not yet on the disk": kill_at_call(checkpoint, "sync_folder", 2),
        "old checkpoints still there": kill_after_call(checkpoint, "write_manifest", 2),
        "an old checkpoint half removed": kill_at_call(os, "rmdir", 1),
    }
    publish = {
        "last state not yet written": kill_at_call(writer.RunWriter, "finish", 1),
        "last state written": kill_at_call(RunLock, "publish_lock", 2),
        "about to be published": kill_at_call(RunFolder, "finish", 1),
        "DONE not yet in its place": kill_at_call(os, "link", 1),
        "DONE in its place": kill_after_call(os, "link", 1),
        "published": kill_after_call(writer.RunWriter, "finish", 1),
    }
    return save | publish


def in_child(work: Callable[..., None], *arguments: Any) -> int:
    """Run ``work`` in a forked child and return its exit status (negative: a signal)."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(*arguments)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def compute(run: Run, results: Path, set_up: Callable[[], None] = lambda: None) -> None:
    """Compute a run with a checkpoint at every fourth unit of work; note each unit, and what was resumed."""
    heartbeat, saved_state, breaths = loop.Training.heartbeat, restore.saved_state, itertools.count(1)

    def noted(self: Any, stage: Any) -> None:
        with open(results / "clocks.log", "a") as log:
            log.write(f"{stage.name} {self.clock.env_steps} {self.agent.updates}\n")
        self.saved_at, self.save_cost = (0.0 if next(breaths) % 4 == 0 else math.inf), 0.0
        heartbeat(self, stage)

    def resumed(writers: Any) -> Any:
        saved = saved_state(writers)
        (results / "resumed").write_text(str(saved["number"] if saved else 0))
        return saved

    with (
        mock.patch.object(loop.Training, "heartbeat", noted),
        mock.patch.object(runner, "saved_state", resumed),
    ):
        set_up()
        for _ in range(100):  # killed before it wrote its name, an owner counts for two seconds
            try:
                return execute([run], ResultsFolder(results), Options())
            except Busy:
                time.sleep(0.05)


def newest_whole(results: Path, run: Run) -> int:
    """Return the number of the newest checkpoint that can be used; 0 where there is none."""
    found = checkpoint.numbered(ResultsFolder(results).run(run.id).checkpoint)
    return max((checkpoint.number_of(one) for one in found if checkpoint.read(one)), default=0)


def records(results: Path, run: Run) -> Counter[str]:
    """Return the evaluations and episodes that a run has written."""
    folder = ResultsFolder(results).run(run.id)
    return Counter(folder.evaluations.read_text().splitlines() + folder.episodes.read_text().splitlines())


def final_bytes(results: Path, run: Run) -> list[bytes]:
    """Return what must not depend on kills: scores, episodes, final parameters; no other state remains."""
    folder = ResultsFolder(results).run(run.id)
    [last] = folder.checkpoint.iterdir()
    assert last == folder.final_checkpoint()
    return [file.read_bytes() for file in (folder.evaluations, folder.episodes, last / "state.safetensors")]


class Ground:
    """Where runs are killed: one run of an algorithm, its pretraining done, and how it ends undisturbed."""

    def __init__(self, name: str, folder: Path, times: int = 1) -> None:
        plan = small_plan(name)
        self.folder, self.parents = folder, plan.runs[:-1]
        self.run = longer(plan.runs[-1], times)
        for pretraining in self.parents:
            execute([pretraining], ResultsFolder(folder / "parent"), Options())
        self.straight = self.fresh("straight")
        began = time.monotonic()
        assert in_child(compute, self.run, self.straight) == 0
        self.seconds = time.monotonic() - began
        self.interacts = bool(self.run.spec.budget.online_steps)

    def fresh(self, label: str) -> Path:
        """Return a new results folder that holds the finished pretraining."""
        results = self.folder / label.replace(" ", "-")
        results.mkdir()
        for pretraining in self.parents:
            target = results / pretraining.id
            target.parent.mkdir(parents=True)
            shutil.copytree(self.folder / "parent" / pretraining.id, target)
        return results

    def kill(self, place: str, *set_ups: Callable[[], None]) -> dict[str, Any]:
        """Kill a new run at one place after another, let it finish, and return what became of it."""
        results, whole, code = self.fresh(place), list[int](), 0
        kills = behind = lost = 0
        for set_up in [*set_ups, lambda: None]:
            (results / "resumed").unlink(missing_ok=True)
            code = in_child(compute, self.run, results, set_up)
            kills += code == -signal.SIGKILL
            if whole and (results / "resumed").exists():
                went_on_from = int((results / "resumed").read_text())
                behind, lost = behind + whole[-1] - went_on_from, lost + (whole[-1] > 0 and not went_on_from)
            whole.append(newest_whole(results, self.run))
        clocks = [(one / "clocks.log").read_text().splitlines() for one in (results, self.straight)]
        wrong, right = records(results, self.run), records(self.straight, self.run)
        return {
            "kills": kills,
            "equal": code == 0 and final_bytes(results, self.run) == final_bytes(self.straight, self.run),
            "redone": len(clocks[0]) > len(clocks[1]),
            "whole": min(whole),
            "behind": behind,
            "lost": lost + (code != 0),
            "wrong records": ((wrong - right) + (right - wrong)).total(),
        }


def in_succession(times: int) -> list[Callable[[], None]]:
    """Return that many kills of one run: in the loop, and now and then in a commit."""
    chance, parts = random.Random(1), [*parts_of_a_commit().values()][:6]
    in_loop = [kill_at_call(loop.Training, "heartbeat", chance.randint(2, 7)) for _ in range(times)]
    return [one if k % 3 else chance.choice(parts) for k, one in enumerate(in_loop)]


def main(name: str, folder: Path, forget: str = "", only: str = "named", number: int = 1) -> dict[str, Any]:
    """Kill and resume runs of ``name`` at every place of a kind."""
    make_fast()
    make_equal_machines(forget)
    ground = Ground(name, folder, times=6 if only == "succession" else 1)
    if only == "succession":
        return {only: ground.kill(only, *in_succession(number))}
    named = named_places(ground.interacts, "torch" in sys.modules)
    kinds = {
        "named": named,
        "random": random_instants(number, ground.seconds),
        "commit": parts_of_a_commit(),
    }
    chosen = kinds.get(only) or {only: named[only]}
    return {place: ground.kill(place, set_up) for place, set_up in chosen.items()}


def make_fast() -> None:
    """Make the toy data once, and do not wait for the disk: a kill loses nothing that was written."""
    datasets.find_dataset("pointmass-mixed-v0").sha256()
    vars(os)["fsync"] = lambda handle: None


def make_equal_machines(forget: str) -> None:
    """Let every process here compute alike; leave one random stream out of every checkpoint, if named."""
    machine = {"threads": 1, "matmul_precision": "highest", "compiled": False, "evaluation": "here"}
    machine |= {"device": "cpu", "versions": {}}
    provenance.compute = lambda *args: machine
    if forget:
        from o2obench.kit.rng import Streams

        whole = Streams.state_dict

        def without(self: Streams) -> dict[str, Any]:
            return {purpose: state for purpose, state in whole(self).items() if purpose != forget}

        mock.patch.object(Streams, "state_dict", without).start()


def longer(run: Run, times: int) -> Run:
    """Return a run with a budget so many times as large."""
    budget = run.spec.budget
    more = replace(
        budget, offline_updates=times * budget.offline_updates, online_steps=times * budget.online_steps
    )
    return replace(run, spec=replace(run.spec, budget=more))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("algorithm")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--forget", default="")
    parser.add_argument("--only", default="named")
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--keep", type=int, default=checkpoint.KEEP)
    given = parser.parse_args()
    checkpoint.KEEP = given.keep
    print(json.dumps(main(given.algorithm, given.folder, given.forget, given.only, given.number)))
