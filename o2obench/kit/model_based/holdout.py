"""Which real transitions are held out from model training, for early stopping and choosing the elites."""

from __future__ import annotations

import torch
from torch import Tensor

from ...util.rng import Stream
from ..replay import Replay
from ..rng import Streams

BLOCK = 5
"""Of every five consecutive online transitions one, at a random place, is held out."""


class Holdout:
    """Fixed splits of a replay buffer's real transitions: (training, held-out) row numbers (seeds, n) each.

    The offline split depends on the seed alone, so fine-tuning holds out what pretraining did: min(20 %,
    ``size``). Of online transitions it is drawn beforehand which of each block is held out: a fresh split at
    each training would leak former training data. Of those the newest ``size`` count.
    """

    def __init__(self, replay: Replay, seeds: tuple[int, ...], size: int, device: str) -> None:
        self.replay, self.size, self.device = replay, size, device
        rows = replay.offline
        held = min(rows // 5, size)
        order = Streams(seeds, "cpu").permutations(Stream.OFFLINE_HOLDOUT, 1, rows)[:, 0].to(device)
        self.offline = order[:, held:], order[:, :held]
        blocks = max(1, replay.online_capacity // BLOCK)
        uniform = Streams(seeds, "cpu").uniform(Stream.ONLINE_HOLDOUT, blocks)
        self.place = (uniform * BLOCK).long().to(device)

    def online(self) -> tuple[Tensor, Tensor]:
        """Return the split of the online transitions that there are now."""
        blocks = self.replay.online // BLOCK
        rows = torch.arange(self.replay.online, device=self.device)
        starts = BLOCK * torch.arange(blocks, device=self.device)
        held = (starts + self.place[:, :blocks])[:, -self.size :]
        training = torch.stack([rows[~torch.isin(rows, of_seed)] for of_seed in held])
        base = self.replay.online_base[:, None]
        return training + base, held + base
