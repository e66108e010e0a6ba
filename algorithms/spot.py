"""SPOT (Wu et al. 2022, arXiv:2202.06239), trained offline: first the density of the data, then the policy.

The losses are in ``o2obench.kit.model_free.spot``. Decided here: no dropout in the actor (the released code
has 0.1 on locomotion, without a stated effect).
"""

from __future__ import annotations

from o2obench.agent import Budget, Stage
from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.density import DENSITY
from o2obench.kit.model_free.spot import Spot, SpotOptions
from o2obench.kit.model_free.template import Offline


class SpotConfig(SpotOptions, OfflineConfig):
    """SPOT's options offline."""


class OfflineSpot(Offline[SpotConfig], Spot[SpotConfig]):
    """A density of the data's actions, and a deterministic policy that it holds."""

    Config = SpotConfig
    order = (DENSITY, "critics", "actor")

    @classmethod
    def stages(cls, config: SpotConfig, budget: Budget) -> tuple[Stage, ...]:
        """Fit the density, then train for the offline budget."""
        return (Stage(DENSITY), *super().stages(config, budget))

    def due_at_begin(self, stage: str) -> int:
        """Return the updates of the density or of the policy."""
        return self.config.density_updates if stage == DENSITY else super().due_at_begin(stage)
