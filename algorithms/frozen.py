"""Frozen: the pretrained policy acts and never learns; the control against which every drop is read.

Its start states are fresh at each evaluation, so its curve shows the noise floor of the protocol.
"""

from __future__ import annotations

from o2obench.agent import Budget, Stage, Transitions
from o2obench.kit.model_based.template import ModelBased, ModelBasedConfig


class Frozen(ModelBased[ModelBasedConfig]):
    """MOPO's final policy, unchanged."""

    Config = ModelBasedConfig
    pretrain = "mopo"
    needs_row = False

    @classmethod
    def stages(cls, config: ModelBasedConfig, budget: Budget) -> tuple[Stage, ...]:
        """Interact as long as the others do, without an update."""
        return (Stage("tune", budget.online_steps),)

    def observe(self, step: Transitions) -> None:
        """Look away."""
