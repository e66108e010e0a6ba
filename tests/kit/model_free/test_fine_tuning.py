"""TD3+BC, Cal-QL, RLPD, WSRL and SAC from a pretraining: textbook updates, and what equals what."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from o2obench import registry
from o2obench.agent import Budget, Task
from o2obench.datasets.toy import mixed_data
from o2obench.envs.spec import find_env
from o2obench.kit.model_free.cal_ql import RETURN
from o2obench.kit.networks import Adam
from o2obench.report import warnings
from o2obench.runs.folder import ResultsFolder
from o2obench.testing import check_agent
from o2obench.training.evaluation import Arena
from o2obench.transitions import Transitions
from o2obench.util.files import read_json
from tests.helpers.model_free import (
    ACT,
    OBS,
    SMALL,
    agent,
    assert_equal,
    feed,
    finetuned,
    module,
    step,
    trained,
    updated,
    work,
)
from tests.helpers.suites import compute, toy_plan

NARROW: dict[str, Any] = {"cql_actions": 3}
PLAIN: dict[str, Any] = {
    "num_critics": 2,
    "target_critics": 2,
    "layer_norm": "none",
    "utd_ratio": 1,
    "replay_data": "online",
    "actor_value": "min",
    "target_entropy": -float(ACT),
}
"""RLPD's options that make it SAC."""


def assert_same(one: Any, other: Any) -> None:
    """All networks and plain parameters are equal, bit for bit, and they did learn."""
    assert one.updates == other.updates > 0
    for name, values in one.parameters.items():
        assert torch.equal(values, other.parameters[name]), name


def assert_close(one: Any, other: Any) -> None:
    """All networks are equal to 1e-6 relative to their size."""
    assert one.updates == other.updates > 0
    for name, net in one.nets.items():
        error = (net.flat - other.nets[name].flat).norm() / net.flat.norm()
        assert error < 1e-6, (name, float(error))


# ---- TD3+BC -----------------------------------------------------------------------------------------------


def test_two_updates_of_td3_bc_are_the_textbook_ones() -> None:
    """Critics twice, policy and targets once, in plain modules and torch.optim, with the same noise."""
    made = agent(registry.algorithm("td3_bc"), mixed_data(500))
    noise = torch.randn(1, 64, ACT)
    actor, behind = module(made.nets["actor"]), module(made.nets["target actor"])
    critics, targets = ([module(made.nets[name], k) for k in (0, 1)] for name in ("critics", "targets"))
    moving = [p for net in critics for p in net.parameters()]
    of_critics, of_actor = torch.optim.Adam(moving, lr=3e-4), torch.optim.Adam(actor.parameters(), lr=3e-4)

    def value(net: nn.Sequential, o: Tensor, a: Tensor) -> Tensor:
        q: Tensor = net(torch.cat([o, a], -1)).squeeze(-1)
        return q

    for number in (1, 2):
        (obs, action, reward, next_obs, terminated), update = updated(made, {"next actions": noise}, number)
        with torch.no_grad():
            smooth = (torch.tanh(behind(next_obs)) + (0.2 * noise[0]).clamp(-0.5, 0.5)).clamp(-1, 1)
            y = reward + 0.99 * (1 - terminated) * torch.minimum(
                *(value(t, next_obs, smooth) for t in targets)
            )
        of_critics.zero_grad()
        error = torch.stack([value(net, obs, action) - y for net in critics])
        error.square().mean(-1).sum().backward()
        of_critics.step()
        if number == 2:
            pi = torch.tanh(actor(obs))
            q = value(critics[0], obs, pi)
            of_actor.zero_grad()
            (-(2.5 / q.abs().mean().detach()) * q.mean() + (pi - action).square().mean()).backward()
            of_actor.step()
            for net, target in zip([*critics, actor], [*targets, behind], strict=True):
                for p, t in zip(net.parameters(), target.parameters(), strict=True):
                    t.data.lerp_(p.data, 0.005)
        update()
    assert_equal(made.nets["critics"], critics)
    assert_equal(made.nets["targets"], targets)
    assert_equal(made.nets["actor"], [actor])
    assert_equal(made.nets["target actor"], [behind])


def test_td3_bc_without_its_regression_is_td3() -> None:
    """Identity 14: the actor's gradient is that of -Q1 up to a factor."""
    made = agent(registry.algorithm("td3_bc"), mixed_data(500), bc_weight=0.0)
    batch = made.mapped(made.replay.take(torch.arange(64)[None]))
    flat = made.nets["actor"].flat.clone().requires_grad_()
    [ours] = torch.autograd.grad(made.actor_loss(flat, batch, {}, {})[0].sum(), [flat])
    q = made.q("critics", batch.obs, torch.tanh(made.nets["actor"](batch.obs, flat)))[:, 0]
    [td3] = torch.autograd.grad(-q.mean(), [flat])
    torch.testing.assert_close(ours, td3 * 2.5 / q.abs().mean(), rtol=1e-4, atol=1e-6)


def test_the_policy_moves_in_every_second_update_only() -> None:
    made = trained("td3_bc", updates=51)
    assert made.adams["critics"].steps.tolist() == [51]
    assert made.adams["actor"].steps.tolist() == [25]


# ---- Cal-QL -------------------------------------------------------------------------------------------


def test_cal_ql_without_a_floor_is_cql(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity 2: with returns of minus infinity nothing is lifted."""
    cal_ql = registry.algorithm("cal_ql")
    monkeypatch.setattr(cal_ql, "floor", lambda self, batch: torch.full_like(batch.reward, -torch.inf))
    assert_same(trained("cal_ql", **NARROW), trained("cql", **NARROW))


def test_the_floor_is_the_discounted_return_that_followed() -> None:
    data = mixed_data(500)
    made = agent(
        registry.algorithm("cal_ql"), data, gamma=0.9, reward_scale=10.0, reward_shift=-5.0, **NARROW
    )
    batch = made.replay.take(torch.arange(len(data))[None])
    floor, ends = made.floor(batch)[0].numpy(), [*np.flatnonzero(data.episode_start)[1:], len(data)]
    begin = 0
    for end in ends:
        rewards = 10.0 * data.reward[begin:end].astype(np.float64) - 5.0
        for t in (0, (end - begin) // 2, end - begin - 1):
            expected = sum(0.9**k * r for k, r in enumerate(rewards[t:]))
            assert floor[begin + t] == pytest.approx(expected, rel=1e-4, abs=1e-3)
        begin = end


def test_an_episode_that_only_fails_fails_for_ever() -> None:
    data = mixed_data(500)
    first = int(np.flatnonzero(data.episode_start)[1])
    reward = data.reward.copy()
    reward[:first] = 0.0
    data = replace(data, reward=reward)
    made = agent(registry.algorithm("cal_ql"), data, failure_reward=0.0, reward_scale=10.0, reward_shift=-5.0)
    floor = made.floor(made.replay.take(torch.arange(500)[None]))[0]
    torch.testing.assert_close(floor[:first], torch.full((first,), -500.0))
    assert float(floor[first]) != pytest.approx(-500.0)


def test_values_below_the_floor_are_lifted_for_actions_of_the_policy_only() -> None:
    made = agent(registry.algorithm("cal_ql"), mixed_data(500), **NARROW)
    batch = made.replay.take(torch.arange(64)[None])
    q = torch.full((1, 2, 9 * 64), -1e6)
    raised, (share,) = made.raised(q, batch)
    assert torch.equal(raised[..., : 3 * 64], q[..., : 3 * 64])
    assert torch.equal(raised[..., 3 * 64 :], made.floor(batch).repeat(1, 6)[:, None].expand(-1, 2, -1))
    assert share.tolist() == [1.0]


def test_online_returns_are_those_of_finished_episodes() -> None:
    """Batches take finished episodes only, and these have the returns that an offline set would have."""
    data = mixed_data(500)
    parent = trained("cal_ql", **NARROW)
    child = finetuned("cal_ql_finetune", parent, steps=90, **NARROW)
    ends = np.flatnonzero(data.terminated[:90] | data.truncated[:90]) + 1
    assert child.finished.tolist() == [ends[-1]]
    rows = child.replay.unpack(child.replay.rows[500 : 500 + int(ends[-1])])
    expected = child.columns(data[: ends[-1]])
    np.testing.assert_allclose(rows.columns[RETURN].numpy(), expected[RETURN], rtol=1e-5, atol=1e-5)
    drawn = child.batches(200)
    assert int(drawn.max()) < 500 + ends[-1]
    assert ((drawn >= 500).float().mean(-1) == 0.5).all()


def test_the_penalty_has_a_learnt_factor_where_a_gap_is_asked_for() -> None:
    """It falls while the gap is below the target, and rises while it is above."""
    for target, sign in ((1e6, -1), (0.0, 1)):
        made = trained("cql", updates=5, target_gap=target, **NARROW)
        change = float(made.parameters["multiplier"]) - 1.0
        assert np.sign(change) == sign, (target, change)


def test_the_best_of_several_next_actions_is_the_target() -> None:
    made = agent(registry.algorithm("cql"), mixed_data(500), next_actions=4, **NARROW)
    batch = made.replay.take(torch.arange(64)[None])
    noise = torch.randn(1, 4 * 64, ACT)
    best = made.next_value(batch, {"next actions": noise})
    one = agent(registry.algorithm("cql"), mixed_data(500), **NARROW)
    each = [one.next_value(batch, {"next actions": noise[:, 64 * k : 64 * (k + 1)]}) for k in range(4)]
    torch.testing.assert_close(best, torch.stack(each).amax(0))


# ---- RLPD and WSRL ----------------------------------------------------------------------------------------


def test_an_update_of_rlpd_is_the_textbook_one() -> None:
    """Ten critics with normalised layers, the least of two of their targets, their mean for the policy."""
    made = agent(registry.algorithm("rlpd"), mixed_data(500), utd_ratio=1)
    noise = {name: torch.randn(1, *shape) for name, (_, shape) in made.draws().items()}
    (obs, action, reward, next_obs, terminated), update = updated(made, noise)
    actor = module(made.nets["actor"])
    critics, targets = ([module(made.nets[name], k) for k in range(10)] for name in ("critics", "targets"))
    chosen = noise["critics of the target"][0].argsort()[:2].tolist()

    def sample(o: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = actor(o).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        raw = mean + normal.scale * eps
        return torch.tanh(raw), (normal.log_prob(raw) - (1 - torch.tanh(raw) ** 2).log()).sum(-1)

    def value(net: nn.Sequential, o: Tensor, a: Tensor) -> Tensor:
        q: Tensor = net(torch.cat([o, a], -1)).squeeze(-1)
        return q

    with torch.no_grad():
        next_action, log_prob = sample(next_obs, noise["next actions"][0])
        least = torch.minimum(*(value(targets[k], next_obs, next_action) for k in chosen))
        y = reward + 0.99 * (1 - terminated) * (least - log_prob)
    loss = sum((value(net, obs, action) - y).square().mean() for net in critics)
    step(loss, [p for net in critics for p in net.parameters()], 3e-4)
    a, log_prob = sample(obs, noise["policy actions"][0])
    mean = torch.stack([value(net, obs, a) for net in critics]).mean(0)
    step((log_prob - mean).mean(), list(actor.parameters()), 3e-4)
    update()
    assert_equal(made.nets["critics"], critics)
    assert_equal(made.nets["actor"], [actor])
    sign = -1 if log_prob.mean() < ACT / 2 else 1
    assert float(made.parameters["alpha"]) == pytest.approx(sign * 3e-4, rel=1e-3)


def test_rlpd_without_its_parts_is_sac() -> None:
    """Identity 5: the template's SAC on the same numbers, 80 updates."""
    from o2obench.kit.model_free.config import OnlineConfig
    from o2obench.kit.model_free.online import Online

    class TemplateSac(Online[OnlineConfig]):
        Config = OnlineConfig

    data = mixed_data(100)
    rlpd = agent(registry.algorithm("rlpd"), data, learning_starts=20, **PLAIN)
    sac = agent(TemplateSac, data, learning_starts=20, init="xavier")
    for made in (rlpd, sac):
        feed(made, data)
    assert_close(rlpd, sac)


def test_an_actor_waits_for_the_last_update_of_a_step() -> None:
    made = agent(registry.algorithm("rlpd"), mixed_data(500), learning_starts=20, utd_ratio=4)
    feed(made, mixed_data(500)[:30])
    assert made.updates == 40
    assert made.adams["critics"].steps.tolist() == [40]
    assert made.adams["actor"].steps.tolist() == made.adams["alpha"].steps.tolist() == [10]


@functools.cache
def cql_parent() -> Any:
    return trained("cql", **NARROW)


def from_cql(name: str, **options: Any) -> Any:
    return finetuned(name, cql_parent(), **options)


def test_rlpd_that_begins_from_the_same_networks_is_wsrl() -> None:
    """Identity 6: UTD 4, nothing offline, the least critic, all transitions of a step for the policy."""
    both: dict[str, Any] = {
        "utd_ratio": 4,
        "target_critics": 2,
        "target_replacement": True,
        "policy_updates": "all",
        "replay_data": "online",
    }
    wsrl = from_cql("wsrl", **both)
    rlpd = agent(
        registry.algorithm("rlpd"),
        mixed_data(500),
        learning_starts=20,
        num_critics=2,
        layer_norm="none",
        actor_value="min",
        target_entropy=-float(ACT),
        entropy_in_target=False,
        actor_lr=1e-4,
        **both,
    )
    rlpd._load_learners(cql_parent().pretrained_state() | {"scalars": {"alpha": to_array(cql_parent())}})
    feed(rlpd, mixed_data(500)[:60])
    for name, net in rlpd.nets.items():
        assert torch.equal(net.flat, wsrl.nets[name].flat), name
    assert rlpd.updates == wsrl.updates == 160


def to_array(made: Any) -> Any:
    return made.parameters["alpha"].numpy().copy()


def test_wsrl_with_one_update_a_step_is_sac_from_cql() -> None:
    """Identity 7."""
    assert_same(from_cql("wsrl", utd_ratio=1, target_critics=2), from_cql("sac_from"))


def test_sac_with_the_penalty_and_offline_data_is_cql_that_goes_on() -> None:
    """Identity 8."""
    sac = from_cql("sac_from", cql_alpha=5.0, replay_data=0.5, **NARROW)
    assert_same(sac, from_cql("cql_finetune", **NARROW))
    with pytest.raises(AssertionError):
        assert_same(from_cql("sac_from", replay_data=0.5), sac)


@pytest.mark.parametrize("name", ["sac_from", "wsrl", "cql_finetune"])
def test_without_learning_a_child_is_its_pretraining(name: str) -> None:
    """Identity 9: learning starts beyond the budget, the actions that are evaluated stay the parent's."""
    obs = np.random.default_rng(0).normal(size=(1, 9, OBS)).astype(np.float32)
    child = from_cql(name, learning_starts=1000)
    assert child.updates == 0
    assert np.array_equal(child.act(obs, explore=False), cql_parent().act(obs, explore=False))


def test_idle_steps_of_adam_move_a_parameter_sqrt_5_times_as_far() -> None:
    """Identity 28: four zero gradients for a real one, the same gradient each time, after many rounds."""
    idle, plain = torch.zeros(1, 1), torch.zeros(1, 1)
    with_idle, without = Adam([idle]), Adam([plain])
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    for _ in range(2000):
        for gradient in (zero, zero, zero, zero, one):
            with_idle.step([gradient], with_idle.schedule([1e-3])[0])
        without.step([one], without.schedule([1e-3])[0])
    before = idle.clone(), plain.clone()
    for _ in range(100):
        for gradient in (zero, zero, zero, zero, one):
            with_idle.step([gradient], with_idle.schedule([1e-3])[0])
        without.step([one], without.schedule([1e-3])[0])
    assert float((idle - before[0]) / (plain - before[1])) == pytest.approx(5**0.5, rel=0.02)


# ---- SAC from any pretraining ---------------------------------------------------------------------------


def test_what_is_reset_begins_anew_and_says_so() -> None:
    child = from_cql("sac_from", reset_critics=True, learning_starts=1000)
    fresh = agent(registry.algorithm("sac_from"), mixed_data(500))
    for name in ("critics", "targets"):
        assert torch.equal(child.nets[name].flat, fresh.nets[name].flat)
    assert torch.equal(child.nets["actor"].flat, cql_parent().nets["actor"].flat)
    assert child.taken_over() == {"actor": "kept", "critics": "fresh: reset_critics"}
    assert child.adams["critics"].steps.tolist() == [0]
    assert child.adams["actor"].steps.tolist() == [50]


def test_moments_are_forgotten_where_a_child_says_so() -> None:
    child = from_cql("sac_from", keep_moments=False, learning_starts=1000)
    assert child.adams["actor"].steps.tolist() == child.adams["critics"].steps.tolist() == [0]
    assert not child.adams["actor"].square[0].any()
    assert child.taken_over() == dict.fromkeys(("actor", "critics"), "kept, moments forgotten")


def test_critics_of_another_number_begin_anew() -> None:
    child = from_cql("sac_from", num_critics=5, target_critics=2)
    expected = "fresh: the pretraining has 2 of 1,313 parameters, this has 5 of 1,313"
    assert child.taken_over()["critics"] == expected
    assert child.nets["critics"].flat.shape[1] == 5


def test_a_critic_warm_up_moves_the_critics_alone() -> None:
    child = agent(registry.algorithm("sac_from"), mixed_data(500), reset_critics=True, critic_warmup=30)
    child.warm_start([cql_parent().pretrained_state()])
    before = {name: net.flat.clone() for name, net in child.nets.items()}
    stages = type(child).stages(child.config, child.task.budget)
    assert (stages[0].name, stages[0].env_steps, stages[0].updates) == ("critic warm-up", 0, 0)
    child.begin("critic warm-up")
    for _ in child.work("critic warm-up"):
        pass
    assert (child.clock, child.updates) == (30, 0), "of the policy there is none"
    assert torch.equal(child.nets["actor"].flat, before["actor"])
    assert not torch.equal(child.nets["critics"].flat, before["critics"])
    assert not torch.equal(child.nets["targets"].flat, before["targets"])


@pytest.mark.slow
@pytest.mark.parametrize("parent", ["bc", "iql", "awac", "td3_bc", "cql", "cal_ql", "mopo"])
def test_sac_starts_from_every_pretraining(parent: str) -> None:
    """Its first policy returns what the pretraining's does, within the noise of 40 episodes."""
    spec, data = find_env(check_agent.ENV), mixed_data(2000)
    cls = registry.algorithm(parent)
    options = {"hidden_dims": (64, 64), "batch_size": 64}
    options |= {"rollout_batch_size": 200, "max_model_epochs": 2} if parent == "mopo" else {}
    options |= {"cql_actions": 3} if parent.startswith("c") else {}
    options |= {"normalize_reward": False} if parent == "iql" else {}
    of = cls.Config.model_validate(options)
    task = functools.partial(Task, 4, 2, 50, (0,), spec.terminal, Budget(300, 40))
    pretraining = cls(task(), of, data)
    for stage in cls.stages(of, Budget(300, 40)):
        pretraining.begin(stage.name)
        for _ in pretraining.work(stage.name):
            pass
    sac = registry.algorithm("sac_from")
    config = sac.Config.model_validate({"hidden_dims": (64, 64), "batch_size": 64, "distil_updates": 3000})
    child = sac(task(pretraining=lambda: cls(task(), of, data[:0])), config, data)
    child.warm_start([pretraining.pretrained_state()])
    arena, returns = Arena(spec, (0,)), list[Any]()
    for made in (pretraining, child):
        act: Callable[[Any], Any] = functools.partial(made.act, explore=False)
        returns.append(arena.returns(act, ("start",), 40)[0])
    noise = float(np.sqrt(sum(r.var(ddof=1) / len(r) for r in returns)))
    assert abs(returns[0].mean() - returns[1].mean()) < 2 * noise, [r.mean() for r in returns]
    kept = parent in ("cql", "cal_ql", "mopo")
    assert child.taken_over()["actor"].startswith("kept" if kept else "distilled")
    feed(child, mixed_data(500)[:30])


# ---- which transitions a batch has ------------------------------------------------------------------------


def test_a_window_holds_the_newest_transitions_only() -> None:
    child = from_cql("sac_from", replay_window=16)
    rows = child.batches(100) - child.replay.online_base[0]
    assert sorted(set(rows.flatten().tolist())) == list(range(60 - 16, 60))


def test_seeded_transitions_count_as_online_ones() -> None:
    child = from_cql("sac_from", replay_seeded=60)
    rows = child.batches(2000)
    assert (rows < child.replay.offline).float().mean() == pytest.approx(0.5, abs=0.01)
    assert set(rows[rows < child.replay.offline].tolist()) <= set(child.seeded.flatten().tolist())


def test_before_an_episode_ends_finished_ones_are_offline() -> None:
    data = mixed_data(500)
    running: Transitions = data[data.episode_start.nonzero()[0][0] :][:10]
    child = agent(registry.algorithm("sac_from"), data, replay_finished=True, learning_starts=1000)
    child.warm_start([cql_parent().pretrained_state()])
    running = replace(running, terminated=np.zeros(10, bool), truncated=np.zeros(10, bool))
    feed(child, running)
    assert int(child.batches(20).max()) < child.replay.offline
    assert SMALL["batch_size"] == child.batches(1).shape[-1]
    work(child)


def test_runs_that_do_not_learn_are_evaluated_as_frozen_ones_are(tmp_path: Path) -> None:
    """Identity 9 through the runner: the same returns at the same steps, byte for byte."""
    small = {"hidden_dims": [32, 32], "batch_size": 32}
    plan = toy_plan(
        "cql",
        {"frozen": {"from": "cql"}},
        {"sac_from": {"learning_starts": 1000}},
        {"sac_from": {"from": "iql", "learning_starts": 1000, "distil_updates": 200, "label": "from iql"}},
        seeds=1,
        offline={"updates": 60, "evaluate_every": 30},
        overrides={
            "cql": {**small, **NARROW},
            "sac_from": small,
            "iql": {**small, "normalize_reward": False},
        },
    )
    compute(plan, tmp_path)
    folders = {
        experiment.method: ResultsFolder(tmp_path).run(experiment.run) for experiment in plan.experiments
    }
    kept, frozen = (folders[name].evaluations.read_bytes() for name in ("sac_from", "frozen"))
    assert kept == frozen
    assert len(kept.splitlines()) == 4
    assert read_json(folders["sac_from"].record)["taken_over"] == {"actor": "kept", "critics": "kept"}
    told = read_json(folders["from iql"].record)["taken_over"]
    assert told["actor"].startswith("distilled in 200 updates")
    [note] = warnings.taken_over(plan, warnings.records(plan, ResultsFolder(tmp_path)))
    assert note.startswith("from iql: of its pretraining (iql): actor distilled in 200 updates")
