"""DOOF (Guo et al., ICLR 2025 submission): explore by uncertainty, tune the model, then the policy inside it.

1. MOPO (the pretraining run). 2. ``explorer``: MOPO's policy learns on, rewarded for uncertainty. 3.
``collect``: the explorer takes 10,000 steps, nothing learns. 4. ``dynamics``: the offline model is tuned on
batches of which half are new rows. 5. ``policy``: MOPO's policy (not the explorer) goes on in that model,
penalised as before. The policy that is judged is MOPO's until step 5, also while the explorer acts.

Batches of 256 (Appendix B): step 2 has 6 offline rows, 6 of the uncertain set and 244 of the offline model,
whose rollouts start half from offline rows, half from the uncertain set; step 5 has 6 offline rows and 250 of
the tuned model, whose rollouts start half from offline, half from collected rows.

Deviations and decisions:

- Eq. 9 and Algorithm 1 give every row of step 2 the bonus, B.2 only the 10,000 rows of the uncertain set, to
  which it is added "back". ``explorer_reward``: bonus (the first, the default), penalty (the second: model
  rows keep MOPO's penalty), raw (model rows get neither).
- lambda_on = ratio * lambda_off; Table 3 does not say which ratio its cells use. 1 is reported as the method,
  the others beside it, never the best of four. Ratio 0 collects with MOPO's policy (Fig. 6).
- The explorer's length is not printed. The hours that the paper reports leave room for 50,000 updates.
- Learning rates are constant, 1e-4 for the actor, optimisers start afresh in each step, temperatures go on.
- Eq. 10 speaks of all data for both tunings, B.5 draws step 5's real rows from the offline data. B.5 holds.
- Model rows of an earlier step are forgotten: they carry another reward of another model.
- A pass of step 4 traverses the new rows once, 128 a batch, each with 128 offline rows.
- ``rounds: 2`` repeats steps 2 to 5 from the tuned model and policy (Fig. 6c).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from o2obench.agent import Array, Budget, Metrics, Stage, State, Task, Transitions, count
from o2obench.kit.ensemble import Fit, FitData
from o2obench.kit.modelbased import ModelBased, ModelBasedConfig, Rate, Share, Size
from o2obench.kit.movement import spread
from o2obench.kit.nets import to_array
from o2obench.kit.sac import Sac


class DoofConfig(ModelBasedConfig):
    """Options; ``penalty`` (lambda_off) and ``horizon`` are MOPO's for the data set."""

    ratio: Annotated[float, Field(ge=0)] = 1.0
    """lambda_on / lambda_off."""
    explorer_reward: Literal["bonus", "penalty", "raw"] = "bonus"
    explorer_updates: Size = count(50_000)
    collect: Size = count(10_000)
    """Environment steps of the explorer."""
    uncertain_rows: Size = count(10_000)
    policy_updates: Size = count(300_000)
    rounds: Size = 1
    actor_rate: Rate = 1e-4
    real_share: Share = 0.025
    """Of each kind of real rows: int(0.025 * 256) = 6."""


class Doof(ModelBased[DoofConfig]):
    """Two learners in the template: the policy that is judged, and the explorer."""

    Config = DoofConfig
    pretrain = "mopo"

    def __init__(self, task: Task, config: DoofConfig, data: Transitions) -> None:
        super().__init__(task, config, data)
        self.tuned, self.explorer = self.sac, self.new_sac()
        self.stage, self.until = "", 0

    @classmethod
    def stages(cls, config: DoofConfig, budget: Budget) -> tuple[Stage, ...]:
        """Explorer, collect, dynamics, policy; in later rounds with the round's number."""
        steps, stages = min(config.collect, budget.online_steps // config.rounds), list[Stage]()
        for round_ in range(1, config.rounds + 1):
            name = "{}" if round_ == 1 else f"{{}} {round_}"
            if config.ratio:
                stages.append(Stage(name.format("explorer"), 0, config.explorer_updates))
            stages.append(Stage(name.format("collect"), steps))
            stages.append(Stage(name.format("dynamics")))
            stages.append(Stage(name.format("policy"), 0, config.policy_updates))
        return tuple(stages)

    def begin(self, stage: str) -> None:
        """Prepare a step: whose turn it is to learn, from what, and how long."""
        self.stage = stage.split()[0]
        self._take_seat()
        if self.stage == "explorer" or (self.stage == "collect" and not self.config.ratio):
            self.explorer.load_networks(self.tuned.networks())
        if self.stage == "explorer":
            self.until = self.updates + self.config.explorer_updates
            self._draw_uncertain()
        elif self.stage == "dynamics":
            self.model.adam.forget()
            self.due_fit = True
        elif self.stage == "policy":
            self.until = self.updates + self.config.policy_updates
        if self.stage in ("explorer", "policy"):
            self.sac.forget()
            self.replay.clear_ring()

    def work(self, stage: str) -> Iterator[Metrics]:
        """Finish what is due, then train this step's policy to its end."""
        if self.due_fit and self.fit is None:
            yield self._uncertainties()
        yield from super().work(stage)
        if self.stage in ("explorer", "policy"):
            yield from self.train_in_model(self.until)

    def observe(self, step: Transitions) -> None:
        """Store the step; nothing learns while data are collected."""
        self.replay.append(step)

    def penalty(self) -> float:
        """Return lambda_off, or what the explorer's model rows are charged instead."""
        if self.stage != "explorer":
            return self.config.penalty
        reading = {"bonus": -self.config.ratio, "penalty": 1.0, "raw": 0.0}
        return reading[self.config.explorer_reward] * self.config.penalty

    def starts(self, rows: int) -> Tensor:
        """Return half offline rows, half rows of the uncertain set or, in step 5, collected ones."""
        uniform = self.streams.uniform("starts", rows)
        if self.stage != "explorer" and not self.replay.online:
            return self.replay.offline_index(uniform)
        first, second = uniform[:, : rows // 2], uniform[:, rows // 2 :]
        other = self._uncertain(second) if self.stage == "explorer" else self.replay.online_index(second)
        return torch.cat([self.replay.offline_index(first), other], -1)

    def _sac_rows(self, updates: int) -> Tensor:
        """Return the row numbers of batches, in the exact mixes of Appendix B."""
        size, real = self.config.batch, int(self.config.real_share * self.config.batch)
        parts = [self.replay.offline_index(self.streams.uniform("real rows", updates, real))]
        if self.stage == "explorer":
            parts.append(self._uncertain(self.streams.uniform("uncertain rows", updates, real)))
        of_model = self.streams.uniform("model rows", updates, size - real * len(parts))
        return torch.cat([*parts, self.replay.ring_index(of_model)], -1)

    def offline_share(self) -> float:
        """Return the share of offline rows in the tuning of the model."""
        return 0.5 if self.replay.online else 1.0

    def _new_fit(self) -> Fit:
        data = FitData(self.offline_share(), *self.offline_split, *self._split_online(), paired=True)
        return Fit(self.model, self.replay, self.streams, data)

    # ---- the uncertain set: offline rows whose reward holds the bonus, behind the room for online rows

    def online_capacity(self) -> int:
        """Return the room for collected rows and for the uncertain set."""
        return sum(stage.env_steps for stage in self._life()) + self.config.uncertain_rows

    def _uncertain(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1) of shape (seeds, ...) to row numbers of the set."""
        chosen = (uniform * self.config.uncertain_rows).long()
        return self._uncertain_rows().gather(1, chosen.flatten(1)).view(chosen.shape)

    def _uncertain_rows(self) -> Tensor:
        """Return the row numbers of the whole set (seeds, rows)."""
        rows = torch.arange(self.config.uncertain_rows, device=self.replay.rows.device)
        return self.replay.online_base[:, None] + self.online_capacity() - len(rows) + rows

    @torch.no_grad()
    def _draw_uncertain(self) -> None:
        config, replay = self.config, self.replay
        drawn = replay.offline_index(self.streams.uniform("uncertain set", config.uncertain_rows))
        rows = replay.rows[drawn]
        bonus = config.ratio * config.penalty * self._uncertainty(drawn)
        rows[..., replay.obs_dim + replay.act_dim] += bonus
        replay.rows[self._uncertain_rows()] = rows

    @torch.no_grad()
    def _uncertainty(self, index: Tensor) -> Tensor:
        """Return the model's uncertainty at rows (seeds, n), a tile at a time."""
        parts = []
        for some in index.split(self.tile, 1):
            batch = self.replay.take(some)
            inputs = self.model.inputs(batch.obs, batch.action).unsqueeze(1)
            parts.append(self.model.uncertainty(self.model.predict(inputs)))
        return torch.cat(parts, 1)

    def _uncertainties(self) -> Metrics:
        """Return the offline model's uncertainty at collected and at offline rows (Fig. 2, 4)."""
        found = dict[str, Array]()
        uniform = self.streams.uniform("uncertainty probe", 2000)
        for source, rows in (("collected", self.replay.online_index), ("data", self.replay.offline_index)):
            values = spread(self._uncertainty(rows(uniform)))
            found |= {f"{source}/uncertainty/{name}": value for name, value in values.items()}
        return found

    # ---- state ------------------------------------------------------------------------------------------

    @property
    def judged(self) -> Sac:
        """The policy that is tuned, also while the explorer learns and acts."""
        return self.tuned

    def _take_seat(self) -> None:
        self.sac = self.explorer if self.stage in ("explorer", "collect") else self.tuned

    def _life(self) -> tuple[Stage, ...]:
        return self.stages(self.config, self.task.budget)

    def state_dict(self) -> State:
        """Return everything, the uncertain set included."""
        return {
            **super().state_dict(),
            "sac": self.tuned.state_dict(),
            "explorer": self.explorer.state_dict(),
            "uncertain": to_array(self.replay.rows[self._uncertain_rows()]),
            "stage": self.stage,
            "until": self.until,
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        self.sac, self.stage, self.until = self.tuned, state["stage"], state["until"]
        super().load_state_dict(state)
        self.explorer.load_state_dict(state["explorer"])
        self.replay.rows[self._uncertain_rows()] = torch.from_numpy(state["uncertain"]).to(self.replay.rows)
        self._take_seat()
