"""MOORe (Mao et al. 2022, arXiv:2201.10070): offline transitions lose priority while online ones come in.

In online epoch t (of 1,000 steps, from 1) an offline transition has priority 1 / (alpha t), an online one 1.
Transitions for model training, rollout starts and the real part of SAC's batches are drawn by these
priorities. Since they are equal within a source, drawing the source first and then uniformly is exactly the
same law. MOPO's penalty and rollout length stay on.

Deviations and decisions:

- The value of alpha behind the paper's main results is not printed. 1 is the middle of its grid, and equals
  uniform sampling in the first epoch: no jump at the warm start.
- Prioritised replay has an exponent and importance weights; here neither, as weights would cancel the scheme.
- Real transitions are 5 % of a SAC batch, as in MOPO; Algorithm 1 draws from the model alone (``real_ratio:
  0``).
- The held-out error is weighted by the same priorities. Beside tens of thousands of offline transitions these
  still decide (98 % of 50,000 rows' first training): ``holdout_weights`` can judge by both sources alike, or
  by the online one.
- An epoch of model training draws at most 25,600 transitions, and 20 epochs are the most: the paper's 400
  trainings "until convergence" on a million transitions take weeks.
- Learning begins with the first step (``learning_starts: 0``), after one rollout of the offline model;
  comparisons give all methods the same first 1,000 steps without learning.
- Model transitions are kept for one epoch, as in MBPO, from which the paper takes its counts.
- The input scaler stays as MOPO fitted it, the incoming weights are judged first, and the actor learns at a
  constant 3e-4 (MOPO: 1e-4, annealed).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from o2obench.agent import count
from o2obench.kit.model_based.config import OnlineConfig
from o2obench.kit.model_based.template import ModelBased

EPOCH = 1000


class MooreConfig(OnlineConfig):
    """Options; ``penalty_coef`` and ``rollout_length`` are MOPO's for the data set."""

    sampling: Literal["moore", "uniform", "half", "online"] = "moore"
    """Decaying priority, or one of the ablation's: all alike, half of each source (each by a fair coin,
    where the paper halves each batch), online transitions only."""
    replay_data: Literal["union"] = "union"
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """An offline transition's priority is 1 / (alpha x epoch), an online one's 1."""
    learning_starts: Annotated[int, Field(ge=0, multiple_of=5)] = count(0)
    holdout_weights: Literal["priority", "half", "online"] = "priority"
    """By which transitions model training is judged: both sources by the priorities, half by each, or the
    online ones alone (the offline ones while there are no others)."""


class Moore(ModelBased[MooreConfig]):
    """The template with another rule for real transitions."""

    Config = MooreConfig
    version = 2
    pretrain = "mopo"

    def begin(self, stage: str) -> None:
        """Roll the offline model out where learning starts with the first step."""
        if self.config.learning_starts == 0:
            self.due_rollout = self.config.rollout_batch_size

    def priority(self) -> float:
        """Return an offline transition's priority in this epoch; an online transition has 1."""
        if self.config.sampling != "moore":
            return 1.0
        epoch = 1 + max(0, self.replay.online - 1) // EPOCH
        return 1.0 / (self.config.alpha * epoch)

    def offline_ratio(self, offline: int, online: int) -> float:
        """Return the share of all priority that offline transitions have."""
        if online and self.config.sampling in ("half", "online"):
            return 0.5 if self.config.sampling == "half" else 0.0
        return offline * self.priority() / (offline * self.priority() + online)

    def held_out_ratio(self, offline: int, online: int) -> float:
        """Return the weight of the offline transitions in the held-out error."""
        if self.config.holdout_weights == "priority":
            return self.offline_ratio(offline, online)
        return 0.5 * (self.config.holdout_weights == "half") if online else 1.0

    def logged(self) -> dict[str, float]:
        """Return the priority of an offline transition."""
        return {"replay/offline_priority": self.priority()}
