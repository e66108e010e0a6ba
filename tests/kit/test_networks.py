"""Networks: layers are normalised where they should be, first weights have their laws, units drop out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.networks import Mlp, bounded_init, orthogonal_init, truncated_normal_init, xavier_init
from tests.helpers.model_free import agent, trained


def made(**options: Any) -> Mlp:
    return Mlp("test", (0, 4), (3,), (5, 64, 48, 2), torch.relu, "cpu", **options)


@pytest.mark.parametrize("norm", ["before", "after"])
@pytest.mark.parametrize("rows", [7, 600])
def test_a_normalised_layer_is_torchs(norm: Any, rows: int) -> None:
    """Also where networks pass one by one, and with gains and shifts that have been learnt."""
    net = made(norm=norm)
    for gain, shift in net.norms():
        gain.mul_(1.5)
        shift.add_(0.3)
    x = torch.randn(2, 3, rows, 5)
    parts = list[nn.Module]()
    for i, (weight, bias) in enumerate(net.layers()):
        layer = nn.Linear(*weight[1, 2].shape)
        layer.weight.data, layer.bias.data = weight[1, 2].T, bias[1, 2]
        parts.append(layer)
        if i < 2:
            normed = nn.LayerNorm(weight.shape[-1])
            normed.weight.data.fill_(1.5)
            normed.bias.data.fill_(0.3)
            parts += [normed, nn.ReLU()] if norm == "before" else [nn.ReLU(), normed]
    torch.testing.assert_close(net(x)[1, 2], nn.Sequential(*parts)(x[1, 2]), atol=1e-5, rtol=1e-5)


def test_a_network_without_norms_has_the_parameters_it_had() -> None:
    assert made().flat.shape[-1] == 5 * 64 + 64 + 64 * 48 + 48 + 48 * 2 + 2
    assert made(norm="after", free=3).flat.shape[-1] == made().flat.shape[-1] + 2 * (64 + 48) + 3


def test_first_weights_have_their_laws() -> None:
    for init, bound in ((xavier_init, math.sqrt(6 / (64 + 48))), (bounded_init(1e-3), 1e-3)):
        (_, (weight, _), _) = made(init=init).layers()
        assert 0.95 * bound < float(weight.abs().max()) <= bound * (1 + 1e-6)
    (_, (weight, bias), _) = made(init=orthogonal_init).layers()
    gram = weight[1, 2].T @ weight[1, 2]
    torch.testing.assert_close(gram, 2.0 * torch.eye(48), atol=1e-5, rtol=1e-5)
    assert not bias.any()
    (_, (weight, _), _) = made(init=truncated_normal_init).layers()
    assert float(weight.abs().max()) <= 2 / (2 * math.sqrt(64))


def test_a_head_has_its_own_first_weights() -> None:
    small, usual = made(head=bounded_init(1e-3)), made()
    (first, second, head), (same, again, _) = small.layers(), usual.layers()
    assert torch.equal(first[0], same[0])
    assert torch.equal(second[0], again[0])
    assert max(float(part.abs().max()) for part in head) <= 1e-3


def test_seeds_have_weights_of_their_own_whatever_their_neighbours() -> None:
    alone = Mlp("test", (4,), (3,), (5, 64, 48, 2), torch.relu, "cpu", init=orthogonal_init, norm="before")
    assert torch.equal(made(init=orthogonal_init, norm="before").flat[1:], alone.flat)


def test_units_that_drop_out_do_not_count() -> None:
    net, x = made(), torch.randn(2, 3, 7, 5)
    whole = torch.ones(2, 3, 7, 64 + 48)
    assert torch.equal(net(x, mask=whole), net(x))
    no_hidden = net(x, mask=torch.zeros_like(whole))
    (*_, (_, bias)) = net.layers()
    torch.testing.assert_close(no_hidden, bias[:, :, None].expand_as(no_hidden))


def test_iqls_dropout_keeps_the_mean_and_leaves_its_values_alone() -> None:
    iql = agent(registry.algorithm("iql"), mixed_data(500), actor_dropout=0.25)
    uniform = 2 * torch.rand(1, 4000, 64) - 1
    mask = iql.dropout({"dropout": uniform})
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.01)
    dropped, straight = trained("iql", actor_dropout=0.25), trained("iql")
    assert torch.equal(dropped.nets["value"].flat, straight.nets["value"].flat)
    assert not torch.equal(dropped.nets["actor"].flat, straight.nets["actor"].flat)


@pytest.mark.parametrize("replacement", [False, True])
def test_a_target_is_the_least_of_the_critics_that_were_drawn(replacement: bool) -> None:
    made = agent(
        registry.algorithm("cql"),
        mixed_data(500),
        num_critics=4,
        target_critics=2,
        target_replacement=replacement,
    )
    obs, action = torch.randn(1, 9, 4), torch.randn(1, 9, 2)
    drawn = {"critics of the target": torch.tensor([[0.9, -0.9] if replacement else [0.5, -0.9, 0.8, -0.2]])}
    q = made.q("targets", obs, action)
    expected = q[:, [3, 0]] if replacement else q[:, [1, 3]]
    torch.testing.assert_close(made.target_value(obs, action, drawn), expected.amin(1))
