"""The league's reference bands: does a set-up compute the members as this project's does?

The package holds area and last window of three members by the identities of their runs, as
``o2obench league reference`` wrote them. From n of ours follows the interval in which the mean of m seeds of
others lies, if both are drawn from one normal distribution: mean +- t x deviation x sqrt(1/n + 1/m).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ..errors import UserError
from ..planning.plan import Plan
from ..runs.folder import ResultsFolder
from ..util.files import write_atomically
from . import measures
from .inference import BY_T, FEWEST, Estimate, estimated, weighted_mean
from .results import read

METHODS = ("naive", "IQL", "RLPD")
MEASURES = {"area": measures.area, "last window": measures.last_window}


@dataclass(frozen=True)
class MemberValues:
    """A measure of a member on a data set: the value of each run, by the run's identity."""

    method: str
    dataset: str
    measure: str
    values: dict[str, float]


@dataclass(frozen=True)
class Band:
    """A measure of a member on a data set here, beside the package's own.

    ``ours`` is the package's mean with its interval, ``mean`` the one of the ``n`` seeds here, ``low`` to
    ``high`` where that is expected, ``inside`` whether it is there; all are None where no seed is here.
    """

    method: str
    dataset: str
    measure: str
    ours: Estimate
    n: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    inside: bool | None = None


def reference_file() -> Traversable:
    """Return the file of the package that holds the references; it may not be there yet."""
    return resources.files("o2obench.suites").joinpath("league_reference.json")


def measured(league: Plan, results: ResultsFolder) -> list[MemberValues]:
    """Return the measures of the reference members whose runs a results folder holds, finished and intact."""
    chosen = tuple(experiment for experiment in league.experiments if experiment.method in METHODS)
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for own in read(replace(league, experiments=chosen), results)[0]:
        method, dataset = own.experiment.method, own.experiment.dataset
        run = league.run(own.experiment.run)
        fine_tuning = measures.fine_tuning_of(own, league.scores[dataset], league.work(run)[1])
        for measure, of in MEASURES.items():
            value = of(fine_tuning)
            if value is not None:
                found.setdefault((method, dataset, measure), {})[run.identity] = value
    return [MemberValues(*place, values) for place, values in found.items()]


def bands(league: Plan, results: ResultsFolder) -> Iterator[Band]:
    """Yield a band for each reference of at least 3 runs that the package computes as it did then."""
    identities = {run.identity for run in league.runs}
    here = {(own.method, own.dataset, own.measure): own.values for own in measured(league, results)}
    for reference in read_references():
        ours = [value for identity, value in reference.values.items() if identity in identities]
        if len(ours) < FEWEST:
            continue
        place = (reference.method, reference.dataset, reference.measure)
        mean = weighted_mean([(1.0, np.array(ours))])
        band = Band(*place, estimated(mean, len(ours), BY_T), len(here.get(place, {})))
        if band.n:
            low, high = mean.prediction(len(ours), band.n)
            own = math.fsum(here[place].values()) / band.n
            band = replace(band, mean=own, low=low, high=high, inside=low <= own <= high)
        yield band


def read_references() -> list[MemberValues]:
    """Return the references of the package, none where it has no file of them."""
    file = reference_file()
    if not file.is_file():
        return []
    try:
        return TypeAdapter(list[MemberValues]).validate_json(file.read_bytes(), strict=True)
    except ValidationError:
        raise UserError(f"{file}: not the league's references; install the package again") from None


def write_references(references: list[MemberValues], file: Path) -> None:
    """Write references; ``read_references`` reads them back where they are the package's."""
    write_atomically(file, json.dumps([asdict(values) for values in references], indent=1) + "\n")
