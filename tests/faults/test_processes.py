"""Processes that are told to end, that die, and that hang: what becomes of their runs and of the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from o2obench.runs import checkpoint
from o2obench.runs.folder import ResultsFolder
from tests.conftest import environment

from .figures import record
from .processes import (
    Events,
    Process,
    Server,
    folders,
    outcome,
    owners,
    plan_of,
    state_of,
    states,
    suite_file,
    wait_for,
)

LONG = 20
"""Epochs (of 1,000 updates) of pretraining that a test has time to interrupt."""
SUITE = ("--results", "results", "--no-report")


def launch(server: Server, suite: Path, *more: str, **env: str) -> Process:
    return server.start("suite", suite, *SUITE, *more, **env)


def started(results: Path, runs: int = 1) -> None:
    """Wait until runs are in the middle of their work."""
    wait_for(lambda: len(list(results.rglob("progress.json"))) >= runs, what="runs that begin")


@pytest.fixture(scope="module")
def undisturbed(_one_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of the long suite that nobody touched."""
    folder = tmp_path_factory.mktemp("undisturbed")
    suite = suite_file(folder, epochs=LONG, seeds=2)
    assert _one_server.run("suite", suite, "--results", folder / "results", "--no-report").code == 0
    return folder / "results"


def assert_equal(results: Path, undisturbed: Path) -> None:
    for mine, straight in zip(folders(results), folders(undisturbed), strict=True):
        assert outcome(mine) == outcome(straight), mine.id


@pytest.mark.parametrize(
    ("number", "group", "code"),
    [
        pytest.param(signal.SIGTERM, False, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, False, 130, marks=pytest.mark.faults),
        pytest.param(signal.SIGTERM, True, 143, marks=pytest.mark.faults),
        pytest.param(signal.SIGINT, True, 130, marks=pytest.mark.faults),
    ],
)
def test_a_launcher_told_to_end_saves_and_the_same_command_goes_on(
    server: Server, tmp_path: Path, undisturbed: Path, number: int, group: bool, code: int
) -> None:
    suite, results = suite_file(tmp_path, epochs=LONG, seeds=2), tmp_path / "results"
    launcher = launch(server, suite, "--jobs", "2")
    started(results, 2)
    (launcher.signal_group if group else launcher.signal)(number)
    assert launcher.wait() == code
    assert states(results) == ["interrupted", "waiting"] * 2
    assert all(checkpoint.load(folder.checkpoint) for folder in folders(results, "toy_offline"))
    assert launch(server, suite).wait() == 0
    assert_equal(results, undisturbed)


@pytest.mark.slow
def test_a_second_interrupt_kills_what_does_not_answer(server: Server, tmp_path: Path) -> None:
    hang = {"toy_tune": {"how": "hang", "once": str(tmp_path / "hung"), "label": "hangs"}}
    suite, results = suite_file(tmp_path, "toy_tune", hang), tmp_path / "results"
    launcher = launch(server, suite)
    wait_for((tmp_path / "hung").exists, what="the hang")
    launcher.signal(signal.SIGINT)
    assert launcher.poll(1.0) is None, "it waits for the checkpoint of a process that hangs"
    launcher.signal(signal.SIGINT)
    assert launcher.wait(5) == 130
    assert states(results)[-1] == "stale"
    assert launch(server, suite).wait() == 0
    well, resumed = folders(results, "toy_tune")
    assert outcome(resumed) == outcome(well)


@pytest.mark.slow
def test_a_launcher_killed_takes_its_workers_along_and_another_goes_on(
    server: Server, tmp_path: Path, undisturbed: Path
) -> None:
    suite, results, events = (
        suite_file(tmp_path, epochs=LONG, seeds=2),
        tmp_path / "results",
        Events(tmp_path),
    )
    launcher = launch(server, suite, "--jobs", "2", **events.env)
    started(results, 2)
    workers = owners(results)
    assert len(workers) == 2
    launcher.signal(signal.SIGKILL)
    second = launch(server, suite, "--jobs", "2", **events.env)
    gone = wait_for(lambda: not any(map(state_of, workers)), 10, what="the end of the workers")
    assert second.wait() == 0
    assert events.published() == sorted(folder.id for folder in folders(results))
    assert events.overlaps() == 0
    assert_equal(results, undisturbed)
    record("F16", "launcher killed, toys", injections=1, runs_lost=0, seconds=gone)


@pytest.mark.faults
def test_a_worker_that_hangs_does_not_outlive_its_launcher(server: Server, tmp_path: Path) -> None:
    suite = suite_file(tmp_path, {"toy_tune": {"how": "hang", "once": str(tmp_path / "hung")}})
    launcher = launch(server, suite)
    wait_for((tmp_path / "hung").exists, what="the hang")
    [worker] = owners(tmp_path / "results")
    launcher.signal(signal.SIGKILL)
    wait_for(lambda: not state_of(worker), 10, what="the end of the worker")


def test_a_worker_that_dies_ends_its_run_only(server: Server, tmp_path: Path) -> None:
    ways = ["", "segfault", "exit 139", "memory"]
    suite, results = suite_file(tmp_path, {"toy_tune": {"how": ways}}), tmp_path / "results"
    events = Events(tmp_path)
    launcher = launch(server, suite, "--jobs", "2", **events.env)
    assert launcher.wait() == 1
    found = dict(zip(ways, folders(results, "toy_tune"), strict=True))
    assert [folder.state() for folder in found.values()] == ["done", "failed", "failed", "failed"]
    said = {
        "segfault": "the process was killed by signal 11",
        "exit 139": "the process ended with exit code 139",
        "memory": "MemoryError: Unable to allocate",
    }
    for how, text in said.items():
        assert text in found[how].failure()
        assert any(
            text in line and f"{found[how].id}/log.txt" in line for line in launcher.said().splitlines()
        )
        assert found[how].log.exists()
    tries = {how: len(events.starts()[folder.id]) for how, folder in found.items()}
    assert tries == {"": 1, "segfault": 3, "exit 139": 1, "memory": 1}
    record("PD-6", "workers that die", injections=5, runs_lost=0)


@pytest.mark.slow
def test_a_run_that_stands_still_is_killed_and_resumed(server: Server, tmp_path: Path) -> None:
    once = {"toy_tune": {"how": "hang", "once": str(tmp_path / "hung"), "label": "once"}}
    suite, results = suite_file(tmp_path, "toy_tune", once), tmp_path / "results"
    events = Events(tmp_path)
    assert launch(server, suite, "--jobs", "2", "--stall-minutes", "0.03", **events.env).wait() == 0
    well, resumed = folders(results, "toy_tune")
    assert outcome(resumed) == outcome(well)
    assert [len(events.starts()[folder.id]) for folder in (well, resumed)] == [1, 2]


@pytest.mark.faults
def test_a_run_that_stands_still_again_and_again_fails(server: Server, tmp_path: Path) -> None:
    began = time.monotonic()
    suite = suite_file(tmp_path, "toy_tune", {"toy_tune": {"how": "hang", "label": "hangs"}})
    events = Events(tmp_path)
    launcher = launch(server, suite, "--jobs", "2", "--stall-minutes", "0.03", **events.env)
    assert launcher.wait() == 1
    well, hangs = folders(tmp_path / "results", "toy_tune")
    assert (well.state(), hangs.state()) == ("done", "failed")
    assert "the process made no progress and was killed" in hangs.failure()
    assert "the process made no progress and was killed" in launcher.said()
    assert len(events.starts()[hangs.id]) == 3
    record("PD-7", "a run that hangs three times", injections=3, seconds=time.monotonic() - began)


# ---- naive, as its users start it -----------------------------------------------------------------------


def living(mark: str) -> list[int]:
    """Return the processes that were started with a mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if state_of(pid) not in ("", "Z")]


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_launch_of_naive(tmp_path: Path, number: int) -> None:
    suite = suite_file(tmp_path, "naive", epochs=1, steps=4000, seeds=2)
    value = suite.read_text().replace("pointmass-mixed-v0", "invertedpendulum-replay-v0")
    suite.write_text(value)
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "o2obench", "suite", str(suite), *SUITE, "--jobs", "2"]
    command += ["--checkpoint-seconds", "3"]
    with open(tmp_path / "out.txt", "w") as out:
        launcher = subprocess.Popen(command, env=environment(O2O_TEST_MARK=mark), stdout=out, stderr=out)
    results = tmp_path / "results"
    wait_for(lambda: fine_tuning(results), 400, what="naive at work")
    running = [folder for folder in folders(results) if folder.state() == "running"]
    os.kill(launcher.pid, number)
    began = time.monotonic()
    code = launcher.wait(40)
    ended = time.monotonic() - began
    left = wait_for(lambda: not living(mark), 10, what="the end of all processes") + ended
    assert code == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    assert ended <= 10
    valid = [bool(checkpoint.load(folder.checkpoint)) for folder in running]
    assert all(valid)
    record(
        "F16",
        f"naive, {signal.Signals(number).name} to the launcher",
        injections=1,
        runs_lost=len(valid) - sum(valid),
        seconds=ended if number == signal.SIGTERM else left,
        processes_left_after_10_s=len(living(mark)),
    )


def fine_tuning(results: Path) -> bool:
    """Tell whether two runs of naive have written a checkpoint."""
    if not list(results.glob("plans/*.json")):
        return False
    runs = [run for run in plan_of(results).runs if run.algorithm == "naive"]
    return all(list(ResultsFolder(results).run(run.id).checkpoint.glob("*/manifest.json")) for run in runs)
