"""Small suites as values, expanded as a file would be, and computed in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from o2obench.planning.expand import expand
from o2obench.planning.plan import Plan
from o2obench.planning.schema import Selection
from o2obench.runs.folder import ResultsFolder
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.config import Located


def toy_plan(*algorithms: Any, seeds: list[int] | int = 2, steps: int = 120, **extra: Any) -> Plan:
    """Return a plan of toy agents on the point mass."""
    value = {
        "algorithms": list(algorithms) or ["toy_offline", "toy_tune"],
        "datasets": ["pointmass-mixed-v0"],
        "seeds": seeds,
        "offline": {"updates": 1000, "evaluate_every": 1000},
        "online": {"steps": steps, "evaluate_every": 50},
        "frozen": False,
        **extra,
    }
    return expand(Located(value), "toy", Selection())


def compute(plan: Plan, results: Path, options: Options = Options()) -> None:  # noqa: B008
    """Compute all runs of a plan in this process."""
    for run in plan.runs:
        execute([run], ResultsFolder(results), options)
