"""Naive fine-tuning (the baseline of CoMoU): MOPO's model and policy go on through MBPO's loop, nothing else.

The paper says only that models pretrained by MOPO are fine-tuned directly through MBPO. Decided here:

- ``replay_data = online``: MBPO's own pool, the offline data are not used any more. ``union`` is an option.
- No penalty (``penalty_coef = 0``), as in MBPO; MOPO's lambda is an option.
- The input scaler stays as MOPO fitted it (``refit_scaler = false``). Refitting it on a few hundred
  transitions changes the function before any gradient step, which alone can destroy the model; as an option
  it separates that effect from the one the paper speaks of.
- No random exploration: ``learning_starts`` steps of the stochastic offline policy, then learning starts.
- Early stopping starts from the incoming weights, held-out transitions are fixed when they enter.
"""

from __future__ import annotations

from o2obench.kit.model_based.config import OnlineConfig
from o2obench.kit.model_based.template import ModelBased


class Naive(ModelBased[OnlineConfig]):
    """The family's template as it is."""

    Config = OnlineConfig
    pretrain = "mopo"
