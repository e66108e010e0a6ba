"""The loop: one agent goes through its stages, and the harness writes down what happens.

Several runs that differ only in their seed may share one agent (a seed batch). The harness owns the
environments, the step budget, evaluation, checkpoints and logs; the agent owns what it learns. A
process killed at any instant goes on from its last checkpoint and ends with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..agent import EXPLORER_RETURN, Agent, HasExplorer, Metrics, Stage, State, take_seed
from ..envs.episode import Interaction, nothing
from ..envs.spec import find_env
from ..errors import Diverged, Interrupted, RunFailed
from ..runs.folder import ResultsFolder
from ..runs.spec import EvaluationSchedule, evaluations_due
from ..runs.writer import RunWriter
from ..transitions import Array, stack_steps
from ..util import timers
from ..util.rng import Stream
from ..util.timers import timed
from .async_evaluation import Evaluator, Snapshot
from .evaluation import Arena, evaluated
from .options import Options, Stop, never

StartStates = tuple[str | int, ...]
"""Names the start states of an evaluation: equal for all algorithms at an equal clock."""


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
    """The state of the loop: the agent, one writer per seed, and the clock they share."""

    def __init__(
        self,
        writers: Sequence[RunWriter],
        results: ResultsFolder,
        agent: Agent[Any],
        options: Options,
        stop: Stop = never,
    ) -> None:
        run = writers[0].run
        spec = find_env(run.spec.environment)
        self.writers, self.agent, self.options, self.stop = writers, agent, options, stop
        self.protocol, self.pretrained = run.spec.protocol, run.parent is not None
        self.stages = type(agent).stages(agent.config, agent.task.budget)
        apart = writers[0].record["compute"]["evaluation"] == "apart" and agent.policy() is not None
        self.evaluator = Evaluator([w.run for w in writers], results) if apart else None
        self.arena = None if self.evaluator else Arena(spec, agent.task.seeds)
        interactive = any(stage.env_steps for stage in self.stages)
        self.interactions = [Interaction(spec, seed) for seed in agent.task.seeds] if interactive else []
        self.last_steps = [nothing(spec) for _ in writers]
        self.clock, self.number = Clock(), 0
        self.saved_at, self.save_cost = time.monotonic(), 0.0

    def run(
        self, saved: State | None, parents: Sequence[State], check_start: Callable[[], None] = lambda: None
    ) -> None:
        """Go through all stages that are left; ``saved`` is the state to resume from."""
        if saved is not None:
            self.load(saved)
        elif parents:
            self.agent.warm_start(parents)
            for writer in self.writers:
                writer.note("taken_over", dict(self.agent.taken_over()))
        if not self.clock.started:
            if parents or self.stages[0].env_steps:
                self.evaluate("start", self.protocol.final_episodes, (Stream.AT_ONLINE_START,))
                self.collect(wait=True)
                check_start()
            self.clock.started = True
        while self.clock.stage < len(self.stages):
            self.run_stage(self.stages[self.clock.stage])

    def run_stage(self, stage: Stage) -> None:
        """Go through one stage, or through what is left of it."""
        clock = self.clock
        if not clock.begun:
            self.agent.begin(stage.name)
            clock.begun, clock.stage_steps, clock.stage_updates = True, 0, self.agent.updates
            clock.evaluated = clock.env_steps if stage.env_steps else self.agent.updates
        while True:
            for metrics in self.agent.work(stage.name):
                self.write_metrics(stage, metrics)
                if not stage.env_steps:
                    self.evaluate_if_due(stage, self.agent.updates, self.protocol.updates)
                self.heartbeat(stage)
            if clock.stage_steps >= stage.env_steps:
                break
            self.evaluate_if_due(stage, clock.env_steps, self.protocol.steps)
            self.heartbeat(stage)
            self.step(stage)
        self.evaluate(stage.name, self.protocol.final_episodes, self.start_states(stage, at_end=True))
        self.evaluate_explorer(stage.name, self.protocol.final_episodes, (Stream.AT_ONLINE_START,))
        clock.stage, clock.begun = clock.stage + 1, False

    def evaluate_if_due(self, stage: Stage, now: int, schedule: EvaluationSchedule) -> None:
        """Evaluate when ``now`` has passed an evaluation's place; a stage's end has its own row."""
        done, total = self.position(stage)
        due = evaluations_due(schedule, now) > evaluations_due(schedule, self.clock.evaluated)
        if due and not (total and done >= total):
            self.evaluate(stage.name, self.protocol.episodes, self.start_states(stage, at_end=False))
            self.clock.evaluated = now

    def position(self, stage: Stage) -> tuple[int, int]:
        """Return how much of a stage is done and how much there is (0: unknown), in its own unit."""
        if stage.env_steps:
            return self.clock.stage_steps, stage.env_steps
        return self.agent.updates - self.clock.stage_updates, stage.updates

    def start_states(self, stage: Stage, at_end: bool) -> StartStates:
        """Name the start states of an evaluation."""
        following = self.stages[self.clock.stage + 1 :][:1]
        before_online = not self.clock.env_steps and all(s.env_steps for s in following)
        if at_end and before_online and not self.pretrained:
            return (Stream.AT_ONLINE_START,)
        if stage.env_steps:
            return (Stream.AT_ENV_STEPS, self.clock.env_steps)
        return (Stream.AT_UPDATES, self.clock.env_steps, self.agent.updates)

    def step(self, stage: Stage) -> None:
        """Do one environment step with every seed and show it to the agent."""
        obs = np.stack([interaction.obs for interaction in self.interactions])[:, None, :]
        with timed("act"):
            actions = self.agent.act(obs, explore=True)[:, 0]
        self.clock.env_steps += 1
        self.clock.stage_steps += 1
        for i, (writer, interaction) in enumerate(zip(self.writers, self.interactions, strict=True)):
            if not writer.alive:
                continue  # the agent sees this seed's last step again; nobody records it
            try:
                with timed("env"):
                    self.last_steps[i], ended = interaction.step(actions[i])
            except Diverged as error:
                writer.diverge(f"{error} (step {self.clock.env_steps})")
                continue
            if ended:
                played = (ended.env_return, ended.length, ended.terminated)
                writer.write_episode(stage.name, self.clock.env_steps, *played)
        self.check_alive()
        self.agent.observe(stack_steps(self.last_steps))

    def evaluate(self, stage: str, episodes: int, key: StartStates) -> None:
        """Write one row of raw returns for each seed, or order it from the evaluator."""
        clock = (stage, self.clock.env_steps, self.agent.updates)
        if self.evaluator:
            self.evaluator.submit(Snapshot(*clock, episodes, key, self.agent.policy() or {}))
        elif self.arena:
            with timed("evaluation"):
                returns = self.arena.returns(evaluated(self.agent), key, episodes)
            self.write_evaluation(*clock, returns)

    def evaluate_explorer(self, stage: str, episodes: int, key: StartStates) -> None:
        """Log the mean return of the policy that will collect, where it is another one that just learnt."""
        explorer = self.agent.explorer_policy() if isinstance(self.agent, HasExplorer) else None
        if explorer is None:
            return
        clock = (stage, self.clock.env_steps, self.agent.updates)
        if self.evaluator:
            self.evaluator.submit(Snapshot(*clock, episodes, key, explorer, explorer=True))
        elif self.arena:
            own = self.agent.policy() or {}
            self.agent.load_policy(explorer)
            with timed("evaluation"):
                returns = self.arena.returns(evaluated(self.agent), key, episodes)
            self.agent.load_policy(own)
            self.write_explorer(*clock, returns)

    def collect(self, wait: bool) -> None:
        """Write the rows that the evaluator has finished, in their order; with ``wait`` all of them."""
        if self.evaluator:
            for snapshot, returns in self.evaluator.results(wait):
                write = self.write_explorer if snapshot.explorer else self.write_evaluation
                write(snapshot.stage, snapshot.env_steps, snapshot.updates, returns)

    def write_evaluation(self, stage: str, env_steps: int, updates: int, returns: Array) -> None:
        """Write an evaluation; what is not finite ends that seed's run."""
        spent = timers.take()
        for writer, row in zip(self.writers, returns, strict=True):
            writer.write_evaluation(stage, env_steps, updates, row, spent)
        self.check_alive()

    def write_explorer(self, stage: str, env_steps: int, updates: int, returns: Array) -> None:
        """Log what the collecting policy returns: the mean of episodes of its mean action, raw."""
        for writer, row in zip(self.writers, returns, strict=True):
            writer.write_metrics(stage, env_steps, updates, {EXPLORER_RETURN: float(row.mean())})
        self.check_alive()

    def write_metrics(self, stage: Stage, metrics: Metrics) -> None:
        """Write down what the agent logs of its learning; what is not finite ends that seed's run."""
        for i, writer in enumerate(self.writers):
            values = {name: float(value[i]) for name, value in metrics.items()}
            if values:
                writer.write_metrics(stage.name, self.clock.env_steps, self.agent.updates, values)
        self.check_alive()

    def check_alive(self) -> None:
        """Stop when no seed of the seed batch is left."""
        if not any(writer.alive for writer in self.writers):
            raise Diverged("; ".join(writer.reason for writer in self.writers))

    def progress(self, stage: Stage) -> dict[str, Any]:
        """Return where the run stands, for those who watch it and in its checkpoints."""
        done, total = self.position(stage)
        return {
            "stage": stage.name,
            "stages": [self.clock.stage, len(self.stages)],
            "done": done,
            "total": total,
            "unit": "steps" if stage.env_steps else "updates",
            "env_steps": self.clock.env_steps,
            "updates": self.agent.updates,
        }

    def heartbeat(self, stage: Stage) -> None:
        """Between two pieces of work: show progress, save when it is time, stop when asked to."""
        self.collect(wait=False)
        progress = self.progress(stage)
        for writer in self.writers:
            writer.heartbeat(progress)
        stopping = self.stop()
        pause = max(self.options.checkpoint_seconds, 50 * self.save_cost)
        if self.agent.resumes and (stopping or time.monotonic() - self.saved_at >= pause):
            with timed("durability"):
                self.save(progress)
        if stopping:
            raise Interrupted

    def save(self, progress: dict[str, Any]) -> None:
        """Write a checkpoint for every seed that is alive; it says how far the run is."""
        began = time.monotonic()
        agent = self.agent.state_dict()
        pending = self.evaluator.state_dict() if self.evaluator else {}
        self.number += 1
        for i, writer in enumerate(self.writers):
            if writer.alive:
                interaction = self.interactions[i].state_dict() if self.interactions else {}
                of_seed = {"agent": take_seed(agent, i), "pending": take_seed(pending, i)}
                of_seed |= {"interaction": interaction, "clock": asdict(self.clock), "progress": progress}
                writer.save(self.number, of_seed)
        self.saved_at = time.monotonic()
        self.save_cost = self.saved_at - began

    def load(self, saved: State) -> None:
        """Take back the state of a seed batch."""
        self.clock, self.number = self._clock(saved["clock"]), saved["number"]
        self.agent.load_state_dict(saved["agent"])
        if self.evaluator:
            self.evaluator.load_state_dict(saved["pending"])
        for writer, interaction in zip(self.writers, self.interactions, strict=bool(self.interactions)):
            interaction.load_state_dict(saved["seeds"][writer.run.id]["interaction"])

    def _clock(self, value: dict[str, Any]) -> Clock:
        """Return a saved clock; refuse one that no run of these stages can have shown."""
        clock = Clock(**value)
        counts = (clock.stage, clock.env_steps, clock.stage_steps, clock.stage_updates, clock.evaluated)
        whole = all(type(count) is int and count >= 0 for count in counts) and clock.stage <= len(self.stages)
        before = sum(stage.env_steps for stage in self.stages[: clock.stage]) if whole else 0
        if not whole or clock.env_steps != before + clock.begun * clock.stage_steps:
            raise RunFailed(
                f"{self.writers[0].folder.checkpoint}: its clock is none of this run: {value}; "
                "remove that folder, and the run begins anew"
            )
        return clock

    def finish(self) -> None:
        """Publish every run that is alive; what remains of its state is what a child run needs."""
        self.collect(wait=True)
        final = self.agent.pretrained_state()
        for i, writer in enumerate(self.writers):
            if writer.alive:
                writer.finish(self.number + 1, {"agent": take_seed(final, i), "final": True})

    def close(self) -> None:
        """End the evaluator's process."""
        if self.evaluator:
            self.evaluator.close()
