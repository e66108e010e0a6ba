"""MOPO (Yu et al. 2020, arXiv:2005.13239): offline SAC in a learned model, penalised by its uncertainty.

The offline stage of the model-based family: every fine-tuning algorithm starts from the same finished run.
Numbers follow OfflineRL-Kit, whose options on the v2 data DOOF shares (its Appendix C).

Deviations, each with its reason:

- An epoch of model training is made of full batches: the bootstrap is rounded up to a multiple of 256, so
  that every step has one shape.
- A rollout samples the noise of the drawn elite only, not of all seven members; the law is the same.
- The penalty uses standard deviations, as both reference codes do, where the papers write a norm of
  the covariance.
"""

from __future__ import annotations

from o2obench.agent import Budget, Stage, count
from o2obench.kit.model_based.config import ModelBasedConfig
from o2obench.kit.model_based.template import ModelBased, annealed
from o2obench.kit.options import Rate, Size
from o2obench.kit.sac import Rates
from o2obench.transitions import Transitions


class MopoConfig(ModelBasedConfig):
    """MOPO's options; ``rollout_length`` and ``penalty_coef`` have a row for each data set."""

    actor_lr: Rate = 1e-4
    """Annealed to zero by a cosine over the epochs."""
    rollout_batch_size: Size = count(50_000)
    """Start states of the rollout before each epoch of 1,000 updates."""


class Mopo(ModelBased[MopoConfig]):
    """Fit the model, then train the policy inside it; the environment is never touched."""

    Config = MopoConfig

    @classmethod
    def stages(cls, config: MopoConfig, budget: Budget) -> tuple[Stage, ...]:
        """Train the model once, then the policy."""
        return (Stage("model"), Stage("policy", updates=budget.offline_updates))

    def begin(self, stage: str) -> None:
        """Order the one model training."""
        self.due_training = stage == "model"

    def rates(self, update: int) -> Rates:
        """Anneal the actor's rate to zero by the end."""
        return annealed(super().rates(update), update, self.task.budget.offline_updates)

    def offline_ratio(self, offline: int, online: int) -> float:
        """All real transitions are offline transitions."""
        return 1.0

    def observe(self, step: Transitions) -> None:
        """Refuse: MOPO has no stage with the environment."""
        raise TypeError("MOPO is trained without the environment")
