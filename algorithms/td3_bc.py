"""TD3+BC (Fujimoto and Gu 2021, arXiv:2106.06860), trained offline.

The losses are in ``o2obench.kit.model_free.td3``. Observations are standardised, rewards are raw.
"""

from __future__ import annotations

from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.td3 import Td3, Td3Options
from o2obench.kit.model_free.template import Offline


class Td3BcConfig(Td3Options, OfflineConfig):
    """TD3+BC's options offline."""


class Td3Bc(Offline[Td3BcConfig], Td3[Td3BcConfig]):
    """A deterministic policy that climbs the value and stays close to the data."""

    Config = Td3BcConfig
