"""ODT: the transformer sees the past only, pieces stay in their episode, returns are asked for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from o2obench import registry
from o2obench.agent import Budget, Task, new_player
from o2obench.datasets.toy import mixed_data
from o2obench.envs.spec import find_env
from o2obench.kit.lamb import Lamb
from o2obench.kit.trajectories import Trajectories, returns_to_go
from o2obench.kit.transformer import DecisionTransformer
from o2obench.training.evaluation import Arena, evaluated
from o2obench.transitions import Transitions, episode_returns, stack_steps

TINY: dict[str, Any] = {
    **{"layers": 2, "heads": 2, "head_dim": 8, "batch_size": 16, "context": 6, "acting_context": 3},
    **{"reward_scale": 0.1, "warmup_updates": 1},
}


NO_DATA = mixed_data(500)[:0]


def agent(name: str, data: Transitions | None = None, updates: int = 3, **options: Any) -> Any:
    cls = registry.algorithm(name)
    task = Task(4, 2, 50, (0,), None, Budget(updates, 200))
    return cls(
        task, cls.Config.model_validate({**TINY, **options}), mixed_data(500) if data is None else data
    )


def offline(**options: Any) -> Any:
    made = agent("odt", **options)
    made.begin("offline")
    for _ in made.work("offline"):
        pass
    return made


def online(**options: Any) -> Any:
    made = agent("odt_finetune", **{"learning_starts": 60, "episode_updates": 2, **options})
    made.warm_start([offline().pretrained_state()])
    made.begin("fine-tune")
    return made


def feed(made: Any, data: Transitions) -> None:
    for i in range(len(data)):
        made.act(data.obs[None, i : i + 1], explore=True)
        made.observe(stack_steps([data[i]]))
        for _ in made.work("fine-tune"):
            pass


def steps(n: int = 3, count: int = 6, seed: int = 0) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.randn((n, count, width), generator=draw) for width in (1, 4, 2))


# ---- the transformer --------------------------------------------------------------------------------------


def network(dropout: float = 0.0) -> DecisionTransformer:
    torch.manual_seed(0)
    net = DecisionTransformer(4, 2, 16, 2, 2, dropout)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net


@torch.no_grad()
def test_an_action_depends_on_the_past_and_on_the_present_return_and_observation() -> None:
    net, valid = network(), torch.ones((3, 6), dtype=torch.bool)
    before = net(*steps(), valid)
    for part in range(3):
        later = [x.clone() for x in steps()]
        later[part][:, 4:] += 1.0
        if part == 2:
            later[part][:, 3:] += 1.0  # the action of step 3 is not seen where it is decided
        torch.testing.assert_close(net(*later, valid)[0][:, :4], before[0][:, :4])
        assert not torch.allclose(net(*later, valid)[0][:, 4:], before[0][:, 4:])


@torch.no_grad()
def test_a_fresh_network_tells_sizes_apart() -> None:
    torch.manual_seed(0)
    net, (to_go, obs, action) = DecisionTransformer(4, 2, 64, 2, 2, 0.0), steps()
    valid = torch.ones((3, 6), dtype=torch.bool)
    before = net(to_go, obs, action, valid)[0]
    for other in ((2.0 * to_go, obs, action), (to_go, 2.0 * obs, action)):
        assert (net(*other, valid)[0] - before).abs().mean() > 1e-3 * before.abs().mean()


@torch.no_grad()
def test_what_fills_a_piece_up_is_not_looked_at() -> None:
    net, valid = network(), torch.tensor([[False, False, True, True, True, True]]).expand(3, -1)
    filled = [x.clone() for x in steps()]
    for part in filled:
        part[:, :2] = 7.0
    for a, b in zip(net(*filled, valid), net(*steps(), valid), strict=True):
        torch.testing.assert_close(a[:, 2:], b[:, 2:])
    alone = net(*(x[:, 2:] for x in steps()), valid[:, 2:])
    torch.testing.assert_close(alone[0], net(*steps(), valid)[0][:, 2:])


@torch.no_grad()
def test_a_block_is_torch_s_own_layer() -> None:
    block: Any = network().blocks[0]
    theirs = nn.TransformerEncoderLayer(16, 2, 64, 0.0, "relu", batch_first=True, norm_first=True)
    pairs = [
        (theirs.self_attn.in_proj_weight, block.query_key_value.weight),
        (theirs.self_attn.in_proj_bias, block.query_key_value.bias),
        (theirs.self_attn.out_proj.weight, block.mix.weight),
        (theirs.self_attn.out_proj.bias, block.mix.bias),
        *zip(theirs.norm1.parameters(), block.before_attention.parameters(), strict=True),
        *zip(theirs.norm2.parameters(), block.before_layers.parameters(), strict=True),
        *zip(theirs.linear1.parameters(), block.layers[0].parameters(), strict=True),
        *zip(theirs.linear2.parameters(), block.layers[2].parameters(), strict=True),
    ]
    for own, other in pairs:
        own.copy_(other)
    x, seen = torch.randn((3, 9, 16)), torch.ones((9, 9), dtype=torch.bool).tril()
    theirs.train()  # not the fused way
    torch.testing.assert_close(block(x, seen[None, None]), theirs(x, ~seen), rtol=1e-5, atol=1e-5)


def test_lamb_moves_a_tensor_by_its_own_length_in_adam_s_direction() -> None:
    w, zero = nn.Parameter(torch.tensor([3.0, -4.0])), nn.Parameter(torch.zeros(2))
    optimiser = Lamb([w, zero], lr=0.1, weight_decay=0.01)
    mean, square, expected = torch.zeros(2), torch.zeros(2), w.detach().clone()
    for gradient in ([1.0, 2.0], [0.5, -1.0], [30.0, 0.1]):
        w.grad, zero.grad = torch.tensor(gradient), torch.tensor(gradient)
        optimiser.step()
        mean = 0.9 * mean + 0.1 * w.grad
        square = 0.999 * square + 0.001 * w.grad**2
        direction = mean / (square.sqrt() + 1e-8) + 0.01 * expected
        expected = expected - 0.1 * expected.norm() * direction / direction.norm()
        torch.testing.assert_close(w.detach(), expected)
    assert zero.norm() > 0, "a tensor of length 0 moves by Adam's own step"
    long = nn.Parameter(torch.full((4,), 100.0))
    long.grad = torch.ones(4)
    Lamb([long], lr=0.1).step()
    assert (100.0 - long).norm().item() == pytest.approx(1.0), "at most 10 times the rate"


# ---- pieces of episodes -----------------------------------------------------------------------------------


def test_pieces_stay_in_their_episode_and_end_where_it_ends() -> None:
    data = mixed_data(500)
    episode, ends = data.episode_start.cumsum(), np.append(np.flatnonzero(data.episode_start)[1:], 500)
    uniform = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, valid = (x.numpy() for x in Trajectories(data).pieces(uniform, 6))
    for row, of_episode in zip(rows, valid, strict=True):
        inside = row[of_episode]
        assert (inside == inside[0] + np.arange(len(inside))).all()
        assert len(set(episode[inside])) == 1
        assert len(inside) == min(6, ends[episode[inside[0]] - 1] - inside[0])
        assert (np.diff(of_episode.astype(int)) >= 0).all(), "filled up on the left"
    first = rows[np.arange(2000), valid.argmax(1)]
    lengths = np.diff([*np.flatnonzero(data.episode_start), 500])
    share = np.bincount(episode[first] - 1, minlength=len(lengths)) / 2000
    assert np.abs(share - lengths / 500).max() < 0.03


def test_returns_to_go_begin_with_the_return_and_end_with_the_reward() -> None:
    data = mixed_data(500)
    ranges = Trajectories(data).ranges
    to_go = returns_to_go(data.reward, ranges)
    np.testing.assert_allclose(to_go[ranges[:, 0]], episode_returns(data)[0], rtol=1e-5)
    np.testing.assert_allclose(to_go[ranges[:, 1] - 1], data.reward[ranges[:, 1] - 1], rtol=1e-5)
    np.testing.assert_allclose(to_go[:-1] - to_go[1:] * ~data.episode_start[1:], data.reward[:-1], atol=1e-4)


def test_the_best_episodes_are_kept_and_new_ones_replace_the_worst_first() -> None:
    data = mixed_data(500)
    kept = Trajectories(data)
    returns, _ = episode_returns(data)
    kept.keep_best(returns_to_go(data.reward, kept.ranges), 4)
    of_kept = returns_to_go(data.reward, kept.ranges)[kept.ranges[:, 0]]
    np.testing.assert_allclose(of_kept, np.sort(returns)[-4:], rtol=1e-5)
    best = kept.ranges[:, 0].tolist()
    for number in range(4):
        kept.add(500 + 10 * number, 510 + 10 * number, most=6)
    assert kept.ranges[:, 0].tolist() == [520, 530, *best[2:], 500, 510], "two are added, then the worst go"
    for number in range(4, 10):
        kept.add(500 + 10 * number, 510 + 10 * number, most=6)
    assert kept.ranges[:, 0].tolist() == [580, 590, 540, 550, 560, 570]


# ---- losses -----------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_torch_s_distributions() -> None:
    made = offline(dropout=0.0)
    rows, valid = made.trajectories.pieces(torch.rand(16, dtype=torch.float64), 6)
    to_go = torch.from_numpy(made.to_go[rows.numpy()])
    torch.manual_seed(5)
    loss, entropy = made.losses(rows, to_go, valid)
    torch.manual_seed(5)
    batch = made.replay.unpack(made.replay.rows[rows])
    standard = (batch.obs - made.obs_mean) / made.obs_std
    mean, log_std = made.net(0.1 * to_go[..., None], standard, batch.action, valid)
    normal = torch.distributions.Normal(mean, log_std.exp())
    tanh = torch.distributions.TanhTransform(cache_size=1)
    squashed = torch.distributions.TransformedDistribution(normal, tanh)
    inside = batch.action.clamp(-1 + 1e-6, 1 - 1e-6)
    likelihood = squashed.log_prob(inside).sum(-1)[valid].mean()
    sample = tanh(mean + log_std.exp() * torch.randn_like(mean))
    expected = -squashed.log_prob(sample).sum(-1)[valid].mean()
    torch.testing.assert_close(entropy, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss, -likelihood - made.log_alpha.exp() * entropy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("log_std", [-5.0, 1.0])
def test_alpha_rises_where_the_entropy_is_too_low(log_std: float) -> None:
    made = agent("odt")
    made.net.log_std.weight.data.zero_()
    made.net.log_std.bias.data.fill_(float(np.arctanh(np.clip((log_std + 5.0) / 3.5 - 1.0, -0.99, 0.99))))
    before = made.log_alpha.item()
    entropy = made.learn()["actor/entropy"].item()
    assert (made.log_alpha.item() > before) == (entropy < -2.0)


# ---- acting -----------------------------------------------------------------------------------------------


def test_a_player_tells_what_is_left_of_the_wanted_return(monkeypatch: pytest.MonkeyPatch) -> None:
    made = offline(wanted_return=30.0)
    asked: list[tuple[Tensor, Tensor, Tensor]] = []
    decide = made.decide

    def listens(to_go: Tensor, obs: Tensor, action: Tensor, explore: bool) -> Any:
        asked.append((to_go, obs, action))
        return decide(to_go, obs, action, explore)

    monkeypatch.setattr(made, "decide", listens)
    player, obs = made.player(), mixed_data(500).obs
    acted = []
    for t in range(5):
        acted.append(player(obs[None, [t, 100 + t]]))
        player.observe(np.array([[1.0, 2.0]]))
    to_go, seen, action = (x[:, -3:] if x.shape[1] > 2 else x for x in asked[-1])
    assert to_go.tolist() == [[28.0, 27.0, 26.0], [26.0, 24.0, 22.0]]
    np.testing.assert_array_equal(seen[1].numpy(), obs[102:105])
    np.testing.assert_array_equal(action[:, -2:].numpy(), np.stack([a[0] for a in acted[2:4]], 1))
    first = made.act(obs[None, [0, 100]], explore=False)
    np.testing.assert_array_equal(first, acted[0])


def test_evaluation_plays_with_memory() -> None:
    made = offline(wanted_return=45.0)
    arena = Arena(find_env("PointMass-v0"), (0,), width=2)
    returns = arena.returns(evaluated(made), ("x",), 4)
    forgetful = arena.returns(lambda obs: made.act(obs, explore=False), ("x",), 4)
    assert not np.array_equal(returns, forgetful)
    np.testing.assert_array_equal(returns, arena.returns(evaluated(made), ("x",), 4))


def test_frozen_remembers_where_its_pretraining_does() -> None:
    def frozen(parent: Any) -> Any:
        cls = registry.algorithm("frozen")
        of = registry.algorithm(parent)
        task = Task(4, 2, 50, (0,), None, Budget(0, 10))
        return cls(replace(task, pretraining=lambda: of(task, of.Config(), NO_DATA)), cls.Config(), NO_DATA)

    assert new_player(frozen("odt"))
    assert new_player(frozen("bc")) is None


def test_it_explores_on_from_the_running_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    made, data = online(exploring_return=60.0), mixed_data(500)
    starts = np.flatnonzero(data.episode_start)
    feed(made, data[starts[0] : starts[1] + 4])
    asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def listens(to_go: Tensor, obs: Tensor, action: Tensor, explore: bool) -> Tensor:
        asked.append((to_go, obs, action))
        return torch.zeros((1, 2))

    monkeypatch.setattr(made, "decide", listens)
    now = slice(starts[1], starts[1] + 4)
    made.act(data.obs[None, None, starts[1] + 4], explore=True)
    [(to_go, obs, action)] = asked
    spent = np.append(0.0, data.reward[now].cumsum())
    np.testing.assert_allclose(to_go[0].numpy(), 60.0 - spent, rtol=1e-5)
    np.testing.assert_array_equal(obs[0].numpy(), data.obs[starts[1] : starts[1] + 5])
    np.testing.assert_array_equal(action[0].numpy(), data.action[now])


# ---- learning with the environment ------------------------------------------------------------------------


def test_it_learns_after_each_episode_once_enough_steps_are_there() -> None:
    made, data = online(kept_episodes=3), mixed_data(500)
    starts = [*np.flatnonzero(data.episode_start), 500]
    expected, done = 0, 0
    for begin, end in itertools.islice(itertools.pairwise(starts), 4):
        feed(made, data[begin:end])
        done += end - begin
        expected += 2 if done > 60 else 0
        assert made.updates == expected
    assert (made.trajectories.ranges[:, 0] >= 500).all(), "all three kept ones are new"
    begin, end = made.trajectories.ranges[0]
    np.testing.assert_allclose(made.to_go[begin], data.reward[starts[3] : starts[4]].sum(), rtol=1e-5)


def test_a_resume_in_the_middle_of_an_episode_goes_on_the_same() -> None:
    data = mixed_data(500)
    whole = online()
    feed(whole, data[:130])
    half = online()
    feed(half, data[:77])
    state = half.state_dict()
    again = agent("odt_finetune", learning_starts=60, episode_updates=2)
    again.load_state_dict(state)
    feed(again, data[77:130])
    assert again.updates == whole.updates > 0
    for name, parameter in whole.net.state_dict().items():
        assert torch.equal(parameter, again.net.state_dict()[name]), name
    a, b = (x.act(data.obs[None, None, 130], explore=True) for x in (whole, again))
    np.testing.assert_array_equal(a, b)


def test_the_warm_up_of_the_rate_goes_on_online() -> None:
    made = online(warmup_updates=100)
    assert made.taken == 3.0
    feed(made, mixed_data(500)[:130])
    assert made.optimiser.param_groups[0]["lr"] == pytest.approx(1e-4 * made.taken.item() / 100)
