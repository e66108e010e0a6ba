"""AWAC goes on with its own losses while it interacts (arXiv:2006.09359, algorithm 1).

It takes over all networks, targets, moments and the map of observations; it acts by samples of its policy,
and batches are drawn from the union of offline and online transitions (CORL). No learning in the first
1,000 steps, as for all methods here; CORL starts at once.
"""

from __future__ import annotations

from typing import Literal

from o2obench.kit.model_free.awac import AdvantageWeighted, AwacOptions
from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.online import Online
from o2obench.kit.options import Share


class AwacFinetuneConfig(AwacOptions, OnlineConfig):
    """AWAC's options online."""

    replay_data: Literal["union", "online"] | Share = "union"


class AwacFinetune(Online[AwacFinetuneConfig], AdvantageWeighted[AwacFinetuneConfig]):
    """AWAC's losses on new transitions."""

    Config = AwacFinetuneConfig
    pretrain = "awac"
    requires = ("actor", "critics")
