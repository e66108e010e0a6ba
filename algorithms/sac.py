"""SAC (Haarnoja et al. 2018, arXiv:1812.05905) from scratch: model-free control and data collector.

The defaults of the model-free template: one update per step after 1,000 uniformly random steps, on batches of
everything seen so far. It is bit for bit the learner of the model-based family (``o2obench.kit.sac``): log
deviations lie in [-5, 2], the temperature is at most 1, and an update's noise comes from one stream.
"""

from __future__ import annotations

from torch import Tensor

from o2obench.kit.model_free.sac import OnlineSac, OnlineSacOptions
from o2obench.kit.model_free.template import NEXT_ACTIONS
from o2obench.kit.networks import to_array
from o2obench.kit.policies import TanhGaussian
from o2obench.transitions import Array
from o2obench.util.rng import Stream


class Sac(OnlineSac[OnlineSacOptions]):
    """Act, store, update."""

    Config = OnlineSacOptions
    version = 2
    uses_data = False
    random_start = True

    def policy_of(self, act_dim: int) -> TanhGaussian:
        """Return a tanh-Gaussian with the bounds of OfflineRL-Kit."""
        return TanhGaussian(act_dim, -5.0, 2.0)

    def alpha(self) -> Tensor:
        """Return the temperature of each seed, at most 1."""
        return super().alpha().clamp(max=1.0)

    def draw(self, purpose: str, updates: int, kind: str, shape: tuple[int, ...]) -> Tensor:
        """Draw the noise of next actions and of actions together, where the first is asked for."""
        if purpose == NEXT_ACTIONS:
            self._noise = super().draw(Stream.SAC_NOISE, updates, kind, (2, *shape))
        return self._noise[:, :, 1 if purpose == NEXT_ACTIONS else 0]

    def sampled(self, obs: Array) -> Array:
        """Return a sample of the policy, however long it has been trained."""
        return to_array(self.policy_action(self.observed(obs)))
