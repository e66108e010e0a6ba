"""From a run's identity to the agent that computes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import registry
from ..agent import Agent, Budget, Task, Transitions
from ..datasets.registry import find_dataset
from ..envs.spec import EnvSpec, find_env
from ..errors import BadInput
from ..runs.folder import Run


def agent_class(run: Run) -> type[Agent[Any]]:
    """Return the class that computes ``run``; refuse when this installation has another version."""
    spec = run.spec
    agent = registry.algorithm(spec["algorithm"])
    if [agent.version, agent.kit_version] != spec["version"]:
        raise BadInput(
            f"{run.id}: planned with version {spec['version']} of {spec['algorithm']} and its kit, this "
            f"installation has {[agent.version, agent.kit_version]}; start the suite again"
        )
    return agent


def build(runs: Sequence[Run], device: str, with_data: bool = True) -> Agent[Any]:
    """Build the agent that computes ``runs``; without data it can be given a policy, and act."""
    spec = runs[0].spec
    env, agent = find_env(spec["environment"]), agent_class(runs[0])
    data = _no_data(env)
    if spec["data"] and with_data:
        data = find_dataset(runs[0].dataset).load(spec["data"]["sha256"])
    task = Task(
        obs_dim=env.obs_dim,
        act_dim=env.act_dim,
        horizon=env.horizon,
        seeds=tuple(run.seed for run in runs),
        terminal=env.terminal,
        budget=Budget(**spec["budget"]),
        device=device,
    )
    return agent(task, agent.Config.model_validate_json(json.dumps(spec["config"])), data)


def _no_data(spec: EnvSpec) -> Transitions:
    """Return an empty data set, for algorithms that start from nothing."""
    obs, action = np.zeros((0, spec.obs_dim), np.float32), np.zeros((0, spec.act_dim), np.float32)
    return Transitions(obs, action, np.zeros(0, np.float32), obs, *(np.zeros(0, bool),) * 3)
