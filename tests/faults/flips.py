"""One flipped bit somewhere in a results folder: it is named, or it changes nothing that is used."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from o2obench.analysis.results import logged, parts, table_of
from o2obench.datasets import registry as datasets
from o2obench.errors import RunFailed, UserError
from o2obench.planning.plan import Plan, read_plan
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.jsonl import valid_lines
from o2obench.training.options import Options
from o2obench.training.restore import pretrained_state
from o2obench.training.runner import execute
from o2obench.util.files import read_json

from . import toy

IN_FOLDER = ("run.json", "evaluations.jsonl", "episodes.jsonl", "train.jsonl", "timings.jsonl")


@dataclass
class Flips:
    """How flipped bits fared. ``silent`` names those that were used without a word."""

    flips: int = 0
    named: int = 0
    without_effect: int = 0
    silent: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def note(self, kind: str, where: str, named: bool, equal: bool) -> None:
        """Note one flip: it was named, or what was used is equal, or it is a silent error."""
        self.flips += 1
        self.kinds[kind] += 1
        self.named += named
        self.without_effect += equal and not named
        if not (named or equal):
            self.silent.append(f"{kind}: {where}")


@contextmanager
def flipped(file: Path, chance: random.Random) -> Iterator[str]:
    """Flip one bit of a file for a while; yield where."""
    content = bytearray(file.read_bytes())
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    content[place] ^= 1 << bit
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        yield f"{file.name} byte {place} bit {bit}"
    finally:
        file.write_bytes(whole)


class Grounds:
    """What bits are flipped in: a finished chain with its plan, and one that is finished in part."""

    def __init__(self, folder: Path) -> None:
        self.done, self.part, self.again = folder / "done", folder / "part", folder / "again"
        toy.compute(self.done)
        self.plan_file = toy.plan().write(ResultsFolder(self.done))
        self.plan = read_plan(self.plan_file)
        toy.compute_in_part(self.part, breaths=29)
        self.wanted, self.shown = toy.final_bytes(self.done), used_by_reports(self.plan, self.done)
        self.handed = self.parent_state()
        self.rows = [row for _, row in valid_lines(ResultsFolder(self.part).run(self.tune.id).timings)]
        self.record = read_json(ResultsFolder(self.part).run(self.tune.id).record)

    @property
    def tune(self) -> Any:
        """The fine-tuning run."""
        return toy.plan().runs[1]

    def parent_state(self) -> dict[str, Any]:
        """Return what the finished pretraining run hands over."""
        state = pretrained_state(ResultsFolder(self.done).run(toy.plan().runs[0].id))
        return {key: np.array(value).tolist() for key, value in state.items()}


def used_by_reports(plan: Plan, results: Path) -> tuple[Any, ...]:
    """Return all that a report takes from run folders."""
    rows, problems = table_of(plan, ResultsFolder(results))
    assert not problems, problems
    return (
        rows.to_json(),
        logged(plan.experiments, ResultsFolder(results), ["norm"]).to_json(),
        parts(plan.runs, ResultsFolder(results)),
    )


def in_finished(grounds: Grounds, chance: random.Random, found: Flips) -> None:
    """Flip a bit in what the report reads: the experiment is listed as unusable, and why."""
    folder = ResultsFolder(grounds.done).run(chance.choice(grounds.plan.runs).id)
    file = folder.path / chance.choice([*IN_FOLDER, "DONE"])
    if not file.stat().st_size:
        file = folder.evaluations
    with flipped(file, chance) as where:
        _, problems = table_of(grounds.plan, ResultsFolder(grounds.done))
        named = any(name in problem.what for problem in problems for name in (*IN_FOLDER, "DONE"))
        equal = not problems and used_by_reports(grounds.plan, grounds.done) == grounds.shown
    found.note("finished runs", where, named, equal)


def in_parent(grounds: Grounds, chance: random.Random, found: Flips) -> None:
    """Flip a bit in a finished pretraining run: nothing starts from it."""
    folder = ResultsFolder(grounds.done).run(toy.plan().runs[0].id)
    last = folder.final_checkpoint()
    assert last is not None
    files = [last / "manifest.json", last / "state.safetensors"] * 2
    files += [folder.done, folder.record, folder.evaluations]
    with flipped(chance.choice(files), chance) as where:
        try:
            named, equal = False, grounds.parent_state() == grounds.handed
        except RunFailed as error:
            named, equal = str(folder.path.name) in str(error) and "corrupted" in str(error), False
            named = named or "was changed after" in str(error)
    found.note("parent states", where, named, equal)


def in_unfinished(grounds: Grounds, chance: random.Random, found: Flips) -> None:
    """Flip a bit in what a resume reads: it ends with the same bytes, and run.json names the corruption."""
    shutil.rmtree(grounds.again, ignore_errors=True)
    shutil.copytree(grounds.part, grounds.again, symlinks=True)
    folder = ResultsFolder(grounds.again).run(grounds.tune.id)
    files = [folder.path / name for name in IN_FOLDER] + list(folder.checkpoint.glob("*/*")) * 2
    file = chance.choice([file for file in files if file.stat().st_size])
    content = bytearray(file.read_bytes())
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    content[place] ^= 1 << bit
    file.write_bytes(content)
    execute([grounds.tune], ResultsFolder(grounds.again), Options())
    record = read_json(folder.record)
    rows = [row for _, row in valid_lines(folder.timings)][: len(grounds.rows)]
    settled = all(record[key] == grounds.record[key] for key in ("run", "identity", "compute", "code"))
    right = toy.final_bytes(grounds.again) == grounds.wanted and settled and not folder.corruption()
    lost = [row for row in grounds.rows if row not in rows]
    named = right and bool(record["corruption"])
    found.note("unfinished runs", f"{file.name} byte {place} bit {bit}", named, right and not lost)


def in_plan(grounds: Grounds, chance: random.Random, found: Flips) -> None:
    """Flip a bit in a plan: it is refused by name."""
    with flipped(grounds.plan_file, chance) as where:
        try:
            named, equal = False, read_plan(grounds.plan_file) == grounds.plan
        except UserError as error:
            named, equal = str(grounds.plan_file) in str(error), False
    found.note("plans", where, named, equal)


def in_data(folder: Path) -> Callable[[Grounds, random.Random, Flips], None]:
    """Return the flip of a bit in a data set that runs were planned on: it is refused by name."""
    name = "invertedpendulum-replay-v0"
    source = datasets.find_dataset(name)
    assert source.file is not None
    copy = folder / source.file.name
    shutil.copy(source.file, copy)
    planned = source.sha256()

    def flip(grounds: Grounds, chance: random.Random, found: Flips) -> None:
        datasets._sha256.cache_clear()  # another process reads it anew
        with flipped(copy, chance) as where:
            try:
                datasets.Dataset(name, source.env, source.scores, copy).load(planned)
                named = False
            except UserError as error:
                named = str(copy) in str(error)
        found.note("data sets", where, named, equal=False)

    return flip


def in_new_data(folder: Path, flips: int, seed: int = 0) -> Flips:
    """Flip bits in a data set whose hash nobody has noted: validation refuses it, or its rows are equal."""
    source = datasets.find_dataset("invertedpendulum-replay-v0")
    assert source.file is not None
    copy, chance, found = folder / source.file.name, random.Random(seed), Flips()
    shutil.copy(source.file, copy)
    wanted, changed = vars(source.load()), replace(source, file=copy)
    for _ in range(flips):
        datasets._sha256.cache_clear()
        with flipped(copy, chance) as where:
            try:
                rows = vars(changed.load())
                named, equal = False, all(np.array_equal(rows[name], wanted[name]) for name in wanted)
            except UserError as error:
                named, equal = str(copy) in str(error), False
        found.note("new data sets", where, named, equal)
    return found


def flip_everywhere(folder: Path, flips: int, seed: int = 0) -> Flips:
    """Flip ``flips`` bits, spread over all that is ever read back."""
    with toy.settled():
        grounds, chance, found = Grounds(folder), random.Random(seed), Flips()
        ways = [in_finished, in_finished, in_parent, in_unfinished, in_plan, in_data(folder)]
        for k in range(flips):
            ways[k % len(ways)](grounds, chance, found)
    return found


def as_numbers(found: Flips) -> dict[str, int | float | str]:
    """Return the figures of flipped bits."""
    return {
        "injections": found.flips,
        "bad_states_used": len(found.silent),
        "named": found.named,
        "without_effect": found.without_effect,
        "kinds": json.dumps(found.kinds, sort_keys=True),
    }
