"""Evaluation in a process of its own, on snapshots of the policy, while training goes on.

For runs on a GPU, where simulating episodes would take longer than learning. Results come back in the
order of the snapshots, so the rows of a run are the same as if it had waited; snapshots whose results
have not come back are part of the run's checkpoint.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..agent import State
from ..envs.own import own_arguments, take_own_of
from ..envs.spec import find_env
from ..errors import RunFailed
from ..runs.folder import ResultsFolder
from ..runs.spec import Run
from ..transitions import Array
from .evaluation import Arena, evaluated

AHEAD = 4
"""Snapshots that may wait for their evaluation; with more, training waits."""


@dataclass(frozen=True)
class Snapshot:
    """A policy at a clock, and the episodes by which it is to be evaluated."""

    stage: str
    env_steps: int
    updates: int
    episodes: int
    key: tuple[str | int, ...]
    policy: State
    explorer: bool = False
    """Whether it is not the policy that is evaluated but the one that will collect."""


class Evaluator:
    """The other process, and the snapshots that it has not evaluated yet."""

    def __init__(self, runs: Sequence[Run], results: ResultsFolder) -> None:
        self.pending: deque[Snapshot] = deque()
        self.busy = False
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        given = (theirs, list(runs), results, own_arguments())
        self.process = context.Process(target=_serve, args=given, daemon=True)
        self.process.start()
        theirs.close()

    def submit(self, snapshot: Snapshot) -> None:
        """Order the evaluation of a snapshot."""
        self.pending.append(snapshot)
        self._feed()

    def results(self, wait: bool) -> list[tuple[Snapshot, Array]]:
        """Return what has been evaluated, with its raw returns (seeds, episodes).

        With ``wait`` everything pending, else what is there, and enough that few snapshots wait.
        """
        evaluated = []
        while self.pending and (wait or len(self.pending) > AHEAD or self.pipe.poll()):
            try:
                returns = self.pipe.recv()
            except (EOFError, OSError):
                raise _gone() from None
            evaluated.append((self.pending.popleft(), returns))
            self.busy = False
            self._feed()
        return evaluated

    def _feed(self) -> None:
        """Hand over the oldest snapshot when the other process is idle: a pipe holds only so much."""
        if self.pending and not self.busy:
            snapshot = self.pending[0]
            try:
                self.pipe.send((snapshot.policy, snapshot.key, snapshot.episodes))
            except OSError:
                raise _gone() from None
            self.busy = True

    def state_dict(self) -> State:
        """Return the snapshots that are pending, by their order."""
        return {
            str(i): {**vars(snapshot), "key": list(snapshot.key)} for i, snapshot in enumerate(self.pending)
        }

    def load_state_dict(self, state: State) -> None:
        """Order the evaluations again that were pending."""
        for i in sorted(state, key=int):
            self.submit(Snapshot(**{**state[i], "key": tuple(state[i]["key"])}))

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _gone() -> RunFailed:
    return RunFailed("the evaluation process ended; its last words are in the run's log.txt")


def _serve(pipe: Any, runs: list[Run], results: ResultsFolder, own: list[str]) -> None:
    """Evaluate one snapshot after another, on a CPU, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from . import provenance
    from .build import build

    take_own_of(own)
    agent = build(runs, results, "cpu", with_data=False)
    provenance.prepare(threads=1)
    arena = Arena(find_env(runs[0].spec.environment), agent.task.seeds)
    while True:
        try:
            policy, key, episodes = pipe.recv()
        except (EOFError, OSError):
            return
        agent.load_policy(policy)
        pipe.send(arena.returns(evaluated(agent), key, episodes))
