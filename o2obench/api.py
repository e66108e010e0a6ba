"""o2obench from Python: run a suite, read what it gave, load a data set, make and check an agent.

The same as the commands of these names, for scripts and notebooks. Nothing here loads torch before it is
needed.
"""

from __future__ import annotations

import json
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agent import Agent
from .analysis.results import table_of
from .errors import RunFailed, UserError
from .launch.flags import LaunchFlags
from .planning.plan import Plan, read_plans
from .planning.schema import Selection
from .runs.folder import ResultsFolder
from .training.options import Options
from .transitions import Transitions
from .util.config import Located

if TYPE_CHECKING:
    import pandas as pd

CURVES = "curves"
"""The table that ``load_results`` returns unless it is asked for another."""


def run_suite(
    suite: str | Path | Mapping[str, Any],
    results: str | Path = "results",
    *,
    name: str = "python",
    seeds: int | Sequence[int] | None = None,
    datasets: Sequence[str] | None = None,
    algorithms: Sequence[str] | None = None,
    launcher: str = "local",
    jobs: int | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Compute what a suite still lacks, in processes of their own, and return its learning curves.

    Data sets of D4RL's and Minari's that are missing are fetched first.
    A call that was interrupted goes on from its checkpoints when it is repeated.

    Args:
        suite: A suite's name, the path of a YAML file, or what such a file holds.
        results: The results folder; may hold other suites.
        name: What a suite that was given as a mapping is called.
        seeds: Instead of the suite's: how many, or which.
        datasets: Only these.
        algorithms: Only these.
        launcher: ``local``, ``slurm``, ``slurm_gpu`` or the path of a launch profile.
        jobs: Processes at once on this machine; 0: one per CPU core.
        options: Those of ``training.options.Options``, such as ``device="cuda"`` or ``threads=2``.

    Returns:
        ``load_results(results, suite)``.

    Raises:
        UserError: The suite, its data or an option cannot be used; nothing was started.
        RunFailed: Everything else is computed, but these runs failed; ``load_results`` leaves them out.
        KeyboardInterrupt: It was interrupted; everything is saved.
    """
    from .datasets.download import with_data
    from .launch.launcher import Launch
    from .launch.profile import read_profile
    from .planning.entries import require_policy_named
    from .planning.expand import expand, read_suite
    from .planning.load import find_suite

    how = _options(options)
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else _tuple(seeds)
    selection = Selection(chosen, _tuple(datasets), _tuple(algorithms))
    folder = ResultsFolder(results)

    def read() -> Plan:
        if not isinstance(suite, Mapping):
            return read_suite(find_suite(str(suite)), selection, folder)
        source = Located(dict(suite), {(): name})
        require_policy_named(source)
        return expand(source, name, selection, results=folder)

    plan = with_data(read)
    profile = read_profile(launcher, LaunchFlags(jobs=jobs).values())
    launch = Launch(plan, folder, profile, how)
    launch.require()
    outcome = launch.go()
    if outcome and outcome.interrupted:
        raise KeyboardInterrupt(signal.Signals(outcome.interrupted).name)
    if outcome and outcome.failed:
        first = launch.results.run(outcome.failed[0])
        raise RunFailed(
            f"{plan.suite}: {len(outcome.failed)} runs failed, the first is {first.id}: {first.failure()} "
            f"(see {first.log}); load_results returns those that did not"
        )
    return load_results(results, plan.suite)


def load_results(results: str | Path = "results", suite: str = "", table: str = CURVES) -> pd.DataFrame:
    """Return a table of a results folder, or of one of its suites.

    ``curves`` has one row per evaluation of every method: suite, method, algorithm, pretraining, dataset,
    seed; phase (``offline`` before the online start, with the evaluations of the pretraining run under each
    method that starts from it; ``online`` from the online start on); stage, env_steps, updates; episodes (how
    many were averaged), mean_return (raw), score (normalized x 100). What must not be pooled or is not
    finished is left out with a warning; ``.attrs["problems"]`` names each of them.

    The other tables (``runs``, ``evaluations``, ``episodes``, ``metrics``, ``problems``) are those of
    ``o2obench export``, one row per run, evaluation, training episode, logged number and missing run.

    Raises:
        UserError: No suite (of this name) was run there, or no table has this name.
    """
    import pandas as pd

    from .analysis import export

    if table not in (CURVES, *export.COLUMNS):
        raise UserError(f"table {table}: not known; one of {', '.join((CURVES, *export.COLUMNS))}")
    folder = ResultsFolder(results)
    if table != CURVES:
        return export.collect(folder, suite).frame(table)
    parts, problems = list[pd.DataFrame](), list[str]()
    for plan in read_plans(folder, suite):
        shown, missing = table_of(plan, folder)
        shown.insert(0, "suite", plan.suite)
        parts.append(shown)
        problems += [
            f"{plan.suite}: {problem.method}, {problem.dataset}, seed {problem.seed}: {problem.what}"
            for problem in missing
        ]
    joined: pd.DataFrame = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    joined.attrs["problems"] = problems
    if problems:
        message = f"{len(problems)} runs are left out, the first is {problems[0]}; see .attrs['problems']"
        warnings.warn(message, stacklevel=2)
    return joined


def load_dataset(name: str) -> Transitions:
    """Return the transitions of a data set as the agents get them, validated.

    Args:
        name: As in a suite: ``hopper-medium-v2``, ``o2o:hopper-medium``, ``minari:...``, ``file:...`` (see
            docs/data.md); ``pointmass-mixed-v0`` comes with the package.

    Raises:
        UserError: It is not known, not on this machine, or does not pass the validation.
    """
    from .datasets.registry import find_dataset

    dataset = find_dataset(name)
    dataset.admit()
    return dataset.load()


def make_agent(
    algorithm: str,
    dataset: str,
    *,
    seeds: Sequence[int] = (0,),
    options: Mapping[str, Any] | None = None,
    offline_updates: int = 3_000_000,
    online_steps: int = 100_000,
    pretraining: str = "",
    results: str | Path | None = None,
    device: str = "cpu",
) -> Agent[Any]:
    """Return the agent that a run of this algorithm would train, with its data and no environment.

    An algorithm that fine-tunes takes over its pretraining's finished runs from ``results``; without a
    results folder give it the states yourself: ``agent.warm_start([other.pretrained_state()])``.

    Args:
        algorithm: A registered name.
        dataset: As for ``load_dataset``; decides the options that differ by data set.
        seeds: Trained side by side, the first axis of what the agent takes and returns.
        options: Over the algorithm's own; those of its pretraining as ``mopo.penalty_coef``.
        offline_updates: The budget, in gradient updates.
        online_steps: The budget, in environment steps.
        pretraining: Another one than the algorithm's own, as in a suite's ``from:``.
        results: Where the runs that it starts from lie.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: Something is not known or cannot be used.
        RunFailed: A run that it starts from is not finished.
    """
    from .agent import take_seed
    from .planning.expand import single
    from .training.build import build
    from .training.restore import pretrained_state

    texts = [f"{key}={json.dumps(value)}" for key, value in (options or {}).items()]
    budget = (offline_updates, online_steps, online_steps)
    folder = ResultsFolder(results or "results")
    plan = single(
        *(algorithm, dataset, seeds[0], texts, budget, Selection(), pretraining, folder),
        with_parents=results is not None,
    )
    if plan.policy_files and results is None:
        raise UserError(f"--from {pretraining}: name the results folder that shall hold a copy: results=...")
    plan.copy_policies(folder)
    *parents, run = plan.runs
    agent = build([replace(run, seed=seed) for seed in seeds], folder, _options({"device": device}).device)
    if parents and results is not None:
        runs = [folder.run(replace(parents[-1], seed=seed).id) for seed in seeds]
        agent.warm_start([take_seed(pretrained_state(run_folder), 0) for run_folder in runs])
    return agent


def check_agent(name: str, say: Callable[[str], None] = print) -> bool:
    """Tell whether a registered algorithm keeps the interface, as ``o2obench check`` does; say each check.

    It is trained on the toy point mass with all counts cut to a few: alone, in a seed batch, interrupted and
    resumed.
    """
    from .testing.check_agent import check

    return check(name, say)


def _tuple(names: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if names is None else tuple(names)


def _options(options: Mapping[str, Any]) -> Options:
    try:
        return Options(**options)
    except TypeError:
        names = ", ".join(Options.__dataclass_fields__)
        raise UserError(f"{', '.join(options)}: not all of them are options; known are {names}") from None
