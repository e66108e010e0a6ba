"""Cal-QL goes on with its own losses while it interacts (arXiv:2303.05479, section 6).

It takes over all networks, targets, temperature and moments; it acts by samples of its policy, half of each
batch is offline, and the online half comes from finished episodes, whose returns are known. The official code
learns after each episode, as many updates as it had steps; here learning is step by step and begins after
1,000 steps, as for all methods (the other half is offline, too, until an episode has ended).
``calibrated: false`` stores no returns online: the floor is 0 there (CORL leaves it out).
"""

from __future__ import annotations

from typing import Literal

import torch

from o2obench.kit.model_free.cal_ql import RETURN, STEPS, Calibrated, CalQlOptions
from o2obench.kit.model_free.config import OnlineConfig
from o2obench.kit.model_free.online import Online
from o2obench.kit.networks import to_array
from o2obench.kit.options import Share
from o2obench.transitions import Transitions


class CalQlFinetuneConfig(CalQlOptions, OnlineConfig):
    """Cal-QL's options online."""

    replay_data: Literal["union", "online"] | Share = 0.5
    replay_finished: bool = True
    calibrated: bool = True
    """Whether online transitions have the returns that followed; else they have 0."""


class CalQlFinetune(Online[CalQlFinetuneConfig], Calibrated[CalQlFinetuneConfig]):
    """Cal-QL's losses on new transitions."""

    Config = CalQlFinetuneConfig
    pretrain = "cal_ql"
    requires = ("actor", "critics")

    def observe(self, step: Transitions) -> None:
        """Store the step; where an episode ends, give its transitions their returns."""
        before = self.finished.tolist()
        super().observe(step)
        if not self.config.calibrated:
            return
        for begin, end, base in zip(
            before, self.finished.tolist(), self.replay.online_base.tolist(), strict=True
        ):
            if begin < end:
                episode = self.replay.unpack(self.replay.rows[base + begin : base + end])
                of_episode = self.to_go(to_array(episode.reward))
                for name, values in zip((RETURN, STEPS), of_episode, strict=True):
                    episode.columns[name].copy_(torch.from_numpy(values))
