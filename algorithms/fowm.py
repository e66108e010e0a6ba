"""FOWM, fine-tuning offline world models (Feng et al. 2023, arXiv:2310.16029): its offline training.

A world model in a latent space, critics and a policy learn from windows of the data, and it acts by planning
with them (``o2obench.kit.model_based``: ``latent_model``, ``windows``, ``planner``). Rewards are scaled to a
range of 1,000 between the best and the worst episode; observations are raw. Constants are public for Hopper
and AntMaze only; for other tasks the defaults, Hopper's, are a guess.

The family's ``init`` and ``layer_norm`` have no effect: the model's networks have their own.
"""

from __future__ import annotations

from o2obench.kit.model_based.planner import Planner, PlannerOptions
from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.template import Offline


class FowmConfig(PlannerOptions, OfflineConfig):
    """FOWM's options offline."""

    normalize_obs: bool = False
    normalize_reward: bool = True


class Fowm(Planner[FowmConfig], Offline[FowmConfig]):
    """A latent world model, learnt from data alone."""

    Config = FowmConfig
