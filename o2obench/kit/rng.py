"""Random streams for tensors, one per (seed, purpose), part of an agent's state.

Numbers are drawn per seed, so a seed's stream never depends on its neighbours in a seed batch. A seed that
is masked out draws nothing: its stream stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..agent import State
from ..util.rng import derive


class Streams:
    """Draws of shape (seeds, *shape) from streams that are made when a purpose is first named."""

    def __init__(self, seeds: Sequence[int], device: str) -> None:
        self.seeds, self.device = tuple(seeds), torch.device(device)
        self.generators: dict[str, list[torch.Generator]] = {}

    def normal(self, purpose: str, *shape: int, active: Tensor | None = None) -> Tensor:
        """Return standard normal float32 numbers."""
        return self._draw(
            purpose,
            active,
            lambda g: torch.randn(shape, generator=g, device=self.device),
            lambda: torch.zeros(shape, device=self.device),
        )

    def uniform(self, purpose: str, *shape: int, active: Tensor | None = None) -> Tensor:
        """Return float64 numbers in [0, 1), fine enough to pick one of 10^15 transitions."""
        return self._draw(
            purpose,
            active,
            lambda g: torch.rand(shape, generator=g, device=self.device, dtype=torch.float64),
            lambda: torch.zeros(shape, device=self.device, dtype=torch.float64),
        )

    def actions(self, purpose: str, *shape: int) -> Tensor:
        """Return float32 numbers uniform in [-1, 1), where actions lie."""
        return (2.0 * self.uniform(purpose, *shape) - 1.0).float()

    def permutations(self, purpose: str, count: int, n: int, active: Tensor | None = None) -> Tensor:
        """Return ``count`` permutations of 0..n-1 for each seed, int64 (seeds, count, n)."""
        return self._draw(
            purpose,
            active,
            lambda g: torch.stack([torch.randperm(n, generator=g, device=self.device) for _ in range(count)]),
            lambda: torch.arange(n, device=self.device).repeat(count, 1),
        )

    def _draw(
        self,
        purpose: str,
        active: Tensor | None,
        draw: Callable[[torch.Generator], Tensor],
        stand_in: Callable[[], Tensor],
    ) -> Tensor:
        alive = [True] * len(self.seeds) if active is None else active.tolist()
        of_seed = zip(self._of(purpose), alive, strict=True)
        return torch.stack([draw(generator) if on else stand_in() for generator, on in of_seed])

    def _of(self, purpose: str) -> list[torch.Generator]:
        if purpose not in self.generators:
            self.generators[purpose] = [
                torch.Generator(self.device).manual_seed(derive(seed, purpose)) for seed in self.seeds
            ]
        return self.generators[purpose]

    def state_dict(self) -> State:
        """Return the position of every stream, uint8 arrays (seeds, bytes)."""
        return {
            purpose: torch.stack([g.get_state() for g in generators]).numpy()
            for purpose, generators in sorted(self.generators.items())
        }

    def load_state_dict(self, state: State) -> None:
        """Take the positions back; streams that are not named start afresh."""
        self.generators = {}
        for purpose, positions in state.items():
            for generator, position in zip(self._of(purpose), positions, strict=True):
                generator.set_state(torch.from_numpy(position.copy()))
