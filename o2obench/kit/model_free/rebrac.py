"""The losses of ReBRAC (Tarasov et al. 2023, arXiv:2305.09836): TD3+BC with both sides held to the data.

The actor climbs the least critic, divided by its mean absolute value over the batch, and is held to the
batch's actions by ``bc_weight`` times a squared error, summed over the action's components (TD3+BC: their
mean, and the first critic). Offline the target is lowered by ``critic_bc`` times the squared distance of the
target policy's action from the action that the data take next (eq. 6, 7). Three hidden layers; the critics'
are normalised after the activation (released code), heads start within 1e-3 (actor) and 3e-3 (critics).

Decided here: the target policy follows the actor after its step (released code: before it, a lag of one
update). The released code fills hidden biases with 0.1; here they are drawn like the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np
from torch import Tensor

from ...agent import later
from ...transitions import Array, Transitions
from ...util.rng import Stream
from ..networks import Initialiser, bounded_init
from ..options import Normed, Rate, Weight, Widths
from ..replay import Batch
from .td3 import Td3, Td3Options
from .template import Values


class RebracOptions(Td3Options):
    """Options of the losses; the defaults are those of locomotion."""

    hidden_dims: Widths = (256, 256, 256)
    actor_lr: Rate = 1e-3
    critic_lr: Rate = 1e-3
    bc_weight: Weight = 0.01
    """Weight of the squared error to the batch's actions (the paper's beta 1)."""
    td3_alpha: Weight = 1.0
    actor_value: Literal["first", "min", "mean"] = later("min")
    layer_norm: Normed = "critics"


C = TypeVar("C", bound=RebracOptions)


class Rebrac(Td3[C], Generic[C]):
    """TD3 whose actor, and offline whose target, are held to the data."""

    norm_place = "after"
    heads: ClassVar[Mapping[str, Initialiser]] = {
        Stream.ACTOR: bounded_init(1e-3),
        Stream.CRITICS: bounded_init(3e-3),
    }

    def distance(self, action: Tensor, batch: Batch, draws: Values) -> Tensor:
        """Return |pi - a|^2, the mean over the batch, (seeds,)."""
        return (action - batch.action).square().sum(-1).mean(-1)


def next_actions(data: Transitions) -> Array:
    """Return the action that the data take after each step (n, act_dim); NaN where an episode ends."""
    following = np.full_like(data.action, np.nan)
    inside = ~data.episode_start[1:]
    following[:-1][inside] = data.action[1:][inside]
    return following
