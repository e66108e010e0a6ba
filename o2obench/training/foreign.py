"""The harness's end of the bridge to somebody's own program: it is started, asked, shown steps and ended.

A command comes from the command line alone, never from a file. The program is told an address of this machine
and a word by which it is known. Messages are lines of JSON; arrays lie in .npz files in a temporary folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..agent import Network, Task
from ..datasets.policy_files import to_npz
from ..errors import Interrupted, RunFailed, UserError
from ..runs.folder import RunFolder
from ..runs.jsonl import read_jsonl
from ..runs.spec import FOREIGN, Run
from ..transitions import Array, Transitions
from ..util.files import read_json
from .options import Options, Stop

MOST_BYTES = 2**26
"""Of a message."""
GRACE = 10.0
"""Seconds that a program has to end by itself."""


class Bridge:
    """A program that learns in a process of its own; see ``agent.Program``.

    Raises RunFailed where it ends before its steps are done or says what cannot be, and Interrupted where the
    run is asked to stop while it waits.
    """

    def __init__(self, run: Run, command: str, stop: Stop) -> None:
        self.run, self.command, self.stop = run, command, stop
        self.name, self.steps = str(run.spec.config["name"]), run.spec.budget.online_steps
        self.updates, self.done, self.at_start = 0, 0, True
        self.folder = tempfile.TemporaryDirectory(prefix="o2obench-")
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=1)
        self.word = secrets.token_hex(16)
        self.process: subprocess.Popen[bytes] | None = None
        self.talk: socket.socket | None = None
        self.heard = b""
        self.request: dict[str, Any] | None = None
        self.task: dict[str, Any] = {}

    def start_from(self, task: Task, data: Transitions, policy: Network | None) -> None:
        """Start it, with the task's sizes, the data, and the policy of a pretraining."""
        folder = Path(self.folder.name)
        np.savez(folder / "data.npz", allow_pickle=False, **vars(data))
        if policy:
            (folder / "policy.npz").write_bytes(to_npz(policy))
        self.task = {
            **{"obs_dim": task.obs_dim, "act_dim": task.act_dim, "horizon": task.horizon},
            **{"seed": self.run.seed, "steps": self.steps, "data": str(folder / "data.npz")},
            "policy": str(folder / "policy.npz") if policy else "",
        }
        host, port = self.listening.getsockname()
        told = {"O2OBENCH_BRIDGE": f"{host}:{port}", "O2OBENCH_TOKEN": self.word}
        try:
            self.process = subprocess.Popen(
                shlex.split(self.command),
                env={**os.environ, **told},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise RunFailed(f"{self.name}: cannot be started: {error}") from None

    def is_ready(self, seconds: float) -> bool:
        """Wait until it asks for a step or has ended, at most so long; tell whether it has."""
        if self.request is None and self._is_connected(seconds):
            self.request = self._message(seconds)
            updates = (self.request or {}).get("updates", 0)
            if type(updates) is int and updates >= self.updates:
                self.updates = updates
        return self.request is not None

    def action(self, obs: Array) -> Array:
        """Return the action (act_dim,) that it takes at an observation (obs_dim,)."""
        while True:
            while not self.is_ready(1.0):
                self._require_time()
            request, self.request = self.request or {}, None
            if "reset" in request:
                if not self.at_start:
                    raise self._failed("resets in the middle of an episode; it goes on until it ends")
                self._send({"obs": obs.tolist()})
            elif "step" in request:
                self.at_start = False
                return self._actions(request["step"], (self.task["act_dim"],))
            elif "finished" in request:
                raise self._failed("has finished")
            else:
                raise self._failed(f"asks for what is unknown: {sorted(request)}")

    def stepped(self, step: Transitions) -> None:
        """Show it the step that it asked for."""
        self.done += 1
        self.at_start = bool(step.terminated or step.truncated)
        ended = {"terminated": bool(step.terminated), "truncated": bool(step.truncated)}
        self._send({"next_obs": step.next_obs.tolist(), "reward": float(step.reward), **ended})

    def judged(self, obs: Array) -> Array:
        """Return the actions (n, act_dim) of the policy that it wants evaluated at obs (n, obs_dim)."""
        self._send({"judge": obs.tolist()})
        while (answer := self._message(1.0)) is None:
            self._require_time()
        return self._actions(answer.get("actions"), (len(obs), self.task["act_dim"]))

    def close(self) -> None:
        """Let it end, and end it where it does not, or where something went wrong."""
        if self.talk:
            with contextlib.suppress(OSError):
                self.talk.sendall(b'{"end": true}\n')
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE if self.done == self.steps else 0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for end in filter(None, (self.talk, self.listening)):
            end.close()
        self.folder.cleanup()

    def _is_connected(self, seconds: float) -> bool:
        """Tell whether it has called, and said the word; others are hung up on."""
        if self.talk is None and select.select([self.listening], [], [], seconds)[0]:
            self.talk, _ = self.listening.accept()
            self.heard = b""
            while (first := self._message(seconds)) is None:
                self._require_time()
            if not secrets.compare_digest(str(first.get("token")), self.word):
                self.talk.close()
                self.talk = None
            else:
                self._send(self.task)
        if self.talk is None and self.process and self.process.poll() is not None:
            raise self._failed("did not call")
        return self.talk is not None

    def _message(self, seconds: float) -> dict[str, Any] | None:
        """Return its next message, or None where none has come after so long."""
        assert self.talk
        while b"\n" not in self.heard:
            if not select.select([self.talk], [], [], seconds)[0]:
                return None
            try:
                part = self.talk.recv(2**20)
            except OSError:
                part = b""
            if not part:
                raise self._failed("has ended")
            self.heard += part
            if len(self.heard) > MOST_BYTES:
                raise self._failed("sent a message without an end")
        line, self.heard = self.heard.split(b"\n", 1)
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise self._failed("sent what is no JSON object")
        return message

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.talk
        try:
            self.talk.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise self._failed("has ended") from None

    def _actions(self, said: Any, shape: tuple[int, ...]) -> Array:
        try:
            actions = np.asarray(said, np.float32)
        except (TypeError, ValueError):
            actions = np.zeros(0, np.float32)
        if actions.shape != shape:
            raise self._failed(f"says actions of shape {actions.shape}, expected {shape}")
        if not np.isfinite(actions).all():
            raise self._failed("says an action that is not finite")
        return np.clip(actions, -1.0, 1.0)

    def _require_time(self) -> None:
        if self.stop():
            raise Interrupted

    def _failed(self, what: str) -> RunFailed:
        code = None
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(1.0)
        exit_code = "" if code is None else f" (exit code {code})"
        after = f"after {self.done:,} of {self.steps:,} steps; what it printed stands before this line"
        return RunFailed(f"program {self.name} {what}{exit_code} {after}")


def commands(options: Options) -> dict[str, str]:
    """Return the commands that ``--program NAME=COMMAND`` gives, by name; raise UserError for others."""
    given: dict[str, str] = {}
    for text in options.program:
        name, equals, command = text.partition("=")
        if not (name.strip() and equals and command.strip()):
            raise UserError(f"--program {text}: expected NAME=COMMAND, such as 'mine=python mine.py'")
        if name in given:
            raise UserError(f"--program {text}: {name} has a command already; give one")
        given[name] = command
    return given


def require_commands(runs: Iterable[Run], options: Options) -> None:
    """Raise UserError unless each program among runs has a command, and each command a program."""
    given, asked = commands(options), {str(r.spec.config["name"]) for r in runs if r.algorithm == FOREIGN}
    lacking = [_without_command(name) for name in sorted(asked - given.keys())]
    unknown = [
        f"--program {name}: no run is of this program; a suite names it by `{FOREIGN}: {{name: {name}}}`"
        for name in sorted(given.keys() - asked)
    ]
    if lacking or unknown:
        raise UserError(*lacking, *unknown)


def _without_command(name: str) -> str:
    return f"{FOREIGN}: {name} has no command; add --program '{name}=COMMAND'"


def bridge(run: Run, options: Options, stop: Stop) -> Bridge | None:
    """Return the bridge to a run's program; None where it is of no program."""
    if run.algorithm != FOREIGN:
        return None
    name, given = str(run.spec.config["name"]), commands(options)
    if name not in given:
        raise UserError(_without_command(name))
    return Bridge(run, given[name], stop)


def begun_anew(folder: RunFolder) -> dict[str, int]:
    """Return how often a run that cannot be resumed was begun in vain, and the environment steps it cost.

    What a killed process had done since its last evaluation, finished episode or sign of life is not counted.
    """
    before = read_json(folder.record)
    if not isinstance(before, dict):
        return {"count": 0, "env_steps": 0}
    known = before.get("restarts")
    lost = known if isinstance(known, dict) else {"count": 0, "env_steps": 0}
    shown = read_json(folder.progress)
    steps = [shown.get("env_steps", 0)] if isinstance(shown, dict) else []
    with contextlib.suppress(ValueError, OSError):
        steps += [
            row["env_steps"] for log in (folder.evaluations, folder.episodes) for row in read_jsonl(log)
        ]
    return {"count": lost["count"] + 1, "env_steps": lost["env_steps"] + max(steps, default=0)}
