"""MBPO (Janner et al. 2019, arXiv:1906.08253): naive fine-tuning without pretraining, from nothing.

Deviations, each with its reason:

- Transitions are appended at once; the official sampler appends a path when its episode ends, so that
  a 1,000-step episode brings four model trainings without new data.
- Early stopping of a refit starts from the incoming weights (see ``kit.model_based.ensemble_training``), a
  training ends after five passes without improvement (official: six), at most 1,000 transitions are held out
  (official: 5,000), and which ones is fixed when they enter (``holdout_redraw`` draws them anew).
- A step is acted first; the model training and the updates that it makes due follow. The official loop
  trains at the start of the next step; the counts are equal. The first training so ends the warm-up.
- A model training is cut at 20 epochs, as for all methods here (``OnlineConfig.max_model_epochs``).
- The target entropy is MBPO's own for each task (its YAML), not minus the action dimension. The temperature
  is at most 1 in the losses, and log deviations of the policy are at least -5 (official: no limit, -20).
- The rollout length's clock counts the 5,000 steps of the warm-up, the official epochs begin after them: the
  length grows five epochs earlier.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from o2obench.agent import Budget, Stage, count
from o2obench.kit.model_based.config import OnlineConfig
from o2obench.kit.model_based.template import ModelBased
from o2obench.kit.options import Rate, Size
from o2obench.util.rng import Stream


class MbpoConfig(OnlineConfig):
    """MBPO's options; ``utd_ratio``, ``rollout_length`` and ``target_entropy`` have rows for each task."""

    learning_starts: Annotated[int, Field(gt=0, multiple_of=5)] = count(5000)
    """Steps of uniformly random actions before anything is learnt; they count as steps."""
    max_model_epochs: Size | None = count(20)
    steps_per_model_epoch: Size | None = count(None)
    model_lr_warmup_steps: Annotated[int, Field(ge=0)] = count(0)
    alpha_lr: Rate = 3e-4
    refit_scaler: bool = True


class Mbpo(ModelBased[MbpoConfig]):
    """Warm up with random actions, then the template's loop on online transitions."""

    Config = MbpoConfig
    uses_data = False

    @classmethod
    def stages(cls, config: MbpoConfig, budget: Budget) -> tuple[Stage, ...]:
        """Act at random for ``learning_starts`` steps, then learn."""
        warm_up = min(config.learning_starts, budget.online_steps)
        tune = budget.online_steps - warm_up
        stages = (Stage("warm-up", warm_up), Stage("fine-tune", tune, config.utd_ratio * tune))
        return stages if tune else stages[:1]

    def explore(self, obs: Tensor) -> Tensor:
        """Act uniformly at random in the warm-up, then by a sample of the policy."""
        if self.replay.online < self.config.learning_starts:
            return self.streams.actions(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim)
        return super().explore(obs)
