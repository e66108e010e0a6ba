"""The plan of some runs, from their folders alone: what `o2obench report RUN...` and `plot RUN...` show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..agent import Stage
from ..datasets.reference_scores import Reference, references
from ..datasets.registry import find_dataset
from ..errors import UserError
from ..planning.plan import Experiment, Plan, readable_plans
from ..runs.folder import ResultsFolder
from ..runs.spec import Run, RunSpec
from ..training.build import agent_class, config_of
from ..util.files import read_json

NAME = "runs"


def plan_of_runs(folders: Sequence[Path], results: ResultsFolder) -> Plan:
    """Return a plan that shows these runs, and the pretraining runs that they start from, as one suite.

    Runs of one algorithm with other options have their hash in the method's name. Stages are those of the
    plan that has the run, so that runs of earlier versions can be shown; else those of its algorithm.

    Raises:
        UserError: A folder holds no run of this results folder, or one that no plan here has and that this
            version would not compute.
    """
    shown = [_run(folder) for folder in dict.fromkeys(folders)]
    parents = [_run(results.run(run.parent).path) for run in shown if run.parent]
    runs = list({run.id: run for run in (*parents, *shown)}.values())
    groups = Counter(algorithm for algorithm, _ in {(run.algorithm, run.group) for run in shown})
    experiments = [
        Experiment(
            method=run.algorithm if groups[run.algorithm] == 1 else f"{run.algorithm} {run.group[:8]}",
            algorithm=run.algorithm,
            dataset=run.dataset,
            seed=run.seed,
            run=run.id,
            parent=run.parent,
            pretraining=run.parent.split("/")[1] if run.parent else "",
        )
        for run in shown
    ]
    plans, _ = readable_plans(results.plan_files())
    planned = {group: (plan.stages[group], plan.schedules[group]) for plan in plans for group in plan.stages}
    courses = {run.group: planned.get(run.group) or _course(run.spec) for run in runs}
    return Plan(
        suite=NAME,
        title=f"Single runs: {', '.join(dict.fromkeys(one.method for one in experiments))}",
        command=f"o2obench report {' '.join(run.id for run in shown)}",
        seeds=tuple(sorted({run.seed for run in shown})),
        reduced=(),
        reporting_steps=(),
        runs=tuple(runs),
        experiments=tuple(experiments),
        stages={group: stages for group, (stages, _) in courses.items()},
        schedules={group: schedule for group, (_, schedule) in courses.items()},
        scores={run.dataset: _scores(run) for run in runs},
    )


def _run(folder: Path) -> Run:
    record: Any = read_json(folder / "run.json")
    try:
        about = record["run"]
        return Run(about["dataset"], about["seed"], RunSpec.from_json(about["spec"]), about["parent"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{folder}: run.json is missing or corrupted; start the run again") from None


def _course(spec: RunSpec) -> tuple[Sequence[Stage], Mapping[str, int]]:
    """Return the stages and schedules that an algorithm gives a run."""
    agent = agent_class(spec)
    config = config_of(spec, agent)
    return agent.stages(config, spec.budget), agent.schedule(config)


def _scores(run: Run) -> Reference:
    """Return what scores mean on a run's data set; of a run without data, on its environment."""
    if run.spec.data or run.dataset != run.spec.environment:
        return find_dataset(run.dataset).scores
    same = (scores for scores in references().values() if scores.environment == run.spec.environment)
    found = next(same, None)
    if found is None:
        raise UserError(
            f"{run.id}: nobody has written down which returns score 0 and 100 in {run.spec.environment}"
        )
    return found
