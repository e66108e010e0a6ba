"""ReBRAC (Tarasov et al. 2023, arXiv:2305.09836), trained offline.

The losses are in ``o2obench.kit.model_free.rebrac``; here the target is held to the data, too (eq. 7): it is
lowered where the target policy, with its clipped noise, leaves the action that the data take next. At the
last step of an episode that the clock ends there is no such action and nothing is taken off (released code:
any value stands there). Batches of 1,024 transitions; observations are not standardised.
"""

from __future__ import annotations

from torch import Tensor

from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.rebrac import Rebrac, RebracOptions, next_actions
from o2obench.kit.model_free.template import Offline, Values
from o2obench.kit.options import Size, Weight
from o2obench.kit.replay import Batch
from o2obench.transitions import Array, Transitions

NEXT_ACTION = "next_action"


class RebracConfig(RebracOptions, OfflineConfig):
    """ReBRAC's options offline."""

    batch_size: Size = 1024
    normalize_obs: bool = False
    critic_bc: Weight = 0.01
    """Weight of the target's distance from the data's next action (the paper's beta 2)."""


class OfflineRebrac(Offline[RebracConfig], Rebrac[RebracConfig]):
    """A deterministic policy and its values, both held to the data."""

    Config = RebracConfig

    def columns(self, data: Transitions) -> dict[str, Array]:
        """Return the action that the data take next."""
        return {NEXT_ACTION: next_actions(data)}

    def next_value(self, batch: Batch, draws: Values) -> Tensor:
        """Return TD3's next value less critic_bc |a' - the data's next action|^2, (seeds, batch)."""
        action = self.target_action(batch, draws)
        distance = (action - batch.columns[NEXT_ACTION]).square().nan_to_num(nan=0.0).sum(-1)
        return self.target_value(batch.next_obs, action, draws) - self.config.critic_bc * distance
