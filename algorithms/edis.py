"""EDIS, energy-guided diffusion sampling (Liu et al. 2024, arXiv:2407.12448), on Cal-QL.

Cal-QL goes on, on batches that are online and made: a diffusion model of all transitions stands for the
offline ones, guided to what the policy meets now (``o2obench.kit.model_free``: ``generated``, ``energies``).

Online the floor of Cal-QL's penalty is left out (CORL, released). Decided here: the penalty has a learnt
factor only with ``target_gap``, which the pretraining needs to have, too (released: always, gap 10); the
generator is renewed when learning begins, after 1,000 steps as for all methods, and then every 10,000 steps
(released: from the first one). Its parent is this project's Cal-QL: raw rewards, cql_alpha 5 and no entropy
in the offline target (released: standardised observations and scaled rewards, 10, with entropy); the rows of
options, which exist for locomotion only, were made for the latter.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from o2obench.kit.model_free.cal_ql import Calibrated, CalQlOptions
from o2obench.kit.model_free.energies import EnergyGuided, EnergyOptions
from o2obench.kit.options import Share, Weight
from o2obench.kit.replay import Batch


class EdisConfig(CalQlOptions, EnergyOptions):
    """EDIS's options on Cal-QL; the defaults are those of HalfCheetah."""

    replay_data: Literal["online"] = "online"
    """What is real in a batch is online."""
    synthetic_share: Share = 0.2
    cql_alpha: Weight = 10.0
    entropy_in_target: bool = True


class Edis(EnergyGuided[EdisConfig], Calibrated[EdisConfig]):
    """Cal-QL, without its floor, on online transitions and on guided ones that a diffusion model made."""

    Config = EdisConfig
    pretrain = "cal_ql"
    requires = ("actor", "critics")

    def raised(self, q: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the values as they are, and that none is lifted."""
        return q, (q.new_zeros(len(q)),)
