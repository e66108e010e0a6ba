"""What a program of your own imports to learn under this project's protocol, in its own code and environment.

``o2obench run foreign DATA --set name=mine --program "mine=python mine.py"`` starts it; then, in mine.py::

    with BridgeEnv() as env:            # a Gymnasium environment: the run's own, behind a loopback socket
        data = env.data()               # the run's data set, arrays
        agent = ...                     # learn from them, with env.seed
        env.policy = agent.actions      # obs (n, obs_dim) -> actions (n, act_dim): what is evaluated
        agent.learn(env, env.steps)     # as many steps as the run has

Each step is counted. When an evaluation is due the harness asks for actions of ``policy`` and plays episodes
of its own, the same for all methods, before the next step. After the last step ``Finished`` is raised, which
``with`` takes care of. This file needs numpy and Gymnasium alone and may be copied; lines of JSON cross the
socket.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any, Self

import gymnasium
import numpy as np


class Finished(Exception):
    """All steps of the run are done, or its harness has ended."""


class BridgeEnv(gymnasium.Env[Any, Any]):
    """The environment of a run; actions lie in [-1, 1].

    An episode goes on until it is terminated or truncated, then ``reset`` is called; ``seed`` and ``options``
    of ``reset`` mean nothing: which episodes there are follows from the run's seed. Set ``policy`` before the
    first ``reset``, and learn from the data before it too: the first evaluation comes with it.

    Raises:
        KeyError: The program was not started by o2obench.
        Finished: The run has no further steps.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (Gymnasium's)

    def __init__(self) -> None:
        host, port = os.environ["O2OBENCH_BRIDGE"].rsplit(":", 1)
        self._lines = socket.create_connection((host, int(port))).makefile("rwb")
        self._send({"token": os.environ["O2OBENCH_TOKEN"]})
        task = self._receive()
        self.seed: int = task["seed"]
        """Of the run."""
        self.steps: int = task["steps"]
        """How many environment steps the run has."""
        self.horizon: int = task["horizon"]
        """The longest episode, in steps."""
        self.data_file: str = task["data"]
        """An .npz file of the data set."""
        self.policy_file: str = task["policy"]
        """An .npz file of the pretrained policy, as ``o2obench policy`` writes it; empty: none."""
        self.updates = 0
        """Gradient updates so far, if you count them: the logs hold them."""
        self.policy: Callable[[Any], Any] | None = None
        """The policy to be evaluated: obs (n, obs_dim), float32 -> actions (n, act_dim) in [-1, 1]."""
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (task["obs_dim"],), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (task["act_dim"],), np.float32)

    def data(self) -> dict[str, Any]:
        """Return obs, action, reward, next_obs, terminated, truncated, episode_start: raw, rows in order."""
        with np.load(self.data_file, allow_pickle=False) as file:
            return dict(file)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode; return its first observation (obs_dim,), float32."""
        return np.array(self._asked({"reset": True})["obs"], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Do one environment step; return (obs, reward, terminated, truncated, {})."""
        step = self._asked({"step": np.asarray(action, np.float64).tolist()})
        obs = np.array(step["next_obs"], np.float32)
        return obs, step["reward"], step["terminated"], step["truncated"], {}

    def finish(self) -> None:
        """Answer the last evaluation and let the run end; ``with`` does it."""
        try:
            self._asked({"finished": True})
        except Finished:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        if kind is None:
            self.finish()
        return kind is not None and issubclass(kind, Finished)

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request; questions that come before it are answered."""
        self._send({**request, "updates": self.updates})
        while True:
            answer = self._receive()
            if "end" in answer:
                raise Finished
            if "judge" not in answer:
                return answer
            if self.policy is None:
                raise RuntimeError("set env.policy to a function of observations before the first reset")
            actions = self.policy(np.array(answer["judge"], np.float32))
            self._send({"actions": np.asarray(actions, np.float64).tolist()})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._lines.write(json.dumps(message).encode() + b"\n")
            self._lines.flush()
        except OSError:
            raise Finished from None

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError:
            line = b""
        if not line:
            raise Finished
        message: dict[str, Any] = json.loads(line)
        return message
