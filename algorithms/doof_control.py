"""The control that DOOF's paper lacks: as many further updates of MOPO's policy, without any new data.

Step 5 of DOOF in the untuned offline model, with the same restarted learning rates and batches; rollouts
start from offline transitions. What DOOF gains over it is owed to the collected steps, not to 300,000 more
updates.
"""

from __future__ import annotations

from o2obench.agent import Budget, Stage

from .doof import Doof, DoofConfig


class DoofControl(Doof):
    """DOOF without exploration, collection and training of the model."""

    version = 2

    @classmethod
    def steps(cls, config: DoofConfig, budget: Budget) -> dict[Stage, str]:
        """Train the policy only."""
        return {Stage("policy", 0, config.policy_updates): "policy"}
