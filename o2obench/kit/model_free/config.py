"""Options of the model-free family. Defaults are SAC's (arXiv:1812.05905)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ...agent import Config, count, later
from ..options import Count, Members, Normed, OtherWidths, Rate, Share, Size, Widths


class OffPolicyConfig(Config):
    """Options that all of the family have."""

    hidden_dims: Widths = (256, 256)
    """Widths of the networks' hidden layers."""
    critic_hidden_dims: OtherWidths = None
    """Those of the critics; null: ``hidden_dims``."""
    batch_size: Size = 256
    """Transitions of a batch."""
    gamma: Share = 0.99
    """Discount."""
    tau: Share = 0.005
    """Share of the critics that the targets take over in each update."""
    actor_lr: Rate = 3e-4
    """Learning rate of the actor, and of the temperature where there is one."""
    critic_lr: Rate = 3e-4
    """Learning rate of the critics, and of the value where there is one."""
    num_critics: Members = 2
    """How many critics learn."""
    target_critics: Members | None = None
    """Targets are the least of so many critics, drawn anew in each update; null: of all."""
    target_replacement: bool = False
    """Whether one critic may be drawn twice."""
    layer_norm: Normed = "none"
    """Networks whose layers are normalised, before the activation (arXiv:1607.06450)."""
    init: Literal["uniform", "orthogonal", "xavier"] = "uniform"
    """First weights: +-1/sqrt(inputs), torch's; orthogonal of gain sqrt 2; +-sqrt(6 / (inputs + outputs))."""


class MapOptions(Config):
    """How observations and rewards are mapped. What learns on takes the map over."""

    normalize_obs: bool = False
    """(obs - mean) / (deviation + 0.001), of the offline observations."""
    normalize_reward: bool = False
    """Rewards x 1,000 / (greatest - least return of an offline episode)."""
    reward_scale: Rate = 1.0
    """Every reward is multiplied by it."""
    reward_shift: float = 0.0
    """Added to every reward, after its scale."""


class OfflineConfig(OffPolicyConfig, MapOptions):
    """Options of training without the environment."""

    normalize_obs: bool = True
    max_updates: Size | None = count(None)
    """Updates at most; null: as many as the suite offers."""


class OnlineConfig(OffPolicyConfig):
    """Options of learning with the environment: which transitions a batch has, and when learning happens."""

    replay_data: Literal["union", "online"] | Share = "online"
    """Batches from all transitions alike, from online ones, or with this share of offline ones in each."""
    replay_window: Size | None = None
    """Online transitions are drawn from so many of the newest; null: from all."""
    replay_finished: bool = False
    """Whether online transitions are drawn from finished episodes only."""
    replay_seeded: Count = count(0)
    """Offline transitions that count as online ones from the beginning, drawn with replacement."""
    replay_on_policy: Rate | None = later(None)
    """Draw by how likely the policy finds a transition's episode: the temperature (ARB); null: evenly."""
    learning_starts: Annotated[int, Field(ge=1)] = count(1000)
    """Environment steps before anything is learnt."""
    utd_ratio: Size = count(1)
    """Updates per environment step."""

    @model_validator(mode="after")
    def _draws_from_all(self) -> Self:
        if self.replay_on_policy is None:
            return self
        if self.replay_data != "union":
            raise ValueError("replay_on_policy draws from all transitions; set replay_data: union, too")
        if self.replay_window or self.replay_finished or self.replay_seeded:
            narrowed = "replay_window: null, replay_finished: false, replay_seeded: 0"
            raise ValueError(f"replay_on_policy draws from all transitions; set {narrowed}, too")
        return self
