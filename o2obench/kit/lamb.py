"""LAMB (You et al. 2020, arXiv:1904.00962), as the Online Decision Transformer uses it.

Adam's direction plus weight decay, of each tensor, scaled to the length of the tensor itself, at most 10.
Without bias corrections, as in released codes: the length of the direction does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOST_LENGTH = 10.0


class Lamb(torch.optim.Optimizer):
    """A step of each tensor w is lr |w| (at most 10) in the direction of m / (sqrt v + eps) + decay w."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Do one step with the gradients that are there; ``closure`` is torch's, and not called."""
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    self._move(tensor, group)

    def _move(self, tensor: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[tensor], group["betas"]
        if not state:
            state["mean"], state["square"] = torch.zeros_like(tensor), torch.zeros_like(tensor)
        state["mean"].lerp_(tensor.grad, 1.0 - beta1)
        state["square"].mul_(beta2).addcmul_(tensor.grad, tensor.grad, value=1.0 - beta2)
        direction = state["mean"] / (state["square"].sqrt() + group["eps"])
        direction = direction + group["weight_decay"] * tensor
        length, size = tensor.norm().clamp(max=MOST_LENGTH), direction.norm()
        ratio = torch.where((length > 0) & (size > 0), length / size, torch.ones_like(size))
        tensor.sub_(group["lr"] * ratio * direction)
