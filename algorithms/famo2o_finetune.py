"""FamO2O goes on while it interacts (arXiv:2310.17966): the balance policy picks each state's temperature.

It takes over all networks, targets, moments and the maps. Batches are drawn from the union of offline and
online transitions. Decided here: no learning in the first 1,000 steps, as for all methods.
"""

from __future__ import annotations

from typing import Literal

from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.famo2o import FamO2o, FamO2oOptions
from o2obench.kit.model_free.online import Online
from o2obench.kit.options import Share


class FamO2oFinetuneConfig(FamO2oOptions, OnlineConfig):
    """FamO2O's options online."""

    replay_data: Literal["union", "online"] | Share = "union"


class FamO2oFinetune(Online[FamO2oFinetuneConfig], FamO2o[FamO2oFinetuneConfig]):
    """The family and the policy that picks from it learn on new transitions."""

    Config = FamO2oFinetuneConfig
    pretrain = "famo2o"
    requires = ("actor", "critics", "value", "balance")
    picks = True
