"""JSRL: the guide acts first, less and less or by chance; without it JSRL is its learner."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from o2obench import registry
from o2obench.agent import Budget, Task, take_seed
from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_free.sac import OnlineSac, OnlineSacOptions
from o2obench.transitions import stack_steps
from tests.helpers.model_free import ACT, OBS, SMALL, agent, feed, trained

HORIZON = 20


def made(seeds: tuple[int, ...] = (0,), **options: Any) -> Any:
    """Return JSRL after a short IQL."""
    cls, guide = registry.algorithm("jsrl"), trained("iql", seeds=seeds)
    again = functools.partial(agent, registry.algorithm("iql"), mixed_data(500), seeds)
    task = Task(OBS, ACT, HORIZON, seeds, None, Budget(50, 100), pretraining=again)
    child = cls(
        task, cls.Config.model_validate({**SMALL, "learning_starts": 20, **options}), mixed_data(500)[:0]
    )
    child.warm_start([take_seed(guide.pretrained_state(), i) for i in range(len(seeds))])
    return child


def end_episodes(ours: Any, returns: list[float]) -> None:
    """Let each seed's episode end with its return."""
    step = replace(mixed_data(500)[0], truncated=np.asarray(True), terminated=np.asarray(False))
    ours.observe(stack_steps([replace(step, reward=np.asarray(value, np.float32)) for value in returns]))


def test_the_guide_acts_in_the_first_steps_of_an_episode_only() -> None:
    ours = made()
    ours.roll_in[:] = 3
    quiet = replace(mixed_data(500)[0], truncated=np.asarray(False), terminated=np.asarray(False))
    obs = torch.randn(1, 1, OBS)
    guided = torch.from_numpy(ours.guide.act(obs.numpy(), explore=False))
    for i in range(5):
        assert torch.equal(ours.explore(obs), guided) == (i < 3)
        ours.observe(stack_steps([quiet]))


def test_the_curriculum_goes_on_while_returns_hold() -> None:
    ours = made(window=2, roll_in_stages=4, tolerance=0.1)
    assert ours.roll_in.tolist() == [HORIZON]
    seen = []
    for value in (10.0, 10.0, 9.5, 9.1, 8.0, 8.0, 12.0, 30.0, 30.0, 30.0):
        end_episodes(ours, [value])
        seen.append(int(ours.roll_in[0]))
    # means of two: 10 (on), 9.3 >= 9 (on), 8 < 9, 10 (on), then 30 (on)
    assert seen == [20, 15, 15, 10, 10, 10, 5, 5, 0, 0]


def test_each_seed_has_its_own_stage_and_a_resume_knows_it() -> None:
    ours = made((0, 1), window=1, roll_in_stages=4)
    end_episodes(ours, [10.0, 10.0])
    end_episodes(ours, [10.0, 1.0])
    assert ours.roll_in.tolist() == [10, 15]
    again = made((0, 1), window=1, roll_in_stages=4)
    again.load_state_dict(ours.state_dict())
    for one in (ours, again):
        end_episodes(one, [1.0, 10.0])
        assert one.roll_in.tolist() == [10, 10]
    obs = np.zeros((2, 1, OBS), np.float32)
    assert np.array_equal(again.guide.act(obs, explore=False), ours.guide.act(obs, explore=False))


def test_by_chance_the_guides_steps_are_uniform_up_to_the_horizon() -> None:
    ours = made(roll_in="random")
    seen = []
    for _ in range(90):
        seen.append(int(ours.roll_in[0]))
        end_episodes(ours, [1.0])
    assert min(seen) >= 0
    assert max(seen) <= HORIZON
    assert len(set(seen)) > 15
    assert abs(np.mean(seen) - HORIZON / 2) < 4 * HORIZON / np.sqrt(12 * 90)


def test_without_a_guide_it_is_its_learner() -> None:
    """Identity 26: the same networks, batches and noise; exploring is a sample of the policy."""

    class Plain(OnlineSac[OnlineSacOptions]):
        Config = OnlineSacOptions

    ours, theirs = made(), agent(Plain, mixed_data(500)[:0], learning_starts=20)
    ours.roll_in[:] = 0
    for one in (ours, theirs):
        feed(one, mixed_data(500)[:60])
    assert ours.updates == theirs.updates == 40
    for name in ("actor", "critics", "targets"):
        assert torch.equal(ours.nets[name].flat, theirs.nets[name].flat), name
    obs = torch.randn(1, 3, OBS)
    assert torch.equal(ours.explore(obs), theirs.explore(obs))


def test_the_learner_alone_is_evaluated() -> None:
    ours = made()
    obs = np.random.default_rng(0).normal(size=(1, 4, OBS)).astype(np.float32)
    assert not np.array_equal(ours.act(obs, explore=False), ours.guide.act(obs, explore=False))
    assert ours.taken_over()["actor"].startswith("fresh")
