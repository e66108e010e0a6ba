"""SUNG (Guo et al. 2023, arXiv:2306.07541) on CQL: it goes on towards what is unknown and good.

Of 100 samples of its policy it keeps the 20 of the highest uncertainty and takes one by its value. CQL's
penalty counts a tenth, for a tenth of a batch, drawn without replacement by a softmax of the uncertainty of
its transitions (``o2obench.kit.model_free.sung``).

Decided here: the pretraining is this project's ``cql`` (the paper's: xavier first weights, small heads,
actions within 0.99), whose observations are not standardised, so that the autoencoder sees raw ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from o2obench.kit.model_free.cql import Conservative, CqlOptions
from o2obench.kit.model_free.density import DENSITY, LATENT, HasDensity
from o2obench.kit.model_free.sung import Sung, SungOptions
from o2obench.kit.model_free.template import Draw, Values
from o2obench.kit.options import Share, Size, Weight
from o2obench.kit.replay import Batch, gathered

UNSURE, TINY = "uncertain transitions", 1e-7


class SungCqlConfig(CqlOptions, SungOptions):
    """SUNG's options on CQL."""

    kept: Size = 20
    uncertain_share: Share = 0.1
    cql_alpha: Weight = 0.5
    """Weight of the penalty of the uncertain transitions: a tenth of CQL's."""


class SungCql(Sung[SungCqlConfig], Conservative[SungCqlConfig]):
    """CQL that explores and is pushed down by uncertainty."""

    Config = SungCqlConfig
    pretrain = "cql"
    requires = ("actor", "critics")
    order = ("critics", "actor", "alpha", DENSITY)
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {**HasDensity.metrics, **Conservative.metrics}

    def draws(self) -> dict[str, Draw]:
        """Draw also which transitions are pushed down."""
        draws = super().draws()
        return draws if self.stage == DENSITY else {**draws, UNSURE: ("uniform", (self.config.batch_size,))}

    def pushed_count(self) -> int:
        """Return how many transitions of a batch are pushed down."""
        return max(1, int(self.config.uncertain_share * self.config.batch_size))

    def pushed(self, batch: Batch, draws: Values) -> Batch:
        """Return transitions drawn without replacement by a softmax of their uncertainty (Gumbel's trick)."""
        uncertainty = self.uncertainty(batch.obs, batch.action, draws[LATENT])
        gumbel = -(-(0.5 * (draws[UNSURE] + 1.0)).clamp(TINY, 1.0 - TINY).log()).log()
        return gathered(batch, (uncertainty + gumbel).topk(self.pushed_count(), -1).indices)

    def explore(self, obs: Tensor) -> Tensor:
        """Return one of the samples: an uncertain one, by its value."""
        actions, q, uncertainty = self.judged_candidates(obs)
        return self.chosen(obs, actions, uncertainty, q)
