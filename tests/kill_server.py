"""Kill a run at named places, resume it, and compare bytes; one process that forks a child for each kill.

    python kill_server.py ALGORITHM FOLDER [--forget PURPOSE] [--instants N] [--only PLACE]

prints a JSON object: place -> {"killed", "equal", "redone"}. A child imports nothing anew, so a kill costs
only the work it interrupts. ``--forget`` leaves one random stream out of every checkpoint: the control
that must not end with equal bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from o2obench import checkpoint, evaluate, provenance, train
from o2obench.contract import small_plan
from o2obench.env import Interaction
from o2obench.execute import execute
from o2obench.options import Options
from o2obench.run import Run, RunFolder


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


def places(
    interacts: bool, torch_agent: bool, seconds: float, instants: int
) -> dict[str, Callable[[], None]]:
    """Return where to kill, by name."""
    found = {
        "evaluation": kill_at_call(evaluate.Arena, "_wave", 2 if interacts else 1),
        "before the arrays of a checkpoint": kill_at_call(checkpoint, "write_arrays", 2),
        "between the parts of a checkpoint": kill_at_call(checkpoint, "write_manifest", 2),
        "after a checkpoint": kill_at_call(checkpoint, "numbered", 3),
    }
    if interacts:
        found["mid-episode"] = kill_at_call(Interaction, "step", 12)
    if torch_agent:
        from o2obench.kit.ensemble import Ensemble
        from o2obench.kit.modelbased import ModelBased

        found["model fit"] = kill_at_call(Ensemble, "_one", 8)
        found["rollout"] = kill_at_call(ModelBased, "_roll_out_tile", 2 if interacts else 1)
    chance = random.Random(0)
    for k in range(instants):
        found[f"random instant {k}"] = kill_after(chance.uniform(0.2, 0.9) * seconds)
    return found


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
    """Compute a run, noting each unit of work in clocks.log, with a checkpoint at every fourth."""
    breathe, breaths = train.Training.breathe, itertools.count(1)

    def noted(self: Any, stage: Any) -> None:
        with open(results / "clocks.log", "a") as log:
            log.write(f"{stage.name} {self.clock.env_steps} {self.agent.updates}\n")
        self.saved_at, self.save_cost = (0.0 if next(breaths) % 4 == 0 else math.inf), 0.0
        breathe(self, stage)

    with mock.patch.object(train.Training, "breathe", noted):
        set_up()
        execute([run], results, Options())


def final_bytes(results: Path, run: Run) -> list[bytes]:
    """Return what must not depend on kills: scores, episodes, final parameters."""
    folder = RunFolder(results, run.id)
    [arrays] = folder.checkpoint.glob("*/state.safetensors")
    return [folder.scores.read_bytes(), folder.episodes.read_bytes(), arrays.read_bytes()]


def main(
    name: str, folder: Path, forget: str = "", instants: int = 1, only: str = ""
) -> dict[str, dict[str, bool]]:
    """Kill and resume a run of ``name`` at every place."""
    plan = small_plan(name)
    torch_agent = "torch" in sys.modules
    if torch_agent:
        import torch

        torch.set_num_threads(1)
    if forget:
        from o2obench.kit.streams import Streams

        whole = Streams.state_dict

        def without(self: Streams) -> dict[str, Any]:
            return {purpose: state for purpose, state in whole(self).items() if purpose != forget}

        mock.patch.object(Streams, "state_dict", without).start()
    machine = {"threads": 1, "matmul": "highest", "compiled": False, "evaluation": "here"}
    machine |= {"device": "cpu", "versions": {}}
    provenance.compute = lambda *args: machine
    run = plan.runs[-1]
    parent = folder / "parent"
    for pretraining in plan.runs[:-1]:
        execute([pretraining], parent, Options())

    def fresh(label: str) -> Path:
        results = folder / label.replace(" ", "-")
        results.mkdir()
        for pretraining in plan.runs[:-1]:
            target = results / pretraining.id
            target.parent.mkdir(parents=True)
            target.symlink_to((parent / pretraining.id).resolve())
        return results

    straight = fresh("straight")
    began = time.monotonic()
    assert in_child(compute, run, straight) == 0
    seconds = time.monotonic() - began
    interacts = bool(run.spec["budget"]["online_steps"])
    found = {}
    chosen = places(interacts, torch_agent, seconds, instants)
    for place, set_up in {only: chosen[only]}.items() if only else chosen.items():
        results = fresh(place)
        killed = in_child(compute, run, results, set_up) == -signal.SIGKILL
        finished = in_child(compute, run, results) == 0
        clocks = (results / "clocks.log").read_text().splitlines()
        found[place] = {
            "killed": killed,
            "equal": finished and final_bytes(results, run) == final_bytes(straight, run),
            "redone": len(clocks) > len((straight / "clocks.log").read_text().splitlines()),
        }
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("algorithm")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--forget", default="")
    parser.add_argument("--instants", type=int, default=1)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    print(json.dumps(main(given.algorithm, given.folder, given.forget, given.instants, given.only)))
