"""How wrong a run's model is: its predictions against the simulator, on sets of states and actions.

``data``: transitions of the data set. ``random``: its states with uniformly random actions. ``rollout``:
those that the pretrained model made with its policy (DOOF's fake buffer, Table 6). ``online``: those this run
collected.
``uniform``: states drawn evenly within the range of this data set (Table 2, whose recipe is not printed; the
range of another set would need its file). And those of other data sets of the task, where named (Fig. 5).
All models of a family are evaluated on the same transitions, and a fine-tuned run's beside the one it started
from (``before``, ``after``). DOOF calls the distance total variation; its values exceed 1, so it is taken for
a prediction error, of which only ratios compare (docs/algorithms/doof.md). The numbers are kept in the run's
folder, where a report finds them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ..agent import HasDynamicsModel, State
from ..datasets.d4rl import read_simulator
from ..datasets.registry import Dataset, find_dataset
from ..envs.simulator import SimulatorSteps, simulate
from ..envs.spec import find_env
from ..errors import UserError
from ..runs import checkpoint
from ..runs.spec import Run
from ..transitions import Array, Transitions
from ..util.files import read_json, write_atomically
from ..util.rng import Stream, generator
from .policy import load, results_of

ROWS = 2000


@dataclass(frozen=True)
class ModelError:
    """A model on transitions of one source: L2 error of the mean next observation (raw units) and more.

    ``model`` is ``after`` for the run's own, ``before`` for that of the pretraining run it started from.
    ``rmse`` is in units of the data's own changes, averaged over dimensions; ``nll`` is per row, nats, of
    change and reward; ``rank`` is Spearman's correlation of uncertainty and error.
    """

    run: str
    source: str
    model: str
    n: int
    skipped: int
    mean: float
    median: float
    q95: float
    max: float
    squared: float
    rmse: float
    nll: float
    uncertainty: float
    rank: float


@dataclass(frozen=True)
class _Rows:
    obs: Array
    action: Array
    state: tuple[Array, Array] | None = None


def diagnose(folder: Path, count: int = ROWS, on: Sequence[str] = ()) -> list[ModelError]:
    """Evaluate the model of a finished run, also on transitions of the data sets ``on``.

    Raises:
        UserError: It has no model or no state to look at, or a data set is of another task.
    """
    run, agent, state = _load(folder)
    others = {name: _other(name, run) for name in on}
    data = _data(run)
    parent = _load(results_of(folder, run).run(run.parent).path)[1] if run.parent else None
    models = {"before": parent, "after": agent} if parent else {"after": agent}
    scale = (data.next_obs - data.obs).std(axis=0) + 1e-8
    env, evaluated = find_env(run.spec.environment), []
    sets = _sets(run, parent or agent, data, state, count)
    elsewhere = ((name, _drawn(other, run.seed, count)) for name, other in others.items())
    for name, rows in chain(sets, elsewhere):
        true = simulate(env, rows.obs, rows.action, rows.state)
        if true.known.any():
            for which, model in models.items():
                numbers = _errors(model, rows, true, scale)
                evaluated.append(
                    ModelError(run.id, name, which, int(true.known.sum()), true.skipped, **numbers)
                )
    return evaluated


def _errors(model: HasDynamicsModel, rows: _Rows, true: SimulatorSteps, scale: Array) -> dict[str, float]:
    """Return a model's errors at transitions that the simulator can take."""
    mean, log_var, uncertainty = model.predict(rows.obs[None], rows.action[None])
    target = np.concatenate([true.next_obs - rows.obs, true.reward[:, None]], axis=1)[true.known]
    predicted, spread = mean[0][:, true.known], log_var[0][:, true.known]
    gap = predicted.mean(axis=0)[:, :-1] - target[:, :-1]
    error = np.linalg.norm(gap, axis=1)
    nll = 0.5 * ((predicted - target) ** 2 * np.exp(-spread) + spread + np.log(2 * np.pi)).sum(-1).mean(0)
    spread = uncertainty[0][true.known]
    numbers = {
        "mean": error.mean(),
        "median": np.median(error),
        "q95": np.quantile(error, 0.95),
        "max": error.max(),
        "squared": (error**2).mean(),
        "rmse": np.sqrt(((gap / scale) ** 2).mean()),
        "nll": nll.mean(),
        "uncertainty": spread.mean(),
        "rank": _spearman(spread, error),
    }
    return {name: float(number) for name, number in numbers.items()}


def keep(folder: Path, count: int, evaluated: Sequence[ModelError]) -> None:
    """Write ``diagnosis.json`` into the run's folder: the numbers, and what they rest on."""
    run = Run.from_json(read_json(folder / "run.json")["run"])
    ids = [run.id, run.parent] if run.parent else [run.id]
    folders = [results_of(folder, run).run(name) for name in ids]
    rests = {
        run_folder.id: checkpoint.manifest(run_folder.final_checkpoint())["sha256"] for run_folder in folders
    }
    diagnosis = {
        "checkpoints": rests,
        "transitions": count,
        "seed": run.seed,
        "evaluated": [asdict(error) for error in evaluated],
    }
    write_atomically(folder / "diagnosis.json", json.dumps(diagnosis, indent=1) + "\n")


def _load(folder: Path) -> tuple[Run, HasDynamicsModel, State]:
    """Return a finished run, its agent with what it handed over, and that state."""
    run, agent, state = load(folder)
    if "model" not in state or not isinstance(agent, HasDynamicsModel):
        raise UserError(f"{folder}: {run.algorithm} has no model to diagnose")
    return run, agent, state


def _data(run: Run) -> Transitions:
    if run.spec.data is None:
        raise UserError(f"{run.id}: {run.algorithm} has no data set to be evaluated on")
    return find_dataset(run.dataset).load(run.spec.data.sha256, run.spec.data.recipe)


def _sets(
    run: Run, before: HasDynamicsModel, data: Transitions, state: State, count: int
) -> Iterator[tuple[str, _Rows]]:
    """Yield the sets, the same for all runs that share data and seed; ``before`` is the pretrained agent."""
    draw = generator(run.seed, Stream.DIAGNOSIS)
    some = draw.integers(len(data), size=count)
    stored = _stored(find_dataset(run.dataset), len(data), some)
    anywhere = draw.uniform(-1, 1, (count, data.action.shape[1])).astype(np.float32)
    yield "data", _Rows(data.obs[some], data.action[some], stored)
    yield "random", _Rows(data.obs[some], anywhere, stored)
    obs, action = before.imagine(data.obs[draw.integers(len(data), size=count)][None])
    picked = draw.choice(obs.shape[1], min(count, obs.shape[1]), replace=False)
    yield "rollout", _Rows(obs[0, picked], action[0, picked])
    low, high = data.obs.min(axis=0), data.obs.max(axis=0)
    yield "uniform", _Rows(draw.uniform(low, high, (count, len(low))).astype(np.float32), anywhere)
    collected = before.collected(state)
    if collected:
        obs, action = collected[0][0], collected[1][0]
        chosen = draw.integers(len(obs), size=min(count, len(obs)))
        yield "online", _Rows(obs[chosen], action[chosen])


def _other(name: str, run: Run) -> Dataset:
    """Return a data set of the run's task by its name."""
    dataset = find_dataset(name)
    if dataset.env.id != run.spec.environment:
        raise UserError(
            f"{name}: is of {dataset.env.id}, {run.id} of {run.spec.environment}; name a set of it"
        )
    dataset.admit()
    return dataset


def _drawn(dataset: Dataset, seed: int, count: int) -> _Rows:
    """Return rows of another data set, the same for all runs of a seed."""
    data = dataset.load()
    some = generator(seed, f"{Stream.DIAGNOSIS} on {dataset.name}").integers(len(data), size=count)
    return _Rows(data.obs[some], data.action[some], _stored(dataset, len(data), some))


def _stored(dataset: Dataset, rows: int, some: Array) -> tuple[Array, Array] | None:
    """Return (qpos, qvel) of some rows of a data set, None where its file does not hold all of them."""
    simulator = read_simulator(dataset.file) if dataset.file and dataset.file.suffix == ".hdf5" else None
    if simulator is None or len(simulator[0]) != rows:
        return None
    return simulator[0][some], simulator[1][some]


def _spearman(x: Array, y: Array) -> float:
    """Return the rank correlation of two arrays (n,)."""
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (x, y)]
    if len(x) < 2 or ranks[0].std() == 0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
