"""Measure the parts of one system in this process, and print them as one JSON object.

    python benchmarks/measure.py engine|eager|baseline|baseline-onednn|memory --threads 2

Sizes are Hopper's (obs 11, actions 3), batch 256, networks as published, random data. Rates are medians
of five rounds after a warm-up.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from o2obench import registry
from o2obench.agent import Budget, Task
from o2obench.envs.spec import find_env
from o2obench.kit.model_free.online import Online
from o2obench.training import provenance
from o2obench.training.evaluation import Arena
from o2obench.transitions import Transitions, stack_steps

SYSTEMS = ("engine", "eager", "baseline", "baseline-onednn", "memory", "memory-columns")
COLUMNS = {"return-to-go": "cal_ql", "next action": "rebrac"}
"""Algorithms that keep columns of their own beside each transition."""
ROLLOUT, HORIZON, UPDATES, FITS = 50_000, 5, 1000, 20


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--model-free", action="store_true", help="Measure that family only.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=200_000)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.system.startswith("memory"):
        print(json.dumps(memory() if given.system == "memory" else memory_of_columns()))
        return
    found = {"gemm": gemm()}
    if given.system in ("engine", "eager"):
        provenance.prepare(given.threads)
        provenance.apply(provenance.compute("cpu", given.threads, compiled=given.system == "engine"))
        parts = {} if given.model_free else engine(given.rows)
    else:
        if given.system == "baseline-onednn":
            torch.set_float32_matmul_precision("medium")
        parts = {} if given.model_free else baseline(given.rows)
    if given.model_free:
        found |= rates_of_model_free(given.system in ("engine", "eager"), given.rows)
        print(json.dumps(found))
        return
    began = time.perf_counter()
    parts["fit"]()
    parts["roll out"]()
    parts["update"]()
    found["cold start"] = time.perf_counter() - began
    found["ensemble step"] = rate(parts["fit"]) * FITS
    found["rollout"] = rate(parts["roll out"], rounds=3) * ROLLOUT * HORIZON
    found["sac update"] = rate(parts["update"]) * 100
    found["evaluation"] = rate(parts["evaluate"], rounds=3)
    found["epoch"] = rate(lambda: epoch(parts), rounds=1, warm_up=False)
    found |= rates_of_model_free(given.system in ("engine", "eager"), given.rows)
    print(json.dumps(found))


def rates_of_model_free(engine: bool, rows: int) -> dict[str, float]:
    """Return updates a second of IQL and CQL, and environment steps a second of RLPD."""
    found = {}
    for part, (work, count) in model_free(engine, rows).items():
        many = 100 // (20 * count) if part == "rlpd step" else 100 // count
        found[part] = rate(lambda work=work, many=many: [work() for _ in range(many)]) * many * count
    return found


def model_free(engine: bool, rows: int) -> dict[str, tuple[Callable[[], None], int]]:
    """Return a call of each model-free method's updates, and how many it does (RLPD: environment steps)."""
    if engine:
        return {f"{name} update": (updates_of(name, rows), 100) for name in ("iql", "cql")} | {
            "rlpd step": (updates_of("rlpd", rows), 5)
        }
    import model_free_baseline as plain

    iql, cql, rlpd = plain.Iql(11, 3), plain.Cql(11, 3), plain.Rlpd(11, 3)
    data = random_data(rows)
    columns = [data.obs, data.action, data.reward, data.next_obs, data.terminated.astype(np.float32)]

    random = np.random.default_rng(0)

    def batch() -> plain.Batch:
        index = random.integers(0, rows, 256)
        obs, action, reward, next_obs, terminated = (torch.from_numpy(column[index]) for column in columns)
        return obs, action, reward, next_obs, terminated

    def noise() -> dict[str, Any]:
        return {
            "next": torch.randn(256, 3),
            "now": torch.randn(256, 3),
            "policy": torch.randn(2, 10, 256, 3),
            "uniform": 2 * torch.rand(10, 256, 3) - 1,
        }

    def one_step() -> None:
        each = [(batch(), torch.randn(256, 3), torch.randperm(10)[:2]) for _ in range(20)]
        rlpd.update(each, torch.randn(256, 3))

    return {
        "iql update": (lambda: iql.update(batch()) and None, 1),
        "cql update": (lambda: cql.update(batch(), noise()) and None, 1),
        "rlpd step": (one_step, 1),
    }


def updates_of(name: str, rows: int) -> Callable[[], None]:
    """Return what does 100 updates of an agent on random data of Hopper's shape.

    Agents that learn online have 32 transitions of their own; RLPD's updates are those of five steps.
    """
    algorithm, data = registry.algorithm(name), random_data(rows)
    task = Task(11, 3, 1000, (0,), None, Budget(10**6, 100))
    agent: Any = algorithm(task, algorithm.Config(), data)
    for i in range(32 if isinstance(agent, Online) else 0):
        agent.replay.append(stack_steps([data[i]]))

    def update() -> None:
        agent.due = 100
        for _ in agent.work("bench"):
            pass

    return update


def epoch(parts: dict[str, Callable[[], None]]) -> None:
    """An offline epoch: a rollout, 1,000 updates, an evaluation of ten episodes."""
    parts["roll out"]()
    for _ in range(UPDATES // 100):
        parts["update"]()
    parts["evaluate"]()


def engine(rows: int) -> dict[str, Callable[[], None]]:
    """Return the engine's parts, as the algorithms use them."""
    agent = mopo(rows)
    agent.training = agent._new_training()
    agent.training.start()
    hopper = find_env("Hopper-v4")
    assert hopper.locomotion
    arena = Arena(
        replace(hopper, make=unhealthy_hopper, locomotion=replace(hopper.locomotion, healthy=None)), (0,)
    )

    def roll_out() -> None:
        agent.due_rollout = ROLLOUT
        for _ in agent._roll_out():
            pass

    def update() -> None:
        agent.due_updates = 100
        for _ in agent._update_policy():
            pass

    return {
        "fit": agent.training.turn,
        "roll out": roll_out,
        "update": update,
        "evaluate": lambda: arena.returns(lambda obs: agent.act(obs, explore=False), ("bench",), 10),
    }


def baseline(rows: int) -> dict[str, Callable[[], None]]:
    """Return the baseline's parts."""
    import baseline

    agent = baseline.Agent(rows)

    def update() -> None:
        for _ in range(100):
            agent.update()

    return {"fit": agent.fit, "roll out": agent.roll_out, "update": update, "evaluate": agent.evaluate}


def mopo(rows: int, seeds: int = 1, device: str = "cpu") -> Any:
    """Build MOPO on random data of Hopper's shape, with rollouts that never end early."""
    spec, data = find_env("Hopper-v4"), random_data(rows)
    task = Task(spec.obs_dim, spec.act_dim, 1000, tuple(range(seeds)), never, Budget(10**6, 0), device)
    algorithm = registry.algorithm("mopo")
    return algorithm(
        task, algorithm.Config.model_validate({"rollout_length": (0, 1, HORIZON, HORIZON)}), data
    )


def random_data(rows: int, env: str = "Hopper-v4", episode: int = 0) -> Transitions:
    """Return random transitions of a task's shape: episodes of so many steps, or a long one; none ends."""
    spec, random = find_env(env), np.random.default_rng(0)
    obs, next_obs = (random.standard_normal((rows, spec.obs_dim), np.float32) for _ in range(2))
    action = np.tanh(random.standard_normal((rows, spec.act_dim), np.float32))
    flags = np.zeros(rows, bool)
    starts = np.arange(rows) % (episode or rows) == 0
    return Transitions(obs, action, obs[:, 0], next_obs, flags, flags, starts)


def never(obs: Any, action: Any, next_obs: Any) -> Any:
    """Never end, so that every system computes every row."""
    return next_obs[..., 0] > 1e9


def unhealthy_hopper() -> Any:
    """Make a Hopper whose episodes last 1,000 steps, whatever it does."""
    import gymnasium

    gymnasium.logger.min_level = gymnasium.logger.ERROR
    return gymnasium.make("Hopper-v4", disable_env_checker=True, terminate_when_unhealthy=False)


def memory() -> dict[str, float]:
    """Return megabytes: after the imports, at the peak of a run on a million rows, and the two stores."""
    provenance.prepare(1)
    before, rows = peak(), 1_000_000
    agent = mopo(rows)
    width = agent.replay.rows.shape[1]
    agent.training = agent._new_training()
    agent.training.start()
    agent.training.turn()
    for _ in range(5):
        agent.due_rollout = ROLLOUT
        for _ in agent._roll_out():
            pass
    agent.due_updates = 100
    for _ in agent._update_policy():
        pass
    assert int(agent.replay.fill[0]) == agent.replay.model_capacity
    megabytes = width * 4 / 2**20
    return {
        "imports": before,
        "peak": peak(),
        "data": rows * megabytes,
        "ring": agent.replay.model_capacity * megabytes,
    }


def memory_of_columns() -> dict[str, float]:
    """Return megabytes: after the imports, at the peak of an update on a million rows, and the stores.

    Rows are of HalfCheetah's size, with the discounted return (Cal-QL), then with the next action (ReBRAC);
    the peak is that of both, one after the other.
    """
    provenance.prepare(1)
    found, rows = {"imports": peak()}, 1_000_000
    for name, algorithm in COLUMNS.items():
        agent = offline(algorithm, rows)
        agent.due_updates = 1
        for _ in agent.work("offline"):
            break
        found[f"data with {name}"] = rows * agent.replay.rows.shape[1] * 4 / 2**20
        found[f"peak with {name}"] = peak()
        del agent
        gc.collect()
    return found


def offline(name: str, rows: int) -> Any:
    """Build an offline algorithm on random data of HalfCheetah's shape, episodes of 1,000 steps."""
    spec, agent = find_env("HalfCheetah-v4"), registry.algorithm(name)
    task = Task(spec.obs_dim, spec.act_dim, 1000, (0,), spec.terminal, Budget(10**6, 0))
    return agent(task, agent.Config(), random_data(rows, "HalfCheetah-v4", episode=1000))


def peak() -> float:
    """Return the peak resident memory of this process in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gemm() -> float:
    """Return the rate of float32 products of 2,048 transitions and columns, GFLOP/s: the machine's limit."""
    a = torch.randn(2048, 2048)
    return rate(lambda: a @ a) * 2 * 2048**3 / 1e9


def rate(work: Callable[[], Any], rounds: int = 5, warm_up: bool = True) -> float:
    """Return calls per second, the median of the rounds."""
    if warm_up:
        work()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return 1.0 / statistics.median(seconds)


if __name__ == "__main__":
    main()
