"""Which real transitions are held out from model training, for early stopping and choosing the elites."""

from __future__ import annotations

import torch
from torch import Tensor

from ...util.rng import Stream, derive
from ..replay import Replay
from ..rng import Streams

BLOCK = 5
"""Of every five consecutive online transitions one, at a random place, is held out."""


class Holdout:
    """Fixed splits of a replay buffer's real transitions: (training, held-out) row numbers (seeds, n) each.

    The offline split depends on the seed alone, so fine-tuning holds out what pretraining did: min(20 %,
    ``size``). Of online transitions it is drawn beforehand which of each block is held out: a fresh split at
    each training would leak former training data. Of those the newest ``size`` count. With ``redraw`` it is
    MBPO's split: at each training min(20 %, ``size``) of all online transitions, drawn anew.
    """

    def __init__(
        self, replay: Replay, seeds: tuple[int, ...], size: int, device: str, redraw: bool = False
    ) -> None:
        self.replay, self.seeds, self.size, self.device, self.redraw = replay, seeds, size, device, redraw
        rows = replay.offline
        held = min(rows // 5, size)
        order = Streams(seeds, "cpu").permutations(Stream.OFFLINE_HOLDOUT, 1, rows)[:, 0].to(device)
        self.offline = order[:, held:], order[:, :held]
        blocks = max(1, replay.online_capacity // BLOCK)
        uniform = Streams(seeds, "cpu").uniform(Stream.ONLINE_HOLDOUT, blocks)
        self.place = (uniform * BLOCK).long().to(device)

    def online(self) -> tuple[Tensor, Tensor]:
        """Return the split of the online transitions that there are now."""
        blocks, base = self.replay.online // BLOCK, self.replay.online_base[:, None]
        if self.redraw:
            now = [derive(seed, Stream.ONLINE_HOLDOUT, self.replay.online) for seed in self.seeds]
            order = Streams(now, "cpu").permutations(Stream.ONLINE_HOLDOUT, 1, self.replay.online)[:, 0]
            order = order.to(self.device) + base
            held_out = min(blocks, self.size)
            return order[:, held_out:], order[:, :held_out]
        rows = torch.arange(self.replay.online, device=self.device)
        starts = BLOCK * torch.arange(blocks, device=self.device)
        held = (starts + self.place[:, :blocks])[:, -self.size :]
        training = torch.stack([rows[~torch.isin(rows, of_seed)] for of_seed in held])
        return training + base, held + base
