"""Somebody's own program learns under the protocol: counted, evaluated, refused, begun anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from o2obench.analysis.policy import load
from o2obench.errors import Interrupted, RunFailed, UserError
from o2obench.planning.expand import expand
from o2obench.planning.plan import Plan
from o2obench.planning.schema import Selection
from o2obench.report import write_report
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.jsonl import read_jsonl
from o2obench.runs.read import require_intact
from o2obench.training.foreign import require_commands
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.config import Located
from o2obench.util.files import read_json
from tests.conftest import Command

STEPS = 60
START = """
import os, sys, time
import numpy as np
from o2obench.bridge import BridgeEnv
"""
LEARNER = f"""{START}
with BridgeEnv() as env:
    data, random = env.data(), np.random.default_rng(env.seed)
    assert len(data["obs"]) == 5000
    gain = [0.0]
    env.policy = lambda obs: np.full((len(obs), 2), gain[0])
    obs, info = env.reset(seed=1)
    for step in range(env.steps):
        assert env.observation_space.contains(obs)
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        gain[0] += 0.01
        env.updates += 2
        if terminated or truncated:
            obs, info = env.reset()
print("through", env.steps)
"""


def plan_of(entry: dict[str, Any], steps: int = STEPS) -> Plan:
    suite = {
        "algorithms": [{"foreign": {"name": "mine", **entry}}],
        "datasets": ["pointmass-mixed-v0"],
        "seeds": [3],
        "offline": {"updates": 20, "evaluate_every": 20},
        "online": {"steps": steps, "evaluate_every": 20},
        "frozen": False,
    }
    return expand(Located(suite), "theirs", Selection(defaults=True))


def options(program: Path | str) -> Options:
    command = f"{sys.executable} {program}" if isinstance(program, Path) else program
    return Options(program=(f"mine={command}",))


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(text)
    return file


def computed(tmp_path: Path, text: str, **entry: Any) -> tuple[Plan, ResultsFolder]:
    plan, results = plan_of(entry), ResultsFolder(tmp_path / "results")
    for run in plan.runs:
        chosen = options(written(tmp_path, text)) if run.algorithm == "foreign" else Options()
        execute([run], results, chosen)
    return plan, results


def test_its_steps_are_counted_and_the_harness_evaluates_its_policy(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan, results = computed(tmp_path, LEARNER)
    folder = results.run(plan.runs[0].id)
    rows = list(read_jsonl(folder.evaluations))
    assert [(row["env_steps"], row["updates"]) for row in rows] == [(0, 0), (20, 40), (40, 80), (60, 120)]
    assert [len(row["returns"]) for row in rows] == [50, 10, 10, 50]
    assert len({tuple(row["returns"][:10]) for row in rows}) == 4, "the policy of each moment"
    assert sum(row["length"] for row in read_jsonl(folder.episodes)) <= STEPS
    assert read_json(folder.record)["restarts"] == {"count": 0, "env_steps": 0}
    assert "through 60" in capfd.readouterr().out
    require_intact(folder, plan.runs[0])
    with pytest.raises(UserError, match="its policy stayed in its program; there is nothing to show"):
        load(folder.path)


def test_the_evaluation_is_that_of_any_method(tmp_path: Path) -> None:
    """Who hands the pretrained policy back is evaluated as the frozen control is, to rounding."""
    hands_back = f"""{START}
with BridgeEnv() as env:
    layers = np.load(env.policy_file)
    print(sorted(layers))
    def policy(obs):
        x = obs
        for i in range(sum(name.startswith("weight") for name in layers)):
            x = x @ layers[f"weight_{{i}}"] + layers[f"bias_{{i}}"]
            x = np.maximum(x, 0.0) if f"weight_{{i + 1}}" in layers else x
        return np.tanh(x)
    env.policy = policy
    env.reset()
    for step in range(env.steps):
        if any(env.step([0.0, 0.0])[2:4]):
            env.reset()
"""
    plan, results = computed(tmp_path, hands_back, **{"from": "iql"})
    parent, child = (results.run(run.id) for run in plan.runs)
    last, first = list(read_jsonl(parent.evaluations))[-1], next(iter(read_jsonl(child.evaluations)))
    np.testing.assert_allclose(first["returns"], last["returns"], rtol=1e-3)
    rows = list(read_jsonl(child.evaluations))
    scale = np.std(last["returns"])
    assert abs(np.mean(rows[-1]["returns"]) - np.mean(last["returns"])) < scale
    assert read_json(child.record)["taken_over"] == {"actor": "handed on as plain arrays"}


FAULTS = {
    "ends": ("BridgeEnv(); sys.exit(3)", r"program mine has ended \(exit code 3\) after 0 of 60 steps"),
    "does not call": ("sys.exit(4)", r"program mine did not call \(exit code 4\)"),
    "no policy": ("e = BridgeEnv(); e.reset()", "program mine has ended"),
    "resets": (
        "e = BridgeEnv(); e.policy = lambda o: o[:, :2]; e.reset(); e.step([0, 0]); e.reset()",
        "resets in the middle of an episode; it goes on until it ends after 1 of 60 steps",
    ),
    "shape": (
        "e = BridgeEnv(); e.policy = lambda o: o[:, :2]; e.reset(); e.step([0, 0, 0])",
        r"says actions of shape \(3,\), expected \(2,\) after 0 of 60 steps",
    ),
    "nan": (
        "e = BridgeEnv(); e.policy = lambda o: o[:, :2] * np.nan; e.reset()",
        "says an action that is not finite",
    ),
    "finishes early": (
        "e = BridgeEnv(); e.policy = lambda o: o[:, :2]; e.reset(); e.finish()",
        "has finished after 0 of 60 steps",
    ),
    "no JSON": (
        "e = BridgeEnv(); e._lines.write(b'{]\\n'); e._lines.flush(); time.sleep(9)",
        "sent what is no JSON object",
    ),
    "asks": (
        "e = BridgeEnv(); e.policy = lambda o: o[:, :2]; e._asked({'other': 1})",
        "asks for what is unknown: .*other.* after 0 of 60 steps",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_goes_wrong_is_said_in_a_line(tmp_path: Path, name: str) -> None:
    text, said = FAULTS[name]
    plan, results = plan_of({}), ResultsFolder(tmp_path / "results")
    with pytest.raises(RunFailed, match=said):
        execute(plan.runs, results, options(written(tmp_path, START + text)))
    folder = results.run(plan.runs[0].id)
    assert folder.state() == "failed"
    assert "\n" not in folder.failure()


SLOW = LEARNER.replace("    gain[0] += 0.01", "    gain[0] += 0.01; time.sleep(0.02)")


def test_killed_it_begins_anew_and_says_what_that_cost(tmp_path: Path) -> None:
    assert SLOW != LEARNER
    plan, results = plan_of({}), ResultsFolder(tmp_path / "results")
    [run], folder = plan.runs, results.run(plan.runs[0].id)
    command = [sys.executable, "-m", "o2obench", "run", "foreign", "pointmass-mixed-v0", "--set", "name=mine"]
    command += ["--seed", "3", "--updates", "20", "--steps", str(STEPS), "--every", "20", "--defaults"]
    command += ["--results", str(results), *options(written(tmp_path, SLOW)).flags()]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (folder.evaluations.exists() and b'"env_steps": 20' in folder.evaluations.read_bytes()):
        assert worker.poll() is None
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    execute([run], results, options(written(tmp_path, LEARNER)))
    lost = read_json(folder.record)["restarts"]
    assert lost["count"] == 1
    assert 20 <= lost["env_steps"] < STEPS
    rows = [row["env_steps"] for row in read_jsonl(folder.evaluations)]
    assert rows == [0, 20, 40, 60], "nothing of the first attempt is left"
    require_intact(folder, run)
    out = tmp_path / "reports"
    plan.write(results)
    write_report(results, out)
    page = (out / "theirs" / "index.html").read_text()
    assert f"begun anew 1 time after {lost['env_steps']} environment steps in vain" in page
    assert '<th scope="col">foreign' in page or "foreign" in (out / "theirs" / "tables.csv").read_text()


def test_asked_to_stop_while_it_waits_nothing_is_saved_and_the_program_ends(tmp_path: Path) -> None:
    waits = f"{START}\nopen('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    plan, results = plan_of({}), ResultsFolder(tmp_path / "results")
    with pytest.raises(Interrupted):
        execute(plan.runs, results, options(written(tmp_path, waits)), stop=lambda: Path("pid").exists())
    folder = results.run(plan.runs[0].id)
    assert folder.state() != "failed"
    assert not list(folder.checkpoint.glob("*"))
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)


def test_a_stranger_on_the_bridge_is_hung_up_on(tmp_path: Path) -> None:
    both = LEARNER.replace(
        "with BridgeEnv() as env:",
        """import json, socket
host, port = os.environ["O2OBENCH_BRIDGE"].rsplit(":", 1)
stranger = socket.create_connection((host, int(port)))
stranger.sendall(json.dumps({"token": "guessed"}).encode() + b"\\n")
assert stranger.recv(1) == b""
with BridgeEnv() as env:""",
    )
    plan, results = computed(tmp_path, both)
    assert results.run(plan.runs[0].id).state() == "done"


@pytest.mark.parametrize(
    ("entry", "program", "said"),
    [
        ({}, (), "foreign: mine has no command; add --program 'mine=COMMAND'"),
        ({}, ("mine=x", "other=y"), "--program other: no run is of this program; a suite names it by"),
        ({}, ("mine",), "--program mine: expected NAME=COMMAND, such as 'mine=python mine.py'"),
        ({}, ("mine=x", "mine=y"), "--program mine=y: mine has a command already; give one"),
    ],
)
def test_commands_are_refused_before_anything_starts(
    entry: dict[str, Any], program: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        require_commands(plan_of(entry).runs, Options(program=program))
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("name", ["../x", "a b", "", "x" * 65])
def test_names_are_names(name: str) -> None:
    with pytest.raises(UserError, match="name"):
        plan_of({"name": name})


def test_what_it_starts_from_must_show_its_policy() -> None:
    with pytest.raises(UserError, match="shows no policy as plain arrays to hand on; name another"):
        plan_of({"from": "odt"})


def test_a_plan_holds_no_command(tmp_path: Path) -> None:
    plan, results = plan_of({}), ResultsFolder(tmp_path)
    assert "python" not in plan.write(results).read_text()
    assert plan.experiments[0].method == "mine (foreign)"


def test_on_a_cluster_programs_are_refused(tmp_path: Path, o2obench: Command) -> None:
    suite = tmp_path / "theirs.yaml"
    suite.write_text("algorithms: [{foreign: {name: mine}}]\ndatasets: [pointmass-mixed-v0]\n")
    done = o2obench("suite", suite, "--launcher", "slurm", "--program", "mine=true", "--defaults")
    assert done.returncode == 2
    assert done.stderr == "--program: programs run on this machine only; leave --launcher out\n"
