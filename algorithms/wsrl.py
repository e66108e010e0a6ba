"""WSRL, warm-start reinforcement learning (Zhou et al. 2024, arXiv:2412.07762): no offline data are kept.

``sac_from`` with the paper's switches: nothing offline in the batches, ``learning_starts`` steps collected by
samples of the pretrained policy, then SAC with ``utd_ratio`` updates of the critics a step and one of policy
and temperature, on all of their transitions. The pretraining is CQL on locomotion, Cal-QL elsewhere.

The paper's critics are ten with the target the least of two, drawn with replacement, and normalised layers,
in the pretraining, too: ``num_critics`` and ``layer_norm`` have to be the pretraining's, or the critics begin
anew. Decided where this benchmark and the released code differ: 1,000 steps of warm-up, as
for all methods here (5,000 in suite wsrl_locomotion); the logarithm of alpha is learnt as in SAC (the code: a
softplus multiplier, entropy of actions at next observations); Adam takes no steps with zero gradients. The
code's does (policy and temperature: four for a real one), which moves the policy sqrt 5 times as far as its
rate says: 2.2e-4 in suite wsrl_locomotion.
"""

from __future__ import annotations

from typing import Literal

from o2obench.agent import count
from o2obench.kit.options import Size

from .sac_from import SacFrom, SacFromConfig


class WsrlConfig(SacFromConfig):
    """WSRL's options; twin critics, as ``cql`` has by default."""

    utd_ratio: Size = count(4)
    policy_updates: Literal["each", "last", "all"] = "all"


class Wsrl(SacFrom):
    """SAC after a warm-up with the pretrained policy."""

    Config = WsrlConfig
    requires = ("actor", "critics")
