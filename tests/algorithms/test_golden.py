"""Ten updates of every algorithm come out as they always did.

When this fails on purpose: raise the algorithm's ``version`` (or that of the part of the kit), write it under
"Changes results" in CHANGELOG.md, and run ``pytest tests/algorithms/test_golden.py --update-golden``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from o2obench import registry
from o2obench.envs.episode import Interaction
from o2obench.envs.spec import find_env
from o2obench.runs.spec import FOREIGN
from o2obench.testing import check_agent
from o2obench.transitions import stack_steps

GOLDEN = Path(__file__).parents[1] / "golden" / "ten_updates.json"
ACTIONS = 3
"""Components of actions beside the sizes of arrays. Where a gradient is nearly zero, Adam makes a whole step
of how a processor rounds it: actions on an Intel and an AMD differ by up to 3e-4 after ten updates.
"""
NAMES = [name for name in registry.names() if not name.startswith("toy_") and name != FOREIGN]
OF_A_PART = {"mopo", "sac", "iql", "td3_bc", "cql", "rlpd"}
"""One or two of each shared part, in every test run; make test-slow does all."""


def after_ten_updates(name: str) -> list[float]:
    """Return 20 numbers of the state that the algorithm hands over after (at least) ten updates."""
    agent = check_agent.build(name, (0,))
    life = Interaction(find_env(check_agent.ENV), 0)
    for stage in type(agent).stages(agent.config, agent.task.budget):
        agent.begin(stage.name)
        _work(agent, stage.name)
        for _ in range(stage.env_steps):
            if agent.updates >= 10:
                break
            step, _ = life.step(agent.act(life.obs[None, None], explore=True)[0, 0])
            agent.observe(stack_steps([step]))
            _work(agent, stage.name)
    arrays = [
        v
        for v in check_agent.leaves(agent.pretrained_state()).values()
        if isinstance(v, np.ndarray) and v.dtype.kind == "f"
    ]
    sizes = [float(np.abs(array).mean()) for array in arrays]
    picked = np.linspace(0, len(sizes) - 1, 17).round().astype(int)
    actions = agent.act(check_agent._observations(1, 3), explore=False).ravel()[:ACTIONS]
    return [*(sizes[i] for i in picked), *map(float, actions)]


def _work(agent: Any, stage: str) -> None:
    for _ in agent.work(stage):
        pass


@pytest.fixture
def wide_networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks as in real runs; no pretrained agent is kept from or for those that have narrow ones."""
    monkeypatch.setattr(check_agent, "NARROW", 10_000)
    check_agent._pretrained.cache_clear()
    yield
    check_agent._pretrained.cache_clear()


@pytest.mark.usefixtures("wide_networks")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in OF_A_PART)) for name in NAMES]
)
def test_ten_updates(name: str, update_golden: bool) -> None:
    found: dict[str, Any] = {"versions": registry.versions(name), "numbers": after_ten_updates(name)}
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if update_golden:
        golden[name] = found
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    kept = golden.get(name)
    assert kept, f"no golden numbers for {name}; run with --update-golden"
    message = "the numbers changed: raise the version, note it in CHANGELOG.md, run with --update-golden"
    assert found["versions"] == kept["versions"], message
    parts = [np.split(np.array(of["numbers"]), [-ACTIONS]) for of in (found, kept)]
    (sizes, actions), (sizes_kept, actions_kept) = parts
    assert np.allclose(sizes, sizes_kept, rtol=1e-4, atol=1e-6), message
    assert np.allclose(actions, actions_kept, rtol=0, atol=1e-3), message
