"""The policy of a finished run: rebuilt to be looked at, or written as plain arrays for other programs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..agent import Agent, HasNetwork, Network, State
from ..datasets.policy_files import arrays_of, to_npz
from ..envs.spec import find_env
from ..errors import UserError
from ..runs import checkpoint
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.spec import FOREIGN, Run
from ..training.build import build
from ..util.files import usable, write_atomically
from ..util.rng import Stream, generator
from .diff import read_record

TOLERANCE = 1e-5
ROWS = 256
"""Observations on which the arrays must act as the agent does, to this tolerance, before they are written."""


def load(folder: Path) -> tuple[Run, Agent[Any], State]:
    """Return a finished run, its agent with the policy that is evaluated, and the state that it handed over.

    Raises:
        UserError: This is no finished run, its last state is gone, or another version computed it.
    """
    run, _ = read_record(folder)
    run_folder, results = RunFolder(folder, run.id), results_of(folder, run)
    last = run_folder.final_checkpoint()
    whole = checkpoint.read(last) if last else None
    if whole is None:
        raise UserError(
            f"{folder}: is finished, but its checkpoint was lost, corrupted or never published; compute "
            "it again into another folder: start its suite with --results OTHER"
            if run_folder.state() == "done"
            else f"{folder}: is not finished; start its suite again"
        )
    if run.algorithm == FOREIGN:
        raise UserError(f"{folder}: its policy stayed in its program; there is nothing to show")
    agent, state = build([run], results, "cpu", with_data=False), whole["agent"]
    try:
        agent.restore([state])
    except TypeError:
        raise UserError(
            f"{folder}: {run.algorithm} cannot take its own last state over; give it a restore"
        ) from None
    return run, agent, state


def results_of(folder: Path, run: Run) -> ResultsFolder:
    """Return the results folder that a run's folder lies in."""
    return ResultsFolder(folder.resolve().parents[len(Path(run.id).parts) - 1])


def write_policy(folder: Path, out: Path) -> list[str]:
    """Write a finished run's policy into ``out``, FILE.npz and FILE.json or a folder; say what it is.

    The arrays are tried first: on random observations they act as the agent does, or nothing is written.

    Raises:
        UserError: There is no such run, or its algorithm does not hand out such a policy.
    """
    run, agent, _ = load(folder)
    network = agent.network() if isinstance(agent, HasNetwork) else None
    if network is None:
        raise UserError(
            f"{folder}: {run.algorithm} does not show its policy as arrays (network); it can be shown by "
            "`o2obench render`"
        )
    _require_equal(folder, agent, network)
    content = to_npz(network)
    about = _about(run, network) | {"sha256": hashlib.sha256(content).hexdigest()}
    stem = out.with_suffix("") if out.suffix == ".npz" else out / "policy"
    usable(stem.parent)
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("npz", "json")]
    write_atomically(files[0], content)
    write_atomically(files[1], json.dumps(about, indent=1) + "\n")
    sizes = " -> ".join(map(str, about["layers"]))
    return [f"policy: {files[0]}, {files[1].name} ({sizes}, {network.activation}, {network.squash})"]


def _require_equal(folder: Path, agent: Agent[Any], network: Network) -> None:
    draw = generator(agent.task.seeds[0], Stream.POLICY_PROBE)
    obs = draw.normal(size=(ROWS, agent.task.obs_dim)).astype(np.float32)
    actions = agent.act(obs[None], explore=False)[0]
    gap = float(np.abs(network.act(obs[None])[0] - actions).max())
    if not gap <= TOLERANCE:
        raise UserError(
            f"{folder}: the arrays act differently from the agent, by up to {gap:.2g}; not written"
        )


def _about(run: Run, network: Network) -> dict[str, Any]:
    env, shapes = find_env(run.spec.environment), [weight.shape[1:] for weight, _ in network.layers]
    bounds = {
        name: np.broadcast_to(np.asarray(bound, np.float64), (env.act_dim,)).tolist()
        for name, bound in (("action_low", env.low), ("action_high", env.high))
    }
    return {
        "format": 1,
        "run": run.id,
        "identity": run.identity,
        "algorithm": run.algorithm,
        "versions": dict(run.spec.versions),
        "dataset": run.dataset,
        "environment": env.id,
        "seed": run.seed,
        "layers": [shapes[0][0], *(outputs for _, outputs in shapes)],
        "activation": network.activation,
        "squash": network.squash,
        "observations": "raw",
        "actions": "in [-1, 1]; the environment's own are low + (action + 1) / 2 * (high - low)",
        **bounds,
        "arrays": {name: list(array.shape) for name, array in arrays_of(network).items()},
    }
