"""ODT goes on while it interacts (Zheng et al. 2022, arXiv:2202.05607, section 4).

It keeps the 1,000 best episodes of the data, asks for ``exploring_return`` (about twice what an expert gets)
and samples its actions. After each episode, which it keeps with the return that followed, it learns
``episode_updates`` times on what is kept; new episodes take the place of the worst first, then in turn.

Decided here: no learning in the first 1,000 steps, as for all methods.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from o2obench.agent import Budget, Stage, State, Task, count
from o2obench.kit.odt import DecisionAgent, OdtOptions
from o2obench.kit.options import Size
from o2obench.kit.trajectories import returns_to_go
from o2obench.transitions import Transitions


class OdtFinetuneConfig(OdtOptions):
    """ODT's options online."""

    exploring_return: float | None = None
    """The return that is asked for in training, raw; null: the best offline episode's, and as much again."""
    episode_updates: Size = count(300)
    """Updates after each episode."""
    kept_episodes: Size = 1000
    """Episodes to learn from: at first the best ones of the data."""
    learning_starts: Annotated[int, Field(ge=1)] = count(1000)
    """Environment steps before anything is learnt."""


class OdtFinetune(DecisionAgent[OdtFinetuneConfig]):
    """A decision transformer that asks for more than there is, and learns from what it gets."""

    Config = OdtFinetuneConfig
    pretrain = "odt"
    requires = ("transformer",)

    def __init__(self, task: Task, config: OdtFinetuneConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.trajectories.keep_best(self.to_go, config.kept_episodes)
        self.began = 0
        """Online steps before the running episode."""

    @classmethod
    def stages(cls, config: OdtFinetuneConfig, budget: Budget) -> tuple[Stage, ...]:
        """Learn with the environment; how many updates that will be depends on the episodes."""
        return (Stage("fine-tune", budget.online_steps),)

    def wanted(self, explore: bool) -> float:
        """Ask for more in training."""
        asked = self.config.exploring_return
        if explore:
            best = float(self.best_return)
            return best + abs(best) if asked is None else asked
        return super().wanted(explore)

    def action(self, obs: Tensor, explore: bool) -> Tensor:
        """Return the action of the running episode's next step."""
        if not explore or len(obs) != 1 or self.replay.online == self.began:
            return super().action(obs, explore)
        past = self.replay.unpack(self.replay.rows[self._rows(self.began, self.replay.online)])
        spent = torch.nn.functional.pad(past.reward.cumsum(0), (1, 0))
        to_go = (self.wanted(explore) - spent)[None]
        return self.decide(to_go, torch.cat([past.obs, obs])[None], past.action[None], explore)

    def _rows(self, begin: int, end: int) -> slice:
        return slice(self.replay.offline + begin, self.replay.offline + end)

    def observe(self, step: Transitions) -> None:
        """Store the step; keep its episode where it ends one, and learn."""
        self.replay.append(step)
        if not bool((step.terminated | step.truncated)[0]):
            return
        rows = self._rows(self.began, self.replay.online)
        self.trajectories.add(rows.start, rows.stop, self.config.kept_episodes)
        self._tell_returns()
        self.began = self.replay.online
        if self.replay.online > self.config.learning_starts:
            self.due = self.config.episode_updates

    def _tell_returns(self) -> None:
        """Write down the returns-to-go of all episodes that are kept."""
        rewards = self.replay.unpack(self.replay.rows).reward.cpu().numpy()
        self.to_go = returns_to_go(rewards, self.trajectories.ranges)

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        kept = self.trajectories
        own = {"ranges": kept.ranges[None].copy(), "replaced": kept.replaced, "began": self.began}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        self.trajectories.ranges = np.array(state["ranges"][0])
        self.trajectories.replaced, self.began = state["replaced"], state["began"]
        self._tell_returns()
