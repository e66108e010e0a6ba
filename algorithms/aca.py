"""ACA, actor-critic alignment (Yu and Zhang 2023): the critic is rebuilt around the offline policy.

What offline training left in the critics is thrown away. The action value is R(s, a) + c(s, a): c is ``w``
times the offline policy's log density, from below softly held at its least value ``prior_width`` deviations
from the mean; R begins as Z(s) of ``sac_ml``, with zero weights for the action, so that at the start only the
offline policy says which action is better. SAC goes on with this value; w falls evenly to ``prior_end`` over
``prior_updates`` updates. The actor's gradient has a norm of at most 0.25, alpha begins at 1.

Only online transitions are kept, and the best ``replay_top_episodes`` of the data where a row says so.
Decided here: the published values are those of 100,000 steps; optimisers begin anew (the released code's
library takes the offline moments over); no learning in the first 1,000 steps, as for
all methods. The paper's policy for mazes (not squashed) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from o2obench.agent import KEPT, State, Task, count, stack_seeds
from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.online import Online
from o2obench.kit.model_free.template import ACTIONS, Values
from o2obench.kit.networks import Mlp
from o2obench.kit.options import Count, Share, Size, Weight
from o2obench.kit.policies import normal_log_prob, tanh_log_slope
from o2obench.kit.replay import Batch
from o2obench.transitions import Transitions, episode_returns

OFFLINE = "offline actor"
MOST_NORM = 0.25


class AcaConfig(OnlineConfig):
    """ACA's options; the defaults are those of medium sets."""

    prior_weight: Weight = 1.0
    """w at the online start."""
    prior_end: Share = 0.5
    """The least w."""
    prior_updates: Size = count(40_000)
    """Updates in which w would fall to 0."""
    prior_width: Weight = 7.0
    """Deviations from the mean beyond which the offline policy's density is no lower."""
    replay_top_episodes: Count = count(0)
    """Offline episodes of the highest returns that count as online transitions from the beginning."""


class Aca(Online[AcaConfig]):
    """SAC whose values begin as the offline policy's density."""

    Config = AcaConfig
    pretrain = "sac_ml"
    requires = ("actor", "states")

    def __init__(self, task: Task, config: AcaConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        if config.replay_top_episodes and len(data):
            rows = torch.from_numpy(rows_of_best(data, config.replay_top_episodes)).to(task.device)
            self.seeded = torch.cat([self.seeded, rows.expand(len(task.seeds), -1)], 1)

    def most_norm(self, name: str) -> float | None:
        """Shorten the actor's gradient."""
        return MOST_NORM if name == "actor" else None

    def networks(self) -> dict[str, Mlp]:
        """Add the offline policy, which no part trains."""
        return {**super().networks(), OFFLINE: self.new_actor()}

    def over_time(self, step: int) -> dict[str, float]:
        """Let w fall."""
        config = self.config
        updates = config.utd_ratio * max(0, step - config.learning_starts)
        left = config.prior_weight * (1.0 - updates / config.prior_updates)
        return {"prior": max(left, min(config.prior_end, config.prior_weight))}

    def prior(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return c(s, a), (seeds, batch)."""
        mean, log_std = of = self.policy_kind.distribution(self.nets[OFFLINE], obs)
        width = self.config.prior_width
        far = torch.stack([mean - width * log_std.exp(), mean + width * log_std.exp()])
        density = normal_log_prob(torch.full_like(mean, width), log_std) - tanh_log_slope(far)
        floor = density.sum(-1).amin(0)
        above = self.policy_kind.log_prob(of, action) - floor
        return self.now["prior"] * (softplus(above) + floor)

    def target_value(self, obs: Tensor, action: Tensor, draws: Values) -> Tensor:
        """Return the least R' plus c, (seeds, batch)."""
        return super().target_value(obs, action, draws) + self.prior(obs, action)

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return what R is fitted to: SAC's target less c of the batch's actions."""
        constants = super().constants(batch, draws)
        return {**constants, "y": constants["y"] - self.prior(batch.obs, batch.action)}

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return SAC's loss of R + c, and log pi, (2, seeds)."""
        action, log_prob = self.sample(batch.obs, draws[ACTIONS], flat)
        value = self.actor_value(self.q("critics", batch.obs, action)) + self.prior(batch.obs, action)
        return torch.stack([(self.alpha()[:, None] * log_prob - value).mean(-1), log_prob.mean(-1)])

    def warm_start(self, states: Sequence[State]) -> None:
        """Take the policy over, twice; build the critics from Z. Alpha and all optimisers begin anew."""
        self.take_networks(states, actor="actor", **{OFFLINE: "actor"})
        values = torch.from_numpy(stack_seeds(states)["nets"]["states"]["flat"]).to(self.task.device)
        for name in ("critics", "targets"):
            self.nets[name].flat.copy_(blind_to_action(values, self.nets[name], self.task.obs_dim))

    def taken_over(self) -> Mapping[str, str]:
        """Say what became of the pretraining's parts."""
        return {"actor": f"{KEPT}, moments forgotten", "critics": "fresh: the pretraining's state values"}


def blind_to_action(values: Tensor, critics: Mlp, obs_dim: int) -> Tensor:
    """Return critics' parameters of networks of the observation alone: zero weights for the action.

    ``values`` is (seeds, 2, parameters), with the critics' hidden widths.
    """
    hidden, act_dim = critics.shapes[0][1], critics.shapes[0][0] - obs_dim
    of_obs, rest = values.split([obs_dim * hidden, values.shape[-1] - obs_dim * hidden], -1)
    nothing = torch.zeros((*values.shape[:-1], act_dim * hidden), device=values.device)
    return torch.cat([of_obs, nothing, rest], -1)


def rows_of_best(data: Transitions, episodes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the row numbers of the ``episodes`` episodes of the highest returns, in the data's order."""
    returns, lengths = episode_returns(data)
    best = np.argsort(-returns, kind="stable")[:episodes]
    episode = np.repeat(np.arange(len(lengths)), lengths)
    return np.flatnonzero(np.isin(episode, best))
