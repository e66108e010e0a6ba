"""EDIS, energy-guided diffusion sampling (Liu et al. 2024, arXiv:2407.12448), on Cal-QL.

Cal-QL goes on, on batches that are online and made: a diffusion model of all transitions stands for the
offline ones, guided to what the policy meets now (``o2obench.kit.model_free``: ``generated``, ``energies``).

Decided here: the floor of Cal-QL's penalty is 0 online and for what is made (CORL's, as released); the
penalty has a learnt factor only where the pretraining's had one (released: always, gap 10); the generator is
renewed when learning begins, after 1,000 steps as for all methods, and then every 10,000 steps (released:
from the first one).
"""

from __future__ import annotations

from typing import Literal

from o2obench.kit.model_free.cal_ql import Calibrated, CalQlOptions
from o2obench.kit.model_free.energies import EnergyGuided, EnergyOptions
from o2obench.kit.options import Share, Weight


class EdisConfig(CalQlOptions, EnergyOptions):
    """EDIS's options on Cal-QL; the defaults are those of HalfCheetah."""

    replay_data: Literal["online"] = "online"
    """What is real in a batch is online."""
    synthetic_share: Share = 0.2
    cql_alpha: Weight = 10.0
    entropy_in_target: bool = True


class Edis(EnergyGuided[EdisConfig], Calibrated[EdisConfig]):
    """Cal-QL on online transitions and on guided ones that a diffusion model made."""

    Config = EdisConfig
    pretrain = "cal_ql"
    requires = ("actor", "critics")
