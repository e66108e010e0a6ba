"""Cal-QL, calibrated Q-learning (Nakamoto et al. 2023, arXiv:2303.05479), trained offline.

The losses are in ``o2obench.kit.model_free.cal_ql``. Observations and rewards are raw, as for CQL. The
official code has no locomotion: there G is the sum of dense rewards, and the floor may never be active
(``critics/floored`` tells).
"""

from __future__ import annotations

from o2obench.kit.model_free.cal_ql import Calibrated, CalQlOptions
from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.template import Offline


class CalQlConfig(CalQlOptions, OfflineConfig):
    """Cal-QL's options offline."""

    normalize_obs: bool = False


class CalQl(Offline[CalQlConfig], Calibrated[CalQlConfig]):
    """CQL with a floor under the values that it pushes down."""

    Config = CalQlConfig
