"""Data sets that are not here yet and can be collected: the runs that collect them.

Such a run's identity is the recipe of its data set; runs that train on it name that recipe, since nobody
knows the file's hash beforehand. The data card of what was collected names it, too.
"""

from __future__ import annotations

from .. import registry
from ..agent import Budget, Stage
from ..datasets.reference_scores import COLLECTED, KINDS, WALKS
from ..datasets.registry import Dataset, find_task
from ..errors import UserError
from ..runs.spec import COLLECT, Protocol, Run, RunSpec
from .schema import Collect

VERSION, WALK_VERSION = 1, 2
"""Of the way in which a set is cut from a training, or walked; raised when a recipe gives other data."""
EVERY, EPISODES = 5_000, 10
"""Steps between two evaluations of a collecting training, and their episodes."""


def collection(dataset: str, how: Collect) -> Run:
    """Return the run that collects ``o2o:TASK-KIND-v0``."""
    named = COLLECTED.fullmatch(dataset)
    assert named is not None
    kind, walked = named["kind"], named["kind"] in WALKS
    level = None if kind in (*KINDS, *WALKS) else int(kind.removeprefix("replay"))
    recipe = {"kind": "medium-replay" if level else kind, "level": level, "rows": how.rows}
    spec = RunSpec(
        algorithm=COLLECT,
        versions={COLLECT: WALK_VERSION} if walked else {COLLECT: VERSION, **registry.versions("sac")},
        config=recipe,
        environment=find_task(named["task"]).id,
        data=None,
        budget=Budget(0, how.rows if walked else how.steps),
        protocol=Protocol(0 if walked else EVERY, 0, EPISODES, EPISODES),
        parent=None,
    )
    return Run(dataset, how.seed, spec)


def stages(run: Run) -> tuple[Stage, ...]:
    """Return what a collecting run does, for forecasts."""
    return (Stage(COLLECT, run.spec.budget.online_steps),)


def is_collectable(data: Dataset) -> bool:
    """Tell whether a data set that is missing can be collected here."""
    return bool(COLLECTED.fullmatch(data.name)) and not data.embedded


def require_recipe(data: Dataset, how: Collect | None) -> None:
    """Refuse a set that lies here and was collected otherwise than a suite says."""
    if how is not None and is_collectable(data) and data.recipe != collection(data.name, how).identity:
        raise UserError(
            f"dataset {data.name}: {data.file} was not collected as the suite's `collect` says "
            f"({how.text()}); name another data folder in O2OBENCH_DATA, or leave `collect` out"
        )
