"""JSRL, jump-start RL (Uchendu et al. 2023, arXiv:2204.02372): the pretrained policy begins each episode.

The guide, the pretraining's policy as it was, acts for the first h steps of a training episode, then a SAC
that learns from nothing, on online transitions only. ``roll_in: curriculum`` (the paper's algorithm 1) lets h
fall from the horizon to 0 in ``roll_in_stages`` stages: to the next when the mean return of the last
``window`` episodes is not below the best such mean by more than ``tolerance`` of it. ``random`` draws h anew
for each episode, uniform up to the horizon (the paper's JSRL-Random).

Decided here: the mean of training episodes stands for the paper's evaluations, which would be outside the
budget; what is evaluated is the learner alone, so the first evaluation is that of a fresh policy; learning
starts after 1,000 steps, as for all methods here, on raw observations and rewards. The guide is any
pretraining's policy (``from:``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from o2obench.agent import State, Task, count, take_seed
from o2obench.kit.model_free.episodes import Episodes
from o2obench.kit.model_free.sac import OnlineSac, OnlineSacOptions
from o2obench.kit.networks import to_array
from o2obench.kit.options import Share, Size
from o2obench.transitions import Array, Transitions

ROLL_IN = "roll-in"
CURRICULUM = ("stage_of", "best", "recent", "roll_in")
"""What a resume needs of the guide's share."""


class JsrlConfig(OnlineSacOptions):
    """JSRL's options; the others are SAC's."""

    roll_in: Literal["curriculum", "random"] = "curriculum"
    """How long the guide acts: less and less, or by chance."""
    roll_in_stages: Size = 10
    """Stages in which its steps fall from the horizon to 0."""
    window: Size = count(5)
    """Episodes whose mean return decides whether the next stage begins."""
    tolerance: Share = 0.05
    """Share of the best mean by which a mean may fall short of it."""


class Jsrl(OnlineSac[JsrlConfig]):
    """SAC that a guide leads into an episode."""

    Config = JsrlConfig
    pretrain = "iql"
    requires = ("actor",)
    takes_parts = True
    uses_data = False

    def __init__(self, task: Task, config: JsrlConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        if task.pretraining is None:
            raise TypeError("jsrl needs a pretraining to be guided by")
        self.guide, seeds = task.pretraining(), len(task.seeds)
        self.episodes = Episodes(seeds)
        self.stage_of, self.best = np.zeros(seeds, np.int64), np.full(seeds, -np.inf)
        """The stage of each seed's curriculum, and the best mean return so far."""
        self.recent = np.full((seeds, config.window), np.nan)
        """The last returns of the stage, NaN where there are none yet."""
        self.roll_in = np.full(seeds, task.horizon)
        """Steps of each seed's running episode in which the guide acts."""
        if config.roll_in == "random":
            self._draw_roll_in(np.ones(seeds, bool))

    def explore(self, obs: Tensor) -> Tensor:
        """Act by the guide in the first steps of an episode, then by a sample of the policy."""
        guided = torch.from_numpy(self.episodes.length < self.roll_in).to(obs.device)
        guide = torch.from_numpy(self.guide.act(to_array(obs), explore=False)).to(obs.device)
        return torch.where(guided.view(-1, *(1,) * (obs.dim() - 1)), guide, super().explore(obs))

    def observe(self, step: Transitions) -> None:
        """Store the step; where an episode ends the guide's share is decided anew."""
        super().observe(step)
        ended, _, returns = self.episodes.step(step)
        if self.config.roll_in == "random":
            self._draw_roll_in(ended)
            return
        for seed in np.flatnonzero(ended).tolist():
            self._next_stage(seed, float(returns[seed]))

    def _draw_roll_in(self, ended: Array) -> None:
        drawn = to_array(self.streams.uniform(ROLL_IN, active=torch.from_numpy(ended)))
        self.roll_in = np.where(ended, (drawn * (self.task.horizon + 1)).astype(np.int64), self.roll_in)

    def _next_stage(self, seed: int, episode_return: float) -> None:
        """Let h fall if the last episodes of the stage did about as well as any before."""
        self.recent[seed] = [*self.recent[seed, 1:], episode_return]
        mean, best, stages = self.recent[seed].mean(), self.best[seed], self.config.roll_in_stages
        if np.isnan(mean) or (np.isfinite(best) and mean < best - self.config.tolerance * abs(best)):
            return
        self.best[seed], self.recent[seed] = max(best, mean), np.nan
        self.stage_of[seed] = min(self.stage_of[seed] + 1, stages)
        self.roll_in[seed] = round((1.0 - self.stage_of[seed] / stages) * self.task.horizon)

    def warm_start(self, states: Sequence[State]) -> None:
        """Take the guide over."""
        self.guide.restore(states)

    def taken_over(self) -> Mapping[str, str]:
        """Say that what is evaluated begins anew."""
        return dict.fromkeys(("actor", "critics"), "fresh: the pretraining guides its training episodes")

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        own = {name: getattr(self, name).copy() for name in CURRICULUM}
        guide = self.guide.pretrained_state()
        return {
            **super().state_dict(),
            "guide": guide,
            "episodes": self.episodes.state_dict(),
            "curriculum": own,
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        self.guide.restore([take_seed(state["guide"], i) for i in range(len(self.task.seeds))])
        self.episodes.load_state_dict(state["episodes"])
        for name in CURRICULUM:
            setattr(self, name, state["curriculum"][name].copy())
