"""CQL with an ensemble, the pretraining of ENOTO (Zhao et al. 2024, arXiv:2306.06871): ten critics.

The target is the least of all ten and the penalty counts for each. The paper does not publish the number; ten
and four sampled actions of each kind in the penalty (a third of the time of ten) are decided here.
"""

from __future__ import annotations

from o2obench.kit.model_free.cql import Conservative
from o2obench.kit.model_free.template import Offline
from o2obench.kit.options import Members, Size

from .cql import CqlConfig


class CqlNConfig(CqlConfig):
    """CQL's options with ten critics."""

    num_critics: Members = 10
    cql_actions: Size = 4


class CqlN(Offline[CqlNConfig], Conservative[CqlNConfig]):
    """SAC with ten conservative critics on a data set."""

    Config = CqlNConfig
