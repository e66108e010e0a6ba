"""The engine on one GPU: ``make bench-gpu PYTHON=python3``. Needs torch, numpy and this checkout only.

Updates a second at 1, 5 and 10 packed seeds, eager, captured in CUDA graphs, and compiled and captured;
steps of the ensemble; a rollout of 50,000 transitions x 5; and a shortened offline stage of 5 seeds, from
which the wall time of DOOF's 3,000 epochs is projected (without evaluation, which runs in another
process). First it checks on this device that captured steps compute what eager ones do. Hopper's
sizes, float32 without TF32 unless --tf32. Under 8 minutes; writes benchmarks/results/<gpu>.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

OBS, ACT, ROWS, EPOCHS = 11, 3, 1_000_000, 20
TARGETS = {"updates, 1 seed": 3000, "updates, 10 seeds": 15_000, "rollout milliseconds": 50}


def stand_in_for_pydantic() -> None:
    """Let the kit be imported where pydantic is missing: options are then plain class attributes."""
    try:
        import pydantic  # noqa: F401
    except ModuleNotFoundError:
        module = types.ModuleType("pydantic")

        class BaseModel:
            def __init__(self, **values: Any) -> None:
                vars(self).update(values)

            @classmethod
            def model_validate(cls, values: dict[str, Any]) -> Any:
                return cls(**values)

        def field(default: Any = None, **constraints: Any) -> Any:
            return default

        def model_validator(mode: str) -> Any:
            return lambda check: check

        vars(module).update(
            BaseModel=BaseModel, ConfigDict=dict, Field=field, model_validator=model_validator
        )
        sys.modules["pydantic"] = module


stand_in_for_pydantic()

from algorithms.mopo import Mopo  # noqa: E402
from o2obench.agent import Budget, Task  # noqa: E402
from o2obench.kit import compile  # noqa: E402
from o2obench.transitions import Transitions  # noqa: E402


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of the shortened stage")
    given = parser.parse_args()
    if given.device != "cpu" and not torch.cuda.is_available():
        sys.exit("no GPU is visible to torch; nothing was measured")
    if given.tf32:
        torch.set_float32_matmul_precision("high")
    began = time.perf_counter()
    name = torch.cuda.get_device_name(given.device) if given.device != "cpu" else "cpu"
    found: dict[str, Any] = {"gpu": name, "torch": torch.__version__, "tf32": given.tf32}
    say(f"{name}, torch {torch.__version__}, {'TF32' if given.tf32 else 'float32'}")
    found["largest difference of captured and eager steps"] = captured_equals_eager(given.device, given.rows)
    reason = compile.why_no_compiler(given.device)
    found["no compiler"] = reason
    ways = ["eager", "captured"] + ([] if reason else ["compiled"])
    for seeds in (1, 5, 10):
        for way in ways:
            agent = build(given, seeds, way)
            found[f"{way}, {seeds} seeds"] = row = parts(agent, seeds, given.device)
            say(
                f"{way:<9} {seeds:>2} seeds: "
                + ", ".join(f"{part} {value:,.0f}" for part, value in row.items())
            )
            del agent
    agent = build(given, 5, ways[-1])
    found["stage of 5 seeds"] = stage(agent, given.epochs, given.device)
    for text, value in found["stage of 5 seeds"].items():
        say(f"{text}: {value:,.2f}")
    found["seconds in all"] = round(time.perf_counter() - began, 1)
    best = {
        "updates, 1 seed": max(found[f"{way}, 1 seeds"]["updates/s"] for way in ways),
        "updates, 10 seeds": max(found[f"{way}, 10 seeds"]["updates/s"] for way in ways),
        "rollout milliseconds": min(found[f"{way}, 1 seeds"]["rollout ms"] for way in ways),
    }
    for what, target in TARGETS.items():
        say(f"{what}: {best[what]:,.0f} (target {target:,})")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ("-tf32" if given.tf32 else "")
    file = HERE / "results" / f"{slug}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
    say(f"written to {file.relative_to(HERE.parent)}")


def build(given: argparse.Namespace, seeds: int, way: str) -> Any:
    """Build MOPO on random data; ``way`` is eager, captured or compiled."""
    compile.use_compiler(way == "compiled")
    random = np.random.default_rng(0)
    obs, next_obs = (random.standard_normal((given.rows, OBS), np.float32) for _ in range(2))
    action = np.tanh(random.standard_normal((given.rows, ACT), np.float32))
    flags = np.zeros(given.rows, bool)
    data = Transitions(obs, action, obs[:, 0], next_obs, flags, flags, flags)
    task = Task(OBS, ACT, 1000, tuple(range(seeds)), never, Budget(10**7, 0), given.device)
    agent: Any = Mopo(task, Mopo.Config.model_validate({"rollout_length": (0, 1, 5, 5)}), data)
    if way == "eager":
        for learner in (agent.sac, agent.model):
            learner._repeat = Uncaptured(learner._repeat.step)
    return agent


class Uncaptured(compile.Repeat):
    """Steps that are launched one kernel after another."""

    @torch.no_grad()
    def __call__(self, source: Any, *inputs: torch.Tensor) -> None:
        """Do as many steps as the inputs' first axis is long."""
        self._run(source, list(inputs))


def never(obs: Any, action: Any, next_obs: Any) -> Any:
    """Never end a rollout."""
    return next_obs[..., 0] > 1e9


def captured_equals_eager(device: str, rows: int) -> float:
    """Return the largest difference of actor parameters after 50 updates from equal draws."""
    given = argparse.Namespace(rows=min(rows, 20_000), device=device)
    actors = []
    for way in ("eager", "captured"):
        agent = build(given, 2, way)
        agent.due_rollout = 1000
        run(agent._roll_out())
        for _ in range(2):
            agent.due_updates = 25
            run(agent._update_policy())
        actors.append(agent.sac.actor.flat.cpu())
    return float((actors[0] - actors[1]).abs().max())


def parts(agent: Any, seeds: int, device: str) -> dict[str, float]:
    """Return rates summed over seeds, and the milliseconds of a rollout of all seeds."""
    agent.training = agent._new_training()
    agent.training.start()

    def update() -> None:
        agent.due_updates = 200
        run(agent._update_policy())

    def roll_out() -> None:
        agent.due_rollout = 50_000
        run(agent._roll_out())

    fit = seconds(agent.training.turn, device)
    rollout = seconds(roll_out, device)
    return {
        "updates/s": 200 * seeds / seconds(update, device),
        "ensemble steps/s": 20 * seeds / fit,
        "rollout ms": 1000 * rollout,
    }


def stage(agent: Any, epochs: int, device: str) -> dict[str, float]:
    """Measure a shortened offline stage, and project 3,000 epochs and 50 passes over the data."""
    agent.training = agent._new_training()
    agent.training.start()
    step = seconds(agent.training.turn, device) / 20
    agent.training = None

    def live() -> None:
        for _ in range(epochs):
            agent.due_rollout, agent.due_updates = 50_000, 1000
            run(agent._roll_out())
            run(agent._update_policy())

    agent.due_rollout, agent.due_updates = 50_000, 100
    run(agent._roll_out())
    run(agent._update_policy())
    measured = seconds(live, device, rounds=1, warm_up=0)
    passes = 50 * agent.replay.offline / agent.config.batch_size * step
    return {
        f"seconds of {epochs} epochs": measured,
        "projected hours of 3,000 epochs": measured / epochs * 3000 / 3600,
        "projected hours of 50 passes of model training": passes / 3600,
    }


def seconds(work: Callable[[], Any], device: str, rounds: int = 3, warm_up: int = 3) -> float:
    """Return the least seconds of a call; warm-up calls compile and capture."""
    for _ in range(warm_up):
        work()
    spent = []
    for _ in range(rounds):
        settle(device)
        began = time.perf_counter()
        work()
        settle(device)
        spent.append(time.perf_counter() - began)
    return min(spent)


def settle(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device != "cpu":
        torch.cuda.synchronize()


def run(work: Any) -> None:
    """Exhaust an iterator."""
    for _ in work:
        pass


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
