"""DOOF (ICLR 2025 submission, anonymous): explore by uncertainty, tune the model, then the policy in it.

1. MOPO, the pretraining run. 2. ``explorer``: its policy learns on, rewarded for uncertainty. 3. ``collect``:
the explorer takes 10,000 steps, nothing learns. 4. ``dynamics``: the offline model is tuned on batches of
which half are new rows. 5. ``policy``: MOPO's policy (not the explorer) goes on in that model, penalised as
before; it is the one that is judged, from the beginning. Appendix B's batches: docs/algorithms/doof.md.

Deviations and decisions:

- Eq. 9 and Algorithm 1 give all rewards of step 2 the bonus, B.2 only the uncertain set's. The reward of
  model rows is ``explorer_reward``: bonus (the default), penalty (MOPO's), raw; offline rows keep theirs.
- Not printed: Table 3's ratio (1 is the method), the explorer's length (50,000 fit the paper's hours).
- Real rows of step 5 are offline ones (B.5; Eq. 10: all). Model rows of an earlier step are forgotten.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from o2obench.agent import Budget, Stage, State, Task, Transitions, count
from o2obench.kit.model_based.template import ModelBased, ModelBasedConfig, Rate, Share, Size, Weight
from o2obench.util.rng import Stream


class DoofConfig(ModelBasedConfig):
    """Options; ``penalty`` (lambda_off) and ``horizon`` are MOPO's for the data set."""

    ratio: Weight = 1.0  # lambda_on / lambda_off; 0 collects with MOPO's policy (Fig. 6)
    explorer_reward: Literal["bonus", "penalty", "raw"] = "bonus"
    explorer_updates: Size = count(50_000)
    collect: Size = count(10_000)  # environment steps
    uncertain_rows: Size = count(10_000)
    policy_updates: Size = count(300_000)
    rounds: Size = 1  # 2 repeats steps 2 to 5 from the tuned model and policy (Fig. 6c)
    actor_rate: Rate = 1e-4  # constant; MOPO anneals its own
    real_share: Share = 0.025  # of each kind of real rows: int(0.025 * 256) = 6


class Doof(ModelBased[DoofConfig]):
    """Two learners in the template: the policy that is judged, and the explorer."""

    Config = DoofConfig
    version = 2
    pretrain = "mopo"
    paired_fit = True

    def __init__(self, task: Task, config: DoofConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.tuned, self.explorer, self.stage = self.sac, self.new_sac(), ""

    @classmethod
    def stages(cls, config: DoofConfig, budget: Budget) -> tuple[Stage, ...]:
        """Explorer, collect, dynamics, policy; in later rounds with the round's number."""
        steps = min(config.collect, budget.online_steps // config.rounds)
        first = [Stage("explorer", 0, config.explorer_updates)] if config.ratio else []
        first += [Stage("collect", steps), Stage("dynamics"), Stage("policy", 0, config.policy_updates)]
        later = range(2, config.rounds + 1)
        return (*first, *(Stage(f"{s.name} {k}", s.env_steps, s.updates) for k in later for s in first))

    def begin(self, stage: str) -> None:
        """Begin a step: whose turn it is, from what it learns; optimisers and model rows start afresh."""
        self._enter(stage.split()[0])
        if self.stage == "explorer" or (self.stage == "collect" and not self.config.ratio):
            self.explorer.load_networks(self.tuned.networks())
        if self.stage == "explorer":
            self._draw_uncertain()
        self.due_fit = self.stage == "dynamics"
        self.model.adam.forget()
        self.sac.forget()
        self.replay.clear_ring()

    def _enter(self, stage: str) -> None:
        """Note the stage, and whose turn it is to learn and act."""
        self.stage = stage
        self.sac = self.explorer if stage in ("explorer", "collect") else self.tuned

    def _draw_uncertain(self) -> None:
        """Draw the uncertain set: offline rows whose reward holds the bonus."""
        replay = self.replay
        drawn = replay.offline_index(self.streams.uniform(Stream.UNCERTAIN_SET, self.config.uncertain_rows))
        rows, bonus = replay.rows[drawn], self.config.ratio * self.config.penalty * self.uncertainty(drawn)
        rows[..., replay.obs_dim + replay.act_dim] += bonus
        replay.set_extra(rows)

    def penalty(self) -> float:
        """Return lambda_off, or what the explorer's model rows are charged instead."""
        charged = {"bonus": -self.config.ratio, "penalty": 1.0, "raw": 0.0}[self.config.explorer_reward]
        return self.config.penalty * (charged if self.stage == "explorer" else 1.0)

    def starts(self, rows: int) -> Tensor:
        """Return half offline rows, half rows of the uncertain set or, in step 5, collected ones."""
        replay, uniform = self.replay, self.streams.uniform(Stream.ROLLOUT_STARTS, rows)
        first, second = uniform.tensor_split([rows // 2], -1)
        after = replay.online_index if replay.online else replay.offline_index
        other = replay.extra_index if self.stage == "explorer" else after
        return torch.cat([replay.offline_index(first), other(second)], -1)

    def real_batch(self, updates: int) -> Tensor:
        """Return 6 offline rows of 256, and for the explorer 6 of the uncertain set."""
        kinds = {Stream.REAL_BATCH: self.replay.offline_index}
        if self.stage == "explorer":
            kinds[Stream.UNCERTAIN_BATCH] = self.replay.extra_index
        real = int(self.config.real_share * self.config.batch)
        return torch.cat([of(self.streams.uniform(kind, updates, real)) for kind, of in kinds.items()], -1)

    def extra_rows(self) -> int:
        """Return the size of the uncertain set."""
        return self.config.uncertain_rows

    def state_dict(self) -> State:
        """Return everything, the explorer included."""
        return {**super().state_dict(), "explorer": self.explorer.state_dict(), "stage": self.stage}

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        self.explorer.load_state_dict(state["explorer"])
        self._enter(state["stage"])
