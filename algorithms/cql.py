"""CQL, conservative Q-learning (Kumar et al. 2020, arXiv:2006.04779), trained offline.

The losses are in ``o2obench.kit.model_free.cql``. Observations and rewards are raw, as in WSRL's row for
locomotion, so that what starts from it shares one pretraining.
"""

from __future__ import annotations

from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.cql import Conservative, CqlOptions
from o2obench.kit.model_free.template import Offline


class CqlConfig(CqlOptions, OfflineConfig):
    """CQL's options offline."""

    normalize_obs: bool = False


class Cql(Offline[CqlConfig], Conservative[CqlConfig]):
    """SAC with conservative critics on a data set."""

    Config = CqlConfig
