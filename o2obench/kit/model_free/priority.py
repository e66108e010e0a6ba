"""Draws of transitions in proportion to weights, exact: float64 prefix sums, in blocks.

A place is an offline transition, then an online one of the seed. Changing weights sums only the blocks that
they lie in; a draw searches the blocks' prefix sums, then those of one block. There is no tree of partial
sums whose errors add up: a block's sum is always that of its weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...agent import State
from ...transitions import Transitions
from ..networks import to_array

BLOCK = 1024
EVERY = 1000
"""Updates between two computations of on-policy weights."""
DENSITIES = (-12.0, 7.0)
"""Between which a log density counts."""
ALMOST = 1.0 - 1e-14
"""Keeps a target inside its sum when a product rounds up."""


class Priorities:
    """Weights of ``places`` places for each seed, 0 at first."""

    def __init__(self, seeds: int, places: int, device: str) -> None:
        blocks = -(-max(places, 1) // BLOCK)
        self.weights = torch.zeros((seeds, blocks, BLOCK), dtype=torch.float64, device=device)
        self.sums = torch.zeros((seeds, blocks), dtype=torch.float64, device=device)

    def set(self, places: Tensor, weights: Tensor) -> None:
        """Give places (seeds, n) their weights (seeds, n); of equal places any one of theirs stays."""
        self.weights.flatten(1).scatter_(1, places, weights.double())
        blocks = places // BLOCK
        touched = self.weights.gather(1, blocks[..., None].expand(-1, -1, BLOCK))
        self.sums.scatter_(1, blocks, touched.sum(-1))

    def set_all(self, weights: Tensor) -> None:
        """Give the first places their weights (seeds, n)."""
        self.weights.flatten(1)[:, : weights.shape[1]] = weights.double()
        self.sums.copy_(self.weights.sum(-1))

    def draw(self, uniform: Tensor) -> Tensor:
        """Return places (seeds, ...) of numbers in [0, 1): each with the probability of its weight.

        Evenly spread numbers give a stratified draw.
        """
        flat = uniform.flatten(1)
        ends = self.sums.cumsum(-1)
        target = flat * ends[:, -1:] * ALMOST
        block = torch.searchsorted(ends, target, right=True)
        rest = target - (ends.gather(1, block) - self.sums.gather(1, block))
        inner = self.weights.gather(1, block[..., None].expand(-1, -1, BLOCK)).cumsum(-1)
        rest = torch.minimum(rest.clamp(min=0.0), inner[..., -1] * ALMOST)
        place = torch.searchsorted(inner, rest[..., None], right=True).squeeze(-1)
        return (block * BLOCK + place).view(uniform.shape)

    def state_dict(self) -> State:
        """Return weights and sums."""
        return {"weights": to_array(self.weights), "sums": to_array(self.sums)}

    def load_state_dict(self, state: State) -> None:
        """Take them back."""
        self.weights.copy_(torch.from_numpy(state["weights"]))
        self.sums.copy_(torch.from_numpy(state["sums"]))


class OnPolicyWeights:
    """The weights of the adaptive replay buffer (ARB, arXiv:2512.10510): which episodes are likely.

    Every ``EVERY`` updates a transition's log density under the policy, of the standardised action and per
    component, is cut to [-12, 7] and counted from the greatest; its episode's mean over the temperature is
    the logarithm of the weight of all its transitions. Transitions that come later weigh 1 until the next
    time, the most that there is.
    """

    def __init__(self, data: Transitions, seeds: int, online_capacity: int) -> None:
        self.offline = len(data)
        self.begins = np.zeros((seeds, self.offline + online_capacity), bool)
        """Where each seed's episodes begin, offline and online."""
        self.begins[:, : self.offline] = data.episode_start
        self.ended = np.ones(seeds, bool)
        """Whether each seed's next online transition begins an episode."""
        self.weighed = -EVERY
        """Updates before the weights were last computed."""

    def step(self, step: Transitions, place: int) -> None:
        """Note whether the transition at ``place`` begins an episode."""
        self.begins[:, place] = self.ended
        self.ended = np.asarray(step.terminated | step.truncated)

    def is_due(self, updates: int) -> bool:
        """Return whether weights are to be computed before the next update, and count on that they are."""
        if updates - self.weighed < EVERY:
            return False
        self.weighed = updates
        return True

    def weights(self, log_density: Tensor, temperature: float) -> Tensor:
        """Return the weights (seeds, n) of transitions with these log densities."""
        likely = log_density.double().clamp(*DENSITIES)
        likely = likely - likely.amax(1, keepdim=True)
        sums = torch.nn.functional.pad(likely.cumsum(1), (1, 0))
        count = likely.shape[1]
        weights = []
        for of_seed, begins in zip(sums, self.begins[:, :count], strict=True):
            starts = torch.from_numpy(np.flatnonzero(begins)).to(sums.device)
            ends = torch.cat([starts[1:], starts.new_tensor([count])])
            mean = (of_seed[ends] - of_seed[starts]) / (ends - starts)
            weights.append((mean / temperature).exp().repeat_interleave(ends - starts))
        return torch.stack(weights)

    def state_dict(self) -> State:
        """Return where online episodes begin, and the clock."""
        return {
            "begins": self.begins[:, self.offline :].copy(),
            "ended": self.ended.copy(),
            "weighed": self.weighed,
        }

    def load_state_dict(self, state: State) -> None:
        """Take them back."""
        self.begins[:, self.offline :] = state["begins"]
        self.ended, self.weighed = state["ended"].copy(), state["weighed"]
