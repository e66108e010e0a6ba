"""Collect data sets in D4RL's layout and in D4RL's way: SAC from scratch, its replay, its policies."""

from __future__ import annotations

import functools
import json
import math
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import provenance
from ..agent import Agent, Array
from ..env import EnvSpec, Interaction, environments, find_env
from ..errors import BadInput
from ..files import sync_folder
from ..scores import Reference, references, task_name
from ..seeds import derive
from . import data_folder
from .training import Training, advance, append, collector, new_rows, record, settle_machine, to_arrays

MEDIUM_SHARE = 1.0 / 3.0
EXPERT_SCORE = 90.0


def collect_beginnings(
    env_id: str, file: Path, steps: int, seed: int, threads: int, until: float = math.inf
) -> None:
    """Write ``steps`` rows of SAC's replay to ``file`` (HDF5) and a data card beside it (JSON).

    A training ends when the mean return of its last ten episodes reaches ``until``; the next seed goes
    on until all rows are recorded. Raises BadInput when the file exists.
    """
    if file.exists():
        raise BadInput(f"{file}: exists; a data set is never overwritten, choose another name")
    spec = find_task(env_id)
    machine = settle_machine(threads, steps)
    rows, trainings = new_rows(), list[dict[str, int]]()
    while len(rows["rewards"]) < steps:
        left = steps - len(rows["rewards"])
        agent = collector(spec, seed + len(trainings), left)
        returns = _beginning(agent, spec, rows, left, until)
        trainings.append({"seed": seed + len(trainings), "rows": left - steps + len(rows["rewards"])})
        print(f"training {len(trainings)}: {len(returns)} episodes, {len(rows['rewards'])}/{steps} rows")
    arrays = to_arrays(rows)
    card = {
        "dataset": file.stem,
        "environment": spec.id,
        "command": "o2obench " + shlex.join(sys.argv[1:]),
        "collector": {"algorithm": "sac", "config": agent.config.model_dump(mode="json")},
        "trainings": trainings,
        **_described(arrays),
        "compute": machine,
    }
    _publish(file, arrays, card)


def _beginning(
    agent: Agent[Any], spec: EnvSpec, rows: dict[str, list[Any]], steps: int, until: float
) -> list[float]:
    """Let the agent live and learn, append every step to ``rows``; return its episodes' returns."""
    life, returns = Interaction(spec, agent.task.seeds[0]), list[float]()
    for _ in range(steps):
        finished = advance(agent, life, rows)
        if finished:
            returns.append(finished.env_return)
            if len(returns) >= 10 and np.mean(returns[-10:]) >= until:
                return returns
    rows["timeouts"][-1] = np.asarray(not rows["terminals"][-1])
    return returns


def collect(task: str, kind: str, file: Path | None, recipe: Recipe, stop: Callable[[], bool]) -> Path:
    """Write a data set of D4RL's kinds from a SAC training, which is done or gone on with first.

    ``random``: the untrained policy. ``medium-replay``: all steps until a third of the reference expert
    return is reached. ``medium``: fresh episodes of that policy. ``expert``: of the best policy, if it
    scores 90 or more; ``high``: of the best policy, whatever it scores. ``medium-expert``: half and half.
    Policies are sampled, as D4RL's were. Raises BadInput when the file exists or the level was not reached.
    """
    spec = find_task(task)
    name = f"{task_name(spec.id)}-{kind}-v0"
    file = file or data_folder() / f"{name}.hdf5"
    if file.exists():
        raise BadInput(f"{file}: exists; a data set is never overwritten, choose another name")
    folder = recipe.work / f"{task_name(spec.id)}-seed-{recipe.seed}"
    training = Training(spec.id, folder, recipe.steps, recipe.seed, recipe.threads)
    levels = Levels(training, reference_of(spec))
    training.run(lambda: levels.enough_for(kind), functools.partial(print, flush=True), stop)
    if kind == "medium-replay":
        arrays = thin(training.arrays(levels.medium()), recipe.rows)
    elif kind == "medium-expert":
        halves = [rollouts(training, levels.step(part), recipe.rows // 2, part) for part in kind.split("-")]
        arrays = {key: np.concatenate([half[key] for half in halves]) for key in halves[0]}
    else:
        arrays = rollouts(training, levels.step(kind), recipe.rows, kind)
    card = {
        "dataset": name,
        "environment": spec.id,
        "command": f"o2obench data collect {task_name(spec.id)} --kind {kind} {recipe.flags()}",
        "collector": {"algorithm": "sac", "config": training.agent.config.model_dump(mode="json")},
        "levels": {  # mean returns of ten greedy episodes, by step
            step: round(float(np.mean(found)), 1) for step, found in training.levels.items()
        },
        **_described(arrays),
        "compute": training.machine,
    }
    _publish(file, arrays, card)
    return file


@dataclass(frozen=True)
class Recipe:
    """How a set is collected: rows, the training's steps and seed, and where the training is kept."""

    rows: int
    steps: int
    seed: int
    work: Path
    threads: int = 1

    def flags(self) -> str:
        """Return the options of the command that collects it."""
        return f"--rows {self.rows} --steps {self.steps} --seed {self.seed}"


@dataclass(frozen=True)
class Levels:
    """Which step of a training is the policy of a level."""

    training: Training
    scores: Reference

    def enough_for(self, kind: str) -> bool:
        """Return whether the training has come far enough: to its end, where the best policy is meant."""
        return kind == "random" or (kind in ("medium", "medium-replay") and bool(self._reached()))

    def step(self, kind: str) -> int:
        """Return the step whose policy plays the episodes of ``kind``."""
        if kind == "random":
            return 0
        if kind == "medium":
            return self.medium()
        means = self._means()
        best = max(means, key=lambda step: means[step])
        score = float(self.scores.score(means[best]))
        if kind == "expert" and score < EXPERT_SCORE:
            raise BadInput(
                f"expert: the best policy of this training scores {score:.0f}, expert means {EXPERT_SCORE}; "
                "train longer with --steps, or collect it as --kind high"
            )
        return best

    def medium(self) -> int:
        """Return the first step that reaches the medium level."""
        reached = self._reached()
        if not reached:
            raise BadInput(
                f"medium: {self.training.steps:,} steps reach a return of {max(self._means().values()):.0f}; "
                f"medium is {self._wanted():.0f}, a third of the reference expert; train longer with --steps"
            )
        return reached[0]

    def _reached(self) -> list[int]:
        means = self._means()
        return [step for step in sorted(means) if step and means[step] >= self._wanted()]

    def _wanted(self) -> float:
        return MEDIUM_SHARE * self.scores.ref_max

    def _means(self) -> dict[int, float]:
        return {int(step): float(np.mean(found)) for step, found in self.training.levels.items()}


def rollouts(training: Training, step: int, rows: int, kind: str) -> dict[str, Array]:
    """Return ``rows`` steps of fresh episodes of the policy at ``step``, its actions sampled."""
    spec, seed = training.spec, derive(training.seed, "data", kind)
    agent: Any = collector(spec, seed, 1)
    agent.load_policy(training.policies[str(step)])
    life, kept = Interaction(spec, seed), new_rows()
    for _ in range(rows):
        record(kept, life)
        append(kept, spec, life.step(agent.sample(life.obs[None, None])[0, 0])[0])
    return to_arrays(kept)


def thin(arrays: dict[str, Array], rows: int) -> dict[str, Array]:
    """Return at most ``rows`` rows: whole episodes, evenly taken from all of the time."""
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"]) + 1
    if ends[-1] <= rows:
        return arrays
    starts, kept, chosen = np.concatenate([[0], ends[:-1]]), 0, []
    for start, end in zip(starts, ends, strict=True):
        if kept + (end - start) <= rows * end / ends[-1]:
            chosen.append(np.arange(start, end))
            kept += end - start
    index = np.concatenate(chosen)
    return {key: array[index] for key, array in arrays.items()}


def find_task(task: str) -> EnvSpec:
    """Return the environment of an id or of its short name."""
    short = {task_name(spec.id): spec for spec in environments().values()}
    return short[task] if task in short else find_env(task)


def reference_of(spec: EnvSpec) -> Reference:
    """Return the reference scores of a task, which all its data sets share."""
    for entry in references().values():
        if entry.environment == spec.id:
            return entry
    raise BadInput(f"environment {spec.id}: no reference scores are known, so no level can be named")


def _described(arrays: dict[str, Array]) -> dict[str, Any]:
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])
    returns = np.add.reduceat(arrays["rewards"].astype(np.float64), np.concatenate([[0], ends[:-1] + 1]))
    statistics = {
        "mean": returns.mean(),
        "min": returns.min(),
        "median": np.median(returns),
        "max": returns.max(),
    }
    return {
        "rows": len(arrays["rewards"]),
        "episodes": len(returns),
        "returns": {name: round(float(value), 2) for name, value in statistics.items()},
        "terminated": int(arrays["terminals"].sum()),
    }


def _publish(file: Path, arrays: dict[str, Array], card: dict[str, Any]) -> None:
    card = {**card, "code": provenance.code(), "licence": "CC0-1.0"}
    _write(file, arrays, card)
    file.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    print(f"{file}: {card['rows']} rows, {card['episodes']} episodes, returns {card['returns']}")


def _write(file: Path, arrays: dict[str, Array], card: dict[str, Any]) -> None:
    """Write the file under a temporary name and rename it when it is whole."""
    import h5py

    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(temporary, "w") as root:
        for key, array in arrays.items():
            kept = array if array.dtype == bool else array.astype(np.float32)
            root.create_dataset(
                key, data=kept, compression="gzip", compression_opts=9, shuffle=True, fletcher32=True
            )
        root.attrs["card"] = json.dumps(card)
    os.replace(temporary, file)
    sync_folder(file.parent)
