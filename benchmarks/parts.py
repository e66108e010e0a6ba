"""How fast the parts of the model-based family are on this machine, one process, one row per part.

    python benchmarks/parts.py [--threads 1] [--seeds 1]

Sizes are Hopper's (obs 11, actions 3), batch 256, networks as published. Rates are medians of five rounds
after a warm-up; compare ratios within one run, not numbers between machines. Never run it beside other work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from o2obench import registry
from o2obench.agent import Budget, Task, Transitions
from o2obench.env import find_env
from o2obench.kit import engine

ROWS = 20_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    engine.use_compiler(given.compile)
    torch.set_num_threads(given.threads)
    torch.set_flush_denormal(True)
    a = torch.randn(2048, 2048)
    gemm = rate(lambda: a @ a, 3) * 2 * 2048**3 / 1e9
    print(f"GEMM {gemm:.0f} GFLOP/s; limit of SAC {gemm / 0.561:.0f}/s, ensemble {gemm / 1.36:.0f}/s")

    agent = make_agent(given.seeds)
    agent.begin("model")
    agent.fit = agent._new_fit()
    agent.fit.start()
    step = agent.fit.turn
    rates = [("ensemble gradient steps", rate(step, 1) * 20, "steps/s")]
    agent.fit = None

    def roll() -> None:
        agent._roll_out_tile(2000, 5)

    rates.append(("model rollout, 2,000 rows x 5", rate(roll, 1) * 10_000 * given.seeds, "transitions/s"))

    def update() -> None:
        agent.due_updates = 100
        for _ in agent._update_policy():
            pass

    rates.append(("SAC updates, sampling included", rate(update, 1) * 100, "updates/s"))
    print(f"{given.threads} thread(s), {given.seeds} seed(s), torch {torch.__version__}")
    for name, value, unit in rates:
        print(f"  {name:<34}{value:>10,.0f} {unit}")


def make_agent(seeds: int) -> Any:
    """Build MOPO on random data of Hopper's shape."""
    spec, random = find_env("Hopper-v4"), np.random.default_rng(0)
    assert spec.terminal is not None
    obs, next_obs = (random.normal(size=(ROWS, spec.obs_dim)).astype(np.float32) for _ in range(2))
    action = random.uniform(-1, 1, (ROWS, spec.act_dim)).astype(np.float32)
    flags = np.zeros(ROWS, bool)
    data = Transitions(obs, action, obs[:, 0], next_obs, flags, flags, flags)
    mopo = registry.algorithm("mopo")

    def never(obs: Any, action: Any, next_obs: Any) -> Any:
        return next_obs[..., 0] > 1e9

    task = Task(spec.obs_dim, spec.act_dim, 1000, tuple(range(seeds)), never, Budget(10**6, 0))
    return mopo(task, mopo.Config.model_validate({"horizon": (0, 1, 5, 5)}), data)


def rate(work: Callable[[], None], times: int) -> float:
    """Return calls per second: the median of five rounds of ``times`` calls."""
    work()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(times):
            work()
        seconds.append((time.perf_counter() - began) / times)
    return 1.0 / statistics.median(seconds)


if __name__ == "__main__":
    main()
