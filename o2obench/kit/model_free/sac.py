"""SAC's losses with the choices that decide fine-tuning as options (arXiv:1812.05905).

Critics of any number, a target from a random subset of them (REDQ, arXiv:2101.05982), an actor that climbs
their least or mean value, the entropy in the target or not; online, one update of the policy for each of the
critics' or for each environment step.
"""

from __future__ import annotations

from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from ...agent import Task
from ...transitions import Transitions
from ...util.rng import Stream
from .config import OffPolicyConfig, OnlineConfig
from .online import Online
from .template import ACTIONS, Draw, OffPolicy


class SacOptions(OffPolicyConfig):
    """Options of the losses."""

    entropy_in_target: bool = True
    """Whether the target counts the entropy of the next action."""
    target_entropy: float | None = None
    """null: minus the number of action components."""
    actor_value: Literal["min", "mean"] = "min"
    """What the actor climbs: the least value of the critics, or their mean."""


C = TypeVar("C", bound=SacOptions)


class SoftActorCritic(OffPolicy[C], Generic[C]):
    """The template's losses, as the options say."""

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.entropy_in_target = config.entropy_in_target

    def actor_value(self, q: Tensor) -> Tensor:
        """Return the least or the mean value of the critics, (seeds, batch)."""
        return q.mean(1) if self.config.actor_value == "mean" else super().actor_value(q)

    def target_entropy(self) -> float:
        """Return the option's value."""
        entropy = self.config.target_entropy
        return super().target_entropy() if entropy is None else entropy


class OnlineSacOptions(SacOptions, OnlineConfig):
    """Options of SAC with the environment."""

    policy_updates: Literal["each", "last", "all"] = "each"
    """Policy and temperature learn in each update; or once a step, from its last batch or all of them."""


D = TypeVar("D", bound=OnlineSacOptions)


class OnlineSac(Online[D], SoftActorCritic[D], Generic[D]):
    """SAC with the environment."""

    random_start: ClassVar[bool] = False
    """Whether actions are uniformly random before learning starts."""

    def explore(self, obs: Tensor) -> Tensor:
        """Act by a sample of the policy, in the beginning at random if the algorithm says so."""
        if self.random_start and self.replay.online < self.config.learning_starts:
            return self.streams.actions(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim)
        return super().explore(obs)

    def every(self) -> dict[str, int]:
        """Let policy and temperature wait for the last update of a step, if the option says so."""
        if self.config.policy_updates == "each":
            return {}
        return dict.fromkeys(("actor", "alpha"), self.config.utd_ratio)

    def draws(self) -> dict[str, Draw]:
        """Draw an action for each transition that the policy learns from."""
        draws = super().draws()
        if self.config.policy_updates == "all":
            draws[ACTIONS] = ("normal", (self.config.utd_ratio * self.config.batch_size, self.task.act_dim))
        return draws

    def row_numbers(self, updates: int) -> Tensor:
        """Return batches, and behind each all batches of its step if the policy learns from them."""
        rows = self.batches(updates)
        if self.config.policy_updates != "all" or "actor" not in self.parts_of(self.stage):
            return rows
        of_step = rows.unflatten(1, (-1, self.config.utd_ratio)).flatten(2)
        return torch.cat([rows, of_step.repeat_interleave(self.config.utd_ratio, 1)], -1)
