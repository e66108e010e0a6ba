"""A base class for agents in plain torch: modules, optimisers, one ``update(batch)``; the rest is done here.

A first algorithm of one's own needs neither stacks of networks nor named random streams. Whatever ``build``
puts on ``self`` and is a module, an optimiser or a tensor is saved, resumed, handed over and evaluated by
name. Random numbers that torch draws inside ``build``, ``update`` and ``action`` (dropout too) come from the
agent's own generator, so a run resumes exactly and touches no global state. Seeds run one by one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from ..agent import Agent, Budget, Config, Metrics, Stage, State, Task, count, stack_seeds
from ..transitions import Array, Transitions
from ..util.rng import Stream, derive
from ..util.timers import timed
from .networks import to_array
from .options import Share, Size
from .replay import Batch, Replay

TURN, REPORT_EVERY = 100, 500
"""Updates between two chances to save or stop, and between two reports of what ``update`` returns."""


class TorchConfig(Config):
    """Options that every such agent has; an algorithm derives its own."""

    batch_size: Size = 256
    gamma: Share = 0.99
    offline_share: Share = 0.5
    """Offline transitions in a batch once there are online ones."""
    learning_starts: Annotated[int, Field(ge=1)] = count(1000)
    utd_ratio: Size = count(1)


B = TypeVar("B", bound=Config)
C = TypeVar("C", bound=TorchConfig)


class TorchModules(Agent[B], Generic[B]):
    """One seed's modules, optimisers and tensors, its random numbers and its transitions.

    Which stages there are, when updates are due (``due``) and what they learn from is left open.
    """

    seed_batches = False
    provides: ClassVar[tuple[str, ...]] = ("actor",)

    @abstractmethod
    def build(self) -> None:
        """Put modules, optimisers and tensors on ``self``."""

    @abstractmethod
    def learn(self) -> Mapping[str, Tensor]:
        """Do one update; return what to log."""

    @abstractmethod
    def action(self, obs: Tensor, explore: bool) -> Tensor:
        """Return actions (n, act_dim) in [-1, 1] for obs (n, obs_dim), to explore with or to be evaluated."""

    # ---- the agent interface ------------------------------------------------------------------------

    def __init__(self, task: Task, config: B, data: Transitions) -> None:
        super().__init__(task, config, data)
        [seed] = task.seeds
        steps = sum(stage.env_steps for stage in self.stages(config, task.budget))
        self.replay = Replay(data, 1, (task.obs_dim, task.act_dim), steps, 0, task.device)
        self.due, self.logged = 0, dict[str, float]()
        first, on_gpu = derive(seed, Stream.INIT), task.device != "cpu"
        self.random = torch.Generator().manual_seed(first).get_state()
        """The position of its random numbers on the CPU; on a GPU it has others, of their own."""
        self.gpu_random = torch.Generator(task.device).manual_seed(first).get_state() if on_gpu else None
        with self._own_randomness():
            self.build()
        for module in self._all(nn.Module).values():
            module.to(task.device)

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do the updates that are due."""
        while self.due:
            with timed("update"), self._own_randomness():
                for name, value in self.learn().items():
                    self.logged[name] = self.logged.get(name, 0.0) + float(value.detach())
            self.updates, self.due = self.updates + 1, self.due - 1
            if self.updates % REPORT_EVERY == 0:
                logged, self.logged = self.logged, {}
                yield {name: np.array([total / REPORT_EVERY]) for name, total in logged.items()}
            elif self.updates % TURN == 0:
                yield {}

    def act(self, obs: Array, explore: bool) -> Array:
        """Map obs (1, n, obs_dim) to actions (1, n, act_dim)."""
        tensor = torch.from_numpy(np.array(obs[0], np.float32)).to(self.task.device)
        with torch.no_grad(), self._own_randomness(keep=explore):
            return to_array(self.action(tensor, explore).clamp(-1.0, 1.0)[None])

    @contextmanager
    def _own_randomness(self, keep: bool = True) -> Iterator[None]:
        """Let torch draw from this agent's generator; its position is kept unless ``keep`` is false."""
        device = self.task.device
        with torch.random.fork_rng([] if self.gpu_random is None else [device]):
            torch.set_rng_state(self.random)
            if self.gpu_random is not None:
                torch.cuda.set_rng_state(self.gpu_random, device)
            yield
            if keep:
                self.random = torch.get_rng_state()
                self.gpu_random = None if self.gpu_random is None else torch.cuda.get_rng_state(device)

    def _all(self, kind: Any) -> dict[str, Any]:
        of_kind = {name: value for name, value in vars(self).items() if isinstance(value, kind)}
        return {name: value for name, value in of_kind.items() if name not in ("random", "gpu_random")}

    def pretrained_state(self) -> State:
        """Return modules, optimisers and tensors."""
        modules, optimisers = self._all(nn.Module), self._all(torch.optim.Optimizer)
        return {
            "modules": {name: _arrays(module.state_dict()) for name, module in modules.items()},
            "optimisers": {name: _optimiser(optimiser) for name, optimiser in optimisers.items()},
            "tensors": _arrays(self._all(Tensor)),
            "updates": self.updates,
        }

    def warm_start(self, states: Sequence[State]) -> None:
        """Take modules, optimisers and tensors over."""
        self._load(stack_seeds(states))

    def policy(self) -> State:
        """Return modules and tensors."""
        state = self.pretrained_state()
        return {"modules": state["modules"], "tensors": state["tensors"]}

    def load_policy(self, policy: State) -> None:
        """Take modules and tensors over."""
        self._load({"optimisers": {}, **policy})

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        return {
            **self.pretrained_state(),
            "replay": self.replay.state_dict(),
            "random": self.random.numpy()[None].copy(),
            **({} if self.gpu_random is None else {"gpu_random": self.gpu_random.numpy()[None].copy()}),
            "due": self.due,
            "logged": dict(self.logged),
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        self._load(state)
        self.replay.load_state_dict(state["replay"])
        self.random = torch.from_numpy(state["random"][0].copy())
        if self.gpu_random is not None:
            self.gpu_random = torch.from_numpy(state["gpu_random"][0].copy())
        self.updates, self.due, self.logged = state["updates"], state["due"], dict(state["logged"])

    def _load(self, state: State) -> None:
        for name, values in state["modules"].items():
            getattr(self, name).load_state_dict(
                {key: torch.from_numpy(value)[0] for key, value in values.items()}
            )
        for name, values in state["tensors"].items():
            getattr(self, name).data.copy_(torch.from_numpy(values)[0])
        for name, values in state["optimisers"].items():
            _load_optimiser(getattr(self, name), values)


class TorchAgent(TorchModules[C], Generic[C]):
    """Learns from the data for the offline budget, then with the environment.

    With ``pretrain`` set to another algorithm's name it begins from that one's finished run instead, and only
    learns with the environment.
    """

    @abstractmethod
    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        """Learn from obs, action, next_obs (batch, dim), reward, terminated (batch,); return what to log."""

    @classmethod
    def stages(cls, config: C, budget: Budget) -> tuple[Stage, ...]:
        """Learn offline unless there is a pretraining, then with the environment."""
        steps = budget.online_steps
        updates = config.utd_ratio * max(0, steps - config.learning_starts)
        online = (Stage("fine-tune", steps, updates),) if steps else ()
        return online if cls.pretrain else (Stage("offline", updates=budget.offline_updates), *online)

    def begin(self, stage: str) -> None:
        """Order the updates of the offline stage."""
        self.due = self.task.budget.offline_updates if stage == "offline" else 0

    def observe(self, step: Transitions) -> None:
        """Store the step."""
        self.replay.append(step)
        if self.replay.online > self.config.learning_starts:
            self.due = self.config.utd_ratio

    def learn(self) -> Mapping[str, Tensor]:
        """Update from a batch."""
        return self.update(self._batch())

    def _batch(self) -> Batch:
        rows = self.config.batch_size
        if not self.replay.online:
            offline = rows
        else:
            offline = int(self.config.offline_share * rows) if self.replay.offline else 0
        uniform = torch.rand((1, rows), dtype=torch.float64, device=self.task.device)
        of_offline, of_online = uniform.split([offline, rows - offline], 1)
        index = [self.replay.offline_index(of_offline), self.replay.online_index(of_online)]
        return self.replay.unpack(self.replay.rows[torch.cat(index, 1)[0]])


def _arrays(tensors: Mapping[str, Tensor]) -> State:
    return {name: to_array(tensor)[None] for name, tensor in tensors.items()}


def _optimiser(optimiser: torch.optim.Optimizer) -> State:
    """Return an optimiser's moments by parameter number, and the learning rate of each group."""
    moments = {
        str(i): {key: to_array(torch.as_tensor(value))[None] for key, value in of.items()}
        for i, of in optimiser.state_dict()["state"].items()
    }
    return {"moments": moments, "lr": [float(group["lr"]) for group in optimiser.param_groups]}


def _load_optimiser(optimiser: torch.optim.Optimizer, state: State) -> None:
    own = optimiser.state_dict()
    own["state"] = {
        int(i): {key: torch.from_numpy(value).clone()[0] for key, value in of.items()}
        for i, of in state["moments"].items()
    }
    optimiser.load_state_dict(own)
    for group, lr in zip(optimiser.param_groups, state["lr"], strict=True):
        group["lr"] = lr
