"""FOWM: windows stay in their episode, losses are those of plain modules, the best plan is taken."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_based import planner as P
from o2obench.kit.model_based.windows import FIRST, LEAST_ERROR, TO_PRIORITY, WEIGHT
from o2obench.kit.networks import Mlp
from tests.helpers.model_free import agent, feed, learns, trained, work

TINY: dict[str, Any] = {
    **{"hidden_dims": (16, 16), "encoder_dim": 16, "latent_dim": 8, "batch_size": 32},
    **{"plan_samples": 30, "plan_policies": 6, "elites": 5, "normalize_reward": False},
}
ONLINE = {name: value for name, value in TINY.items() if name != "normalize_reward"}


def offline(**options: Any) -> Any:
    return trained("fowm", **{**TINY, **options})


def online(steps: int = 60, **options: Any) -> Any:
    made = agent(registry.algorithm("fowm_finetune"), mixed_data(500), **{**ONLINE, **options})
    made.warm_start([offline().pretrained_state()])
    feed(made, mixed_data(500)[200 : 200 + steps])
    return made


# ---- windows ----------------------------------------------------------------------------------------------


def test_a_window_stays_within_its_episode_and_within_what_is_stored() -> None:
    made, data = online(learning_starts=20, seeds=(0,)), mixed_data(500)
    episode = np.concatenate([data.episode_start.cumsum(), 1000 + data.episode_start[200:260].cumsum()])
    stored = np.arange(len(episode))
    for _ in range(30):
        index = made.batches(1)[0, 0]
        first = made.replay.take(index[None]).columns[FIRST].view(1, -1, 5)
        counts = made.alive(first)[0].bool()
        for rows, alive in zip(index.view(-1, 5).numpy(), counts.numpy(), strict=True):
            whole = [k for k in range(5) if rows[0] + k < len(stored)]
            within = [k for k in whole if episode[rows[0] + k] == episode[rows[0]]]
            assert alive.nonzero()[0].tolist() == within, "all of its episode, and nothing else"
            assert (rows[alive] == rows[0] + np.array(within)).all()


def test_half_of_a_batch_is_online_and_all_of_it_where_nothing_is_offline() -> None:
    made = online(learning_starts=20)
    first = made.batches(3).view(1, 3, -1, 5)[..., 0]
    assert ((first >= made.replay.offline).sum(-1) == 16).all()
    made.replay.offline = 0
    assert made._kinds() == [0, 32]


def test_a_window_is_drawn_by_its_error_and_weighs_less_for_it() -> None:
    made = offline(updates=0)
    made.errors.fill_(0.0)
    made.offline.set_all(torch.ones((1, 500)))
    made.offline.set(torch.tensor([[7, 9]]), torch.tensor([[250.0, 500.0]]) ** 1.0)
    drawn = torch.cat([made.batches(1)[0, 0].view(-1, 5)[:, 0] for _ in range(200)])
    share = [(drawn == place).float().mean().item() for place in (7, 9)]
    assert share == pytest.approx([250 / 1248, 500 / 1248], abs=0.03)
    weights = made._weights(made.offline, torch.tensor([[1, 7, 9]]))[0]
    torch.testing.assert_close(weights, torch.tensor([1.0, 250.0**-0.4, 500.0**-0.4]))


def test_errors_become_priorities_and_newcomers_get_the_greatest() -> None:
    made = offline(updates=1)
    work(made)
    changed = made.offline.weights.flatten()[:500] != 1.0
    assert 0 < changed.sum() <= 32
    priority = made.errors[0] ** TO_PRIORITY
    assert torch.isin(made.offline.weights.flatten()[:500][changed].float(), priority).all()
    learning = online(steps=30, learning_starts=40)
    assert (learning.online.weights.flatten()[:30] == 1.0).all()
    learning.offline.set(torch.tensor([[3]]), torch.tensor([[9.0]]))
    feed(learning, mixed_data(500)[230:231])
    assert learning.online.weights.flatten()[30] == 9.0
    learning.errors.fill_(0.0)
    assert (learning.errors.clamp(LEAST_ERROR) ** TO_PRIORITY > 0).all()


# ---- losses, against plain modules ------------------------------------------------------------------------


def reference(
    net: Mlp, activations: Sequence[nn.Module], norm: str, member: int | None = None
) -> nn.Sequential:
    """Return a network of a stack as torch modules; ``norm``: trunk, first, latent or both."""
    place = (0,) if member is None else (0, member)
    parts, layers, norms = list[nn.Module](), net.layers(), net.norms()
    for i, (weight, bias) in enumerate(layers):
        linear = nn.Linear(*weight[place].shape)
        linear.weight.data, linear.bias.data = weight[place].T.clone(), bias[place].clone()
        parts.append(linear)
        if i < len(layers) - 1:
            if i < len(norms):
                of = nn.LayerNorm(norms[i][0].shape[-1])
                of.weight.data, of.bias.data = (x[place].clone() for x in norms[i])
                parts.append(of)
            parts.append(activations[i])
    if norm == "latent":
        gain, shift = net.free()[place].chunk(2, -1)
        last = nn.LayerNorm(gain.shape[-1])
        last.weight.data, last.bias.data = 1.0 + gain, shift.clone()
        parts += [last, nn.Sigmoid()]
    return nn.Sequential(*parts)


def modules(made: Any) -> dict[str, Any]:
    mish, head = [nn.Mish(), nn.Mish()], [nn.Tanh(), nn.ELU()]
    nets = made.nets
    return {
        "encoder": reference(nets["encoder"], [nn.ELU()], "latent"),
        "slow": reference(nets["slow encoder"], [nn.ELU()], "latent"),
        "dynamics": reference(nets["dynamics"], mish, "latent"),
        "reward": reference(nets["reward"], mish, ""),
        "critics": [reference(nets["critics"], head, "first", k) for k in range(5)],
        "targets": [reference(nets["targets"], head, "first", k) for k in range(5)],
        "value": reference(nets["value"], head, "first"),
        "actor": reference(nets["actor"], mish, ""),
    }


def together(*parts: Tensor) -> Tensor:
    return torch.cat(parts, -1)


def perturbed(**options: Any) -> Any:
    """Return an agent whose networks, those that begin at zero too, are random."""
    made, generator = offline(**options), torch.Generator().manual_seed(3)
    for net in made.nets.values():
        net.flat += 0.1 * torch.randn(net.flat.shape, generator=generator)
    return made


def test_losses_are_those_of_plain_modules() -> None:
    made = perturbed(target_critics=None)
    index = made.batches(1)[:, 0]
    batch = made.replay.take(index)
    batch.columns[WEIGHT] = torch.rand((1, 32), generator=torch.Generator().manual_seed(1))
    batch = made.mapped(batch)
    nets, alive = modules(made), made.alive(batch.columns[FIRST].view(1, 32, 5))[0]
    obs, action, reward, next_obs, terminated = (x[0].view(32, 5, -1) for x in batch[:5])
    z, total, actor = nets["encoder"](obs[:, 0]), torch.zeros(()), torch.zeros(())
    errors = torch.zeros(32)
    for t in range(5):
        pair = together(z, action[:, t])
        scale = 0.5**t * alive[:, t]
        with torch.no_grad():
            v_next = nets["value"](nets["encoder"](next_obs[:, t]))
            y = reward[:, t] + 0.99 * (1 - terminated[:, t]) * v_next
            target = torch.stack([net(pair) for net in nets["targets"]]).amin(0)
        values = [net(pair) for net in nets["critics"]]
        u = target - nets["value"](z.detach())
        after = nets["dynamics"](pair)
        each = (
            20.0 * (after - nets["slow"](next_obs[:, t]).detach()).square().mean(-1)
            + 0.5 * (nets["reward"](pair) - reward[:, t]).square().squeeze(-1)
            + 0.1 * sum((q - y).square().squeeze(-1) for q in values)
            + 0.1 * (torch.where(u > 0, 0.7, 0.3) * u.square()).squeeze(-1)
        )
        total = total + (batch.columns[WEIGHT][0] * scale * each).mean() / 5
        weight = (3.0 * u.detach()).exp().clamp(max=100.0).squeeze(-1)
        distance = (torch.tanh(nets["actor"](z.detach())) - action[:, t]).square().sum(-1)
        actor = actor + (scale * weight * 0.5 * distance).mean()
        errors = errors + scale * sum((q - y).abs().squeeze(-1) for q in values).detach()
        z = after
    constants = made.constants(batch, {})
    world = made.world_loss(made.parameters["world"], batch, {}, constants)[0, 0]
    torch.testing.assert_close(world, total, rtol=1e-5, atol=1e-6)
    ours = made.actor_loss(made.parameters["actor"], batch, {}, constants)[0, 0]
    torch.testing.assert_close(ours, actor, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(made.errors[0], errors, rtol=1e-5, atol=1e-5)

    total.backward()
    found = made.parted("world", learns(made, "world", batch, {}))
    names = ("encoder", "dynamics", "reward", "critics", "value")
    gradients = dict(zip(names, (x[0] for x in found), strict=True))
    for name in ("dynamics", "reward", "value"):
        first = nets[name][0].weight.grad
        torch.testing.assert_close(gradients[name][: first.numel()].view(first.T.shape), first.T, **CLOSE)
    for k in range(5):
        first = nets["critics"][k][0].weight.grad
        torch.testing.assert_close(
            gradients["critics"][k, : first.numel()].view(first.T.shape), first.T, **CLOSE
        )
    first = nets["encoder"][0].weight.grad
    torch.testing.assert_close(gradients["encoder"][: first.numel()].view(first.T.shape), first.T, **CLOSE)


CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}


@pytest.mark.parametrize("part", ["world", "actor"])
def test_long_gradients_are_shortened(part: str) -> None:
    for most, expected in ((1e-3, 1e-3), (1e9, None)):
        made = perturbed(updates=1, max_grad_norm=most)
        batch = made.replay.take(made.batches(1)[:, 0])
        batch.columns[WEIGHT] = torch.ones((1, 32))
        moving = made._moving("offline", 1)
        before = {name: adam.mean[0].clone() for name, adam in made.adams.items()}
        drawn = [made.draw(purpose, 1, *draw)[0] for purpose, draw in made.draws().items()]
        made.update(moving, batch, None, made._scales([moving])[0], *drawn)
        gradient = (made.adams[part].mean[0] - 0.9 * before[part]) / 0.1
        assert expected is None or gradient.norm().item() == pytest.approx(expected, rel=1e-2)
        assert expected or gradient.norm() > 1e-2, "this one was longer"


def test_a_single_critic_has_no_doubt() -> None:
    made = offline(num_critics=1, target_critics=None)
    assert np.isfinite(made.act(mixed_data(500).obs[None, :1], explore=True)).all()


def test_targets_and_slow_encoder_follow_in_every_second_update() -> None:
    made = offline(updates=3)
    assert "targets" not in made._moving("offline", 1)
    assert {"targets", "slow encoder"} <= set(made._moving("offline", 2))
    before = made.nets["slow encoder"].flat.clone()
    made.nets["slow encoder"].follow(made.nets["encoder"], made.pace("slow encoder"))
    moved = before + 0.01 * (made.nets["encoder"].flat - before)
    torch.testing.assert_close(made.nets["slow encoder"].flat, moved)


# ---- planning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("critics", [1, 2, 5])
def test_the_least_of_two_critics_is_the_mean_over_all_pairs(critics: int) -> None:
    q = torch.randn((2, critics, 7), generator=torch.Generator().manual_seed(0))
    pairs = list(itertools.combinations(range(critics), 2)) or [(0, 0)]
    expected = torch.stack([torch.minimum(q[:, a], q[:, b]) for a, b in pairs]).mean(0)
    torch.testing.assert_close(P.least_of_two(q), expected)


def test_a_sequence_is_worth_what_the_modules_say() -> None:
    made = perturbed(penalty_coef=2.0)
    nets, plans = modules(made), torch.rand((1, 3, 4, 5, 2), generator=torch.Generator().manual_seed(2)) - 0.5
    obs = made.observed(mixed_data(500).obs[None, :3])
    for n, k in itertools.product(range(3), range(4)):
        z, worth = nets["encoder"](obs[0, n]), torch.zeros(())
        for t in range(5):
            pair = together(z, plans[0, n, k, t])
            values = torch.cat([net(pair[None])[0] for net in nets["critics"]])
            worth = worth + 0.99**t * (nets["reward"](pair[None])[0, 0] - 2.0 * values.std())
            z = nets["dynamics"](pair[None])[0]
        pair = together(z, torch.tanh(nets["actor"](z[None])[0]))
        values = torch.cat([net(pair[None])[0] for net in nets["critics"]])
        pairs = [min(a, b) for a, b in itertools.combinations(values.tolist(), 2)]
        worth = worth + 0.99**5 * (sum(pairs) / 10 - 2.0 * values.std())
        with torch.no_grad():
            ours = made.worth(made.encode(obs), plans)[0, n, k]
        torch.testing.assert_close(ours, worth.detach(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_evaluation_takes_the_best_of_all_sequences() -> None:
    made = perturbed()
    obs = made.observed(mixed_data(500).obs[None, :6])
    free, along = made._same_noise.expand(1, 6, -1, -1, -1).split([30, 6], 2)
    z = made.encode(obs)
    plans = torch.cat([(2.0 * free).clamp(-1, 1), made.policy_plans(z, along)], 2)
    best = made.worth(z, plans).argmax(-1)[0]
    expected = torch.stack([plans[0, n, best[n], 0] for n in range(6)])
    torch.testing.assert_close(made.judge(obs)[0], expected)


@torch.no_grad()
def test_plans_of_the_policy_without_noise_follow_it() -> None:
    made = perturbed()
    z = made.encode(made.observed(mixed_data(500).obs[None, :2]))
    plans = made.policy_plans(z, torch.zeros((1, 2, 3, 5, 2)))
    for t in range(5):
        torch.testing.assert_close(plans[:, :, 1, t], made.proposed(z))
        z = made.imagined(z, made.proposed(z))


@torch.no_grad()
def test_doubt_counts_in_proportion_and_keeps_plans_where_critics_agree() -> None:
    made, plans = (
        perturbed(),
        torch.rand((1, 4, 50, 5, 2), generator=torch.Generator().manual_seed(2)) * 2 - 1,
    )
    z = made.encode(made.observed(mixed_data(500).obs[None, :4]))

    def worth(coef: float) -> Tensor:
        made.config = made.config.model_copy(update={"penalty_coef": coef})
        found: Tensor = made.worth(z, plans)
        return found

    bold, once, often = worth(0.0), worth(1.0), worth(7.0)
    doubt = bold - once
    assert (doubt > 0).all()
    torch.testing.assert_close(bold - often, 7.0 * doubt, rtol=1e-3, atol=1e-4)
    chosen = [doubt.gather(-1, of.argmax(-1, keepdim=True)) for of in (bold, worth(1000.0))]
    assert (chosen[1] < chosen[0]).all()


def test_it_explores_with_fresh_noise_and_never_less_than_the_least() -> None:
    made = perturbed()
    obs = mixed_data(500).obs[None, :1]
    actions = np.stack([made.act(obs, explore=True)[0, 0] for _ in range(40)])
    assert len(np.unique(actions, axis=0)) > 30
    assert np.abs(actions).max() <= 1.0
    judged = [made.act(obs, explore=False)[0, 0] for _ in range(2)]
    assert (judged[0] == judged[1]).all()
