"""The loop: one agent lives through its stages, and the harness writes down what happens.

Several runs that differ only in their seed may share one agent (a pack). The harness owns the
environments, the step budget, evaluation, checkpoints and logs; the agent owns what it learns. A
process killed at any instant goes on from its last checkpoint and ends with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..agent import Agent, Array, Metrics, Stage, State, stack_steps, take_seed
from ..envs.spec import Interaction, find_env, nothing
from ..errors import Diverged, Interrupted
from ..runs.writer import Slot
from ..util import timers
from ..util.rng import Stream
from ..util.timers import timed
from .async_evaluation import Evaluator, Snapshot
from .evaluation import Arena
from .options import Options


@dataclass(frozen=True)
class Protocol:
    """When a run is evaluated, on how many episodes; part of its identity.

    ``steps`` counts environment steps between two evaluations, ``updates`` gradient updates in stages
    without the environment. ``final_episodes`` judge the switch and the end of each stage.
    """

    steps: int
    updates: int
    episodes: int
    final_episodes: int


@dataclass
class Clock:
    """Where a run stands; saved with every checkpoint."""

    stage: int = 0
    begun: bool = False
    env_steps: int = 0
    stage_steps: int = 0
    stage_updates: int = 0
    evaluated: int = 0
    started: bool = False


class Training:
    """The state of the loop: the agent, one slot per seed, and the clock they share."""

    def __init__(self, slots: Sequence[Slot], agent: Agent[Any], options: Options) -> None:
        spec = find_env(slots[0].run.spec["environment"])
        self.slots, self.agent, self.options = slots, agent, options
        self.protocol = Protocol(**slots[0].run.spec["protocol"])
        self.stages = type(agent).stages(agent.config, agent.task.budget)
        apart = slots[0].record["compute"]["evaluation"] == "apart"
        self.evaluator = Evaluator([s.run for s in slots]) if apart and agent.policy() else None
        self.arena = None if self.evaluator else Arena(spec, agent.task.seeds)
        interactive = any(stage.env_steps for stage in self.stages)
        self.lives = [Interaction(spec, seed) for seed in agent.task.seeds] if interactive else []
        self.rows = [nothing(spec) for _ in slots]
        self.clock, self.number = Clock(), 0
        self.saved_at, self.save_cost = time.monotonic(), 0.0

    def run(self, saved: State | None, parents: Sequence[State]) -> None:
        """Live through all stages that are left; ``saved`` is the pack's state to resume from."""
        if saved is not None:
            self.load(saved)
        elif parents:
            self.agent.warm_start(parents)
        if not self.clock.started:
            if parents or self.stages[0].env_steps:
                self.evaluate("start", self.protocol.final_episodes, (Stream.AT_ONLINE_START,))
                self.collect(wait=True)
                for slot in self.slots:
                    slot.check_start()
            self.clock.started = True
        while self.clock.stage < len(self.stages):
            self.live(self.stages[self.clock.stage])

    def live(self, stage: Stage) -> None:
        """Live through one stage, or through what is left of it."""
        clock = self.clock
        if not clock.begun:
            self.agent.begin(stage.name)
            clock.begun, clock.stage_steps, clock.stage_updates = True, 0, self.agent.updates
            clock.evaluated = clock.env_steps if stage.env_steps else self.agent.updates
        while True:
            for metrics in self.agent.work(stage.name):
                self.record(stage, metrics)
                if not stage.env_steps:
                    self.evaluate_if_due(stage, self.agent.updates, self.protocol.updates)
                self.breathe(stage)
            if clock.stage_steps >= stage.env_steps:
                break
            self.evaluate_if_due(stage, clock.env_steps, self.protocol.steps)
            self.breathe(stage)
            self.step(stage)
        self.evaluate(stage.name, self.protocol.final_episodes, self.start_states(stage, at_end=True))
        clock.stage, clock.begun = clock.stage + 1, False

    def evaluate_if_due(self, stage: Stage, now: int, every: int) -> None:
        """Evaluate when ``now`` has passed a multiple of ``every``; a stage's end has its own row."""
        done, total = self.position(stage)
        if every and now // every > self.clock.evaluated // every and not (total and done >= total):
            self.evaluate(stage.name, self.protocol.episodes, self.start_states(stage, at_end=False))
            self.clock.evaluated = now

    def position(self, stage: Stage) -> tuple[int, int]:
        """Return how much of a stage is done and how much there is (0: unknown), in its own unit."""
        if stage.env_steps:
            return self.clock.stage_steps, stage.env_steps
        return self.agent.updates - self.clock.stage_updates, stage.updates

    def start_states(self, stage: Stage, at_end: bool) -> tuple[str | int, ...]:
        """Name the start states of an evaluation: equal for all algorithms at an equal clock."""
        following = self.stages[self.clock.stage + 1 :][:1]
        before_switch = not self.clock.env_steps and all(s.env_steps for s in following)
        if at_end and before_switch and self.agent.pretrain is None:
            return (Stream.AT_ONLINE_START,)
        if stage.env_steps:
            return (Stream.AT_ENV_STEPS, self.clock.env_steps)
        return (Stream.AT_UPDATES, self.clock.env_steps, self.agent.updates)

    def step(self, stage: Stage) -> None:
        """Do one environment step with every seed and show it to the agent."""
        obs = np.stack([life.obs for life in self.lives])[:, None, :]
        with timed("act"):
            actions = self.agent.act(obs, explore=True)[:, 0]
        self.clock.env_steps += 1
        self.clock.stage_steps += 1
        for i, (slot, life) in enumerate(zip(self.slots, self.lives, strict=True)):
            if not slot.alive:
                continue  # the agent sees this seed's last step again; nobody records it
            try:
                with timed("env"):
                    self.rows[i], finished = life.step(actions[i])
            except Diverged as error:
                slot.diverge(f"{error} (step {self.clock.env_steps})")
                continue
            if finished:
                slot.episode(stage.name, self.clock.env_steps, finished)
        self.check_alive()
        self.agent.observe(stack_steps(self.rows))

    def evaluate(self, stage: str, episodes: int, key: tuple[str | int, ...]) -> None:
        """Write one row of raw returns for each seed, or order it from the evaluator."""
        clock = (stage, self.clock.env_steps, self.agent.updates)
        if self.evaluator:
            self.evaluator.submit(Snapshot(*clock, episodes, key, self.agent.policy() or {}))
        elif self.arena:
            with timed("evaluation"):
                returns = self.arena.returns(lambda obs: self.agent.act(obs, explore=False), key, episodes)
            self.write_row(*clock, returns)

    def collect(self, wait: bool) -> None:
        """Write the rows that the evaluator has finished, in their order; with ``wait`` all of them."""
        if self.evaluator:
            for one, returns in self.evaluator.results(wait):
                self.write_row(one.stage, one.env_steps, one.updates, returns)

    def write_row(self, stage: str, env_steps: int, updates: int, returns: Array) -> None:
        """Write an evaluation; what is not finite ends that seed's run."""
        spent = timers.take()
        for slot, row in zip(self.slots, returns, strict=True):
            slot.evaluation(stage, env_steps, updates, row, spent)
        self.check_alive()

    def record(self, stage: Stage, metrics: Metrics) -> None:
        """Write down what the agent says of its learning; what is not finite ends that seed's run."""
        for i, slot in enumerate(self.slots):
            values = {name: float(value[i]) for name, value in metrics.items()}
            if values:
                slot.metrics(stage.name, self.clock.env_steps, self.agent.updates, values)
        self.check_alive()

    def check_alive(self) -> None:
        """Stop when no seed of the pack is left."""
        if not any(slot.alive for slot in self.slots):
            raise Diverged("; ".join(slot.reason for slot in self.slots))

    def breathe(self, stage: Stage) -> None:
        """Between two pieces of work: show progress, save when it is time, stop when asked to."""
        self.collect(wait=False)
        done, total = self.position(stage)
        progress = {
            "stage": stage.name,
            "stages": [self.clock.stage, len(self.stages)],
            "done": done,
            "total": total,
            "unit": "steps" if stage.env_steps else "updates",
            "env_steps": self.clock.env_steps,
            "updates": self.agent.updates,
        }
        for slot in self.slots:
            slot.breathe(progress)
        stopping = self.options.stop()
        pause = max(self.options.checkpoint_seconds, 50 * self.save_cost)
        if stopping or time.monotonic() - self.saved_at >= pause:
            with timed("durability"):
                self.save()
        if stopping:
            raise Interrupted

    def save(self) -> None:
        """Write a checkpoint for every seed that is alive."""
        began = time.monotonic()
        agent = self.agent.state_dict()
        pending = self.evaluator.state_dict() if self.evaluator else {}
        self.number += 1
        for i, slot in enumerate(self.slots):
            if slot.alive:
                life = self.lives[i].state_dict() if self.lives else {}
                of_seed = {"agent": take_seed(agent, i), "pending": take_seed(pending, i), "life": life}
                slot.save(self.number, {**of_seed, "clock": asdict(self.clock)})
        self.saved_at = time.monotonic()
        self.save_cost = self.saved_at - began

    def load(self, saved: State) -> None:
        """Take back the state of a pack."""
        self.clock, self.number = Clock(**saved["clock"]), saved["number"]
        self.agent.load_state_dict(saved["agent"])
        if self.evaluator:
            self.evaluator.load_state_dict(saved["pending"])
        for slot, life in zip(self.slots, self.lives, strict=bool(self.lives)):
            life.load_state_dict(saved["seeds"][slot.run.id]["life"])

    def finish(self) -> None:
        """Publish every run that is alive; what remains of its state is what a child run needs."""
        self.collect(wait=True)
        final = self.agent.handover()
        for i, slot in enumerate(self.slots):
            if slot.alive:
                slot.finish(self.number + 1, {"agent": take_seed(final, i), "final": True})

    def close(self) -> None:
        """End the evaluator's process."""
        if self.evaluator:
            self.evaluator.close()
