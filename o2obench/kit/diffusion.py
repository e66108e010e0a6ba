"""A diffusion model of rows, elucidated (EDM, Karras et al. 2022, arXiv:2206.00364).

The network F denoises a standardised row x with noise of deviation sigma on it (section 5, table 1):

    D(x, sigma) = c_skip x + c_out F(c_in x, log(sigma) / 4),

with the factors that keep inputs and targets at deviation 1, and learns from |D(x + sigma n, sigma) - x|^2,
log sigma normal, weighted so that all sigma count alike. Rows are drawn by Heun steps from sigma 80 down to
0.002 and 0, with fresh noise in between (algorithm 2). A residual perceptron stands for F, as in SynthER
(arXiv:2303.06614); rows may have labels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot, silu

from ..util.rng import derive
from .networks import Mlp

LEAST, MOST, CURVE = 0.002, 80.0, 7.0
"""Least and greatest sigma, and how levels are spaced between them (rho)."""
LOG_MEAN, LOG_STD = -1.2, 1.2
"""Of log sigma in training."""
CHURN, CHURN_FROM, CHURN_TO, CHURN_NOISE = 80.0, 0.05, 50.0, 1.003
FREQUENCIES = 8

Guide = Callable[[Tensor, int], Tensor]
"""(rows (seeds, n, width), number of the level) -> what is added to the direction of a step."""


class Residual(Mlp):
    """x + W relu(x) for each hidden layer but the first, which is linear."""

    def _through(
        self,
        x: Tensor,
        layers: list[tuple[Tensor, Tensor]],
        norms: list[tuple[Tensor, Tensor]],
        mask: Tensor | None = None,
    ) -> Tensor:
        (weight, bias), *middle, (last, last_bias) = layers
        x = torch.baddbmm(bias, x, weight)
        for inner, inner_bias in middle:
            x = x + torch.baddbmm(inner_bias, torch.relu(x), inner)
        return torch.baddbmm(last_bias, torch.relu(x), last)


class Diffusion:
    """The denoiser of ``width`` numbers a row; ``labels`` kinds of rows (0: none are told apart).

    All parameters are one tensor ``flat`` (seeds, parameters), of three networks. ``name`` is the purpose
    whose streams the first weights come from.
    """

    def __init__(
        self,
        name: str,
        seeds: Sequence[int],
        width: int,
        labels: int,
        embedding: int,
        hidden: int,
        blocks: int,
        device: str,
    ) -> None:
        self.width, self.labels = width, labels
        features = 2 * FREQUENCIES + 1 + labels
        sizes = ((width, embedding), (features, embedding, embedding))
        self.row, self.time = (
            Mlp(f"{name} {part}", seeds, (), of, silu, device)
            for part, of in zip(("rows", "levels"), sizes, strict=True)
        )
        widths = (embedding, *[hidden] * (blocks + 1), width)
        self.trunk = Residual(f"{name} trunk", seeds, (), widths, torch.relu, device)
        self.nets = (self.row, self.time, self.trunk)
        self.flat = torch.cat([net.flat for net in self.nets], -1)
        draw = torch.Generator().manual_seed(derive(0, "frequencies"))
        self.frequencies = torch.randn(FREQUENCIES, generator=draw).to(device)

    def denoised(
        self, x: Tensor, sigma: Tensor, label: Tensor | None = None, flat: Tensor | None = None
    ) -> Tensor:
        """Return D of rows x (seeds, n, width) with noise ``sigma`` (seeds, n, 1) on them.

        ``label`` (seeds, n) says which kind, ``labels`` that it is not told; None: it is told of no row.
        """
        parts = (self.flat if flat is None else flat).split([net.flat.shape[-1] for net in self.nets], -1)
        scale = (sigma.square() + 1.0).sqrt()
        level = sigma.log() / 4.0
        angle = 2.0 * math.pi * level * self.frequencies
        features = [level, angle.sin(), angle.cos()]
        if self.labels:
            known = torch.full(x.shape[:-1], self.labels, device=x.device) if label is None else label
            features.append(one_hot(known, self.labels + 1)[..., : self.labels].float())
        hidden = self.row(x / scale, parts[0]) + self.time(torch.cat(features, -1), parts[1])
        return x / scale.square() + sigma / scale * self.trunk(hidden, parts[2])

    def loss(self, flat: Tensor, x: Tensor, noise: Tensor, log_sigma: Tensor, label: Tensor | None) -> Tensor:
        """Return the weighted squared error, a mean over rows and numbers, (seeds,).

        ``noise`` like x and ``log_sigma`` (seeds, n, 1) are standard normal.
        """
        sigma = (LOG_MEAN + LOG_STD * log_sigma).exp()
        error = (self.denoised(x + sigma * noise, sigma, label, flat) - x).square()
        return ((1.0 + sigma.square()) / sigma.square() * error).mean((1, 2))

    @staticmethod
    def levels(steps: int) -> list[float]:
        """Return sigma before each step, and 0."""
        first, last = MOST ** (1.0 / CURVE), LEAST ** (1.0 / CURVE)
        spaced = [first + i / max(1, steps - 1) * (last - first) for i in range(steps)]
        return [*(value**CURVE for value in spaced), 0.0]

    @torch.no_grad()
    def steps(
        self,
        normal: Callable[[], Tensor],
        steps: int,
        denoise: Callable[[Tensor, Tensor], Tensor],
        guide: Guide | None = None,
        hold: Guide | None = None,
    ) -> Iterator[Tensor]:
        """Yield rows (seeds, n, width) before the first step, and after each of ``steps``.

        Args:
            normal: Returns fresh standard normal numbers like the rows.
            steps: How many.
            denoise: (rows, sigma (seeds, n, 1)) -> rows, such as ``denoised``.
            guide: What is added to a step's direction, given rows and the number of their level.
            hold: Returns rows with what is held put in its place, given rows and the number of their level.
        """
        levels = self.levels(steps)
        held = hold or (lambda x, level: x)
        x = held(MOST * normal(), 0)
        yield x

        def direction(x: Tensor, sigma: float, level: int) -> Tensor:
            clean = denoise(x, torch.full_like(x[..., :1], sigma))
            return (x - clean) / sigma + (guide(x, level) if guide else 0.0)

        for i, (sigma, after) in enumerate(itertools.pairwise(levels)):
            churn = min(CHURN / steps, math.sqrt(2.0) - 1.0) if CHURN_FROM <= sigma <= CHURN_TO else 0.0
            more = sigma * (1.0 + churn)
            x = x + math.sqrt(more**2 - sigma**2) * CHURN_NOISE * normal()
            slope = direction(x, more, i)
            moved = x + (after - more) * slope
            if after > 0:
                moved = x + (after - more) * 0.5 * (slope + direction(moved, after, i))
            x = held(moved, i + 1)
            yield x
