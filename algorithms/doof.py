"""DOOF (ICLR 2025 submission, anonymous): explore by uncertainty, fine-tune the model, then the policy in it.

1. MOPO, the pretraining run. 2. ``explorer``: its policy learns on, rewarded for uncertainty. 3. ``collect``:
the explorer takes 10,000 steps, nothing learns. 4. ``dynamics``: the offline model goes on with batches of
which half are online transitions. 5. ``policy``: MOPO's policy (not the explorer) goes on in that model,
penalised as before; it is the one that is evaluated, from the beginning. Appendix B's batches:
docs/algorithms/doof.md.

Deviations and decisions:

- Eq. 9 and Algorithm 1 give all rewards of step 2 the bonus, B.2 only the uncertain set's. The reward of
  model transitions is ``explorer_reward``: bonus (the default), penalty (MOPO's), raw; offline ones keep
  theirs.
- Not printed: Table 3's ratio (1 is the method), the explorer's length (50,000 fit the paper's hours).
- Real transitions of step 5 are offline ones (B.5; Eq. 10: all). The model buffer is emptied at each step.
- Step 4 keeps the input scaler (OfflineRL-Kit's training, the "original mode" of B.4, refits it), judges the
  incoming weights first, and the held-out error is half offline, half online, as its batches are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from o2obench.agent import Budget, Stage, State, Task, count
from o2obench.kit.model_based.config import ModelBasedConfig
from o2obench.kit.model_based.template import ModelBased, annealed
from o2obench.kit.options import Rate, Share, Size, Weight
from o2obench.kit.sac import Rates, Sac
from o2obench.transitions import Transitions
from o2obench.util.rng import Stream


class DoofConfig(ModelBasedConfig):
    """Options; ``penalty_coef`` (lambda_off) and ``rollout_length`` are MOPO's for the data set."""

    ratio: Weight = 1.0
    """lambda_on / lambda_off; 0 collects with MOPO's policy (Fig. 6)."""
    explorer_reward: Literal["bonus", "penalty", "raw"] = "bonus"
    """What the explorer gets for uncertainty: a bonus, MOPO's penalty, or the model's reward alone."""
    explorer_updates: Size = count(50_000)
    """Updates of the explorer in the offline model."""
    collect: Size = count(10_000)
    """Environment steps that the explorer takes."""
    uncertain_transitions: Size = count(10_000)
    """Size of the uncertain set: offline transitions drawn at random, whose reward holds the bonus."""
    policy_updates: Size = count(300_000)
    """Updates of the policy in the fine-tuned model."""
    rounds: Size = 1
    """2 repeats steps 2 to 5 from the fine-tuned model and policy (Fig. 6c)."""
    actor_lr: Rate = 1e-4
    """Constant for the explorer; annealed in step 5, as in MOPO."""
    real_ratio: Share = 0.025  # of each kind of real transitions: int(0.025 * 256) = 6


class Doof(ModelBased[DoofConfig]):
    """Two learners in the template: the policy that is evaluated, and the explorer."""

    Config = DoofConfig
    version = 3
    pretrain = "mopo"
    paired_batches = True

    def __init__(self, task: Task, config: DoofConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.explorer, self.step = self.new_sac(), ""

    @classmethod
    def steps(cls, config: DoofConfig, budget: Budget) -> dict[Stage, str]:
        """Return the stages and which step of the method each is; later rounds are numbered in the name."""
        steps = min(config.collect, budget.online_steps // config.rounds)
        once = [Stage("explorer", 0, config.explorer_updates)] if config.ratio else []
        once += [Stage("collect", steps), Stage("dynamics"), Stage("policy", 0, config.policy_updates)]
        later = (replace(s, name=f"{s.name} {k}") for k in range(2, config.rounds + 1) for s in once)
        return dict(zip((*once, *later), [s.name for s in once] * config.rounds, strict=True))

    @classmethod
    def stages(cls, config: DoofConfig, budget: Budget) -> tuple[Stage, ...]:
        """Explorer, collect, dynamics, policy, round by round."""
        return tuple(cls.steps(config, budget))

    def begin(self, stage: str) -> None:
        """Begin a step: who learns, and from what; optimisers and the model buffer start afresh."""
        steps = self.steps(self.config, self.task.budget)
        self.step = next(step for planned, step in steps.items() if planned.name == stage)
        if self.step == "explorer" or (self.step == "collect" and not self.config.ratio):
            self.explorer.load_networks(self.sac.networks())
        if self.step == "explorer":
            self._draw_uncertain()
        self.due_training = self.step == "dynamics"
        self.model.adam.forget()
        self.learner.forget()
        self.replay.clear_model_buffer()

    @property
    def learner(self) -> Sac:
        """The explorer learns and collects in its own steps."""
        return self.explorer if self.step in ("explorer", "collect") else self.sac

    def explorer_policy(self) -> State | None:
        """Return the explorer's actor at the end of step 2, where its mean action is judged."""
        return {"actor": self.explorer.actor.state_dict()} if self.step == "explorer" else None

    def rates(self, update: int) -> Rates:
        """Anneal the actor's rate in step 5, as MOPO does."""
        rates, last = super().rates(update), self.config.policy_updates
        if self.step != "policy":
            return rates
        steps = self.steps(self.config, self.task.budget)
        a_round = sum(stage.updates for stage in steps) // list(steps.values()).count("policy")
        return annealed(rates, update % a_round - (a_round - last), last)

    def _draw_uncertain(self) -> None:
        """Draw the uncertain set: offline transitions whose reward holds the bonus."""
        replay = self.replay
        uniform = self.streams.uniform(Stream.UNCERTAIN_SET, self.config.uncertain_transitions)
        rows = replay.rows[drawn := replay.offline_index(uniform)]
        replay.unpack(rows).reward.add_(
            self.config.ratio * self.config.penalty_coef * self.uncertainty(drawn)
        )
        replay.set_extra(rows)

    def penalty_coef(self) -> float:
        """Return lambda_off, or what the explorer's model transitions are charged instead."""
        charged = {"bonus": -self.config.ratio, "penalty": 1.0, "raw": 0.0}[self.config.explorer_reward]
        return self.config.penalty_coef * (charged if self.step == "explorer" else 1.0)

    def rollout_starts(self, count: int) -> Tensor:
        """Return half offline transitions, half of the uncertain set or, in step 5, collected ones."""
        replay, uniform = self.replay, self.streams.uniform(Stream.ROLLOUT_STARTS, count)
        first, second = uniform.tensor_split([count // 2], -1)
        after = replay.online_index if replay.online else replay.offline_index
        other = replay.extra_index if self.step == "explorer" else after
        return torch.cat([replay.offline_index(first), other(second)], -1)

    def real_batch(self, updates: int) -> Tensor:
        """Return 6 offline transitions of 256, and for the explorer 6 of the uncertain set."""
        kinds = {Stream.REAL_BATCH: self.replay.offline_index}
        if self.step == "explorer":
            kinds[Stream.UNCERTAIN_BATCH] = self.replay.extra_index
        real = int(self.config.real_ratio * self.config.batch_size)
        return torch.cat([of(self.streams.uniform(kind, updates, real)) for kind, of in kinds.items()], -1)

    def extra_transitions(self) -> int:
        """Return the size of the uncertain set."""
        return self.config.uncertain_transitions

    def state_dict(self) -> State:
        """Return everything, the explorer included."""
        return {**super().state_dict(), "explorer": self.explorer.state_dict(), "step": self.step}

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        self.explorer.load_state_dict(state["explorer"])
        self.step = state["step"]
