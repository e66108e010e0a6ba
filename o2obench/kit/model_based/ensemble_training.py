"""Training of the ensemble: bootstraps, epochs, early stopping, and the choice of elites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...agent import State
from ...util.rng import Stream
from ..networks import to_array
from ..replay import Replay
from ..rng import Streams
from .ensemble import Ensemble, target

STEPS_PER_TURN = 20
"""Gradient steps between two chances to save or stop: well under a second on a CPU core."""


@dataclass(frozen=True)
class TrainingData:
    """What a model training uses: row numbers of the two sources, split in training and held-out transitions.

    ``share`` is the probability that a drawn row is an offline one, ``held_share`` the weight of the offline
    rows' error among the held-out ones. Index arrays are (seeds, n).
    """

    share: float
    held_share: float
    offline_train: Tensor
    offline_held: Tensor
    online_train: Tensor
    online_held: Tensor
    paired: bool = False
    """Half of every batch from each source, exactly: an epoch traverses the bootstrap of online transitions
    once, each batch of it beside as many offline transitions that are drawn anew."""

    @property
    def size(self) -> int:
        """The effective number of rows under the share: rows of equal weight worth as much."""
        if self.paired:
            return 2 * self.online_train.shape[1]
        weights = ((self.share, self.offline_train), (1.0 - self.share, self.online_train))
        return round(1.0 / sum(share**2 / rows.shape[1] for share, rows in weights if share))


class ModelTraining:
    """One call of model training, in turns of a few gradient steps; its state can be saved between.

    Each member draws its bootstrap once and traverses it in a new order in each epoch; an epoch of
    ``steps_per_model_epoch`` batches is a part of it, or traverses it several times. After an epoch a member
    that lowered its held-out error by more than ``improvement`` (a share) is kept in a snapshot; a seed stops
    after ``patience`` epochs in which none of its members improved. A stopped seed's weights, moments and
    streams stand still while others go on. At the end every member returns to its snapshot.

    A model that was fitted before is evaluated first: its errors are what the epochs have to improve, so
    a harmful training set cannot replace good weights (``model_best_start``). Where no epoch improved a
    member the training is refused for it: its weights and Adam's moments are those from before. The bounds of
    the log-variances are shared by all members and not part of a snapshot, as in the reference codes; where
    all members are refused they return too, and Adam's step count with them.
    """

    def __init__(
        self, model: Ensemble, replay: Replay, streams: Streams, data: TrainingData, improvement: float
    ) -> None:
        self.model, self.replay, self.streams, self.data = model, replay, streams, data
        self.improvement = improvement
        options, seeds = model.options, replay.seeds
        device = replay.rows.device
        self.steps_per_epoch = options.steps_per_model_epoch or -(-data.size // options.batch_size)
        self.epochs, self.step_in_epoch = 0, 0
        self.was_fitted = False
        """Whether it began from a model that was fitted before."""
        self.active = torch.ones(seeds, dtype=torch.bool, device=device)
        self.idle = torch.zeros(seeds, dtype=torch.int64, device=device)
        self.lasted = torch.zeros(seeds, dtype=torch.int64, device=device)
        """Epochs that each seed trained for."""
        self.order = torch.zeros((seeds, options.num_ensemble, 0), dtype=torch.int64, device=device)
        self.best = torch.full((seeds, options.num_ensemble), 1e10, device=device)
        self.snapshot = model.net.flat.clone()
        self.accepted = torch.zeros((seeds, options.num_ensemble), dtype=torch.bool, device=device)
        """Which members an epoch has improved."""
        self.before = [tensor.clone() for tensor in self._beside_weights()]
        self.steps_before = model.adam.steps.copy()

    def start(self) -> None:
        """Fit the scaler where that is due, evaluate the incoming weights, draw the bootstraps."""
        model, options = self.model, self.model.options
        if not model.fitted or options.refit_scaler:
            self._fit_scaler()
        self.was_fitted = model.fitted
        if model.fitted and options.model_best_start == "incoming":
            error = self.held_out_error()
            self.best = torch.where(torch.isfinite(error), error, self.best)
        batches = -(-self.data.size // options.batch_size)
        rows, times = batches * options.batch_size, -(-self.steps_per_epoch // batches)
        if self.data.paired:
            new = self.streams.uniform(Stream.BOOTSTRAP, options.num_ensemble, rows // 2)
            self.order = self._beside_offline(_pick(self.data.online_train, new).repeat(1, 1, times))
        else:
            self.order = self._draw(Stream.BOOTSTRAP, options.num_ensemble, rows).repeat(1, 1, times)

    def turn(self) -> bool:
        """Do a few gradient steps, and close an epoch at its end; return whether the training is over."""
        if self.step_in_epoch == 0:
            self._shuffle()
        size = self.model.options.batch_size
        steps = min(STEPS_PER_TURN, self.steps_per_epoch - self.step_in_epoch)
        rows = self.order[..., self.step_in_epoch * size : (self.step_in_epoch + steps) * size]
        index = rows.unflatten(-1, (steps, size)).movedim(2, 0)
        self.model.learn(self.replay, index, self._rates(steps), self.mask())
        self.step_in_epoch += steps
        if self.step_in_epoch < self.steps_per_epoch:
            return False
        self._end_epoch()
        limit = self.model.options.max_model_epochs
        over = not bool(self.active.any()) or (limit is not None and self.epochs >= limit)
        if over:
            self._restore()
        return over

    def _rates(self, steps: int) -> list[float]:
        """Return the rates of the next gradient steps."""
        options, done = self.model.options, self.epochs * self.steps_per_epoch + self.step_in_epoch
        warm_up = max(1, options.model_lr_warmup_steps)
        return [options.model_lr * min(1.0, (done + k) / warm_up) for k in range(1, steps + 1)]

    def held_out_error(self) -> Tensor:
        """Return each member's error on the held-out transitions (seeds, members), by their weights."""
        share, errors = self.data.held_share, []
        for weight, held in ((share, self.data.offline_held), (1.0 - share, self.data.online_held)):
            if weight and held.shape[1]:
                errors.append((weight, self._error_on(held)))
        total = sum(weight for weight, _ in errors)
        return torch.stack([weight / total * error for weight, error in errors]).sum(0)

    def _error_on(self, held: Tensor) -> Tensor:
        batch = self.replay.take(held)
        inputs = self.model.inputs(batch.obs, batch.action).unsqueeze(1)
        return self.model.error(self.model.predict(inputs), target(batch).unsqueeze(1), inputs)

    def mask(self) -> Tensor | None:
        """Return which seeds still train, None while all do."""
        return None if bool(self.active.all()) else self.active

    def _shuffle(self) -> None:
        if not self.data.paired:
            self.order = self._shuffled(self.order)
            return
        new = self.order.unflatten(-1, (-1, 2, self.model.options.batch_size // 2))[..., 1, :].flatten(2)
        self.order = self._beside_offline(self._shuffled(new))

    def _shuffled(self, rows: Tensor) -> Tensor:
        """Return rows (seeds, members, n) in a new order; those of a stopped seed as they are."""
        members, n = rows.shape[1:]
        return rows.gather(2, self.streams.permutations(Stream.SHUFFLE, members, n, self.mask()))

    def _beside_offline(self, new: Tensor) -> Tensor:
        """Return batches (seeds, members, 2 n): half offline transitions, drawn anew, half ``new`` ones."""
        drawn = self.streams.uniform(Stream.OFFLINE_HALF, *new.shape[1:], active=self.mask())
        half = self.model.options.batch_size // 2
        halves = [x.unflatten(-1, (-1, half)) for x in (_pick(self.data.offline_train, drawn), new)]
        return torch.stack(halves, 3).flatten(2)

    def _end_epoch(self) -> None:
        self.lasted += self.active
        error = self.held_out_error()
        better = ((self.best - error) / self.best > self.improvement) & self.active[:, None]
        self.accepted |= better
        self.best = torch.where(better, error, self.best)
        self.snapshot = torch.where(better[..., None], self.model.net.flat, self.snapshot)
        self.idle = torch.where(better.any(1), 0, self.idle + 1)
        self.active = self.active & (self.idle < self.model.options.patience)
        self.epochs, self.step_in_epoch = self.epochs + 1, 0

    def _restore(self) -> None:
        self.model.net.flat.copy_(self.snapshot)
        self._refuse()
        ranks = self.best.argsort(dim=1, stable=True)
        self.model.elites.copy_(ranks[:, : self.model.options.num_elites])
        self.model.fitted = True

    def _refuse(self) -> None:
        """Give refused members their moments back, and a model that is refused as a whole its bounds too."""
        refused, adam = ~self.accepted, self.model.adam
        whole = refused.all(1)
        for tensor, before in zip(self._beside_weights(), self.before, strict=True):
            mask = refused if tensor.dim() > 2 else whole
            tensor.copy_(torch.where(mask[..., None], before, tensor))
        adam.steps = np.where(to_array(whole), self.steps_before, adam.steps)

    def _beside_weights(self) -> list[Tensor]:
        """Return bounds (seeds, outputs) and moments (those of the weights: seeds, members, parameters)."""
        _, *bounds = self.model.parameters()
        return [*bounds, *self.model.adam.mean, *self.model.adam.square]

    def _draw(self, purpose: str, *shape: int) -> Tensor:
        """Return training row numbers (seeds, *shape), the source by the share, then a row uniformly."""
        source, row = self.streams.uniform(purpose, 2, *shape).unbind(1)
        return torch.where(
            source < self.data.share, _pick(self.data.offline_train, row), _pick(self.data.online_train, row)
        )

    def _fit_scaler(self) -> None:
        parts = [
            rows
            for weight, rows in (
                (self.data.share, self.data.offline_train),
                (1.0 - self.data.share, self.data.online_train),
            )
            if weight
        ]
        batch = self.replay.take(torch.cat(parts, 1))
        raw = torch.cat([batch.obs, batch.action], -1).double()
        std = raw.std(1, correction=0)
        self.model.scale_mean.copy_(raw.mean(1))
        self.model.scale_std.copy_(torch.where(std < 1e-12, 1.0, std))

    def state_dict(self) -> State:
        """Return where the training stands."""
        return {
            "epochs": self.epochs,
            "step_in_epoch": self.step_in_epoch,
            "was_fitted": self.was_fitted,
            "active": to_array(self.active),
            "idle": to_array(self.idle),
            "lasted": to_array(self.lasted),
            "order": to_array(self.order.int()),
            "best": to_array(self.best),
            "snapshot": to_array(self.snapshot),
            "accepted": to_array(self.accepted),
            "before": {str(i): to_array(tensor) for i, tensor in enumerate(self.before)},
            "steps_before": self.steps_before.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where a training stood."""
        self.epochs, self.step_in_epoch = state["epochs"], state["step_in_epoch"]
        self.was_fitted = state["was_fitted"]
        self.active.copy_(torch.from_numpy(state["active"]))
        self.idle.copy_(torch.from_numpy(state["idle"]))
        self.lasted.copy_(torch.from_numpy(state["lasted"]))
        self.order = torch.from_numpy(state["order"]).to(self.order)
        self.best.copy_(torch.from_numpy(state["best"]))
        self.snapshot.copy_(torch.from_numpy(state["snapshot"]))
        self.accepted.copy_(torch.from_numpy(state["accepted"]))
        for i, tensor in enumerate(self.before):
            tensor.copy_(torch.from_numpy(state["before"][str(i)]))
        self.steps_before = state["steps_before"].copy()


def _pick(rows: Tensor, uniform: Tensor) -> Tensor:
    """Pick from rows (seeds, n) with numbers in [0, 1) of shape (seeds, ...)."""
    if not rows.shape[1]:
        return torch.zeros_like(uniform, dtype=torch.int64)
    chosen = (uniform * rows.shape[1]).long().flatten(1)
    return rows.gather(1, chosen).view(uniform.shape)
