"""EDIS, energy-guided diffusion sampling (Liu et al. 2024, arXiv:2407.12448), on IQL.

IQL goes on, on batches that are online and made by a guided diffusion model
(``o2obench.kit.model_free``: ``generated``, ``energies``), with many updates a step.

Decided here: made transitions have their share of every batch, as the paper describes it (released code for
IQL: only in the updates of the steps at which the generator is trained, once in 10,000; else the union of
what is offline and online); the first renewal is when learning begins, after 1,000 steps as for all methods.
Its parent is this project's IQL, whose rewards are scaled, with beta 3 (released: raw rewards, beta 10 and
the row's expectile offline, too); the rows of options were made for the latter.
"""

from __future__ import annotations

from typing import Literal

from o2obench.agent import count
from o2obench.kit.model_free.energies import EnergyGuided, EnergyOptions
from o2obench.kit.model_free.iql import ImplicitQ, IqlOptions
from o2obench.kit.options import Count, Size, Weight


class EdisIqlConfig(IqlOptions, EnergyOptions):
    """EDIS's options on IQL; the defaults lie between Hopper's rows."""

    replay_data: Literal["online"] = "online"
    """What is real in a batch is online."""
    generator_updates: Count = count(30_000)
    beta: Weight = 10.0
    utd_ratio: Size = count(10)
    guide_obs: Weight = 2.0
    guide_action: Weight = 0.1
    guide_dynamics: Weight = 0.1


class EdisIql(EnergyGuided[EdisIqlConfig], ImplicitQ[EdisIqlConfig]):
    """IQL on online transitions and on guided ones that a diffusion model made."""

    Config = EdisIqlConfig
    pretrain = "iql"
    requires = ("actor", "critics", "value")
