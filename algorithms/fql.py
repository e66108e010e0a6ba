"""FQL, flow Q-learning (Park et al. 2025, arXiv:2502.02538), trained offline.

The losses are in ``o2obench.kit.model_free.fql``. Observations are not standardised. On locomotion nothing is
published: the weight of the flow's distance and that values are normalised are decided here.
"""

from __future__ import annotations

from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.fql import Flow, FqlOptions
from o2obench.kit.model_free.template import Offline


class FqlConfig(FqlOptions, OfflineConfig):
    """FQL's options offline."""

    normalize_obs: bool = False


class Fql(Offline[FqlConfig], Flow[FqlConfig]):
    """A flow of the data's actions, and a one-step policy that stays near it."""

    Config = FqlConfig
