"""Every line of the papers' suites runs: each of its methods once, at a few updates, on files made here.

Adroit, AntMaze and Kitchen on files of their layouts, stepped in their environments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import Env
from gymnasium.spaces import Box

from o2obench import registry
from o2obench.agent import Budget
from o2obench.datasets import statistics
from o2obench.datasets.registry import Dataset, data_folder, find_dataset
from o2obench.envs import spec
from o2obench.envs.spec import EnvSpec
from o2obench.planning.expand import read_suite, suite_datasets
from o2obench.planning.load import find_suite, suite_names
from o2obench.planning.plan import Plan
from o2obench.planning.schema import Selection
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.spec import Run, RunSpec
from tests.helpers.datasets import (
    Arrays,
    ant_maze_arrays,
    hopper_file,
    kitchen_arrays,
    played_arrays,
    write,
)
from tests.helpers.suites import compute

PAPERS = ("comou_", "moore_", "doof_")
SAME = ("doof_table7",)
"""Other figures of the same runs."""
FEW, NARROW, UPDATES, STEPS = 5, 16, 30, 20


def paper_suites() -> Iterator[str]:
    for name in suite_names():
        if name.startswith(PAPERS) and not name.endswith("-small") and name not in SAME:
            yield name


def small(run: RunSpec) -> Mapping[str, Any]:
    """Return a run's options with its counts, the widths of its networks and its batches cut."""
    config: dict[str, Any] = dict(run.config)
    fields = registry.algorithm(run.algorithm).Config.model_fields
    for name, field in fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        value = config.get(name)
        if extra.get("count") and (value is None or value > FEW):
            config[name] = FEW
        elif extra.get("widths") and value is not None:
            config[name] = [min(width, NARROW) for width in value]
        elif name == "batch_size":
            config[name] = NARROW
    return config


def cut(plan: Plan) -> Plan:
    """Return the plan with all its runs at a few updates and steps, one of each computation."""
    runs: dict[str, Run] = {}
    for run in plan.runs:
        budget = Budget(
            *(min(n, few) for n, few in zip(vars(run.spec.budget).values(), (UPDATES, STEPS), strict=True))
        )
        protocol = replace(run.spec.protocol, episodes=1, final_episodes=1)
        parent = runs[run.parent] if run.parent else None
        reduced = replace(
            run.spec,
            budget=budget,
            protocol=protocol,
            config=small(run.spec),
            parent=parent.spec.hash if parent else None,
        )
        runs[run.id] = replace(run, spec=reduced, parent=parent.id if parent else None)
    return replace(plan, runs=tuple({run.id: run for run in runs.values()}.values()))


class StandIn(Env[Any, Any]):
    """Episodes of a few steps with observations of an environment's size: hands and kitchens are slow."""

    def __init__(self, env: EnvSpec) -> None:
        self.observation_space = Box(-np.inf, np.inf, (env.obs_dim,), np.float64)
        self.action_space = Box(-1.0, 1.0, (env.act_dim,), np.float32)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.normal(size=self.observation_space.shape), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        obs = self.np_random.normal(size=self.observation_space.shape)
        return obs, float(self.np_random.normal()), False, self.steps == STEPS, {}


def run_each_line(name: str, dataset: str, folder: Path) -> None:
    """Compute a paper's suite on one data set, of which ``folder`` has a file, at a few updates."""
    file = folder / "lines.yaml"
    file.write_text(f"like: {name}\ndatasets: [{dataset}]\n")
    plan = cut(read_suite(file, Selection(seeds=(0,))))
    compute(plan, folder / "results")
    results = ResultsFolder(folder / "results")
    assert {results.run(run.id).state() for run in plan.runs} == {"done"}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(paper_suites()))
def test_each_line_of_a_paper_s_suite_runs(name: str, tmp_path: Path) -> None:
    hopper_file(data_folder() / "hopper_medium-v2.hdf5", rows=2000)
    run_each_line(name, "hopper-medium-v2", tmp_path)  # on Hopper, whose episodes are short here


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dataset", "arrays"),
    [
        ("antmaze", "antmaze-umaze-v2", ant_maze_arrays),
        ("adroit_binary", "door-binary-v0", played_arrays),
        ("pen", "pen-cloned-v1", played_arrays),
        ("doof_table3", "pen-human-v1", played_arrays),
        ("kitchen", "kitchen-mixed-v0", kitchen_arrays),
    ],
)
def test_each_line_runs_on_a_file_of_its_task_s_layout(
    name: str,
    dataset: str,
    arrays: Callable[[EnvSpec, int], Arrays],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = find_dataset(dataset)
    stand_in = replace(found.env, horizon=STEPS, make=lambda: StandIn(found.env))
    monkeypatch.setitem(spec._BUILT_IN, found.env.id, stand_in)
    assert found.file is not None
    write(found.file, arrays(found.env, 500))
    run_each_line(name, dataset, tmp_path)


@pytest.mark.parametrize(
    ("name", "lines"), [("antmaze", 10), ("adroit_binary", 6), ("pen", 8), ("kitchen", 6)]
)
def test_their_suites_expand_on_all_their_data_sets(
    name: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the files are here: each line has its options for each data set."""
    file = find_suite(name)
    monkeypatch.setattr(Dataset, "present", True)
    monkeypatch.setattr(Dataset, "admit", lambda self: [])
    monkeypatch.setattr(Dataset, "sha256", lambda self: "0" * 64)
    monkeypatch.setattr(statistics, "mean_and_best", lambda data: None)
    plan = read_suite(file)
    shown = {(e.method, e.dataset) for e in plan.experiments if not e.automatic}
    assert len(shown) == lines * len(suite_datasets(file))
