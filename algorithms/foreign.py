"""Somebody's own program as a member: it learns in its own code; the harness steps, counts and evaluates.

``o2obench run foreign DATA --set name=NAME --program "NAME=python theirs.py"``; a suite lists it as
``foreign: {name: NAME}``. The program talks over a bridge (``o2obench.bridge``): it is handed the data, the
seed, the budget and, with ``from:``, a pretrained policy; it asks for one environment step after another, and
says its policy's actions when the harness evaluates. A command is only ever taken from the command line.
Nothing of a program can be saved: killed, it begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from o2obench.agent import Agent, Budget, Config, HasNetwork, Metrics, Network, Program, Stage, State, Task
from o2obench.transitions import Array, Transitions

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]


class ForeignConfig(Config):
    """Which program."""

    name: Name = "program"
    """What ``--program NAME=COMMAND`` calls it."""
    release: str = ""
    """Its version, as its user says it: other versions are other runs."""


class Nobody:
    """Stands still in the place of a program, where an agent is built only to be looked at."""

    updates = 0

    def __init__(self, act_dim: int) -> None:
        self.act_dim = act_dim

    def start_from(self, task: Task, data: Transitions, policy: Network | None) -> None:
        """Look away."""

    def is_ready(self, seconds: float) -> bool:
        """Return True."""
        return True

    def action(self, obs: Array) -> Array:
        """Return zeros."""
        return np.zeros(self.act_dim, np.float32)

    def stepped(self, step: Transitions) -> None:
        """Look away."""

    def judged(self, obs: Array) -> Array:
        """Return zeros."""
        return np.zeros((len(obs), self.act_dim), np.float32)


class Foreign(Agent[ForeignConfig]):
    """Do what a program says."""

    Config = ForeignConfig
    label = "{name} (foreign)"
    may_start = True
    resumes = False
    seed_batches = False

    def __init__(self, task: Task, config: ForeignConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.data = data
        self.program: Program = task.program or Nobody(task.act_dim)
        self.pretrained: Network | None = None
        self.started = False

    @classmethod
    def stages(cls, config: ForeignConfig, budget: Budget) -> tuple[Stage, ...]:
        """Wait until it has learnt what it wants from the data, then let it step."""
        return (Stage("offline"), Stage("fine-tune", budget.online_steps))

    def warm_start(self, states: Sequence[State]) -> None:
        """Take the pretrained policy over as plain arrays, to hand it on."""
        parent = self.task.pretraining() if self.task.pretraining else None
        if parent:
            parent.restore(states)
        self.pretrained = parent.network() if isinstance(parent, HasNetwork) else None
        if self.pretrained is None:
            raise TypeError("foreign: what it starts from shows no policy as plain arrays; name another")

    def taken_over(self) -> Mapping[str, str]:
        """Say that the policy acts from plain arrays: the same to rounding."""
        return {"actor": "handed on as plain arrays"} if self.pretrained else {}

    def begin(self, stage: str) -> None:
        """Start the program before anything else."""
        if not self.started:
            self.program.start_from(self.task, self.data, self.pretrained)
            self.started = True

    def work(self, stage: str) -> Iterator[Metrics]:
        """Wait until it asks for a step: then it has done all that it wants to do before."""
        while not self.program.is_ready(seconds=1.0):
            yield {}
        self.updates = self.program.updates
        yield {}

    def act(self, obs: Array, explore: bool) -> Array:
        """Return the program's actions; before it has started those of the pretraining."""
        if explore:
            return self.program.action(obs[0, 0])[None, None]
        if not self.started and self.pretrained:
            return self.pretrained.act(obs)
        return self.program.judged(obs[0])[None]

    def observe(self, step: Transitions) -> None:
        """Show the program its step."""
        self.program.stepped(step[0])

    def state_dict(self) -> State:
        """Return nothing: what it learns stays in the program."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Take nothing back."""
