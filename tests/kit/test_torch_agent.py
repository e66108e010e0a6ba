"""Agents in plain torch: what ``build`` makes is handed over, and randomness is their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from o2obench.agent import Budget, Task
from o2obench.datasets.toy import mixed_data
from o2obench.kit.replay import Batch
from o2obench.kit.torch_agent import TorchAgent, TorchConfig
from tests.helpers.model_free import feed, work


class Dropping(TorchAgent[TorchConfig]):
    """A regression whose hidden units drop out, with a rate that falls, and a tensor of its own."""

    Config = TorchConfig

    def build(self) -> None:
        self.actor = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))
        self.adam = torch.optim.Adam(self.actor.parameters(), lr=1e-2)
        self.mean = torch.zeros(2)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        loss = (torch.tanh(self.actor(batch.obs)) - batch.action).square().mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.adam.param_groups[0]["lr"] *= 0.99
        self.mean.lerp_(batch.action.mean(0), 0.1)
        return {"loss": loss}

    def action(self, obs: Tensor, explore: bool) -> Tensor:
        mode = torch.tanh(self.actor.eval()(obs))
        self.actor.train()
        return mode + 0.1 * torch.randn_like(mode) if explore else mode


class Goes(Dropping):
    pretrain = "dropping"


def made(cls: Any, seed: int = 0, updates: int = 40) -> Any:
    task = Task(4, 2, 50, (seed,), None, Budget(updates, 60))
    return cls(task, cls.Config(batch_size=32, learning_starts=20), mixed_data(500))


def trained() -> Any:
    agent = made(Dropping)
    agent.begin("offline")
    work(agent)
    return agent


def test_everything_on_it_is_handed_over() -> None:
    parent, child = trained(), made(Goes)
    child.warm_start([parent.pretrained_state()])
    assert [stage.name for stage in Goes.stages(child.config, child.task.budget)] == ["fine-tune"]
    obs = np.random.default_rng(0).normal(size=(1, 7, 4)).astype(np.float32)
    assert np.array_equal(child.act(obs, explore=False), parent.act(obs, explore=False))
    assert child.adam.param_groups[0]["lr"] == parent.adam.param_groups[0]["lr"] != 1e-2
    assert torch.equal(child.mean, parent.mean)
    moments = [agent.adam.state_dict()["state"][0]["exp_avg"] for agent in (child, parent)]
    assert torch.equal(*moments)
    feed(child, mixed_data(500)[:60])
    assert child.updates == 40


def test_a_resumed_one_drops_the_same_units() -> None:
    straight, broken = made(Dropping), made(Dropping)
    for agent in (straight, broken):
        agent.begin("offline")
    broken.due = 17
    work(broken)
    state, broken = broken.state_dict(), made(Dropping, updates=40)
    torch.manual_seed(5)  # what happens outside does not matter
    broken.load_state_dict(state)
    broken.due = 23
    for agent in (straight, broken):
        work(agent)
    assert straight.updates == broken.updates == 40
    for one, other in zip(straight.actor.parameters(), broken.actor.parameters(), strict=True):
        assert torch.equal(one, other)


def test_seeds_differ_from_the_first_weight_on() -> None:
    one, other = made(Dropping), made(Dropping, seed=1)
    assert not torch.equal(one.actor[0].weight, other.actor[0].weight)
