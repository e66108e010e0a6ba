"""Environments and rules of one's own: named on the command line or written down as data only."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from o2obench.datasets.registry import find_dataset
from o2obench.envs import own, spec
from o2obench.envs.termination import from_data
from o2obench.errors import UserError
from o2obench.planning.expand import read_suite
from o2obench.planning.plan import Plan, read_plan
from o2obench.planning.schema import Selection
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.spec import RunSpec, digest
from o2obench.training.build import build
from o2obench.util import own_modules
from tests.conftest import Command

MODULE = '''
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

class Reach(gymnasium.Env):
    """A point on a line that is to come near a goal; observations are those of a goal environment."""

    action_space = Box(-2.0, 2.0, (1,), np.float32)
    observation_space = Dict(
        achieved_goal=Box(-9, 9, (1,)), desired_goal=Box(-9, 9, (1,)), observation=Box(-9, 9, (2,))
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.goal = self.np_random.uniform(-1, 1, 2)
        return self._obs(), {}

    def step(self, action):
        self.x = float(np.clip(self.x + 0.1 * action[0], -9, 9))
        gap = abs(self.x - self.goal)
        return self._obs(), -gap, gap < 0.05, False, {}

    def _obs(self):
        one = lambda *values: np.array(values, np.float32)
        return {
            "achieved_goal": one(self.x), "desired_goal": one(self.goal), "observation": one(self.x, 1.0)
        }

def near(obs, action, next_obs):
    return abs(next_obs[..., 0] - next_obs[..., 2]) < 0.05

gymnasium.register("Reach-v0", Reach, max_episode_steps=20)
'''
RULE = {"any": [["next_obs", 0, ">", 5], {"all": [["action", 0, "<=", 0.5], ["obs", 1, ">=", 0.0]]}]}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of one's own in the working folder, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_envs.py").write_text(MODULE)
    yield "my_envs"
    _forget()


def _forget() -> None:
    import gymnasium

    own_modules._files.clear()
    own._rule.clear()
    sys.modules.pop("my_envs", None)
    gymnasium.registry.pop("Reach-v0", None)
    spec._registered.cache_clear()


def nested(depth: int) -> Any:
    """Return a rule of so many groups in each other."""
    return {"any": [nested(depth - 1)]} if depth else ["obs", 0, "<", 1.0]


def write_set(file: Path, **card: Any) -> Path:
    """Write transitions of Reach-v0 by random actions, and their card.

    With a rule in the card nothing ends before the clock.
    """
    from o2obench.datasets import d4rl

    env, draw = spec.find_env("Reach-v0").make(), np.random.default_rng(0)
    names = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    obs, _ = env.reset(seed=0)
    for _ in range(600):
        action = draw.uniform(-2, 2, 1)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        terminated = terminated and "terminal" not in card
        for name, value in zip(names, (obs, action, reward, next_obs, terminated, truncated), strict=True):
            rows[name].append(value)
        obs = env.reset()[0] if terminated or truncated else next_obs
    arrays = {name: np.array(values) for name, values in rows.items()}
    about = {"environment": "Reach-v0", "ref_min": -20.0, "ref_max": 0.0, **card}
    d4rl.write(file, arrays, {"environment": "Reach-v0"})
    file.with_suffix(".json").write_text(json.dumps(about))
    return file


def plan_of(file: Path, algorithm: str = "mopo") -> Plan:
    suite = file.with_name("s.yaml")
    suite.write_text(
        f"algorithms: [{algorithm}]\ndatasets: ['file:{file}']\nseeds: 1\nfrozen: false\n"
        "offline: {updates: 10}\nonline: {steps: 5}\n"
    )
    return read_suite(suite, Selection(defaults=True))


def test_a_goal_environment_is_a_vector_of_state_and_goal(module: str) -> None:
    with pytest.raises(UserError, match="environment Reach-v0: not known"):
        spec.find_env("Reach-v0")
    own.take_own([module])
    env = spec.find_env("Reach-v0")
    assert (env.obs_dim, env.act_dim, env.horizon) == (3, 1, 20)
    obs, _ = env.make().reset(seed=0)
    assert obs.shape == (3,)
    assert obs[1] == 1.0, "observation, then the goal"
    assert env.terminal is None


@pytest.mark.parametrize("asarray", [np.asarray, torch.as_tensor])
def test_a_rule_as_data_is_its_comparisons(asarray: Any) -> None:
    terminal = from_data(RULE, obs_dim=2, act_dim=1)
    rows = (
        # obs, action, next_obs, ended
        ((0.0, -1.0), (0.0,), (6.0, 0.0), True),
        ((0.0, -1.0), (0.0,), (5.0, 0.0), False),
        ((0.0, 0.0), (0.5,), (0.0, 0.0), True),
        ((0.0, 0.0), (0.6,), (0.0, 0.0), False),
        ((0.0, -1.0), (0.0,), (float("nan"), 0.0), True),
    )
    obs, action, next_obs = (asarray([row[i] for row in rows]) for i in range(3))
    assert terminal(obs, action, next_obs).tolist() == [row[3] for row in rows]
    never = from_data("never", 2, 1)
    assert never(obs, action, next_obs).tolist() == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("sometimes", "not a rule of termination"),
        (["next_obs", 0, "==", 1], "not a rule of termination"),
        (["state", 0, "<", 1], "not a rule of termination"),
        (["next_obs", 9, "<", 1], "9 is no index of next_obs, which has 2 components"),
        (["next_obs", True, "<", 1], "is no index of next_obs"),
        (["next_obs", 0, "<", "1"], "is no number to compare with"),
        (["next_obs", 0, "<", float("nan")], "is no number to compare with"),
        ({"any": []}, "not a rule of termination"),
        ({"any": "x", "all": []}, "not a rule of termination"),
        ({"any": ["never"]}, "not a rule of termination"),
        (nested(9), "not a rule of termination"),
        (None, "not a rule of termination"),
    ],
)
def test_what_is_no_rule_is_refused(rule: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_data(rule, 2, 1)


def test_a_card_may_hold_a_rule_and_it_is_part_of_the_identity(module: str, tmp_path: Path) -> None:
    own.take_own([module])
    file = write_set(tmp_path / "reach.hdf5")
    with pytest.raises(UserError, match=r"mopo on .*: nobody has written down when Reach-v0 ends"):
        plan_of(file)
    plain = plan_of(file, "bc").runs[0].spec
    assert "terminal" not in plain.to_json()
    write_set(file, terminal="never")
    never = plan_of(file).runs[0].spec
    assert never.terminal == "never"
    assert RunSpec.from_json(json.loads(json.dumps(never.to_json()))) == never
    write_set(file, terminal=["next_obs", 0, ">", 100.0])
    other = plan_of(file)
    assert other.runs[0].spec.hash != never.hash
    other.write(ResultsFolder(tmp_path / "results"))
    agent = build(other.runs, ResultsFolder(tmp_path / "results"), "cpu")
    assert agent.task.terminal is not None
    assert agent.task.terminal(np.zeros(3), np.zeros(1), np.array([101.0, 0, 0]))
    write_set(file, terminal=["next_obs", 7, ">", 1])
    with pytest.raises(UserError, match=r"reach\.json: terminal: .*7 is no index of next_obs"):
        find_dataset(f"file:{file}")


def test_a_function_comes_by_the_command_line_only(module: str, tmp_path: Path) -> None:
    own.take_own([module])
    file = write_set(tmp_path / "reach.hdf5", terminal={"function": "os:getcwd", "sha256": "x"})
    with pytest.raises(UserError, match=r"reach\.json: terminal: no card names a function"):
        find_dataset(f"file:{file}")
    write_set(file)
    own.take_own([], "my_envs:near")
    plan = plan_of(file)
    rule = plan.runs[0].spec.terminal
    assert rule["function"] == "my_envs:near"
    assert len(rule["sha256"]) == 64
    terminal = find_dataset(f"file:{file}").env.terminal
    assert terminal is not None
    assert terminal(np.zeros(3), np.zeros(1), np.array([0.5, 1.0, 0.52]))
    results = ResultsFolder(tmp_path / "results")
    plan.write(results)
    own._rule.clear()
    with pytest.raises(UserError, match=r"name it again with --import my_envs --terminal my_envs:near"):
        build(plan.runs, results, "cpu")
    value = json.loads((tmp_path / "results" / "plans" / "s.json").read_text())
    del value["sha256"]
    [of] = value["specs"].values()
    of["terminal"] = {"function": "os:getcwd", "sha256": "x"}
    assert read_plan(tmp_path / "results" / "plans" / "s.json")
    with pytest.raises(UserError, match="os:getcwd says when it ends"):
        own.with_rule(spec.find_env("Reach-v0"), of["terminal"])
    assert digest(of) != plan.runs[0].spec.hash


def test_wrong_functions_and_modules_are_refused(module: str, tmp_path: Path) -> None:
    own.take_own([module])
    for name, message in (
        ("my_envs:far", "my_envs has no function 'far'"),
        ("my_envs", "my_envs has no function ''"),
        ("my_envs:Reach", "my_envs has no function 'Reach'"),
        ("os:getcwd", "os: not imported; name it with --import os"),
    ):
        with pytest.raises(UserError, match=message):
            own.take_own([], name)
    (tmp_path / "spoilt.py").write_text("raise SystemExit(0)")
    (tmp_path / "json.py").write_text("")
    for name, message in (
        ("spoilt", "--import spoilt: cannot be imported: SystemExit: 0"),
        ("absent", "--import absent: not found, neither installed nor as absent.py here"),
        ("absent.py", "--import absent.py: not found"),
        ("../x", "not a module's name"),
        ("json.py", "json is the name of another module; rename yours"),
    ):
        with pytest.raises(UserError, match=message):
            own.take_own([name])
    with pytest.raises(UserError, match="Hopper-v4 has a termination rule of its own"):
        own.with_rule(spec.find_env("Hopper-v4"), "never")


@pytest.mark.slow
def test_a_suite_in_an_own_environment_and_its_workers(
    module: str, tmp_path: Path, o2obench_process: Command
) -> None:
    own.take_own([module])
    write_set(tmp_path / "reach.hdf5")
    (tmp_path / "s.yaml").write_text(
        "algorithms: [bc]\ndatasets: ['file:reach.hdf5']\nseeds: 1\noffline: {updates: 20}\n"
    )
    words = ("suite", "s.yaml", "--defaults", "--no-report")
    refused = o2obench_process(*words)
    assert refused.returncode == 2
    assert "environment Reach-v0: not known" in refused.stderr
    done = o2obench_process(*words, "--import", "my_envs")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "results").rglob("DONE"))


@pytest.mark.slow
def test_nothing_but_the_command_line_imports(tmp_path: Path, o2obench_process: Command) -> None:
    """Modules and cards that lie about are not run, whatever names them."""
    planted = tmp_path / "planted.py"
    planted.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for suite in ("import: planted\n", "overrides: {bc: {import: planted}}\n", "terminal: planted:x\n"):
        (tmp_path / "s.yaml").write_text(f"algorithms: [bc]\ndatasets: [pointmass-mixed-v0]\n{suite}")
        assert o2obench_process("suite", "s.yaml", "--dry-run").returncode == 2
    for card in (
        {"environment": "planted:X-v0"},
        {"environment": "Hopper-v4", "import": "planted"},
        {"environment": "Hopper-v4", "terminal": "planted:x"},
        {"environment": "Hopper-v4", "terminal": {"function": "planted:x", "sha256": ""}},
    ):
        (tmp_path / "x.json").write_text(json.dumps(card))
        (tmp_path / "x.hdf5").write_bytes(b"")
        assert o2obench_process("data", "check", "file:x.hdf5").returncode == 2
    assert not (tmp_path / "ran").exists()
