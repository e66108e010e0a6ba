"""CQL goes on with its own losses while it interacts: the baseline of Cal-QL (arXiv:2303.05479).

It takes over all networks, targets, temperature and moments, keeps the penalty at its offline weight (as
every released configuration does), acts by samples of its policy, and half of each batch is offline
(Cal-QL, WSRL; CORL draws from the union: ``replay_data: union``). No learning in the first 1,000 steps, as
for all methods here.
"""

from __future__ import annotations

from typing import Literal

from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.cql import Conservative, CqlOptions
from o2obench.kit.model_free.online import Online
from o2obench.kit.options import Share


class CqlFinetuneConfig(CqlOptions, OnlineConfig):
    """CQL's options online."""

    replay_data: Literal["union", "online"] | Share = 0.5


class CqlFinetune(Online[CqlFinetuneConfig], Conservative[CqlFinetuneConfig]):
    """CQL's losses on new transitions."""

    Config = CqlFinetuneConfig
    pretrain = "cql"
    requires = ("actor", "critics")
