"""REDQ + AdaptiveBC (Zhao et al. 2022, arXiv:2210.13846): the pull to the data follows the returns.

``redq_bc`` goes on with new transitions. At the end of each training episode the regression's weight moves by
the episode's steps times -``gain_target`` (1.05 - R) + ``gain_drop`` max(0, R - r), within 0 and
``bc_weight``: r is the episode's return, R its running mean, both as shares of the way from ``return_low`` to
``return_high``. So it fades while the policy is below the target and returns when performance falls (eq. 6).

Decided here: R begins at the first training episode's return (released code: one evaluation episode, outside
the budget). Without the environment's reference returns, low and high are the least and greatest return in
the data. Exploration noise has a deviation of 0.1; online transitions are joined by ``replay_seeded`` offline
ones; learning starts after 1,000 steps, as for all methods here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from o2obench.agent import State, Task, count
from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.episodes import Episodes
from o2obench.kit.model_free.online import Online
from o2obench.kit.model_free.td3 import Td3
from o2obench.kit.networks import to_array
from o2obench.kit.options import Count, Share, Size, Weight
from o2obench.transitions import Transitions, episode_returns

from .redq_bc import RedqBcOptions

TARGET = 1.05
"""The return that is aimed at, as a share of the way to ``return_high``."""


class AdaptiveBcConfig(RedqBcOptions, OnlineConfig):
    """AdaptiveBC's options."""

    replay_seeded: Count = count(50_000)
    utd_ratio: Size = count(10)
    gain_target: Weight = 3e-5
    """Fall of the weight per step and unit of return below the target."""
    gain_drop: Weight = 1e-4
    """Rise of the weight per step and unit of return below its running mean."""
    momentum: Share = 0.95
    """Share of the running mean that an episode leaves."""
    return_low: float | None = None
    """Return of a random policy; null: the least in the data."""
    return_high: float | None = None
    """Return of an expert; null: the greatest in the data."""


class AdaptiveBc(Online[AdaptiveBcConfig], Td3[AdaptiveBcConfig]):
    """TD3+BC whose regression has a weight of its own for each seed."""

    Config = AdaptiveBcConfig
    pretrain = "redq_bc"
    requires = ("actor", "critics")

    def __init__(self, task: Task, config: AdaptiveBcConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        returns = episode_returns(data)[0] if len(data) else np.array([0.0, 1.0])
        low, high = config.return_low, config.return_high
        self.low = float(returns.min()) if low is None else low
        high = float(returns.max()) if high is None else high
        self.range = max(high - self.low, 1e-6)
        self.episodes = Episodes(len(task.seeds))
        self.weight = torch.full((len(task.seeds),), config.bc_weight, device=task.device)
        self.mean = np.full(len(task.seeds), np.nan)
        """The running mean of returns, NaN before an episode has ended."""

    def bc_weight(self) -> Tensor:
        """Return the weight of the regression now, (seeds,)."""
        return self.weight

    def observe(self, step: Transitions) -> None:
        """Store the step; where an episode ends the weight moves."""
        super().observe(step)
        ended, lengths, returns = self.episodes.step(step)
        share = (returns - self.low) / self.range
        mean = np.where(np.isnan(self.mean), share, self.mean)
        fall = self.config.gain_target * (TARGET - mean)
        rise = self.config.gain_drop * np.maximum(0.0, mean - share)
        moved = np.clip(to_array(self.weight) + lengths * (rise - fall), 0.0, self.config.bc_weight)
        self.weight.copy_(torch.where(torch.from_numpy(ended), torch.from_numpy(moved), self.weight.cpu()))
        momentum = self.config.momentum
        self.mean = np.where(ended, momentum * mean + (1.0 - momentum) * share, self.mean)

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        own = {
            "weight": to_array(self.weight),
            "mean": self.mean.copy(),
            "episodes": self.episodes.state_dict(),
        }
        return {**super().state_dict(), "adaptive": own}

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        own = state["adaptive"]
        self.weight.copy_(torch.from_numpy(own["weight"]))
        self.mean = own["mean"].copy()
        self.episodes.load_state_dict(own["episodes"])
