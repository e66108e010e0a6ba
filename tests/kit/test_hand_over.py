"""What the small task says of a pretraining before it is computed, and where it says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from o2obench import registry
from o2obench.agent import State, Task
from o2obench.kit.hand_over import misfit
from o2obench.transitions import Transitions

IQL, FINE_TUNING = registry.algorithm("iql"), registry.algorithm("iql_finetune")
NARROW: dict[str, Any] = {"hidden_dims": (8, 8)}


class Demanding(FINE_TUNING):  # type: ignore[misc, valid-type]
    """Somebody's own, which wants more of its task than the small one has."""

    def __init__(self, task: Task, config: Any, data: Transitions) -> None:
        if len(data) < 100:
            raise ValueError("at least 100 transitions")
        super().__init__(task, config, data)


class Particular(FINE_TUNING):  # type: ignore[misc, valid-type]
    """Somebody's own, which takes trained states only."""

    def warm_start(self, states: Sequence[State]) -> None:
        raise ValueError("not trained")


def told(child: Any, parent: str) -> str:
    cls = registry.algorithm(parent)
    return misfit(child, child.Config(**NARROW), cls, cls.Config(**NARROW))


@pytest.mark.parametrize("parent", ["famo2o", "eql", "cql"])
def test_other_networks_are_told(parent: str) -> None:
    assert "other shapes" in told(FINE_TUNING, parent)


@pytest.mark.parametrize("child", [FINE_TUNING, Demanding, Particular, registry.algorithm("jsrl")])
def test_what_fits_or_cannot_be_tried_is_not_refused(child: Any) -> None:
    assert not told(child, "iql")
