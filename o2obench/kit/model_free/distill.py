"""A policy of another class becomes a tanh-Gaussian: supervised learning on the offline observations.

The mode is fitted by a squared error, the deviation by the likelihood of what the other policy explores with
(near its mode tanh scales a deviation by 1 - mode^2). It asks the other agent for actions only, so any agent
can be the source.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...agent import Agent
from ...transitions import Array
from ..networks import Adam, Mlp, gradients
from ..policies import TanhGaussian
from ..rng import Streams

OBSERVATIONS = 50_000
"""At most, evenly taken from the data."""
BATCH, RATE = 256, 1e-3
PURPOSE = "distilled transitions"


def actions_of(agent: Agent[Any], obs: Array) -> tuple[Tensor, Tensor]:
    """Return modes and samples of an agent's policy at raw observations (n, obs_dim), (seeds, n, act_dim)."""
    of_seeds = np.repeat(obs[None], len(agent.task.seeds), 0)
    modes, samples = (torch.from_numpy(agent.act(of_seeds, explore=explore)) for explore in (False, True))
    return modes, samples


def distil(
    actor: Mlp,
    policy: TanhGaussian,
    streams: Streams,
    obs: Tensor,
    modes: Tensor,
    samples: Tensor,
    updates: int,
) -> None:
    """Fit ``actor`` to ``modes`` and ``samples`` (seeds, n, act_dim) at ``obs`` (seeds, n, inputs)."""
    adam = Adam([actor.flat])
    rates = [RATE * 0.5 * (1.0 + np.cos(np.pi * k / updates)) for k in range(updates)]
    scales = adam.schedule(rates)
    for scale in scales:
        rows = (streams.uniform(PURPOSE, BATCH) * obs.shape[1]).long()[..., None]
        x, mode, sample = (t.gather(1, rows.expand(-1, -1, t.shape[-1])) for t in (obs, modes, samples))

        def loss(
            flat: Tensor, x: Tensor = x, mode: Tensor = mode, sample: Tensor = sample
        ) -> tuple[Tensor, Tensor]:
            mean, log_std = policy.distribution(actor, x, flat)
            slope = (1.0 - mode.square()).clamp(min=0.01)
            error = (sample - mode) / (slope * log_std.exp())
            fit = (torch.tanh(mean) - mode).square() + 0.01 * (0.5 * error.square() + log_std)
            return fit.mean((1, 2)).sum(), fit.detach()

        steps, _ = gradients(loss, [actor.flat])
        adam.step(steps, scale)
