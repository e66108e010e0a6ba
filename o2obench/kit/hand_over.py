"""Whether a run can go on from a pretraining, tried on a task of four numbers before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..agent import Agent, Budget, Config, Task
from ..transitions import Transitions

OBS, ACT, ROWS = 4, 2, 8
"""Numbers of an observation and of an action, and transitions, of the task on which it is tried."""


def misfit(child: type[Agent[Any]], config: Config, parent: type[Agent[Any]], of_parent: Config) -> str:
    """Say why ``child`` cannot go on from ``parent`` with these options; empty: it can.

    Both are built with the widths that they will have, and nothing is trained. What cannot be built or begun
    for another reason says nothing.
    """
    task, data = Task(OBS, ACT, ROWS, (0,), None, Budget(1, 1)), _transitions()
    try:
        pretrained = parent(task, of_parent, data)
        guided = replace(task, pretraining=lambda: pretrained)
        heir = child(guided, config, data if child.uses_data else data[:0])
    except Exception:  # noqa: BLE001  (whatever somebody's own algorithm asks of a task)
        return ""
    try:
        heir.warm_start([pretrained.pretrained_state()])
    except (KeyError, RuntimeError):
        return "its networks have other shapes, or it has not all that are taken over"
    except Exception:  # noqa: BLE001
        return ""
    return ""


def _transitions() -> Transitions:
    """Return one episode in which nothing happens."""
    obs, flags = np.zeros((ROWS, OBS), np.float32), np.zeros(ROWS, bool)
    last, first = flags.copy(), flags.copy()
    last[-1] = first[0] = True
    zeros = np.zeros(ROWS, np.float32)
    return Transitions(obs, np.zeros((ROWS, ACT), np.float32), zeros, obs, flags, last, first)
