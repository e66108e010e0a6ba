"""Learning with the environment: when updates happen, and which transitions their batches have.

Batches come from the union of offline and online transitions, from online ones, or have an exact share of
offline ones; a window, finished episodes only and seeded offline transitions narrow or widen what counts as
online. Where transitions have weights (``prioritised``), both kinds are drawn in proportion to them.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...agent import Budget, Stage, State, Task
from ...transitions import Array, Transitions
from ...util.rng import Stream
from ..networks import to_array
from .config import OnlineConfig
from .priority import OnPolicyWeights, Priorities
from .template import OffPolicy

SEEDED = "seeded transitions"
WEIGHED = 65_536
"""Transitions whose densities are computed in one go."""

D = TypeVar("D", bound=OnlineConfig)


class Online(OffPolicy[D], Generic[D]):
    """Learning with the environment: ``utd_ratio`` updates a step after ``learning_starts`` steps."""

    def __init__(self, task: Task, config: D, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.finished = torch.zeros(len(task.seeds), dtype=torch.int64, device=task.device)
        """Online transitions of finished episodes, of each seed."""
        drawn = self.streams.uniform(SEEDED, config.replay_seeded if len(data) else 0)
        self.seeded = self.replay.offline_index(drawn)
        places = len(data) + self.replay.online_capacity
        self.priorities = Priorities(len(task.seeds), places, task.device) if self.prioritised() else None
        self.on_policy = (
            OnPolicyWeights(data, len(task.seeds), self.replay.online_capacity)
            if config.replay_on_policy
            else None
        )
        self.now = {name: torch.tensor(of, device=task.device) for name, of in self.over_time(0).items()}
        """The constants that change over time, as they are now; losses read them."""

    @classmethod
    def stages(cls, config: D, budget: Budget) -> tuple[Stage, ...]:
        """Learn with the environment from the first step on."""
        steps = budget.online_steps
        return (Stage("fine-tune", steps, config.utd_ratio * max(0, steps - config.learning_starts)),)

    def over_time(self, step: int) -> dict[str, float]:
        """Return the constants that change while it learns, after ``step`` environment steps."""
        return {}

    def columns_of(self, step: Transitions) -> dict[str, Array]:
        """Return the columns of its own for an environment step, (seeds,) or (seeds, width) each.

        Those that are not given are 0.
        """
        return {}

    def observe(self, step: Transitions) -> None:
        """Store the step."""
        self.replay.append(step, **self.columns_of(step))
        self._set_now()
        place = self.replay.offline + self.replay.online - 1
        if self.priorities:
            self.priorities.set(torch.full_like(self.finished, place)[:, None], self.new_weight()[:, None])
        if self.on_policy:
            self.on_policy.step(step, place)
        ended = torch.from_numpy(np.asarray(step.terminated | step.truncated)).to(self.task.device)
        self.finished = torch.where(ended, self.replay.online, self.finished)
        if self.replay.online > self.config.learning_starts:
            self.due = self.config.utd_ratio

    def batches(self, updates: int) -> Tensor:
        """Return row numbers of batches, (seeds, updates, batch): offline ones before there are others."""
        if not self.replay.online:
            return super().batches(updates)
        uniform = self.streams.uniform(Stream.REAL_BATCH, updates, self.config.batch_size)
        if self.priorities:
            self.weigh(self.priorities)
            return self.rows_at(self.priorities.draw(uniform))
        mix, offline = self.config.replay_data, self.replay.offline
        first, count = self._drawn_from()
        pool = (self.seeded.shape[1] + count)[:, None, None]
        if mix == "union":
            row = (uniform * (offline + pool)).long()
            return torch.where(row < offline, row, self._online_rows(row - offline, first))
        share = 0 if mix == "online" else int(float(mix) * self.config.batch_size)
        of_offline, of_online = uniform.split([share, self.config.batch_size - share], -1)
        online = self._online_rows((of_online * pool).long(), first)
        if self.config.replay_finished and offline:  # no episode may have ended yet
            online = torch.where(pool > 0, online, self.replay.offline_index(of_online))
        return torch.cat([self.replay.offline_index(of_offline), online], -1)

    def prioritised(self) -> bool:
        """Return whether transitions are drawn by weights."""
        return self.config.replay_on_policy is not None

    def new_weight(self) -> Tensor:
        """Return the weight of a new online transition, (seeds,)."""
        return torch.ones(len(self.task.seeds), device=self.task.device)

    @torch.no_grad()
    def weigh(self, priorities: Priorities) -> None:
        """Weigh all transitions anew, where it is time to, by how likely the policy finds their episodes."""
        if self.on_policy and self.on_policy.is_due(self.clock):
            rows = torch.arange(self.replay.offline + self.replay.online, device=self.task.device)
            rows = self.rows_at(rows.expand(len(self.task.seeds), -1))
            likely = torch.cat([self._standard_density(part) for part in rows.split(WEIGHED, 1)], 1)
            priorities.set_all(self.on_policy.weights(likely, float(self.config.replay_on_policy or 1.0)))

    def _standard_density(self, rows: Tensor) -> Tensor:
        """Return the log density of transitions' standardised actions per component, (seeds, n)."""
        batch = self.mapped(self.replay.take(rows))
        of = self.policy_kind.distribution(self.nets["actor"], self.actor_inputs(batch.obs))
        return (self.policy_kind.log_prob(of, batch.action) + of[1].sum(-1)) / self.task.act_dim

    def rows_at(self, places: Tensor) -> Tensor:
        """Return the row numbers of places (seeds, ...): offline transitions come first, then online ones."""
        base = (self.replay.online_base - self.replay.offline).view(-1, *(1,) * (places.dim() - 1))
        return torch.where(places < self.replay.offline, places, places + base)

    def places_of(self, rows: Tensor) -> Tensor:
        """Return the places of row numbers (seeds, ...), as ``rows_at`` takes them."""
        base = (self.replay.online_base - self.replay.offline).view(-1, *(1,) * (rows.dim() - 1))
        return torch.where(rows < self.replay.offline, rows, rows - base)

    def _drawn_from(self) -> tuple[Tensor, Tensor]:
        """Return the first online transition that batches draw from, and how many they do, of each seed."""
        online = torch.full_like(self.finished, self.replay.online)
        count = self.finished if self.config.replay_finished else online
        first = (count - (self.config.replay_window or self.replay.online)).clamp(min=0)
        return first, count - first

    def _online_rows(self, place: Tensor, first: Tensor) -> Tensor:
        """Turn places, (seeds, updates, n), to row numbers: the seeded come first, then online ones."""
        seeded = self.seeded.shape[1]
        rows = place - seeded + (first + self.replay.online_base)[:, None, None]
        if not seeded:
            return rows
        of_seeded = self.seeded.gather(1, place.clamp(0, seeded - 1).flatten(1)).view_as(place)
        return torch.where(place < seeded, of_seeded, rows)

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        state = {**super().state_dict(), "finished": to_array(self.finished)}
        parts = {"priorities": self.priorities, "on_policy": self.on_policy}
        return state | {name: part.state_dict() for name, part in parts.items() if part}

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        super().load_state_dict(state)
        self.finished.copy_(torch.from_numpy(state["finished"]))
        if self.priorities:
            self.priorities.load_state_dict(state["priorities"])
        if self.on_policy:
            self.on_policy.load_state_dict(state["on_policy"])
        self._set_now()

    def _set_now(self) -> None:
        for name, value in self.over_time(self.replay.online).items():
            self.now[name].fill_(value)
