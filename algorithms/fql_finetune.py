"""FQL goes on with the same losses while it interacts (arXiv:2502.02538, section 5.2).

It takes over all networks, targets and moments; batches are drawn from the union of offline and online
transitions. Decided here: no learning in the first 1,000 steps, as for all methods.
"""

from __future__ import annotations

from typing import Literal

from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.fql import Flow, FqlOptions
from o2obench.kit.model_free.online import Online
from o2obench.kit.options import Share


class FqlFinetuneConfig(FqlOptions, OnlineConfig):
    """FQL's options online."""

    replay_data: Literal["union", "online"] | Share = "union"


class FqlFinetune(Online[FqlFinetuneConfig], Flow[FqlFinetuneConfig]):
    """Flow and policy learn on from all transitions."""

    Config = FqlFinetuneConfig
    pretrain = "fql"
    requires = ("actor", "critics")
