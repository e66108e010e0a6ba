"""The run that a short name means: the end or the beginning of its id, or ``METHOD:SEED``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UserError
from ..runs.folder import ResultsFolder
from ..runs.inventory import look
from ..util.files import shown
from .plan import readable_plans

MOST_CANDIDATES = 8
"""So many runs are listed where a name means several."""


def find_run(text: str, results: ResultsFolder) -> Path:
    """Return the folder of the one run that ``text`` means.

    That is a run's folder, or a name of a run in the results folder (see ``names_of_runs``): the whole name
    or its end from one of its parts on, and where no name ends so, the beginning of one of its parts.

    Raises:
        UserError: No run or more than one is called so, or the run has not begun; the line lists candidates.
    """
    path = Path(text)
    if (path / "run.json").is_file():
        return path
    within = path.is_relative_to(results.path) and text != ""
    wanted = "/".join(path.relative_to(results.path).parts) if within else text
    names = names_of_runs(results)
    if not names:
        raise UserError(
            f"{shown(text)}: is not a run's folder, and {results} holds no run; name one with --results"
        )
    meant = _meant(wanted, names)
    if not meant:
        raise UserError(f"{shown(text)}: no run in {results} is called so; {_similar(wanted, names)}")
    if len(meant) > 1:
        candidates = _listed([_short(run, names) for run in meant])
        raise UserError(f"{shown(text)}: {len(meant)} runs are called so; name one of {candidates}")
    folder = results.run(meant[0])
    if not folder.record.is_file():
        raise UserError(f"{shown(text)}: the run {folder.id} has not begun; start its suite")
    return folder.path


def names_of_runs(results: ResultsFolder) -> Mapping[str, Sequence[str]]:
    """Return the names of every run of a results folder by its id, the id first.

    The others are ``DATA SET/METHOD:SEED`` for each method that shows the run in a suite, and
    ``DATA SET/ALGORITHM:SEED`` for a run that none shows.
    """
    names = {run_id: [run_id] for run_id in look(results).runs}
    for plan in readable_plans(results.plan_files())[0]:
        for run in plan.runs:
            names.setdefault(run.id, [run.id])
        for experiment in plan.experiments:
            names[experiment.run].append(f"{experiment.dataset}/{experiment.method}:{experiment.seed}")
    for run_id, called in names.items():
        if len(called) == 1:
            dataset, algorithm, _, seed = run_id.split("/")
            called.append(f"{dataset}/{algorithm}:{seed.removeprefix('seed-')}")
    return names


def _meant(wanted: str, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the runs with a name that ends in ``wanted``, else those with a part that begins so."""
    ending = [run for run, called in names.items() if any(f"/{n}".endswith(f"/{wanted}") for n in called)]
    return ending or [run for run, called in names.items() if any(f"/{wanted}" in f"/{n}" for n in called)]


def _short(run: str, names: Mapping[str, Sequence[str]]) -> str:
    """Return the last of a run's names, or its id where another run has that name too."""
    last = names[run][-1]
    return run if sum(last in called for called in names.values()) > 1 else last


def _similar(wanted: str, names: Mapping[str, Sequence[str]]) -> str:
    """Return names that look like ``wanted``, or some that there are."""
    whole = [name for called in names.values() for name in called]
    short = list(dict.fromkeys(name.rpartition("/")[2] for name in whole if ":" in name))
    close = difflib.get_close_matches(wanted, [*short, *whole], n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {_listed(short)}"


def _listed(names: Sequence[str]) -> str:
    first, more = names[:MOST_CANDIDATES], len(names) - MOST_CANDIDATES
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")
