"""Training episodes: one seed's environment, which can be rebuilt in the middle of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import Diverged
from ..transitions import Array, Transitions
from ..util.rng import Stream, derive
from .spec import EnvSpec


@dataclass(frozen=True)
class Episode:
    """A finished training episode; ``env_return`` is its outcome: the raw sum of rewards, or its success."""

    env_return: float
    length: int
    terminated: bool


def transition(
    obs: Array, action: Array, reward: float, next_obs: Array, flags: tuple[bool, bool, bool]
) -> Transitions:
    """Return a single step; ``flags`` are terminated, truncated, episode_start."""
    floats = (np.asarray(value, np.float32) for value in (obs, action, reward, next_obs))
    return Transitions(*floats, *(np.asarray(flag, bool) for flag in flags))


def nothing(spec: EnvSpec) -> Transitions:
    """Return a step in which nothing happened, shown in place of a seed that has ended."""
    obs, action = np.zeros(spec.obs_dim), np.zeros(spec.act_dim)
    return transition(obs, action, 0.0, obs, (False, False, False))


class Interaction:
    """One seed's training environment: it steps, resets itself, and can be rebuilt in mid-episode.

    Episode k always starts from the state derived from (seed, "episode", k). A resume resets to that
    state and replays the actions taken since, so no simulator state is stored.
    """

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        self.spec, self.seed = spec, seed
        self.env = spec.make()
        self._reset(0)

    def _reset(self, episode: int) -> None:
        self.episode, self.actions, self.env_return = episode, list[Array](), 0.0
        obs, _ = self.env.reset(seed=derive(self.seed, Stream.TRAINING_EPISODE, episode))
        self.obs: Array = np.asarray(obs, np.float32)

    def step(self, action: Array) -> tuple[Transitions, Episode | None]:
        """Do one step with an action (act_dim,) in [-1, 1]; reset after the last step of an episode."""
        obs, first = self.obs, not self.actions
        self.actions.append(action.copy())
        raw, reward, terminated, truncated, _ = self.env.step(self.spec.from_unit(action))
        self.obs = np.asarray(raw, np.float32)
        self.env_return += float(reward)
        if not (np.isfinite(self.env_return) and np.isfinite(self.obs).all()):
            raise Diverged(f"the environment returned NaN or infinity in episode {self.episode}")
        row = transition(obs, action, reward, self.obs, (terminated, truncated, first))
        if not (terminated or truncated):
            return row, None
        outcome = float(self.spec.outcome(self.env_return, terminated))
        finished = Episode(outcome, len(self.actions), bool(terminated))
        self._reset(self.episode + 1)
        return row, finished

    def state_dict(self) -> dict[str, Any]:
        """Return what a rebuild needs: the episode's number and its actions so far."""
        actions = np.stack(self.actions) if self.actions else np.zeros((0, self.spec.act_dim), np.float32)
        return {"episode": self.episode, "actions": actions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the environment in the middle of its episode."""
        self._reset(int(state["episode"]))
        for action in state["actions"]:
            self.step(action)
