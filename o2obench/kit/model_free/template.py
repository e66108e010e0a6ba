"""The template of the model-free family: parts that are learnt, in order, from one batch.

A part is a stack of networks (or a plain parameter) with an optimiser and a loss; ``order`` names the parts
of an update. Its defaults are SAC. An algorithm changes what differs, by one of these verbs:

- ``stages``: the parts of its training, in order (``Offline`` and ``Online`` are the two usual ones);
- ``policy_of``, ``networks``: what its actor's outputs mean, and which networks there are;
- ``draws``: the random numbers of an update;
- ``next_value``: what the critics bootstrap from, and ``constants``: what an update computes once, before any
  part moves;
- ``critics_loss``, ``actor_loss`` and a method ``NAME_loss`` for each part of its own;
- ``batches``: the transitions of an update; ``explore``: how it acts to collect data;
- ``rates``: learning rates over time.

Observations and rewards pass through one affine map (``maps``) that belongs to the pretraining and is handed
over with its networks, targets and optimisers' moments: who learns on goes on with all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...agent import Agent, Budget, Metrics, Network, Stage, State, Task, stack_seeds
from ...transitions import Array, Transitions
from ...util.rng import Stream
from ...util.timers import timed
from ..compile import Repeat, compiled
from ..networks import Adam, Mlp, gradients, to_array
from ..policies import Policy, TanhGaussian
from ..replay import Batch, Replay
from ..rng import Streams
from .config import OfflineConfig, OffPolicyConfig, OnlineConfig

VERSION = 1
"""Raise it whenever the numbers that the template computes change."""

TURN = 100
"""Updates between two chances to evaluate, save or stop."""
REPORT_EVERY = 500
"""Updates between two readings of the losses from the device."""

MOST_WEIGHT = 100.0

Values = dict[str, Tensor]
Draw = tuple[Literal["normal", "uniform"], tuple[int, ...]]
"""Kind and shape of random numbers, without the seeds; uniform ones lie in [-1, 1), where actions lie."""
ACTIONS, NEXT_ACTIONS = "policy actions", "next actions"
"""Purposes of random numbers of algorithms that draw the two apart."""
C = TypeVar("C", bound=OffPolicyConfig)


class OffPolicy(Agent[C], Generic[C]):
    """State and work of the family; see the module's first lines for what an algorithm may change."""

    kit_versions: ClassVar[Mapping[str, int]] = {"model_free": VERSION}
    provides: ClassVar[tuple[str, ...]] = ("actor", "critics")
    order: ClassVar[tuple[str, ...]] = ("critics", "actor", "alpha")
    """The parts of an update: each takes its step before the next computes its loss."""
    entropy_in_target: ClassVar[bool] = True
    """Whether the next value counts the policy's entropy."""
    metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "critics": ("critics/loss", "critics/q"),
        "actor": ("actor/loss", "actor/log_prob"),
        "alpha": ("alpha/loss", "alpha/alpha"),
    }
    """What the losses of a part return, by name: the loss first."""

    def __init__(self, task: Task, config: C, data: Transitions) -> None:
        super().__init__(task, config, data)
        seeds, device, dims = task.seeds, task.device, (task.obs_dim, task.act_dim)
        self.streams = Streams(seeds, device)
        self.policy_kind = self.policy_of(task.act_dim)
        self.nets = self.networks()
        self.parameters = {name: net.flat for name, net in self.nets.items()}
        self.parameters["alpha"] = torch.zeros(len(seeds), device=device)
        self.adams = {name: Adam([self.parameters[name]]) for name in self.order}
        self.maps = {
            "obs_mean": torch.zeros((len(seeds), 1, task.obs_dim), device=device),
            "obs_std": torch.ones((len(seeds), 1, task.obs_dim), device=device),
            "reward_scale": torch.ones((len(seeds), 1), device=device),
            "reward_shift": torch.zeros((len(seeds), 1), device=device),
        }
        self.replay = Replay(data, len(seeds), dims, self._env_steps(), 0, device)
        self.losses = torch.zeros((len(self._metric_names()), len(seeds)), device=device)
        """Sums over updates since they were last read."""
        self.updates = self.due = 0
        self._update, self._repeat = compiled(self.update), Repeat(self._one)

    # ---- the verbs ------------------------------------------------------------------------------------

    def policy_of(self, act_dim: int) -> Policy:
        """Return what the actor's outputs mean."""
        return TanhGaussian(act_dim)

    def networks(self) -> dict[str, Mlp]:
        """Return the networks by name; those called ``targets`` follow ``critics`` after every update."""
        obs_dim, act_dim = self.task.obs_dim, self.task.act_dim
        return {
            "actor": self.new_actor(),
            "critics": self.mlp(Stream.CRITICS, (2,), obs_dim + act_dim, 1),
            "targets": self.mlp(Stream.CRITICS, (2,), obs_dim + act_dim, 1),
        }

    def draws(self) -> dict[str, Draw]:
        """Return the random numbers of an update, purpose -> kind and shape: for actions now and next."""
        return {Stream.SAC_NOISE: ("normal", (2, self.config.batch_size, self.task.act_dim))}

    def action_noise(self, draws: Values) -> tuple[Tensor, Tensor]:
        """Return the noise of the policy's actions at observations and at next observations."""
        return draws[Stream.SAC_NOISE][:, 0], draws[Stream.SAC_NOISE][:, 1]

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return ``y`` = r + gamma (1 - terminated) x the next value, (seeds, batch)."""
        value = self.next_value(batch, draws)
        return {"y": batch.reward + self.config.gamma * (1.0 - batch.terminated) * value}

    def next_value(self, batch: Batch, draws: Values) -> Tensor:
        """Return min Q' at an action of the policy, less alpha log pi if entropy counts, (seeds, batch)."""
        action, log_prob = self.sample(batch.next_obs, self.action_noise(draws)[1])
        value = self.q("targets", batch.next_obs, action).amin(1)
        return value - self.alpha()[:, None] * log_prob if self.entropy_in_target else value

    def critics_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the squared error to ``y``, summed over critics, and the mean value, (2, seeds)."""
        q = self.q("critics", batch.obs, batch.action, flat)
        loss = (q - constants["y"][:, None]).square().mean(-1).sum(-1)
        return torch.stack([loss, q.mean((1, 2))])

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the means of alpha log pi - min Q at actions of the policy, and of log pi, (2, seeds)."""
        action, log_prob = self.sample(batch.obs, self.action_noise(draws)[0], flat)
        loss = (self.alpha()[:, None] * log_prob - self.q("critics", batch.obs, action).amin(1)).mean(-1)
        return torch.stack([loss, log_prob.mean(-1)])

    def alpha_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return -log alpha (log pi + target entropy), and alpha, (2, seeds); log pi is the actor loss's."""
        loss = -flat * (constants["actor"][1] - self.task.act_dim)
        return torch.stack([loss, self.alpha()])

    def batches(self, updates: int) -> Tensor:
        """Return row numbers of batches, (seeds, updates, batch): offline ones before there are others."""
        uniform = self.streams.uniform(Stream.REAL_BATCH, updates, self.config.batch_size)
        mix = self.config.replay_data if isinstance(self.config, OnlineConfig) else 1.0
        if mix == "online":
            return self.replay.online_index(uniform)
        if mix == "union":
            row = (uniform * (self.replay.offline + self.replay.online)).long()
            online = row - self.replay.offline + self.replay.online_base[:, None, None]
            return torch.where(row < self.replay.offline, row, online)
        count = int(float(mix) * self.config.batch_size)
        parts = uniform.split([count, self.config.batch_size - count], -1)
        return torch.cat([self.replay.offline_index(parts[0]), self.replay.online_index(parts[1])], -1)

    def explore(self, obs: Tensor) -> Tensor:
        """Return the actions with which data are collected: a sample of the policy."""
        noise = self.streams.normal(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim)
        return self.sample(obs, noise)[0]

    def rates(self, update: int) -> dict[str, float]:
        """Return the learning rate of each part after ``update`` updates."""
        actor, critic = self.config.actor_lr, self.config.critic_lr
        return {name: actor if name in ("actor", "alpha") else critic for name in self.order}

    # ---- what losses are made of ------------------------------------------------------------------------

    def mlp(self, name: str, members: tuple[int, ...], inputs: int, outputs: int, free: int = 0) -> Mlp:
        """Return networks of the family's widths."""
        sizes = (inputs, *self.config.hidden_dims, outputs)
        return Mlp(name, self.task.seeds, members, sizes, torch.relu, self.task.device, free=free)

    def new_actor(self) -> Mlp:
        """Return an actor with the outputs that its policy needs."""
        policy = self.policy_kind
        return self.mlp(Stream.ACTOR, (), self.task.obs_dim, policy.outputs, policy.free)

    def sample(self, obs: Tensor, noise: Tensor, flat: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return actions of the policy and their log densities, with actor parameters ``flat`` if given."""
        return self.policy_kind.sample(self.policy_kind.distribution(self.nets["actor"], obs, flat), noise)

    def q(self, name: str, obs: Tensor, action: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return the values of all critics (or targets), (seeds, critics, batch)."""
        return self.nets[name](torch.cat([obs, action], -1).unsqueeze(1), flat).squeeze(-1)

    def log_prob(self, batch: Batch, flat: Tensor | None = None) -> Tensor:
        """Return the log densities of the batch's actions, (seeds, batch)."""
        of = self.policy_kind.distribution(self.nets["actor"], batch.obs, flat)
        return self.policy_kind.log_prob(of, batch.action)

    def weighted_regression(self, flat: Tensor, batch: Batch, log_weight: Tensor) -> Tensor:
        """Return the mean of -weight x log pi of the batch's actions, and that of the weight, (2, seeds).

        Weights are exp(``log_weight``) (seeds, batch), at most 100, as released codes have it.
        """
        weight = log_weight.exp().clamp(max=MOST_WEIGHT)
        return torch.stack([-(weight * self.log_prob(batch, flat)).mean(-1), weight.mean(-1)])

    def alpha(self) -> Tensor:
        """Return the temperature of each seed."""
        return self.parameters["alpha"].exp()

    def mapped(self, batch: Batch) -> Batch:
        """Return a batch with observations and rewards as the networks know them."""
        obs, next_obs = (self._standard(x) for x in (batch.obs, batch.next_obs))
        reward = batch.reward * self.maps["reward_scale"] + self.maps["reward_shift"]
        return batch._replace(obs=obs, next_obs=next_obs, reward=reward)

    def _standard(self, obs: Tensor) -> Tensor:
        return (obs - self.maps["obs_mean"]) / self.maps["obs_std"]

    # ---- an update --------------------------------------------------------------------------------------

    def update(self, batch: Batch, scales: Tensor, *drawn: Tensor) -> Tensor:
        """Do one update: a function of this object's tensors, a batch, step sizes and random numbers.

        ``scales`` is (parts, seeds, 2), what Adam's schedules say. Returns all metrics (n, seeds).
        """
        batch, draws, reports = (
            self.mapped(batch),
            dict(zip(self.draws(), drawn, strict=True)),
            list[Tensor](),
        )
        constants = self.constants(batch, draws)
        for i, name in enumerate(self.order):
            of_part = getattr(self, f"{name}_loss")

            def loss(flat: Tensor, of_part: Any = of_part) -> tuple[Tensor, Tensor]:
                values = of_part(flat, batch, draws, constants)
                return values[0].sum(), values

            steps, values = gradients(loss, [self.parameters[name]])
            self.adams[name].step(steps, scales[i])
            constants[name] = values.detach()
            reports.append(values)
        if "targets" in self.nets:
            self.nets["targets"].follow(self.nets["critics"], self.config.tau)
        return torch.cat(reports)

    def _one(self, replay: Replay, index: Tensor, scales: Tensor, *drawn: Tensor) -> None:
        self.losses += self._update(replay.take(index), scales, *drawn)

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do the updates that are due, those of a stage without the environment among them."""
        while self.due:
            turn = min(TURN - self.updates % TURN, self.due)
            rates = [self.rates(self.updates + k) for k in range(turn)]
            with timed("update"):
                drawn = [self._draw(purpose, turn, *draw) for purpose, draw in self.draws().items()]
                scales = [self.adams[name].schedule([rate[name] for rate in rates]) for name in self.order]
                self._repeat(self.replay, self.batches(turn).movedim(1, 0), torch.stack(scales, 1), *drawn)
            self.updates, self.due = self.updates + turn, self.due - turn
            if self.updates % REPORT_EVERY == 0:
                yield self._report()
            elif self.updates % TURN == 0:
                yield {}

    def _draw(self, purpose: str, updates: int, kind: str, shape: tuple[int, ...]) -> Tensor:
        if kind == "normal":
            return self.streams.normal(purpose, updates, *shape).movedim(1, 0)
        return (2.0 * self.streams.uniform(purpose, updates, *shape) - 1.0).float().movedim(1, 0)

    def _report(self) -> Metrics:
        means = to_array(self.losses / REPORT_EVERY)
        self.losses.zero_()
        return dict(zip(self._metric_names(), means, strict=True))

    def _metric_names(self) -> list[str]:
        return [name for part in self.order for name in self.metrics[part]]

    # ---- the agent interface ----------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, obs: Array, explore: bool) -> Array:
        """Return the mode of the policy, or an action to explore with."""
        tensor = torch.from_numpy(np.ascontiguousarray(obs, np.float32)).to(self.task.device)
        standard = self._standard(tensor)
        if explore:
            return to_array(self.explore(standard))
        return to_array(self.policy_kind.mode(self.policy_kind.distribution(self.nets["actor"], standard)))

    def policy(self) -> State:
        """Return the actor and the map of observations."""
        return {"actor": self.nets["actor"].state_dict(), "maps": self._maps()}

    def load_policy(self, policy: State) -> None:
        """Take an actor over."""
        self.nets["actor"].load_state_dict(policy["actor"])
        self._load_maps(policy["maps"])

    def network(self) -> Network | None:
        """Return the mode as plain arrays of raw observations: their map goes into the first layer."""
        network = self.policy_kind.network(self.nets["actor"])
        if network is None:
            return None
        (weight, bias), *rest = network.layers
        mean, std = (to_array(self.maps[name]) for name in ("obs_mean", "obs_std"))
        first = weight / std.swapaxes(1, 2)
        return Network([(first, bias - (mean @ first)[:, 0]), *rest], network.activation, network.squash)

    def warm_start(self, states: Sequence[State]) -> None:
        """Go on from pretrained states: networks, targets, moments and the map of the data."""
        self._load_learners(stack_seeds(states))

    def pretrained_state(self) -> State:
        """Return networks, targets, moments and the map of the data."""
        return {
            "nets": {name: net.state_dict() for name, net in self.nets.items()},
            "alpha": to_array(self.parameters["alpha"]),
            "adams": {name: adam.state_dict() for name, adam in self.adams.items()},
            "maps": self._maps(),
            "updates": self.updates,
        }

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        return {
            **self.pretrained_state(),
            "losses": to_array(self.losses.T),
            "replay": self.replay.state_dict(),
            "streams": self.streams.state_dict(),
            "due": self.due,
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        self._load_learners(state)
        self.losses.copy_(torch.from_numpy(state["losses"]).T)
        self.replay.load_state_dict(state["replay"])
        self.streams.load_state_dict(state["streams"])
        self.updates, self.due = state["updates"], state["due"]

    def _load_learners(self, state: State) -> None:
        self._load_maps(state["maps"])
        for name, net in self.nets.items():
            net.load_state_dict(state["nets"][name])
        self.parameters["alpha"].copy_(torch.from_numpy(state["alpha"]))
        for name, adam in self.adams.items():
            adam.load_state_dict(state["adams"][name])

    def _maps(self) -> State:
        return {name: to_array(tensor) for name, tensor in self.maps.items()}

    def _load_maps(self, state: State) -> None:
        for name, tensor in self.maps.items():
            tensor.copy_(torch.from_numpy(state[name]))

    def _env_steps(self) -> int:
        return sum(stage.env_steps for stage in self.stages(self.config, self.task.budget))


F = TypeVar("F", bound=OfflineConfig)


class Offline(OffPolicy[F], Generic[F]):
    """Training from data alone: one stage, and the maps that the data ask for."""

    def __init__(self, task: Task, config: F, data: Transitions) -> None:
        super().__init__(task, config, data)
        if len(data):
            self._fit_maps(data)

    @classmethod
    def stages(cls, config: F, budget: Budget) -> tuple[Stage, ...]:
        """Train for the offline budget."""
        return (Stage("offline", updates=budget.offline_updates),)

    def begin(self, stage: str) -> None:
        """Order all updates."""
        self.due = self.task.budget.offline_updates

    def observe(self, step: Transitions) -> None:
        """Refuse: this stage has no environment."""
        raise TypeError(f"{type(self).__name__} is trained without the environment")

    def _fit_maps(self, data: Transitions) -> None:
        """Set the maps of observations and rewards from the offline data."""
        config = self.config
        if config.normalize_obs:
            self.maps["obs_mean"].copy_(torch.from_numpy(data.obs.mean(0, dtype=np.float64)))
            self.maps["obs_std"].copy_(torch.from_numpy(data.obs.std(0, dtype=np.float64) + 1e-3))
        if config.normalize_reward:
            returns = np.add.reduceat(data.reward.astype(np.float64), np.flatnonzero(data.episode_start))
            self.maps["reward_scale"].fill_(1000.0 / max(float(np.ptp(returns)), 1e-6))
        self.maps["reward_shift"].fill_(config.reward_shift)


D = TypeVar("D", bound=OnlineConfig)


class Online(OffPolicy[D], Generic[D]):
    """Learning with the environment: ``utd_ratio`` updates a step after ``learning_starts`` steps."""

    @classmethod
    def stages(cls, config: D, budget: Budget) -> tuple[Stage, ...]:
        """Learn with the environment from the first step on."""
        steps = budget.online_steps
        return (Stage("fine-tune", steps, config.utd_ratio * max(0, steps - config.learning_starts)),)

    @classmethod
    def schedule(cls, config: D) -> Mapping[str, int]:
        """Return when learning starts, and the updates per environment step."""
        return {"learning_starts": config.learning_starts, "utd_ratio": config.utd_ratio}

    def observe(self, step: Transitions) -> None:
        """Store the step."""
        self.replay.append(step)
        if self.replay.online > self.config.learning_starts:
            self.due = self.config.utd_ratio
