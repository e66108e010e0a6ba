"""Naive fine-tuning (the baseline of CoMoU): MOPO's model and policy go on through MBPO's loop, nothing else.

The paper says only that models pretrained by MOPO are fine-tuned directly through MBPO. Decided here:

- ``replay_data = online``: MBPO's own pool, the offline data are not used any more. ``union`` is an option.
- No penalty (``penalty_coef = 0``), as in MBPO; MOPO's lambda is an option.
- The input scaler stays as MOPO fitted it (``refit_scaler = false``). Refitting it on a few hundred
  transitions changes the function before any gradient step, which alone can destroy the model; as an option
  it separates that effect from the one the paper speaks of.
- No random exploration: ``learning_starts`` steps of the stochastic offline policy, then learning starts.
- Early stopping starts from the incoming weights, held-out transitions are fixed when they enter, and a
  training has at most 20 passes of 100 batches, its rate rising over the first 250 (chosen on model error
  alone, seeds 100 to 102; docs/algorithms.md). MBPO's own way, in which the first pass always replaces the
  weights, is an entry of the suites: ``model_best_start: none``, ``holdout_redraw``, ``refit_scaler``,
  ``max_model_epochs: 60``, no ``steps_per_model_epoch`` and no ``model_lr_warmup_steps``.
- Target entropy (minus the action dimension) and the temperature's rate (1e-4) are MOPO's, so that SAC goes
  on as it was pretrained; MBPO has -1 on Hopper, -3 on the others, and 3e-4.
"""

from __future__ import annotations

from o2obench.kit.model_based.config import OnlineConfig
from o2obench.kit.model_based.template import ModelBased


class Naive(ModelBased[OnlineConfig]):
    """The family's template as it is."""

    Config = OnlineConfig
    version = 2
    pretrain = "mopo"
