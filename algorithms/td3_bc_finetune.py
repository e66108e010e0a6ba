"""TD3+BC goes on with its own losses while it interacts; with ``bc_weight: 0`` it goes on as TD3.

The paper has no fine-tuning. It takes over all networks, targets, moments and the map of observations; it
explores with noise of deviation 0.1, and batches are drawn from the union of offline and online transitions.
TD3 without the regression, started from TD3+BC, is the baseline that OPT (arXiv:2507.08387) calls TD3 (which
does not standardise observations). No learning in the first 1,000 steps, as for all methods here.
"""

from __future__ import annotations

from typing import Literal

from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.online import Online
from o2obench.kit.model_free.td3 import Td3, Td3Options
from o2obench.kit.options import Share


class Td3BcFinetuneConfig(Td3Options, OnlineConfig):
    """TD3+BC's options online."""

    replay_data: Literal["union", "online"] | Share = "union"


class Td3BcFinetune(Online[Td3BcFinetuneConfig], Td3[Td3BcFinetuneConfig]):
    """TD3+BC's losses on new transitions."""

    Config = Td3BcFinetuneConfig
    pretrain = "td3_bc"
    requires = ("actor", "critics")
