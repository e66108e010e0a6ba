"""SPOT goes on while it interacts (arXiv:2202.06239, section 5.2): the density's weight fades.

It takes over all networks, targets and the maps; the density stays as it is. Its weight is multiplied by
1 - t / 1,000,000, at least by ``bc_weight_end``, over t online updates. Batches are drawn from the union of
offline and online transitions. Decided where released codes differ: optimisers begin anew (CORL; the official
code keeps their moments), exploration noise is not clipped (CORL clips it at 0.5), no learning in the first
1,000 steps, as for all methods here. For locomotion nothing is published: a last share of 0.2, as on mazes,
and the offline discount are decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from o2obench.agent import KEPT, State, count
from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.online import Online
from o2obench.kit.model_free.spot import Spot, SpotOptions
from o2obench.kit.options import Share, Size


class SpotFinetuneConfig(SpotOptions, OnlineConfig):
    """SPOT's options online."""

    replay_data: Literal["union", "online"] | Share = "union"
    bc_weight_end: Share = 0.2
    """Least share of the density's weight that stays."""
    fade_updates: Size = count(1_000_000)
    """Updates after which nothing of the weight would stay, but for its least share."""


class SpotFinetune(Online[SpotFinetuneConfig], Spot[SpotFinetuneConfig]):
    """TD3 whose actor the density holds, less and less."""

    Config = SpotFinetuneConfig
    pretrain = "spot"
    requires = ("actor", "critics", "density")

    def over_time(self, step: int) -> dict[str, float]:
        """Let the weight of the density fall."""
        config = self.config
        updates = config.utd_ratio * max(0, step - config.learning_starts)
        return {
            "bc_weight": config.bc_weight * max(config.bc_weight_end, 1.0 - updates / config.fade_updates)
        }

    def bc_weight(self) -> Tensor:
        """Return the weight of the density now."""
        return self.now["bc_weight"]

    def warm_start(self, states: Sequence[State]) -> None:
        """Take all learners over; optimisers begin anew."""
        self.take_networks(states, **{name: name for name in self.nets})

    def taken_over(self) -> Mapping[str, str]:
        """Say what begins anew."""
        return dict.fromkeys(("actor", "critics"), f"{KEPT}, moments forgotten")
