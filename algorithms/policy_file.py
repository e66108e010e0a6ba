"""A user's own policy as the pretraining: ``from: policy.npz``, or ``o2obench run --from policy.npz``.

It is evaluated once and handed over. Runs can start from it that need no more than a policy; ``frozen`` is
one. The file is what ``o2obench policy`` writes: weights, biases, relu or tanh between layers, tanh or
nothing at the end. A policy that another library saved is converted to such a file when a run is planned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from o2obench.agent import Agent, Budget, Config, Metrics, Network, Stage, State, Task, stack_seeds
from o2obench.transitions import Array, Transitions


class PolicyFileConfig(Config):
    """Which policy."""

    sha256: str = ""
    """Of the .npz file; where it lies does not matter."""
    activation: str = "relu"
    """Between layers: relu or tanh."""
    squash: str = "tanh"
    """After the last layer: tanh or none."""


class PolicyFile(Agent[PolicyFileConfig]):
    """Show a policy that is there already."""

    Config = PolicyFileConfig
    uses_data = False
    provides = ("actor",)
    seed_batches = False

    def __init__(self, task: Task, config: PolicyFileConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        shown = task.policy or Network(
            [(np.zeros((1, task.obs_dim, task.act_dim)), np.zeros((1, task.act_dim)))]
        )
        seeds = len(task.seeds)
        self.shown = Network(
            [(np.repeat(w, seeds, 0), np.repeat(b, seeds, 0)) for w, b in shown.layers],
            shown.activation,
            shown.squash,
        )

    @classmethod
    def stages(cls, config: PolicyFileConfig, budget: Budget) -> tuple[Stage, ...]:
        """Nothing is learnt."""
        return (Stage("policy"),)

    def act(self, obs: Array, explore: bool) -> Array:
        """Return the policy's action; it says nothing of how to explore."""
        return self.shown.act(obs)

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do nothing."""
        yield {}

    def observe(self, step: Transitions) -> None:
        """Look away."""

    def network(self) -> Network:
        """Return the policy."""
        return self.shown

    def state_dict(self) -> State:
        """Return the arrays."""
        layers = {f"weight_{i}": weight for i, (weight, _) in enumerate(self.shown.layers)}
        layers |= {f"bias_{i}": bias for i, (_, bias) in enumerate(self.shown.layers)}
        return {"policy": {**layers, "activation": self.shown.activation, "squash": self.shown.squash}}

    def load_state_dict(self, state: State) -> None:
        """Take the arrays back."""
        policy = state["policy"]
        count = sum(name.startswith("weight_") for name in policy)
        layers = [(policy[f"weight_{i}"], policy[f"bias_{i}"]) for i in range(count)]
        self.shown = Network(layers, policy["activation"], policy["squash"])

    def warm_start(self, states: Sequence[State]) -> None:
        """Take the policy over."""
        self.load_state_dict(stack_seeds(states))

    def policy(self) -> State:
        """Return the arrays."""
        return self.state_dict()

    def load_policy(self, policy: State) -> None:
        """Take them over."""
        self.load_state_dict(policy)
