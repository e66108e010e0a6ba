"""Seeds: every random number comes from a stream that is derived from (seed, purpose).

No stream depends on an algorithm's name or configuration, so two algorithms with one seed meet the
same start states, and no two purposes share numbers.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import numpy as np


class Stream(StrEnum):
    """The purposes for which this project draws random numbers.

    The values are hashed into seeds: they are part of the protocol, and another spelling gives other numbers.
    An algorithm may name purposes of its own; any text is one.
    """

    # episodes
    EVALUATION = "evaluation"
    AT_ONLINE_START = "switch"
    AT_ENV_STEPS = "steps"
    AT_UPDATES = "updates"
    AT_LEVEL = "level"
    TRAINING_EPISODE = "episode"
    # networks
    INIT = "init"
    ACTOR = "actor"
    CRITICS = "critics"
    ENSEMBLE = "ensemble"
    # learning
    EXPLORATION = "exploration"
    ROLLOUT_STARTS = "starts"
    ROLLOUT_ACTIONS = "rollout actions"
    ROLLOUT_ELITES = "elites"
    ROLLOUT_NOISE = "model noise"
    REAL_BATCH = "real rows"
    MODEL_BATCH = "model rows"
    SAC_NOISE = "sac noise"
    UNCERTAIN_SET = "uncertain set"
    UNCERTAIN_BATCH = "uncertain rows"
    # model training
    BOOTSTRAP = "bootstrap"
    SHUFFLE = "shuffle"
    OFFLINE_HALF = "offline half"
    OFFLINE_HOLDOUT = "held out"
    ONLINE_HOLDOUT = "held out online"
    OFFLINE_PROBE = "offline probe"
    ONLINE_PROBE = "online probe"
    # looking at finished runs
    DIAGNOSIS = "diagnosis"
    IMAGINED_ACTIONS = "imagined actions"
    IMAGINED_ELITES = "imagined elites"
    IMAGINED_NOISE = "imagined noise"
    POLICY_PROBE = "policy"
    # collecting data
    RANDOM_ACTIONS = "random actions"
    REFERENCE_SCORES = "reference scores"
    COLLECTED_DATA = "data"
    TOY_DATA = "pointmass-mixed-v0"
    MAZE_DATA = "pointmaze-play-v0"


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit number that depends on all arguments and on nothing else."""
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the numpy stream of ``(seed, purpose)``."""
    return np.random.Generator(np.random.PCG64(derive(seed, *purpose)))
