"""The template of the model-based family: an ensemble, SAC, real rows, model rows, and the order of work.

Its defaults are naive tuning. An algorithm changes what differs, by one of these verbs:

- ``stages``: the order of its life;
- ``offline_share``: which real rows train the model, start rollouts and stand in SAC's batches;
- ``model_loss`` (and ``model_error``, which decides early stopping): how the model is trained;
- ``explore``: how it acts to collect data;
- ``starts`` and ``penalty``: where rollouts branch, and what their rewards are charged;
- ``real_batch``: the real rows of SAC's batches, which model rows fill up;
- ``logged``: what else it says of a model training.

The rest is configuration. What the papers leave open and what is decided here stands with each option.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...agent import (
    Agent,
    Array,
    Budget,
    Config,
    Metrics,
    Stage,
    State,
    Task,
    Transitions,
    count,
    stack_seeds,
)
from ...util.rng import Stream
from ...util.timers import timed
from ..networks import to_array
from ..replay import Replay
from ..rng import Streams
from ..sac import Rates, Sac, SacOptions, SacPolicy
from .ensemble import Ensemble, EnsembleOptions, Fit, FitData, Prediction, nll, squared_error, target
from .model_change import movement, spread

KIT_VERSION = 2
"""Raise it whenever the numbers that the kit computes change."""

EPOCH = 1000
"""SAC updates between two rollouts where there is no environment."""
TILE, GPU_TILE = 2000, 50_000
"""Rows of a rollout that go through actor and ensemble at once: on a CPU few enough for its cache."""
TURN = 100
"""SAC updates between two chances to evaluate, save or stop."""
REPORT_EVERY = 500
"""SAC updates between two readings of the losses from the device."""
PROBES = {"offline": Stream.OFFLINE_PROBE, "online": Stream.ONLINE_PROBE}
PROBE = 2000
"""Rows of a source on which a model training's movement is measured: for medians, not for maxima."""
HOLDOUT_BLOCK = 5
"""Of every five consecutive online rows one, at a random place, is held out from model training."""

Size = Annotated[int, Field(gt=0)]
Widths = Annotated[tuple[Size, ...], Field(json_schema_extra={"widths": True})]
"""Widths of hidden layers; the contract's checks cut them."""
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class ModelBasedConfig(Config):
    """Options of the family; defaults are OfflineRL-Kit's and MBPO's unless a comment says otherwise."""

    # the model
    model_hidden: Widths = (200, 200, 200, 200)
    model_weight_decay: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    members: Size = 7
    elites: Size = 5
    model_rate: Rate = 1e-3
    batch: Size = 256
    patience: Size = 5
    holdout: Size = 1000
    model_passes: Size | None = count(None)
    model_pass_steps: Size | None = count(None)
    refit_scaler: bool = False
    """Refit the input scaler at each model training. With fixed weights this changes the function before
    any gradient step, violently so on a few hundred online rows; MBPO from scratch needs it."""

    # rollouts
    horizon: tuple[int, int, Size, Size] = (0, 1, 1, 1)
    """(first epoch, last epoch, from, to): steps of a rollout, linear in epochs of 1,000 env steps."""
    rollout_rows: Size = count(50_000)
    retain: Size = 5
    """How many epochs of rollouts the ring of model rows holds."""
    penalty: Weight = 0.0
    """lambda: model rewards are lowered by lambda times the largest deviation in the ensemble."""

    # SAC
    hidden: Widths = (256, 256)
    actor_rate: Rate = 3e-4
    critic_rate: Rate = 3e-4
    alpha_rate: Rate = 1e-4
    gamma: Share = 0.99
    tau: Share = 0.005
    target_entropy: float | None = None
    """None: minus the number of action components."""
    real_share: Share = 0.05
    """Share of real rows in a SAC batch: int(0.05 * 256) = 12 of 256."""


class OnlineConfig(ModelBasedConfig):
    """Options of tuning with the environment."""

    rows: Literal["online", "union"] = "online"
    """The real rows in use: the new ones only, or the offline and the new ones, uniformly."""
    updates_per_step: Size = count(20)
    n_init: Annotated[int, Field(ge=0, multiple_of=5)] = count(1000)
    """Steps before anything is learnt; a multiple of the blocks from which rows are held out."""
    model_every: Annotated[int, Field(gt=0, multiple_of=5)] = count(250)
    """Steps between two model trainings, each followed by a rollout; a multiple of the same blocks."""
    rollout_rows: Size = count(100_000)
    retain: Size = 1
    model_passes: Size | None = count(20)
    """The papers train until convergence at each of 400 trainings; 20 passes bound what that costs."""


C = TypeVar("C", bound=ModelBasedConfig)


class ModelBased(SacPolicy, Agent[C], Generic[C]):
    """State and work of the family; see the module's first lines for what an algorithm may change."""

    kit_version: ClassVar[int] = KIT_VERSION
    needs_terminal: ClassVar[bool] = True
    needs_row: ClassVar[bool] = True
    paired_fit: ClassVar[bool] = False
    """Whether half of every batch of model training is old and half is new, exactly."""

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        seeds, device = task.seeds, task.device
        self.streams = Streams(seeds, device)
        dims = (task.obs_dim, task.act_dim)
        losses = (self.model_loss, self.model_error)
        self.model = Ensemble(seeds, *dims, _ensemble_options(config), device, *losses)
        self.sac = self.judged = self.new_sac()
        """The learner that learns and collects, and the one whose policy is judged and handed over."""
        self.before = [torch.zeros_like(tensor) for tensor in self._model_tensors()]
        """The model as it was before the training that goes on or was last: weights, bounds, scaler."""
        longest = max(config.horizon[2:])
        self.replay = Replay(
            data,
            len(seeds),
            dims,
            sum(stage.env_steps for stage in self.life()),
            self._ring_size(longest),
            device,
            self.extra_rows(),
        )
        self.replay.resize_ring(self._ring_size(self.horizon()))
        self.held_place = self._draw_held_places()
        self.offline_split = self._split_offline()
        self.tile = TILE if device == "cpu" else GPU_TILE
        self.updates = 0
        self.due_fit, self.due_rollout, self.due_updates = False, 0, 0
        self.fit: Fit | None = None

    # ---- the verbs ----------------------------------------------------------------------------------

    @classmethod
    def stages(cls, config: C, budget: Budget) -> tuple[Stage, ...]:
        """Tune with the environment from the first step on."""
        steps, updates = budget.online_steps, 0
        if isinstance(config, OnlineConfig):
            updates = config.updates_per_step * max(0, steps - max(config.n_init, 1) + 1)
        return (Stage("tune", steps, updates),)

    def offline_share(self, offline: int, online: int) -> float:
        """Return the probability that a real row is an offline one, where there are so many of each."""
        if self.paired_fit:
            return 0.5 if online else 1.0
        if isinstance(self.config, OnlineConfig) and self.config.rows == "online":
            return 0.0
        return offline / (offline + online)

    def logged(self) -> dict[str, float]:
        """Return what else is logged at each model training."""
        return {}

    def model_loss(self, prediction: Prediction, y: Tensor, inputs: Tensor) -> Tensor:
        """Return the loss of each seed and member, (seeds, members)."""
        return nll(prediction, y, inputs)

    def model_error(self, prediction: Prediction, y: Tensor, inputs: Tensor) -> Tensor:
        """Return the held-out error of each seed and member, (seeds, members)."""
        return squared_error(prediction, y, inputs)

    def explore(self, obs: Tensor) -> Tensor:
        """Return the actions with which data are collected: a sample of the policy."""
        noise = self.streams.normal(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim)
        return self.sac.act(obs, noise)

    def starts(self, rows: int) -> Tensor:
        """Return the numbers of the real rows (seeds, rows) from which rollouts branch."""
        return self._real_rows(Stream.ROLLOUT_STARTS, rows)

    def real_batch(self, updates: int) -> Tensor:
        """Return the real rows of SAC's batches (seeds, updates, rows): int(real_share * batch) of each."""
        return self._real_rows(Stream.REAL_BATCH, updates, int(self.config.real_share * self.config.batch))

    def extra_rows(self) -> int:
        """Return how many rows of its own the algorithm keeps."""
        return 0

    # ---- the agent interface ------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, obs: Array, explore: bool) -> Array:
        """Return the mean action, or one to explore with."""
        seen = torch.from_numpy(np.ascontiguousarray(obs, np.float32)).to(self.task.device)
        return to_array(self.explore(seen) if explore else self.judged.act(seen, None))

    def warm_start(self, states: Sequence[State]) -> None:
        """Take over model, actor, critics, targets and temperature of a MOPO run; optimisers start afresh.

        The moments belong to the penalised offline problem, and MOPO's actor rate has been annealed to
        zero by its end: tuning starts with new ones and a constant rate.
        """
        state = stack_seeds(states)
        self.model.load_learned(state["model"])
        self.judged.load_networks(state["sac"])

    def handover(self) -> State:
        """Return model, policy and collected rows, without optimisers, offline rows or streams."""
        state = {"model": self.model.learned(), "sac": self.judged.networks(), "updates": self.updates}
        return {**state, "online": self.replay.online_rows()} if self.replay.online else state

    def observe(self, step: Transitions) -> None:
        """Store the step, and note what has become due; without online options nothing learns meanwhile."""
        config = self.config
        self.replay.append(step)
        if not isinstance(config, OnlineConfig) or self.replay.online < config.n_init:
            return
        if self.replay.online % config.model_every == 0 or not self.model.fitted:
            self.due_fit, self.due_rollout = True, config.rollout_rows
        if self.due_rollout or int(self.replay.fill.min()):
            self.due_updates = config.updates_per_step

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do what is due: train the model, roll it out, update the policy; then a stage's own updates."""
        if self.due_fit:
            yield from self._train_model()
        if self.due_rollout:
            yield from self._roll_out()
        if self.due_updates:
            yield from self._update_policy()
        yield from self.train_in_model(self._updates_by_the_end_of(stage))

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        return {
            "model": self.model.state_dict(),
            "sac": self.judged.state_dict(),
            "replay": self.replay.state_dict(),
            "streams": self.streams.state_dict(),
            "updates": self.updates,
            "due": [self.due_fit, self.due_rollout, self.due_updates],
            "fit": self.fit.state_dict() if self.fit else None,
            "before": {str(i): to_array(tensor) for i, tensor in enumerate(self.before)} if self.fit else {},
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        self.model.load_state_dict(state["model"])
        self.judged.load_state_dict(state["sac"])
        self.replay.load_state_dict(state["replay"])
        self.streams.load_state_dict(state["streams"])
        self.updates = state["updates"]
        self.due_fit, self.due_rollout, self.due_updates = state["due"]
        self.fit = None
        if state["fit"] is not None:
            for i, tensor in enumerate(self.before):
                tensor.copy_(torch.from_numpy(state["before"][str(i)]))
            self.fit = self._new_fit()
            self.fit.load_state_dict(state["fit"])

    def new_sac(self) -> Sac:
        """Return a learner with fresh networks."""
        config, task = self.config, self.task
        entropy = -float(task.act_dim) if config.target_entropy is None else config.target_entropy
        options = SacOptions(config.hidden, config.gamma, config.tau, entropy)
        return Sac(task.seeds, task.obs_dim, task.act_dim, options, task.device)

    @torch.no_grad()
    def uncertainty(self, index: Tensor) -> Tensor:
        """Return the model's uncertainty at rows (seeds, n), a tile at a time."""
        tiles = [self._inputs_and_targets(some)[0] for some in index.split(self.tile, 1)]
        return torch.cat([self.model.uncertainty(self.model.predict(inputs)) for inputs in tiles], 1)

    @torch.no_grad()
    def predict(self, obs: Array, action: Array) -> tuple[Array, Array, Array]:
        """Return the elites' means and log-variances, and the uncertainty."""
        inputs = [torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (obs, action)]
        standard = self.model.inputs(*(x.to(self.task.device) for x in inputs)).unsqueeze(1)
        prediction = self.model.predict(standard)
        elites = self.model.elites[:, :, None, None].expand(-1, -1, *prediction.mean.shape[2:])
        mean, log_var = (x.gather(1, elites) for x in (prediction.mean, prediction.log_var))
        return to_array(mean), to_array(log_var), to_array(self.model.uncertainty(prediction))

    @torch.no_grad()
    def imagine(self, obs: Array, steps: int) -> tuple[Array, Array]:
        """Roll the model out with the policy as in training; rows after an end are left out (one seed)."""
        assert self.task.terminal is not None
        streams, rows = Streams(self.task.seeds, self.task.device), obs.shape[1]
        now = torch.from_numpy(obs).to(self.task.device)
        alive, made = torch.ones(obs.shape[:2], dtype=torch.bool, device=now.device), []
        for _ in range(steps):
            action = self.judged.act(now, streams.normal(Stream.IMAGINED_ACTIONS, rows, self.task.act_dim))
            choice = streams.uniform(Stream.IMAGINED_ELITES, rows)
            noise = streams.normal(Stream.IMAGINED_NOISE, rows, self.task.obs_dim + 1)
            following, _, _ = self.model.step(now, action, choice, noise)
            made.append((now[alive], action[alive]))
            alive = alive & ~self.task.terminal(now, action, following) & torch.isfinite(following).all(-1)
            now = following
        obs_, action_ = (torch.cat(parts)[None] for parts in zip(*made, strict=True))
        return to_array(obs_), to_array(action_)

    # ---- the work -----------------------------------------------------------------------------------

    def _train_model(self) -> Iterator[Metrics]:
        """Train the ensemble until its held-out error stops falling."""
        elites = self.model.elites.clone()
        while not self._fit_for_a_turn():
            yield {}
        assert self.fit is not None
        passes = to_array(self.fit.lasted)
        elite_error = self.fit.best.gather(1, self.model.elites).mean(1)
        said = {"rows/offline": self.fit.data.share, **self.logged()}
        logged = {name: np.full(len(passes), value) for name, value in said.items()}
        logged["model/steps"] = passes * self.fit.turns
        tuned = bool(self.fit.tuned)
        if tuned:
            stayed = (self.model.elites[:, :, None] == elites[:, None]).any(2).sum(1)
            logged["model/elites_kept"] = to_array(stayed)
        self.fit, self.due_fit = None, False
        metrics = {"model/held_out_mse": to_array(elite_error), "model/passes": passes, **logged}
        yield {**metrics, **(self._moved() if tuned else {}), **self._held_out()}

    @torch.no_grad()
    def _moved(self) -> Metrics:
        """Return how far the training moved the model, and how it doubted before, on rows of each source."""
        found, streams = dict[str, Array](), Streams(self.task.seeds, self.task.device)
        for source in self._sources():
            index = getattr(self.replay, f"{source}_index")(streams.uniform(PROBES[source], PROBE))
            inputs, _ = self._inputs_and_targets(index)
            before = self.predict_before(inputs)
            moved = movement(before, self.model.predict(inputs), self.model.min_log_var)
            doubt = spread(self.model.uncertainty(before))
            found |= {f"moved/{source}/{name}": value for name, value in moved.items()}
            found |= {f"before/{source}/uncertainty_{name}": value for name, value in doubt.items()}
        return found

    @torch.no_grad()
    def _held_out(self) -> Metrics:
        """Return the elites' error and doubled NLL on the held-out rows of both sources."""
        held = {"offline": self.offline_split[1], "online": self._split_online()[1]}
        found = dict[str, Array]()
        for source in (source for source in self._sources() if held[source].shape[1]):
            inputs, y = self._inputs_and_targets(held[source])
            for name, measure in (("mse", squared_error), ("nll", nll)):
                each = measure(self.model.predict(inputs), y, inputs)
                found[f"held_out/{source}/{name}"] = to_array(each.gather(1, self.model.elites).mean(1))
        return found

    def _sources(self) -> list[str]:
        return [source for source in ("offline", "online") if getattr(self.replay, source)]

    def _inputs_and_targets(self, index: Tensor) -> tuple[Tensor, Tensor]:
        batch = self.replay.take(index)
        return self.model.inputs(batch.obs, batch.action).unsqueeze(1), target(batch).unsqueeze(1)

    def predict_before(self, inputs: Tensor) -> Prediction:
        """Predict by the model as it was before this training, from inputs standardised for this one."""
        *parameters, mean, std = self.before
        if self.config.refit_scaler:
            shape = (len(mean), *(1,) * (inputs.dim() - 2), -1)
            raw = inputs * self.model.scale_std.view(shape) + self.model.scale_mean.view(shape)
            inputs = (raw - mean.view(shape)) / std.view(shape)
        return self.model.predict(inputs, parameters)

    def _model_tensors(self) -> list[Tensor]:
        return [*self.model.parameters(), self.model.scale_mean, self.model.scale_std]

    def _fit_for_a_turn(self) -> bool:
        with timed("model fit"):
            if self.fit is None:
                for kept, tensor in zip(self.before, self._model_tensors(), strict=True):
                    kept.copy_(tensor)
                self.fit = self._new_fit()
                self.fit.start()
            return self.fit.turn()

    def train_in_model(self, until: int) -> Iterator[Metrics]:
        """Train the policy without the environment, a rollout before every 1,000 updates."""
        while self.updates < until:
            self.due_rollout = self.config.rollout_rows
            self.due_updates = min(EPOCH, until - self.updates)
            yield from self._roll_out()
            yield from self._update_policy()

    def _roll_out(self) -> Iterator[Metrics]:
        """Branch from real states with the current policy and store what the model answers.

        The uncertainty that is logged is that of the last tile's rows: thousands, the same for all methods.
        """
        horizon = self.horizon()
        self.replay.resize_ring(self._ring_size(horizon))
        while self.due_rollout:
            rows = min(self.tile, self.due_rollout)
            with timed("rollout"):
                uncertainty = self._roll_out_tile(rows, horizon)
            self.due_rollout -= rows
            if self.due_rollout:
                yield {}
        lengths = np.full(len(self.task.seeds), float(horizon))
        seen = {f"uncertainty/{name}": values for name, values in spread(uncertainty).items()}
        yield {**seen, "rollout/horizon": lengths, "rollout/penalty": 0.0 * lengths + self.penalty()}

    def _roll_out_tile(self, rows: int, horizon: int) -> Tensor:
        """Branch from ``rows`` real states; return the uncertainty of each step, NaN after an end."""
        assert self.task.terminal is not None
        obs = self.replay.take(self.starts(rows)).obs
        alive = torch.ones(obs.shape[:2], dtype=torch.bool, device=obs.device)
        seen = []
        for _ in range(horizon):
            action = self.sac.act(obs, self.streams.normal(Stream.ROLLOUT_ACTIONS, rows, self.task.act_dim))
            choice = self.streams.uniform(Stream.ROLLOUT_ELITES, rows)
            noise = self.streams.normal(Stream.ROLLOUT_NOISE, rows, self.task.obs_dim + 1)
            next_obs, reward, uncertainty = self.model.step(obs, action, choice, noise)
            reward = reward - self.penalty() * uncertainty
            ended = self.task.terminal(obs, action, next_obs)
            columns = (obs, action, reward[..., None], next_obs, ended[..., None].float())
            made = torch.cat(columns, -1)
            self.replay.push(made, alive & torch.isfinite(made).all(-1))
            seen.append(torch.where(alive, uncertainty, torch.nan))
            alive = alive & ~ended
            obs = next_obs
        return torch.stack(seen, -1)

    def _update_policy(self) -> Iterator[Metrics]:
        """Do the SAC updates that are due on batches of real and model rows."""
        while self.due_updates:
            turn = min(TURN - self.updates % TURN, self.due_updates)
            rates = [self.rates(self.updates + k) for k in range(turn)]
            with timed("update"):
                noise = self.streams.normal(Stream.SAC_NOISE, turn, 2, self.config.batch, self.task.act_dim)
                index = self._sac_rows(turn)
                self.sac.learn(self.replay, index.movedim(1, 0), noise.movedim(1, 0), rates)
            self.updates += turn
            self.due_updates -= turn
            if self.updates % REPORT_EVERY == 0:
                yield self.sac.report(REPORT_EVERY)
            elif self.updates % TURN == 0:
                yield {}

    def _sac_rows(self, updates: int) -> Tensor:
        """Return the row numbers (seeds, updates, batch) of batches: real rows, then model rows."""
        real = self.real_batch(updates)
        of_model = self.streams.uniform(Stream.MODEL_BATCH, updates, self.config.batch - real.shape[-1])
        return torch.cat([real, self.replay.ring_index(of_model)], -1)

    def _real_rows(self, purpose: str, *shape: int) -> Tensor:
        """Return real row numbers (seeds, *shape): the source by its share, then a row uniformly."""
        source, row = self.streams.uniform(purpose, 2, *shape).unbind(1)
        offline = source < self.offline_share(self.replay.offline, self.replay.online)
        return torch.where(offline, self.replay.offline_index(row), self.replay.online_index(row))

    # ---- clocks and schedules -----------------------------------------------------------------------

    def rates(self, update: int) -> Rates:
        """Return the learning rates of actor, critics and temperature after ``update`` updates."""
        return self.config.actor_rate, self.config.critic_rate, self.config.alpha_rate

    def penalty(self) -> float:
        """Return lambda, by which model rewards are penalised now."""
        return self.config.penalty

    def horizon(self) -> int:
        """Return the length of rollouts at this epoch (of 1,000 env steps, counted from 0)."""
        first, last, start, end = self.config.horizon
        progress = (self.replay.online // 1000 - first) / (last - first) if last > first else 1.0
        return int(start + min(max(progress, 0.0), 1.0) * (end - start))

    def _ring_size(self, horizon: int) -> int:
        """Return the rows that ``retain`` epochs of rollouts of this length make."""
        config = self.config
        calls = max(1, 1000 // config.model_every) if isinstance(config, OnlineConfig) else 1
        return config.rollout_rows * horizon * calls * config.retain

    def life(self) -> tuple[Stage, ...]:
        """Return the stages of this run."""
        return self.stages(self.config, self.task.budget)

    def _updates_by_the_end_of(self, stage: str) -> int:
        """Return the updates planned until a stage without the environment ends; 0 for one with it."""
        life = self.life()
        place = [one.name for one in life].index(stage)
        return 0 if life[place].env_steps else sum(one.updates for one in life[: place + 1])

    # ---- held-out rows ------------------------------------------------------------------------------

    def _split_offline(self) -> tuple[Tensor, Tensor]:
        """Return (training, held-out) row numbers of the offline data: min(20 %, 1000) are held out.

        The split depends on the seed alone, so a tuning run holds out what its pretraining run did.
        """
        rows = self.replay.offline
        held = min(rows // 5, self.config.holdout)
        order = Streams(self.task.seeds, "cpu").permutations(Stream.OFFLINE_HOLDOUT, 1, rows)[:, 0]
        order = order.to(self.task.device)
        return order[:, held:], order[:, :held]

    def _draw_held_places(self) -> Tensor:
        """Draw which row of each block of online rows is held out, (seeds, blocks).

        Fixed when a row enters: a fresh split at each training would leak former training rows.
        """
        blocks = max(1, self.replay.online_capacity // HOLDOUT_BLOCK)
        uniform = Streams(self.task.seeds, "cpu").uniform(Stream.ONLINE_HOLDOUT, blocks)
        return (uniform * HOLDOUT_BLOCK).long().to(self.task.device)

    def _split_online(self) -> tuple[Tensor, Tensor]:
        """Return (training, held-out) row numbers of the online data; the newest 1000 held-out ones count."""
        blocks = self.replay.online // HOLDOUT_BLOCK
        rows = torch.arange(self.replay.online, device=self.task.device)
        starts = HOLDOUT_BLOCK * torch.arange(blocks, device=self.task.device)
        held = (starts + self.held_place[:, :blocks])[:, -self.config.holdout :]
        training = torch.stack([rows[~torch.isin(rows, of_seed)] for of_seed in held])
        base = self.replay.online_base[:, None]
        return training + base, held + base

    def _new_fit(self) -> Fit:
        offline, online = self.offline_split, self._split_online()
        share = self.offline_share(offline[0].shape[1], online[0].shape[1])
        data = FitData(share, *offline, *online, self.paired_fit)
        return Fit(self.model, self.replay, self.streams, data)


def _ensemble_options(config: ModelBasedConfig) -> EnsembleOptions:
    return EnsembleOptions(
        hidden=config.model_hidden,
        weight_decay=config.model_weight_decay,
        members=config.members,
        elites=config.elites,
        rate=config.model_rate,
        batch=config.batch,
        patience=config.patience,
        holdout=config.holdout,
        passes=config.model_passes,
        pass_steps=config.model_pass_steps,
        refit_scaler=config.refit_scaler,
    )
