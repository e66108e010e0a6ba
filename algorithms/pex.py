"""PEX, policy expansion (Zhang et al. 2023, arXiv:2302.00935): IQL goes on with a second policy.

The pretraining's policy is kept as it is, a fresh one learns beside it. Each proposes an action, the old one
its mode, the new one a sample, and one of the two is taken with probabilities that are the softmax of
``inverse_temperature`` times their values (eq. 4; the least online critic). V and Q learn as in IQL, from
batches of which half is offline.

Decided where paper and released code differ, or this project does:

- The new policy is fitted to the actions that the two propose for a batch's states, with IQL's weights of
  those actions (released code); ``regress_to: data`` fits it to the batch's actions, as the text can be read.
- Its weights come from the critics and the value after their step, but the targets before theirs.
- It is evaluated by the better of the two modes (released code: with probability 0.1 by a sample instead).
- Learning starts after 1,000 steps, as for all methods here (released code: 5,000); online rows are drawn
  with replacement; optimisers begin anew, and so does nothing else but the new policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from o2obench.agent import KEPT, State
from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.iql import ImplicitQ, IqlOptions
from o2obench.kit.model_free.online import Online
from o2obench.kit.model_free.template import ACTIONS, Draw, Values
from o2obench.kit.networks import Mlp
from o2obench.kit.options import Share, Weight
from o2obench.kit.policies import Gaussian
from o2obench.kit.replay import Batch

OLD, WHICH = "old actor", "which policy"
POLICIES = ("actor", OLD)


class PexConfig(IqlOptions, OnlineConfig):
    """PEX's options."""

    replay_data: Literal["union", "online"] | Share = 0.5
    init: Literal["uniform", "orthogonal", "xavier"] = "xavier"
    inverse_temperature: Weight = 3.0
    """Of the choice between the two; 0 chooses blindly (released code: 10; ports on locomotion: 3)."""
    regress_to: Literal["proposed", "data"] = "proposed"
    """What the new policy is fitted to: the actions that the two propose, or the batch's."""


class Pex(Online[PexConfig], ImplicitQ[PexConfig]):
    """Two policies, and values that choose between them."""

    Config = PexConfig
    pretrain = "iql"
    requires = ("actor", "critics", "value")
    judged = (*POLICIES, "critics")

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return IQL's policy, its log deviation at least -5."""
        return Gaussian(act_dim, log_std_min=-5.0)

    def networks(self) -> dict[str, Mlp]:
        """Add the pretraining's policy, which no part trains."""
        return {**super().networks(), OLD: self.new_actor()}

    def draws(self) -> dict[str, Draw]:
        """Draw the new policy's proposals and which one is taken."""
        batch = self.config.batch_size
        own: dict[str, Draw] = {ACTIONS: ("normal", (batch, self.task.act_dim)), WHICH: ("uniform", (batch,))}
        return {**super().draws(), **own}

    def chosen(self, obs: Tensor, proposed: Tensor, which: Tensor) -> Tensor:
        """Return the old policy's mode or the proposed action, by their values and numbers in [0, 1)."""
        old = self.policy_kind.mode(self.policy_kind.distribution(self.nets[OLD], obs))
        gain = self.q("critics", obs, proposed).amin(1) - self.q("critics", obs, old).amin(1)
        takes_new = which < torch.sigmoid(self.config.inverse_temperature * gain)
        return torch.where(takes_new[..., None], proposed, old)

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the regression to the actions that the policies propose, (2, seeds)."""
        if self.config.regress_to == "data":
            return super().actor_loss(flat, batch, draws, constants)
        proposed = self.sample(batch.obs, draws[ACTIONS])[0]
        action = self.chosen(batch.obs, proposed, 0.5 * (draws[WHICH] + 1.0))
        advantage = self.q("targets", batch.obs, action).amin(1) - self.v(batch.obs)
        weight = (self.config.beta * advantage).detach()
        return self.weighted_regression(
            flat, batch._replace(action=action.detach()), weight, self.dropout(draws)
        )

    def explore(self, obs: Tensor) -> Tensor:
        """Return one of the two policies' actions, by chance."""
        which = self.streams.uniform(WHICH, *obs.shape[1:-1])
        return self.chosen(obs, self.policy_action(obs), which)

    def judge(self, obs: Tensor) -> Tensor:
        """Return the better of the two modes."""
        modes = {
            name: self.policy_kind.mode(self.policy_kind.distribution(self.nets[name], obs))
            for name in POLICIES
        }
        value = {name: self.q("critics", obs, mode).amin(1) for name, mode in modes.items()}
        return torch.where((value["actor"] > value[OLD])[..., None], modes["actor"], modes[OLD])

    def warm_start(self, states: Sequence[State]) -> None:
        """Take values and maps over, and the policy as the old one."""
        self.take_networks(states, critics="critics", targets="targets", value="value", **{OLD: "actor"})

    def taken_over(self) -> Mapping[str, str]:
        """Say what begins anew."""
        forgotten = f"{KEPT}, moments forgotten"
        return {"actor": "fresh beside the pretraining's", "critics": forgotten, "value": forgotten}
