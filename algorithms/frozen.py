"""Frozen: the pretrained policy acts and never learns; the control against which every drop is read.

Its start states are fresh at each evaluation, so its curve shows the noise floor of the protocol.
"""

from __future__ import annotations

from o2obench.agent import Transitions
from o2obench.kit.modelbased import ModelBased, OnlineConfig


class Frozen(ModelBased[OnlineConfig]):
    """MOPO's final policy, unchanged."""

    Config = OnlineConfig
    pretrain = "mopo"
    needs_row = False

    def observe(self, step: Transitions) -> None:
        """Look away."""
