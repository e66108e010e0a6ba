"""How the online trainings of a model should go: rates, starts, passes, hold-outs, by its error alone.

    python benchmarks/penalty.py DATASET --seeds 100 101 102 --penalties 1     # pretrained states
    python benchmarks/model_training.py DATASET --penalty 1 --out benchmarks/results/model-training.json

All candidates of a seed meet the same transitions, which SAC collects while it fine-tunes MOPO's policy, and
start from the same converged model; no policy learns beside them and no return is looked at. What counts is
the error on the 250 transitions that come after a training, on which its rollouts will branch, divided by
that of the model which is never trained; and the same on the held-out offline transitions. Seeds from 100 on
are not those of any suite.
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
from o2obench.datasets.registry import find_dataset
from o2obench.envs.episode import Interaction
from o2obench.envs.spec import find_env
from o2obench.runs import checkpoint
from o2obench.training import provenance
from o2obench.training.collector import settle_machine
from o2obench.transitions import Transitions, stack_steps
from o2obench.util.files import write_atomically

EVERY = 250
SLOW, MIDDLE, FAST = {"model_lr": 1e-4}, {"model_lr": 3e-4}, {"model_lr": 1e-3}
BASE: dict[str, Any] = {"max_model_epochs": 5, "steps_per_model_epoch": 100, "model_lr_warmup_steps": 0}
FREE = {"model_best_start": "none"}
WARM = {"model_lr_warmup_steps": 250}
UNION = {"replay_data": "union"}
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "naive": [
        FAST | {"steps_per_model_epoch": None},
        FAST,
        MIDDLE,
        SLOW,
        FAST | WARM,
        FAST | FREE,
        SLOW | FREE,
        UNION | FAST,
        UNION | SLOW,
    ],
    "comou": [FAST | {"steps_per_model_epoch": None}, FAST, MIDDLE, SLOW, FAST | WARM, UNION | SLOW],
    "moore": [
        FAST,
        FAST | WARM,
        MIDDLE,
        SLOW,
        *(SLOW | {"holdout_weights": by} for by in ("half", "online")),
    ],
}
"""Options over BASE; what is first of naive and CoMoU counts a pass in transitions, 4 to 16 batches here."""


class Study:
    """The candidates of one seed, on one stream of transitions."""

    def __init__(self, dataset: str, seed: int, arguments: argparse.Namespace) -> None:
        self.dataset, self.seed, self.steps = dataset, seed, arguments.steps
        folder = arguments.work / dataset.replace(":", "-") / f"seed-{seed}" / f"penalty-{arguments.penalty}"
        saved = checkpoint.load(folder) if folder.exists() else None
        if not saved:
            raise SystemExit(f"{folder}: no pretrained state; benchmarks/penalty.py makes it")
        mopo = self.agent("mopo")
        mopo.load_state_dict(saved[1])
        self.pretrained: State = mopo.pretrained_state()
        self.stream = self._collect()

    def agent(self, algorithm: str, **options: Any) -> Agent[Any]:
        """Return an agent with the data set's row of options and these."""
        pretraining = "mopo" if algorithm == "sac_from" else ""
        return o2obench.make_agent(
            algorithm,
            self.dataset,
            seeds=(self.seed,),
            options=options,
            offline_updates=120_000,
            online_steps=self.steps + EVERY,
            pretraining=pretraining,
        )

    def _collect(self) -> list[Transitions]:
        """Return the steps that SAC takes from MOPO's policy on, one update each."""
        agent, world = (
            self.agent("sac_from"),
            Interaction(find_env(find_dataset(self.dataset).env.id), self.seed),
        )
        agent.warm_start([self.pretrained])
        agent.begin("fine-tune")
        steps = []
        for _ in range(self.steps + EVERY):
            step, _ = world.step(agent.act(world.obs[None, None], explore=True)[0, 0])
            steps.append(stack_steps([step]))
            agent.observe(steps[-1])
            for _ in agent.work("fine-tune"):
                pass
        return steps

    def errors(self, algorithm: str, options: dict[str, Any]) -> list[dict[str, float]]:
        """Return what each training of a candidate gave."""
        agent: Any = self.agent(algorithm, **{"learning_starts": 1000, **BASE, **options})
        agent.warm_start([self.pretrained])
        agent.begin("fine-tune")
        rows = []
        for k, step in enumerate(self.stream[: self.steps], 1):
            agent.due_rollout = agent.due_updates = 0
            agent.observe(step)
            if k < 1000 or k % EVERY:
                continue
            began = time.monotonic()
            found: dict[str, float] = {}
            for metrics in agent._train_model() if agent.due_training else ():
                found |= {name: float(value[0]) for name, value in metrics.items()}
            row = {name: found[name] for name in ("model/steps", "model/accepted") if found}
            row |= {f"next_{name}": value for name, value in self._error(agent, k).items()}
            offline = {
                name: float(value[0]) for name, value in agent._held_out().items() if "offline" in name
            }
            rows.append({"step": k, **row, **offline, "seconds": round(time.monotonic() - began, 2)})
        return rows

    def _error(self, agent: Any, now: int) -> dict[str, float]:
        """Return the elites' error and doubled NLL on the transitions to come."""
        coming = self.stream[now : now + EVERY]
        obs, action, following = (
            np.concatenate([getattr(step, name) for step in coming])[None]
            for name in ("obs", "action", "next_obs")
        )
        reward = np.concatenate([step.reward for step in coming])[None, :, None]
        mean, log_var, _ = agent.predict(obs, action)
        square = (mean - np.concatenate([following - obs, reward], -1)[:, None]) ** 2
        return {"mse": float(square.mean()), "nll": float((square * np.exp(-log_var) + log_var).mean())}


def main() -> None:
    """Measure, print a table, write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--penalty", type=float, required=True, help="whose states start it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    settings = settle_machine(1, provenance.COMPILE_FROM)
    found: dict[str, dict[str, Any]] = {}
    for seed in arguments.seeds:
        study = Study(arguments.dataset, seed, arguments)
        frozen = study.errors("naive", {"max_model_epochs": 0})
        for algorithm, candidates in CANDIDATES.items():
            for options in candidates:
                name = " ".join([algorithm, *(f"{key}={value}" for key, value in options.items())])
                rows = study.errors(algorithm, options)
                found.setdefault(name, {})[str(seed)] = rows
                ratios = ratio(rows, frozen, "next_mse"), ratio(rows, frozen, "held_out/offline/mse")
                print(f"seed {seed}: {name}: {ratios[0]:.2f} coming, {ratios[1]:.2f} offline", flush=True)
        found.setdefault("frozen", {})[str(seed)] = frozen
    if arguments.out:
        given = {"dataset": arguments.dataset, "penalty": arguments.penalty, "steps": arguments.steps}
        write_atomically(
            arguments.out, json.dumps({**given, "compute": settings, "rows": found}, indent=1) + "\n"
        )


def ratio(rows: list[dict[str, float]], frozen: list[dict[str, float]], name: str) -> float:
    """Return the mean error of a candidate's trainings over that of the untrained model."""
    return float(np.mean([row[name] for row in rows]) / np.mean([row[name] for row in frozen]))


if __name__ == "__main__":
    main()
