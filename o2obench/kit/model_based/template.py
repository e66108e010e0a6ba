"""The template of the model-based family: an ensemble, SAC, a replay buffer, and the order of work.

Its defaults are naive fine-tuning. An algorithm changes what differs, by one of these verbs:

- ``stages``: the parts of its training, in order;
- ``offline_ratio``: which real transitions train the model, start rollouts and stand in SAC's batches;
- ``model_loss``, and ``model_error``, ``model_improvement`` and ``held_out_ratio``, which decide early
  stopping: how the model is trained;
- ``explore``: how it acts to collect data;
- ``rollout_starts`` and ``penalty_coef``: where rollouts branch, and what their rewards are charged;
- ``real_batch``: the real transitions of SAC's batches, which model transitions fill up;
- ``learner``: the SAC learner that learns and collects, where that is not the one that is evaluated;
- ``logged``: what else is logged of a model training.

The rest is configuration (``config``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...agent import Agent, Budget, Metrics, Stage, State, Task, stack_seeds
from ...transitions import Array, Transitions
from ...util.rng import Stream
from ...util.timers import timed
from .. import hand_over
from .. import sac as sac_module
from ..networks import to_array
from ..replay import Replay
from ..rng import Streams
from ..sac import Rates, Sac, SacPolicy
from . import ensemble as ensemble_module
from .config import ModelBasedConfig, OnlineConfig
from .ensemble import Ensemble, Prediction, nll, squared_error, target
from .ensemble_training import ModelTraining, TrainingData
from .holdout import Holdout
from .model_change import model_change, quantiles
from .rollouts import branch, imagine

VERSION = 2
"""Raise it whenever the numbers that the template computes change."""

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
"""Transitions of a source on which a model's change is measured: for medians, not for maxima."""

C = TypeVar("C", bound=ModelBasedConfig)


def annealed(rates: Rates, update: int, updates: int) -> Rates:
    """Lower the actor's rate by a cosine, once per epoch, to zero after ``updates``: the offline mode.

    As in OfflineRL-Kit (``CosineAnnealingLR`` on the actor's optimiser in its run_mopo.py).
    """
    actor, critic, alpha = rates
    cosine = 0.5 * (1.0 + math.cos(math.pi * (update // EPOCH) / max(1, math.ceil(updates / EPOCH))))
    return actor * cosine, critic, alpha


class ModelBased(SacPolicy, Agent[C], Generic[C]):
    """State and work of the family; see the module's first lines for what an algorithm may change."""

    kit_versions: ClassVar[Mapping[str, int]] = {
        "model_based": VERSION,
        "ensemble": ensemble_module.VERSION,
        "sac": sac_module.VERSION,
    }
    requires: ClassVar[tuple[str, ...]] = ("actor", "critics", "model")
    provides: ClassVar[tuple[str, ...]] = ("actor", "critics", "model")
    needs_terminal: ClassVar[bool] = True
    needs_row: ClassVar[bool] = True
    paired_batches: ClassVar[bool] = False
    """Whether half of every batch of model training is offline and half is online, exactly."""

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        seeds, device, dims = task.seeds, task.device, (task.obs_dim, task.act_dim)
        self.streams = Streams(seeds, device)
        self.model = Ensemble(seeds, *dims, config, device, self.model_loss, self.model_error)
        self.model_before = [torch.zeros_like(tensor) for tensor in self._model_tensors()]
        """The model as it was before the training that goes on or was last: weights, bounds, scaler."""
        self.sac = self.new_sac()
        """The learner whose policy is evaluated and handed over."""
        steps, capacity = (
            sum(s.env_steps for s in self._stages()),
            self._buffer_size(max(config.rollout_length[2:])),
        )
        self.replay = Replay(data, len(seeds), dims, steps, capacity, device, self.extra_transitions())
        self.replay.resize_model_buffer(self._buffer_size(self.rollout_length()))
        self.holdout = Holdout(self.replay, seeds, config.holdout, device, config.holdout_redraw)
        self.tile = TILE if device == "cpu" else GPU_TILE
        self.updates = 0
        self.due_training, self.due_rollout, self.due_updates = False, 0, 0
        self.training: ModelTraining | None = None

    # ---- the verbs ----------------------------------------------------------------------------------

    @classmethod
    def stages(cls, config: C, budget: Budget) -> tuple[Stage, ...]:
        """Fine-tune with the environment from the first step on."""
        steps, updates = budget.online_steps, 0
        if isinstance(config, OnlineConfig):
            updates = config.utd_ratio * max(0, steps - max(config.learning_starts, 1) + 1)
        return (Stage("fine-tune", steps, updates),)

    @property
    def learner(self) -> Sac:
        """The learner that learns and collects."""
        return self.sac

    def offline_ratio(self, offline: int, online: int) -> float:
        """Return the probability that a real transition is an offline one, given how many there are."""
        if self.paired_batches:
            return 0.5 if online else 1.0
        if isinstance(self.config, OnlineConfig) and self.config.replay_data == "online":
            return 0.0
        return offline / (offline + online)

    def held_out_ratio(self, offline: int, online: int) -> float:
        """Return the weight of the offline transitions in the held-out error by which a pass is judged."""
        return self.offline_ratio(offline, online)

    def logged(self) -> dict[str, float]:
        """Return what else is logged at each model training."""
        return {}

    def model_loss(self, prediction: Prediction, y: Tensor, inputs: Tensor) -> Tensor:
        """Return the loss of each seed and member, (seeds, members)."""
        return nll(prediction, y, inputs)

    def model_error(self, prediction: Prediction, y: Tensor, inputs: Tensor) -> Tensor:
        """Return the held-out error of each seed and member, (seeds, members)."""
        return squared_error(prediction, y, inputs)

    def model_improvement(self) -> float:
        """Return the share by which a pass of model training must lower that error to count."""
        return self.config.model_improvement

    def explore(self, obs: Tensor) -> Tensor:
        """Return the actions with which data are collected: a sample of the policy."""
        noise = self.streams.normal(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim)
        return self.learner.act(obs, noise)

    def rollout_starts(self, count: int) -> Tensor:
        """Return the row numbers of real transitions (seeds, count) from which rollouts branch."""
        return self._real_index(Stream.ROLLOUT_STARTS, count)

    def real_batch(self, updates: int) -> Tensor:
        """Return the real rows of SAC's batches (seeds, updates, n): int(real_ratio * batch_size) of each."""
        count = int(self.config.real_ratio * self.config.batch_size)
        return self._real_index(Stream.REAL_BATCH, updates, count)

    def extra_transitions(self) -> int:
        """Return how many transitions of its own the algorithm makes."""
        return 0

    # ---- the agent interface ------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, obs: Array, explore: bool) -> Array:
        """Return the mean action, or one to explore with."""
        tensor = torch.from_numpy(np.ascontiguousarray(obs, np.float32)).to(self.task.device)
        return to_array(self.explore(tensor) if explore else self.sac.act(tensor, None))

    @classmethod
    def misfit(cls, config: C, parent: type[Agent[Any]], of_parent: Any) -> str:
        """Try it on a small task."""
        return hand_over.misfit(cls, config, parent, of_parent)

    def warm_start(self, states: Sequence[State]) -> None:
        """Take over model, actor, critics, targets and temperature of a MOPO run; optimisers start afresh.

        The moments belong to the penalised offline problem, and MOPO's actor rate has been annealed to
        zero by its end: fine-tuning starts with new ones and a constant rate.
        """
        state = stack_seeds(states)
        self.model.load_learned(state["model"])
        self.sac.load_networks(state["sac"])

    def pretrained_state(self) -> State:
        """Return model, policy and collected transitions, without optimisers, offline data or streams."""
        state = {"model": self.model.learned(), "sac": self.sac.networks(), "updates": self.updates}
        return {**state, "online": self.replay.online_transitions()} if self.replay.online else state

    def observe(self, step: Transitions) -> None:
        """Store the step, and note what has become due; without online options nothing learns meanwhile."""
        config = self.config
        self.replay.append(step)
        if not isinstance(config, OnlineConfig) or self.replay.online < config.learning_starts:
            return
        if self.replay.online % config.model_train_freq == 0 or not self.model.fitted:
            self.due_training = config.max_model_epochs != 0
            self.due_rollout = config.rollout_batch_size
        if self.due_rollout or int(self.replay.fill.min()):
            self.due_updates = config.utd_ratio

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do what is due: train the model, roll it out, update the policy; then a stage's own updates."""
        if self.due_training:
            yield from self._train_model()
        if self.due_rollout:
            yield from self._roll_out()
        if self.due_updates:
            yield from self._update_policy()
        yield from self.train_in_model(self._updates_by_the_end_of(stage))

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        before = {str(i): to_array(tensor) for i, tensor in enumerate(self.model_before)}
        return {
            "model": self.model.state_dict(),
            "sac": self.sac.state_dict(),
            "replay": self.replay.state_dict(),
            "streams": self.streams.state_dict(),
            "updates": self.updates,
            "due": [self.due_training, self.due_rollout, self.due_updates],
            "training": self.training.state_dict() if self.training else None,
            "model_before": before if self.training else {},
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        self.model.load_state_dict(state["model"])
        self.sac.load_state_dict(state["sac"])
        self.replay.load_state_dict(state["replay"])
        self.streams.load_state_dict(state["streams"])
        self.updates = state["updates"]
        self.due_training, self.due_rollout, self.due_updates = state["due"]
        self.training = None
        if state["training"] is not None:
            for i, tensor in enumerate(self.model_before):
                tensor.copy_(torch.from_numpy(state["model_before"][str(i)]))
            self.training = self._new_training()
            self.training.load_state_dict(state["training"])

    def new_sac(self) -> Sac:
        """Return a learner with fresh networks."""
        return Sac(self.task.seeds, self.task.obs_dim, self.task.act_dim, self.config, self.task.device)

    # ---- the model, as others look at it --------------------------------------------------------------

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
    def imagine(self, obs: Array) -> tuple[Array, Array]:
        """Roll the model out with the policy as in training; rows after an end are left out (one seed)."""
        assert self.task.terminal is not None
        streams, start = (
            Streams(self.task.seeds, self.task.device),
            torch.from_numpy(obs).to(self.task.device),
        )
        length = self.config.rollout_length[3]
        imagined = imagine(
            self.model, self.sac.act, self.task.terminal, streams, start, self.task.act_dim, length
        )
        return to_array(imagined[0]), to_array(imagined[1])

    def collected(self, state: State) -> tuple[Array, Array] | None:
        """Return observations and actions (seeds, n, ...) that a finished run collected."""
        if "online" not in state:
            return None
        rows = self.replay.unpack(torch.from_numpy(state["online"]))
        return to_array(rows.obs), to_array(rows.action)

    # ---- the work -----------------------------------------------------------------------------------

    def _train_model(self) -> Iterator[Metrics]:
        """Train the ensemble until its held-out error stops falling."""
        elites = self.model.elites.clone()
        while not self._train_model_for_a_turn():
            yield {}
        assert self.training is not None
        training, self.training, self.due_training = self.training, None, False
        epochs = to_array(training.lasted)
        more = {"replay/offline_ratio": training.data.share, **self.logged()}
        yield {
            "model/held_out_mse": to_array(training.best.gather(1, self.model.elites).mean(1)),
            "model/epochs": epochs,
            "model/accepted": to_array(training.accepted.sum(1)),
            **{name: np.full(len(epochs), value) for name, value in more.items()},
            "model/steps": epochs * training.steps_per_epoch,
            **(self._change(elites) if training.was_fitted else {}),
            **self._held_out(),
        }

    def _train_model_for_a_turn(self) -> bool:
        with timed("model fit"):
            if self.training is None:
                for before, tensor in zip(self.model_before, self._model_tensors(), strict=True):
                    before.copy_(tensor)
                self.training = self._new_training()
                self.training.start()
            return self.training.turn()

    def _new_training(self) -> ModelTraining:
        offline, online = self.holdout.offline, self.holdout.online()
        counts = offline[0].shape[1], online[0].shape[1]
        shares = self.offline_ratio(*counts), self.held_out_ratio(*counts)
        data = TrainingData(*shares, *offline, *online, self.paired_batches)
        return ModelTraining(self.model, self.replay, self.streams, data, self.model_improvement())

    @torch.no_grad()
    def _change(self, elites: Tensor) -> Metrics:
        """Return how a training changed the model, and its prior uncertainty, per source."""
        kept = (self.model.elites[:, :, None] == elites[:, None]).any(2).sum(1)
        metrics, streams = {"model/elites_kept": to_array(kept)}, Streams(self.task.seeds, self.task.device)
        for source in self._sources():
            index = getattr(self.replay, f"{source}_index")(streams.uniform(PROBES[source], PROBE))
            inputs, _ = self._inputs_and_targets(index)
            before = self.predict_before(inputs)
            change = model_change(before, self.model.predict(inputs), self.model.min_log_var)
            uncertainty = quantiles(self.model.uncertainty(before))
            metrics |= {f"model_change/{source}/{name}": value for name, value in change.items()}
            metrics |= {f"model_before/{source}/uncertainty_{name}": v for name, v in uncertainty.items()}
        return metrics

    @torch.no_grad()
    def _held_out(self) -> Metrics:
        """Return the elites' error and doubled NLL on the held-out transitions of both sources."""
        held = {"offline": self.holdout.offline[1], "online": self.holdout.online()[1]}
        metrics = dict[str, Array]()
        for source in (source for source in self._sources() if held[source].shape[1]):
            inputs, y = self._inputs_and_targets(held[source])
            for name, measure in (("mse", squared_error), ("nll", nll)):
                each = measure(self.model.predict(inputs), y, inputs)
                metrics[f"held_out/{source}/{name}"] = to_array(each.gather(1, self.model.elites).mean(1))
        return metrics

    def _sources(self) -> list[str]:
        return [source for source in ("offline", "online") if getattr(self.replay, source)]

    def _inputs_and_targets(self, index: Tensor) -> tuple[Tensor, Tensor]:
        batch = self.replay.take(index)
        return self.model.inputs(batch.obs, batch.action).unsqueeze(1), target(batch).unsqueeze(1)

    def predict_before(self, inputs: Tensor) -> Prediction:
        """Predict by the model as it was before this training, from inputs standardised for this one."""
        *parameters, mean, std = self.model_before
        if self.config.refit_scaler:
            shape = (len(mean), *(1,) * (inputs.dim() - 2), -1)
            raw = inputs * self.model.scale_std.view(shape) + self.model.scale_mean.view(shape)
            inputs = (raw - mean.view(shape)) / std.view(shape)
        return self.model.predict(inputs, parameters)

    def _model_tensors(self) -> list[Tensor]:
        return [*self.model.parameters(), self.model.scale_mean, self.model.scale_std]

    def train_in_model(self, until: int) -> Iterator[Metrics]:
        """Train the policy without the environment, a rollout before every 1,000 updates."""
        while self.updates < until:
            self.due_rollout = self.config.rollout_batch_size
            self.due_updates = min(EPOCH, until - self.updates)
            yield from self._roll_out()
            yield from self._update_policy()

    def _roll_out(self) -> Iterator[Metrics]:
        """Branch from real observations with the current policy into the model buffer.

        The uncertainty that is logged is that of the last tile: thousands of transitions, the same for all
        methods.
        """
        assert self.task.terminal is not None
        length, seeds = self.rollout_length(), len(self.task.seeds)
        self.replay.resize_model_buffer(self._buffer_size(length))
        while self.due_rollout:
            count = min(self.tile, self.due_rollout)
            with timed("rollout"):
                where = (self.task.terminal, self.replay, self.streams, self.rollout_starts(count))
                uncertainty = branch(self.model, self.learner.act, *where, length, self.penalty_coef())
            self.due_rollout -= count
            if self.due_rollout:
                yield {}
        metrics = {f"uncertainty/{name}": values for name, values in quantiles(uncertainty).items()}
        more = {"rollout/length": float(length), "rollout/penalty_coef": self.penalty_coef()}
        yield {**metrics, **{name: np.full(seeds, value) for name, value in more.items()}}

    def _update_policy(self) -> Iterator[Metrics]:
        """Do the SAC updates that are due on batches of real and model transitions."""
        while self.due_updates:
            turn = min(TURN - self.updates % TURN, self.due_updates)
            rates = [self.rates(self.updates + k) for k in range(turn)]
            with timed("update"):
                noise = self.learner.noise(self.streams, turn)
                self.learner.learn(self.replay, self._batches(turn).movedim(1, 0), noise, rates)
            self.updates += turn
            self.due_updates -= turn
            if self.updates % REPORT_EVERY == 0:
                yield self.learner.report(REPORT_EVERY)
            elif self.updates % TURN == 0:
                yield {}

    def _batches(self, updates: int) -> Tensor:
        """Return the row numbers (seeds, updates, batch) of batches: real transitions, then model ones."""
        real = self.real_batch(updates)
        rest = self.config.batch_size - real.shape[-1]
        uniform = self.streams.uniform(Stream.MODEL_BATCH, updates, rest)
        return torch.cat([real, self.replay.model_index(uniform)], -1)

    def _real_index(self, purpose: str, *shape: int) -> Tensor:
        """Return row numbers of real transitions (seeds, *shape): the source by its share, then uniformly."""
        source, row = self.streams.uniform(purpose, 2, *shape).unbind(1)
        offline = source < self.offline_ratio(self.replay.offline, self.replay.online)
        return torch.where(offline, self.replay.offline_index(row), self.replay.online_index(row))

    # ---- clocks and schedules -----------------------------------------------------------------------

    def rates(self, update: int) -> Rates:
        """Return the learning rates of actor, critics and temperature after ``update`` updates."""
        return self.config.actor_lr, self.config.critic_lr, self.config.alpha_lr

    def penalty_coef(self) -> float:
        """Return lambda, by which model rewards are penalised now."""
        return self.config.penalty_coef

    def rollout_length(self) -> int:
        """Return the length of rollouts at this epoch (of 1,000 env steps, counted from 0)."""
        first, last, start, end = self.config.rollout_length
        progress = (self.replay.online // 1000 - first) / (last - first) if last > first else 1.0
        return int(start + min(max(progress, 0.0), 1.0) * (end - start))

    def _buffer_size(self, length: int) -> int:
        """Return how many transitions ``model_retain_epochs`` epochs of rollouts of this length make."""
        config = self.config
        calls = max(1, 1000 // config.model_train_freq) if isinstance(config, OnlineConfig) else 1
        return config.rollout_batch_size * length * calls * config.model_retain_epochs

    def _stages(self) -> tuple[Stage, ...]:
        return self.stages(self.config, self.task.budget)

    def _updates_by_the_end_of(self, stage: str) -> int:
        """Return the updates planned until a stage without the environment ends; 0 for one with it."""
        stages = self._stages()
        place = [planned.name for planned in stages].index(stage)
        return 0 if stages[place].env_steps else sum(planned.updates for planned in stages[: place + 1])
