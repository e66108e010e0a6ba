"""SAC (Haarnoja et al. 2018, arXiv:1812.05905) from scratch: model-free control and data collector.

One update per step after 1,000 uniformly random steps, on batches of everything seen so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from o2obench.agent import Agent, Budget, Metrics, Stage, State, Task, count
from o2obench.kit import sac as learner
from o2obench.kit.networks import to_array
from o2obench.kit.options import Rate, Size
from o2obench.kit.replay import Replay
from o2obench.kit.rng import Streams
from o2obench.kit.sac import Sac as Learner
from o2obench.kit.sac import SacOptions, SacPolicy
from o2obench.transitions import Array, Transitions
from o2obench.util.rng import Stream
from o2obench.util.timers import timed

REPORT_EVERY = 500


class SacConfig(SacOptions):
    """Options with the values of the second SAC paper."""

    lr: Rate = 3e-4
    learning_starts: Annotated[int, Field(ge=1)] = count(1000)
    utd_ratio: Size = count(1)


class Sac(SacPolicy, Agent[SacConfig]):
    """Act, store, update."""

    Config = SacConfig
    kit_versions: ClassVar[Mapping[str, int]] = {"sac": learner.VERSION}
    provides = ("actor", "critics")
    uses_data = False

    def __init__(self, task: Task, config: SacConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        seeds, dims = task.seeds, (task.obs_dim, task.act_dim)
        self.streams = Streams(seeds, task.device)
        self.sac = Learner(seeds, *dims, config, task.device)
        self.replay = Replay(data, len(seeds), dims, task.budget.online_steps, 0, task.device)
        self.due = 0

    @classmethod
    def stages(cls, config: SacConfig, budget: Budget) -> tuple[Stage, ...]:
        """Learn with the environment from the first step on."""
        steps = budget.online_steps
        return (Stage("fine-tune", steps, config.utd_ratio * max(0, steps - config.learning_starts)),)

    @classmethod
    def schedule(cls, config: SacConfig) -> Mapping[str, int]:
        """Return when learning starts, and the updates per environment step."""
        return {"learning_starts": config.learning_starts, "utd_ratio": config.utd_ratio}

    def act(self, obs: Array, explore: bool) -> Array:
        """Return the mean action; to explore, a sample, in the beginning a uniform one."""
        if not explore:
            return to_array(self.sac.act(self._tensor(obs), None))
        if self.replay.online >= self.config.learning_starts:
            return self.sample(obs)
        return to_array(self.streams.actions(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim))

    def sample(self, obs: Array) -> Array:
        """Return a sample of the policy, however long it has been trained."""
        noise = self.streams.normal(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim)
        return to_array(self.sac.act(self._tensor(obs), noise))

    def _tensor(self, obs: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(obs, np.float32)).to(self.task.device)

    def observe(self, step: Transitions) -> None:
        """Store the step."""
        self.replay.append(step)
        if self.replay.online > self.config.learning_starts:
            self.due = self.config.utd_ratio

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do the updates that are due."""
        config = self.config
        while self.due:
            with timed("update"):
                index = self.replay.online_index(self.streams.uniform(Stream.REAL_BATCH, config.batch_size))
                noise = self.sac.noise(self.streams, 1)
                self.sac.learn(self.replay, index[None], noise, [(config.lr,) * 3])
            self.updates, self.due = self.updates + 1, self.due - 1
            if self.updates % REPORT_EVERY == 0:
                yield self.sac.report(REPORT_EVERY)
            elif self.updates % 20 == 0:
                yield {}

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        return {
            "sac": self.sac.state_dict(),
            "replay": self.replay.state_dict(),
            "streams": self.streams.state_dict(),
            "updates": self.updates,
            "due": self.due,
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        self.sac.load_state_dict(state["sac"])
        self.replay.load_state_dict(state["replay"])
        self.streams.load_state_dict(state["streams"])
        self.updates, self.due = state["updates"], state["due"]

    def pretrained_state(self) -> State:
        """Return the networks."""
        return {"sac": self.sac.networks(), "updates": self.updates}
