"""CFDG, classifier-free diffusion generation (Huang et al. 2025, arXiv:2508.06806), on IQL.

One diffusion model of all transitions is told which are offline and which online, and one time in ten is not
told. It makes transitions of both kinds, each pushed towards its kind: (1 + w) times the direction with the
label, less w times that without. A third of each batch is made, four of five of these of the online kind;
the rest is IQL's union of offline and online transitions (``o2obench.kit.model_free.generated``).

The composition of batches is the paper's; w, how often the label is left out, how often and how long the
model is trained and how much it makes are not public, and are decided here, with EDIS's network in place of
the paper's. The model is a new one each time. Terminals are not modelled. Its versions on PEX and APL are
left out. So numbers of it are this project's.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from o2obench.kit.model_free.generated import Generated, GeneratorOptions
from o2obench.kit.model_free.iql import ImplicitQ, IqlOptions
from o2obench.kit.options import Share, Weight

OFFLINE, ONLINE, UNTOLD = range(3)
OF_ONLINE = 0.8
"""Share of the made transitions of a batch that are of the online kind."""


class CfdgConfig(IqlOptions, GeneratorOptions):
    """CFDG's options."""

    replay_data: Literal["union", "online"] | Share = "union"
    synthetic_share: Share = 1.0 / 3.0
    label_dropout: Share = 0.1
    """How often the model is not told in training which kind a transition is of."""
    guidance: Weight = 1.0
    """How far made transitions are pushed towards their kind (w)."""


class Cfdg(Generated[CfdgConfig], ImplicitQ[CfdgConfig]):
    """IQL on real transitions, and on made ones of both kinds."""

    Config = CfdgConfig
    pretrain = "iql"
    requires = ("actor", "critics", "value")
    kinds = 2

    def told(self, places: Tensor) -> Tensor:
        """Return which transitions are online, and which have no label."""
        kind = torch.where(places < self.replay.offline, OFFLINE, ONLINE)
        dropped = self.streams.uniform("labels", places.shape[1]) < self.config.label_dropout
        return torch.where(dropped, UNTOLD, kind)

    def made(self, kind: int, many: int) -> Tensor:
        """Return rows that are pushed towards their kind."""
        label = torch.full((len(self.task.seeds), many), kind, device=self.task.device)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            flat, w = self.average, self.config.guidance
            told = self.generator.denoised(x, sigma, label, flat)
            return (1.0 + w) * told - w * self.generator.denoised(x, sigma, None, flat) if w else told

        *_, rows = self.generator.steps(self.fresh(many), self.config.generator_steps, denoise)
        return rows

    def made_index(self, uniform: Tensor) -> Tensor:
        """Return four online ones for each offline one."""
        online = round(OF_ONLINE * uniform.shape[-1])
        of_kind = torch.full_like(uniform[0, 0], 1.0)
        of_kind[online:] = 0.0
        return self.replay.extra_index((of_kind + uniform) / 2.0)
