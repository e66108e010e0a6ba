"""FamO2O (Wang et al. 2023, arXiv:2310.17966) on IQL, trained offline: a family of policies.

The losses are in ``o2obench.kit.model_free.famo2o``. Offline the family learns for all inverse temperatures
alike, and the balance policy learns already which it would pick. For locomotion no configuration of the IQL
version is released; inverse temperatures from 1 to 5 are a port's. The version on CQL is left out.
"""

from __future__ import annotations

from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.famo2o import FamO2o, FamO2oOptions
from o2obench.kit.model_free.template import Offline


class FamO2oConfig(FamO2oOptions, OfflineConfig):
    """FamO2O's options offline."""

    normalize_obs: bool = False
    normalize_reward: bool = True


class OfflineFamO2o(Offline[FamO2oConfig], FamO2o[FamO2oConfig]):
    """Inverse temperatures are drawn evenly."""

    Config = FamO2oConfig
    picks = False
