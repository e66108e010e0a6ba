"""From a run's identity to the agent that computes it."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from .. import registry
from ..agent import Agent, Config, Network, Program, Task
from ..datasets import policy_files
from ..datasets.registry import find_dataset
from ..envs.own import with_rule
from ..envs.spec import EnvSpec, find_env
from ..errors import UserError
from ..runs.folder import ResultsFolder
from ..runs.spec import Run, RunSpec
from ..transitions import Transitions
from ..util import files
from ..util.files import read_json


def agent_class(spec: RunSpec) -> type[Agent[Any]]:
    """Return the class that computes ``spec``; refuse when this installation has another version."""
    agent = registry.algorithm(spec.algorithm)
    versions = registry.versions(spec.algorithm)
    if versions != spec.versions:
        planned, installed = (
            ", ".join(f"{k} {v}" for k, v in of.items()) for of in (spec.versions, versions)
        )
        raise UserError(
            f"{spec.algorithm}: planned with {planned}, this installation has {installed}; "
            "start the suite again"
        )
    return agent


def config_of(spec: RunSpec, agent: type[Agent[Any]]) -> Config:
    """Return the typed options of a run; raise UserError where its record holds none."""
    try:
        return agent.Config.model_validate_json(json.dumps(spec.config))
    except ValidationError as error:
        first = error.errors()[0]
        option, problem = ".".join(map(str, first["loc"])), first["msg"].lower()
        raise UserError(
            f"{spec.algorithm}: option {option}: {problem}; the record of the run was edited, start it again"
        ) from None


def build(
    runs: Sequence[Run],
    results: ResultsFolder,
    device: str,
    with_data: bool = True,
    program: Program | None = None,
) -> Agent[Any]:
    """Build the agent that computes ``runs``; without data it can be given a policy, and act."""
    first = runs[0]
    data = no_data(find_env(first.spec.environment))
    if first.spec.data and with_data and agent_class(first.spec).uses_data:
        data = find_dataset(first.dataset).load(first.spec.data.sha256, first.spec.data.recipe)
    pretraining = None
    if first.parent:
        parent = functools.partial(_parent_spec, first, results)
        pretraining = functools.partial(_without_data, parent, runs, results, device)
    return _build(first.spec, [run.seed for run in runs], data, device, results, pretraining, program)


def _build(
    spec: RunSpec,
    seeds: Sequence[int],
    data: Transitions,
    device: str,
    results: ResultsFolder,
    pretraining: Any,
    program: Program | None = None,
) -> Agent[Any]:
    env, agent = find_env(spec.environment), agent_class(spec)
    env = env if spec.terminal is None else with_rule(env, spec.terminal)
    task = Task(
        obs_dim=env.obs_dim,
        act_dim=env.act_dim,
        horizon=env.horizon,
        seeds=tuple(seeds),
        terminal=env.terminal,
        budget=spec.budget,
        device=device,
        pretraining=pretraining,
        policy=_policy(spec, results),
        program=program,
    )
    return agent(task, config_of(spec, agent), data)


def _without_data(parent: Any, runs: Sequence[Run], results: ResultsFolder, device: str) -> Agent[Any]:
    """Build the agent of the pretraining, to act only."""
    spec: RunSpec = parent()
    return _build(
        spec, [run.seed for run in runs], no_data(find_env(spec.environment)), device, results, None
    )


def _parent_spec(run: Run, results: ResultsFolder) -> RunSpec:
    """Return the identity of the run that one starts from, as its folder holds it."""
    folder = results.run(run.parent or "")
    record = read_json(folder.record)
    try:
        return RunSpec.from_json(record["run"]["spec"])
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{folder.record}: is missing or corrupted; remove that folder, and the suite computes it again"
        ) from None


def _policy(spec: RunSpec, results: ResultsFolder) -> Network | None:
    """Return the user's own policy that a run shows."""
    sha256 = spec.config.get("sha256")
    if not (isinstance(sha256, str) and sha256):
        return None
    file = results.policy_file(sha256)
    if not files.is_file(file) or files.sha256(file) != sha256:
        raise UserError(
            f"{file}: is not the policy of its name; start the suite again, with the original file"
        )
    return policy_files.load_network(file, spec.config["activation"], spec.config["squash"])


def no_data(spec: EnvSpec) -> Transitions:
    """Return an empty data set, for algorithms that start from nothing."""
    obs, action = np.zeros((0, spec.obs_dim), np.float32), np.zeros((0, spec.act_dim), np.float32)
    return Transitions(obs, action, np.zeros(0, np.float32), obs, *(np.zeros(0, bool),) * 3)
