"""Several launchers and owners on one results folder: every run is published exactly once."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import SoftFileLease

from o2obench.analysis.results import table_of
from o2obench.launch.status import status, summarise
from o2obench.planning.plan import Plan
from o2obench.runs import lock as locks
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.lock import Busy, RunLock, lock_on
from o2obench.runs.spec import Run
from o2obench.runs.writer import RunWriter
from tests.helpers.suites import toy_plan

from .figures import record, share
from .processes import (
    Events,
    Process,
    Server,
    at,
    content,
    folders,
    outcome,
    owner_of,
    owners,
    plan_of,
    suite_file,
    wait_for,
)

# ---- CO-1, F6: many launchers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("launchers", "seeds", "killed"),
    [pytest.param(3, 3, 1, marks=pytest.mark.slow), pytest.param(8, 20, 2, marks=pytest.mark.faults)],
)
def test_many_launchers_publish_every_run_once(
    server: Server, tmp_path: Path, launchers: int, seeds: int, killed: int
) -> None:
    began = time.monotonic()
    suite = suite_file(tmp_path, "toy_tune", {"toy_tune": {"rate": 0.1, "label": "b"}}, seeds=seeds, epochs=3)
    events, results = Events(tmp_path), tmp_path / "results"
    command = ("suite", suite, "--results", "results", "--no-report", "--jobs", "1")
    running = [server.start(*command, **events.env) for _ in range(launchers)]
    victims, dead, killed_at = running[:killed], dict[int, float](), time.monotonic()
    for victim in victims:
        worker = wait_for_worker(results, victim)
        killed_at = time.monotonic()
        victim.signal(signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # it went with its launcher
            os.kill(worker, signal.SIGKILL)
        dead[worker] = time.monotonic()
    assert [one.wait(600) for one in running[killed:]] == [0] * (launchers - killed)
    everyone = sorted(folder.id for folder in folders(results))
    assert len(everyone) == 3 * seeds
    assert events.published() == everyone
    assert events.overlaps(dead) == 0
    again = {run: spans for run, spans in events.starts().items() if len(spans) > 1}
    assert all(spans[0].pid in dead for spans in again.values()), "started twice, its owner alive"
    takeover = max([spans[1].begin - killed_at for spans in again.values()], default=0.0)
    record(
        "F6",
        f"{launchers} launchers, {len(everyone)} runs",
        injections=killed,
        runs_lost=0,
        bad_states=events.overlaps(dead),
        published_once=share(len(set(events.published())), len(everyone)),
        started_twice=len(again),
        last_takeover_seconds=takeover,
        seconds=time.monotonic() - began,
    )


def wait_for_worker(results: Path, launcher: Process) -> int:
    """Return a worker of a launcher that holds a run just now."""
    found: list[int] = []

    def held() -> bool:
        if list(results.glob("plans/*.json")):
            found[:] = [pid for pid in owners(results) if parent_of(pid) == launcher.pid]
        return bool(found)

    wait_for(held, what="a worker that holds a run")
    return found[0]


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


# ---- CO-2, CO-4: whose lock counts ---------------------------------------------------------------------


LOCK = 0.6
"""Seconds without a sign of life after which a lock may be taken over."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(locks, "LOCK_SECONDS", LOCK)
    return toy_plan(seeds=1).runs[0]


def forge(folder: RunFolder, pid: int, host: str, start: int | None = None) -> None:
    """Write the lock of an owner that is not there."""
    folder.path.mkdir(parents=True, exist_ok=True)
    lines = ["filelock/2", f"pid={pid}", f"host={host}", "mode=lease", f"token={'0' * 32}"]
    lines += [f"duration={LOCK!r}"] + ([f"start={start}"] if start else [])
    folder.lock.write_text("".join(f"{line}\n" for line in lines))


def this_host(folder: RunFolder) -> str:
    """Return this machine's name as a lock has it."""
    with SoftFileLease(folder.path.with_suffix(".probe")) as lease:
        assert lease.owner
        return lease.owner.hostname


def taken_after(lease: SoftFileLease, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Ask for a lock again and again, with the same object; return how long that took."""

    def taken() -> bool:
        meanwhile()
        try:
            lease.acquire()
        except TimeoutError:
            return False
        lease.release()
        return True

    return wait_for(taken, seconds, "a lock")


def test_a_dead_owner_of_this_machine_is_superseded_at_once(tmp_path: Path, run: Run) -> None:
    folder = ResultsFolder(tmp_path).run(run.id)
    folder.path.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    forge(folder, child, this_host(folder))
    RunLock(folder).release()


def test_a_process_number_used_again_is_not_the_owner(tmp_path: Path, run: Run) -> None:
    folder = ResultsFolder(tmp_path).run(run.id)
    folder.path.mkdir(parents=True)
    forge(folder, os.getpid(), this_host(folder), start=12345)
    RunLock(folder).release()


def test_a_silent_owner_elsewhere_is_superseded_after_the_lock_seconds(tmp_path: Path, run: Run) -> None:
    folder = ResultsFolder(tmp_path).run(run.id)
    forge(folder, 4242, "elsewhere")
    with pytest.raises(Busy):
        RunLock(folder)
    assert LOCK <= taken_after(lock_on(folder), 5) < LOCK + 1


@pytest.mark.parametrize("marker", ["lock", "publish.lock"])
def test_an_owner_killed_before_it_wrote_its_name_is_superseded(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, marker: str
) -> None:
    monkeypatch.setattr(locks, "UNSIGNED_SECONDS", 0.3)
    folder = ResultsFolder(tmp_path).run(run.id)
    folder.path.mkdir(parents=True)
    empty = folder.path / marker
    empty.touch()
    if marker == "lock":
        with pytest.raises(Busy):
            RunLock(folder)
    time.sleep(0.35)
    one = RunLock(folder)
    with one.publish_lock():
        assert one.is_held()
    one.release()


@pytest.mark.slow
def test_a_publish_lock_of_another_machine_is_passed_by_the_owner_after_a_while(
    tmp_path: Path, run: Run
) -> None:
    one, began = RunLock(ResultsFolder(tmp_path).run(run.id)), time.monotonic()
    one.folder.publish_lock.write_text("4242\nelsewhere\n")
    with one.publish_lock():
        assert time.monotonic() - began >= LOCK
    one.release()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_jump_of_the_clock_keeps_no_dead_owner(tmp_path: Path, run: Run, hours: int) -> None:
    folder = ResultsFolder(tmp_path).run(run.id)
    forge(folder, 4242, "elsewhere")
    then = time.time() + 3600 * hours
    os.utime(folder.lock, (then, then))
    assert LOCK <= taken_after(lock_on(folder), 5) < LOCK + 1


def test_a_jump_of_the_clock_expires_no_living_owner(tmp_path: Path, run: Run) -> None:
    owner, hours = RunLock(ResultsFolder(tmp_path).run(run.id)), itertools.cycle((-1, 1))

    def jump() -> None:
        then = time.time() + 3600 * next(hours)
        os.utime(owner.folder.lock, (then, then))

    with pytest.raises(AssertionError, match="waited in vain"):
        taken_after(lock_on(owner.folder), 2 * LOCK, jump)
    assert owner.is_held()
    owner.release()


# ---- CO-3: an owner that was stopped, taken over, and wakes up -------------------------------------------

OUTSIDE = {
    "between two steps": ("o2obench.training.loop:Training.step", 10),
    "before a checkpoint": ("o2obench.runs.checkpoint:save", 2),
    "in a checkpoint, before the arrays": ("o2obench.runs.checkpoint:write_arrays", 2),
    "in a checkpoint, before the manifest": ("o2obench.runs.checkpoint:write_manifest", 2),
    "in a checkpoint, before the old ones go": ("o2obench.runs.checkpoint:numbered", 3),
    "before the last state": ("o2obench.runs.writer:RunWriter.finish", 1),
    "before the publish lock": ("o2obench.runs.lock:RunLock.publish_lock", 2),
    "before the publish lock of the beginning": ("o2obench.runs.lock:RunLock.publish_lock", 1),
}
INSIDE = {
    "in the publish lock of the beginning": ("o2obench.runs.writer:RunWriter.begin", 1),
    "in the publish lock": ("o2obench.runs.folder:RunFolder.finish", 1),
    "in the publish lock, DONE about to appear": ("o2obench.runs.folder:write_once", 1),
}


@pytest.fixture(scope="module")
def ground(_one_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pretraining run, done (results), and how its fine-tuning run ends (straight)."""
    folder = tmp_path_factory.mktemp("ground")
    first = ("suite", suite_file(folder, "toy_offline"), "--results", folder / "results", "--no-report")
    assert _one_server.run(*first).code == 0
    shutil.copytree(folder / "results", folder / "straight")
    then = ("suite", suite_file(folder, steps=40), "--results", folder / "straight", "--no-report")
    assert _one_server.run(*then).code == 0
    return folder


class Paused:
    """An owner of the fine-tuning run, stopped at a place."""

    def __init__(self, server: Server, ground: Path, folder: Path, place: str, nth: int) -> None:
        self.server, self.suite, self.events = server, ground / "toys.yaml", Events(folder)
        [straight] = folders(ground / "straight", "toy_tune")
        self.straight = outcome(straight)
        shutil.copytree(ground / "results", folder / "results")
        self.folder = ResultsFolder(folder / "results").run(straight.id)
        plan_file = ground / "straight" / "plans" / "toys.json"
        self.owner = server.start(
            *("work", plan_file, straight.id, "--results", "results", "--checkpoint-seconds", "0"),
            **at(place, signal.SIGSTOP, folder / "claimed", nth),
            **self.events.env,
        )
        wait_for(self.owner.stopped, what=f"the owner at {place}")

    def successor(self) -> Process:
        command = ("suite", self.suite, "--results", "results", "--no-report", "--jobs", "1")
        return self.server.start(*command, **self.events.env)


def test_a_superseded_owner_reports_nothing(tmp_path: Path, run: Run) -> None:
    folder = ResultsFolder(tmp_path).run(run.id)
    old = RunWriter(run, folder, RunLock(folder))
    old.lock.lease.break_lock()
    new = RunLock(folder)
    folder.progress.write_text("{}")
    old.diverge("not finite")
    old.close()
    old.lock.release()
    assert not folder.failed.exists()
    assert folder.progress.exists()
    assert new.is_held()
    new.release()


def some(places: dict[str, tuple[str, int]], few: set[str]) -> list[object]:
    """Return parameters: a few places for the slow tests, the others for many."""
    slow, many = pytest.mark.slow, pytest.mark.faults
    return [pytest.param(name, marks=slow if name in few else many) for name in places]


@pytest.mark.parametrize("place", [place for place, _ in {**OUTSIDE, **INSIDE}.values()])
def test_the_places_are_there(place: str) -> None:
    """Most of them are only stopped at by ``make test-faults``: a renamed one would go unnoticed."""
    module, _, name = place.partition(":")
    assert callable(functools.reduce(getattr, name.split("."), importlib.import_module(module)))


@pytest.mark.parametrize("place", some(OUTSIDE, {"in a checkpoint, before the manifest"}))
def test_a_paused_owner_that_was_superseded_changes_nothing(
    server: Server, ground: Path, tmp_path: Path, place: str
) -> None:
    paused = Paused(server, ground, tmp_path, *OUTSIDE[place])
    began = time.monotonic()
    assert paused.successor().wait() == 0
    took = time.monotonic() - began
    assert outcome(paused.folder) == paused.straight
    published = content(paused.folder.path)
    paused.owner.signal(signal.SIGCONT)
    assert paused.owner.wait(10) == 3
    assert "another process has taken this run over" in paused.owner.said()
    assert "Traceback" not in paused.owner.said()
    assert content(paused.folder.path) == published
    record("CO-3", f"owner paused {place}", injections=1, bad_states=0, identical=share(1, 1), seconds=took)


@pytest.mark.parametrize("place", some(INSIDE, set()))
def test_nobody_begins_while_a_paused_owner_holds_the_publish_lock(
    server: Server, ground: Path, tmp_path: Path, place: str
) -> None:
    paused = Paused(server, ground, tmp_path, *INSIDE[place])
    successor = paused.successor()
    assert successor.poll(2.5 * server.lock_seconds) is None
    assert owner_of(paused.folder) != paused.owner.pid, "nobody tried to take the run over"
    assert not paused.folder.done.exists()
    paused.owner.signal(signal.SIGCONT)
    assert successor.wait() == 0
    assert paused.owner.wait() in (0, 3)
    assert paused.events.published() == [paused.folder.id]
    assert paused.events.overlaps() == 0
    assert outcome(paused.folder) == paused.straight
    record("CO-3", f"owner paused {place}", injections=1, bad_states=0, identical=share(1, 1))


# ---- CO-5: one pretraining run that many want -----------------------------------------------------------


@pytest.mark.parametrize(
    "kill", [pytest.param(True, marks=pytest.mark.slow), pytest.param(False, marks=pytest.mark.faults)]
)
def test_a_pretraining_run_that_eight_algorithms_want_is_trained_once(
    server: Server, tmp_path: Path, kill: bool
) -> None:
    wanted = {"toy_tune": {"every": list(range(10, 18))}}
    suite = suite_file(tmp_path, wanted, epochs=20 if kill else 1, steps=10)
    events, results = Events(tmp_path), tmp_path / "results"
    launcher = server.start("suite", suite, "--no-report", "--jobs", "4", **events.env)
    if kill:
        wait_for(events.starts, what="the pretraining to begin")
        os.kill(wait_for_worker(results, launcher), signal.SIGKILL)
    assert launcher.wait() == 0
    [pretraining] = folders(results, "toy_offline")
    assert len(events.starts()[pretraining.id]) == 1 + kill
    assert events.published() == sorted(folder.id for folder in folders(results))
    record(
        "F7",
        f"one pretraining run for 8, {'its process killed' if kill else 'undisturbed'}",
        injections=int(kill),
        trained=len(events.starts()[pretraining.id]),
    )


def test_a_corrupted_pretrained_state_is_refused_by_name(server: Server, tmp_path: Path) -> None:
    results = tmp_path / "results"
    assert server.run("suite", suite_file(tmp_path, "toy_offline"), "--no-report").code == 0
    [pretraining] = folders(results, "toy_offline")
    last = pretraining.final_checkpoint()
    assert last
    arrays = last / "state.safetensors"
    corrupted = bytearray(arrays.read_bytes())
    corrupted[-3] ^= 1
    arrays.write_bytes(corrupted)
    wanted = {"toy_tune": {"every": [10, 11]}}
    launcher = server.run("suite", suite_file(tmp_path, wanted), "--no-report")
    assert launcher.code == 1
    assert f"{pretraining.id}: its state is missing or corrupted; remove that folder" in launcher.said()
    assert [folder.state() for folder in folders(results, "toy_tune")] == ["failed", "failed"]
    record("F7", "its last state corrupted", injections=1, bad_states=0)


# ---- CO-6: readers beside writers -----------------------------------------------------------------------


@pytest.mark.slow
def test_status_and_tables_are_read_while_runs_write(server: Server, tmp_path: Path) -> None:
    suite, results = suite_file(tmp_path, seeds=4, epochs=2), tmp_path / "results"
    launcher = server.start("suite", suite, "--no-report", "--jobs", "2")
    wait_for(lambda: list(results.glob("plans/*.json")), what="the plan")
    looks = 0
    while launcher.poll() is None:
        look(plan_of(results), results)
        looks += 1
    assert launcher.wait() == 0
    assert looks > 5
    record("CO-6", "status and tables beside writers", injections=looks, bad_states=0)


def look(plan: Plan, results: Path) -> None:
    runs = status(plan, ResultsFolder(results))
    assert len(runs) == len(plan.runs)
    assert summarise(plan, runs, ResultsFolder(results)).error == ""
    rows, problems = table_of(plan, ResultsFolder(results))
    experiments = {(row.method, row.seed) for row in rows.itertuples()}
    assert len(experiments) + len({(one.method, one.seed) for one in problems}) == len(plan.experiments)


@pytest.mark.faults
def test_reports_are_written_while_runs_write(server: Server, tmp_path: Path) -> None:
    suite, results = suite_file(tmp_path, seeds=12, epochs=10), tmp_path / "results"
    launcher = server.start("suite", suite, "--no-report", "--jobs", "2")
    wait_for(lambda: list(results.glob("plans/*.json")), what="the plan")
    reports = 0
    while launcher.poll() is None:
        both = [server.start("report", "results", "--out", "reports") for _ in range(2)]
        both.append(server.start("status", "results"))
        assert [one.wait(120) for one in both] == [0, 0, 0], [one.said() for one in both]
        assert "</html>" in (tmp_path / "reports" / "toys" / "index.html").read_text()
        reports += 2
    assert launcher.wait() == 0
    record("CO-6", "reports beside writers, two at a time", injections=reports, bad_states=0)
