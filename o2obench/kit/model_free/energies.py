"""Energies that guide a generator to what is met now (EDIS, Liu et al. 2024, arXiv:2407.12448).

Three networks tell transitions of the environment from made ones, each in one respect: E_s the observations
that occur, E_pi the actions that the policy takes there, E_T where these lead. For each of some levels of the
generator's way a positive is an online transition with that level's noise (for E_pi with an action of the
policy) and is held against ten that the generator made so far: freely for E_s, from the same observation for
E_pi, from the same observation and action for E_T (what is held has the level's noise, too). The loss is
-log softmax(-E) of the positive (section 4.2). When transitions are made, each step goes down the energies,

    direction + guide_obs dE_s/ds + guide_action dE_pi/da + guide_dynamics dE_T/ds',

the sum of the three at most 10 sqrt(width) long.

Decided here, where released code differs: the condition of a negative is all that is held (code: it
overwrites the whole), negatives stand against their own positive (code mixes them), E_s learns at the same
levels as the others and in the same groups (code: against the whole batch), energies read standardised
transitions and the level as a share, and their layers have no spectral norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ...agent import Metrics, State, Task, count
from ...transitions import Transitions
from ..networks import Adam, Mlp, gradients, to_array
from ..options import Count, Rate, Size, Weight, Widths
from .generated import GENERATOR, TINY, Generated, GeneratorOptions

ENERGIES, NEGATIVES = "energies", "negatives"
OBS, ACTION, DYNAMICS = range(3)
MOST_GUIDE = 10.0


class EnergyOptions(GeneratorOptions):
    """Options of the energies."""

    energy_hidden_dims: Widths = (256, 256, 256)
    """Widths of each energy's hidden layers."""
    energy_lr: Rate = 1e-3
    """Learning rate of the energies."""
    energy_updates: Count = count(20)
    """Updates of the energies in a renewal; they go on from one to the next."""
    energy_batch: Size = count(256)
    """Positives of an update."""
    energy_negatives: Size = count(10)
    """Made transitions for each of them, of each kind."""
    energy_levels: Size = 8
    """Levels at which the energies learn, evenly spaced over the generator's steps."""
    guide_obs: Weight = 1.0
    """How strongly made observations are drawn to those that occur now."""
    guide_action: Weight = 0.2
    """How strongly made actions are drawn to the policy's."""
    guide_dynamics: Weight = 0.2
    """How strongly made next observations are drawn to where actions lead."""


C = TypeVar("C", bound=EnergyOptions)


class EnergyGuided(Generated[C], Generic[C]):
    """Adds energies that guide the generator."""

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        sizes = (self.generator.width + 1, *config.energy_hidden_dims, 1)
        self.energies = Mlp(ENERGIES, task.seeds, (3,), sizes, torch.relu, task.device)
        self.energies_adam = Adam([self.energies.flat])

    def renewal(self) -> dict[str, int]:
        """Train the energies between generator and transitions."""
        generator = super().renewal()
        return {"updates": generator["updates"], ENERGIES: self.config.energy_updates, **generator}

    def energy(self, x: Tensor, level: int, flat: Tensor | None = None) -> Tensor:
        """Return the energies of rows x (seeds, 3, n, width), or (seeds, n, width) for all, (seeds, 3, n)."""
        x = x.unsqueeze(1) if x.dim() == 3 else x
        share = torch.full_like(x[..., :1], level / self.config.generator_steps)
        return self.energies(torch.cat([x, share], -1), flat).squeeze(-1)

    def guide(self, x: Tensor, level: int) -> Tensor:
        """Return what is added to a step's direction at rows (seeds, n, width)."""
        config, (s, a) = self.config, (self.task.obs_dim, self.task.act_dim)
        weights = torch.zeros((3, x.shape[-1]), device=x.device)
        weights[OBS, :s], weights[ACTION, s : s + a] = config.guide_obs, config.guide_action
        weights[DYNAMICS, s + a + 1 :] = config.guide_dynamics
        with torch.enable_grad():
            leaf = x.detach().unsqueeze(1).repeat(1, 3, 1, 1).requires_grad_()
            [slope] = torch.autograd.grad(self.energy(leaf, level).sum(), [leaf])
        whole: Tensor = (slope * weights[:, None]).sum(1)
        most, length = MOST_GUIDE * math.sqrt(x.shape[-1]), whole.norm(dim=-1, keepdim=True)
        shortened: Tensor = whole * (most / (length + TINY)).clamp(max=1.0)
        return shortened

    def made(self, kind: int, many: int) -> Tensor:
        """Return guided rows."""
        steps = self.config.generator_steps
        *_, rows = self.generator.steps(self.fresh(many), steps, self.denoise, self.guide)
        return rows

    def do_energies(self) -> tuple[Metrics, int]:
        """Do one update of the energies."""
        positives, levels, pairs = self.positives(), self.energy_levels(), []
        sigmas = self.generator.levels(self.config.generator_steps)
        made = self.negatives(positives, levels)
        for level in levels:
            noise = self.streams.normal(f"{ENERGIES} noise", *positives.shape[1:])
            pairs.append((level, positives + sigmas[level] * noise, made[level]))

        def loss(flat: Tensor) -> tuple[Tensor, Tensor]:
            values = torch.stack([self.contrast(flat, *pair) for pair in pairs]).mean(0)
            return values.sum(), values

        step, values = gradients(loss, [self.energies.flat])
        [scale] = self.energies_adam.schedule([self.config.energy_lr])
        self.energies_adam.step(step, scale)
        return {f"{GENERATOR}/energies": to_array(values)}, 1

    def contrast(self, flat: Tensor, level: int, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return the mean over positives of -log softmax(-E), summed over energies, (seeds,).

        ``positives`` (seeds, 3, n, width), ``negatives`` (seeds, 3, n k, width): k of each, together.
        """
        of_positive = self.energy(positives, level, flat)[..., None]
        of_negatives = self.energy(negatives, level, flat).unflatten(-1, (positives.shape[2], -1))
        likely = torch.log_softmax(-torch.cat([of_positive, of_negatives], -1), -1)[..., 0]
        return -likely.mean(-1).sum(-1)

    def energy_levels(self) -> list[int]:
        """Return the numbers of the levels at which energies learn."""
        steps, levels = self.config.generator_steps, self.config.energy_levels
        return sorted({level * steps // levels for level in range(levels)})

    @torch.no_grad()
    def positives(self) -> Tensor:
        """Return online transitions for each energy, (seeds, 3, n, width), E_pi's with new actions."""
        uniform = self.streams.uniform(f"{ENERGIES} batch", self.config.energy_batch)
        batch = self.replay.take(self.replay.online_index(uniform))
        action = self.policy_action(self.mapped(batch).obs)
        lived, chosen = (self.standard_rows(b) for b in (batch, batch._replace(action=action)))
        return torch.stack([lived, chosen, lived], 1)

    def negatives(self, positives: Tensor, levels: Sequence[int]) -> dict[int, Tensor]:
        """Return made rows (seeds, 3, n k, width) at each level, what their energy holds put in place."""
        many = self.config.energy_negatives
        given = positives.repeat_interleave(many, 2).flatten(1, 2)
        s, a = self.task.obs_dim, self.task.act_dim
        held = torch.zeros((3, positives.shape[-1]), dtype=torch.bool, device=given.device)
        held[ACTION, :s], held[DYNAMICS, : s + a] = True, True
        mask = held.repeat_interleave(given.shape[1] // 3, 0)
        sigmas = self.generator.levels(self.config.generator_steps)

        def fresh() -> Tensor:
            return self.streams.normal(NEGATIVES, *given.shape[1:])

        def hold(x: Tensor, level: int) -> Tensor:
            return torch.where(mask, given + sigmas[level] * fresh(), x)

        found: dict[int, Tensor] = {}
        for level, rows in enumerate(
            self.generator.steps(fresh, self.config.generator_steps, self.denoise, hold=hold)
        ):
            if level in levels:
                found[level] = rows.unflatten(1, (3, -1))
            if level >= max(levels):
                break
        return found

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        own: dict[str, Any] = {ENERGIES: self.energies.state_dict()}
        return {**super().state_dict(), **own, "energies_adam": self.energies_adam.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        self.energies.load_state_dict(state[ENERGIES])
        self.energies_adam.load_state_dict(state["energies_adam"])
