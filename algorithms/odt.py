"""ODT, the Online Decision Transformer (Zheng et al. 2022, arXiv:2202.05607): its offline training.

Network, loss and how it acts are in ``o2obench.kit.odt``. It learns on all episodes of the
data, 5,000 updates.
"""

from __future__ import annotations

from o2obench.agent import Budget, Stage, count
from o2obench.kit.odt import DecisionAgent, OdtOptions
from o2obench.kit.options import Size
from o2obench.transitions import Transitions


class OdtConfig(OdtOptions):
    """ODT's options offline."""

    max_updates: Size | None = count(5000)
    """Updates at most; null: as many as the suite offers."""


class Odt(DecisionAgent[OdtConfig]):
    """A decision transformer with an entropy, on a data set."""

    Config = OdtConfig

    @classmethod
    def stages(cls, config: OdtConfig, budget: Budget) -> tuple[Stage, ...]:
        """Train for the offline budget, or a part of it."""
        updates = budget.offline_updates
        return (Stage("offline", updates=min(updates, config.max_updates or updates)),)

    def begin(self, stage: str) -> None:
        """Order all updates."""
        self.due = self.stages(self.config, self.task.budget)[0].updates

    def observe(self, step: Transitions) -> None:
        """Refuse: this stage has no environment."""
        raise TypeError("odt is trained without the environment; odt_finetune goes on with it")
