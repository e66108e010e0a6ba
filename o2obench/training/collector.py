"""A SAC training of which everything is kept: every step with the simulator's state, policies by level.

D4RL's kinds of data are all cut from such a training (``collect.py``). It is saved every two minutes and
goes on from there; a finished one is only read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import registry
from ..agent import Agent, Budget, State, Task
from ..envs.episode import Interaction
from ..envs.spec import EnvSpec, find_env
from ..errors import Interrupted, UserError
from ..runs import checkpoint
from ..transitions import Array, stack_steps
from ..util.rng import Stream
from . import provenance
from .build import no_data
from .evaluation import Arena
from .options import Stop
from .rows import Rows

EVALUATE_EVERY, EPISODES = 5_000, 10
SAVE_SECONDS = 120.0
Show = Callable[[int], None]
"""Shows how many steps of a collection are done."""


def unseen(step: int) -> None:
    """Show nothing."""


class Training:
    """SAC from scratch for ``steps`` steps, kept in ``folder``."""

    def __init__(self, env_id: str, folder: Path, steps: int, seed: int, threads: int = 1) -> None:
        self.spec, self.folder, self.steps, self.seed = find_env(env_id), folder, steps, seed
        self.machine = settle_machine(threads, steps)
        self.agent = collector(self.spec, seed, steps)
        self.interaction = Interaction(self.spec, seed)
        self.step, self.number = 0, 0
        self.rows = Rows()
        self.levels: dict[str, list[float]] = {}
        """Returns of ten greedy episodes, by step."""
        self.policies: dict[str, State] = {}
        saved = checkpoint.load(folder)
        if saved:
            self.number = saved[0]
            self._load(saved[1])

    def run(
        self, enough: Callable[[], bool], say: Callable[[str], None], stop: Stop, show: Show = unseen
    ) -> None:
        """Train until an evaluation after which ``enough`` holds, or to the end; show the step now and then.

        Raises Interrupted, with everything saved, when asked to stop.
        """
        if self.levels and (enough() or self.step >= self.steps):
            return
        arena, saved_at = Arena(self.spec, (self.seed,)), time.monotonic()
        while True:
            if self.step % EVALUATE_EVERY == 0 and str(self.step) not in self.levels:
                self._evaluate(arena, say)
                if enough():
                    break
            if self.step >= self.steps:
                break
            advance(self.agent, self.interaction, self.rows)
            self.step += 1
            show(self.step)
            if stop() or time.monotonic() - saved_at > SAVE_SECONDS:
                self.save()
                saved_at = time.monotonic()
                if stop():
                    raise Interrupted
        self.save()

    def _evaluate(self, arena: Arena, say: Callable[[str], None]) -> None:
        act = self.agent.act
        returns = arena.returns(lambda obs: act(obs, explore=False), (Stream.AT_LEVEL, self.step), EPISODES)[
            0
        ]
        policy = self.agent.policy()
        assert policy is not None
        self.levels[str(self.step)] = [float(value) for value in returns]
        self.policies[str(self.step)] = policy
        where = f"{self.spec.id} seed {self.seed}: step {self.step:,} of {self.steps:,}"
        say(f"{where}, return {returns.mean():.0f}")

    def arrays(self, end: int | None = None) -> dict[str, Array]:
        """Return the first ``end`` steps as arrays by D4RL's keys; the last row ends an episode."""
        return self.rows.arrays(end)

    def save(self) -> None:
        """Save everything."""
        self.number += 1
        state = {
            "what": [self.spec.id, self.seed],
            "step": self.step,
            "agent": self.agent.state_dict(),
            "interaction": self.interaction.state_dict(),
            "rows": self.rows.stored(),
            "levels": self.levels,
            "policies": self.policies,
        }
        checkpoint.save(self.folder, self.number, state)

    def _load(self, state: State) -> None:
        training = [self.spec.id, self.seed]
        if state["what"][:2] != training:
            message = f"{self.folder}: holds the training {state['what']}, asked for {training}"
            raise UserError(f"{message}; name another with --work")
        self.step, self.levels, self.policies = state["step"], state["levels"], state["policies"]
        self.rows = Rows(state["rows"])
        self.agent.load_state_dict(state["agent"])
        self.interaction.load_state_dict(state["interaction"])


def settle_machine(threads: int, steps: int) -> dict[str, Any]:
    """Make this process compute on so many threads, compiled where it pays; return what was settled."""
    registry.algorithm("sac")  # imports torch, which is then settled
    provenance.prepare(threads)
    machine = provenance.compute("cpu", threads, compiled=steps >= provenance.COMPILE_FROM)
    provenance.apply(machine)
    return machine


def collector(spec: EnvSpec, seed: int, steps: int) -> Agent[Any]:
    """Return SAC from scratch, for ``steps`` steps."""
    agent_class = registry.algorithm("sac")
    task = Task(spec.obs_dim, spec.act_dim, spec.horizon, (seed,), spec.terminal, Budget(0, steps))
    return agent_class(task, agent_class.Config(), no_data(spec))


def advance(agent: Agent[Any], interaction: Interaction, rows: Rows) -> None:
    """Let an agent take one step and learn from it, and append the step to ``rows``."""
    rows.note_state(interaction.env)
    step, _ = interaction.step(agent.act(interaction.obs[None, None], explore=True)[0, 0])
    rows.append(interaction.spec, step)
    agent.observe(stack_steps([step]))
    for _ in agent.work("fine-tune"):
        pass
