"""The probabilistic ensemble of PETS, MBPO and MOPO (arXiv:1805.12114, 1906.08253, 2005.13239).

Seven Gaussian networks predict ``(next_obs - obs, reward)`` in raw units from standardised
``(obs, action)``; the reward is the last output. Each is trained on its own bootstrap; the five with
the lowest held-out error are the elites from which rollouts are sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from ...agent import State
from ...util.rng import Stream
from ..compile import Repeat, compiled
from ..networks import Adam, Mlp, gradients, to_array, truncated_normal_init
from ..replay import Batch, Replay
from ..rng import Streams

BOUND_WEIGHT = 0.01
IMPROVEMENT = 0.01
STEPS_PER_TURN = 20
"""Gradient steps between two chances to save or stop: well under a second on a CPU core."""


@dataclass(frozen=True)
class EnsembleOptions:
    """Sizes and training of the ensemble. ``passes`` and ``pass_steps`` None: no limit."""

    hidden: tuple[int, ...]
    weight_decay: tuple[float, ...]
    members: int
    elites: int
    rate: float
    batch: int
    patience: int
    holdout: int
    passes: int | None
    pass_steps: int | None
    refit_scaler: bool


@dataclass(frozen=True)
class Prediction:
    """Gaussian predictions (seeds, members, batch, obs_dim + 1) of delta obs and reward, raw units."""

    mean: Tensor
    log_var: Tensor


Loss = Callable[[Prediction, Tensor, Tensor], Tensor]
"""(prediction, target, inputs) -> one number per seed and member."""


def nll(prediction: Prediction, y: Tensor, inputs: Tensor) -> Tensor:
    """Return (mu - y)^2 / var + log var, averaged over rows and outputs: twice the NLL up to a constant."""
    error = (prediction.mean - y).square() * (-prediction.log_var).exp()
    return (error + prediction.log_var).mean((-2, -1))


def squared_error(prediction: Prediction, y: Tensor, inputs: Tensor) -> Tensor:
    """Return the mean squared error of the means, by which early stopping and elites are decided."""
    return (prediction.mean - y).square().mean((-2, -1))


class Ensemble:
    """Networks, learnt log-variance bounds (shared by the members), input scaler and elites."""

    def __init__(
        self,
        seeds: tuple[int, ...],
        obs_dim: int,
        act_dim: int,
        options: EnsembleOptions,
        device: str,
        loss: Loss = nll,
        error: Loss = squared_error,
    ) -> None:
        self.options, self.loss, self.error = options, loss, error
        inputs, outputs = obs_dim + act_dim, obs_dim + 1
        sizes = (inputs, *options.hidden, 2 * outputs)
        members = (options.members,)
        self.net = Mlp(Stream.ENSEMBLE, seeds, members, sizes, silu, device, truncated_normal_init)
        self.max_log_var = torch.full((len(seeds), outputs), 0.5, device=device)
        self.min_log_var = torch.full((len(seeds), outputs), -10.0, device=device)
        self.scale_mean = torch.zeros((len(seeds), inputs), device=device)
        self.scale_std = torch.ones((len(seeds), inputs), device=device)
        self.elites = torch.arange(options.elites, device=device).repeat(len(seeds), 1)
        self.fitted = False
        self.adam = Adam(self.parameters())
        """Its moments persist from one fit to the next."""
        self._update, self._repeat = compiled(self.update), Repeat(self._one)

    def parameters(self) -> list[Tensor]:
        """Return all tensors that are trained."""
        return [self.net.flat, self.max_log_var, self.min_log_var]

    def inputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return standardised inputs (seeds, ..., obs_dim + act_dim)."""
        raw = torch.cat([obs, action], -1)
        shape = (len(self.scale_mean), *(1,) * (raw.dim() - 2), -1)
        return (raw - self.scale_mean.view(shape)) / self.scale_std.view(shape)

    def predict(self, inputs: Tensor, parameters: Sequence[Tensor] = ()) -> Prediction:
        """Predict from standardised inputs (seeds, members or 1, batch, dim), by ``parameters`` if given."""
        flat, high, low = parameters or self.parameters()
        mean, raw = self.net(inputs, flat).chunk(2, -1)
        return Prediction(mean, bound(raw, high, low))

    def learn(self, replay: Replay, index: Tensor, active: Tensor | None) -> None:
        """Do one gradient step for each of the batches ``index`` (steps, seeds, members, batch).

        ``active`` (seeds,) masks seeds out.
        """
        steps, host = len(index), None if active is None else to_array(active)
        scale = self.adam.schedule([self.options.rate] * steps, host)
        self._rows = replay
        self._repeat(index, scale, *(() if active is None else (active.expand(steps, -1),)))

    def _one(self, index: Tensor, scale: Tensor, active: Tensor | None = None) -> None:
        self._update(self._rows.take(index), scale, active)

    def update(self, batch: Batch, scale: Tensor, active: Tensor | None) -> None:
        """Do one gradient step: a function of this object's tensors, a batch and Adam's step sizes."""
        inputs, y = self.inputs(batch.obs, batch.action), target(batch)

        def loss(*parameters: Tensor) -> tuple[Tensor, Tensor]:
            loss = self.loss(self.predict(inputs, parameters), y, inputs)
            return loss.sum() + self.regulariser(*parameters), loss

        found, _ = gradients(loss, self.parameters())
        self.adam.step(found, scale, active)

    def regulariser(self, flat: Tensor, high: Tensor, low: Tensor) -> Tensor:
        """Return weight decay (weights only, half the squares) and the pull on the bounds, over all seeds."""
        layers = zip(self.options.weight_decay, self.net.layers(flat), strict=True)
        decay = torch.stack([0.5 * rate * weight.square().sum() for rate, (weight, _) in layers]).sum()
        return decay + BOUND_WEIGHT * (high.sum() - low.sum())

    def uncertainty(self, prediction: Prediction) -> Tensor:
        """Return MOPO's penalty (seeds, batch): the largest ||sigma||_2 over all members, reward included.

        The papers write a Frobenius norm of the covariance; both reference codes use deviations.
        """
        deviations: Tensor = torch.linalg.vector_norm((0.5 * prediction.log_var).exp(), dim=-1)
        return deviations.amax(1)

    def step(
        self, obs: Tensor, action: Tensor, choice: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sample one step for obs (seeds, n, d): (next_obs, reward, uncertainty).

        ``choice`` (seeds, n) in [0, 1) picks an elite for each row (TS1), ``noise`` (seeds, n, d + 1)
        samples its Gaussian; delta and reward are both sampled.
        """
        prediction = self.predict(self.inputs(obs, action).unsqueeze(1))
        elite = (choice * self.elites.shape[1]).long()
        member = self.elites.gather(1, elite)[:, None, :, None]
        mean, log_var = (
            x.gather(1, member.expand(-1, 1, -1, x.shape[-1])).squeeze(1)
            for x in (prediction.mean, prediction.log_var)
        )
        sample = mean + (0.5 * log_var).exp() * noise
        return obs + sample[..., :-1], sample[..., -1], self.uncertainty(prediction)

    def learned(self) -> State:
        """Return what a hand-over carries: weights, bounds, scaler, elites; no moments."""
        names = ("max_log_var", "min_log_var", "scale_mean", "scale_std", "elites")
        return {
            "net": self.net.state_dict(),
            "fitted": self.fitted,
            **{name: to_array(getattr(self, name)) for name in names},
        }

    def load_learned(self, state: State) -> None:
        """Take weights, bounds, scaler and elites over."""
        self.net.load_state_dict(state["net"])
        self.fitted = state["fitted"]
        for name in ("max_log_var", "min_log_var", "scale_mean", "scale_std", "elites"):
            getattr(self, name).copy_(torch.from_numpy(state[name]))

    def state_dict(self) -> State:
        """Return the model and its optimiser."""
        return {**self.learned(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Take the model and its optimiser back."""
        self.load_learned(state)
        self.adam.load_state_dict(state["adam"])


def target(batch: Batch) -> Tensor:
    """Return what the ensemble predicts: the change of the observation and the reward, raw units."""
    return torch.cat([batch.next_obs - batch.obs, batch.reward[..., None]], -1)


def bound(raw: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """Clamp raw log-variances softly between bounds (seeds, outputs), first from above, then from below."""
    high, low = high[:, None, None], low[:, None, None]
    below = high - softplus(high - raw)
    return low + softplus(below - low)


@dataclass(frozen=True)
class FitData:
    """What a fit trains on: row numbers of the two sources, split in training and held-out rows.

    ``share`` is the probability that a drawn row is an offline one. Index arrays are (seeds, n).
    """

    share: float
    offline_train: Tensor
    offline_held: Tensor
    online_train: Tensor
    online_held: Tensor
    paired: bool = False
    """Half of every batch from each source, exactly: a pass traverses the bootstrap of online rows once, each
    batch of it beside as many offline rows that are drawn anew."""

    @property
    def size(self) -> int:
        """The effective number of rows under the share: rows of equal weight worth as much."""
        if self.paired:
            return 2 * self.online_train.shape[1]
        weights = ((self.share, self.offline_train), (1.0 - self.share, self.online_train))
        return round(1.0 / sum(share**2 / rows.shape[1] for share, rows in weights if share))


class Fit:
    """One call of model training, in turns of a few gradient steps; its state can be saved between.

    Each member draws its bootstrap once and traverses it in a new order in each pass. After a pass a
    member that lowered its held-out error by more than 1 % is kept in a snapshot; a seed stops after
    ``patience`` passes in which none of its members improved. A stopped seed's weights, moments and
    streams stand still while others go on. At the end every member returns to its snapshot.

    A model that was fitted before is judged first: its errors are what the passes have to improve, so
    a harmful training set cannot replace good weights. (The reference codes start from 1e10, so that
    their first pass always replaces them.) The bounds of the log-variances are shared by all members and not
    part of a snapshot, as in those codes: where every pass is refused the weights are the old ones, and the
    bounds have still moved, down by about 0.001 a gradient step, which lowers the largest deviations.
    """

    def __init__(self, model: Ensemble, replay: Replay, streams: Streams, data: FitData) -> None:
        self.model, self.replay, self.streams, self.data = model, replay, streams, data
        options, seeds = model.options, replay.seeds
        device = replay.rows.device
        self.turns = -(-data.size // options.batch)
        if options.pass_steps is not None:
            self.turns = min(self.turns, options.pass_steps)
        self.passes, self.step_in_pass = 0, 0
        self.tuned = False
        """Whether it began from a model that was fitted before."""
        self.active = torch.ones(seeds, dtype=torch.bool, device=device)
        self.idle = torch.zeros(seeds, dtype=torch.int64, device=device)
        self.lasted = torch.zeros(seeds, dtype=torch.int64, device=device)
        """Passes that each seed trained for."""
        self.order = torch.zeros((seeds, options.members, 0), dtype=torch.int64, device=device)
        self.best = torch.full((seeds, options.members), 1e10, device=device)
        self.snapshot = model.net.flat.clone()

    def start(self) -> None:
        """Fit the scaler where that is due, judge the incoming weights, draw the bootstraps."""
        model, options = self.model, self.model.options
        if not model.fitted or options.refit_scaler:
            self._fit_scaler()
        self.tuned = model.fitted
        if model.fitted:
            error = self.held_out_error()
            self.best = torch.where(torch.isfinite(error), error, self.best)
        rows = -(-self.data.size // options.batch) * options.batch
        if self.data.paired:
            new = self.streams.uniform(Stream.BOOTSTRAP, options.members, rows // 2)
            self.order = self._beside_offline_rows(_pick(self.data.online_train, new))
        else:
            self.order = self._draw(Stream.BOOTSTRAP, options.members, rows)

    def turn(self) -> bool:
        """Do a few gradient steps, and at the end of a pass judge it; return whether the fit is over."""
        if self.step_in_pass == 0:
            self._shuffle()
        size = self.model.options.batch
        steps = min(STEPS_PER_TURN, self.turns - self.step_in_pass)
        rows = self.order[..., self.step_in_pass * size : (self.step_in_pass + steps) * size]
        index = rows.unflatten(-1, (steps, size)).movedim(2, 0)
        self.model.learn(self.replay, index, self.mask())
        self.step_in_pass += steps
        if self.step_in_pass < self.turns:
            return False
        self._end_pass()
        limit = self.model.options.passes
        over = not bool(self.active.any()) or (limit is not None and self.passes >= limit)
        if over:
            self._restore()
        return over

    def held_out_error(self) -> Tensor:
        """Return each member's error on the held-out rows (seeds, members), weighted by the share."""
        share, errors = self.data.share, []
        for weight, held in ((share, self.data.offline_held), (1.0 - share, self.data.online_held)):
            if weight and held.shape[1]:
                errors.append((weight, self._judge(held)))
        total = sum(weight for weight, _ in errors)
        return torch.stack([weight / total * error for weight, error in errors]).sum(0)

    def _judge(self, held: Tensor) -> Tensor:
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
        new = self.order.unflatten(-1, (-1, 2, self.model.options.batch // 2))[..., 1, :].flatten(2)
        self.order = self._beside_offline_rows(self._shuffled(new))

    def _shuffled(self, rows: Tensor) -> Tensor:
        """Return rows (seeds, members, n) in a new order; those of a stopped seed as they are."""
        members, n = rows.shape[1:]
        return rows.gather(2, self.streams.permutations(Stream.SHUFFLE, members, n, self.mask()))

    def _beside_offline_rows(self, new: Tensor) -> Tensor:
        """Return batches (seeds, members, 2 n): half of each offline rows, drawn anew, half ``new`` ones."""
        drawn = self.streams.uniform(Stream.OFFLINE_HALF, *new.shape[1:], active=self.mask())
        half = self.model.options.batch // 2
        halves = [x.unflatten(-1, (-1, half)) for x in (_pick(self.data.offline_train, drawn), new)]
        return torch.stack(halves, 3).flatten(2)

    def _end_pass(self) -> None:
        self.lasted += self.active
        error = self.held_out_error()
        better = ((self.best - error) / self.best > IMPROVEMENT) & self.active[:, None]
        self.best = torch.where(better, error, self.best)
        self.snapshot = torch.where(better[..., None], self.model.net.flat, self.snapshot)
        self.idle = torch.where(better.any(1), 0, self.idle + 1)
        self.active = self.active & (self.idle < self.model.options.patience)
        self.passes, self.step_in_pass = self.passes + 1, 0

    def _restore(self) -> None:
        self.model.net.flat.copy_(self.snapshot)
        ranks = self.best.argsort(dim=1, stable=True)
        self.model.elites.copy_(ranks[:, : self.model.options.elites])
        self.model.fitted = True

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
        """Return where the fit stands."""
        return {
            "passes": self.passes,
            "step_in_pass": self.step_in_pass,
            "tuned": self.tuned,
            "active": to_array(self.active),
            "idle": to_array(self.idle),
            "lasted": to_array(self.lasted),
            "order": to_array(self.order.int()),
            "best": to_array(self.best),
            "snapshot": to_array(self.snapshot),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where a fit stood."""
        self.passes, self.step_in_pass = state["passes"], state["step_in_pass"]
        self.tuned = state["tuned"]
        self.active.copy_(torch.from_numpy(state["active"]))
        self.idle.copy_(torch.from_numpy(state["idle"]))
        self.lasted.copy_(torch.from_numpy(state["lasted"]))
        self.order = torch.from_numpy(state["order"]).to(self.order)
        self.best.copy_(torch.from_numpy(state["best"]))
        self.snapshot.copy_(torch.from_numpy(state["snapshot"]))


def _pick(rows: Tensor, uniform: Tensor) -> Tensor:
    """Pick from rows (seeds, n) with numbers in [0, 1) of shape (seeds, ...)."""
    if not rows.shape[1]:
        return torch.zeros_like(uniform, dtype=torch.int64)
    chosen = (uniform * rows.shape[1]).long().flatten(1)
    return rows.gather(1, chosen).view(uniform.shape)
