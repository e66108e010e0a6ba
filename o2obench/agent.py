"""The agent interface: all that an algorithm and the harness know of each other.

The life of an agent, in the words of this file::

    agent = Agent(task, config, data); agent.warm_start(parents' handover)
    for stage in Agent.stages(config, budget):
        agent.begin(stage.name)
        for metrics in agent.work(stage.name): ...          # evaluate, save or stop between two yields
        repeat stage.env_steps times:
            agent.observe(environment.step(agent.act(obs, explore=True)))
            for metrics in agent.work(stage.name): ...      # what this step made due

Several seeds train side by side: the first axis of every array that an agent shows is the seed.
One seed is the case ``seeds == 1``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Array = NDArray[Any]
Metrics = Mapping[str, Array]
"""Name -> one number per seed, shape (seeds,)."""
State = dict[str, Any]
"""Nested dicts whose leaves are arrays with the seeds first, or plain JSON values shared by all seeds."""
Terminal = Callable[[Any, Any, Any], Any]
"""(obs, action, next_obs) -> bool mask over the leading axes; works on numpy and torch alike."""


class Config(BaseModel):
    """Base of every algorithm's typed options: frozen, strict, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def count(default: Any, **constraints: Any) -> Any:
    """Declare an option that a reduced suite may cut: a number of epochs, steps, updates or rows."""
    return Field(default, json_schema_extra={"count": True}, **constraints)


@dataclass(frozen=True)
class Transitions:
    """Experience as arrays that share their leading axes; float32 and bool.

    A data set has one leading axis (rows, in the order they were lived), one environment step of a
    pack has the seeds. ``episode_start`` marks the first row of each episode. ``terminated`` is an
    end that belongs to the task, ``truncated`` one that belongs to the clock. Actions lie in [-1, 1].
    """

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array
    truncated: Array
    episode_start: Array

    def __len__(self) -> int:
        return len(self.reward)

    def __getitem__(self, rows: Any) -> Transitions:
        return Transitions(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def stack_steps(steps: Sequence[Transitions]) -> Transitions:
    """Join single steps along a new first axis: the seeds of a pack."""
    names = Transitions.__dataclass_fields__
    return Transitions(**{name: np.stack([getattr(step, name) for step in steps]) for name in names})


@dataclass(frozen=True)
class Budget:
    """How long a run may learn: gradient updates without and steps with the environment."""

    offline_updates: int
    online_steps: int


@dataclass(frozen=True)
class Task:
    """All that an agent may know of its world.

    ``terminal`` is the task's known termination rule, used inside a learned model; None where nobody has
    written one down. Observations are raw, actions in [-1, 1]; ``horizon`` is the longest episode in steps.
    """

    obs_dim: int
    act_dim: int
    horizon: int
    seeds: tuple[int, ...]
    terminal: Terminal | None
    budget: Budget
    device: str = "cpu"


@dataclass(frozen=True)
class Network:
    """A policy to judge as plain arrays: ``squash(.. activation(obs @ weight + bias) .. @ weight + bias)``.

    ``layers`` holds weight (seeds, inputs, outputs) and bias (seeds, outputs) of each layer. The activation
    (relu) stands between layers, the squash (tanh or none) after the last; observations are raw.
    """

    layers: Sequence[tuple[Array, Array]]
    activation: str = "relu"
    squash: str = "tanh"


@dataclass(frozen=True)
class Stage:
    """One part of an algorithm's life: ``env_steps`` with the environment, or none.

    ``updates`` is how many policy updates it plans (0: none, or not known beforehand); only forecasts
    and the display of progress use it.
    """

    name: str
    env_steps: int = 0
    updates: int = 0


C = TypeVar("C", bound=Config)


class Agent(ABC, Generic[C]):
    """An algorithm as the harness sees it.

    Pure state: it holds no environment, no file, no logger, and draws no global random number.
    ``updates`` counts gradient updates of the policy and is the agent's clock.
    """

    Config: ClassVar[type[Config]]
    version: ClassVar[int] = 1
    """Raise it whenever the numbers this algorithm computes change."""
    kit_version: ClassVar[int] = 0
    """The version of the shared parts it is built from (0: none)."""
    pretrain: ClassVar[str | None] = None
    """The offline algorithm from whose finished runs this one starts."""
    packs: ClassVar[bool] = True
    """Whether several seeds can train side by side in one object."""
    uses_data: ClassVar[bool] = True
    """Whether it learns from offline data itself; if not, all data sets of an environment share its runs."""
    needs_terminal: ClassVar[bool] = False
    """Whether it rolls out a model and so needs the task's rule of termination."""
    needs_row: ClassVar[bool] = False
    """Whether a data set without an explicit row of options is refused."""

    updates: int = 0

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        """Build the agent for ``task.seeds``; ``data`` is empty for algorithms without offline data."""
        self.task = task
        self.config = config

    @classmethod
    @abstractmethod
    def stages(cls, config: C, budget: Budget) -> tuple[Stage, ...]:
        """Return the life of this algorithm, in order, as data."""

    def warm_start(self, states: Sequence[State]) -> None:
        """Take over what the pretraining runs handed over, one state per seed."""
        raise TypeError(f"{type(self).__name__} does not start from another run")

    def begin(self, stage: str) -> None:
        """Enter a stage; called once, and not again after a resume."""

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do all learning that is due, yielding at least about once a second.

        Called at the start of a stage and after each environment step. The state at each yield is
        complete: after ``load_state_dict`` a new call goes on from there.
        """
        return iter(())

    @abstractmethod
    def act(self, obs: Array, explore: bool) -> Array:
        """Map obs (seeds, n, obs_dim) to actions (seeds, n, act_dim) in [-1, 1].

        ``explore=False`` is always the policy to be judged and leaves no trace in the agent.
        """

    def policy(self) -> State | None:
        """Return what ``act(obs, explore=False)`` depends on, so that another process can judge it.

        None: the policy is judged in the process that trains it.
        """
        return None

    def network(self) -> Network | None:
        """Return the policy that is judged as plain arrays; None where it is not such a network."""
        return None

    def load_policy(self, policy: State) -> None:
        """Take a policy over, in an agent that was built without data only to be judged."""
        raise TypeError(f"{type(self).__name__} does not hand its policy out")

    def predict(self, obs: Array, action: Array) -> tuple[Array, Array, Array]:
        """Return what a learnt model says of (obs, action), each (seeds, n, ...).

        Means and log-variances (seeds, members, n, obs_dim + 1) of change of observation and reward, raw
        units, and the uncertainty (seeds, n).
        """
        raise TypeError(f"{type(self).__name__} has no model")

    def imagine(self, obs: Array, steps: int) -> tuple[Array, Array]:
        """Return observations and actions (seeds, rows, ...) that the model makes from obs (seeds, n, d)."""
        raise TypeError(f"{type(self).__name__} has no model")

    @abstractmethod
    def observe(self, step: Transitions) -> None:
        """Take in one environment step of every seed (leading axis: seeds)."""

    @abstractmethod
    def state_dict(self) -> State:
        """Return everything a resume needs: nets, optimisers, new data, random streams, clocks."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Take back what ``state_dict`` returned."""

    def handover(self) -> State:
        """Return what a child run or a diagnosis needs of a finished run; default: everything."""
        return self.state_dict()


def take_seed(state: State, index: int) -> State:
    """Cut one seed out of a pack's state; the seed axis stays, with length one."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        return value[index : index + 1] if isinstance(value, np.ndarray) else value

    return {key: cut(value) for key, value in state.items()}


def stack_seeds(states: Sequence[State]) -> State:
    """Join single-seed states to the state of a pack; raise ValueError where their clocks differ."""
    first = states[0]
    joined: State = {}
    for key, value in first.items():
        values = [state[key] for state in states]
        if isinstance(value, dict):
            joined[key] = stack_seeds(values)
        elif isinstance(value, np.ndarray):
            joined[key] = np.concatenate(values)
        elif any(other != value for other in values):
            raise ValueError(f"{key}: {values}: the seeds of a pack must stand at the same clock")
        else:
            joined[key] = value
    return joined
