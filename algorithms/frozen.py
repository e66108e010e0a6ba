"""Frozen: the pretrained policy acts and never learns; the control against which every drop is read.

Its start states are fresh at each evaluation, so its curve shows the noise floor of the protocol. It is the
agent of whatever pretraining it starts from; a suite gets one for each of its pretrainings.
"""

from __future__ import annotations

from collections.abc import Sequence

from o2obench.agent import (
    Agent,
    Budget,
    Config,
    HasNetwork,
    Network,
    Player,
    Stage,
    State,
    Task,
    new_player,
)
from o2obench.transitions import Array, Transitions


class FrozenConfig(Config):
    """It has no options."""


class Frozen(Agent[FrozenConfig]):
    """The agent of the pretraining, unchanged."""

    Config = FrozenConfig
    pretrain = "mopo"
    uses_data = False

    def __init__(self, task: Task, config: FrozenConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        if task.pretraining is None:
            raise TypeError("frozen needs a pretraining to start from")
        self.agent = task.pretraining()

    @classmethod
    def stages(cls, config: FrozenConfig, budget: Budget) -> tuple[Stage, ...]:
        """Interact as long as the others do, without an update."""
        return (Stage("fine-tune", budget.online_steps),)

    def warm_start(self, states: Sequence[State]) -> None:
        """Take the pretrained policy over."""
        self.agent.restore(states)

    def act(self, obs: Array, explore: bool) -> Array:
        """Act as the pretrained agent does."""
        return self.agent.act(obs, explore)

    def player(self) -> Player | None:
        """Play as the pretrained agent does, where it remembers its episode."""
        return new_player(self.agent)

    def observe(self, step: Transitions) -> None:
        """Look away."""

    def policy(self) -> State | None:
        """Return the pretrained policy."""
        return self.agent.policy()

    def load_policy(self, policy: State) -> None:
        """Take a policy over."""
        self.agent.load_policy(policy)

    def network(self) -> Network | None:
        """Return the pretrained policy as plain arrays; None where its agent does not show them."""
        return self.agent.network() if isinstance(self.agent, HasNetwork) else None

    def state_dict(self) -> State:
        """Return the pretrained agent's state."""
        return self.agent.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Take it back."""
        self.agent.load_state_dict(state)

    def pretrained_state(self) -> State:
        """Return what the pretrained agent hands over."""
        return self.agent.pretrained_state()
