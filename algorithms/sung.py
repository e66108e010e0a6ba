"""SUNG (Guo et al. 2023, arXiv:2306.07541) on TD3+BC: it goes on towards what is good and unknown.

Of 100 noisy actions it keeps the ten of the highest value and takes one by how uncertain it is. The actor
climbs the value, and the 12 most uncertain transitions of a batch of 256 are held to their actions
(``o2obench.kit.model_free.sung``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from o2obench.kit.model_free.density import DENSITY, LATENT, HasDensity
from o2obench.kit.model_free.sung import Sung, SungOptions
from o2obench.kit.model_free.td3 import Td3, Td3Options
from o2obench.kit.model_free.template import Values
from o2obench.kit.options import Weight
from o2obench.kit.replay import Batch


class SungConfig(Td3Options, SungOptions):
    """SUNG's options on TD3+BC."""

    bc_weight: Weight = 0.05
    """Weight of the squared error of the most uncertain transitions."""


class SungTd3(Sung[SungConfig], Td3[SungConfig]):
    """TD3+BC that explores and is held by uncertainty."""

    Config = SungConfig
    pretrain = "td3_bc"
    requires = ("actor", "critics")
    order = ("critics", "actor", DENSITY)
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {**HasDensity.metrics, **Td3.metrics}

    def distance(self, action: Tensor, batch: Batch, draws: Values) -> Tensor:
        """Return the mean squared error to the actions of the most uncertain transitions, (seeds,)."""
        share = int(self.config.uncertain_share * action.shape[1])
        unsure = self.uncertainty(batch.obs, action, draws[LATENT]).topk(share, -1).indices
        error = (action - batch.action).square().mean(-1).gather(-1, unsure)
        return error.sum(-1) / max(1, share)

    def explore(self, obs: Tensor) -> Tensor:
        """Return one of the noisy actions: a good one, by its uncertainty."""
        actions, q, uncertainty = self.judged_candidates(obs)
        return self.chosen(obs, actions, q, uncertainty)
