"""The losses of SPOT (Wu et al. 2022, arXiv:2202.06239): TD3 whose actor stays where the data are dense.

Instead of TD3+BC's squared error, the actor pays the negative evidence bound of its action under a
variational autoencoder of the data's actions (eq. 10, 11), which learns first and is fixed from then on. The
value it climbs is the first critic's over its mean absolute value. Heads start within 1e-3 (actor) and 3e-3
(critics), as in the released code; its option of more latents for a sharper bound, off there, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, TypeVar

from torch import Tensor

from ...util.rng import Stream
from ..networks import Initialiser, bounded_init
from ..options import Weight
from ..replay import Batch
from .density import LATENT, DensityOptions, HasDensity
from .td3 import Td3, Td3Options
from .template import Values


class SpotOptions(Td3Options, DensityOptions):
    """Options of the losses; the defaults are those of locomotion."""

    td3_alpha: Weight = 1.0
    bc_weight: Weight = 0.1
    """Weight of the negative evidence bound (the paper's lambda)."""


C = TypeVar("C", bound=SpotOptions)


class Spot(HasDensity[C], Td3[C], Generic[C]):
    """TD3, and a density that holds its actor."""

    provides = ("actor", "critics", "density")
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {**HasDensity.metrics, **Td3.metrics}
    heads: ClassVar[Mapping[str, Initialiser]] = {
        Stream.ACTOR: bounded_init(1e-3),
        Stream.CRITICS: bounded_init(3e-3),
    }

    def distance(self, action: Tensor, batch: Batch, draws: Values) -> Tensor:
        """Return the mean negative evidence bound of the policy's actions, (seeds,)."""
        return self.negative_bound(batch.obs, action, draws[LATENT])[0].mean(-1)
