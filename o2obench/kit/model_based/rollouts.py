"""Rollouts in the learned model: branched ones that fill the model buffer, and imagined ones to look at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...agent import Terminal
from ...util.rng import Stream
from ..replay import Replay
from ..rng import Streams
from .ensemble import Ensemble

Act = Callable[[Tensor, Tensor], Tensor]
"""(obs (seeds, n, obs_dim), noise (seeds, n, act_dim)) -> actions (seeds, n, act_dim)."""


def branch(
    model: Ensemble,
    act: Act,
    terminal: Terminal,
    replay: Replay,
    streams: Streams,
    starts: Tensor,
    length: int,
    penalty: float,
) -> Tensor:
    """Roll out from real observations into the model buffer.

    Args:
        model: The ensemble; the noise of a drawn elite is sampled at each step.
        act: The policy.
        terminal: The task's termination rule; what has terminated is not rolled out further.
        replay: Where the rollouts branch from, and where they go.
        streams: The random streams.
        starts: Row numbers (seeds, rows) of the replay buffer to branch from.
        length: Steps of a rollout.
        penalty: Times the uncertainty, is taken off each reward.

    Returns:
        The uncertainty at each step, (seeds, rows, length), NaN after an end.
    """
    rows, obs = starts.shape[1], replay.take(starts).obs
    alive = torch.ones(obs.shape[:2], dtype=torch.bool, device=obs.device)
    uncertainties = []
    for _ in range(length):
        action = act(obs, streams.normal(Stream.ROLLOUT_ACTIONS, rows, replay.act_dim))
        choice = streams.uniform(Stream.ROLLOUT_ELITES, rows)
        noise = streams.normal(Stream.ROLLOUT_NOISE, rows, replay.obs_dim + 1)
        next_obs, reward, uncertainty = model.step(obs, action, choice, noise)
        reward = reward - penalty * uncertainty
        ended = terminal(obs, action, next_obs)
        transitions = replay.rows_of(obs, action, reward, next_obs, ended)
        replay.push(transitions, alive & torch.isfinite(transitions).all(-1))
        uncertainties.append(torch.where(alive, uncertainty, torch.nan))
        alive = alive & ~ended
        obs = next_obs
    return torch.stack(uncertainties, -1)


def imagine(
    model: Ensemble, act: Act, terminal: Terminal, streams: Streams, obs: Tensor, act_dim: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Return obs and actions (1, rows, ...) of rollouts from obs (1, n, obs_dim), none after termination."""
    rows, obs_dim = obs.shape[1:]
    alive, pairs = torch.ones(obs.shape[:2], dtype=torch.bool, device=obs.device), []
    for _ in range(steps):
        action = act(obs, streams.normal(Stream.IMAGINED_ACTIONS, rows, act_dim))
        choice = streams.uniform(Stream.IMAGINED_ELITES, rows)
        noise = streams.normal(Stream.IMAGINED_NOISE, rows, obs_dim + 1)
        following, _, _ = model.step(obs, action, choice, noise)
        pairs.append((obs[alive], action[alive]))
        alive = alive & ~terminal(obs, action, following) & torch.isfinite(following).all(-1)
        obs = following
    observations, actions = (torch.cat(parts)[None] for parts in zip(*pairs, strict=True))
    return observations, actions
