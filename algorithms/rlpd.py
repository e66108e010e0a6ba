"""RLPD, reinforcement learning with prior data (Ball et al. 2023, arXiv:2302.02948): no pretraining.

SAC from scratch; half of every batch is offline, the critics are ten with normalised layers, the target is
the least of two drawn ones, and ``utd_ratio`` updates of the critics are followed by one of the policy, which
climbs the critics' mean, and of the temperature, on the last batch.

Decided where the paper, its code and this benchmark differ: 1,000 uniformly random actions before learning,
as for all methods here (README: 5,000); the logarithm of alpha is learnt as in SAC (the code learns alpha
itself, which is slower where it is small). Entropy counts in the target on locomotion, not in mazes and
hands.
"""

from __future__ import annotations

from typing import Literal

from o2obench.agent import Task, count
from o2obench.kit.model_free.config import MapOptions
from o2obench.kit.model_free.sac import OnlineSac, OnlineSacOptions
from o2obench.kit.options import Members, Normed, Share, Size
from o2obench.transitions import Transitions


class RlpdConfig(OnlineSacOptions, MapOptions):
    """RLPD's options; the defaults are those of locomotion."""

    num_critics: Members = 10
    target_critics: Members | None = 2
    layer_norm: Normed = "critics"
    init: Literal["uniform", "orthogonal", "xavier"] = "xavier"
    actor_value: Literal["min", "mean"] = "mean"
    target_entropy: float | None = None
    """null: minus half the number of action components."""
    replay_data: Literal["union", "online"] | Share = 0.5
    utd_ratio: Size = count(20)
    policy_updates: Literal["each", "last", "all"] = "last"


class Rlpd(OnlineSac[RlpdConfig]):
    """SAC with an ensemble, on offline and online data alike."""

    Config = RlpdConfig
    random_start = True

    def __init__(self, task: Task, config: RlpdConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        if len(data):
            self.fit_maps(config, data)

    def target_entropy(self) -> float:
        """Return half of SAC's."""
        return super().target_entropy() * (0.5 if self.config.target_entropy is None else 1.0)
