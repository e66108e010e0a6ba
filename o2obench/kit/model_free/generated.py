"""Transitions made by a diffusion model of what has been collected, as a share of each batch.

When learning begins and every ``generator_every`` environment steps a new model (``o2obench.kit.diffusion``)
is trained on offline and online transitions alike: observation, action, reward and next observation,
standardised. It makes ``generator_rows`` transitions of each kind, in place of those before; none of them is
terminal. Each batch has ``synthetic_share`` of them, spread evenly over the places of the real ones.

Decided here, where released code differs: rewards are standardised, too; actions are cut to [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from ...agent import Metrics, State, Task, count
from ...transitions import Transitions
from ...util.timers import timed
from ..diffusion import Diffusion
from ..networks import Adam, gradients, to_array
from ..options import Count, Members, Rate, Share, Size, Width
from ..replay import Batch
from .config import OnlineConfig
from .online import Online
from .template import TURN, shortened

GENERATOR, MADE, MIXED = "generator", "made transitions", "share of made transitions"
KEEP, KEEP_EVERY = 0.995, 10
"""Every so many updates the average of the model's weights, which makes transitions, keeps so much of itself.

After n updates at most 1 - (1 + n)^(-2/3), as the library has it that released codes use.
"""
MOST_NORM = 1.0
TINY = 1e-6


class GeneratorOptions(OnlineConfig):
    """Options of the generator."""

    synthetic_share: Share = 0.5
    """Share of a batch that the generator made."""
    generator_every: Size = count(10_000)
    """Environment steps between two trainings of it."""
    generator_updates: Count = count(10_000)
    """Updates of a training."""
    generator_rows: Size = count(100_000)
    """Transitions that it makes, of each kind."""
    generator_chunk: Size = count(10_000)
    """Transitions that it makes at once."""
    generator_steps: Annotated[int, Field(ge=2, le=1000)] = count(128)
    """Steps from noise to a transition."""
    generator_width: Width = count(1024)
    """Width of its residual layers."""
    generator_blocks: Members = count(6)
    """How many there are."""
    generator_embedding: Width = count(256)
    """Width of what stands for a row and for its level of noise before them."""
    generator_lr: Rate = 3e-4
    """First rate of a training; it falls to 0 by a cosine."""


C = TypeVar("C", bound=GeneratorOptions)


class Generated(Online[C], Generic[C]):
    """Adds the generator to a method that learns online."""

    kinds = 1
    """Kinds of transitions that are told apart: made separately, one behind another."""

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.renewals, self.renewed_at = 0, -1
        """Trainings of the generator, and the environment steps at the last one."""
        self.left = dict.fromkeys(self.renewal(), 0)
        """What is left to do of a renewal: updates, transitions, .. by name, in order."""
        self.generator = self._new_generator()
        self.average = self.generator.flat.clone()
        self.generator_adam = Adam([self.generator.flat], 0.9, 0.99)
        self.row_mean = torch.zeros((len(task.seeds), 1, self.generator.width), device=task.device)
        self.row_std = torch.ones_like(self.row_mean)

    def renewal(self) -> dict[str, int]:
        """Return what a renewal does, in order: how many updates, and how many transitions of all kinds."""
        return {"updates": self.config.generator_updates, "rows": self.extra_rows()}

    def extra_rows(self) -> int:
        """Return the transitions that are made for each seed."""
        return self.kinds * self.config.generator_rows

    def _new_generator(self) -> Diffusion:
        """Return a generator with first weights of its own for each renewal."""
        config, task = self.config, self.task
        width, labels = 2 * task.obs_dim + task.act_dim + 1, self.kinds if self.kinds > 1 else 0
        shape = (config.generator_embedding, config.generator_width, config.generator_blocks)
        name = f"{GENERATOR} {self.renewals}"
        return Diffusion(name, task.seeds, width, labels, *shape, task.device)

    # ---- a renewal ----------------------------------------------------------------------------------------

    def work(self, stage: str) -> Iterator[Metrics]:
        """Renew the generator where it is time, then do the updates that are due."""
        steps = self.replay.online
        late = self.renewed_at < 0 or steps - self.renewed_at >= self.config.generator_every
        if self.due and late and not any(self.left.values()):
            self._begin_renewal()
        for name in self.renewal():
            while self.left[name]:
                with timed(GENERATOR):
                    metrics, done = getattr(self, f"do_{name}")()
                self.left[name] -= done
                yield metrics
        yield from super().work(stage)

    def _begin_renewal(self) -> None:
        self.renewals, self.renewed_at = self.renewals + 1, self.replay.online
        self.left = self.renewal()
        self.generator.flat.copy_(self._new_generator().flat)
        self.average.copy_(self.generator.flat)
        self.generator_adam.forget()
        self.begin_renewal()
        for mean, std, of_seed in zip(self.row_mean, self.row_std, self._known_rows(), strict=True):
            mean.copy_(of_seed.mean(0, keepdim=True))
            std.copy_(of_seed.std(0, keepdim=True) + TINY)

    def begin_renewal(self) -> None:
        """Do what else a renewal begins with."""

    def _known_rows(self) -> Iterator[Tensor]:
        """Yield the rows (n, width) of each seed's offline and online transitions."""
        places = torch.arange(self.replay.offline + self.replay.online, device=self.task.device)
        for index in self.rows_at(places.expand(len(self.task.seeds), -1)):
            yield self.as_rows(self.replay.take(index))

    @staticmethod
    def as_rows(batch: Batch) -> Tensor:
        """Return transitions as the generator knows them, (.., width), not standardised yet."""
        return torch.cat([batch.obs, batch.action, batch.reward[..., None], batch.next_obs], -1)

    def standard_rows(self, batch: Batch) -> Tensor:
        """Return transitions (seeds, n) as standardised rows."""
        return (self.as_rows(batch) - self.row_mean) / self.row_std

    def do_updates(self) -> tuple[Metrics, int]:
        """Train the generator for a turn; return its mean loss and the updates done."""
        total, left, config = self.config.generator_updates, self.left["updates"], self.config
        turn, seeds = min(TURN, left), len(self.task.seeds)
        known = self.replay.offline + self.replay.online
        losses = torch.zeros(seeds, device=self.task.device)
        done = total - left
        rates = [
            0.5 * config.generator_lr * (1.0 + math.cos(math.pi * (done + k) / total)) for k in range(turn)
        ]
        for k, scale in enumerate(self.generator_adam.schedule(rates)):
            uniform = self.streams.uniform(f"{GENERATOR} batch", config.batch_size)
            places = (uniform * known).long()
            rows = self.standard_rows(self.replay.take(self.rows_at(places)))
            noise, log_sigma = (
                self.streams.normal(f"{GENERATOR} {what}", config.batch_size, size)
                for what, size in (("noise", rows.shape[-1]), ("level", 1))
            )
            label = self.told(places)

            def loss(
                flat: Tensor,
                rows: Tensor = rows,
                noise: Tensor = noise,
                log_sigma: Tensor = log_sigma,
                label: Tensor | None = label,
            ) -> tuple[Tensor, Tensor]:
                values = self.generator.loss(flat, rows, noise, log_sigma, label)
                return values.sum(), values

            [step], values = gradients(loss, [self.generator.flat])
            self.generator_adam.step([shortened(step, MOST_NORM)], scale)
            losses += values
            if (done + k + 1) % KEEP_EVERY == 0:
                keep = min(KEEP, 1.0 - (2.0 + done + k) ** (-2.0 / 3.0))
                self.average.lerp_(self.generator.flat, 1.0 - keep)
        return {f"{GENERATOR}/loss": to_array(losses / turn)}, turn

    def told(self, places: Tensor) -> Tensor | None:
        """Return the labels of transitions at places (seeds, n) in training; None where there are none."""
        return None

    def do_rows(self) -> tuple[Metrics, int]:
        """Make a chunk of transitions, all of one kind, and store them."""
        first, each = self.extra_rows() - self.left["rows"], self.config.generator_rows
        kind, many = first // each, min(self.config.generator_chunk, each - first % each)
        made = self.made(kind, many) * self.row_std + self.row_mean
        sizes = [self.task.obs_dim, self.task.act_dim, 1, self.task.obs_dim]
        obs, action, reward, next_obs = made.split(sizes, -1)
        ended = torch.zeros(made.shape[:2], device=made.device)
        rows = self.replay.rows_of(obs, action.clamp(-1.0, 1.0), reward[..., 0], next_obs, ended)
        self.replay.set_extra(rows, first)
        return {f"{GENERATOR}/reward": to_array(reward.mean((1, 2)))}, many

    def made(self, kind: int, many: int) -> Tensor:
        """Return standardised rows (seeds, many, width) of a kind."""
        *_, rows = self.generator.steps(self.fresh(many), self.config.generator_steps, self.denoise)
        return rows

    def fresh(self, many: int) -> Callable[[], Tensor]:
        """Return what draws standard normal rows (seeds, many, width)."""
        return lambda: self.streams.normal(MADE, many, self.generator.width)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return denoised rows, by the average of the generator's weights."""
        return self.generator.denoised(x, sigma, flat=self.average)

    # ---- batches ------------------------------------------------------------------------------------------

    def batches(self, updates: int) -> Tensor:
        """Return batches in which made transitions stand in the place of some real ones."""
        rows, batch = super().batches(updates), self.config.batch_size
        made = int(self.config.synthetic_share * batch)
        if not made or not self.renewals:
            return rows
        uniform = self.streams.uniform(MIXED, updates, made)
        places = torch.arange(made, device=rows.device) * batch // made
        rows[..., places] = self.made_index(uniform)
        return rows

    def made_index(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1), (seeds, updates, n), to row numbers of made transitions."""
        return self.replay.extra_index(uniform)

    # ---- states -------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        tensors = {"flat": self.generator.flat, "average": self.average}
        tensors |= {"mean": self.row_mean, "std": self.row_std}
        return {
            **super().state_dict(),
            "generator": {name: to_array(tensor) for name, tensor in tensors.items()},
            "generator_adam": self.generator_adam.state_dict(),
            "renewals": [self.renewals, self.renewed_at],
            "left": dict(self.left),
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        tensors = {"flat": self.generator.flat, "average": self.average}
        tensors |= {"mean": self.row_mean, "std": self.row_std}
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(state["generator"][name]))
        self.generator_adam.load_state_dict(state["generator_adam"])
        self.renewals, self.renewed_at = state["renewals"]
        self.left = dict(state["left"])
