"""The template of the family: a linear policy, ``tanh(obs W)``, that imitates stored actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from o2obench import Agent, Config, Network, State, Task, Transitions
from o2obench.agent import stack_seeds
from o2obench.kit.networks import to_array
from o2obench.kit.options import Rate, Size
from o2obench.kit.replay import Replay
from o2obench.kit.rng import Streams
from o2obench.transitions import Array
from o2obench.util.rng import Stream

VERSION = 1
"""Raise it whenever the numbers that the template computes change: the whole family then runs anew."""


class CloningConfig(Config):
    """Options that the methods of the family share."""

    rate: Rate = 0.05
    batch_size: Size = 32


C = TypeVar("C", bound=CloningConfig)


class Cloning(Agent[C], Generic[C]):
    """State and learning of the family; a method adds its stages, and which transitions it imitates."""

    kit_versions: ClassVar[Mapping[str, int]] = {"toy_cloning": VERSION}
    provides = ("actor",)

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        dims, steps = (task.obs_dim, task.act_dim), sum(s.env_steps for s in self.stages(config, task.budget))
        self.streams = Streams(task.seeds, task.device)
        self.weights = 0.1 * self.streams.normal("initial weights", *dims)
        own = self.columns(data)
        self.replay = Replay(data, len(task.seeds), dims, steps, 0, task.device, columns=own)
        self.due = 0

    def columns(self, data: Transitions) -> Mapping[str, Array]:
        """Return columns of the method's own beside the offline transitions."""
        return {}

    def learn(self, index: Tensor) -> None:
        """Make one step of gradient descent towards the actions of these transitions (seeds, batch)."""
        batch = self.replay.take(index)
        error = torch.tanh(batch.obs @ self.weights) - batch.action
        self.weights = self.weights - self.config.rate * batch.obs.mT @ error / index.shape[1]
        self.updates += 1

    def act(self, obs: Array, explore: bool) -> Array:
        """Return the policy's actions, with noise to explore."""
        mean = torch.as_tensor(obs, dtype=torch.float32, device=self.task.device) @ self.weights
        if explore:
            mean = mean + 0.3 * self.streams.normal(Stream.EXPLORATION, *mean.shape[1:])
        return to_array(torch.tanh(mean))

    def observe(self, step: Transitions) -> None:
        """Store the step."""
        self.replay.append(step)

    def warm_start(self, states: Sequence[State]) -> None:
        """Take the pretrained policy over."""
        self.load_policy(stack_seeds(states))

    def pretrained_state(self) -> State:
        """Return the policy."""
        return {"weights": to_array(self.weights), "updates": self.updates}

    def policy(self) -> State:
        """Return the policy, to be evaluated in another process."""
        return {"weights": to_array(self.weights)}

    def load_policy(self, policy: State) -> None:
        """Take a policy over."""
        self.weights = torch.tensor(policy["weights"], device=self.task.device)

    def network(self) -> Network:
        """Return the policy as plain arrays: ``o2obench policy`` shows it."""
        weights = to_array(self.weights)
        return Network([(weights, 0.0 * weights[:, 0])])

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        return {
            "weights": to_array(self.weights),
            "replay": self.replay.state_dict(),
            "streams": self.streams.state_dict(),
            "updates": self.updates,
            "due": self.due,
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        self.load_policy(state)
        self.replay.load_state_dict(state["replay"])
        self.streams.load_state_dict(state["streams"])
        self.updates, self.due = state["updates"], state["due"]
