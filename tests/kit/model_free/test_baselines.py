"""What the benchmarks compare with computes what the engine computes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.networks import Mlp
from tests.helpers.model_free import ACT, OBS, agent, assert_equal, assert_same_update, module, updated

FILE = Path(__file__).parents[3] / "benchmarks" / "model_free_baseline.py"
spec = importlib.util.spec_from_file_location("model_free_baseline", FILE)
assert spec
assert spec.loader
plain: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)


def take_over(baseline: Any, made: Any) -> None:
    """Give the baseline the agent's weights."""
    baseline.actor.load_state_dict(module(made.nets["actor"]).state_dict())
    for name in ("critics", "targets"):
        if isinstance(getattr(baseline, name), nn.ModuleList):
            for k, net in enumerate(getattr(baseline, name)):
                net.load_state_dict(module(made.nets[name], k).state_dict())
        else:
            put(getattr(baseline, name), made.nets[name])


def put(stacked: Any, net: Mlp) -> None:
    with torch.no_grad():
        for i, (weight, bias) in enumerate(net.layers()):
            stacked.weights[i].copy_(weight[0])
            stacked.biases[i].copy_(bias[0, :, None])


def random_numbers(made: Any) -> dict[str, Tensor]:
    numbers = {name: torch.randn(1, *shape) for name, (_, shape) in made.draws().items()}
    return {name: n.tanh() if name == "uniform actions" else n for name, n in numbers.items()}


def test_iql() -> None:
    made = agent(registry.algorithm("iql"), mixed_data(500))
    baseline = plain.Iql(OBS, ACT, 32)
    take_over(baseline, made)
    baseline.value.load_state_dict(module(made.nets["value"]).state_dict())
    batch, update = updated(made)
    baseline.update(batch)
    update()
    for name in ("actor", "value"):
        assert_equal(made.nets[name], [getattr(baseline, name)])
    assert_equal(made.nets["critics"], list(baseline.critics))
    assert_equal(made.nets["targets"], list(baseline.targets))


def test_cql() -> None:
    made = agent(registry.algorithm("cql"), mixed_data(500), cql_actions=3)
    baseline = plain.Cql(OBS, ACT, 32, n=3)
    take_over(baseline, made)
    noise = random_numbers(made)
    batch, update = updated(made, noise)
    shaped = {
        "next": noise["next actions"][0],
        "now": noise["policy actions"][0],
        "policy": noise["conservative actions"][0].view(2, 3, 64, ACT),
        "uniform": noise["uniform actions"][0].view(3, 64, ACT),
    }
    baseline.update(batch, shaped)
    update()
    assert_equal(made.nets["actor"], [baseline.actor])
    assert_equal(made.nets["critics"], list(baseline.critics))


def test_rlpd() -> None:
    made = agent(registry.algorithm("rlpd"), mixed_data(500), utd_ratio=1)
    baseline = plain.Rlpd(OBS, ACT, 32)
    take_over(baseline, made)
    noise = random_numbers(made)
    batch, update = updated(made, noise)
    chosen = noise["critics of the target"][0].argsort()[:2]
    baseline.update([(batch, noise["next actions"][0], chosen)], noise["policy actions"][0])
    update()
    assert_equal(made.nets["actor"], [baseline.actor])
    for i, (weight, _) in enumerate(made.nets["critics"].layers()):
        assert_same_update(baseline.critics.weights[i].data, weight[0])
