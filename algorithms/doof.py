"""DOOF (ICLR 2025 submission, anonymous): explore by uncertainty, tune the model, then the policy in it.

1. MOPO (the pretraining run). 2. ``explorer``: MOPO's policy learns on, rewarded for uncertainty. 3.
``collect``: the explorer takes 10,000 steps, nothing learns. 4. ``dynamics``: the offline model is tuned on
batches of which half are new rows. 5. ``policy``: MOPO's policy (not the explorer) goes on in that model,
penalised as before. The policy that is judged is MOPO's until step 5, also while the explorer acts.

Batches of 256 (Appendix B): step 2 has 6 offline rows, 6 of the uncertain set and 244 of the offline model,
whose rollouts start half from offline rows, half from the uncertain set; step 5 has 6 offline rows and 250 of
the tuned model, whose rollouts start half from offline, half from collected rows.

Deviations and decisions:

- Eq. 9 and Algorithm 1 give all rewards of step 2 the bonus, B.2 only the uncertain set's. The reward of
  model rows is ``explorer_reward``: bonus (the default), penalty (MOPO's), raw; offline rows keep theirs.
- lambda_on = ratio * lambda_off; Table 3 does not say which ratio its cells use. 1 is the method, the others
  stand beside it, never the best of four. Ratio 0 collects with MOPO's policy (Fig. 6).
- The explorer's length is not printed; the paper's hours leave room for 50,000 updates. Rates are constant.
- Eq. 10 draws from all data in both tunings, B.5 step 5's real rows from the offline ones. B.5 holds. Model
  rows of an earlier step are forgotten: another model, another reward.
- A pass of step 4 traverses the new rows once, 128 a batch, each with 128 offline rows. ``rounds: 2`` repeats
  steps 2 to 5 from the tuned model and policy (Fig. 6c).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from o2obench.agent import Budget, Metrics, Stage, State, Task, Transitions, count
from o2obench.kit.modelbased import ModelBased, ModelBasedConfig, Rate, Share, Size
from o2obench.kit.sac import Sac


class DoofConfig(ModelBasedConfig):
    """Options; ``penalty`` (lambda_off) and ``horizon`` are MOPO's for the data set."""

    ratio: Annotated[float, Field(ge=0)] = 1.0  # lambda_on / lambda_off
    explorer_reward: Literal["bonus", "penalty", "raw"] = "bonus"
    explorer_updates: Size = count(50_000)
    collect: Size = count(10_000)  # environment steps
    uncertain_rows: Size = count(10_000)
    policy_updates: Size = count(300_000)
    rounds: Size = 1
    actor_rate: Rate = 1e-4
    real_share: Share = 0.025  # of each kind of real rows: int(0.025 * 256) = 6


class Doof(ModelBased[DoofConfig]):
    """Two learners in the template: the policy that is judged, and the explorer."""

    Config = DoofConfig
    pretrain = "mopo"
    paired_fit = True

    def __init__(self, task: Task, config: DoofConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.tuned, self.explorer, self.stage, self.until = self.sac, self.new_sac(), "", 0

    @classmethod
    def stages(cls, config: DoofConfig, budget: Budget) -> tuple[Stage, ...]:
        """Explorer, collect, dynamics, policy; in later rounds with the round's number."""
        steps = min(config.collect, budget.online_steps // config.rounds)
        first = [Stage("explorer", 0, config.explorer_updates)] if config.ratio else []
        first += [Stage("collect", steps), Stage("dynamics"), Stage("policy", 0, config.policy_updates)]
        rounds = range(2, config.rounds + 1)
        return (*first, *(replace(stage, name=f"{stage.name} {k}") for k in rounds for stage in first))

    def begin(self, stage: str) -> None:
        """Prepare a step: whose turn it is to learn, from what, and how long."""
        self._enter(stage.split()[0])
        if self.stage == "explorer" or (self.stage == "collect" and not self.config.ratio):
            self.explorer.load_networks(self.tuned.networks())
        if self.stage == "explorer":
            self._draw_uncertain()
        self.due_fit = self.stage == "dynamics"
        if self.due_fit:
            self.model.adam.forget()
        updates = {"explorer": self.config.explorer_updates, "policy": self.config.policy_updates}
        self.until = self.updates + updates.get(self.stage, 0)
        if self.stage in updates:
            self.sac.forget()
            self.replay.clear_ring()

    def work(self, stage: str) -> Iterator[Metrics]:
        """Finish what is due, then train this step's policy to its end."""
        yield from super().work(stage)
        yield from self.train_in_model(self.until)

    def observe(self, step: Transitions) -> None:
        """Store the step; nothing learns while data are collected."""
        self.replay.append(step)

    def penalty(self) -> float:
        """Return lambda_off, or what the explorer's model rows are charged instead."""
        if self.stage != "explorer":
            return self.config.penalty
        reading = {"bonus": -self.config.ratio, "penalty": 1.0, "raw": 0.0}
        return reading[self.config.explorer_reward] * self.config.penalty

    def starts(self, rows: int) -> Tensor:
        """Return half offline rows, half rows of the uncertain set or, in step 5, collected ones."""
        uniform = self.streams.uniform("starts", rows)
        if self.stage != "explorer" and not self.replay.online:
            return self.replay.offline_index(uniform)
        other = self.replay.extra_index if self.stage == "explorer" else self.replay.online_index
        first, second = uniform[:, : rows // 2], uniform[:, rows // 2 :]
        return torch.cat([self.replay.offline_index(first), other(second)], -1)

    def _sac_rows(self, updates: int) -> Tensor:
        """Return the row numbers of batches, in the exact mixes of Appendix B."""
        size, real = self.config.batch, int(self.config.real_share * self.config.batch)
        parts = [self.replay.offline_index(self.streams.uniform("real rows", updates, real))]
        if self.stage == "explorer":
            parts.append(self.replay.extra_index(self.streams.uniform("uncertain rows", updates, real)))
        of_model = self.streams.uniform("model rows", updates, size - real * len(parts))
        return torch.cat([*parts, self.replay.ring_index(of_model)], -1)

    def offline_share(self, offline: int, online: int) -> float:
        """Return the share of offline rows in the tuning of the model."""
        return 0.5 if online else 1.0

    def _draw_uncertain(self) -> None:
        """Draw the uncertain set: offline rows whose reward holds the bonus."""
        replay = self.replay
        drawn = replay.offline_index(self.streams.uniform("uncertain set", self.config.uncertain_rows))
        rows, bonus = replay.rows[drawn], self.config.ratio * self.config.penalty * self.uncertainty(drawn)
        rows[..., replay.obs_dim + replay.act_dim] += bonus
        replay.set_extra(rows)

    def extra_rows(self) -> int:
        """Return the size of the uncertain set."""
        return self.config.uncertain_rows

    @property
    def judged(self) -> Sac:
        """The policy that is tuned, also while the explorer learns and acts."""
        return self.tuned

    def state_dict(self) -> State:
        """Return everything, both learners included."""
        learners = {"sac": self.tuned.state_dict(), "explorer": self.explorer.state_dict()}
        return {**super().state_dict(), **learners, "stage": self.stage, "until": self.until}

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        self.sac, self.until = self.tuned, state["until"]
        super().load_state_dict(state)
        self.explorer.load_state_dict(state["explorer"])
        self._enter(state["stage"])

    def _enter(self, stage: str) -> None:
        """Note the stage, and whose turn it is to learn and act."""
        self.stage = stage
        self.sac = self.explorer if stage in ("explorer", "collect") else self.tuned
