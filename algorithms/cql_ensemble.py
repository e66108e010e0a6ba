"""Several CQL trainings side by side that act as one: the pretraining of Balanced Replay (arXiv:2107.00591).

Each member is a CQL of its own, with its own first weights, batches and noise, as if it were trained with
another seed; together they act by the tanh-Gaussian whose moments are those of the mixture of their normals
(section 4.2). The paper trains five for a million updates each; CQL's settings there are not published, so
they are ``cql``'s, with four actions of each kind in the penalty, which takes a third of the time of ten.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from o2obench.agent import Agent, Budget, Metrics, Stage, State, Task, stack_seeds
from o2obench.kit.model_free.template import VERSION
from o2obench.kit.networks import to_array
from o2obench.kit.options import Members, Size
from o2obench.kit.policies import MomentMatched
from o2obench.kit.rng import Streams
from o2obench.transitions import Array, Transitions
from o2obench.util.rng import Stream, derive

from .cql import Cql, CqlConfig


class CqlEnsembleConfig(CqlConfig):
    """CQL's options, and how many there are."""

    cql_actions: Size = 4
    members: Members = 5
    """Trainings."""


class CqlEnsemble(Agent[CqlEnsembleConfig]):
    """CQL for ``members`` seeds in place of each seed."""

    Config = CqlEnsembleConfig
    kit_versions: ClassVar[Mapping[str, int]] = {"model_free": VERSION}
    provides = ("actor", "critics")

    def __init__(self, task: Task, config: CqlEnsembleConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        seeds = [derive(seed, "member", i) for seed in task.seeds for i in range(config.members)]
        self.cql = Cql(dataclasses.replace(task, seeds=tuple(seeds)), config, data)
        self.actor = copy.copy(self.cql.nets["actor"])
        """The members' actors as one stack for each seed; it shares their parameters."""
        self.actor.flat = self.actor.flat.unflatten(0, (len(task.seeds), config.members))
        self.policy_kind, self.streams = MomentMatched(task.act_dim), Streams(task.seeds, task.device)

    @classmethod
    def stages(cls, config: CqlEnsembleConfig, budget: Budget) -> tuple[Stage, ...]:
        """Train as long as CQL does."""
        return Cql.stages(config, budget)

    def begin(self, stage: str) -> None:
        """Begin the members' stage."""
        self.cql.begin(stage)

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do the members' updates side by side; what they report is averaged."""
        for metrics in self.cql.work(stage):
            self.updates = self.cql.updates
            yield {name: self._of_seeds(values).mean(1) for name, values in metrics.items()}
        self.updates = self.cql.updates

    def act(self, obs: Array, explore: bool) -> Array:
        """Return the mode of the members' policy, or a sample."""
        maps = self.cql.maps
        mean, std = (maps[name][:: self.config.members] for name in ("obs_mean", "obs_std"))
        standard = (torch.from_numpy(np.asarray(obs, np.float32)).to(self.task.device) - mean) / std
        of = self.policy_kind.distribution(self.actor, standard)
        if not explore:
            return to_array(self.policy_kind.mode(of))
        noise = self.streams.normal(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim)
        return to_array(self.policy_kind.sample(of, noise)[0])

    def observe(self, step: Transitions) -> None:
        """Refuse: this stage has no environment."""
        raise TypeError("cql_ensemble is trained without the environment")

    def pretrained_state(self) -> State:
        """Return actors (seeds, members, ..), critics (seeds, 2 x members, ..) and the maps of the data."""
        nets = self.cql.pretrained_state()["nets"]
        parts = {name: self._of_seeds(nets[name]["flat"]) for name in ("actor", "critics", "targets")}
        flat = {name: part.reshape(len(part), -1, part.shape[-1]) for name, part in parts.items()}
        return {
            "nets": {name: {"flat": values} for name, values in flat.items()},
            "maps": self.policy()["maps"],
            "policy": type(self.policy_kind).__name__,
            "updates": self.updates,
        }

    def restore(self, states: Sequence[State]) -> None:
        """Take the policy over."""
        state = stack_seeds(states)
        self.load_policy({"actor": state["nets"]["actor"], "maps": state["maps"]})

    def policy(self) -> State:
        """Return the actors and the maps."""
        maps = self.cql.pretrained_state()["maps"]
        return {
            "actor": self.actor.state_dict(),
            "maps": {name: values[:: self.config.members].copy() for name, values in maps.items()},
        }

    def load_policy(self, policy: State) -> None:
        """Take it over."""
        self.actor.load_state_dict(policy["actor"])
        for name, values in policy["maps"].items():
            self.cql.maps[name].copy_(torch.from_numpy(values.repeat(self.config.members, 0)))

    def state_dict(self) -> State:
        """Return the members' states, arrays (seeds, members, ..)."""
        return {
            "members": _mapped(self.cql.state_dict(), self._of_seeds),
            "streams": self.streams.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take them back."""
        self.cql.load_state_dict(
            _mapped(
                state["members"],
                lambda values: values.reshape(values.shape[0] * values.shape[1], *values.shape[2:]),
            )
        )
        self.streams.load_state_dict(state["streams"])
        self.updates = self.cql.updates

    def _of_seeds(self, values: Array) -> Array:
        return values.reshape(len(self.task.seeds), self.config.members, *values.shape[1:])


def _mapped(state: State, change: Callable[[Array], Array]) -> State:
    """Return a state with its arrays changed."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return _mapped(value, change)
        return change(value) if isinstance(value, np.ndarray) else value

    return {key: changed(value) for key, value in state.items()}
