"""The template of the model-free family: parts that are learnt, in order, from one batch.

A part is a stack of networks (or a plain parameter) with an optimiser and a loss; ``order`` names the parts
of an update. Its defaults are SAC. An algorithm changes what differs, by one of these verbs:

- ``stages``: the parts of its training, in order (``Offline`` and ``Online`` are the two usual ones);
- ``policy_of``, ``networks``, ``scalars``: what its actor's outputs mean, which networks and plain parameters
  there are; ``followers``: which networks trail which;
- ``joint``: parts that train several networks as one; ``every``: the parts and followers that move in every
  k-th update only; ``parts_of``: those that learn in a stage;
- ``columns``: what it keeps of a transition beside the transition;
- ``draws``: the random numbers of an update;
- ``next_value``: what the critics bootstrap from, and ``constants``: what an update computes once, before any
  part moves;
- ``critics_loss``, ``actor_loss`` and a method ``NAME_loss`` for each part of its own;
- ``batches``: the transitions of an update; ``explore`` and ``judge``: how it acts to collect data and to be
  evaluated, and ``judged``, the networks that the latter needs;
- ``rates``: learning rates over time; ``over_time``: other constants that change while it learns online.

Observations and rewards pass through one affine map (``maps``) that belongs to the pretraining and is handed
over with its networks, targets and optimisers' moments: who learns on goes on with all of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...agent import Agent, Budget, Metrics, Network, Stage, State, Task, stack_seeds
from ...transitions import Array, Transitions, episode_returns
from ...util.rng import Stream
from ...util.timers import timed
from .. import hand_over
from ..compile import Repeat, compiled
from ..networks import (
    Adam,
    Initialiser,
    Mlp,
    Norm,
    gradients,
    orthogonal_init,
    to_array,
    uniform_init,
    xavier_init,
)
from ..policies import Policy, TanhGaussian
from ..replay import Batch, Replay
from ..rng import Streams
from .config import MapOptions, OfflineConfig, OffPolicyConfig

VERSION = 1
"""Raise it whenever the numbers that the template computes change."""

TURN = 100
"""Updates between two chances to evaluate, save or stop; whole groups of updates fit in."""
REPORT_EVERY = 500
"""Updates between two readings of the losses from the device."""

MOST_WEIGHT = 100.0

Values = dict[str, Tensor]
Draw = tuple[Literal["normal", "uniform"], tuple[int, ...]]
"""Kind and shape of random numbers, without the seeds; uniform ones lie in [-1, 1), where actions lie."""
ACTIONS, NEXT_ACTIONS = "policy actions", "next actions"
SUBSET, CANDIDATES = "critics of the target", "candidate actions"
"""Purposes of random numbers."""
INITS = {"uniform": uniform_init, "orthogonal": orthogonal_init, "xavier": xavier_init}
C = TypeVar("C", bound=OffPolicyConfig)


class OffPolicy(Agent[C], Generic[C]):
    """State and work of the family; see the module's first lines for what an algorithm may change."""

    kit_versions: ClassVar[Mapping[str, int]] = {"model_free": VERSION}
    provides: ClassVar[tuple[str, ...]] = ("actor", "critics")
    order: tuple[str, ...] = ("critics", "actor", "alpha")
    """The parts of an update: each takes its step before the next computes its loss."""
    followers: ClassVar[Mapping[str, str]] = {"targets": "critics"}
    """Networks that move by the share ``tau`` towards another after an update."""
    joint: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Parts that train several networks as one, and which: their parameters lie in one tensor."""
    entropy_in_target: bool = True
    """Whether the next value counts the policy's entropy."""
    takes_parts: ClassVar[bool] = False
    """Whether it takes over those parts of a pretraining that fit, whatever the others are."""
    judged: ClassVar[tuple[str, ...]] = ("actor",)
    """The networks that decide an action in an evaluation."""
    norm_place: ClassVar[Norm] = "before"
    """Where networks with norms have them: before the activation or after it."""
    heads: ClassVar[Mapping[str, Initialiser]] = {}
    """First weights of the last layers, by the networks' names, where they are not those of ``init``."""
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
        self.parameters = {name: self._joined(members) for name, members in self.joint.items()}
        self.parameters |= {name: net.flat for name, net in self.nets.items()}
        for name, value in self.scalars().items():
            self.parameters[name] = torch.full((len(seeds),), value, device=device)
        self.adams = {name: Adam([self.parameters[name]]) for name in self.order}
        self.maps = {
            "obs_mean": torch.zeros((len(seeds), 1, task.obs_dim), device=device),
            "obs_std": torch.ones((len(seeds), 1, task.obs_dim), device=device),
            "reward_scale": torch.ones((len(seeds), 1), device=device),
            "reward_shift": torch.zeros((len(seeds), 1), device=device),
        }
        self.replay = Replay(
            data, len(seeds), dims, self._env_steps(), 0, device, self.extra_rows(), self.columns(data)
        )
        self.losses = torch.zeros((len(self._metric_names()), len(seeds)), device=device)
        """Sums over updates since they were last read."""
        self.updates = self.clock = self.due = self.first = self.read = 0
        """Those of the policy; of any part: all, those due, before this stage, when losses were read."""
        self.stage = ""
        self.period = math.lcm(*self.every().values())
        self._update, self._repeat = functools.cache(self._compiled), Repeat(self._one)

    # ---- the verbs ------------------------------------------------------------------------------------

    def policy_of(self, act_dim: int) -> Policy:
        """Return what the actor's outputs mean."""
        return TanhGaussian(act_dim)

    def networks(self) -> dict[str, Mlp]:
        """Return the networks by name."""
        return {"actor": self.new_actor(), "critics": self.new_critics(), "targets": self.new_critics()}

    def scalars(self) -> dict[str, float]:
        """Return the plain parameters of each seed and their first values: the logarithm of alpha."""
        return {"alpha": 0.0}

    def every(self) -> dict[str, int]:
        """Return the parts and followers that move in every k-th update of a stage only."""
        return {}

    def most_norm(self, name: str) -> float | None:
        """Return the largest norm of a part's gradient, where a longer one is shortened."""
        return None

    def widely(self) -> Sequence[str]:
        """Return the parts that learn from the rows behind a batch, where there are any: delayed ones."""
        return tuple(self.every())

    def parts_of(self, stage: str) -> Sequence[str]:
        """Return the parts that learn in a stage."""
        return self.order

    def columns(self, data: Transitions) -> dict[str, Array]:
        """Return the columns of its own for the offline transitions, (rows,) or (rows, width) each."""
        return {}

    def extra_rows(self) -> int:
        """Return how many transitions it makes itself, for each seed."""
        return 0

    def draws(self) -> dict[str, Draw]:
        """Return the random numbers of an update, purpose -> kind and shape: for actions next and now."""
        shape = (self.config.batch_size, self.task.act_dim)
        draws: dict[str, Draw] = {NEXT_ACTIONS: ("normal", shape), ACTIONS: ("normal", shape)}
        config = self.config
        if config.target_critics:
            numbers = config.target_critics if config.target_replacement else config.num_critics
            draws[SUBSET] = ("uniform", (numbers,))
        return draws

    def constants(self, batch: Batch, draws: Values) -> Values:
        """Return ``y`` = r + gamma (1 - terminated) x the next value, (seeds, batch)."""
        value = self.next_value(batch, draws)
        return {"y": batch.reward + self.config.gamma * (1.0 - batch.terminated) * value}

    def next_value(self, batch: Batch, draws: Values) -> Tensor:
        """Return min Q' at an action of the policy, less alpha log pi if entropy counts, (seeds, batch)."""
        action, log_prob = self.sample(batch.next_obs, draws[NEXT_ACTIONS])
        value = self.target_value(batch.next_obs, action, draws)
        return value - self.alpha()[:, None] * log_prob if self.entropy_in_target else value

    def critics_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the squared error to ``y``, summed over critics, and the mean value, (2, seeds)."""
        q = self.q("critics", batch.obs, batch.action, flat)
        loss = (q - constants["y"][:, None]).square().mean(-1).sum(-1)
        return torch.stack([loss, q.mean((1, 2))])

    def actor_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return the means of alpha log pi - Q at actions of the policy, and of log pi, (2, seeds)."""
        action, log_prob = self.sample(batch.obs, draws[ACTIONS], flat)
        value = self.actor_value(self.q("critics", batch.obs, action))
        return torch.stack([(self.alpha()[:, None] * log_prob - value).mean(-1), log_prob.mean(-1)])

    def actor_value(self, q: Tensor) -> Tensor:
        """Return what the actor climbs, (seeds, batch), of all critics' values: the least."""
        return q.amin(1)

    def alpha_loss(self, flat: Tensor, batch: Batch, draws: Values, constants: Values) -> Tensor:
        """Return -log alpha (log pi + target entropy), and alpha, (2, seeds); log pi is the actor loss's."""
        loss = -flat * (constants["actor"][1] + self.target_entropy())
        return torch.stack([loss, self.alpha()])

    def target_entropy(self) -> float:
        """Return the entropy that alpha is learnt for: minus the number of action components."""
        return -float(self.task.act_dim)

    def batches(self, updates: int) -> Tensor:
        """Return row numbers of batches, (seeds, updates, batch): uniform over the offline transitions."""
        uniform = self.streams.uniform(Stream.REAL_BATCH, updates, self.config.batch_size)
        return self.replay.offline_index(uniform)

    def explore(self, obs: Tensor) -> Tensor:
        """Return the actions with which data are collected: a sample of the policy."""
        return self.policy_action(obs)

    def judge(self, obs: Tensor) -> Tensor:
        """Return the actions that are evaluated: the mode of the policy."""
        return self.policy_kind.mode(
            self.policy_kind.distribution(self.nets["actor"], self.actor_inputs(obs))
        )

    def actor_inputs(self, obs: Tensor) -> Tensor:
        """Return what the actor takes where it acts at observations, (seeds, n, inputs)."""
        return obs

    def policy_action(self, obs: Tensor) -> Tensor:
        """Return a sample of the policy at observations as the networks know them."""
        noise = self.streams.normal(Stream.EXPLORATION, *obs.shape[1:-1], self.task.act_dim)
        return self.sample(self.actor_inputs(obs), noise)[0]

    def pace(self, name: str) -> float:
        """Return the share by which a follower moves towards its leader."""
        return self.config.tau

    def candidates(self, obs: Tensor, many: int) -> tuple[Tensor, Tensor]:
        """Return each of the observations ``many`` times, and a sample of the policy for each of them.

        Both are (seeds, n many, ..) for (seeds, n, ..); those of one observation stand together.
        """
        repeated = obs.repeat_interleave(many, 1)
        noise = self.streams.normal(CANDIDATES, *repeated.shape[1:-1], self.task.act_dim)
        return repeated, self.sample(repeated, noise)[0]

    def rates(self, update: int) -> dict[str, float]:
        """Return the learning rate of each part after ``update`` updates."""
        actor, critic = self.config.actor_lr, self.config.critic_lr
        return {name: actor if name in ("actor", "alpha") else critic for name in self.order}

    # ---- what losses are made of ------------------------------------------------------------------------

    def mlp(
        self,
        name: str,
        members: tuple[int, ...],
        inputs: int,
        outputs: int,
        free: int = 0,
        hidden: tuple[int, ...] | None = None,
        critic: bool = False,
    ) -> Mlp:
        """Return networks of the family's widths (unless ``hidden`` is given), first weights and norms."""
        of_critics = self.config.critic_hidden_dims or self.config.hidden_dims
        widths = hidden or (of_critics if critic else self.config.hidden_dims)
        normed = ("critics", "all") if critic else ("all",)
        return Mlp(
            name,
            self.task.seeds,
            members,
            (inputs, *widths, outputs),
            self.activation,
            self.task.device,
            init=INITS[self.config.init],
            head=self.heads.get(name),
            norm=self.norm_place if self.config.layer_norm in normed else None,
            free=free,
        )

    def _joined(self, names: Sequence[str]) -> Tensor:
        """Return one tensor of the parameters of networks, which become views of it."""
        nets = [self.nets[name] for name in names]
        whole = torch.cat([net.flat.flatten(1) for net in nets], -1)
        sizes = [net.flat[0].numel() for net in nets]
        for net, part in zip(nets, whole.split(sizes, -1), strict=True):
            net.flat = part.unflatten(-1, net.flat.shape[1:])
        return whole

    def parted(self, name: str, flat: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the parameters of each network of a joint part, as views of ``flat`` where it is given."""
        shapes = [self.nets[member].flat.shape[1:] for member in self.joint[name]]
        if flat is None:
            return (None,) * len(shapes)
        parts = flat.split([shape.numel() for shape in shapes], -1)
        return tuple(part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True))

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        """Return what stands between the layers of all networks, of their outputs."""
        return torch.relu(x)

    def new_critics(self) -> Mlp:
        """Return critics in their first state; targets begin there, too."""
        inputs = self.task.obs_dim + self.task.act_dim
        return self.mlp(Stream.CRITICS, (self.config.num_critics,), inputs, 1, critic=True)

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

    def target_value(self, obs: Tensor, action: Tensor, draws: Values) -> Tensor:
        """Return the least value of the targets, or of their drawn subset, (seeds, batch)."""
        if not self.config.target_critics:
            return self.q("targets", obs, action).amin(1)
        if self.config.target_replacement:
            most = self.config.num_critics - 1
            drawn = (0.5 * (draws[SUBSET] + 1.0) * self.config.num_critics).long().clamp(max=most)
        else:
            drawn = draws[SUBSET].argsort(-1)[:, : self.config.target_critics]
        targets = self.nets["targets"].flat
        chosen = targets.gather(1, drawn[..., None].expand(-1, -1, targets.shape[-1]))
        return self.q("targets", obs, action, chosen).amin(1)

    def log_prob(self, batch: Batch, flat: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the log densities of the batch's actions, (seeds, batch), with a dropout mask if given."""
        of = self.policy_kind.distribution(self.nets["actor"], batch.obs, flat, mask)
        return self.policy_kind.log_prob(of, batch.action)

    def weighted_regression(
        self, flat: Tensor, batch: Batch, log_weight: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return the mean of -weight x log pi of the batch's actions, and that of the weight, (2, seeds).

        Weights are exp(``log_weight``) (seeds, batch), at most 100, as released codes have it.
        """
        weight = log_weight.exp().clamp(max=MOST_WEIGHT)
        return torch.stack([-(weight * self.log_prob(batch, flat, mask)).mean(-1), weight.mean(-1)])

    def alpha(self) -> Tensor:
        """Return the temperature of each seed."""
        return self.parameters["alpha"].exp()

    def mapped(self, batch: Batch) -> Batch:
        """Return a batch with observations and rewards as the networks know them."""
        obs, next_obs = (self._standard(x) for x in (batch.obs, batch.next_obs))
        reward = batch.reward * self.maps["reward_scale"] + self.maps["reward_shift"]
        return batch._replace(obs=obs, next_obs=next_obs, reward=reward)

    def observed(self, obs: Array) -> Tensor:
        """Return raw observations (seeds, n, obs_dim) as the networks know them."""
        tensor = torch.from_numpy(np.ascontiguousarray(obs, np.float32)).to(self.task.device)
        return self._standard(tensor)

    def _standard(self, obs: Tensor) -> Tensor:
        return (obs - self.maps["obs_mean"]) / self.maps["obs_std"]

    # ---- an update --------------------------------------------------------------------------------------

    def update(
        self, moving: Sequence[str], batch: Batch, wide: Batch | None, scales: Tensor, *drawn: Tensor
    ) -> Tensor:
        """Do one update: a function of this object's tensors, a batch, step sizes and random numbers.

        ``moving`` names the parts and followers that take their step, ``scales`` is (parts, seeds, 2), what
        Adam's schedules say; those of ``widely`` learn from ``wide`` where it is given. Returns all metrics
        (n, seeds), zeros for parts that rest.
        """
        batch = self.mapped(batch)
        reports: list[Tensor] = []  # (torch's compiler does not follow list[Tensor]())
        draws = dict(zip(self.draws(), drawn, strict=True))
        wide = batch if wide is None else self.mapped(wide)
        constants = self.constants(batch, draws)
        for i, name in enumerate(self.order):
            if name not in moving:
                reports.append(torch.zeros_like(self.losses[: len(self.metrics[name])]))
                continue
            of_part = getattr(self, f"{name}_loss")
            of_batch = wide if name in self.widely() else batch

            def loss(flat: Tensor, of_part: Any = of_part, rows: Batch = of_batch) -> tuple[Tensor, Tensor]:
                values = of_part(flat, rows, draws, constants)
                return values[0].sum(), values

            steps, values = gradients(loss, [self.parameters[name]])
            if most := self.most_norm(name):
                steps = tuple(shortened(step, most) for step in steps)
            self.adams[name].step(steps, scales[i])
            constants[name] = values.detach()
            reports.append(values)
        for name, leader in self.followers.items():
            if name in moving and name in self.nets:
                self.nets[name].follow(self.nets[leader], self.pace(name))
        return torch.cat(reports)

    def _compiled(self, moving: tuple[str, ...]) -> Callable[..., Tensor]:
        def update(batch: Batch, wide: Batch | None, scales: Tensor, *drawn: Tensor) -> Tensor:
            return self.update(moving, batch, wide, scales, *drawn)

        return compiled(update)

    def _one(
        self, moving: tuple[str, ...], replay: Replay, index: Tensor, scales: Tensor, *drawn: Tensor
    ) -> None:
        rows, wide = self.config.batch_size, None
        if index.shape[-1] > rows and not set(self.widely()).isdisjoint(moving):
            wide = replay.take(index[:, rows:])
        self.losses += self._update(moving)(replay.take(index[:, :rows]), wide, scales, *drawn)

    def work(self, stage: str) -> Iterator[Metrics]:
        """Do the updates that are due, those of a stage without the environment among them."""
        while self.due:
            turn = min(TURN - TURN % self.period or self.period, self.due)
            clock = range(self.clock - self.first + 1, self.clock - self.first + turn + 1)
            moving = [self._moving(stage, number) for number in clock]
            with timed("update"):
                drawn = [self.draw(purpose, turn, *draw) for purpose, draw in self.draws().items()]
                index = self.row_numbers(turn).movedim(1, 0)
                self._repeat(self.replay, index, self._scales(moving), *drawn, kinds=moving)
            before, self.clock, self.due = self.clock, self.clock + turn, self.due - turn
            if "actor" in self.parts_of(stage):
                self.updates += turn
            if self.clock // REPORT_EVERY > before // REPORT_EVERY:
                yield self._report()
            elif self.clock // TURN > before // TURN:
                yield {}

    def row_numbers(self, updates: int) -> Tensor:
        """Return the row numbers that an update reads, (seeds, updates, n); those of ``wide`` come last."""
        return self.batches(updates)

    def _moving(self, stage: str, number: int) -> tuple[str, ...]:
        """Return what takes its step in the ``number``-th update of a stage."""
        every, parts = self.every(), self.parts_of(stage)
        learning = {member for part in parts for member in self.joint.get(part, (part,))}
        names = [*parts, *(name for name, leader in self.followers.items() if leader in learning)]
        return tuple(name for name in names if number % every.get(name, 1) == 0)

    def _scales(self, moving: Sequence[tuple[str, ...]]) -> Tensor:
        """Count the next steps of all optimisers; return what they need, (updates, parts, seeds, 2)."""
        rates = [self.rates(self.clock + k) for k in range(len(moving))]
        shape = (len(moving), len(self.order), len(self.task.seeds), 2)
        scales = torch.zeros(shape, device=self.task.device)
        for i, name in enumerate(self.order):
            when = [k for k, names in enumerate(moving) if name in names]
            if when:
                scales[when, i] = self.adams[name].schedule([rates[k][name] for k in when])
        return scales

    def draw(self, purpose: str, updates: int, kind: str, shape: tuple[int, ...]) -> Tensor:
        """Draw the random numbers of a purpose, (updates, seeds, *shape)."""
        if kind == "normal":
            return self.streams.normal(purpose, updates, *shape).movedim(1, 0)
        return self.streams.actions(purpose, updates, *shape).movedim(1, 0)

    def _report(self) -> Metrics:
        """Return the means of the losses since they were last read, each over the steps of its part."""
        sums, parts = to_array(self.losses), self.parts_of(self.stage)
        clock, metrics = range(self.read - self.first + 1, self.clock - self.first + 1), dict[str, Array]()
        for part in self.order:
            steps = len([n for n in clock if n % self.every().get(part, 1) == 0])
            names = self.metrics[part] if part in parts and steps else ()
            metrics |= {name: sums[self._metric_names().index(name)] / np.float32(steps) for name in names}
        self.losses.zero_()
        self.read = self.clock
        return metrics

    def _metric_names(self) -> list[str]:
        return [name for part in self.order for name in self.metrics[part]]

    # ---- the agent interface ----------------------------------------------------------------------------

    def begin(self, stage: str) -> None:
        """Enter a stage: the updates that it counts begin now."""
        self.stage, self.first, self.read = stage, self.clock, self.clock
        self.due = self.due_at_begin(stage)
        self.losses.zero_()

    def due_at_begin(self, stage: str) -> int:
        """Return the updates that a stage does before its first environment step."""
        return 0

    @torch.no_grad()
    def act(self, obs: Array, explore: bool) -> Array:
        """Return the mode of the policy, or an action to explore with."""
        standard = self.observed(obs)
        return to_array(self.explore(standard) if explore else self.judge(standard))

    def policy(self) -> State:
        """Return what decides an action, and the map of observations."""
        return {**{name: self.nets[name].state_dict() for name in self.judged}, "maps": self._maps()}

    def load_policy(self, policy: State) -> None:
        """Take it over."""
        for name in self.judged:
            self.nets[name].load_state_dict(policy[name])
        self._load_maps(policy["maps"])

    def network(self) -> Network | None:
        """Return the mode as plain arrays of raw observations: their map goes into the first layer.

        None where more than one network decides.
        """
        network = self.policy_kind.network(self.nets["actor"]) if self.judged == ("actor",) else None
        if network is None:
            return None
        (weight, bias), *rest = network.layers
        mean, std = (to_array(self.maps[name]) for name in ("obs_mean", "obs_std"))
        first = weight / std.swapaxes(1, 2)
        return Network([(first, bias - (mean @ first)[:, 0]), *rest], network.activation, network.squash)

    @classmethod
    def misfit(cls, config: C, parent: type[Agent[Any]], of_parent: Any) -> str:
        """Try it on a small task, unless it takes over what fits."""
        return "" if cls.takes_parts else hand_over.misfit(cls, config, parent, of_parent)

    def warm_start(self, states: Sequence[State]) -> None:
        """Go on from pretrained states: networks, targets, moments and the map of the data."""
        self.restore(states)

    def restore(self, states: Sequence[State]) -> None:
        """Take all learners over, of finished runs of its own."""
        self._load_learners(stack_seeds(states))

    def take_moments(self, states: Sequence[State], *names: str) -> None:
        """Take the moments of parts over, and the plain parameters among them."""
        state = stack_seeds(states)
        for name in names:
            self.adams[name].load_state_dict(state["adams"][name])
            if name in self.scalars():
                self.parameters[name].copy_(torch.from_numpy(state["scalars"][name]))

    def take_networks(self, states: Sequence[State], **sources: str) -> None:
        """Take the maps over, and networks: each under the name that it has in the pretraining."""
        state = stack_seeds(states)
        self._load_maps(state["maps"])
        for name, source in sources.items():
            self.nets[name].load_state_dict(state["nets"][source])

    def pretrained_state(self) -> State:
        """Return networks, targets, moments and the map of the data."""
        return {
            "nets": {name: net.state_dict() for name, net in self.nets.items()},
            "scalars": {name: to_array(self.parameters[name]) for name in self.scalars()},
            "adams": {name: adam.state_dict() for name, adam in self.adams.items()},
            "maps": self._maps(),
            "policy": type(self.policy_kind).__name__,
            "updates": self.updates,
            "clock": self.clock,
        }

    def state_dict(self) -> State:
        """Return everything a resume needs."""
        return {
            **self.pretrained_state(),
            "losses": to_array(self.losses.T),
            "replay": self.replay.state_dict(),
            "streams": self.streams.state_dict(),
            "due": self.due,
            "first": self.first,
            "read": self.read,
            "stage": self.stage,
        }

    def load_state_dict(self, state: State) -> None:
        """Take everything back."""
        self._load_learners(state)
        self.losses.copy_(torch.from_numpy(state["losses"]).T)
        self.replay.load_state_dict(state["replay"])
        self.streams.load_state_dict(state["streams"])
        self.updates, self.due, self.stage = state["updates"], state["due"], state["stage"]
        self.first, self.read = state["first"], state["read"]
        self.clock = state.get("clock", self.updates)  # older checkpoints counted both as one

    def _load_learners(self, state: State) -> None:
        self._load_maps(state["maps"])
        for name, net in self.nets.items():
            net.load_state_dict(state["nets"][name])
        for name in self.scalars():
            self.parameters[name].copy_(torch.from_numpy(state["scalars"][name]))
        for name, adam in self.adams.items():
            adam.load_state_dict(state["adams"][name])

    def fit_maps(self, config: MapOptions, data: Transitions) -> None:
        """Set the maps of observations and rewards from the offline data."""
        if config.normalize_obs:
            self.maps["obs_mean"].copy_(torch.from_numpy(data.obs.mean(0, dtype=np.float64)))
            self.maps["obs_std"].copy_(torch.from_numpy(data.obs.std(0, dtype=np.float64) + 1e-3))
        self.maps["reward_scale"].fill_(config.reward_scale)
        if config.normalize_reward:
            returns, _ = episode_returns(data)
            self.maps["reward_scale"].fill_(1000.0 / max(float(np.ptp(returns)), 1e-6))
        self.maps["reward_shift"].fill_(config.reward_shift)

    def _maps(self) -> State:
        return {name: to_array(tensor) for name, tensor in self.maps.items()}

    def _load_maps(self, state: State) -> None:
        for name, tensor in self.maps.items():
            tensor.copy_(torch.from_numpy(state[name]))

    def _env_steps(self) -> int:
        return sum(stage.env_steps for stage in self.stages(self.config, self.task.budget))


def shortened(gradient: Tensor, most: float) -> Tensor:
    """Return the gradient of each seed with a norm of at most ``most``.

    Squares are added up one by one: torch's compiler (2.13) fails on a sum over what a gradient is put
    together from.
    """
    square = gradient.flatten(1).double().square().cumsum(1)[:, -1]
    norm = square.sqrt().float().view(-1, *(1,) * (gradient.dim() - 1))
    return gradient * (most / (norm + 1e-6)).clamp(max=1.0)


F = TypeVar("F", bound=OfflineConfig)


class Offline(OffPolicy[F], Generic[F]):
    """Training from data alone: one stage, and the maps that the data ask for."""

    def __init__(self, task: Task, config: F, data: Transitions) -> None:
        super().__init__(task, config, data)
        if len(data):
            self.fit_maps(config, data)

    @classmethod
    def stages(cls, config: F, budget: Budget) -> tuple[Stage, ...]:
        """Train for the offline budget, or a part of it."""
        updates = budget.offline_updates
        return (Stage("offline", updates=min(updates, config.max_updates or updates)),)

    def due_at_begin(self, stage: str) -> int:
        """Return all updates."""
        return self.planned_updates()

    def observe(self, step: Transitions) -> None:
        """Refuse: this stage has no environment."""
        raise TypeError(f"{type(self).__name__} is trained without the environment")

    def planned_updates(self) -> int:
        """Return the updates of the policy's training, the last stage."""
        return self.stages(self.config, self.task.budget)[-1].updates
