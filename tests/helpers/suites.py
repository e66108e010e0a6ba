"""Small suites as values, expanded as a file would be."""

from __future__ import annotations

from typing import Any

from o2obench.planning.expand import Narrow, expand
from o2obench.planning.plan import Plan
from o2obench.util.config import Located


def toy_plan(*algorithms: Any, seeds: list[int] | int = 2, steps: int = 120, **extra: Any) -> Plan:
    """Return a plan of toy agents on the point mass."""
    value = {
        "algorithms": list(algorithms) or ["toy_offline", "toy_tune"],
        "datasets": ["pointmass-mixed-v0"],
        "seeds": seeds,
        "offline": {"epochs": 1, "evaluate_every": 1},
        "online": {"steps": steps, "evaluate_every": 50},
        **extra,
    }
    return expand(Located(value), "toy", Narrow())
