"""Options of the model-based family. What the papers leave open and what is decided here is said at each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...agent import count
from ..options import Rate, Share, Size, Weight
from ..sac import SacOptions
from .ensemble import EnsembleOptions


class ModelBasedConfig(EnsembleOptions, SacOptions):
    """Options of the family: the ensemble's, SAC's, and these. Defaults are OfflineRL-Kit's and MBPO's."""

    # rollouts
    rollout_length: tuple[int, int, Size, Size] = (0, 1, 1, 1)
    """(first epoch, last epoch, from, to): steps of a rollout, linear in epochs of 1,000 env steps."""
    rollout_batch_size: Size = count(50_000)
    """Start states of a rollout."""
    model_retain_epochs: Size = 5
    """How many epochs of rollouts the model buffer holds."""
    penalty_coef: Weight = 0.0
    """lambda: model rewards are lowered by lambda times the largest deviation in the ensemble."""

    # policy updates
    actor_lr: Rate = 3e-4
    """Learning rate of the actor."""
    critic_lr: Rate = 3e-4
    """Learning rate of the critics."""
    alpha_lr: Rate = 1e-4
    """Learning rate of the temperature."""
    real_ratio: Share = 0.05
    """Share of real transitions in a SAC batch: int(0.05 * 256) = 12 of 256."""


class OnlineConfig(ModelBasedConfig):
    """Options of fine-tuning with the environment."""

    replay_data: Literal["online", "union"] = "online"
    """The real transitions in use: the new ones only, or the offline and the new ones, uniformly."""
    utd_ratio: Size = count(20)
    """Policy updates per environment step."""
    learning_starts: Annotated[int, Field(ge=0, multiple_of=5)] = count(1000)
    """Environment steps before anything is learnt; a multiple of the blocks from which rows are held out."""
    model_train_freq: Annotated[int, Field(gt=0, multiple_of=5)] = count(250)
    """Environment steps between two model trainings, each followed by a rollout; a multiple of the block."""
    rollout_batch_size: Size = count(100_000)
    model_retain_epochs: Size = 1
    max_model_epochs: Annotated[int, Field(ge=0)] | None = count(20)
    """Passes of a model's training at most; null: until nothing improves, as the papers do 400 times; 0: the
    model stays as it was pretrained."""
    steps_per_model_epoch: Size | None = count(100)
    """Batches of a pass, however many transitions there are; null: each transition once. With a pass over a
    few new transitions, 4 batches or so, next to no training improves on the pretrained model."""
    model_lr_warmup_steps: Annotated[int, Field(ge=0)] = count(250)
    """Gradient steps over which each training of the model raises its rate linearly from zero: a rate of 1e-3
    throws a converged model off at once."""
