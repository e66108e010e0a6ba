"""A world model in a latent space with in-sample values (FOWM, Feng et al. 2023, arXiv:2310.16029).

An encoder h maps observations to latents z, a dynamics model d and a reward model predict the next latent
and the reward from (z, a), five critics and V tell returns. From the first observation of a window the
latents z_0 = h(s_0), z_{t+1} = d(z_t, a_t) are predicted along its actions, and all of it learns from

    sum_t rho^t [ 20 |z_{t+1} - h'(s_{t+1})|^2 + 0.5 (reward error)^2
                  + 0.1 sum_k (Q_k(z_t, a_t) - y_t)^2 + 0.1 expectile loss of V(z_t) ],

y_t = r_t + gamma V(h(s_{t+1})), as IQL's: V fits an upper expectile of the least of two drawn targets, and
the policy the data's actions with weights exp(beta (Q - V)), at most 100. h' and the targets follow slowly.

Decided here: y goes on after an episode that the clock ended (released code: it does not), and the policy
learns from the latents as they were before the model's step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import elu, layer_norm, mish

from ...util.rng import Stream
from ..model_free.iql import expectile_error
from ..model_free.template import MOST_WEIGHT, SUBSET, Draw, Values
from ..networks import Activation, Initialiser, Mlp, Norm, orthogonal_of, zero_init
from ..options import Members, OtherWidths, Rate, Share, Weight, Width, Widths
from ..policies import Gaussian
from ..replay import Batch
from .windows import FIRST, WEIGHT, ByWindows, WindowOptions

WORLD, ENCODER, SLOW_ENCODER, DYNAMICS, REWARD, VALUE = (
    *("world", "encoder", "slow encoder", "dynamics", "reward", "value"),
)
POLICY_STD = 0.05


class LatentOptions(WindowOptions):
    """Options of model, values and policy; the defaults are those of Hopper."""

    hidden_dims: Widths = (512, 512)
    critic_hidden_dims: OtherWidths = None
    """Those of the critics, whose first layer is normalised and has a tanh; null: ``hidden_dims``."""
    encoder_dim: Width = 256
    """Width of the encoder's hidden layer."""
    latent_dim: Width = 50
    """Components of a latent."""
    tau: Share = 0.01
    """Share that slow encoder and targets take over in every second update."""
    num_critics: Members = 5
    target_critics: Members | None = 2
    target_replacement: Literal[False] = False
    """Two different targets are drawn."""
    rho: Share = 0.5
    """Weight of each step of a window, relative to the one before."""
    consistency_weight: Weight = 20.0
    """Of the error of predicted latents."""
    reward_weight: Weight = 0.5
    """Of the error of predicted rewards."""
    value_weight: Weight = 0.1
    """Of the critics' error and of the value's."""
    expectile: Share = 0.7
    """Expectile of the critics that the value learns (AntMaze: 0.9)."""
    beta: Weight = 3.0
    """Inverse temperature of the policy's weights (AntMaze: 10)."""
    max_grad_norm: Rate = 10.0
    """A longer gradient is shortened to it."""


C = TypeVar("C", bound=LatentOptions)


class LatentModel(ByWindows[C], Generic[C]):
    """Encoder, dynamics, reward, critics and value are one part; the policy is the other."""

    provides: ClassVar[tuple[str, ...]] = ("actor", "critics", WORLD)
    order = (WORLD, "actor")
    joint: ClassVar[Mapping[str, tuple[str, ...]]] = {WORLD: (ENCODER, DYNAMICS, REWARD, "critics", VALUE)}
    followers: ClassVar[Mapping[str, str]] = {"targets": "critics", SLOW_ENCODER: ENCODER}
    judged: ClassVar[tuple[str, ...]] = (ENCODER, DYNAMICS, REWARD, "critics", "actor")
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        WORLD: ("world/loss", "world/consistency", "world/reward", "critics/loss", "value/loss"),
        "actor": ("actor/loss", "actor/weight"),
    }

    # ---- networks ----------------------------------------------------------------------------------------

    def policy_of(self, act_dim: int) -> Gaussian:
        """Return a normal around a tanh mean with a fixed deviation."""
        return Gaussian(act_dim, std=POLICY_STD)

    def scalars(self) -> dict[str, float]:
        """Return nothing: there is no temperature."""
        return {}

    def most_norm(self, name: str) -> float:
        """Shorten all gradients."""
        return self.config.max_grad_norm

    def every(self) -> dict[str, int]:
        """Let those that follow move in every second update."""
        return dict.fromkeys(self.followers, 2)

    def networks(self) -> dict[str, Mlp]:
        """Return all networks; outputs that are latents have gains and shifts of a norm (``free``)."""
        config, latents = self.config, self.config.latent_dim
        pair, obs_dim = latents + self.task.act_dim, self.task.obs_dim
        trunk: tuple[tuple[int, ...], Activation, Norm] = (config.hidden_dims, mish, "before")
        coder: tuple[tuple[int, ...], Activation, Norm] = ((config.encoder_dim,), elu, None)
        encoder = self._mlp(ENCODER, (), obs_dim, latents, *coder, free=2 * latents)
        slow = self._mlp(ENCODER, (), obs_dim, latents, *coder, free=2 * latents)
        return {
            ENCODER: encoder,
            SLOW_ENCODER: slow,
            DYNAMICS: self._mlp(DYNAMICS, (), pair, latents, *trunk, free=2 * latents),
            REWARD: self._mlp(REWARD, (), pair, 1, *trunk, head=zero_init),
            "critics": self._critics(pair),
            "targets": self._critics(pair),
            VALUE: self._values(VALUE, (), latents, None),
            "actor": self._mlp(Stream.ACTOR, (), latents, self.task.act_dim, *trunk),
        }

    def _critics(self, inputs: int) -> Mlp:
        return self._values(Stream.CRITICS, (self.config.num_critics,), inputs, zero_init)

    def _values(self, name: str, members: tuple[int, ...], inputs: int, head: Initialiser | None) -> Mlp:
        widths = self.config.critic_hidden_dims or self.config.hidden_dims
        activations: tuple[Activation, ...] = (torch.tanh, *(elu for _ in widths[1:]))
        return self._mlp(name, members, inputs, 1, widths, activations, "first", head=head)

    def _mlp(
        self,
        name: str,
        members: tuple[int, ...],
        inputs: int,
        outputs: int,
        widths: tuple[int, ...],
        activation: Activation | tuple[Activation, ...],
        norm: Norm,
        head: Initialiser | None = None,
        free: int = 0,
    ) -> Mlp:
        sizes, init = (inputs, *widths, outputs), orthogonal_of(1.0)
        seeds, device = self.task.seeds, self.task.device
        return Mlp(name, seeds, members, sizes, activation, device, init, head, norm, free)

    def _latent(self, name: str, x: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return a network's outputs as latents in (0, 1): normalised, then through a sigmoid."""
        net = self.nets[name]
        gain, shift = net.free(flat).unsqueeze(-2).chunk(2, -1)
        outputs = net(x, flat)
        return torch.sigmoid(layer_norm(outputs, outputs.shape[-1:]) * (1.0 + gain) + shift)

    def encode(self, obs: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return the latents of observations, (seeds, n, latents)."""
        return self._latent(ENCODER, obs, flat)

    def imagined(self, z: Tensor, action: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return the predicted next latents, (seeds, n, latents)."""
        return self._latent(DYNAMICS, torch.cat([z, action], -1), flat)

    def reward(self, z: Tensor, action: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return the predicted rewards, (seeds, n)."""
        return self.nets[REWARD](torch.cat([z, action], -1), flat).squeeze(-1)

    def v(self, z: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return V, (seeds, n)."""
        return self.nets[VALUE](z, flat).squeeze(-1)

    def proposed(self, z: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return the policy's mean action, (seeds, n, act_dim)."""
        return torch.tanh(self.nets["actor"](z, flat))

    # ---- losses ------------------------------------------------------------------------------------------

    def draws(self) -> dict[str, Draw]:
        """Draw which targets count."""
        return {SUBSET: ("uniform", (self.config.num_critics,))} if self.config.target_critics else {}

    def along(
        self, batch: Batch, encoder: Tensor | None = None, dynamics: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return z_0, z_1, .. before each action of the windows and z_1, z_2, .. after it.

        Both are (seeds, windows horizon, latents), in the order of the batch.
        """
        obs, action = (x.unflatten(1, (-1, self.config.horizon)) for x in (batch.obs, batch.action))
        latents = [self.encode(obs[:, :, 0], encoder)]
        for t in range(self.config.horizon):
            latents.append(self.imagined(latents[-1], action[:, :, t], dynamics))
        before, after = torch.stack(latents[:-1], 2), torch.stack(latents[1:], 2)
        return before.flatten(1, 2), after.flatten(1, 2)

    def next_value(self, batch: Batch, draws: Values) -> Tensor:
        """Return V of the next observations, encoded, (seeds, windows horizon)."""
        return self.v(self.encode(batch.next_obs))

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return latents, targets and weights of an update, and leave the windows' errors in ``errors``."""
        config = self.config
        z, _ = self.along(batch)
        alive = self.alive(batch.columns[FIRST].unflatten(1, (-1, config.horizon)))
        steps = alive * config.rho ** torch.arange(config.horizon, device=alive.device)
        y = super().constants(batch, draws)["y"]
        error = (self.q("critics", z, batch.action) - y[:, None]).abs().sum(1)
        self.errors.copy_((error.unflatten(1, (-1, config.horizon)) * steps).sum(-1))
        q = self.target_value(z, batch.action, draws)
        return {
            "z": z,
            "y": y,
            "q": q,
            "next_z": self._latent(SLOW_ENCODER, batch.next_obs),
            "log_weight": config.beta * (q - self.v(z)),
            "steps": steps.flatten(1),
            "weight": (steps * batch.columns[WEIGHT][..., None]).flatten(1),
        }

    def world_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the weighted sum of all errors, and each of them, (5, seeds)."""
        config, windows = self.config, self.config.batch_size
        encoder, dynamics, reward, critics, value = self.parted(WORLD, flat)
        z, after = self.along(batch, encoder, dynamics)
        q = self.q("critics", z, batch.action, critics)
        errors = [
            (after - constants["next_z"]).square().mean(-1),
            (self.reward(z, batch.action, reward) - batch.reward).square(),
            (q - constants["y"][:, None]).square().sum(1),
            expectile_error(constants["q"] - self.v(z.detach(), value), config.expectile),
        ]
        means = torch.stack([(constants["weight"] * error).sum(-1) / windows for error in errors])
        weights = (config.consistency_weight, config.reward_weight, config.value_weight, config.value_weight)
        total = sum(weight * mean for weight, mean in zip(weights, means, strict=True))
        return torch.cat([(total / config.horizon)[None], means])

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the weighted squared distance from the data's actions, and the mean weight, (2, seeds)."""
        weight = constants["log_weight"].exp().clamp(max=MOST_WEIGHT)
        distance = 0.5 * (self.proposed(constants["z"], flat) - batch.action).square().sum(-1)
        loss = (constants["steps"] * weight * distance).sum(-1) / self.config.batch_size
        return torch.stack([loss, weight.mean(-1)])
