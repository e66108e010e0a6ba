"""Every line of the papers' suites runs: each of its methods once, at a few updates, on files made here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from o2obench import registry
from o2obench.agent import Budget
from o2obench.planning.expand import read_suite
from o2obench.planning.load import suite_names
from o2obench.planning.plan import Plan
from o2obench.planning.schema import Selection
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.spec import Run, RunSpec
from tests.helpers.datasets import hopper_file
from tests.helpers.suites import compute

PAPERS = ("comou_", "moore_", "doof_")
SAME = ("doof_table7",)
"""Other figures of the same runs."""
FEW, NARROW, UPDATES, STEPS = 5, 16, 30, 20


def paper_suites() -> Iterator[str]:
    for name in suite_names():
        if name.startswith(PAPERS) and not name.endswith("-small") and name not in SAME:
            yield name


def small(spec: RunSpec) -> Mapping[str, Any]:
    """Return a run's options with all counts cut to a few, and networks to a few units."""
    config, fields = dict(spec.config), registry.algorithm(spec.algorithm).Config.model_fields
    for name, field in fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        value = config.get(name)
        if extra.get("count") and (value is None or value > FEW):
            config[name] = FEW
        elif extra.get("widths") and value is not None:
            config[name] = [min(width, NARROW) for width in value]
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
        spec = replace(
            run.spec,
            budget=budget,
            protocol=protocol,
            config=small(run.spec),
            parent=parent.spec.hash if parent else None,
        )
        runs[run.id] = replace(run, spec=spec, parent=parent.id if parent else None)
    return replace(plan, runs=tuple({run.id: run for run in runs.values()}.values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(paper_suites()))
def test_each_line_of_a_paper_s_suite_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("O2OBENCH_DATA", str(tmp_path / "data"))
    hopper_file(tmp_path / "data" / "hopper_medium-v2.hdf5", rows=2000)
    file = tmp_path / "lines.yaml"  # on Hopper, whose episodes are short here
    file.write_text(f"like: {name}\ndatasets: [hopper-medium-v2]\n")
    plan = cut(read_suite(file, Selection(seeds=(0,))))
    compute(plan, tmp_path / "results")
    results = ResultsFolder(tmp_path / "results")
    assert {results.run(run.id).state() for run in plan.runs} == {"done"}
