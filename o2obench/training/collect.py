"""Collect data sets in D4RL's layout and in D4RL's way: SAC from scratch, its replay, its policies."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import SoftFileLease, Timeout

from ..datasets import d4rl, minari, papers
from ..datasets.describe import export
from ..datasets.reference_scores import WALKS, Reference, known_reference, reference_of, task_name
from ..datasets.registry import PAPERS, data_folder, find_dataset, find_task
from ..envs.episode import Interaction
from ..envs.spec import EnvSpec, is_registered
from ..errors import Interrupted, UserError
from ..runs.owner import LOCK_SECONDS
from ..transitions import Array
from ..util.files import usable, write_atomically
from ..util.rng import Stream, derive
from . import provenance
from .collector import Show, Training, collector, unseen
from .options import Stop
from .reference_returns import EPISODES, random_return
from .rows import Rows
from .walks import NOISE, POLICIES, TO_THE_GOAL, walk

MEDIUM_SCORE = 100.0 / 3.0
EXPERT_SCORE = 90.0


def collect(task: str, kind: str, file: Path | None, recipe: Recipe, stop: Stop, show: Show = unseen) -> Path:
    """Write a data set of D4RL's kinds from a SAC training, which is done or gone on with first.

    ``random``: the untrained policy. ``medium-replay``: all steps until a score of a third of the reference
    expert's is reached, or of the recipe's ``level``. ``medium``: fresh episodes of that policy. ``expert``:
    of the best policy, if it scores 90 or more; ``high``: of the best policy, whatever it scores.
    ``medium-expert``: half and half. Policies are sampled, as D4RL's were. ``play``, ``diverse``: a scripted
    controller in a maze (``walks``), without a training. Where no reference scores are known the training
    measures its own: uniform random actions are 0, its best policy is 100. Raises UserError when the file
    exists or the level was not reached.
    """
    spec = find_task(task)
    named = f"replay{recipe.level}" if recipe.level else kind
    name = f"{task_name(spec.id)}-{named}-v0"
    own = file is None
    file = file or data_folder() / f"{name}.hdf5"
    if _is_there(file, recipe):
        return file
    collected = _walked if kind in WALKS else _trained
    with _alone(recipe.folder(spec, kind), stop, show):
        if _is_there(file, recipe):  # another process has collected it meanwhile
            return file
        arrays, facts = collected(spec, kind, recipe, stop, show)
        card = {
            "dataset": f"o2o:{name}",
            "environment": spec.id,
            "command": f"o2obench data collect {task_name(spec.id)} --kind {kind} {recipe.flags(kind)}",
            **({"recipe": recipe.identity} if recipe.identity else {}),
            **facts,
            **_described(arrays),
        }
        _publish(file, arrays, card)
    if recipe.minari and own and is_registered(spec.id):
        print(f"{export(f'o2o:{name}', minari.root_folder())}: the same for Minari")
    return file


def _is_there(file: Path, recipe: Recipe) -> bool:
    """Tell whether a set is there and that is fine; raise UserError where its name is taken and it is not."""
    if not (recipe.if_missing and file.exists()):
        _refuse_existing(file)
        return False
    print(f"{file}: is there")
    if file.with_suffix(".json").is_file():
        _describe(file)
    return True


@contextmanager
def _alone(folder: Path, stop: Stop, show: Show) -> Iterator[None]:
    """Wait until no other process is at work on a training, and keep others away meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(folder.with_suffix(".lock"), lease_duration=LOCK_SECONDS, timeout=1)
    while True:
        try:
            lease.acquire()
            break
        except Timeout:
            show(0)
            if stop():
                raise Interrupted from None
    try:
        yield
    finally:
        lease.release()


def _walked(
    spec: EnvSpec, kind: str, recipe: Recipe, stop: Stop, show: Show
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return a maze's steps and what its card says of how they were made."""
    arrays = walk(spec, kind, recipe.rows, recipe.seed, recipe.folder(spec, kind), stop, show)
    scores = known_reference(f"o2o:{task_name(spec.id)}-{kind}-v0")
    assert scores is not None
    return arrays, {
        "ref_min": scores.ref_min,
        "ref_max": scores.ref_max,
        "source": scores.source,
        "policy": POLICIES[kind],
        "collector": {
            "controller": "shortest way by proportion and derivative",
            "action_noise": NOISE,
            **({"walks_to_the_goal": TO_THE_GOAL} if kind == "play" else {}),
        },
    }


def _trained(
    spec: EnvSpec, kind: str, recipe: Recipe, stop: Stop, show: Show
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the steps of a SAC training or of its policies, and what the card says of how they were made."""
    training = Training(spec.id, recipe.folder(spec, kind), recipe.steps, recipe.seed, recipe.threads)
    levels = Levels(training, reference_of(spec.id), recipe.level or MEDIUM_SCORE)
    training.run(lambda: levels.enough_for(kind), functools.partial(print, flush=True), stop, show)
    if kind == "medium-replay":
        arrays = thin(training.arrays(levels.step("medium")), recipe.rows)
    elif kind == "medium-expert":
        halves = [rollouts(training, levels.step(part), recipe.rows // 2, part) for part in kind.split("-")]
        arrays = {key: np.concatenate([half[key] for half in halves]) for key in halves[0]}
    else:
        arrays = rollouts(training, levels.step(kind), recipe.rows, kind)
    scores = levels.scores
    return arrays, {
        "ref_min": scores.ref_min,
        "ref_max": scores.ref_max,
        "source": scores.source,
        "collector": {"algorithm": "sac", "config": training.agent.config.model_dump(mode="json")},
        "levels": {  # mean returns of ten greedy episodes, by step
            step: round(mean, 1) for step, mean in levels.means().items() if step <= levels.last(kind)
        },
        "compute": training.machine,
    }


def _refuse_existing(file: Path) -> None:
    """Refuse a name that is taken, by a set or by a card, or that cannot be written to."""
    if file.suffix not in (".hdf5", ".h5"):
        raise UserError(f"{file}: a data set's name ends in .hdf5")
    for path in (file, *(file.with_suffix(f".{kind}") for kind in ("json", *PAPERS))):
        if path.exists():
            raise UserError(f"{path}: exists; a data set is never overwritten, choose another name")
    usable(file.parent)


@dataclass(frozen=True)
class Recipe:
    """How a set is collected: rows, the training's steps and seed, and where the training is kept."""

    rows: int
    steps: int
    seed: int
    work: Path
    threads: int = 1
    level: int | None = None
    """The score up to which a medium-replay set goes; None: a third of the reference expert's."""
    minari: bool = False
    """Whether to write it in Minari's layout too, where it gets its own name."""
    if_missing: bool = False
    identity: str = ""
    """That of the run that collects by it, which the card names."""

    def folder(self, spec: EnvSpec, kind: str) -> Path:
        """Return where what a set is cut from is kept: a training, which many kinds share, or a walk."""
        walk = f"-{kind}" if kind in WALKS else ""
        return self.work / f"{task_name(spec.id)}{walk}-seed-{self.seed}"

    def flags(self, kind: str) -> str:
        """Return the options of the command that collects a kind."""
        if kind in WALKS:
            return f"--rows {self.rows} --seed {self.seed}"
        level = f"--level {self.level} " if self.level else ""
        return f"{level}--rows {self.rows} --steps {self.steps} --seed {self.seed}"


class Levels:
    """Which step of a training is the policy of a level, by scores that are known or its own."""

    def __init__(self, training: Training, known: Reference | None, medium: float = MEDIUM_SCORE) -> None:
        self.training, self.known, self.medium = training, known, medium

    @functools.cached_property
    def scores(self) -> Reference:
        """The reference scores: the known ones, else those of this training, which must be at its end."""
        if self.known:
            return self.known
        spec, means = self.training.spec, self.means()
        low, high = random_return(spec, self.training.seed, EPISODES), max(means.values())
        if high <= low:
            raise UserError(
                f"{spec.id}: {self.training.steps:,} steps of SAC are no better than random actions; train "
                "longer with --steps"
            )
        source = (
            f"this project: {EPISODES} episodes of uniform random actions; the best policy of "
            f"{self.training.steps:,} steps of SAC"
        )
        return Reference("", spec.id, round(low, 2), round(high, 2), "", "", source)

    def enough_for(self, kind: str) -> bool:
        """Return whether the training has come far enough: to its end, where the best policy is meant."""
        if not self.known:
            return False
        return kind == "random" or (kind in ("medium", "medium-replay") and bool(self._reached()))

    def step(self, kind: str) -> int:
        """Return the step whose policy plays the episodes of ``kind``."""
        if kind == "random":
            return 0
        means = self.means()
        best = max(means, key=lambda step: means[step])
        score = float(self.scores.score(means[best]))
        if kind == "medium":
            reached = self._reached()
            if not reached:
                asked = f"--level is {self.medium:.0f}"
                if self.medium == MEDIUM_SCORE:
                    asked = f"medium means {MEDIUM_SCORE:.0f}, a third of the reference expert"
                raise UserError(
                    f"medium: {self.training.steps:,} steps reach a score of {score:.0f}; {asked}; train "
                    "longer with --steps"
                )
            return reached[0]
        if kind == "expert" and (score < EXPERT_SCORE or not self.known):
            raise UserError(
                f"expert: the best policy of this training scores {score:.0f}, expert means "
                f"{EXPERT_SCORE:.0f} of a reference; train longer with --steps, or collect it as --kind high"
            )
        return best

    def _reached(self) -> list[int]:
        means = self.means()
        return [step for step in sorted(means) if step and self.scores.score(means[step]) >= self.medium]

    def means(self) -> dict[int, float]:
        """Return the mean returns of ten greedy episodes, by step; a training may have gone further."""
        means = {int(step): float(np.mean(returns)) for step, returns in self.training.levels.items()}
        return {step: mean for step, mean in means.items() if step <= self.training.steps}

    def last(self, kind: str) -> int:
        """Return the last step that the data set of ``kind`` depends on."""
        if not self.known or kind not in ("random", "medium", "medium-replay"):
            return self.training.steps
        return self.step(kind.removesuffix("-replay"))


def rollouts(training: Training, step: int, rows: int, kind: str) -> dict[str, Array]:
    """Return ``rows`` steps of fresh episodes of the policy at ``step``, its actions sampled."""
    spec, seed = training.spec, derive(training.seed, Stream.COLLECTED_DATA, kind)
    agent: Any = collector(spec, seed, 1)
    agent.load_policy(training.policies[str(step)])
    interaction, steps = Interaction(spec, seed), Rows()
    for _ in range(rows):
        steps.note_state(interaction.env)
        steps.append(spec, interaction.step(agent.sampled(interaction.obs[None, None])[0, 0])[0])
    return steps.arrays()


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
    d4rl.write(file, arrays, card)
    dated = {
        **card,
        "date": datetime.now(UTC).date().isoformat(),
    }  # not in the file: its bytes are the recipe's
    write_atomically(file.with_suffix(".json"), json.dumps(dated, indent=1) + "\n")
    print(f"{file}: {card['rows']} rows, {card['episodes']} episodes, returns {card['returns']}")
    _describe(file)


def _describe(file: Path) -> None:
    """Write the papers of a set, unless they are there."""
    dataset = find_dataset(f"file:{file}")
    if not all(paper.is_file() for paper in dataset.papers):
        print("\n".join(papers.write(dataset)))
