"""Which penalty MOPO should take on a data set: lambda swept offline, as DOOF's appendix C.3 tunes it.

    python benchmarks/penalty.py o2o:hopper-replay60-v0 --seeds 100 101 --out benchmarks/results/penalty.json

The model is fitted once per seed, until it has converged, and shared: it does not depend on lambda, so each
policy is the one that a MOPO run of that lambda has. What is compared is the score by episodes of the mean
action in the environment; they are counted, since a budget of real steps would have to pay for them. Seeds
from 100 on are not those of any suite. States lie in ``--work``: a call that was stopped goes on, and
``benchmarks/model_training.py`` starts from them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import o2obench
from o2obench.agent import Agent, State
from o2obench.datasets.registry import Dataset, find_dataset
from o2obench.runs import checkpoint
from o2obench.training.collector import settle_machine
from o2obench.training.evaluation import Arena
from o2obench.util.files import write_atomically
from o2obench.util.rng import Stream

EVERY, EPISODES, FINAL = 10_000, 10, 50
"""Updates between two evaluations, episodes of each, and of the last."""


class Sweep:
    """The policies of one seed in its one model."""

    def __init__(self, dataset: Dataset, seed: int, arguments: argparse.Namespace) -> None:
        self.dataset, self.seed, self.updates = dataset, seed, arguments.updates
        self.options = {"rollout_batch_size": arguments.rollout_batch_size}
        self.work = arguments.work / dataset.name.replace(":", "-") / f"seed-{seed}"
        self.arena = Arena(dataset.env, (seed,))

    def agent(self, **options: Any) -> Agent[Any]:
        """Return MOPO with the data set's row of options and these."""
        return o2obench.make_agent(
            "mopo",
            self.dataset.name,
            seeds=(self.seed,),
            options=self.options | options,
            offline_updates=self.updates,
        )

    def model(self) -> State:
        """Return the state of an agent with a converged model, from ``work`` where it lies there."""
        folder = self.work / "model"
        found = checkpoint.load(folder) if folder.exists() else None
        if found:
            return found[1]
        agent = self.agent()
        agent.begin("model")
        for metrics in agent.work("model"):
            if metrics:
                print(
                    self.seed,
                    {name: round(float(value[0]), 4) for name, value in metrics.items()},
                    flush=True,
                )
        checkpoint.save(folder, 1, agent.state_dict())
        return agent.state_dict()

    def scores(self, penalty: float) -> dict[str, list[float]]:
        """Return the scores of the policy that learns under a penalty, by updates."""
        file = self.work / f"penalty-{penalty}.json"
        if file.exists():
            known: dict[str, list[float]] = json.loads(file.read_text())
            return known
        agent, scores, due = self.agent(penalty_coef=penalty), dict[str, list[float]](), EVERY
        agent.load_state_dict(self.model())
        agent.begin("policy")
        for _ in agent.work("policy"):
            if agent.updates >= min(due, self.updates):
                due += EVERY
                scores[str(agent.updates)] = self._evaluate(agent)
                mean = np.mean(scores[str(agent.updates)])
                print(
                    f"seed {self.seed}, lambda {penalty}, {agent.updates:,} updates: {mean:.1f}", flush=True
                )
        checkpoint.save(self.work / f"penalty-{penalty}", 1, agent.state_dict())
        write_atomically(file, json.dumps(scores))
        return scores

    def _evaluate(self, agent: Agent[Any]) -> list[float]:
        clock = (Stream.AT_UPDATES, 0, agent.updates)
        episodes = FINAL if agent.updates >= self.updates else EPISODES
        returns = self.arena.returns(lambda obs: agent.act(obs, explore=False), clock, episodes)
        return [round(float(score), 2) for score in self.dataset.scores.score(returns[0])]


def main() -> None:
    """Sweep, print a table, write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--penalties", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.5])
    parser.add_argument("--updates", type=int, default=120_000)
    parser.add_argument("--rollout-batch-size", type=int, default=10_000)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    settings = settle_machine(1, arguments.updates)
    dataset, began = find_dataset(arguments.dataset), time.monotonic()
    found = {
        str(penalty): {str(seed): Sweep(dataset, seed, arguments).scores(penalty) for seed in arguments.seeds}
        for penalty in arguments.penalties
    }
    last = str(arguments.updates)
    print(f"{dataset.name}: score after {arguments.updates:,} updates, {FINAL} episodes")
    for penalty, seeds in found.items():
        means = [float(np.mean(scores[last])) for scores in seeds.values()]
        print(f"lambda {penalty}: {np.mean(means):.1f} ({', '.join(f'{mean:.1f}' for mean in means)})")
    episodes = sum(
        len(row) for seeds in found.values() for scores in seeds.values() for row in scores.values()
    )
    print(f"{episodes:,} episodes were spent on it")
    if arguments.out:
        result = {
            "dataset": dataset.name,
            "dataset_sha256": dataset.sha256(),
            "updates": arguments.updates,
            "rollout_batch_size": arguments.rollout_batch_size,
            "episodes": episodes,
            "seconds": round(time.monotonic() - began),
            "compute": settings,
            "scores": found,
        }
        write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
