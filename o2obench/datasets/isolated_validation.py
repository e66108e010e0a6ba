"""Once per hash: a file passes validation in a process of its own, and its verdict is kept.

A crafted file can crash the library that reads it or ask for all memory; then it is the child that ends.
Verdicts lie in the user's cache, keyed by hash, environment and validation's version.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.ogbench import is_single_task
from ..envs.own import own_arguments, take_own_of, with_rule
from ..envs.spec import EnvSpec, find_env
from ..errors import UserError
from ..util.files import folder_of_user, read_json, write_atomically
from ..util.interpreter import PYTHON
from . import d4rl, minari, ogbench, validation
from .validation import Columns, Summary

CHILD = "from o2obench.datasets.isolated_validation import main; main()"
SECONDS = 900
MEMORY, MEMORY_PER_BYTE = 6 * 2**30, 40


def read_columns(file: Path, env: EnvSpec, findings: Summary) -> Columns:
    """Return the arrays of a file in its layout, headers checked."""
    layout: Callable[[Path, EnvSpec, Summary], Columns] = d4rl.read_columns
    if file.name == minari.MAIN:
        layout = minari.read_columns
    elif ogbench.NPZ in file.suffixes and is_single_task(env.id):
        layout = ogbench.read_columns
    return layout(file, env, findings)


def examine(file: Path, env: EnvSpec) -> list[str]:
    """Look at everything, in this process; return notes, raise UserError with all that is wrong."""
    findings = Summary(file)
    columns = read_columns(file, env, findings)
    validation.check(columns, env, findings)
    if env.own_check:
        state = None if file.name == minari.MAIN else d4rl.read_simulator(file)
        validation.check_own(columns, env, state, findings)
    return findings.notes


def cache_folder() -> Path:
    """Return where verdicts are kept: this user's own cache, not beside data that came from elsewhere."""
    return folder_of_user("XDG_CACHE_HOME", ".cache") / "o2obench" / "admitted"


def admit(file: Path, env: EnvSpec, sha256: str) -> list[str]:
    """Return the notes on a file that is good, known from before or looked at now.

    Raises UserError with all that is wrong. Nothing is written about a bad file.
    """
    rules = [validation.VERSION, env.id, env.obs_dim, env.act_dim, env.horizon]
    rules += [] if env.rule is None else [env.rule]
    rules += [np.broadcast_to(bound, env.act_dim).tolist() for bound in (env.low, env.high)]
    key = _digest([sha256, rules])
    verdict = cache_folder() / f"{key[:32]}.json"
    record = read_json(verdict)
    if isinstance(record, dict) and record.get("sha256") == sha256:
        noted = record.get("notes", [])
        if record.get("notes_sha256") == _digest(noted):  # notes decide how the data are read
            return [str(note) for note in noted]
    notes = apart(file, env)
    try:
        verdict.parent.mkdir(parents=True, exist_ok=True)
        evaluated = {"sha256": sha256, "environment": env.id, "notes": notes, "notes_sha256": _digest(notes)}
        write_atomically(verdict, json.dumps(evaluated) + "\n")
    except OSError:
        pass  # a folder that cannot be written to: looked at again next time
    return notes


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def apart(file: Path, env: EnvSpec) -> list[str]:
    """Look at everything, in a process of its own; return notes, raise UserError with all that is wrong."""
    return in_child(file, f"{__name__}:examine_for", env.id, json.dumps(env.rule))


def examine_for(file: Path, env_id: str, rule: str) -> list[str]:
    """Look at everything, as data of an environment, with a termination rule of the user's own or null."""
    env, own = find_env(env_id), json.loads(rule)
    return examine(file, env if own is None else with_rule(env, own))


def in_child(file: Path, function: str, *arguments: str) -> list[str]:
    """Call ``module:function`` of ours with a file and arguments in a process of its own; return its lines.

    Raises UserError with all that is wrong: what the function raised, or that reading ended the process.
    """
    command = [*PYTHON, "-c", CHILD, json.dumps(own_arguments()), function, str(file), *arguments]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"{file}: could not be read within {SECONDS // 60} minutes; get it again") from None
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise UserError(
            f"{file}: reading it ended the reading process ({name}); it is corrupted, get it again"
        )
    try:
        answer = json.loads(child.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (child.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{file}: could not be read: {last}") from None
    if answer["problems"]:
        raise UserError(*answer["problems"])
    return list(answer["notes"])


def main() -> None:
    """Call the function of the command line under limits of memory and time; print what it returned."""
    own, function, file = json.loads(sys.argv[1]), pkgutil.resolve_name(sys.argv[2]), Path(sys.argv[3])
    most = MEMORY + MEMORY_PER_BYTE * file.stat().st_size
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + most, mapped + most))  # libraries take gigabytes of it
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    answer: dict[str, list[str]] = {"problems": [], "notes": []}
    try:
        take_own_of(own)
        answer["notes"] = function(file, *sys.argv[4:])
    except UserError as error:
        answer["problems"] = list(error.problems)
    except MemoryError:
        answer["problems"] = [
            f"{file}: needs more than {most / 2**30:.0f} GiB to read; it is not what it says"
        ]
    except Exception as error:  # noqa: BLE001  (whatever a corrupted file makes the library raise)
        message = str(error).splitlines()[0] if str(error) else ""
        answer["problems"] = [f"{file}: is corrupted ({type(error).__name__}: {message}); get it again"]
    print(json.dumps(answer))
