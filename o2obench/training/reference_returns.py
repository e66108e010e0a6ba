"""What scores of 0 and 100 mean in an environment that nobody has measured: returns of two policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import policy_files
from ..envs.episode import Interaction
from ..envs.spec import EnvSpec
from ..errors import UserError
from ..util.files import read_json, write_atomically
from ..util.rng import Stream, generator
from .evaluation import Arena

EPISODES = 100


def measured(
    spec: EnvSpec, policy: Path | None, seed: int = 0, episodes: int = EPISODES
) -> dict[str, float | str]:
    """Return ``ref_min`` and, with an expert's policy, ``ref_max``, both raw returns, and how they came.

    Args:
        spec: The environment.
        policy: The file of the expert's policy, as `from:` takes it; its actions are not sampled.
        seed: Of start states and random actions.
        episodes: Of each policy.

    Raises:
        UserError: The policy cannot be read, belongs to another task, or is no better than random actions.
    """
    low = round(random_return(spec, seed, episodes), 2)
    how = f"measured here: mean return of {episodes} episodes of uniform random actions (seed {seed})"
    if policy is None:
        return {"ref_min": low, "source": how}
    found = policy_files.read_policy_file(policy)
    found.require_shape(spec.obs_dim, spec.act_dim, spec.id)
    returns = Arena(spec, (seed,)).returns(found.network().act, (Stream.REFERENCE_SCORES,), episodes)
    high = round(float(returns.mean()), 2)
    if high <= low:
        raise UserError(
            f"{policy}: returns {high:g} in {spec.id}, random actions {low:g}; name a policy that is better"
        )
    expert = f"{how}, and of the policy of SHA-256 {found.sha256[:12]}"
    return {"ref_min": low, "ref_max": high, "source": expert}


def random_return(spec: EnvSpec, seed: int, episodes: int = EPISODES) -> float:
    """Return the mean return of episodes of uniform random actions."""
    interaction, draw = Interaction(spec, seed), generator(seed, Stream.RANDOM_ACTIONS)
    returns = list[float]()
    while len(returns) < episodes:
        finished = interaction.step(draw.uniform(-1, 1, spec.act_dim).astype(np.float32))[1]
        if finished:
            returns.append(finished.env_return)
    return float(np.mean(returns))


def write_scores(scores: dict[str, float | str], spec: EnvSpec, file: Path) -> Path:
    """Write measured scores to the card beside a data set; return the card.

    Raises UserError where an end is missing, or the card is none or of another environment.
    """
    card = file if file.suffix == ".json" else file.with_suffix(".json")
    if "ref_max" not in scores:
        raise UserError(f"--write {file}: a score of 100 needs an expert; name its policy with --policy")
    value: Any = read_json(card, follow=True) if card.exists() else {"environment": spec.id}
    if not isinstance(value, dict) or value.get("environment") != spec.id:
        raise UserError(f"{card}: is not the card of a data set of {spec.id}; name another")
    write_atomically(card, json.dumps(value | scores, indent=1) + "\n")
    return card
