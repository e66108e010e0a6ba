"""How far a model training changed the ensemble: what CoMoU's Fig. 4b plots, logged for every method.

KL(old || new) is summed over outputs (nats) and averaged over members, each against its own old copy.
MuJoCo is deterministic, so deviations sink to their floor, where a small step of a mean costs many nats:
the share of outputs at the floor is logged beside it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...agent import Metrics
from ...transitions import Array
from ..networks import to_array
from .ensemble import Prediction

MOST = 1e12
"""A larger value is logged as this: a number that is not finite ends a run."""
FLOOR = 0.5
"""A log-variance within this of its lower bound is at the floor."""


def kl(old: Prediction, new: Prediction) -> Tensor:
    """Return KL(old || new) of diagonal Gaussians, nats, for each output; shapes as the predictions'."""
    gap = old.log_var - new.log_var
    squares = (old.mean - new.mean).square() * (-new.log_var).exp()
    return 0.5 * (gap.exp() - gap - 1.0 + squares)


def model_change(old: Prediction, new: Prediction, low: Tensor) -> Metrics:
    """Return what is logged of a training, by rows of one probe.

    Args:
        old: Predictions (seeds, members, rows, obs_dim + 1) before it.
        new: The same after it.
        low: The lower bounds of the log-variances (seeds, obs_dim + 1).
    """
    each = kl(old, new).mean(1)
    nats = each.sum(-1)
    shift = (new.mean - old.mean).abs() * (-0.5 * old.log_var).exp()
    at_floor = new.log_var < low[:, None, None] + FLOOR
    metrics = {
        "kl": nats.mean(1),
        "kl_median": nats.median(1).values,
        "kl_95": torch.quantile(nats, 0.95, dim=1),
        "kl_max": nats.amax(1),
        "kl_state": each[..., :-1].sum(-1).mean(1),
        "shift": shift.mean((1, 2, 3)),
        "at_floor": at_floor.float().mean((1, 2, 3)),
    }
    return {name: to_array(values.clamp(max=MOST)) for name, values in metrics.items()}


def bound(trust: float) -> float:
    """Return the most that Eq. (1)'s exact mixture can change, -log(1 - trust); Gaussians can change more."""
    return -math.log1p(-trust) if trust < 1.0 else math.inf


def quantiles(values: Tensor) -> dict[str, Array]:
    """Return mean and 20, 50 and 80 % quantiles (MOORe's band) of values (seeds, ...), NaN left out."""
    flat = values.flatten(1)
    at = torch.nanquantile(flat, torch.tensor([0.2, 0.5, 0.8], device=flat.device), dim=1)
    names = ("q20", "q50", "q80")
    bands = {name: to_array(quantile) for name, quantile in zip(names, at, strict=True)}
    return {"mean": to_array(flat.nanmean(1)), **bands}
