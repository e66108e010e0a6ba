"""Stable-Baselines3's SAC update on random data of Hopper's shape, in the benchmark's own environment.

python benchmarks/sb3.py --threads 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import gymnasium
import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import configure

OBS, ACT, ROWS = 11, 3, 200_000


class Still(gymnasium.Env):
    """An environment that gives the spaces and nothing else."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (ACT,), np.float32)


def main() -> None:
    """Print the median updates per second of five rounds of 100."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    nets = {"net_arch": [256, 256]}
    agent = SAC("MlpPolicy", Still(), buffer_size=ROWS, batch_size=256, policy_kwargs=nets, device="cpu")
    agent.set_logger(configure(None, []))
    random, buffer = np.random.default_rng(0), agent.replay_buffer
    for name in ("observations", "next_observations", "actions", "rewards"):
        column = getattr(buffer, name)
        column[:] = np.tanh(random.standard_normal(column.shape, np.float32))
    buffer.full = True
    agent.train(100, 256)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        agent.train(100, 256)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"sac update": 100 / statistics.median(seconds)}))


if __name__ == "__main__":
    main()
