"""REDQ with behaviour cloning (Zhao et al. 2022, arXiv:2210.13846), trained offline: TD3+BC with ten critics.

The target is the least of two drawn critics (REDQ, arXiv:2101.05982), the actor climbs the mean of all over
its mean absolute value and is held to the data's actions by a squared error. It is the pretraining of
``adaptive_bc``. Decided here: first weights are TD3's (released code: truncated normal for critics), and
observations are standardised as for TD3+BC.
"""

from __future__ import annotations

from typing import Literal

from o2obench.agent import later
from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.td3 import Td3, Td3Options
from o2obench.kit.model_free.template import Offline
from o2obench.kit.options import Members, Weight


class RedqBcOptions(Td3Options):
    """Options of the losses, offline and online."""

    num_critics: Members = 10
    target_critics: Members | None = 2
    actor_value: Literal["first", "min", "mean"] = later("mean")
    td3_alpha: Weight = 1.0
    bc_weight: Weight = 0.4
    """Weight of the squared error to the batch's actions."""


class RedqBcConfig(RedqBcOptions, OfflineConfig):
    """REDQ+BC's options offline."""


class RedqBc(Offline[RedqBcConfig], Td3[RedqBcConfig]):
    """Ten critics and a deterministic policy that stays close to the data."""

    Config = RedqBcConfig
