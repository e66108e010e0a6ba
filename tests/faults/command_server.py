"""The command line in forked processes: a command costs milliseconds, because nothing is imported anew.

Reads one JSON object a line and answers with one. ``start`` runs a command in a session of its own; the
workers of a launcher are forked too, by a stand-in for ``subprocess.Popen`` with the same pipes, sessions
and exit codes. Whatever loses its parent becomes a child of this process, which buries it.

Told so by variables of the environment, a worker does two more things: it writes to O2O_TEST_EVENTS when
it begins and publishes a run, and it sends itself a signal at the place that O2O_TEST_AT names.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NoReturn

from o2obench import cli
from o2obench.launch import local, worker
from o2obench.planning import expand
from o2obench.runs import folder, writer
from o2obench.training import runner
from tests.helpers.kill_server import at_call, make_fast

LOADED = (runner, local, expand)
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Serve until the input closes."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, lambda *_: bury())
    vars(worker)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": Forked})
    make_fast()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = start(**asked["start"]) if "start" in asked else wait(**asked["wait"])
        print(json.dumps(answer), flush=True)


ENDED: dict[int, int] = {}


def bury() -> None:
    """Note the exit code of every child that has ended."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            ENDED[pid] = os.waitstatus_to_exitcode(status)


def start(arguments: Sequence[str], env: Mapping[str, str], folder: str, out: str) -> int:
    """Start a command and return its process id; its input stays open as long as this process lives."""
    ours, _ = os.pipe()
    with open(out, "ab") as file:
        pid = fork(arguments, env, ours, file, folder)
    os.close(ours)
    return pid


def wait(pid: int, seconds: float) -> int | None:
    """Return the exit code of a command, None where it still runs."""
    deadline = time.monotonic() + seconds
    while pid not in ENDED and time.monotonic() < deadline:
        time.sleep(0.01)
    return ENDED.get(pid)


def fork(
    arguments: Sequence[str], env: Mapping[str, str], stdin: int, out: IO[bytes], folder: str = "."
) -> int:
    """Run a command of ``o2obench`` in a forked child and return its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            os.chdir(folder)
            for number, descriptor in enumerate((stdin, out.fileno(), out.fileno())):
                os.dup2(descriptor, number)
            os.closerange(3, 256)
            os.environ.clear()
            os.environ.update(env)
            command(arguments)
        finally:
            os._exit(1)
    return pid


def command(arguments: Sequence[str]) -> NoReturn:
    """Run a command and leave with its exit code."""
    sys.argv, code = ["o2obench", *arguments], 0
    if arguments[0] == "work":
        prepare_worker()
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:  # noqa: BLE001  (as an interpreter ends)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Forked:
    """What ``launch.worker`` needs of ``subprocess.Popen``."""

    def __init__(
        self,
        command: Sequence[str],
        stdin: int,
        stdout: IO[bytes],
        stderr: IO[bytes],
        env: Mapping[str, str],
        start_new_session: bool,
    ) -> None:
        assert command[1:4] == ["-P", "-m", "o2obench"]
        assert start_new_session
        assert stdout is stderr
        theirs, ours = os.pipe()
        self.stdin = os.fdopen(ours, "wb")
        self.pid = fork(command[4:], env, theirs, stdout)
        os.close(theirs)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                self.stdin.close()
        return self.returncode

    def wait(self, seconds: float = 3600.0) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("worker", seconds)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


# ---- what a worker does besides ----------------------------------------------------------------------


def prepare_worker() -> None:
    """Make this worker write down what it does, and send itself a signal where it is told to."""
    if events := os.environ.get("O2O_TEST_EVENTS"):
        noted(writer.RunWriter, "begin", "begin", lambda one: one.run.id, events)
        noted(folder.RunFolder, "finish", "publish", lambda folder: folder.id, events)
    if told := os.environ.get("O2O_TEST_AT"):
        asked = json.loads(told)
        module, _, place = asked["place"].partition(":")
        *owners, name = place.split(".")
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        at_call(owner, name, asked["nth"], lambda: signal_once(asked["signal"], Path(asked["once"])))()


def signal_once(number: int, claim: Path) -> None:
    """Send this process a signal, unless another one was sent it already."""
    with suppress(FileExistsError):
        claim.touch(exist_ok=False)
        os.kill(os.getpid(), number)


def noted(owner: Any, name: str, what: str, run_of: Callable[[Any], str], events: str) -> None:
    """Write a line when ``owner.name`` is entered, and one when it returns."""
    original = getattr(owner, name)

    def wrapped(self: Any, *args: Any) -> Any:
        say(events, what=what, run=run_of(self), edge="enter")
        result = original(self, *args)
        say(events, what=what, run=run_of(self), edge="leave", result=result)
        return result

    setattr(owner, name, wrapped)


def say(events: str, **record: Any) -> None:
    """Append an event; the clock is the same for all processes of the machine."""
    line = json.dumps({**record, "pid": os.getpid(), "time": time.monotonic()}).encode() + b"\n"
    handle = os.open(events, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line)
    os.close(handle)


if __name__ == "__main__":
    main()
