"""ReBRAC goes on while it interacts (arXiv:2305.09836, section 5.3; released fine-tuning code).

It takes over all networks, targets and moments. Half of each batch is offline, the target is no longer held
to the data, and the actor's regression fades: its weight is multiplied by 1 - t / T, at least by a half, over
the T environment steps. It explores without noise, as the released code has it. Decided here: no learning in
the first 1,000 steps, as for all methods (released code: from the first on); on locomotion, for which nothing
is published, the offline weight of the regression and batches of 256.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.online import Online
from o2obench.kit.model_free.rebrac import Rebrac, RebracOptions
from o2obench.kit.options import Share

LEAST = 0.5


class RebracFinetuneConfig(RebracOptions, OnlineConfig):
    """ReBRAC's options online."""

    replay_data: Literal["union", "online"] | Share = 0.5


class RebracFinetune(Online[RebracFinetuneConfig], Rebrac[RebracFinetuneConfig]):
    """TD3 whose actor is held to each batch's actions, less and less."""

    Config = RebracFinetuneConfig
    pretrain = "rebrac"
    requires = ("actor", "critics")

    def over_time(self, step: int) -> dict[str, float]:
        """Let the weight of the regression fall to a half."""
        left = 1.0 - step / max(1, self.task.budget.online_steps)
        return {"bc_weight": self.config.bc_weight * max(LEAST, left)}

    def bc_weight(self) -> Tensor:
        """Return the weight of the regression now."""
        return self.now["bc_weight"]

    def explore(self, obs: Tensor) -> Tensor:
        """Return the policy's action, without noise."""
        return torch.tanh(self.nets["actor"](obs))
