"""Options of the model-free family. Defaults are SAC's (arXiv:1812.05905)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...agent import Config, count
from ..options import Rate, Share, Size, Widths


class OffPolicyConfig(Config):
    """Options that all of the family have."""

    hidden_dims: Widths = (256, 256)
    batch_size: Size = 256
    gamma: Share = 0.99
    tau: Share = 0.005
    actor_lr: Rate = 3e-4
    critic_lr: Rate = 3e-4


class OfflineConfig(OffPolicyConfig):
    """Options of training without the environment: how data are mapped. What learns on takes the map over."""

    normalize_obs: bool = True
    """(obs - mean) / (deviation + 0.001), of the offline observations."""
    normalize_reward: bool = False
    """Rewards x 1,000 / (greatest - least return of an offline episode)."""
    reward_shift: float = 0.0
    """Added to every reward, after its scale."""


class OnlineConfig(OffPolicyConfig):
    """Options of learning with the environment."""

    replay_data: Literal["union", "online"] | Share = "online"
    """Batches from all transitions alike, from online ones, or with this share of offline ones in each."""
    learning_starts: Annotated[int, Field(ge=1)] = count(1000)
    utd_ratio: Size = count(1)
