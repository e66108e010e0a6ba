"""Torch-free agents in numpy, registered by entry point as another package would: they test the harness.

The policy is linear, ``tanh(obs W)``. Offline it imitates the data; online it does random search whose
inner loop has many yields, like a model fit.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from o2obench import Agent, Budget, Config, Metrics, Stage, State, Task, Transitions
from o2obench.agent import count, stack_seeds
from o2obench.transitions import Array
from o2obench.util.rng import generator

PAUSE = float(os.environ.get("TOY_PAUSE", "0"))
"""Seconds that fine-tuning waits after each update: how long a run takes is not what it computes."""


class ToyConfig(Config):
    rate: float = 0.05
    inner: int = count(12, gt=0)
    every: int = count(10, gt=0)
    how: Literal["", "hang", "segfault", "exit 139", "memory"] = ""
    """How fine-tuning misbehaves at environment step 30."""
    once: str = ""
    """A file made the first time, after which all is well; empty: it happens again and again."""


class Toy(Agent[ToyConfig]):
    Config = ToyConfig

    def __init__(self, task: Task, config: ToyConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.data = data
        self.weights = np.stack(
            [generator(s, "init").normal(size=(task.obs_dim, task.act_dim)) for s in task.seeds]
        )
        self.noise = [generator(seed, "noise") for seed in task.seeds]
        self.rows = [generator(seed, "rows") for seed in task.seeds]
        self.seen = np.zeros((len(task.seeds), 0, task.obs_dim))
        self.due = 0

    def act(self, obs: Array, explore: bool) -> Array:
        mean = obs @ self.weights
        if explore:
            mean = mean + np.stack([g.normal(size=mean.shape[1:]) for g in self.noise])
        return np.tanh(mean).astype(np.float32)

    def observe(self, step: Transitions) -> None:
        self.seen = np.concatenate([self.seen, step.obs[:, None]], axis=1)
        self.due = self.config.inner if self.seen.shape[1] % self.config.every == 0 else 0

    def policy(self) -> State:
        return {"weights": self.weights.copy()}

    def load_policy(self, policy: State) -> None:
        self.weights = policy["weights"].copy()

    def state_dict(self) -> State:
        return {
            "weights": self.weights.copy(),
            "noise": np.stack([_position(g) for g in self.noise]),
            "rows": np.stack([_position(g) for g in self.rows]),
            "seen": self.seen.copy(),
            "due": self.due,
            "updates": self.updates,
        }

    def load_state_dict(self, state: State) -> None:
        self.weights, self.seen = state["weights"].copy(), state["seen"].copy()
        for generators, positions in ((self.noise, state["noise"]), (self.rows, state["rows"])):
            for one, position in zip(generators, positions, strict=True):
                _move(one, position)
        self.due, self.updates = state["due"], state["updates"]

    def warm_start(self, states: Sequence[State]) -> None:
        self.weights = stack_seeds(states)["weights"].copy()

    def pretrained_state(self) -> State:
        return {"weights": self.weights.copy(), "updates": self.updates}


class ToyOffline(Toy):
    """Imitate the data."""

    @classmethod
    def stages(cls, config: ToyConfig, budget: Budget) -> tuple[Stage, ...]:
        return (Stage("look"), Stage("imitate", updates=budget.offline_updates))

    def work(self, stage: str) -> Iterator[Metrics]:
        if stage == "look":
            yield {}
        while stage == "imitate" and self.updates < self.task.budget.offline_updates:
            for i, rows in enumerate(self.rows):
                batch = self.data[rows.integers(len(self.data), size=32)]
                error = np.tanh(batch.obs @ self.weights[i]) - batch.action
                self.weights[i] -= self.config.rate * batch.obs.T @ error / 32
            self.updates += 1
            if self.updates % 10 == 0:
                yield {"norm": np.abs(self.weights).sum(axis=(1, 2))}


class ToyTune(Toy):
    """Random search, a few trials every few steps."""

    pretrain = "toy_offline"

    @classmethod
    def stages(cls, config: ToyConfig, budget: Budget) -> tuple[Stage, ...]:
        return (Stage("fine-tune", budget.online_steps, config.inner * budget.online_steps // config.every),)

    def observe(self, step: Transitions) -> None:
        super().observe(step)
        if self.config.how and self.seen.shape[1] == 30 and self._again():
            misbehave(self.config.how)

    def _again(self) -> bool:
        if not self.config.once:
            return True
        try:
            Path(self.config.once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def work(self, stage: str) -> Iterator[Metrics]:
        while self.due:
            step = np.stack([g.normal(size=self.weights.shape[1:]) for g in self.rows])
            self.weights = self.weights + 0.02 * step * self.seen[:, -1:].mean(axis=2, keepdims=True)
            self.updates, self.due = self.updates + 1, self.due - 1
            time.sleep(PAUSE)
            yield {"norm": np.abs(self.weights).sum(axis=(1, 2))}


class ToyBreaks(ToyTune):
    """Raise an error after some steps."""

    def observe(self, step: Transitions) -> None:
        super().observe(step)
        if self.seen.shape[1] == 30:
            raise RuntimeError("broken on purpose")


class ToyDiverges(ToyTune):
    """Seed 1 computes NaN after some steps; its neighbours do not."""

    def work(self, stage: str) -> Iterator[Metrics]:
        for metrics in super().work(stage):
            bad = (np.array(self.task.seeds) == 1) & (self.seen.shape[1] >= 30)
            yield {"norm": np.where(bad, np.nan, metrics["norm"])}


def misbehave(how: str) -> None:
    """Do what no algorithm should."""
    if how == "hang":
        time.sleep(3600)
    elif how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "exit 139":
        os._exit(139)
    elif how == "memory":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
        np.ones(2**30)


def _position(stream: np.random.Generator) -> Array:
    """Return the stream's position as numbers: PCG64's two 128-bit integers and its half-used draw."""
    state = stream.bit_generator.state
    words = [state["state"]["state"], state["state"]["inc"]]
    halves = [part for word in words for part in (word >> 64, word & (2**64 - 1))]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], dtype=np.uint64)


def _move(stream: np.random.Generator, position: Array) -> None:
    a, b, c, d, has, value = (int(word) for word in position)
    stream.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": a << 64 | b, "inc": c << 64 | d},
        "has_uint32": has,
        "uinteger": value,
    }
