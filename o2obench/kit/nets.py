"""Stacks of equal networks as plain tensors, and the optimiser that trains a pack of them.

A weight has the shape (*stack, inputs, outputs), where ``stack`` begins with the seeds: (seeds,) for
an actor, (seeds, 2) for twin critics, (seeds, 7) for an ensemble. All networks of a stack are
evaluated by one batched product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..agent import Array, State
from ..seeds import derive

Initialiser = Callable[[int, tuple[int, ...], torch.Generator], tuple[Tensor, Tensor]]


def uniform_init(inputs: int, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return weights and biases uniform in +-1/sqrt(inputs): torch's default, used by the reference codes."""
    bound = 1.0 / math.sqrt(inputs)
    *stack, outputs = shape
    weight = torch.rand((*stack, inputs, outputs), generator=generator)
    bias = torch.rand((*stack, 1, outputs), generator=generator)
    return (2 * weight - 1) * bound, (2 * bias - 1) * bound


def truncated_normal_init(
    inputs: int, shape: tuple[int, ...], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return normal weights of deviation 1/(2 sqrt(inputs)), cut at two deviations, and zero biases.

    TensorFlow's truncated normal of the original MOPO and MBPO. (torch's ``trunc_normal_`` cuts at
    absolute +-2 by default, that is, almost never.)
    """
    *stack, outputs = shape
    weight = torch.empty((*stack, inputs, outputs))
    torch.nn.init.trunc_normal_(weight, 0.0, 1.0, -2.0, 2.0, generator=generator)
    return weight / (2.0 * math.sqrt(inputs)), torch.zeros((*stack, 1, outputs))


class Mlp:
    """A stack of multilayer perceptrons with the same sizes.

    Each seed's networks are drawn from its own stream (seed, "init", name), so a seed starts from the
    same weights alone and in a pack.
    """

    def __init__(
        self,
        name: str,
        seeds: Sequence[int],
        members: tuple[int, ...],
        sizes: Sequence[int],
        activation: Callable[[Tensor], Tensor],
        device: str,
        init: Initialiser = uniform_init,
    ) -> None:
        self.activation = activation
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        streams = [torch.Generator().manual_seed(derive(seed, "init", name)) for seed in seeds]
        for inputs, outputs in pairwise(sizes):
            layers = [init(inputs, (*members, outputs), stream) for stream in streams]
            self.weights.append(torch.stack([weight for weight, _ in layers]).to(device).requires_grad_())
            self.biases.append(torch.stack([bias for _, bias in layers]).to(device).requires_grad_())

    def parameters(self) -> list[Tensor]:
        """Return all tensors that are trained."""
        return [*self.weights, *self.biases]

    def __call__(self, x: Tensor) -> Tensor:
        """Map inputs (*stack, batch, inputs) to outputs (*stack, batch, outputs)."""
        stack = self.weights[0].shape[:-2]
        x = x.expand(*stack, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias.flatten(0, -3), x, weight.flatten(0, -3))
            if i < last:
                x = self.activation(x)
        return x.view(*stack, *x.shape[-2:])

    def state_dict(self) -> State:
        """Return the parameters by name."""
        return _to_state(self.weights, "weight") | _to_state(self.biases, "bias")

    def load_state_dict(self, state: State) -> None:
        """Copy parameters into place."""
        _from_state(self.weights, state, "weight")
        _from_state(self.biases, state, "bias")

    @torch.no_grad()
    def follow(self, other: Mlp, tau: float) -> None:
        """Move by the share ``tau`` towards another stack (Polyak averaging)."""
        for mine, theirs in zip(self.parameters(), other.parameters(), strict=True):
            mine.lerp_(theirs, tau)


class Adam:
    """Adam (arXiv:1412.6980) over stacks, with a step count for each seed.

    A seed that is masked out keeps parameters, moments and step count, bit for bit.
    """

    def __init__(self, parameters: Sequence[Tensor], beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.parameters, self.beta1, self.beta2 = list(parameters), beta1, beta2
        self.mean = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.square = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.steps = np.zeros(self.parameters[0].shape[0], np.int64)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rate: float, active: Tensor | None = None) -> None:
        """Do one step at learning rate ``rate``; ``active`` (seeds,) masks seeds out."""
        self.steps += 1 if active is None else active.cpu().numpy()
        correction2 = np.sqrt(1.0 - self.beta2**self.steps)
        size = rate * correction2 / np.maximum(1.0 - self.beta1**self.steps, 1e-30)
        tensors = zip(self.parameters, gradients, self.mean, self.square, strict=True)
        for parameter, gradient, mean, square in tensors:
            kept = [t.clone() for t in (parameter, mean, square)] if active is not None else []
            mean.lerp_(gradient, 1.0 - self.beta1)
            square.mul_(self.beta2).addcmul_(gradient, gradient, value=1.0 - self.beta2)
            for alike in self._seeds_at_equal_steps():
                root = square[alike].sqrt().add_(1e-8 * float(correction2[alike][0]))
                parameter[alike].addcdiv_(mean[alike], root, value=-float(size[alike][0]))
            if active is not None:
                mask = active.view(-1, *(1,) * (parameter.dim() - 1))
                for tensor, old in zip((parameter, mean, square), kept, strict=True):
                    tensor.copy_(torch.where(mask, tensor, old))

    def _seeds_at_equal_steps(self) -> list[slice]:
        """Return the seeds in groups of one step count: all of them, or each alone."""
        if (self.steps == self.steps[0]).all():
            return [slice(None)]
        return [slice(i, i + 1) for i in range(len(self.steps))]

    def state_dict(self) -> State:
        """Return moments and step counts."""
        moments = _to_state(self.mean, "mean") | _to_state(self.square, "square")
        return moments | {"steps": self.steps.copy()}

    def load_state_dict(self, state: State) -> None:
        """Copy moments and step counts into place."""
        _from_state(self.mean, state, "mean")
        _from_state(self.square, state, "square")
        self.steps = state["steps"].copy()


def gradients(loss: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of a loss that is a sum over seeds."""
    return torch.autograd.grad(loss, list(parameters))


def to_array(tensor: Tensor) -> Array:
    """Return a tensor's values as a numpy array of its own memory."""
    array: Array = tensor.detach().cpu().numpy().copy()
    return array


def _to_state(tensors: Sequence[Tensor], name: str) -> State:
    return {f"{name}{i}": to_array(tensor) for i, tensor in enumerate(tensors)}


@torch.no_grad()
def _from_state(tensors: Sequence[Tensor], state: State, name: str) -> None:
    for i, tensor in enumerate(tensors):
        tensor.copy_(torch.from_numpy(state[f"{name}{i}"]))
