"""Commands of o2obench as processes that a test signals, waits for and asks."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from o2obench.planning.plan import Plan, read_plans
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.jsonl import read_jsonl
from tests.conftest import PLUGIN, environment

ROOT = Path(__file__).parents[2]


class Server:
    """The command server, and what it was told to start."""

    def __init__(self, lock_seconds: float, folder: Path) -> None:
        self.folder = folder
        path = f"{PLUGIN}{os.pathsep}{ROOT}"
        self.lock_seconds = lock_seconds
        self.env = environment(PYTHONPATH=path, O2OBENCH_LOCK_SECONDS=str(lock_seconds))
        command = [sys.executable, "-m", "tests.faults.command_server"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=self.env, text=True)
        self.started: list[Process] = []

    def ask(self, **asked: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *arguments: str | Path, **env: str) -> Process:
        """Start a command in the current folder."""
        out = self.folder / f"out-{len(self.started)}.txt"
        told = {
            "arguments": [str(argument) for argument in arguments],
            "env": {**self.env, **{k: v for k, v in os.environ.items() if k.startswith("O2O")}, **env},
            "folder": str(Path.cwd()),
            "out": str(out),
        }
        process = Process(self, self.ask(start=told), out)
        self.started.append(process)
        return process

    def run(self, *arguments: str | Path, **env: str) -> Process:
        """Run a command to its end."""
        process = self.start(*arguments, **env)
        process.wait()
        return process

    def clean(self) -> None:
        """End what a test has left behind: launchers, and workers that a lock names."""
        for process in self.started:
            process.end()
        self.started.clear()

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@dataclass
class Process:
    """A command that was started."""

    server: Server
    pid: int
    out: Path
    code: int | None = None

    def poll(self, seconds: float = 0.0) -> int | None:
        if self.code is None:
            self.code = self.server.ask(wait={"pid": self.pid, "seconds": seconds})
        return self.code

    def wait(self, seconds: float = 60.0) -> int:
        code = self.poll(seconds)
        assert code is not None, f"still at work after {seconds} s: {self.said()}"
        return code

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        os.killpg(self.pid, number)

    def stopped(self) -> bool:
        """Tell whether it was stopped by SIGSTOP."""
        return state_of(self.pid) == "T"

    def said(self) -> str:
        return self.out.read_text()

    def end(self) -> None:
        if self.poll() is None:
            self.signal(signal.SIGKILL)
            self.wait()


def state_of(pid: int) -> str:
    """Return the letter of a process's state, empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def at(place: str, number: int, once: Path, nth: int = 1) -> dict[str, str]:
    """Return what makes a worker send itself a signal just before the nth call of ``module:name``."""
    told = {"place": place, "signal": int(number), "nth": nth, "once": str(once)}
    return {"O2O_TEST_AT": json.dumps(told)}


def wait_for(true: Callable[[], object], seconds: float = 30.0, what: str = "") -> float:
    """Wait until something holds; return how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"waited in vain for {what or true}"
        time.sleep(0.02)
    return time.monotonic() - began


# ---- suites, and what became of their runs -----------------------------------------------------------


def suite_file(folder: Path, *algorithms: Any, seeds: int = 1, epochs: int = 1, steps: int = 60) -> Path:
    """Write a suite of toys; JSON is YAML."""
    value = {
        "title": "Toys",
        "algorithms": list(algorithms) or ["toy_tune"],
        "datasets": ["pointmass-mixed-v0"],
        "seeds": seeds,
        "offline": {"updates": 1000 * epochs, "evaluate_every": 1000 * epochs},
        "online": {"steps": steps, "evaluate_every": 20},
        "frozen": False,
    }
    file = folder / "toys.yaml"
    file.write_text(json.dumps(value))
    return file


def plan_of(results: Path) -> Plan:
    [plan] = read_plans(ResultsFolder(results))
    return plan


def folders(results: Path, algorithm: str = "") -> list[RunFolder]:
    """Return the folders of a plan's runs, of one algorithm's where it is named."""
    runs = plan_of(results).runs
    return [ResultsFolder(results).run(run.id) for run in runs if algorithm in ("", run.algorithm)]


def states(results: Path) -> list[str]:
    return [folder.state() for folder in folders(results)]


def owner_of(folder: RunFolder) -> int | None:
    """Return the process that holds a run's lock."""
    try:
        fields = dict(line.partition("=")[::2] for line in folder.lock.read_text().splitlines())
        return int(fields["pid"])
    except (OSError, KeyError, ValueError):
        return None


def owners(results: Path) -> list[int]:
    """Return all processes that hold a run."""
    return [pid for folder in folders(results) if (pid := owner_of(folder)) is not None]


def outcome(folder: RunFolder) -> list[bytes]:
    """Return what must not depend on what happened on the way."""
    last = folder.final_checkpoint()
    assert last, f"{folder.path} has no last state"
    files = (folder.evaluations, folder.episodes, last / "state.safetensors")
    return [file.read_bytes() for file in files]


def content(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# ---- what workers did --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """A worker began or published a run; ``end`` is infinite where it never came out."""

    what: str
    run: str
    pid: int
    begin: float
    end: float
    won: bool


class Events:
    """What all workers of a test wrote down."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "events.jsonl"
        self.env = {"O2O_TEST_EVENTS": str(self.file)}

    def spans(self, what: str) -> list[Span]:
        spans, opened = [], dict[tuple[str, int], float]()
        for event in read_jsonl(self.file):
            key = event["run"], event["pid"]
            if event["what"] != what:
                continue
            if event["edge"] == "enter":
                opened[key] = event["time"]
            else:
                spans.append(Span(what, *key, opened.pop(key), event["time"], event["result"] is True))
        return spans + [Span(what, *key, begin, float("inf"), False) for key, begin in opened.items()]

    def starts(self) -> dict[str, list[Span]]:
        """Return by run who began it, in order."""
        found: dict[str, list[Span]] = defaultdict(list)
        for span in sorted(self.spans("begin"), key=lambda span: span.begin):
            found[span.run].append(span)
        return found

    def published(self) -> list[str]:
        """Return the runs that were published, as often as they were."""
        return sorted(span.run for span in self.spans("publish") if span.won)

    def overlaps(self, killed: Mapping[int, float] | None = None) -> int:
        """Return how often two processes were at the same time where only one may be: begin and publish.

        ``killed``: when the test killed which process; it was there no longer than that.
        """
        by_run: dict[str, list[Span]] = defaultdict(list)
        for span in [*self.spans("begin"), *self.spans("publish")]:
            end = min(span.end, (killed or {}).get(span.pid, span.end))
            by_run[span.run].append(replace(span, end=end))
        return sum(
            one.pid != other.pid and one.begin < other.end and other.begin < one.end < float("inf")
            for spans in by_run.values()
            for i, one in enumerate(spans)
            for other in spans[:i]
        )
