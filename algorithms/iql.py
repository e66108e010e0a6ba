"""IQL, implicit Q-learning (Kostrikov et al. 2022, arXiv:2110.06169), trained offline.

The losses are in ``o2obench.kit.model_free.iql``. Decided here, where released codes differ:

- The actor's rate falls to zero by a cosine over the offline updates (CORL, official offline).
- Rewards are scaled to a range of 1,000 between the best and the worst episode (official), which makes
  ``beta`` transferable; observations are standardised (CORL).
"""

from __future__ import annotations

import math

from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.iql import ImplicitQ, IqlOptions
from o2obench.kit.model_free.template import Offline


class IqlConfig(IqlOptions, OfflineConfig):
    """IQL's options offline."""

    normalize_reward: bool = True


class Iql(Offline[IqlConfig], ImplicitQ[IqlConfig]):
    """Implicit Q-learning on a data set."""

    Config = IqlConfig

    def rates(self, update: int) -> dict[str, float]:
        """Anneal the actor's rate to zero over the offline updates."""
        cosine = 0.5 * (1.0 + math.cos(math.pi * update / max(1, self.planned_updates())))
        rates = super().rates(update)
        return {**rates, "actor": rates["actor"] * cosine}
