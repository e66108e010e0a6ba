"""CoMoU (Chen et al. 2026, doi:10.65109/JCLP2243): the model is updated inside a trust region.

The paper's Eq. (1) wants the new model to be a mixture of data and old model,
p_{t+1} = trust * rho + (1 - trust) * p_t. Its best Gaussian (the minimiser of KL(mixture || p)) is found by
the family's loss with two targets, the data with weight trust and the old model's Gaussian with the rest:

    exp(-l) (trust (y - mu)^2 + (1 - trust) ((mu_old - mu)^2 + exp(l_old))) + l

Deviations and decisions; the paper prints neither loss, nor data, nor the values of its lambda-tilde:

- Each member is held by its own old copy, taken once when a model training begins (a copy taken at every
  gradient step would have no gradient at all: naive fine-tuning). Its bounds and its scaler are copied too.
- Both terms have the code base's scale (doubled, averaged over outputs). A textbook KL beside them would
  change the odds by (obs_dim + 1) / 2.
- The loss is divided by trust: at the old model its gradient is then that of the data alone, at full weight,
  beside weight decay and the pull on the bounds. Undivided, both would weigh 1 / trust times as much against
  the data as they do elsewhere, and repeated trainings would end where Theorem 2.2 (no bias) does not hold.
- ``trust`` = 0.1, in (0, 1]; 1 is naive fine-tuning, bit for bit. The Gaussian is not bounded as Eq. (1)'s
  mixture is, by -log(1 - trust), but moves like the logarithm of a surprise, not like its square.
- Early stopping evaluates trust (y - mu)^2 + (1 - trust) (mu_old - mu)^2 on the held-out transitions. No mean
  can lower it by more than the share trust of what the data could teach, so a pass must lower it by
  trust x ``model_improvement``. ``model_change/online/shift`` is logged; read it beside every curve.
- All else is the naive baseline's, its deviations from MBPO included: online transitions only (``replay_data:
  union`` is an option), no penalty, MBPO's horizon and updates.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from o2obench.kit.model_based.config import OnlineConfig
from o2obench.kit.model_based.ensemble import Prediction
from o2obench.kit.model_based.model_change import bound
from o2obench.kit.model_based.template import ModelBased


class ComouConfig(OnlineConfig):
    """Naive fine-tuning's options and the trust region."""

    trust: Annotated[float, Field(gt=0, le=1)] = 0.1
    """lambda-tilde = 1 / (lambda + 1): the weight of the data; the old model has the rest."""


class Comou(ModelBased[ComouConfig]):
    """The template with another loss of the model."""

    Config = ComouConfig
    version = 3
    pretrain = "mopo"

    def model_loss(self, prediction: Prediction, y: Tensor, inputs: Tensor) -> Tensor:
        """Fit the mixture of data and old model."""
        trust = self.config.trust
        if trust == 1.0:
            return super().model_loss(prediction, y, inputs)
        old = self.predict_before(inputs)
        data, anchor = (prediction.mean - y).square(), (prediction.mean - old.mean).square()
        error = trust * data + (1.0 - trust) * (anchor + old.log_var.exp())
        loss = (error * (-prediction.log_var).exp() + prediction.log_var).mean((-2, -1))
        return loss / trust

    def model_improvement(self) -> float:
        """Ask for the share of an improvement that the trust region leaves."""
        return self.config.trust * super().model_improvement()

    def logged(self) -> dict[str, float]:
        """Return what Eq. (1)'s exact mixture could change at most, nats."""
        return {"model_change/bound": bound(self.config.trust)} if self.config.trust < 1.0 else {}

    def model_error(self, prediction: Prediction, y: Tensor, inputs: Tensor) -> Tensor:
        """Judge the means by the same mixture."""
        trust = self.config.trust
        if trust == 1.0:
            return super().model_error(prediction, y, inputs)
        old = self.predict_before(inputs)
        data, anchor = (prediction.mean - y).square(), (prediction.mean - old.mean).square()
        return (trust * data + (1.0 - trust) * anchor).mean((-2, -1))
