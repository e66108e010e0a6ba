"""Model-free agents for tests: small ones, trained and fine-tuned, and their networks as torch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from o2obench import registry
from o2obench.agent import Budget, Task
from o2obench.datasets.toy import mixed_data
from o2obench.kit.networks import Mlp
from o2obench.kit.replay import Batch
from o2obench.transitions import Transitions, stack_steps

OBS, ACT = 4, 2
SMALL: dict[str, Any] = {"hidden_dims": (32, 32), "batch_size": 64}


def agent(
    cls: Any, data: Transitions, seeds: tuple[int, ...] = (0,), updates: int = 50, **options: Any
) -> Any:
    task = Task(OBS, ACT, 50, seeds, None, Budget(updates, 100))
    return cls(task, cls.Config.model_validate({**SMALL, **options}), data)


def trained(name: str, updates: int = 50, seeds: tuple[int, ...] = (0,), **options: Any) -> Any:
    cls = registry.algorithm(name)
    made = agent(cls, mixed_data(500), seeds, updates, **options)
    for stage in cls.stages(made.config, made.task.budget):
        made.begin(stage.name)
        work(made, stage.name)
    return made


def work(made: Any, stage: str = "") -> None:
    for _ in made.work(stage):
        pass


def learns(made: Any, part: str, batch: Batch, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the gradient of a part's loss at its parameters."""
    flat = made.parameters[part].clone().requires_grad_()
    constants = made.constants(batch, draws)
    loss = getattr(made, f"{part}_loss")(flat, batch, draws, constants)[0].sum()
    [found] = torch.autograd.grad(loss, [flat])
    return found


def noise(*names: str) -> dict[str, Tensor]:
    """Return normal draws of these names for 64 transitions, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(1, 64, ACT, generator=generator) for name in names}


def rows(made: Any, count: int = 64) -> Batch:
    """Return the first transitions as the networks know them, for every seed."""
    return cast(Batch, made.mapped(made.replay.take(torch.arange(count).expand(len(made.task.seeds), -1))))


def finetuned(name: str, parent: Any, steps: int = 60, **options: Any) -> Any:
    made = agent(registry.algorithm(name), mixed_data(500), **{"learning_starts": 20, **options})
    made.warm_start([parent.pretrained_state()])
    feed(made, mixed_data(500)[:steps])
    return made


def feed(made: Any, data: Transitions) -> None:
    for i in range(len(data)):
        made.observe(stack_steps([data[i]] * len(made.task.seeds)))
        work(made)


def module(net: Mlp, member: int | None = None) -> nn.Sequential:
    """Return one network of a stack as plain torch modules."""
    place, parts = (0,) if member is None else (0, member), list[nn.Module]()
    for i, (weight, bias) in enumerate(net.layers()):
        layer = nn.Linear(*weight[place].shape)
        layer.weight.data.copy_(weight[place].T)
        layer.bias.data.copy_(bias[place])
        parts.append(layer)
        if i < len(net.shapes) - 1:
            for gain, shift in net.norms()[i : i + 1]:
                norm = nn.LayerNorm(gain.shape[-1])
                norm.weight.data.copy_(gain[place])
                norm.bias.data.copy_(shift[place])
                parts.append(norm)
            parts.append(nn.ReLU())
    return nn.Sequential(*parts)


def updated(
    made: Any, draws: Mapping[str, Tensor] = {}, number: int = 1
) -> tuple[tuple[Tensor, ...], Callable[[], None]]:
    """Return the batch of the first 64 transitions, unpacked, and what does an update on it."""
    rows = made.replay.take(torch.arange(64)[None])
    moving = [made._moving("any", number)]

    def update() -> None:
        made.update(moving[0], rows, None, made._scales(moving)[0], *(draws[name] for name in made.draws()))

    return tuple(x[0] for x in made.mapped(rows)[:5]), update


def step(loss: Any, parameters: list[Tensor], lr: float) -> None:
    """Do one step of torch's Adam."""
    optimiser = torch.optim.Adam(parameters, lr=lr)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def assert_equal(net: Mlp, expected: list[nn.Sequential]) -> None:
    """Require the parameters of a stack to be those of plain modules, after one update of each."""
    for k, one in enumerate(expected):
        ours = module(net, k if len(net.flat.shape) == 3 else None)
        for mine, theirs in zip(ours.parameters(), one.parameters(), strict=True):
            assert_same_update(mine, theirs)


def assert_same_update(mine: Tensor, theirs: Tensor) -> None:
    """Require equal parameters after one step of Adam; one in a thousand may be up to two steps away.

    Of a gradient that is nearly zero Adam makes a whole step, whichever way it is rounded.
    """
    away = (mine - theirs).abs() > 3e-6 + 1e-5 * theirs.abs()
    assert away.sum() <= max(1, mine.numel() // 1000), (mine - theirs).abs().max()
    torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=0)
