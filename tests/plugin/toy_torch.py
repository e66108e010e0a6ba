"""IQL (arXiv:2110.06169) in plain torch, offline and then with the environment."""

import torch
from torch import Tensor, nn

from o2obench.kit.replay import Batch
from o2obench.kit.torch_agent import TorchAgent, TorchConfig


class PlainIqlConfig(TorchConfig):
    """Expectile and inverse temperature."""

    expectile: float = 0.7
    beta: float = 3.0


class PlainIql(TorchAgent[PlainIqlConfig]):
    """Value, twin critics, a policy by weighted regression."""

    Config = PlainIqlConfig

    def build(self) -> None:
        obs, act = self.task.obs_dim, self.task.act_dim
        self.actor, self.value = mlp(obs, act), mlp(obs, 1)
        self.critic, self.target = mlp(obs + act, 2), mlp(obs + act, 2)
        self.target.load_state_dict(self.critic.state_dict())
        modules = (self.actor, self.value, self.critic)
        self.adam = torch.optim.Adam([p for module in modules for p in module.parameters()], lr=3e-4)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        pair = torch.cat([batch.obs, batch.action], -1)
        value = self.value(batch.obs)[:, 0]
        with torch.no_grad():
            u = self.target(pair).amin(-1) - value
            y = batch.reward + self.config.gamma * (1 - batch.terminated) * self.value(batch.next_obs)[:, 0]
            weight = (self.config.beta * u).exp().clamp(max=100)
            side = torch.where(u < 0, 1 - self.config.expectile, self.config.expectile)
        of_value = (side * (u + value.detach() - value).square()).mean()
        of_critic = (self.critic(pair) - y[:, None]).square().sum(-1).mean()
        of_actor = (weight * (torch.tanh(self.actor(batch.obs)) - batch.action).square().sum(-1)).mean()
        self.adam.zero_grad()
        (of_value + of_critic + of_actor).backward()
        self.adam.step()
        for target, critic in zip(self.target.parameters(), self.critic.parameters(), strict=True):
            target.data.lerp_(critic.data, 0.005)
        return {"value/loss": of_value, "critic/loss": of_critic, "actor/loss": of_actor}

    def action(self, obs: Tensor, explore: bool) -> Tensor:
        mode = torch.tanh(self.actor(obs))
        return mode + 0.1 * torch.randn_like(mode) if explore else mode


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    hidden = (nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(256, outputs))
