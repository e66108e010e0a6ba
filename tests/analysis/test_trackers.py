"""Mirrors of the logs: every point once, on its stage's axis, also after a second time and a kill."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from o2obench.analysis import trackers as module
from o2obench.analysis.trackers import mirror
from o2obench.errors import UserError
from o2obench.planning.plan import read_plan
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.jsonl import read_jsonl
from o2obench.runs.spec import Run
from tests.conftest import Command, environment
from tests.helpers.results import listing, make_results

Points = Counter[tuple[str, int, float]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "results"
    make_results(folder, seeds=1)
    return folder


@pytest.fixture
def results(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "results"))


def both(results: Path) -> tuple[Run, Run]:
    offline, tune = read_plan(results / "plans" / "toy.json").runs
    return offline, tune


def events(file: Path) -> Iterator[Any]:
    """Read an event file: length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, at = file.read_bytes(), 0
    while at < len(content):
        [length] = struct.unpack_from("<Q", content, at)
        event = Event()
        event.ParseFromString(content[at + 12 : at + 12 + length])
        yield event
        at += 16 + length


def points(folder: Path) -> Points:
    found: Points = Counter()
    for file in folder.glob("events.out.tfevents.*"):
        for event in events(file):
            found.update((v.tag, event.step, v.simple_value) for v in event.summary.value)
    return found


def expected(results: Path, run: Run) -> Points:
    """Return what a mirror must hold, straight from the logs."""
    folder, axis = ResultsFolder(results).run(run.id), "env_steps" if run.parent else "updates"
    plan = read_plan(results / "plans" / "toy.json")
    reference, found = plan.scores[run.dataset], list[tuple[str, int, float]]()
    for row in read_jsonl(folder.evaluations):
        mean = sum(row["returns"]) / len(row["returns"])
        found += [("return", row[axis], mean), ("score", row[axis], float(reference.score(mean)))]
    for row in read_jsonl(folder.train):
        found.append(("train_norm", row[axis], row["norm"]))
    for row in read_jsonl(folder.episodes):
        found.append(("episode_return", row["env_steps"], row["return"]))
        found.append(("episode_length", row["env_steps"], row["length"]))
    single = struct.Struct("<f")
    return Counter((f"by_{axis}/{name}", at, single.unpack(single.pack(v))[0]) for name, at, v in found)


def test_tensorboard_gets_every_point_once_on_the_axis_of_its_stage(
    results: Path, tmp_path: Path, o2obench: Command
) -> None:
    before = listing(results)
    said = o2obench("mirror", results, "--to", "tensorboard", "--out", "board")
    assert said.returncode == 0, said.stderr
    assert "2 runs" in said.stdout
    assert "x is env_steps in online stages, updates in offline ones" in said.stdout
    for run in both(results):
        assert points(tmp_path / "board" / run.id) == expected(results, run)
    assert listing(results) == before
    tree = listing(tmp_path / "board")
    lines = list[str]()
    mirror(ResultsFolder(results), "tensorboard", tmp_path / "board", say=lines.append)
    assert "0 new points" in lines[0]
    assert listing(tmp_path / "board") == tree


def test_a_log_that_grows_is_followed_and_an_unfinished_line_waits(results: Path, tmp_path: Path) -> None:
    _, tune = both(results)
    folder = ResultsFolder(results).run(tune.id)
    whole, size = folder.train.read_bytes(), len(folder.train.read_bytes())
    for length in (0, size // 3, size // 2, size // 4, size):  # also cut back, as a resume does
        folder.train.write_bytes(whole[:length])
        mirror(ResultsFolder(results), "tensorboard", tmp_path / "board", say=lambda line: None)
    assert points(tmp_path / "board" / tune.id) == expected(results, tune)


def test_a_killed_batch_is_written_again_and_counted_once(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        mirror(ResultsFolder(results), "tensorboard", tmp_path / "board")
    monkeypatch.undo()
    mirror(ResultsFolder(results), "tensorboard", tmp_path / "board", say=lambda line: None)
    for run in both(results):
        assert points(tmp_path / "board" / run.id) == expected(results, run)


def test_a_corrupted_log_is_named_and_left(results: Path, tmp_path: Path) -> None:
    _, tune = both(results)
    mirror(ResultsFolder(results), "tensorboard", tmp_path / "board", say=lambda line: None)
    with open(ResultsFolder(results).run(tune.id).train, "ab") as file:
        file.write(b"\0\0\0\n")
    lines = list[str]()
    mirror(ResultsFolder(results), "tensorboard", tmp_path / "board", say=lines.append)
    assert "train.jsonl: corrupted; see `o2obench doctor`" in lines[0]
    assert "0 new points" in lines[1]
    (tmp_path / "board" / ".tensorboard.json").write_text("[")
    with pytest.raises(UserError, match="cannot be read; mirror into another folder"):
        mirror(ResultsFolder(results), "tensorboard", tmp_path / "board")


def test_what_cannot_be_mirrored_is_one_line(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="one of tensorboard, wandb"):
        mirror(ResultsFolder(results), "comet", tmp_path / "board")
    with pytest.raises(UserError, match="lies in the results folder"):
        mirror(ResultsFolder(results), "tensorboard", results / "board")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'o2obench\[wandb\]'"):
        mirror(ResultsFolder(results), "wandb", tmp_path / "board")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(UserError, match="nothing would be logged"):
        mirror(ResultsFolder(results), "wandb", tmp_path / "board")
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(UserError, match=r"pip install 'o2obench\[tensorboard\]'"):
        mirror(ResultsFolder(results), "tensorboard", tmp_path / "board")
    assert not (tmp_path / "board").exists()
    monkeypatch.undo()
    with pytest.raises(UserError, match="no suite other"):
        mirror(ResultsFolder(results), "tensorboard", tmp_path / "board", suite="other")


class FakeWandB(SimpleNamespace):
    """What the mirror uses of wandb, kept in memory."""

    def __init__(self) -> None:
        self.runs: dict[str, list[dict[str, float]]] = {}
        self.inits: list[dict[str, Any]] = []
        self.axes: set[tuple[str, str]] = set()

    def init(self, **arguments: Any) -> SimpleNamespace:
        self.inits.append(arguments)
        logged = self.runs.setdefault(arguments["id"], [])
        return SimpleNamespace(
            define_metric=lambda name, step_metric: self.axes.add((name, step_metric)),
            log=logged.append,
            finish=lambda: None,
        )


def test_wandb_goes_on_in_the_run_of_the_same_identity(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, (_, tune) = FakeWandB(), both(results)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    log = ResultsFolder(results).run(tune.id).train
    whole = log.read_bytes()
    for content in (whole[: len(whole) // 2], whole, whole):
        log.write_bytes(content)
        mirror(ResultsFolder(results), "wandb", tmp_path / "wandb", say=lambda line: None)
    assert [arguments["resume"] for arguments in fake.inits] == ["allow"] * 3
    assert set(fake.runs) == {run.identity for run in both(results)}
    assert fake.axes == {("by_env_steps/*", "env_steps"), ("by_updates/*", "updates")}
    found = Counter(
        (name, row["env_steps"]) for row in fake.runs[tune.identity] for name in row if name != "env_steps"
    )
    assert found == Counter((name, at) for name, at, _ in expected(results, tune).elements())
    assert fake.inits[-1]["config"]["seed"] == tune.seed


@pytest.mark.slow
def test_watching_goes_on_until_it_is_interrupted(results: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "o2obench", "mirror", str(results), "--watch"]
    command += ["--to", "tensorboard", "--out", str(tmp_path / "board")]
    watcher = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert watcher.stdout is not None
        assert "2 runs" in watcher.stdout.readline()
        time.sleep(0.3)
        assert watcher.poll() is None
        os.kill(watcher.pid, signal.SIGINT)
        assert watcher.wait(10) == 0
    finally:
        watcher.kill()
        watcher.communicate()
