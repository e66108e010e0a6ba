"""The model-free template: its defaults are SAC bit for bit, IQL is its textbook, and parts hang together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_free.config import OfflineConfig
from o2obench.kit.model_free.template import SUBSET, Offline, OffPolicy
from o2obench.kit.policies import Gaussian, TanhGaussian
from o2obench.kit.replay import Replay
from o2obench.kit.rng import Streams
from o2obench.kit.sac import Sac, SacOptions
from o2obench.transitions import stack_steps
from o2obench.util.rng import Stream
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


def test_sac_is_the_learner_of_the_model_based_family_bit_for_bit() -> None:
    """Identity 1: the same networks, moments and temperature after 80 updates."""
    data = mixed_data(100)
    sac = agent(registry.algorithm("sac"), data[:0], learning_starts=20)
    feed(sac, data)
    streams, replay = Streams((0,), "cpu"), Replay(data[:0], 1, (OBS, ACT), 100, 0, "cpu")
    learner = Sac((0,), OBS, ACT, SacOptions.model_validate(SMALL), "cpu")
    for i in range(len(data)):
        replay.append(stack_steps([data[i]]))
        if replay.online > 20:
            index = replay.online_index(streams.uniform(Stream.REAL_BATCH, SMALL["batch_size"]))
            learner.learn(replay, index[None], learner.noise(streams, 1), [(3e-4,) * 3])
    assert sac.updates == 80
    for name in ("actor", "critics", "targets"):
        assert torch.equal(getattr(learner, name).flat, sac.nets[name].flat), name
    assert torch.equal(learner.log_alpha, sac.parameters["alpha"])
    assert torch.equal(learner.actor_adam.square[0], sac.adams["actor"].square[0])


def test_iql_without_temperature_is_behaviour_cloning() -> None:
    """Identity 10: with beta 0 all weights are 1; the rates are made equal, BC's is constant."""
    iql, bc = registry.algorithm("iql"), registry.algorithm("bc")
    data, steps = mixed_data(500), list[Tensor]()
    for made in (agent(iql, data, beta=0.0), agent(bc, data)):
        made.rates = lambda update, made=made: dict.fromkeys(made.order, 1e-3)
        made.begin("offline")
        work(made)
        steps.append(made.nets["actor"].flat)
    assert torch.equal(*steps)


def test_half_an_expectile_is_half_the_squared_error() -> None:
    """Identity 11: at tau = 0.5 the value's gradient is half of the mean regression's."""
    iql = agent(registry.algorithm("iql"), mixed_data(500), expectile=0.5)
    batch = iql.mapped(iql.replay.take(torch.arange(64)[None]))
    constants, flat = iql.constants(batch, {}), iql.nets["value"].flat.clone().requires_grad_()
    [expectile] = torch.autograd.grad(iql.value_loss(flat, batch, {}, constants)[0].sum(), [flat])
    error = (constants["q"] - iql.v(batch.obs, flat)).square().mean()
    [mean] = torch.autograd.grad(error, [flat])
    torch.testing.assert_close(expectile, 0.5 * mean)


def test_no_gradient_of_the_policy_reaches_the_values() -> None:
    """Identity 12: another policy leaves V and Q as they are, bit for bit."""
    one = trained("iql")
    other = agent(registry.algorithm("iql"), mixed_data(500))
    other.nets["actor"].flat.normal_()
    other.begin("offline")
    work(other)
    for name in ("value", "critics", "targets"):
        assert torch.equal(one.nets[name].flat, other.nets[name].flat), name
    assert not torch.equal(one.nets["actor"].flat, other.nets["actor"].flat)


def test_an_update_of_iql_is_the_textbook_one() -> None:
    """Equations 5 to 7 in plain modules and torch.optim, with the same weights and batch."""
    iql = agent(registry.algorithm("iql"), mixed_data(500), beta=2.0)
    (obs, action, reward, next_obs, terminated), update = updated(iql)
    value, actor = module(iql.nets["value"]), module(iql.nets["actor"])
    critics, targets = ([module(iql.nets[name], k) for k in (0, 1)] for name in ("critics", "targets"))
    log_std = nn.Parameter(torch.zeros(ACT))
    optimisers = [
        torch.optim.Adam([p for net in nets for p in net.parameters()] + more, lr=3e-4)
        for nets, more in (([value], []), (critics, []), ([actor], [log_std]))
    ]
    pairs = torch.cat([obs, action], -1)
    with torch.no_grad():
        q = torch.minimum(*(net(pairs).squeeze(-1) for net in targets))
        y = reward + 0.99 * (1 - terminated) * value(next_obs).squeeze(-1)
        weight = (2.0 * (q - value(obs).squeeze(-1))).exp().clamp(max=100)
    u = q - value(obs).squeeze(-1)
    density = torch.distributions.Normal(torch.tanh(actor(obs)), log_std.exp().expand(64, ACT))
    losses = [
        (torch.where(u > 0, 0.7, 0.3) * u**2).mean(),
        sum((net(pairs).squeeze(-1) - y).square().mean() for net in critics),
        -(weight * density.log_prob(action).sum(-1)).mean(),
    ]
    for optimiser, loss in zip(optimisers, losses, strict=True):
        loss.backward()
        optimiser.step()
    update()
    assert_equal(iql.nets["value"], [value])
    assert_equal(iql.nets["actor"], [actor])
    assert_equal(iql.nets["critics"], critics)
    torch.testing.assert_close(iql.nets["actor"].free()[0], log_std.data, atol=2e-6, rtol=1e-5)


def test_an_update_of_awac_is_the_textbook_one() -> None:
    """Algorithm 1 in plain modules and torch.optim, with the same weights, batch and noise."""
    awac = agent(registry.algorithm("awac"), mixed_data(500))
    noise = {name: torch.randn(1, 64, ACT) for name in awac.draws()}
    (obs, action, reward, next_obs, terminated), update = updated(awac, noise)
    actor, log_std = module(awac.nets["actor"]), nn.Parameter(torch.zeros(ACT))
    critics, targets = ([module(awac.nets[name], k) for k in (0, 1)] for name in ("critics", "targets"))

    def least(nets: list[nn.Sequential], o: Tensor, a: Tensor) -> Tensor:
        return torch.minimum(*(net(torch.cat([o, a], -1)).squeeze(-1) for net in nets))

    with torch.no_grad():
        next_action = (actor(next_obs) + noise["next actions"][0]).clamp(-1, 1)
        y = reward + 0.99 * (1 - terminated) * least(targets, next_obs, next_action)
    pairs = torch.cat([obs, action], -1)
    loss = sum((net(pairs).squeeze(-1) - y).square().mean() for net in critics)
    step(loss, [p for net in critics for p in net.parameters()], 3e-4)
    with torch.no_grad():
        v = least(critics, obs, (actor(obs) + noise["policy actions"][0]).clamp(-1, 1))
        weight = ((least(critics, obs, action) - v) / 0.3333).exp().clamp(max=100)
    density = torch.distributions.Normal(actor(obs), log_std.exp().expand(64, ACT))
    loss = -(weight * density.log_prob(action).sum(-1)).mean()
    step(loss, [*actor.parameters(), log_std], 3e-4)
    update()
    assert_equal(awac.nets["critics"], critics)
    assert_equal(awac.nets["actor"], [actor])


def test_an_update_of_cql_is_the_textbook_one() -> None:
    """CQL(H) with importance sampling in plain modules and torch.optim, n = 3."""
    n = 3
    cql = agent(registry.algorithm("cql"), mixed_data(500), cql_actions=n)
    noise = {name: torch.randn(1, *shape) for name, (_, shape) in cql.draws().items()}
    noise["uniform actions"] = 2 * torch.rand(1, n * 64, ACT) - 1
    (obs, action, reward, next_obs, terminated), update = updated(cql, noise)
    actor = module(cql.nets["actor"])
    critics, targets = ([module(cql.nets[name], k) for k in (0, 1)] for name in ("critics", "targets"))

    def sample(o: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = actor(o).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        raw = mean + normal.scale * eps
        return torch.tanh(raw), (normal.log_prob(raw) - (1 - torch.tanh(raw) ** 2).log()).sum(-1)

    def value(net: nn.Sequential, o: Tensor, a: Tensor) -> Tensor:
        q: Tensor = net(torch.cat([o, a], -1)).squeeze(-1)
        return q

    with torch.no_grad():
        next_action, _ = sample(next_obs, noise["next actions"][0])
        y = reward + 0.99 * (1 - terminated) * torch.minimum(
            *(value(t, next_obs, next_action) for t in targets)
        )
        pushed = list[tuple[Tensor, Tensor]]()
        for k in range(n):
            of = slice(64 * k, 64 * (k + 1))
            pushed.append((noise["uniform actions"][0, of], torch.full((64,), -ACT * np.log(2.0))))
            pushed += [
                sample(o, noise["conservative actions"][0, i, of]) for i, o in enumerate((obs, next_obs))
            ]
    loss = torch.zeros(())
    for net in critics:
        q = value(net, obs, action)
        each = torch.stack([value(net, obs, a) - density for a, density in pushed])
        loss = loss + (q - y).square().mean() + 5.0 * (each.logsumexp(0) - q).mean()
    step(loss, [p for net in critics for p in net.parameters()], 3e-4)
    a, log_prob = sample(obs, noise["policy actions"][0])
    loss = (log_prob - torch.minimum(*(value(net, obs, a) for net in critics))).mean()
    step(loss, list(actor.parameters()), 1e-4)
    update()
    assert_equal(cql.nets["critics"], critics)
    assert_equal(cql.nets["actor"], [actor])
    assert float(cql.parameters["alpha"]) == pytest.approx(-1e-4 if log_prob.mean() < ACT else 1e-4, rel=1e-3)


class WithoutEntropy(Offline[OfflineConfig]):
    """SAC without entropy in the target."""

    Config = OfflineConfig
    entropy_in_target = False


@pytest.mark.parametrize("weight", [0.0, 1e-300])
def test_cql_without_a_penalty_is_sac_without_entropy_in_the_target(weight: float) -> None:
    """Identity 3: the penalty left out, and computed with a weight that rounds to zero."""
    cql = trained("cql", cql_alpha=weight)
    sac = agent(WithoutEntropy, mixed_data(500), normalize_obs=False, actor_lr=1e-4, init="orthogonal")
    sac.begin("offline")
    work(sac)
    for name, net in sac.nets.items():
        assert torch.equal(cql.nets[name].flat, net.flat), name
    assert torch.equal(cql.parameters["alpha"], sac.parameters["alpha"])


def test_the_gap_of_constant_critics_and_a_uniform_policy_is_known() -> None:
    """Identity 4: act_dim log 2 + log 3n."""
    cql = agent(registry.algorithm("cql"), mixed_data(500), cql_actions=4)
    cql.nets["critics"].flat.zero_()
    rows = cql.replay.take(torch.arange(64)[None])
    constants = {
        "actions": 2 * torch.rand(1, 12 * 64, ACT) - 1,
        "log_density": torch.full((1, 12 * 64), -ACT * float(np.log(2))),
    }
    gap, _ = cql.gap(cql.nets["critics"].flat, rows, constants)
    torch.testing.assert_close(gap, torch.full((1, 2, 64), ACT * float(np.log(2)) + float(np.log(12))))


@pytest.mark.parametrize("stage", ["", "_finetune"])
def test_options_of_losses_have_their_own_defaults(stage: str) -> None:
    """Both stages share them; an option of the family does not hide one of the losses."""
    awac, cql = (registry.algorithm(name + stage).Config() for name in ("awac", "cql"))
    assert awac.model_dump()["hidden_dims"] == (256, 256, 256)
    assert cql.model_dump()["actor_lr"] == 1e-4


def test_fine_tuning_goes_on_with_everything() -> None:
    """Networks, targets, moments, step counts and the map of the data are handed over."""
    parent = trained("iql")
    child = agent(registry.algorithm("iql_finetune"), mixed_data(500))
    child.warm_start([parent.pretrained_state()])
    for name, net in parent.nets.items():
        assert torch.equal(child.nets[name].flat, net.flat), name
    for name, adam in parent.adams.items():
        assert torch.equal(child.adams[name].square[0], adam.square[0])
        assert child.adams[name].steps.tolist() == [50]
    obs = np.random.default_rng(0).normal(size=(1, 9, OBS)).astype(np.float32)
    assert np.array_equal(child.act(obs, explore=False), parent.act(obs, explore=False))
    assert float(child.maps["reward_scale"]) == float(parent.maps["reward_scale"]) != 1.0


def test_a_checkpoint_from_before_updates_of_other_parts_were_counted_goes_on() -> None:
    made = finetuned("iql_finetune", trained("iql"), steps=40)
    state = made.state_dict()
    del state["clock"]
    again = agent(registry.algorithm("iql_finetune"), mixed_data(500), learning_starts=20)
    again.load_state_dict(state)
    for each in (made, again):
        feed(each, mixed_data(500)[40:60])
    assert again.clock == made.clock == 40
    assert torch.equal(again.nets["actor"].flat, made.nets["actor"].flat)


def test_learning_that_begins_beyond_the_budget_changes_nothing() -> None:
    """Identity 9: as frozen."""
    parent = trained("iql")
    child = agent(registry.algorithm("iql_finetune"), mixed_data(500), learning_starts=1000)
    child.warm_start([parent.pretrained_state()])
    feed(child, mixed_data(500)[:60])
    assert child.updates == 0
    assert all(torch.equal(child.nets[name].flat, net.flat) for name, net in parent.nets.items())


@pytest.mark.parametrize("name", ["bc", "iql"])
def test_the_arrays_of_a_policy_are_the_policy(name: str) -> None:
    """The map of observations is inside the first layer."""
    made = trained(name, seeds=(0, 3))
    obs = np.random.default_rng(0).normal(1.0, 3.0, (2, 9, OBS)).astype(np.float32)
    network, x = made.network(), obs
    for i, (weight, bias) in enumerate(network.layers):
        x = x @ weight + bias[:, None]
        x = np.maximum(x, 0.0) if i < len(network.layers) - 1 else np.tanh(x)
    np.testing.assert_allclose(x, made.act(obs, explore=False), atol=2e-5)


def test_rewards_are_mapped_as_the_option_says() -> None:
    data = mixed_data(500)
    returns = np.add.reduceat(data.reward.astype(np.float64), np.flatnonzero(data.episode_start))
    iql = agent(registry.algorithm("iql"), data, reward_shift=-1.0)
    batch = iql.mapped(iql.replay.take(torch.arange(500)[None]))
    expected = data.reward * 1000.0 / np.ptp(returns) - 1.0
    np.testing.assert_allclose(batch.reward[0].numpy(), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(batch.obs[0].mean(0).numpy(), 0.0, atol=1e-4)
    np.testing.assert_allclose(batch.obs[0].std(0).numpy(), 1.0, atol=1e-2)


@pytest.mark.parametrize(("mix", "share"), [("online", 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_every_batch_has_the_share_of_offline_transitions(mix: Any, share: float) -> None:
    made = finetuned("iql_finetune", trained("iql"), replay_data=mix)
    offline = made.batches(40) < made.replay.offline
    assert offline.float().mean(-1).unique().tolist() == [share]


def test_the_union_draws_all_transitions_alike() -> None:
    made = finetuned("iql_finetune", trained("iql"))
    rows = made.batches(1000).flatten()
    assert rows.min() == 0
    assert rows.max() == made.replay.offline + made.replay.online - 1
    counts = torch.bincount(rows, minlength=560).float()
    chi_square = float(((counts - counts.mean()).square() / counts.mean()).sum())
    assert abs(chi_square - 559) < 5 * (2 * 559) ** 0.5


def test_densities_of_data_are_those_of_torch() -> None:
    torch.manual_seed(0)
    mean, log_std, noise = (torch.randn(1, 50, ACT) for _ in range(3))
    normal = torch.distributions.Normal(mean, log_std.exp())
    squashed = torch.distributions.TransformedDistribution(
        normal, [torch.distributions.transforms.TanhTransform(cache_size=1)]
    )
    action = torch.tanh(mean + log_std.exp() * noise).clamp(-0.999, 0.999)
    torch.testing.assert_close(
        TanhGaussian(ACT).log_prob((mean, log_std), action),
        squashed.log_prob(action).sum(-1),
        atol=1e-3,
        rtol=1e-3,
    )
    torch.testing.assert_close(
        Gaussian(ACT).log_prob((mean, log_std), action), normal.log_prob(action).sum(-1)
    )
    edge = TanhGaussian(ACT).log_prob((mean, log_std), torch.ones(1, 50, ACT))
    assert edge.isfinite().all(), "an action at its bound has a finite density"


def test_a_data_set_without_an_episode_of_another_return_has_a_finite_scale() -> None:
    data = mixed_data(500)
    flat = replace(data, reward=np.zeros_like(data.reward))
    assert np.isfinite(agent(registry.algorithm("iql"), flat).maps["reward_scale"].numpy()).all()


def _with_critics() -> list[str]:
    """Return the methods of the template; jsrl, which is SAC here, is not built without its guide."""
    found = [name for name in registry.names() if issubclass(registry.algorithm(name), OffPolicy)]
    return [name for name in found if name not in ("bc", "jsrl")]


@pytest.mark.parametrize("name", _with_critics())
def test_a_subset_of_critics_is_drawn_where_the_option_is_taken(name: str) -> None:
    cls = registry.algorithm(name)
    if cls.Config.model_fields["target_critics"].annotation is type(None):
        with pytest.raises(ValidationError, match="target_critics"):
            cls.Config.model_validate({"target_critics": 1})
    else:
        assert SUBSET in agent(cls, mixed_data(100), target_critics=1).draws()
