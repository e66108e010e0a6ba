"""FOWM goes on with the same losses while it interacts (Feng et al. 2023, arXiv:2310.16029, section 3.3).

It takes over all networks and moments. Half of each batch's windows are offline, half online, both drawn by
priority. Decided here: an update after each step (released code: after each episode as many as it has steps),
and no learning in the first 1,000 steps, as for all methods.
"""

from __future__ import annotations

from typing import Literal

from o2obench.agent import count, later
from o2obench.kit.model_based.planner import Planner, PlannerOptions
from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.online import Online
from o2obench.kit.options import Share
from o2obench.transitions import Transitions


class FowmFinetuneConfig(PlannerOptions, OnlineConfig):
    """FOWM's options online."""

    replay_data: Share = 0.5
    replay_window: None = None
    """Windows are drawn by priority; nothing narrows what they are drawn from."""
    replay_finished: Literal[False] = False
    """As ``replay_window``."""
    replay_seeded: Literal[0] = count(0)
    """As ``replay_window``."""
    replay_on_policy: None = later(None)
    """As ``replay_window``."""


class FowmFinetune(Planner[FowmFinetuneConfig], Online[FowmFinetuneConfig]):
    """The world model learns on, and plans what is tried."""

    Config = FowmFinetuneConfig
    pretrain = "fowm"
    requires = ("actor", "critics", "world")

    def observe(self, step: Transitions) -> None:
        """Store the step."""
        super().observe(step)
        self.rank_newest()

    def offline_share(self) -> float:
        """Return the share of offline windows."""
        return self.config.replay_data
