"""The agent interface: all that an algorithm and the harness know of each other.

The training of an agent, in the words of this file::

    agent = Agent(task, config, data); agent.warm_start(the pretrained states)
    for stage in Agent.stages(config, budget):
        agent.begin(stage.name)
        for metrics in agent.work(stage.name): ...          # evaluate, save or stop between two yields
        repeat stage.env_steps times:
            agent.observe(environment.step(agent.act(obs, explore=True)))
            for metrics in agent.work(stage.name): ...      # what this step made due

Several seeds train side by side in a seed batch: the first axis of every array that an agent shows is the
seed. One seed is the case ``seeds == 1``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .transitions import Array, Transitions

Metrics = Mapping[str, Array]
"""Name -> one number per seed, shape (seeds,)."""
State = dict[str, Any]
"""Nested dicts whose leaves are arrays with the seeds first, or plain JSON values shared by all seeds."""
Terminal = Callable[[Any, Any, Any], Any]
"""(obs, action, next_obs) -> bool mask over the leading axes; works on numpy and torch alike."""


class Config(BaseModel):
    """Base of every algorithm's typed options: frozen, strict, and unknown keys are refused.

    What stands below an option as its docstring is its meaning; ``o2obench info`` shows it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def identity(self) -> dict[str, Any]:
        """Return the options as a run's identity has them: without ``later`` ones at their defaults."""
        return self.model_dump(mode="json", exclude=set(self._at_later_defaults()))

    def _at_later_defaults(self) -> Iterator[str]:
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("later") and getattr(self, name) == field.default:
                yield name


def count(default: Any, **constraints: Any) -> Any:
    """Declare an option that a reduced suite may cut: a number of epochs, steps, updates or rows."""
    return Field(default, json_schema_extra={"count": True}, **constraints)


def later(default: Any, **constraints: Any) -> Any:
    """Declare an option that came after results: with its default it is no part of a run's identity."""
    return Field(default, json_schema_extra={"later": True}, **constraints)


@dataclass(frozen=True)
class Budget:
    """How long a run may learn: gradient updates without and steps with the environment."""

    offline_updates: int
    online_steps: int


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
}
"""What may stand between the layers of a ``Network``."""


@dataclass(frozen=True)
class Network:
    """A policy as plain arrays: ``squash(.. activation(obs @ weight + bias) .. @ weight + bias)``.

    ``layers`` holds weight (seeds, inputs, outputs) and bias (seeds, outputs) of each layer. The activation
    (relu or tanh) stands between layers, the squash (tanh or none) after the last; observations are raw.
    """

    layers: Sequence[tuple[Array, Array]]
    activation: str = "relu"
    squash: str = "tanh"

    def act(self, obs: Array) -> Array:
        """Return the actions (seeds, n, act_dim) in [-1, 1] for obs (seeds, n, obs_dim); numpy only."""
        x, last = np.asarray(obs, np.float32), len(self.layers) - 1
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias[:, None]
            if i < last:
                x = ACTIVATIONS[self.activation](x)
        x = np.tanh(x) if self.squash == "tanh" else np.clip(x, -1.0, 1.0)
        return np.asarray(x, np.float32)


class Program(Protocol):
    """Somebody's own program, which asks for environment steps and says how its policy acts."""

    @property
    def updates(self) -> int:
        """How many gradient updates it says it has done; 0 where it does not say."""

    def start_from(self, task: Task, data: Transitions, policy: Network | None) -> None:
        """Start it, with the task's sizes, the data, and the policy of a pretraining."""

    def is_ready(self, seconds: float) -> bool:
        """Wait until it asks for a step or has ended, at most so long; tell whether it has."""

    def action(self, obs: Array) -> Array:
        """Return the action (act_dim,) that it takes at an observation (obs_dim,)."""

    def stepped(self, step: Transitions) -> None:
        """Show it the step that it asked for."""

    def judged(self, obs: Array) -> Array:
        """Return the actions (n, act_dim) of the policy that it wants evaluated at obs (n, obs_dim)."""


@dataclass(frozen=True)
class Task:
    """All that an agent may know of its world.

    ``terminal`` is the task's known termination rule, used inside a learned model; None where nobody has
    written one down. Observations are raw, actions in [-1, 1]; ``horizon`` is the longest episode in steps.
    ``pretraining`` builds the agent whose finished runs this one starts from, without data; None where there
    is no such run. ``policy`` is a user's own policy, for the algorithm that shows it; ``program`` is
    somebody's own program, for the algorithm that lets it learn.
    """

    obs_dim: int
    act_dim: int
    horizon: int
    seeds: tuple[int, ...]
    terminal: Terminal | None
    budget: Budget
    device: str = "cpu"
    pretraining: Callable[[], Agent[Any]] | None = None
    policy: Network | None = None
    program: Program | None = None


@dataclass(frozen=True)
class Stage:
    """One part of an algorithm's training: ``env_steps`` with the environment, or none.

    ``updates`` is how many policy updates it plans (0: none, or not known beforehand); only forecasts
    and the display of progress use it.
    """

    name: str
    env_steps: int = 0
    updates: int = 0


KEPT = "kept"
"""What ``Agent.taken_over`` says of a part that a pretraining hands over unchanged."""

C = TypeVar("C", bound=Config)


class Agent(ABC, Generic[C]):
    """An algorithm as the harness sees it.

    Pure state: it holds no environment, no file, no logger, and draws no global random number.
    ``updates`` counts gradient updates of the policy and is the agent's clock.
    """

    Config: ClassVar[type[Config]]
    version: ClassVar[int] = 1
    """Raise it whenever the numbers this algorithm computes change."""
    kit_versions: ClassVar[Mapping[str, int]] = {}
    """The versions of the shared parts it is built from, by name: learners, models, a template."""
    pretrain: ClassVar[str | None] = None
    """The offline algorithm whose finished runs this one starts from, unless an entry says ``from:``."""
    may_start: ClassVar[bool] = False
    """Whether an entry may say ``from:`` though it starts from nothing by itself."""
    resumes: ClassVar[bool] = True
    """Whether a run that was killed goes on from its last checkpoint; if not it begins anew, and says so."""
    label: ClassVar[str] = ""
    """What an entry is called that says no ``label:``; ``{option}`` stands for a value. Empty: its name."""
    requires: ClassVar[tuple[str, ...]] = ()
    """What it needs of a pretrained state, such as actor, critics, model."""
    provides: ClassVar[tuple[str, ...]] = ()
    """What runs that start from a finished run of this one find there."""
    seed_batches: ClassVar[bool] = True
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
        """Return the stages of this algorithm's training, in order, as data."""

    @classmethod
    def schedule(cls, config: C) -> Mapping[str, int]:
        """Return the options, where it has them, that a reader has to know of how it learns online.

        ``learning_starts``: environment steps before anything is learnt; ``utd_ratio``: policy updates per
        environment step.
        """
        return config.model_dump(include={"learning_starts", "utd_ratio"})

    @classmethod
    def misfit(cls, config: C, parent: type[Agent[Any]], of_parent: Any) -> str:
        """Say why it cannot go on from a pretraining with these options; empty: it can, or nobody knows."""
        return ""

    def warm_start(self, states: Sequence[State]) -> None:
        """Take over the pretrained states, one per seed."""
        raise TypeError(f"{type(self).__name__} does not start from another run")

    def taken_over(self) -> Mapping[str, str]:
        """Return what became of the pretraining's parts in ``warm_start``, as run.json has it.

        Texts begin with "kept" (``KEPT``), "fresh" or "distilled". Unless ``actor`` is kept, the first
        evaluation need not equal the pretraining's last one. Empty: all was taken over.
        """
        return {}

    def restore(self, states: Sequence[State]) -> None:
        """Take over what finished runs of this very algorithm handed over, one per seed, to act with it."""
        self.warm_start(states)

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

        ``explore=False`` is always the policy to be evaluated and leaves no trace in the agent. One that
        remembers its episode (``HasMemory``) acts here as in an episode's first step.
        """

    @abstractmethod
    def observe(self, step: Transitions) -> None:
        """Take in one environment step of every seed (leading axis: seeds)."""

    @abstractmethod
    def state_dict(self) -> State:
        """Return everything a resume needs: nets, optimisers, new data, random streams, clocks."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Take back what ``state_dict`` returned."""

    def pretrained_state(self) -> State:
        """Return what a child run or a diagnosis needs of a finished run; default: everything."""
        return self.state_dict()

    def policy(self) -> State | None:
        """Return what ``act(obs, explore=False)`` depends on, so that another process can evaluate it.

        None: the policy is evaluated in the process that trains it.
        """
        return None

    def load_policy(self, policy: State) -> None:
        """Take a policy over, in an agent that was built without data only to be evaluated."""
        raise TypeError(f"{type(self).__name__} does not hand its policy out")


class Player(Protocol):
    """Plays one episode in each of (seeds, n) environments, side by side, and remembers it."""

    def __call__(self, obs: Array) -> Array:
        """Return the next actions (seeds, n, act_dim) in [-1, 1] for the observations after the last."""

    def observe(self, reward: Array) -> None:
        """Take in the rewards (seeds, n) of these actions; 0 where an episode has ended before."""


@runtime_checkable
class HasMemory(Protocol):
    """An agent whose evaluated policy depends on its episode so far, not on the observation alone."""

    def player(self) -> Player | None:
        """Return the evaluated policy at the beginning of episodes; None: it remembers nothing, after all.

        Playing leaves no trace in the agent.
        """


def new_player(agent: Agent[Any]) -> Player | None:
    """Return what plays episodes of an agent that remembers them; None: ``act`` is all there is."""
    return agent.player() if isinstance(agent, HasMemory) else None


@runtime_checkable
class HasNetwork(Protocol):
    """An agent whose evaluation policy can be shown as plain arrays."""

    def network(self) -> Network | None:
        """Return the policy that is evaluated as plain arrays; None where it cannot be shown so."""


@runtime_checkable
class HasDynamicsModel(Protocol):
    """An agent with a dynamics model, which ``o2obench diagnose`` compares with the simulator."""

    def predict(self, obs: Array, action: Array) -> tuple[Array, Array, Array]:
        """Return what the model says of (obs, action), each (seeds, n, ...).

        Means and log-variances (seeds, members, n, obs_dim + 1) of change of observation and reward, raw
        units, and the uncertainty (seeds, n).
        """

    def imagine(self, obs: Array) -> tuple[Array, Array]:
        """Return observations and actions (seeds, rows, ...) of rollouts from obs (seeds, n, obs_dim)."""

    def collected(self, state: State) -> tuple[Array, Array] | None:
        """Return observations and actions (seeds, n, ...) that a finished run collected; None: it did not."""


EXPLORER_RETURN = "explorer/mean_return"
"""The name under which the harness logs what that of ``HasExplorer`` returned."""


@runtime_checkable
class HasExplorer(Protocol):
    """An agent that collects with a policy of its own, which is judged once, beside the evaluated one."""

    def explorer_policy(self) -> State | None:
        """Return it, as ``load_policy`` takes it, at the end of the stage in which it learnt; else None."""


def take_seed(state: State, index: int) -> State:
    """Cut one seed out of a seed batch's state; the seed axis stays, with length one."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        return value[index : index + 1] if isinstance(value, np.ndarray) else value

    return {key: cut(value) for key, value in state.items()}


def stack_seeds(states: Sequence[State]) -> State:
    """Join single-seed states to the state of a seed batch; raise ValueError where their clocks differ."""
    first = states[0]
    joined: State = {}
    for key, value in first.items():
        values = [state[key] for state in states]
        if isinstance(value, dict):
            joined[key] = stack_seeds(values)
        elif isinstance(value, np.ndarray):
            joined[key] = np.concatenate(values)
        elif any(other != value for other in values):
            raise ValueError(f"{key}: {values}: the seeds of a seed batch must stand at the same clock")
        else:
            joined[key] = value
    return joined
