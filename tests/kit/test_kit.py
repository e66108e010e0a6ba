"""Fast properties of the model-based family (the numbers T1 ... refer to the list in docs/algorithms.md)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from o2obench import registry
from o2obench.agent import Budget, Stage, Task
from o2obench.datasets.toy import mixed_data
from o2obench.envs.pointmass import left_the_field
from o2obench.envs.termination import (
    double_pendulum_terminal,
    halfcheetah_terminal,
    hopper_terminal,
    pendulum_terminal,
    walker2d_terminal,
)
from o2obench.kit.model_based import ensemble as ensembles
from o2obench.kit.model_based.config import OnlineConfig
from o2obench.kit.model_based.ensemble import Ensemble, EnsembleOptions, Prediction, bound
from o2obench.kit.model_based.ensemble_training import ModelTraining, TrainingData
from o2obench.kit.model_based.template import ModelBased
from o2obench.kit.networks import Adam, Mlp
from o2obench.kit.replay import Batch, Replay
from o2obench.kit.rng import Streams
from o2obench.kit.sac import Sac, SacOptions
from o2obench.transitions import Transitions

OBS, ACT = 4, 2
OPTIONS = EnsembleOptions(
    model_hidden_dims=(32, 32), model_weight_decay=(1e-5, 1e-5, 1e-5), batch_size=64, holdout=100
)
SAC_OPTIONS = SacOptions(hidden_dims=(32, 32), target_entropy=-2.0)


def make_model(seeds: tuple[int, ...] = (0,), **changes: Any) -> Ensemble:
    options = EnsembleOptions.model_validate({**OPTIONS.model_dump(), **changes})
    return Ensemble(seeds, OBS, ACT, options, "cpu")


def make_agent(name: str = "naive", seeds: tuple[int, ...] = (0,), steps: int = 100, **config: Any) -> Any:
    agent = registry.algorithm(name)
    small: dict[str, Any] = {"rollout_batch_size": 50, "max_model_epochs": 2, "steps_per_model_epoch": 3}
    if name != "mopo":
        small |= {"learning_starts": 20, "model_train_freq": 20, "utd_ratio": 2}
    task = Task(OBS, ACT, 50, seeds, left_the_field, Budget(1000, steps))
    data = mixed_data(400)
    return agent(
        task, agent.Config.model_validate({**small, **config}), data if agent.uses_data else data[:0]
    )


def random_transitions(n: int, seed: int = 0) -> Transitions:
    random = np.random.default_rng(seed)
    numbers = [random.normal(size=(n, d)).astype(np.float32) for d in (OBS, ACT, 1, OBS)]
    flags = [np.zeros(n, bool) for _ in range(3)]
    return Transitions(numbers[0], np.tanh(numbers[1]), numbers[2][:, 0], numbers[3], *flags)


def feed(agent: Any, steps: int) -> None:
    """Show an agent random steps and let it work, without an environment."""
    seeds = len(agent.task.seeds)
    for k in range(steps):
        rows = random_transitions(seeds, k)
        agent.observe(rows)
        for _ in agent.work("fine-tune"):
            pass


# ---- T1 to T4: the ensemble --------------------------------------------------------------------------


@given(scale=st.floats(0.01, 1e4))
@settings(max_examples=20, deadline=None)
def test_t1_log_variance_is_bounded_and_its_gradient_lives(scale: float) -> None:
    model = make_model()
    raw = (
        scale * torch.randn(1, 7, 50, OBS + 1, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    bounded = bound(raw, model.max_log_var, model.min_log_var)
    slack = math.log1p(math.exp(-10.5))
    assert bool((bounded >= -10).all())
    assert bool((bounded <= 0.5 + slack + 1e-6).all())
    [gradient] = torch.autograd.grad(bounded.sum(), raw)
    assert bool(torch.isfinite(gradient).all())
    if scale < 5:
        assert bool((gradient > 0).all())


def test_t2_the_penalty_is_the_largest_deviation_of_all_members() -> None:
    model = make_model()
    log_var = torch.randn(1, 7, 9, OBS + 1, generator=torch.Generator().manual_seed(1)) - 2
    prediction = Prediction(torch.zeros_like(log_var), log_var)
    u = model.uncertainty(prediction)
    by_hand = torch.stack([(0.5 * log_var[0, k]).exp().pow(2).sum(-1).sqrt() for k in range(7)]).amax(0)
    assert torch.allclose(u[0], by_hand)
    shuffled = Prediction(prediction.mean, log_var[:, torch.randperm(7)])
    assert torch.equal(model.uncertainty(shuffled), u)
    model.elites[:] = torch.arange(5)
    raised = log_var.clone()
    raised[0, 6, :, -1] += 5.0  # the reward's log-variance of a member that is not an elite
    assert bool((model.uncertainty(Prediction(prediction.mean, raised)) > u).all())


def test_t2_the_penalty_is_subtracted_exactly_and_bounded() -> None:
    rewards = {}
    for penalty in (0.0, 2.0):
        agent = make_agent(penalty_coef=penalty)
        seen: list[Tensor] = []
        original = agent.model.step

        def noted(*a: Any, step: Any = original, seen: list[Tensor] = seen) -> Any:
            result = step(*a)
            seen.append(result[2])
            return result

        agent.model.step = noted
        feed(agent, 25)
        agent.due_rollout = 50
        for _ in agent._roll_out():
            pass
        rewards[penalty] = (agent.replay.rows[agent.replay.model_base + torch.arange(50)], torch.cat(seen, 1))
    (plain, u), (penalised, same) = rewards[0.0], rewards[2.0]
    assert torch.equal(u[:, :50], same[:, :50])
    column = OBS + ACT
    assert torch.allclose(plain[:, column] - 2.0 * u[0, :50], penalised[:, column], atol=1e-6)
    assert bool((u > 0).all())
    assert bool((u <= math.sqrt(OBS + 1) * math.exp(0.25) * (1 + 1e-4)).all())


def test_t3_zero_weights_predict_no_change() -> None:
    model = make_model()
    model.net.flat.zero_()
    model.min_log_var.fill_(-40)
    model.max_log_var.fill_(-39)
    obs = torch.randn(1, 20, OBS)
    next_obs, reward, _ = model.step(
        obs, torch.zeros(1, 20, ACT), torch.rand(1, 20), torch.randn(1, 20, OBS + 1)
    )
    assert torch.allclose(next_obs, obs, atol=1e-6)
    assert torch.allclose(reward, torch.zeros(1, 20), atol=1e-6)


def fit_on(
    data: Transitions, model: Ensemble, seeds: tuple[int, ...] = (0,), held: int = 100
) -> ModelTraining:
    replay = Replay(data, len(seeds), (OBS, ACT), 1, 1, "cpu")
    rows = torch.arange(len(data)).repeat(len(seeds), 1)
    nothing = rows[:, :0]
    fit_data = TrainingData(1.0, 1.0, rows[:, held:], rows[:, :held], nothing, nothing)
    return ModelTraining(model, replay, Streams(seeds, "cpu"), fit_data, 0.01)


def test_t3_a_constant_change_is_learnt_in_raw_units() -> None:
    data = random_transitions(1000)
    data = replace(data, next_obs=data.obs + np.float32(3.0), reward=np.full(1000, 7.0, np.float32))
    model = make_model(max_model_epochs=40, model_lr=3e-3)
    fit = fit_on(data, model)
    fit.start()
    while not fit.turn():
        pass
    batch = fit.replay.take(torch.arange(200)[None])
    mean = model.predict(model.inputs(batch.obs, batch.action).unsqueeze(1)).mean.detach()
    torch.testing.assert_close(  # one per cent: what the last epochs' steps leave differs by processor
        mean.mean((0, 1, 2)), torch.tensor([3.0, 3.0, 3.0, 3.0, 7.0]), rtol=1e-2, atol=0.0
    )


def test_t4_the_scaler_sees_training_rows_only_and_constants_get_one() -> None:
    data = random_transitions(300)
    obs = data.obs.copy()
    obs[:, 1] = 5.0
    obs[:100, 0] += 1000.0  # held-out transitions must not matter
    model = make_model(max_model_epochs=1)
    fit = fit_on(replace(data, obs=obs), model)
    fit.start()
    training = np.concatenate([obs, data.action], 1)[100:]
    assert np.allclose(model.scale_mean[0].numpy(), training.mean(0), atol=1e-4)
    assert float(model.scale_std[0, 1]) == 1.0
    assert np.allclose(model.scale_std[0, 0], training[:, 0].std(), rtol=1e-4)
    while not fit.turn():
        pass
    kept = model.scale_mean.clone()
    fit_on(random_transitions(300, 5), model).start()
    assert torch.equal(model.scale_mean, kept), "frozen after the first fit"
    refitting = make_model(max_model_epochs=1, refit_scaler=True)
    refitting.fitted = True
    fit_on(random_transitions(300, 5), refitting).start()
    assert not torch.equal(refitting.scale_mean, torch.zeros_like(refitting.scale_mean))


# ---- T5: termination ---------------------------------------------------------------------------------


def state(n: int, **components: float) -> np.ndarray:
    found = np.zeros(n, np.float64)
    for name, value in components.items():
        found[int(name[1:])] = value
    return found


@pytest.mark.parametrize(
    ("rule", "next_obs", "ended"),
    [
        (hopper_terminal, state(11, s0=1.2), False),
        (hopper_terminal, state(11, s0=0.7), True),
        (hopper_terminal, state(11, s0=0.7000001), False),
        (hopper_terminal, state(11, s0=1.2, s1=0.2), True),
        (hopper_terminal, state(11, s0=1.2, s1=-0.2), True),
        (hopper_terminal, state(11, s0=1.2, s1=0.19), False),
        (hopper_terminal, state(11, s0=1.2, s5=100.0), True),
        (hopper_terminal, state(11, s0=1.2, s5=-101.0), True),
        (hopper_terminal, state(11, s0=1.2, s5=float("nan")), True),
        (hopper_terminal, state(11, s0=float("inf")), True),
        (hopper_terminal, state(11, s0=150.0), False),
        (walker2d_terminal, state(17, s0=1.2), False),
        (walker2d_terminal, state(17, s0=0.8), True),
        (walker2d_terminal, state(17, s0=2.0), True),
        (walker2d_terminal, state(17, s0=1.2, s1=1.0), True),
        (walker2d_terminal, state(17, s0=1.2, s1=-1.0), True),
        (walker2d_terminal, state(17, s0=1.2, s9=-101.0), True),
        (walker2d_terminal, state(17, s0=float("nan")), True),
        (halfcheetah_terminal, state(17, s3=99.0), False),
        (halfcheetah_terminal, state(17, s3=-100.0), True),
        (halfcheetah_terminal, state(17, s3=float("nan")), True),
        (pendulum_terminal, state(4, s1=0.2), False),
        (pendulum_terminal, state(4, s1=-0.2000001), True),
        (pendulum_terminal, state(4, s3=float("nan")), True),
        (double_pendulum_terminal, state(11, s3=1.0, s4=1.0), False),
        (double_pendulum_terminal, state(11, s1=0.8, s3=0.6, s4=0.0, s2=1.0), True),
        (double_pendulum_terminal, state(11, s3=1.0, s4=1.0, s7=float("nan")), True),
        (left_the_field, state(4, s0=1.5), True),
        (left_the_field, state(4, s0=-1.49), False),
    ],
)
def test_t5_termination_at_its_borders(rule: Any, next_obs: np.ndarray, ended: bool) -> None:
    batch = np.stack([next_obs, next_obs])
    assert rule(batch, None, batch).tolist() == [ended, ended]
    tensor = torch.from_numpy(batch)
    assert rule(tensor, None, tensor).tolist() == [ended, ended]


@pytest.mark.parametrize(
    "env_id", ["Hopper-v4", "Walker2d-v4", "InvertedPendulum-v4", "InvertedDoublePendulum-v4", "PointMass-v0"]
)
def test_t5_termination_agrees_with_the_simulator(env_id: str) -> None:
    from o2obench.envs.spec import find_env

    spec = find_env(env_id)
    rule, env, random = spec.terminal, spec.make(), np.random.default_rng(0)
    assert rule is not None
    agreed = {True: 0, False: 0}
    for episode in range(12):
        obs, _ = env.reset(seed=episode)
        for _ in range(200):
            action = spec.from_unit(random.uniform(-1, 1, spec.act_dim))
            next_obs, _, terminated, truncated, _ = env.step(action)
            assert bool(rule(obs, action, np.asarray(next_obs))) == terminated
            agreed[bool(terminated)] += 1
            if terminated or truncated:
                break
    assert min(agreed.values()) >= 3, agreed


# ---- T6 to T8: rollouts, batches, horizons -----------------------------------------------------------


def roll(agent: ModelBased[Any], rows: int) -> None:
    agent.due_rollout = rows
    for _ in agent._roll_out():
        pass


def test_t6_rollouts_store_living_branches_only() -> None:
    agent = make_agent("mopo", rollout_length=(0, 1, 3, 3), rollout_batch_size=40)
    roll(agent, 40)
    assert 40 <= int(agent.replay.fill[0]) <= 120
    agent = make_agent("mopo", rollout_length=(0, 1, 3, 3), rollout_batch_size=40)
    object.__setattr__(
        agent.task, "terminal", lambda obs, action, next_obs: torch.ones(tuple(obs.shape[:2])).bool()
    )
    roll(agent, 40)
    assert int(agent.replay.fill[0]) == 40, "all branches end after their first step"
    stored = agent.replay.take(agent.replay.model_base[:, None] + torch.arange(40))
    assert bool((stored.terminated == 1).all())


def test_t6_elites_are_drawn_per_row_and_only_elites() -> None:
    model = make_model()
    model.net.flat.zero_()
    _, bias = model.net.layers()[-1]
    bias[0, :, OBS] = torch.arange(7.0)  # the member's number as its reward
    model.min_log_var.fill_(-40)
    model.max_log_var.fill_(-39)
    model.elites[:] = torch.tensor([6, 1, 3, 0, 5])
    rows = 500
    choice = Streams((0,), "cpu").uniform("elites", rows)
    _, reward, _ = model.step(
        torch.zeros(1, rows, OBS), torch.zeros(1, rows, ACT), choice, torch.zeros(1, rows, OBS + 1)
    )
    chosen = reward[0].round().int().tolist()
    assert set(chosen) == {6, 1, 3, 0, 5}
    assert min(chosen.count(k) for k in (6, 1, 3, 0, 5)) > 60


def test_t6_the_ring_has_the_capacity_of_its_formula_and_keeps_the_newest() -> None:
    agent = make_agent("mopo", rollout_length=(0, 1, 5, 5), rollout_batch_size=1000, model_retain_epochs=3)
    assert agent.replay.model_buffer_size == 1000 * 5 * 3
    online = make_agent(
        "naive",
        rollout_length=(0, 1, 4, 4),
        rollout_batch_size=100,
        model_retain_epochs=1,
        model_train_freq=250,
    )
    assert online.replay.model_buffer_size == 100 * 4 * 4
    replay = Replay(random_transitions(3), 2, (OBS, ACT), 1, 10, "cpu")
    width = replay.rows.shape[1]
    for k in range(4):
        alive = torch.tensor([[True, True, True, True], [True, False, True, False]])
        replay.push(torch.full((2, 4, width), float(k)), alive)
    assert replay.fill.tolist() == [10, 8]
    kept = [
        sorted(replay.rows[base : base + fill, 0].tolist())
        for base, fill in zip(replay.model_base, replay.fill, strict=True)
    ]
    assert kept[0] == [1.0] * 2 + [2.0] * 4 + [3.0] * 4
    assert kept[1] == [0.0] * 2 + [1.0] * 2 + [2.0] * 2 + [3.0] * 2


def test_a_growing_ring_keeps_what_it_holds() -> None:
    replay = Replay(random_transitions(3), 1, (OBS, ACT), 1, 12, "cpu")
    replay.resize_model_buffer(4)
    width = replay.rows.shape[1]
    alive = torch.ones(1, 6, dtype=torch.bool)
    replay.push(torch.arange(6.0).view(1, 6, 1).expand(1, 6, width).contiguous()[:, :3], alive[:, :3])
    replay.push(torch.arange(6.0).view(1, 6, 1).expand(1, 6, width).contiguous()[:, 3:], alive[:, 3:])
    before = sorted(replay.rows[replay.model_base[0] : replay.model_base[0] + 4, 0].tolist())
    replay.resize_model_buffer(12)
    replay.push(torch.full((1, 2, width), 9.0), alive[:, :2])
    after = sorted(replay.rows[replay.model_base[0] : replay.model_base[0] + 6, 0].tolist())
    assert after == [*before, 9.0, 9.0]


def test_t7_a_batch_is_12_real_and_244_model_rows() -> None:
    agent = make_agent("mopo")
    roll(agent, 50)
    index = agent._batches(7)
    assert index.shape == (1, 7, 256)
    real = index < agent.replay.offline
    assert real.sum(-1).unique().tolist() == [12]
    fill = int(agent.replay.fill[0])
    assert bool(((index[~real] - agent.replay.model_base) < fill).all())


@pytest.mark.slow
def test_t7_rows_come_from_the_sources_of_the_rule() -> None:
    for rows, low in (("online", 0.0), ("union", 0.7)):
        agent = make_agent("naive", replay_data=rows)
        feed(agent, 60)
        index = agent._real_index("test", 4000)
        share = float((index < agent.replay.offline).float().mean())
        expected = agent.offline_ratio(agent.replay.offline, agent.replay.online)
        assert abs(share - expected) < 0.03
        assert share >= low
        online = index[index >= agent.replay.offline] - int(agent.replay.online_base)
        assert int(online.max()) < agent.replay.online


def test_t8_horizon_schedules() -> None:
    agent = make_agent("naive", rollout_length=(20, 150, 1, 15), steps=200_000, rollout_batch_size=5)
    found = []
    for epoch in (0, 20, 21, 30, 50, 85, 100, 149, 150, 199):
        agent.replay.online = 1000 * epoch
        found.append(agent.rollout_length())
    assert found == [1, 1, 1, 2, 4, 8, 9, 14, 15, 15]
    constant = make_agent("naive", rollout_length=(20, 150, 1, 1))
    assert constant.rollout_length() == 1


# ---- T18 to T21: warm start, SAC, early stopping, alignment -------------------------------------------


def test_t18_greedy_actions_survive_the_hand_over() -> None:
    parent = make_agent("mopo")
    for stage in ("model",):
        parent.begin(stage)
        for _ in parent.work(stage):
            pass
    child = make_agent("naive")
    obs = np.random.default_rng(0).normal(size=(1, 1000, OBS)).astype(np.float32)
    before = parent.act(obs, explore=False)
    assert not np.array_equal(child.act(obs, explore=False), np.zeros_like(before))
    child.warm_start([parent.pretrained_state()])
    assert np.array_equal(child.act(obs, explore=False), before)
    loaded = make_agent("naive")
    loaded.load_state_dict(child.state_dict())
    assert np.array_equal(loaded.act(obs, explore=False), before)
    for mine, theirs in zip(child.model.parameters(), parent.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(child.holdout.offline[1], parent.holdout.offline[1]), "the same rows stay held out"


def batch_of(n: int = 32, terminated: float = 0.0) -> Batch:
    g = torch.Generator().manual_seed(0)
    return Batch(
        torch.randn(1, n, OBS, generator=g),
        torch.rand(1, n, ACT, generator=g) * 2 - 1,
        torch.randn(1, n, generator=g),
        torch.randn(1, n, OBS, generator=g),
        torch.full((1, n), terminated),
    )


def update(sac: Sac, batch: Batch, noise: Tensor, rate: float = 1e-3) -> Tensor:
    optimisers = (sac.actor_adam, sac.critic_adam, sac.alpha_adam)
    return sac.update(batch, noise, torch.stack([adam.schedule([rate])[0] for adam in optimisers]))


class ReferenceSac:
    """SAC as a textbook writes it: modules, separate critics, torch's distributions and optimisers."""

    def __init__(self, like: Sac, seed: int) -> None:
        def module(layers: list[tuple[Tensor, Tensor]]) -> torch.nn.Sequential:
            parts: list[torch.nn.Module] = []
            for weight, bias in layers:
                linear = torch.nn.Linear(*weight.shape)
                linear.weight.data, linear.bias.data = weight.T.clone(), bias.clone()
                parts += [linear, torch.nn.ReLU()]
            return torch.nn.Sequential(*parts[:-1])

        def critics(stack: Mlp) -> list[torch.nn.Sequential]:
            return [module([(w[seed, k], b[seed, k]) for w, b in stack.layers()]) for k in range(2)]

        self.actor = module([(w[seed], b[seed]) for w, b in like.actor.layers()])
        self.critics, self.targets = critics(like.critics), critics(like.targets)
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.adams = [
            torch.optim.Adam(parameters, lr=1e-3)
            for parameters in (
                self.actor.parameters(),
                [p for critic in self.critics for p in critic.parameters()],
                [self.log_alpha],
            )
        ]

    def policy(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(obs).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        raw = mean + log_std.clamp(-5, 2).exp() * noise
        transform = torch.distributions.TanhTransform()
        log_prob = normal.log_prob(raw) - transform.log_abs_det_jacobian(raw, torch.tanh(raw))
        return torch.tanh(raw), log_prob.sum(-1)

    def descend(self, optimiser: int, loss: Tensor) -> None:
        self.adams[optimiser].zero_grad()
        loss.backward()
        self.adams[optimiser].step()

    def update(self, batch: Batch, noise: Tensor) -> None:
        alpha = self.log_alpha.exp().clamp(max=1.0).detach()
        with torch.no_grad():
            action, log_prob = self.policy(batch.next_obs, noise[1])
            value = torch.minimum(*(q(torch.cat([batch.next_obs, action], -1))[:, 0] for q in self.targets))
            y = batch.reward + 0.99 * (1 - batch.terminated) * (value - alpha * log_prob)
        seen = torch.cat([batch.obs, batch.action], -1)
        self.descend(1, sum((q(seen)[:, 0] - y).square().mean() for q in self.critics))
        action, log_prob = self.policy(batch.obs, noise[0])
        value = torch.minimum(*(q(torch.cat([batch.obs, action], -1))[:, 0] for q in self.critics))
        self.descend(0, (alpha * log_prob - value).mean())
        self.descend(2, -(self.log_alpha * (log_prob.detach() + 0.0 - ACT).mean()))
        for target, critic in zip(self.targets, self.critics, strict=True):
            for mine, theirs in zip(target.parameters(), critic.parameters(), strict=True):
                mine.data.lerp_(theirs.data, 0.005)


def same(layers: list[tuple[Tensor, Tensor]], place: tuple[int, ...], reference: torch.nn.Module) -> bool:
    mine = [part[place].t() for layer in layers for part in layer]
    theirs = list(reference.parameters())
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(mine, theirs, strict=True))


def one(batch: Batch, seed: int) -> Batch:
    """Return one seed's part of a batch."""
    obs, action, reward, next_obs, terminated, _ = batch
    return Batch(obs[seed], action[seed], reward[seed], next_obs[seed], terminated[seed])


def test_ten_updates_of_a_pack_are_those_of_a_textbook_sac() -> None:
    seeds, generator = (0, 1), torch.Generator().manual_seed(0)
    sac = Sac(seeds, OBS, ACT, SAC_OPTIONS.model_copy(update={"target_entropy": -float(ACT)}), "cpu")
    references = [ReferenceSac(sac, i) for i in range(2)]
    for _ in range(10):
        numbers = [torch.randn(2, 64, d, generator=generator) for d in (OBS, ACT, 1, OBS)]
        ended = (torch.rand(2, 64, generator=generator) < 0.1).float()
        batch = Batch(numbers[0], numbers[1].tanh(), numbers[2][..., 0], numbers[3], ended)
        noise = torch.randn(2, 2, 64, ACT, generator=generator)
        update(sac, batch, noise)
        for i, reference in enumerate(references):
            reference.update(one(batch, i), noise[i])
    for i, reference in enumerate(references):
        assert same(sac.actor.layers(), (i,), reference.actor)
        for k in range(2):
            assert same(sac.critics.layers(), (i, k), reference.critics[k])
            assert same(sac.targets.layers(), (i, k), reference.targets[k])
        assert torch.allclose(sac.log_alpha[i], reference.log_alpha, atol=1e-6)


def test_t19_terminal_rows_are_worth_their_reward() -> None:
    sac = Sac((0,), OBS, ACT, SAC_OPTIONS, "cpu")
    batch = batch_of(terminated=1.0)
    assert torch.equal(sac.target(batch, torch.randn(1, 32, ACT)), batch.reward)


@pytest.mark.parametrize(("target_entropy", "rises"), [(10.0, True), (-50.0, False)])
def test_t19_the_temperature_moves_towards_the_target_entropy(target_entropy: float, rises: bool) -> None:
    sac = Sac((0,), OBS, ACT, SacOptions(hidden_dims=(32, 32), target_entropy=target_entropy), "cpu")
    update(sac, batch_of(), torch.randn(1, 2, 32, ACT))
    assert (float(sac.log_alpha) > 0) == rises


def test_t19_targets_lag_by_tau() -> None:
    sac = Sac((0,), OBS, ACT, SAC_OPTIONS, "cpu")
    old = sac.targets.flat.clone()
    update(sac, batch_of(), torch.randn(1, 2, 32, ACT))
    assert torch.allclose(sac.targets.flat, old + 0.005 * (sac.critics.flat - old), atol=1e-7)


def test_t19_the_actor_rate_is_alive_when_tuning_begins_though_mopo_annealed_it() -> None:
    mopo = make_agent("mopo")
    assert mopo.rates(0)[0] == pytest.approx(1e-4)
    assert mopo.rates(1000)[0] == pytest.approx(0.0, abs=1e-12)
    assert make_agent("naive").rates(0)[0] == 3e-4


def test_t19_the_log_density_is_that_of_the_squashed_gaussian() -> None:
    sac = Sac((0,), OBS, ACT, SAC_OPTIONS, "cpu")
    obs, noise = torch.randn(1, 64, OBS), torch.randn(1, 64, ACT)
    action, log_prob = sac.sample(obs, noise)
    mean, log_std = sac.policy.distribution(sac.actor, obs)
    gaussian = torch.distributions.Normal(mean, log_std.exp())
    squashed = torch.distributions.TransformedDistribution(
        gaussian, [torch.distributions.transforms.TanhTransform(cache_size=1)]
    )
    clipped = torch.tanh(mean + log_std.exp() * noise).clamp(-0.999999, 0.999999)
    density: Callable[[Tensor], Tensor] = squashed.log_prob
    expected = density(clipped).sum(-1)
    inside = (action.abs() < 0.999).all(-1)
    assert torch.allclose(log_prob[inside], expected[inside], atol=1e-3)


def test_rows_that_are_not_finite_never_enter_the_ring() -> None:
    agent = make_agent("mopo", rollout_batch_size=40)
    step = agent.model.step

    def exploding(*arguments: Tensor) -> Any:
        next_obs, reward, uncertainty = step(*arguments)
        next_obs[:, ::2] = torch.inf
        return next_obs, reward, uncertainty

    agent.model.step = exploding
    roll(agent, 40)
    assert int(agent.replay.fill[0]) == 20
    assert bool(torch.isfinite(agent.replay.rows[:-1]).all())


def test_adam_is_torchs_adam_and_a_masked_seed_stands_still() -> None:
    torch.manual_seed(0)
    start = torch.randn(2, 5, 3)
    mine, theirs = start.clone(), start.clone().requires_grad_()
    own, reference = Adam([mine]), torch.optim.Adam([theirs], lr=3e-3)
    schedule = own.schedule([3e-3] * 5)
    for k in range(5):
        gradient = torch.randn(2, 5, 3)
        own.step([gradient], schedule[k])
        theirs.grad = gradient
        reference.step()
    assert torch.allclose(mine, theirs, atol=1e-7)
    kept = [t[1].clone() for t in (mine, own.mean[0], own.square[0])]
    moved, active = mine[0].clone(), torch.tensor([True, False])
    own.step([torch.randn(2, 5, 3)], own.schedule([3e-3], active.numpy())[0], active)
    assert all(torch.equal(a, b[1]) for a, b in zip(kept, (mine, own.mean[0], own.square[0]), strict=True))
    assert own.steps.tolist() == [6, 5]
    assert not torch.equal(mine[0], moved)
    uneven, later = own.schedule([1e-3] * 2), Adam([start[:1].clone()])
    later.steps[:] = 5
    assert torch.equal(uneven[:, 1], later.schedule([1e-3] * 2)[:, 0]), "each seed by its own count"
    own.forget()
    assert own.steps.tolist() == [0, 0]
    assert not own.mean[0].any()


def test_a_stack_of_networks_computes_what_single_networks_do() -> None:
    net = Mlp("test", (0, 1), (3,), (4, 8, 2), torch.relu, "cpu")
    x = torch.randn(2, 3, 5, 4)
    y = net(x)
    for s in range(2):
        for m in range(3):
            (weight0, bias0), (weight1, bias1) = ((w[s, m], b[s, m]) for w, b in net.layers())
            h = torch.relu(x[s, m] @ weight0 + bias0)
            assert torch.allclose(y[s, m], h @ weight1 + bias1, atol=1e-6)


def test_initial_ensemble_weights_are_cut_at_two_deviations() -> None:
    model = make_model()
    for (weight, bias), inputs in zip(model.net.layers(), (OBS + ACT, 32, 32), strict=True):
        assert not bias.any()
        deviation = 1 / (2 * math.sqrt(inputs))
        assert float(weight.abs().max()) <= 2 * deviation + 1e-6
        assert 0.8 * deviation < float(weight.std()) < 0.95 * deviation, "0.88 of it, after the cut"


def test_t20_a_model_that_never_improves_stops_after_five_idle_passes() -> None:
    model = make_model(model_lr=1e-20)
    fit = fit_on(random_transitions(300), model)
    model.fitted = True
    fit.start()
    while not fit.turn():
        pass
    assert fit.epochs == 5


def test_t20_members_return_to_their_own_best_and_elites_are_the_best_five() -> None:
    model = make_model(max_model_epochs=8, model_lr=2e-2)
    fit = fit_on(random_transitions(300), model)
    fit.start()
    while not fit.turn():
        pass
    assert torch.allclose(fit.held_out_error(), fit.best, rtol=1e-5)
    order = fit.best[0].argsort(stable=True)[:5]
    assert model.elites[0].tolist() == order.tolist()


def test_t20_good_weights_survive_a_harmful_training_set() -> None:
    good = random_transitions(400)
    model = make_model(max_model_epochs=5)
    fit = fit_on(good, model)
    fit.start()
    while not fit.turn():
        pass
    rows = np.arange(400)
    bad = np.where(rows < 100, 0.0, 500.0).astype(np.float32)  # held-out transitions stay true
    changed = replace(good, reward=good.reward + bad, next_obs=good.next_obs + bad[:, None])
    kept = [tensor.clone() for tensor in (*model.parameters(), *model.adam.mean, *model.adam.square)]
    steps = model.adam.steps.copy()
    harmful = fit_on(changed, model)
    harmful.start()
    while not harmful.turn():
        pass
    assert not harmful.accepted.any()
    now = [*model.parameters(), *model.adam.mean, *model.adam.square]
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True)), "bounds and moments too"
    assert model.adam.steps.tolist() == steps.tolist()
    model.options = model.options.model_copy(update={"model_best_start": "none"})
    replaced = fit_on(changed, model)
    replaced.start()
    while not replaced.turn():
        pass
    assert replaced.accepted.all()
    assert not torch.equal(kept[0], model.net.flat), "as in the reference codes"


def test_t20_only_refused_members_get_their_moments_back() -> None:
    model = make_model(max_model_epochs=1)
    fit = fit_on(random_transitions(300), model)
    fit.start()
    while not fit.turn():
        pass
    (mean, *_), bounds = model.adam.mean, model.max_log_var.clone()
    after, former = mean.clone(), fit.before[2]
    fit.accepted[0, :2] = False
    fit._refuse()
    assert torch.equal(mean[0, :2], former[0, :2])
    assert torch.equal(mean[0, 2:], after[0, 2:])
    assert not torch.equal(after[0, :2], former[0, :2])
    assert torch.equal(model.max_log_var, bounds), "shared with members that were not refused"


def recorded(model: Ensemble, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, float]]:
    """Return the list to which a model's gradient steps append batch (seeds, members, rows) and rate."""
    seen, learn = list[tuple[Tensor, float]](), model.learn

    def note(replay: Replay, index: Tensor, rates: Sequence[float], active: Tensor | None) -> None:
        seen.extend(zip(index, rates, strict=True))
        learn(replay, index, rates, active)

    monkeypatch.setattr(model, "learn", note)
    return seen


def test_a_pass_has_the_batches_that_are_asked_for_however_few_rows_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model(steps_per_model_epoch=7, max_model_epochs=2, batch_size=16)
    seen = recorded(model, monkeypatch)
    fit = fit_on(random_transitions(140), model)
    fit.start()
    bootstrap = fit.order[0, 0, :48].tolist()
    while not fit.turn():
        pass
    assert len(seen) == 14
    drawn = torch.cat([index[0, 0] for index, _ in seen[:7]]).tolist()
    assert not Counter(drawn) - Counter(3 * bootstrap), "40 rows make 3 batches, which are traversed 3 times"


def test_the_rate_rises_over_the_warm_up_in_each_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(model_lr=1e-3, model_lr_warmup_steps=4, steps_per_model_epoch=3, max_model_epochs=2)
    seen = recorded(model, monkeypatch)
    for _ in range(2):
        fit = fit_on(random_transitions(300), model)
        fit.start()
        while not fit.turn():
            pass
    assert [rate for _, rate in seen] == pytest.approx(2 * [2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3])


def test_a_model_without_epochs_stays_as_it_was_pretrained() -> None:
    agent = make_agent("naive", max_model_epochs=0)
    agent.model.fitted = True
    before = [tensor.clone() for tensor in agent.model.parameters()]
    feed(agent, 45)
    assert agent.updates > 0
    assert all(torch.equal(a, b) for a, b in zip(before, agent.model.parameters(), strict=True))


def test_t21_the_reward_is_last_and_observations_keep_their_order() -> None:
    batch = Batch(
        torch.zeros(1, 2, OBS),
        torch.zeros(1, 2, ACT),
        torch.full((1, 2), 9.0),
        torch.arange(8.0).view(1, 2, 4),
        torch.zeros(1, 2),
    )
    assert ensembles.target(batch).tolist() == [[[0, 1, 2, 3, 9], [4, 5, 6, 7, 9]]]
    replay = Replay(random_transitions(5), 1, (OBS, ACT), 1, 1, "cpu")
    data = random_transitions(5)
    taken = replay.take(torch.arange(5)[None])
    for name in ("obs", "action", "reward", "next_obs"):
        assert np.array_equal(getattr(taken, name)[0].numpy(), getattr(data, name)), name


# ---- the seed axis -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pack_in_which_one_fit_stops_early_equals_the_single_runs() -> None:
    settings_: dict[str, Any] = {
        "max_model_epochs": 8,
        "steps_per_model_epoch": 2,
        "patience": 2,
        "model_lr": 5e-3,
    }

    def lived(seeds: tuple[int, ...]) -> tuple[Any, list[int]]:
        agent = make_agent("mopo", seeds, **settings_)
        agent.begin("model")
        fit = agent.fit = agent._new_training()
        fit.start()
        stopped_at = [0] * len(seeds)
        while not fit.turn():
            for i, active in enumerate(fit.active.tolist()):
                stopped_at[i] = fit.epochs if active else stopped_at[i]
        agent.fit, agent.due_training = None, False
        roll(agent, 50)
        agent.due_updates = 10
        for _ in agent._update_policy():
            pass
        return agent, stopped_at

    pack, stopped = lived((0, 1, 2))
    assert len(set(stopped)) > 1, f"no seed stopped before another: {stopped}"
    from o2obench.agent import take_seed
    from o2obench.testing.check_agent import leaves

    for i, seed in enumerate((0, 1, 2)):
        single, _ = lived((seed,))
        mine, theirs = leaves(take_seed(pack.pretrained_state(), i)), leaves(single.pretrained_state())
        for place, value in theirs.items():
            if isinstance(value, np.ndarray):
                assert np.allclose(mine[place], value, rtol=1e-5, atol=1e-5), (seed, place)


def test_streams_do_not_depend_on_neighbours_and_stand_still_when_masked() -> None:
    alone, pack = Streams((3,), "cpu"), Streams((1, 3), "cpu")
    assert torch.equal(alone.normal("a", 5)[0], pack.normal("a", 5)[1])
    pack.normal("a", 5, active=torch.tensor([True, False]))
    assert torch.equal(alone.normal("a", 5)[0], pack.normal("a", 5)[1])
    assert not torch.equal(alone.normal("a", 5), alone.normal("b", 5))


def test_held_out_online_rows_are_one_in_five_and_fixed() -> None:
    agent = make_agent("naive", (0, 1), learning_starts=1000, steps=200)
    seeds = len(agent.task.seeds)
    for k in range(100):
        agent.observe(random_transitions(seeds, k))
    training, held = agent.holdout.online()
    assert held.shape == (2, 20)
    assert training.shape == (2, 80)
    assert not set(training[0].tolist()) & set(held[0].tolist())
    for k in range(100, 150):
        agent.observe(random_transitions(seeds, k))
    _, later = agent.holdout.online()
    assert later[:, :20].tolist() == held.tolist()


def test_held_out_online_rows_can_be_drawn_anew_at_each_training() -> None:
    agent = make_agent("naive", (0, 1), learning_starts=1000, steps=200, holdout_redraw=True, holdout=15)
    splits = []
    for k in range(100):
        agent.observe(random_transitions(2, k))
        if k in (49, 99):
            training, held = agent.holdout.online()
            again = agent.holdout.online()
            assert torch.equal(held, again[1]), "a resume in mid-training finds the same"
            assert held.shape == (2, {49: 10, 99: 15}[k]), "a fifth, and at most the hold-out's size"
            assert sorted((*training[0].tolist(), *held[0].tolist())) == list(range(400, 401 + k))
            splits.append(held[0].tolist())
    assert set(splits[0]) - set(splits[1]), "what was held out is trained on later"
    assert held[0].tolist() != (held[1] - held[1].min() + held[0].min()).tolist(), "each seed its own"


def test_effective_size_counts_rows_of_equal_weight() -> None:
    rows = torch.arange(1000)[None]
    data = TrainingData(1.0, 1.0, rows, rows[:, :0], rows[:, :0], rows[:, :0])
    assert data.size == 1000
    union = TrainingData(0.8, 0.8, rows[:, :800], rows[:, :0], rows[:, :200], rows[:, :0])
    assert union.size == 1000
    assert TrainingData(0.0, 0.0, rows, rows[:, :0], rows[:, :64], rows[:, :0]).size == 64


# ---- identities --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mbpo_is_naive_once_what_differs_is_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equalised: warm-up and exploration in it, temperature rate, passes, scaler refit, no pretraining."""
    equal: dict[str, Any] = {
        "steps_per_model_epoch": None,
        "model_lr_warmup_steps": 0,
        "learning_starts": 20,
        "alpha_lr": 1e-4,
        "refit_scaler": True,
        "rollout_length": (0, 1, 2, 2),
    }
    naive, mbpo = make_agent("naive", **equal), make_agent("mbpo", **equal)
    monkeypatch.setattr(type(mbpo), "explore", ModelBased.explore)
    obs = np.zeros((1, 1, OBS), np.float32)
    for agent in (naive, mbpo):
        for k in range(45):
            agent.act(obs, explore=True)
            agent.observe(random_transitions(1, k))
            for _ in agent.work("fine-tune"):
                pass
    assert naive.updates == mbpo.updates > 10
    for part in ("model", "sac"):
        mine, theirs = getattr(naive, part), getattr(mbpo, part)
        a = mine.parameters() if part == "model" else [mine.actor.flat, mine.critics.flat]
        b = theirs.parameters() if part == "model" else [theirs.actor.flat, theirs.critics.flat]
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_naive_on_the_union_is_naive_online_when_there_are_no_offline_rows() -> None:
    finals = []
    for rows in ("online", "union"):
        agent = make_agent("naive", replay_data=rows)
        agent.replay.offline = 0
        agent.holdout.offline = agent.holdout.offline[0][:, :0], agent.holdout.offline[1][:, :0]
        feed(agent, 30)
        finals.append(agent.sac.actor.flat.clone())
    assert all(torch.equal(a, b) for a, b in zip(*finals, strict=True))


def test_stages_are_data() -> None:
    mbpo = registry.algorithm("mbpo")
    config = mbpo.Config.model_validate({"learning_starts": 500})
    assert mbpo.stages(config, Budget(0, 2000)) == (Stage("warm-up", 500), Stage("fine-tune", 1500, 30_000))
    naive = registry.algorithm("naive")
    assert naive.stages(OnlineConfig(), Budget(0, 100)) == (Stage("fine-tune", 100, 0),)
