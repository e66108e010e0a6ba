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

from o2obench.agent import State, Task
from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.rebrac import Rebrac, RebracOptions
from o2obench.kit.model_free.template import Online
from o2obench.kit.options import Share
from o2obench.transitions import Transitions

LEAST = 0.5


class RebracFinetuneConfig(RebracOptions, OnlineConfig):
    """ReBRAC's options online."""

    replay_data: Literal["union", "online"] | Share = 0.5


class RebracFinetune(Online[RebracFinetuneConfig], Rebrac[RebracFinetuneConfig]):
    """TD3 whose actor is held to each batch's actions, less and less."""

    Config = RebracFinetuneConfig
    pretrain = "rebrac"
    requires = ("actor", "critics")

    def __init__(self, task: Task, config: RebracFinetuneConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.weight = torch.tensor(config.bc_weight, device=task.device)

    def bc_weight(self) -> Tensor:
        """Return the weight of the regression now."""
        return self.weight

    def explore(self, obs: Tensor) -> Tensor:
        """Return the policy's action, without noise."""
        return torch.tanh(self.nets["actor"](obs))

    def observe(self, step: Transitions) -> None:
        """Store the step; the regression fades."""
        super().observe(step)
        self._fade()

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        self._fade()

    def _fade(self) -> None:
        left = 1.0 - self.replay.online / max(1, self.task.budget.online_steps)
        self.weight.fill_(self.config.bc_weight * max(LEAST, left))
