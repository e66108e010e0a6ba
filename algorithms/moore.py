"""MOORe (Mao et al. 2022, arXiv:2201.10070): offline rows lose priority while online rows come in.

In online epoch t (of 1,000 steps, from 1) an offline row has priority 1 / (alpha t), an online row 1. Rows
for model training, rollout starts and the real part of SAC's batches are drawn by these priorities. Since
they are equal within a source, drawing the source first and then a row uniformly is exactly the same law.
MOPO's penalty and horizon stay on.

Deviations and decisions:

- The value of alpha behind the paper's main results is not printed. 1 is the middle of its grid, and equals
  uniform sampling in the first epoch: no jump at the hand-over.
- Prioritised replay has an exponent and importance weights; here neither, as weights would cancel the scheme.
- Real rows are 5 % of a SAC batch, as in MOPO; Algorithm 1 draws from the model alone (``real_share: 0``).
- The held-out error is weighted by the same priorities, else offline rows would decide early stopping.
- A pass of model training draws at most 25,600 rows, and 20 passes are the most: the paper's 400 trainings
  "until convergence" on a million rows take weeks.
- Learning begins with the first step (``n_init: 0``), after one rollout of the offline model; comparisons
  give all methods the same first 1,000 steps without learning.
- Model rows are kept for one epoch, as in MBPO, from which the paper takes its counts.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from o2obench.agent import count
from o2obench.kit.model_based.template import ModelBased, OnlineConfig, Size

EPOCH = 1000


class MooreConfig(OnlineConfig):
    """Options; ``penalty`` and ``horizon`` are MOPO's for the data set."""

    sampling: Literal["moore", "uniform", "half", "online"] = "moore"
    """Decaying priority, or one of the ablation's: all rows alike, half of each source (each row by a fair
    coin, where the paper halves each batch), online rows only."""
    rows: Literal["union"] = "union"
    alpha: Annotated[float, Field(gt=0)] = 1.0
    n_init: Annotated[int, Field(ge=0, multiple_of=5)] = count(0)
    model_pass_steps: Size | None = count(100)


class Moore(ModelBased[MooreConfig]):
    """The template with another rule for real rows."""

    Config = MooreConfig
    pretrain = "mopo"

    def begin(self, stage: str) -> None:
        """Roll the offline model out where learning starts with the first step."""
        if self.config.n_init == 0:
            self.due_rollout = self.config.rollout_rows

    def priority(self) -> float:
        """Return an offline row's priority in this epoch; an online row has 1."""
        if self.config.sampling != "moore":
            return 1.0
        epoch = 1 + max(0, self.replay.online - 1) // EPOCH
        return 1.0 / (self.config.alpha * epoch)

    def offline_share(self, offline: int, online: int) -> float:
        """Return the share of all priority that offline rows have."""
        if online and self.config.sampling in ("half", "online"):
            return 0.5 if self.config.sampling == "half" else 0.0
        return offline * self.priority() / (offline * self.priority() + online)

    def logged(self) -> dict[str, float]:
        """Return the priority of an offline row."""
        return {"rows/priority": self.priority()}
