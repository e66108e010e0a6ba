"""IQL goes on with its own losses while it interacts (arXiv:2110.06169, section 5.2).

It takes over all networks, targets, moments and the map of observations and rewards, so nothing changes at
the online start but where transitions come from. Decided where released codes differ:

- The actor's rate is constant (official fine-tuning, PEX); CORL's cosine rises again past its end.
- Batches are drawn from the union of offline and online transitions (CORL, official).
- No learning in the first 1,000 steps, as for all methods here; CORL and the official code start at once, PEX
  after 5,000.
- The reward map of the pretraining holds online, too. The official code scales offline rewards only, which
  its author confirms to be unsupported for locomotion: there is no official number for it.
"""

from __future__ import annotations

from typing import Literal

from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.iql import ImplicitQ, IqlOptions
from o2obench.kit.model_free.online import Online
from o2obench.kit.options import Share


class IqlFinetuneConfig(IqlOptions, OnlineConfig):
    """IQL's options online."""

    replay_data: Literal["union", "online"] | Share = "union"


class IqlFinetune(Online[IqlFinetuneConfig], ImplicitQ[IqlFinetuneConfig]):
    """IQL's losses on new transitions."""

    Config = IqlFinetuneConfig
    pretrain = "iql"
    requires = ("actor", "critics", "value")
