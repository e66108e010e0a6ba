"""On the toy point mass MOPO learns, without updates it does not; model-free methods beat chance."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import pytest

from o2obench import registry
from o2obench.agent import Budget, Task, take_seed
from o2obench.datasets.registry import reference
from o2obench.datasets.toy import mixed_data
from o2obench.envs.episode import Interaction
from o2obench.envs.pointmass import left_the_field
from o2obench.envs.spec import find_env
from o2obench.training.evaluation import Arena, evaluated
from o2obench.transitions import episode_returns, stack_steps

SEEDS = (0, 1, 2)
FAST: dict[str, Any] = {"actor_lr": 1e-3, "critic_lr": 1e-3, "batch_size": 128}
"""Rates with which a toy is learnt in a few hundred updates."""


FOWM: dict[str, Any] = {
    **{"batch_size": 64, "horizon": 3, "latent_dim": 16, "encoder_dim": 32, "penalty_coef": 1.0},
    **{"plan_samples": 40, "plan_policies": 10, "elites": 10, "num_critics": 3},
}


def mean_returns_after_training(updates: int) -> Any:
    """Train three seeds side by side; return their mean returns over 20 episodes."""
    mopo = registry.algorithm("mopo")
    config = mopo.Config.model_validate(
        {
            "rollout_length": (0, 1, 5, 5),
            "penalty_coef": 0.5,
            "rollout_batch_size": 2000,
            "model_hidden_dims": (64, 64),
            "model_weight_decay": (2.5e-5, 5e-5, 1e-4),
            "max_model_epochs": 60,
            "hidden_dims": (64, 64),
            "actor_lr": 3e-4,
            "alpha_lr": 3e-4,
        }
    )
    task = Task(4, 2, 50, SEEDS, left_the_field, Budget(updates, 0))
    agent = mopo(task, config, mixed_data())
    for stage in mopo.stages(config, task.budget):
        agent.begin(stage.name)
        for _ in agent.work(stage.name):
            pass
    arena = Arena(find_env("PointMass-v0"), SEEDS)
    return arena.returns(lambda obs: agent.act(obs, explore=False), ("learning",), 20).mean(axis=1)


@pytest.mark.slow
def test_half_the_gap_is_closed_on_all_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    data_mean = float(episode_returns(mixed_data())[0].mean())
    optimum = reference("pointmass-mixed-v0").ref_max
    half = data_mean + 0.5 * (optimum - data_mean)
    began = time.monotonic()
    learnt = mean_returns_after_training(updates=2000)
    seconds = time.monotonic() - began
    assert (learnt >= half).all(), f"returns {learnt}, half the gap is at {half:.1f} ({seconds:.0f} s)"

    from o2obench.kit.sac import Sac

    monkeypatch.setattr(
        Sac, "update", lambda self, batch, noise, rates: batch.reward.new_zeros(4, len(SEEDS))
    )
    disabled = mean_returns_after_training(updates=100)
    assert not (disabled >= half).all(), f"the test is blind: {disabled} without a single update"


def trained(name: str, updates: int, **options: Any) -> Any:
    """Return a model-free agent after its offline training, three seeds side by side."""
    cls = registry.algorithm(name)
    task = Task(4, 2, 50, SEEDS, left_the_field, Budget(updates, 0))
    agent = cls(task, cls.Config.model_validate({"hidden_dims": (64, 64), **options}), mixed_data())
    for stage in cls.stages(agent.config, task.budget):
        agent.begin(stage.name)
        for _ in agent.work(stage.name):
            pass
    return agent


def returns(act: Any) -> Any:
    """Return the returns of 20 episodes of each seed."""
    return Arena(find_env("PointMass-v0"), SEEDS).returns(act, ("learning",), 20)


def chance() -> Any:
    random = np.random.default_rng(0)
    return returns(lambda obs: random.uniform(-1, 1, (*obs.shape[:-1], 2)).astype(np.float32))


def bound(of: Any) -> float:
    """Return what chance reaches with p < 1e-4: four standard errors above the mean."""
    return float(of.mean() + 4 * of.std(ddof=1) / np.sqrt(of.size))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "updates", "options"),
    [
        ("bc", 700, {}),
        ("iql", 700, {"normalize_reward": False}),
        ("awac", 700, {}),
        ("td3_bc", 700, {}),
        ("rebrac", 700, {"batch_size": 256}),
        ("spot", 700, {"density_hidden_dims": (64, 64), "density_updates": 250}),
        ("redq_bc", 500, {}),
        ("eql", 700, {"normalize_reward": False}),
        ("famo2o", 700, {"normalize_reward": False}),
        ("sac_ml", 700, {}),
        ("cql_ensemble", 150, {"cql_actions": 2, "members": 2}),
        ("fql", 600, {}),
        ("fowm", 250, {**FOWM, "normalize_reward": False}),
        ("cql_n", 200, {"cql_actions": 2, "num_critics": 3}),
        ("cql", 300, {"cql_actions": 3}),
        ("cal_ql", 300, {"cql_actions": 3}),
    ],
)
def test_a_model_free_method_beats_chance(name: str, updates: int, options: dict[str, Any]) -> None:
    """Each seed's mean is above what random actions reach with p < 1e-4."""
    agent = trained(name, updates, **{**FAST, **options})
    learnt = returns(lambda obs: agent.act(obs, explore=False)).mean(axis=1)
    assert (learnt > bound(chance())).all(), (learnt, bound(chance()))


ONLINE: dict[str, Any] = {"hidden_dims": (64, 64), "learning_starts": 150, **FAST}
DENSITY_NET: dict[str, Any] = {"density_hidden_dims": (64, 64)}
DENSITY: dict[str, Any] = {**DENSITY_NET, "density_updates": 250}
ADAPTIVE: dict[str, Any] = {"num_critics": 3, "utd_ratio": 2, "replay_seeded": 500, "gain_target": 1e-3}
"""Episodes have 50 steps, not 1,000, so the weight falls faster."""
SUNG: dict[str, Any] = {**DENSITY, "candidates": 20, "kept": 4}
HELD: dict[str, Any] = {"recent_share": 0.3, "uncertain_share": 1.0, "bc_weight": 1.0}
"""A pretraining of 100 updates is left where only the newest transitions count."""
RAW: dict[str, Any] = {"normalize_reward": False}
CHEAP_CQL: dict[str, Any] = {"cql_actions": 2}
MADE: dict[str, Any] = {
    **{"generator_updates": 1000, "generator_rows": 500, "generator_steps": 16, "generator_lr": 2e-3},
    **{"generator_width": 128, "generator_embedding": 64, "generator_blocks": 2, "generator_every": 400},
}
"""A small generator, renewed twice."""
GUIDED: dict[str, Any] = {
    **{**MADE, "energy_batch": 32, "energy_updates": 10, "energy_negatives": 4},
    "energy_hidden_dims": (32, 32),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parent", "steps", "options"),
    [
        ("iql_finetune", ("iql", 300, RAW), 750, {}),
        ("pex", ("iql", 300, RAW), 750, {}),
        ("awac_finetune", ("awac", 100, {}), 750, {}),
        ("td3_bc_finetune", ("td3_bc", 100, {}), 750, {}),
        ("rebrac_finetune", ("rebrac", 100, {"batch_size": 256}), 600, {}),
        ("spot_finetune", ("spot", 100, DENSITY), 750, DENSITY_NET),
        ("adaptive_bc", ("redq_bc", 100, {"num_critics": 3}), 1000, ADAPTIVE),
        ("proto", ("eql", 100, RAW), 750, {"replay_seeded": 500}),
        ("famo2o_finetune", ("famo2o", 300, RAW), 750, {}),
        ("aca", ("sac_ml", 100, {}), 1000, {"prior_updates": 500, "prior_end": 0.0}),
        ("sung", ("td3_bc", 100, {}), 1200, {**SUNG, **HELD}),
        ("sung_cql", ("cql", 50, CHEAP_CQL), 1000, {**SUNG, **CHEAP_CQL}),
        ("jsrl", ("iql", 100, RAW), 1000, {"roll_in": "random", "utd_ratio": 2}),
        ("enoto", ("cql_n", 50, {**CHEAP_CQL, "num_critics": 3}), 1000, {"num_critics": 3}),
        ("opt", ("td3_bc", 100, {}), 600, {"utd_ratio": 2, "meta_updates": 50}),
        ("fql_finetune", ("fql", 100, {}), 600, {}),
        ("cfdg", ("iql", 30, RAW), 500, MADE),
        ("edis_iql", ("iql", 30, RAW), 750, {**GUIDED, "synthetic_share": 0.7, "utd_ratio": 2, "beta": 3.0}),
        (
            "edis",
            ("cal_ql", 30, CHEAP_CQL),
            900,
            {**GUIDED, **CHEAP_CQL, "cql_alpha": 1.0, "synthetic_share": 0.5},
        ),
        ("fowm_finetune", ("fowm", 50, {**FOWM, **RAW}), 350, FOWM),
        ("balanced_replay", ("cql_ensemble", 50, {**CHEAP_CQL, "members": 2}), 750, {"members": 2}),
        ("cql_finetune", ("cql", 50, CHEAP_CQL), 800, {**CHEAP_CQL, "cql_alpha": 1.0}),
        ("cal_ql_finetune", ("cal_ql", 50, CHEAP_CQL), 800, {**CHEAP_CQL, "cql_alpha": 1.0}),
        ("sac_from", ("cql", 50, CHEAP_CQL), 800, {"replay_data": 0.5}),
        ("wsrl", ("cql", 50, CHEAP_CQL), 500, {}),
        ("rlpd", None, 450, {"utd_ratio": 4, "num_critics": 4}),
    ],
)
def test_fine_tuning_beats_its_pretraining(
    name: str, parent: tuple[str, int, dict[str, Any]] | None, steps: int, options: dict[str, Any]
) -> None:
    """Means over seeds: what a short pretraining reaches, or chance, is passed by four standard errors."""
    cls = registry.algorithm(name)
    guide = functools.partial(trained, parent[0], 0, **parent[2]) if parent else None
    task = Task(4, 2, 50, SEEDS, left_the_field, Budget(0, steps), pretraining=guide)
    agent = cls(task, cls.Config.model_validate({**ONLINE, **options}), mixed_data())
    before = chance()
    if parent:
        pretrained = trained(parent[0], parent[1], **parent[2])
        agent.warm_start([take_seed(pretrained.pretrained_state(), i) for i in range(len(SEEDS))])
        before = returns(lambda obs: pretrained.act(obs, explore=False))
    lives = [Interaction(find_env("PointMass-v0"), seed) for seed in SEEDS]
    for stage in cls.stages(agent.config, task.budget):
        agent.begin(stage.name)
        for _ in agent.work(stage.name):
            pass
    for _ in range(steps):
        actions = agent.act(np.stack([life.obs for life in lives])[:, None], explore=True)[:, 0]
        agent.observe(stack_steps([life.step(a)[0] for life, a in zip(lives, actions, strict=True)]))
        for _ in agent.work("fine-tune"):
            pass
    learnt = returns(lambda obs: agent.act(obs, explore=False))
    assert learnt.mean() > bound(before), (learnt.mean(axis=1), bound(before))


ODT: dict[str, Any] = {
    **{"layers": 2, "heads": 2, "head_dim": 16, "dropout": 0.0, "batch_size": 32, "context": 10},
    **{"lr": 1e-2, "warmup_updates": 100, "reward_scale": 0.05, "wanted_return": 45.0},
}


def decision_transformer(name: str, budget: Budget, seed: int, **options: Any) -> Any:
    cls = registry.algorithm(name)
    task = Task(4, 2, 50, (seed,), left_the_field, budget)
    return cls(task, cls.Config.model_validate({**ODT, **options}), mixed_data())


@pytest.mark.slow
def test_a_decision_transformer_beats_chance_and_then_itself() -> None:
    """One seed at a time, two of them; means over 40 episodes of each: four standard errors."""
    seeds = SEEDS[:2]
    arenas = [Arena(find_env("PointMass-v0"), (seed,)) for seed in seeds]
    before, after, later = [], [], []
    for seed, arena in zip(seeds, arenas, strict=True):
        agent = decision_transformer("odt", Budget(250, 0), seed)
        agent.begin("offline")
        for _ in agent.work("offline"):
            pass
        after.append(arena.returns(evaluated(agent), ("learning",), 40))
        little = decision_transformer("odt", Budget(60, 0), seed)
        little.begin("offline")
        for _ in little.work("offline"):
            pass
        before.append(arena.returns(evaluated(little), ("learning",), 40))
        more = {"exploring_return": 50.0, "episode_updates": 20, "learning_starts": 150}
        agent = decision_transformer("odt_finetune", Budget(0, 1000), seed, **more)
        agent.warm_start([little.pretrained_state()])
        agent.begin("fine-tune")
        life = Interaction(find_env("PointMass-v0"), seed)
        for _ in range(1000):
            action = agent.act(life.obs[None, None], explore=True)[0, 0]
            agent.observe(stack_steps([life.step(action)[0]]))
            for _ in agent.work("fine-tune"):
                pass
        later.append(arena.returns(evaluated(agent), ("learning",), 40))
    assert np.mean(after) > bound(chance()), (np.mean(after), bound(chance()))
    assert np.mean(later) > bound(np.concatenate(before)), (np.mean(later), bound(np.concatenate(before)))
