"""AWAC, advantage-weighted actor-critic (Nair et al. 2020, arXiv:2006.09359), trained offline.

The losses are in ``o2obench.kit.model_free.awac``. Observations are standardised, rewards are raw (CORL).
"""

from __future__ import annotations

from o2obench.kit.model_free.awac import AdvantageWeighted, AwacOptions
from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.template import Offline


class AwacConfig(AwacOptions, OfflineConfig):
    """AWAC's options offline."""


class Awac(Offline[AwacConfig], AdvantageWeighted[AwacConfig]):
    """Advantage-weighted regression on a data set."""

    Config = AwacConfig
