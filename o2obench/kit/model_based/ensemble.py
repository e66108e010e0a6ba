"""The probabilistic ensemble of PETS, MBPO and MOPO (arXiv:1805.12114, 1906.08253, 2005.13239).

Seven Gaussian networks predict ``(next_obs - obs, reward)`` in raw units from standardised
``(obs, action)``; the reward is the last output. Each is trained on its own bootstrap; the five with
the lowest held-out error are the elites from which rollouts are sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import silu, softplus

from ...agent import Config, State, count
from ...util.rng import Stream
from ..compile import Repeat, compiled
from ..networks import Adam, Mlp, gradients, to_array, truncated_normal_init
from ..options import Members, Rate, Share, Size, Widths
from ..replay import Batch, Replay

VERSION = 3
"""Raise it whenever the numbers that the ensemble or its training computes change."""
BOUND_WEIGHT = 0.01


class EnsembleOptions(Config):
    """Sizes and training of the ensemble; defaults are OfflineRL-Kit's. ``None`` for a count: no limit."""

    model_hidden_dims: Widths = (200, 200, 200, 200)
    """Widths of the model's hidden layers."""
    model_weight_decay: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    """Weight decay of each layer of the model, the last included."""
    num_ensemble: Members = 7
    """Networks of the ensemble."""
    num_elites: Members = 5
    """Networks with the least held-out error, from which rollouts are sampled."""
    model_lr: Rate = 1e-3
    """Learning rate of the model."""
    model_lr_warmup_steps: Annotated[int, Field(ge=0)] = count(0)
    """Gradient steps over which each training of the model raises its rate linearly from zero."""
    batch_size: Size = 256
    """Transitions of a batch."""
    patience: Size = 5
    """Passes without improvement after which the training of a model ends."""
    model_improvement: Share = 0.01
    """The share by which a pass must lower a member's held-out error to count."""
    model_best_start: Literal["incoming", "none"] = "incoming"
    """What the first pass of a fitted model has to improve: its error before the training, or nothing (as in
    the reference codes, where the first pass always replaces the weights)."""
    holdout: Size = 1000
    """Held-out transitions that judge a pass: at most a fifth of the offline ones, the newest online ones."""
    holdout_redraw: bool = False
    """Hold out other online transitions, from all of them, at each training, as MBPO does; no: each one is
    held out for good or never."""
    max_model_epochs: Size | None = count(None)
    """Passes of a model's training at most; null: until nothing improves."""
    steps_per_model_epoch: Size | None = count(None)
    """Batches of a pass, however many transitions there are; null: each transition once."""
    refit_scaler: bool = False
    """Refit the input scaler at each model training. With fixed weights this changes the function before
    any gradient step, violently so on a few hundred online transitions; MBPO from scratch needs it."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        layers, decays = len(self.model_hidden_dims) + 1, len(self.model_weight_decay)
        if layers != decays:
            raise ValueError(f"model_weight_decay: {decays} numbers, the model has {layers} layers")
        if self.num_elites > self.num_ensemble:
            raise ValueError(f"num_elites: {self.num_elites} of num_ensemble = {self.num_ensemble}")
        return self


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
        sizes = (inputs, *options.model_hidden_dims, 2 * outputs)
        members = (options.num_ensemble,)
        self.net = Mlp(Stream.ENSEMBLE, seeds, members, sizes, silu, device, truncated_normal_init)
        self.max_log_var = torch.full((len(seeds), outputs), 0.5, device=device)
        self.min_log_var = torch.full((len(seeds), outputs), -10.0, device=device)
        self.scale_mean = torch.zeros((len(seeds), inputs), device=device)
        self.scale_std = torch.ones((len(seeds), inputs), device=device)
        self.elites = torch.arange(options.num_elites, device=device).repeat(len(seeds), 1)
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

    def learn(self, replay: Replay, index: Tensor, rates: Sequence[float], active: Tensor | None) -> None:
        """Do one gradient step for each of the batches ``index`` (steps, seeds, members, batch), at its rate.

        ``active`` (seeds,) masks seeds out.
        """
        scale = self.adam.schedule(rates, None if active is None else to_array(active))
        self._repeat(replay, index, scale, *(() if active is None else (active.expand(len(index), -1),)))

    def _one(self, replay: Replay, index: Tensor, scale: Tensor, active: Tensor | None = None) -> None:
        self._update(replay.take(index), scale, active)

    def update(self, batch: Batch, scale: Tensor, active: Tensor | None) -> None:
        """Do one gradient step: a function of this object's tensors, a batch and Adam's step sizes."""
        inputs, y = self.inputs(batch.obs, batch.action), target(batch)

        def loss(*parameters: Tensor) -> tuple[Tensor, Tensor]:
            loss = self.loss(self.predict(inputs, parameters), y, inputs)
            return loss.sum() + self.regulariser(*parameters), loss

        grads, _ = gradients(loss, self.parameters())
        self.adam.step(grads, scale, active)

    def regulariser(self, flat: Tensor, high: Tensor, low: Tensor) -> Tensor:
        """Return weight decay (weights only, half the squares) and the pull on the bounds, over all seeds."""
        layers = zip(self.options.model_weight_decay, self.net.layers(flat), strict=True)
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
        """Return what a warm start carries: weights, bounds, scaler, elites; no moments."""
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
