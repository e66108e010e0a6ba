"""The price of tuning: what a method scores after so many settings were tried, and what the trying cost.

A published score is that of the best setting somebody found, and nobody pays for finding it online. Here k of
a method's settings are tried on one seed, the one with the best last evaluation is taken, and its score
counts on the other seeds (arXiv:2504.11453; arXiv:2412.07165). All subsets of k settings are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from ..transitions import Array

FEWEST_SETTINGS, FEWEST_SEEDS = 4, 5
"""Settings and seeds below which there is nothing to choose from, or too little to judge it by."""
UNSET = "default"
"""What stands for an option that a run's identity leaves out (``o2obench.agent.later``)."""


@dataclass(frozen=True)
class Price:
    """What ``tried`` settings buy: the score of the chosen one on seeds it was not chosen on.

    ``low`` and ``high`` are the least and the greatest over the seeds that were chosen on; ``env_steps`` is
    what the trying spent.
    """

    tried: int
    env_steps: int
    score: float
    low: float
    high: float


def price_of_tuning(chosen_by: Array, scores: Array, steps_per_try: int) -> list[Price]:
    """Return what 1 to all settings buy.

    Args:
        chosen_by: What is seen while choosing (settings, seeds): the mean of the last evaluation.
        scores: What counts afterwards (settings, seeds).
        steps_per_try: Environment steps that one setting costs on one seed, its evaluation included.

    Returns:
        A price for each number of settings; none with fewer than 4 settings or 5 seeds.
    """
    settings, seeds = scores.shape
    if settings < FEWEST_SETTINGS or seeds < FEWEST_SEEDS:
        return []
    others = (scores.sum(axis=1, keepdims=True) - scores) / (seeds - 1)  # (settings, the seed left out)
    ranked = np.take_along_axis(others, np.argsort(-chosen_by, axis=0, kind="stable"), axis=0)
    prices = []
    for tried in range(1, settings + 1):
        # the setting of rank i is the best of k where all others of the subset rank below it
        best = [comb(settings - 1 - rank, tried - 1) / comb(settings, tried) for rank in range(settings)]
        each = np.array(best) @ ranked
        numbers = (float(each.mean()), float(each.min()), float(each.max()))
        prices.append(Price(tried, tried * steps_per_try, *numbers))
    return prices


def sensitivity(options: Sequence[Mapping[str, object]], scores: Array) -> dict[str, dict[str, float]]:
    """Return, for each option that differs, the mean score over all settings that share a value.

    Args:
        options: The options of each setting.
        scores: Scores (settings, seeds).
    """
    means = scores.mean(axis=1)
    found: dict[str, dict[str, float]] = {}
    for name in sorted({name for each in options for name in each}):
        values = [str(each.get(name, UNSET)) for each in options]
        if len(set(values)) > 1:
            of = {value: np.array([other == value for other in values]) for value in dict.fromkeys(values)}
            found[name] = {value: float(means[members].mean()) for value, members in of.items()}
    return found
