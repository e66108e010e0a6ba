"""What a suite file may hold, and what the command line changes about it."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from ..runs.spec import EvaluationSchedule, Interval
from .report_items import USUAL_FIGURES, USUAL_TABLES, known_figure, known_table

EPISODES, FINAL_EPISODES = 10, 50
"""Evaluation episodes along the way, and at the online start and each stage's end. No suite cuts them."""
MOST_EXPERIMENTS = 100_000
OFFLINE_EVERY = 10_000
"""Updates between two evaluations without the environment, unless a suite says otherwise."""

Count = Annotated[int, Field(gt=0, le=10**10)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EvaluateEvery(_Strict):
    """A part of an evaluation schedule: ``{until: 5_000, every: 500}``; the last has no ``until``."""

    every: Count
    until: Count | None = None


def _in_order(parts: list[EvaluateEvery]) -> list[EvaluateEvery]:
    ends = [part.until for part in parts]
    if ends[-1] is not None:
        raise ValueError("the last part goes to the end; leave its until out")
    if None in ends[:-1] or ends[:-1] != sorted({end for end in ends[:-1] if end}):
        raise ValueError("every part but the last needs an until, each greater than the one before")
    return parts


EvaluateSchedule = Annotated[
    Annotated[Count, Tag("number")]
    | Annotated[list[EvaluateEvery], Field(min_length=1), AfterValidator(_in_order), Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "number"),
]


_SeedList = Annotated[list[Seed], Field(min_length=1)]
Seeds = Annotated[
    Annotated[_SeedList, Tag("list")]  # by itself, so that a wrong seed is one mistake
    | Annotated[Annotated[int, Field(gt=0, le=1000)] | _SeedList, Tag("either")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "either"),
]
Entry = Annotated[
    Annotated[str, Tag("name")] | Annotated[dict[str, dict[str, Any]], Tag("options")],
    Discriminator(lambda value: "options" if isinstance(value, dict) else "name"),
]


def evaluation_schedule(value: int | list[EvaluateEvery]) -> EvaluationSchedule:
    """Return a suite's evaluation schedule as a run's identity holds it; one part is a plain number."""
    if isinstance(value, int):
        return value
    return tuple(Interval(p.every, p.until) for p in value) if len(value) > 1 else value[0].every


class Offline(_Strict):
    """Training without the environment, in gradient updates."""

    updates: Count = 3_000_000
    evaluate_every: EvaluateSchedule = OFFLINE_EVERY


class Online(_Strict):
    """Training with the environment, in steps."""

    steps: Count = 100_000
    evaluate_every: EvaluateSchedule = 1000


class Collect(_Strict):
    """How ``o2o:`` sets that are not here are collected: their rows, the training's steps and seed."""

    rows: Annotated[int, Field(ge=2, le=10**8)] = 200_000
    steps: Count = 200_000
    seed: Seed = 0

    def text(self) -> str:
        """Return it in words."""
        return f"{self.rows:,} rows, {self.steps:,} steps, seed {self.seed}"


class ReportBlock(_Strict):
    """What the report shows, in this order.

    ``reporting_steps`` are the environment steps at which it compares scores, ``reference`` is the method
    that others are compared with.
    """

    reporting_steps: tuple[Count, ...] = (10_000, 100_000)
    figures: tuple[Annotated[str, AfterValidator(known_figure)], ...] = tuple(USUAL_FIGURES)
    tables: tuple[Annotated[str, AfterValidator(known_table)], ...] = USUAL_TABLES
    reference: str = ""


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    if not line.isprintable():
        raise ValueError("holds characters that cannot be printed; leave them out")
    return line


class SuiteFile(_Strict):
    """What a suite file may hold."""

    title: Annotated[str, AfterValidator(_one_line)] = ""
    protocol: Count | None = None
    """The version of a standing protocol; None: the suite is none."""
    algorithms: Annotated[list[Entry], Field(min_length=1)]
    datasets: Annotated[list[str], Field(min_length=1)]
    sha256: dict[str, Hash] = {}
    """The files that data sets must have."""
    seeds: Seeds = 5
    offline: Offline = Offline()
    online: Online = Online()
    frozen: bool = True
    """Whether every pretraining gets its own ``frozen`` where the file names none."""
    overrides: dict[str, dict[str, Any]] = {}
    reduced: dict[str, Any] = {}
    collect: Collect | None = None
    """How sets that are not here are collected; None: as ``make data`` does, and what is here is taken."""
    report: ReportBlock = ReportBlock()


@dataclass(frozen=True)
class Selection:
    """What the command line changes about a suite; None leaves it as the file has it."""

    seeds: tuple[int, ...] | None = None
    datasets: tuple[str, ...] | None = None
    algorithms: tuple[str, ...] | None = None
    data: str = ""
    """``o2o``: this project's collected sets in place of D4RL's."""
    defaults: bool = False

    def flags(self) -> str:
        """Return the command's flags that say the same."""
        chosen = {
            "--data": self.data,
            "--seeds": ",".join(map(str, self.seeds or ())) + ("," if len(self.seeds or ()) == 1 else ""),
            "--datasets": ",".join(self.datasets or ()),
            "--algorithms": ",".join(self.algorithms or ()),
        }
        flags = [f" {flag} {quote(value)}" for flag, value in chosen.items() if value]
        return "".join(flags) + (" --defaults" if self.defaults else "")


EVERYTHING = Selection()
