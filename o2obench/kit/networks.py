"""Stacks of equal networks as plain tensors, and the optimiser that trains a seed batch of them.

A stack begins with the seeds: (seeds,) for an actor, (seeds, 2) for twin critics, (seeds, 7) for an
ensemble. All networks of a stack are evaluated by one batched product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..agent import State
from ..transitions import Array
from ..util.rng import Stream, derive

MANY_ROWS = 512
"""On a CPU, larger batches pass network after network: a network's activations stay in the cache."""

Norm = Literal["before", "after", "first"] | None
"""Where layers are normalised: before their activations (RLPD, WSRL), after them (ReBRAC), before the first
one only (TD-MPC), not at all.
"""
Activation = Callable[[Tensor], Tensor]
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


def orthogonal_of(gain: float) -> Initialiser:
    """Return an initialiser of orthogonal weights (arXiv:1312.6120) with this gain, and zero biases."""

    def init(inputs: int, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        *stack, outputs = shape
        weight = torch.empty((*stack, inputs, outputs))
        for net in weight.view(-1, inputs, outputs):
            torch.nn.init.orthogonal_(net, gain, generator=generator)
        return weight, torch.zeros((*stack, 1, outputs))

    return init


orthogonal_init = orthogonal_of(math.sqrt(2.0))
"""CORL's and WSRL's CQL."""


def zero_init(inputs: int, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return zeros, for a last layer that begins with the output 0; it draws nothing."""
    *stack, outputs = shape
    return torch.zeros((*stack, inputs, outputs)), torch.zeros((*stack, 1, outputs))


def xavier_init(inputs: int, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return weights uniform in +-sqrt(6 / (inputs + outputs)), as RLPD has them, and zero biases."""
    *stack, outputs = shape
    bound = math.sqrt(6.0 / (inputs + outputs))
    weight = (2 * torch.rand((*stack, inputs, outputs), generator=generator) - 1) * bound
    return weight, torch.zeros((*stack, 1, outputs))


def bounded_init(bound: float) -> Initialiser:
    """Return an initialiser of weights and biases uniform in +-bound, for a last layer that starts small."""

    def init(inputs: int, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        weight, bias = uniform_init(inputs, shape, generator)
        scale = bound * math.sqrt(inputs)
        return weight * scale, bias * scale

    return init


class Mlp:
    """A stack of multilayer perceptrons with the same sizes; all parameters are one tensor.

    ``flat`` (*stack, parameters) holds layer after layer, weights (inputs x outputs, row by row), then
    biases; then gain and shift of each hidden layer's norm, where there is one; then ``free`` parameters that
    are no weights, 0 at first (such as log deviations of a policy). So a stack is optimised, averaged, kept
    and masked by one operation on one tensor. Each seed's networks are drawn from its own stream (seed,
    "init", name): a seed starts from the same weights alone and in a seed batch.

    Args:
        name: The purpose, which names the stream of the first weights.
        seeds: The seeds.
        members: Networks of each seed, such as (2,) for twins.
        sizes: Inputs, hidden widths, outputs.
        activation: Between two layers, or one for each hidden layer.
        device: Where the parameters lie.
        init: The first weights and biases of hidden layers, and of the last one unless ``head`` is given.
        head: Those of the last layer.
        norm: Layer normalisation (arXiv:1607.06450), see ``Norm``.
        free: How many parameters that are no weights.
    """

    def __init__(
        self,
        name: str,
        seeds: Sequence[int],
        members: tuple[int, ...],
        sizes: Sequence[int],
        activation: Activation | tuple[Activation, ...],
        device: str,
        init: Initialiser = uniform_init,
        head: Initialiser | None = None,
        norm: Norm = None,
        free: int = 0,
    ) -> None:
        self.norm, self.shapes = norm, tuple(pairwise(sizes))
        layers = len(self.shapes) - 1
        self.activations = activation if isinstance(activation, tuple) else (activation,) * layers
        normed = {None: 0, "first": 1}.get(norm, layers)
        self.normed = [o for _, o in self.shapes[:-1][:normed]]
        """Widths of the layers that are normalised, the first ones."""
        of_norms = sum(self.normed)
        self.parts = [*(count for i, o in self.shapes for count in (i * o, o)), of_norms, of_norms, free]
        inits = [*(init for _ in self.shapes[:-1]), head or init]
        of_seed = []
        for seed in seeds:
            stream = torch.Generator().manual_seed(derive(seed, Stream.INIT, name))
            drawn = [of(i, (*members, o), stream) for of, (i, o) in zip(inits, self.shapes, strict=True)]
            parts = [part.flatten(-2) for layer in drawn for part in layer]
            parts += [torch.ones((*members, of_norms)), torch.zeros((*members, of_norms + free))]
            of_seed.append(torch.cat(parts, -1))
        self.flat = torch.stack(of_seed).to(device)

    def layers(self, flat: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Return (weight, bias) of each layer as views, (*stack, inputs, outputs) and (*stack, outputs)."""
        parts = (self.flat if flat is None else flat).split(self.parts, -1)[:-3]
        weights = [part.unflatten(-1, shape) for part, shape in zip(parts[::2], self.shapes, strict=True)]
        return list(zip(weights, parts[1::2], strict=True))

    def norms(self, flat: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Return (gain, shift) of each normalised layer as views, each (*stack, outputs)."""
        if not self.normed:
            return []
        gain, shift = (self.flat if flat is None else flat).split(self.parts, -1)[-3:-1]
        return list(zip(gain.split(self.normed, -1), shift.split(self.normed, -1), strict=True))

    def free(self, flat: Tensor | None = None) -> Tensor:
        """Return the parameters that are no weights, (*stack, free)."""
        values = self.flat if flat is None else flat
        return values[..., values.shape[-1] - self.parts[-1] :]

    def __call__(self, x: Tensor, flat: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map inputs (*stack, batch, inputs) to outputs, with other parameters ``flat`` if given.

        ``flat`` may hold fewer networks. ``mask`` (*stack, batch, sum of hidden widths) multiplies the
        activations, for dropout.
        """
        stack = (self.flat if flat is None else flat).shape[:-1]
        x = x.expand(*stack, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        layers = [(w.flatten(0, -3), b.flatten(0, -2).unsqueeze(1)) for w, b in self.layers(flat)]
        norms = [(g.flatten(0, -2).unsqueeze(1), s.flatten(0, -2).unsqueeze(1)) for g, s in self.norms(flat)]
        if len(x) > 1 and x.shape[1] > MANY_ROWS and not x.is_cuda and mask is None:
            nets = [slice(k, k + 1) for k in range(len(x))]
            x = torch.cat([self._through(x[k], _of(layers, k), _of(norms, k)) for k in nets])
        else:
            x = self._through(x, layers, norms, mask)
        return x.view(*stack, *x.shape[-2:])

    def _through(
        self,
        x: Tensor,
        layers: list[tuple[Tensor, Tensor]],
        norms: list[tuple[Tensor, Tensor]],
        mask: Tensor | None = None,
    ) -> Tensor:
        """Pass x (networks, rows, inputs) through all layers."""
        kept = mask.flatten(0, -3).split([o for _, o in self.shapes[:-1]], -1) if mask is not None else ()
        for i, (weight, bias) in enumerate(layers):
            x = torch.baddbmm(bias, x, weight)
            if i == len(layers) - 1:
                break
            if self.norm != "after" and i < len(norms):
                x = _normalised(x, *norms[i])
            x = self.activations[i](x)
            if self.norm == "after":
                x = _normalised(x, *norms[i])
            if kept:
                x = x * kept[i]
        return x

    def follow(self, other: Mlp, tau: float) -> None:
        """Move by the share ``tau`` towards another stack (Polyak averaging)."""
        self.flat.lerp_(other.flat, tau)

    def state_dict(self) -> State:
        """Return the parameters."""
        return {"flat": to_array(self.flat)}

    def load_state_dict(self, state: State) -> None:
        """Copy parameters into place."""
        self.flat.copy_(torch.from_numpy(state["flat"]))


def _of(pairs: list[tuple[Tensor, Tensor]], nets: slice) -> list[tuple[Tensor, Tensor]]:
    return [(first[nets], second[nets]) for first, second in pairs]


def _normalised(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Return layer normalisation with its gain and shift; the epsilon is torch's."""
    return torch.addcmul(shift, torch.nn.functional.layer_norm(x, x.shape[-1:]), gain)


class Adam:
    """Adam (arXiv:1412.6980) over stacks, with a step count for each seed.

    The bias corrections of steps to come are computed beforehand (``schedule``), so that a step reads
    nothing from the host. A seed that is masked out keeps parameters, moments and step count, bit for
    bit.
    """

    def __init__(self, parameters: Sequence[Tensor], beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.parameters, self.beta1, self.beta2 = list(parameters), beta1, beta2
        self.mean = [torch.zeros_like(p) for p in self.parameters]
        self.square = [torch.zeros_like(p) for p in self.parameters]
        self.steps = np.zeros(self.parameters[0].shape[0], np.int64)

    def forget(self) -> None:
        """Start afresh, as at the warm start from offline to online."""
        for moment in (*self.mean, *self.square):
            moment.zero_()
        self.steps[:] = 0

    def schedule(self, rates: Sequence[float], active: Array | None = None) -> Tensor:
        """Count the next ``len(rates)`` steps and return what they need, (steps, seeds, 2).

        A step's two numbers are its size, rate * sqrt(1 - beta2^t) / (1 - beta1^t), and the epsilon of
        1e-8 scaled by the same root. ``active`` (seeds,) masks seeds out.
        """
        moving = np.ones_like(self.steps) if active is None else active.astype(np.int64)
        clock = self.steps + np.arange(1, len(rates) + 1)[:, None] * moving
        self.steps = clock[-1]
        root = np.sqrt(1.0 - self.beta2**clock)
        size = np.asarray(rates)[:, None] * root / np.maximum(1.0 - self.beta1**clock, 1e-30)
        scale = np.stack([size, 1e-8 * root], -1).astype(np.float32)
        return torch.from_numpy(scale).to(self.parameters[0].device)

    def step(self, gradients: Sequence[Tensor], scale: Tensor, active: Tensor | None = None) -> None:
        """Do one step with its part of the schedule, (seeds, 2); ``active`` (seeds,) masks seeds out."""
        tensors = zip(self.parameters, gradients, self.mean, self.square, strict=True)
        for parameter, gradient, mean, square in tensors:
            shape = (-1, *(1,) * (parameter.dim() - 1))
            size, epsilon = scale[:, 0].view(shape), scale[:, 1].view(shape)
            copies = [t.clone() for t in (parameter, mean, square)] if active is not None else []
            mean.lerp_(gradient, 1.0 - self.beta1)
            square.mul_(self.beta2).addcmul_(gradient, gradient, value=1.0 - self.beta2)
            parameter.addcdiv_(size * mean, square.sqrt().add_(epsilon), value=-1.0)
            if active is not None:
                for tensor, old in zip((parameter, mean, square), copies, strict=True):
                    tensor.copy_(torch.where(active.view(shape), tensor, old))

    def state_dict(self) -> State:
        """Return moments and step counts."""
        moments = {f"mean{i}": to_array(mean) for i, mean in enumerate(self.mean)}
        moments |= {f"square{i}": to_array(square) for i, square in enumerate(self.square)}
        return {**moments, "steps": self.steps.copy()}

    def load_state_dict(self, state: State) -> None:
        """Copy moments and step counts into place."""
        for i, (mean, square) in enumerate(zip(self.mean, self.square, strict=True)):
            mean.copy_(torch.from_numpy(state[f"mean{i}"]))
            square.copy_(torch.from_numpy(state[f"square{i}"]))
        self.steps = state["steps"].copy()


def gradients(
    loss: Callable[..., tuple[Tensor, Tensor]], parameters: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the gradients of ``loss(*parameters)``, and what else it computed.

    ``loss`` returns its total over seeds, and a tensor that is passed on. The two ways compute the
    same; torch.compile follows the first, the second has less overhead without it.
    """
    if torch.compiler.is_compiling():
        inputs = tuple(range(len(parameters)))
        grads, (_, other) = torch.func.grad_and_value(loss, inputs, has_aux=True)(*parameters)
        return grads, other
    with torch.enable_grad():
        leaves = [parameter.detach().requires_grad_() for parameter in parameters]
        total, other = loss(*leaves)
        return torch.autograd.grad(total, leaves), other.detach()


def to_array(tensor: Tensor) -> Array:
    """Return a tensor's values as a numpy array of its own memory."""
    array: Array = tensor.detach().cpu().numpy().copy()
    return array
