"""PROTO (Li et al. 2023, arXiv:2305.15669): SAC whose policy is tied to its own slow copy, less and less.

The policy of ``eql`` goes on. Its actor pays T (log pi - log pi') for leaving pi', a copy that follows it by
``slow_tau`` an update, beside the temperature alpha times log pi, and climbs the mean of the critics; on
locomotion the target counts both, too (eq. 8; ``entropy_in_target``). T falls evenly to 0 over nine tenths of
the environment steps. Half of each batch is offline, and 10,000 offline transitions count as online ones.

The value function is dropped, policy and slow copy begin as the offline policy, alpha at 0.01, with a target
entropy of -act_dim / 2. Actions are normal around a tanh mean; a density is that of the uncut action.
Decided here: critics are kept, as the paper's text has it, and the moments of both; no learning in the first
1,000 steps, as for all methods. The paper's TD3 variant is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from o2obench.agent import State, count
from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.online import Online
from o2obench.kit.model_free.template import ACTIONS, NEXT_ACTIONS, Values
from o2obench.kit.networks import Mlp
from o2obench.kit.options import Count, Normed, Share, Weight
from o2obench.kit.policies import Gaussian, normal_log_prob
from o2obench.kit.replay import Batch

SLOW = "slow actor"
FADED = 0.9
"""Share of the environment steps after which T is 0."""


class ProtoConfig(OnlineConfig):
    """PROTO's options; the defaults are those of locomotion."""

    replay_data: Literal["union", "online"] | Share = 0.5
    replay_seeded: Count = count(10_000)
    layer_norm: Normed = "all"
    temperature: Weight = 2.0
    """T at the online start."""
    slow_tau: Share = 0.005
    """Share of the policy that its slow copy takes over in each update (mazes and hands: 5e-5)."""
    entropy_in_target: bool = True
    """Whether the target counts what the actor pays (mazes and hands: no)."""


class Proto(Online[ProtoConfig]):
    """SAC, and a slow copy of its policy."""

    Config = ProtoConfig
    pretrain = "eql"
    requires = ("actor", "critics")
    followers: ClassVar[Mapping[str, str]] = {"targets": "critics", SLOW: "actor"}

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return EQL's policy."""
        return Gaussian(act_dim, log_std_min=-5.0)

    def networks(self) -> dict[str, Mlp]:
        """Add the slow copy."""
        return {**super().networks(), SLOW: self.new_actor()}

    def scalars(self) -> dict[str, float]:
        """Return the logarithm of alpha."""
        return {"alpha": math.log(0.01)}

    def target_entropy(self) -> float:
        """Return minus half the number of action components."""
        return -0.5 * self.task.act_dim

    def pace(self, name: str) -> float:
        """Return the slow copy's own share."""
        return self.config.slow_tau if name == SLOW else super().pace(name)

    def over_time(self, step: int) -> dict[str, float]:
        """Let T fall to 0."""
        left = 1.0 - step / max(1.0, FADED * self.task.budget.online_steps)
        return {"temperature": self.config.temperature * max(0.0, left)}

    def paid(self, obs: Tensor, noise: Tensor, flat: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, alpha log pi + T (log pi - log pi'), and log pi, (seeds, batch) each."""
        mean, log_std = self.policy_kind.distribution(self.nets["actor"], obs, flat)
        slow_mean, slow_log_std = self.policy_kind.distribution(self.nets[SLOW], obs)
        raw = mean + log_std.exp() * noise
        log_prob = normal_log_prob(noise, log_std).sum(-1)
        slow = normal_log_prob((raw - slow_mean) * (-slow_log_std).exp(), slow_log_std).sum(-1)
        cost = self.alpha()[:, None] * log_prob + self.now["temperature"] * (log_prob - slow)
        return raw.clamp(-1.0, 1.0), cost, log_prob

    def next_value(self, batch: Batch, draws: Values) -> Tensor:
        """Return min Q' less what the actor pays there, (seeds, batch)."""
        action, cost, _ = self.paid(batch.next_obs, draws[NEXT_ACTIONS])
        value = self.target_value(batch.next_obs, action, draws)
        return value - cost if self.config.entropy_in_target else value

    def actor_value(self, q: Tensor) -> Tensor:
        """Return the mean of the critics, (seeds, batch)."""
        return q.mean(1)

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the means of what the actor pays less the value, and of log pi, (2, seeds)."""
        action, cost, log_prob = self.paid(batch.obs, draws[ACTIONS], flat)
        value = self.actor_value(self.q("critics", batch.obs, action))
        return torch.stack([(cost - value).mean(-1), log_prob.mean(-1)])

    def warm_start(self, states: Sequence[State]) -> None:
        """Take policy, critics and maps over; the slow copy begins as the policy."""
        self.take_networks(states, actor="actor", critics="critics", targets="targets", **{SLOW: "actor"})
        self.take_moments(states, "actor", "critics")
