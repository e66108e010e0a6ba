"""Naive tuning (the baseline of CoMoU): model and policy of MOPO go on through MBPO's loop, nothing else.

The paper says only that models pretrained by MOPO are tuned directly through MBPO. Decided here:

- ``rows = online``: MBPO's own pool, the offline data are not used any more. ``union`` is an option.
- No penalty (``penalty = 0``), as in MBPO; MOPO's lambda is an option.
- The input scaler stays as MOPO fitted it (``refit_scaler = false``). Refitting it on a few hundred rows
  changes the function before any gradient step, which alone can destroy the model; as an option it
  separates that effect from the one the paper speaks of.
- No random exploration: ``n_init`` steps of the stochastic offline policy, then learning starts.
- Early stopping starts from the incoming weights, held-out rows are fixed when they enter.
"""

from __future__ import annotations

from o2obench.kit.model_based.template import ModelBased, OnlineConfig


class Naive(ModelBased[OnlineConfig]):
    """The family's template as it is."""

    Config = OnlineConfig
    pretrain = "mopo"
