"""Files of unexpected kind and shape in a results folder: they are one run's problem, and end no command."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from o2obench.maintenance import doctor
from o2obench.runs import checkpoint
from o2obench.runs.spec import digest
from o2obench.util.files import read_json, sha256
from tests.conftest import Command
from tests.helpers.results import make_results

N, BY_PROCESS = 300, 20
TURNS = 6
"""Every sixth command for each file, and where the suites stand for all."""
CODES = {0, 1, 2, 3, 130}
UNEXPECTED = "--debug shows where"
"""What the command line says of an error that nobody has thought of."""

HERE, WHOLE = "RESULTS", "WHOLE"
"""The folder that was spoilt, and the same one whole; ``TUNED`` and ``OTHER`` stand for two runs' ids."""

COMMANDS = (
    ("status", HERE),
    ("status", HERE, "--json"),
    ("retry", HERE, "--failed"),
    ("cancel", HERE),
    ("doctor", HERE),
    ("clean", HERE, "--dry-run", "--checkpoints"),
    ("export", HERE, "--out", "out"),
    ("report", HERE, "--format", "csv", "--out", "out"),
    ("compare", WHOLE, HERE),
    ("compare", HERE, "--of", "toy_tune", "--against", "toy_offline"),
    ("diff", "TUNED", "OTHER", "--results", HERE),
    ("plot", "TUNED", "OTHER", "--results", HERE, "--out", "curves.svg"),
    ("policy", "TUNED", "--results", HERE, "--out", "policy"),
    ("render", "TUNED", "--results", HERE, "--out", "film.gif", "--episodes", "1"),
    ("diagnose", "TUNED", "--results", HERE),
    ("mirror", HERE, "--to", "tensorboard", "--out", "events"),
    ("merge", "merged", HERE),
)


def as_text(content: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(content)


def in_json(change: Callable[[random.Random, Any], Any]) -> Callable[[Path], object]:
    """Change a value somewhere in the first JSON value of a file; the rest stays."""

    def mutate(file: Path) -> None:
        draw = random.Random(str(file))
        end = "\n" if file.suffix == ".jsonl" else "\0"
        head, line, rest = file.read_text(errors="replace").partition(end)
        try:
            value = json.loads(head)
        except ValueError:
            value = {}
        places = list(_places(value))
        if places:
            holder, key = draw.choice(places)
            holder[key] = change(draw, holder[key])
        file.write_text(json.dumps(value) + line + rest)

    return mutate


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a JSON value: what holds it, and its key."""
    keys: Iterable[Any] = value if isinstance(value, dict) else ()
    for key in list(range(len(value)) if isinstance(value, list) else keys):
        yield value, key
        yield from _places(value[key])


def rehash(file: Path) -> None:
    """Let the hashes that vouch for a file be right, as who spoils it on purpose would."""
    done = file.with_name("DONE")
    if file.parent.name == "plans":
        value = read_json(file)
        if isinstance(value, dict):
            value.pop("sha256", None)
            file.write_text(json.dumps({"sha256": digest(value), **value}))
    elif file.name == "manifest.json":
        value = read_json(file)
        if isinstance(value, dict) and "values" in value:
            value["values_sha256"] = checkpoint._digest(value["values"])
            file.write_text(json.dumps(value))
    elif file.name == "state.safetensors":
        value = read_json(file.with_name("manifest.json"))
        value |= {"bytes": file.stat().st_size, "sha256": sha256(file, most=None)}
        file.with_name("manifest.json").write_text(json.dumps(value))
    elif done.exists() and file.name in (hashes := (value := json.loads(done.read_text()))["sha256"]):
        hashes[file.name] = sha256(file)
        done.write_text(json.dumps(value))


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def mutate(file: Path) -> None:
        file.unlink()
        make(file)

    return mutate


def enormous(file: Path) -> None:
    with open(file, "r+b") as stream:
        stream.truncate(2**40)


MUTATIONS: dict[str, Callable[[Path], object]] = {
    "a list": as_text("[1]\n"),
    "a number": as_text("7\n"),
    "a word": as_text('"word"\n'),
    "null": as_text("null\n"),
    "no keys": as_text("{}\n"),
    "nothing": as_text(""),
    "deep": as_text("[" * 100_000 + "\n"),
    "deep objects": as_text('{"a":' * 50_000 + "1" + "}" * 50_000 + "\n"),
    "a long number": as_text('{"a": ' + "9" * 5000 + "}\n"),
    "a long line": as_text('{"a": "' + "x" * 2**20 + '"}\n'),
    "bytes": lambda file: file.write_bytes(bytes(range(256)) * 8),
    "no number": as_text('{"returns": [NaN], "env_steps": Infinity}\n'),
    "a word for a value": in_json(lambda draw, value: "word"),
    "a list for a value": in_json(lambda draw, value: [value]),
    "an object for a value": in_json(lambda draw, value: {"a": value}),
    "null for a value": in_json(lambda draw, value: None),
    "a huge value": in_json(lambda draw, value: 10**300),
    "a negative value": in_json(lambda draw, value: -1),
    "true for a value": in_json(lambda draw, value: True),
    "a pipe": replaced_by(os.mkfifo),
    "a folder": replaced_by(lambda file: file.mkdir()),
    "a device": replaced_by(lambda file: file.symlink_to("/dev/zero")),
    "a link to itself": replaced_by(lambda file: file.symlink_to(file)),
    "enormous": enormous,
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "results"
    make_results(folder, seeds=2)
    broken = next(folder.rglob("run.json")).parent
    (broken / "FAILED").write_text('{"error": "x", "diverged": false}')
    (broken / "progress.json").write_text('{"stage": "a", "done": 1, "total": 2, "unit": "u", "time": 1.0}')
    (folder / "jobs").mkdir()
    (folder / "jobs" / "toy.slurm.json").write_text('{"jobs": {"12_0": ["a"]}}')
    (folder / "jobs" / "toy.here.77.json").write_text('{"host": "here", "pid": 77, "began": "1"}')
    return folder


def drawn(template: Path, count: int) -> list[tuple[Path, str]]:
    """Return files of a results folder and how each is spoilt, all kinds of both among them."""
    draw = random.Random(0)
    files = sorted(path.relative_to(template) for path in template.rglob("*") if path.is_file())
    draw.shuffle(files)
    kinds = {path.name: path for path in files}
    chosen = [kinds[name] for name in sorted(kinds)] + files
    names = list(MUTATIONS)
    return [(chosen[i % len(chosen)], names[(i + i // len(chosen)) % len(names)]) for i in range(count)]


def words(command: tuple[str, ...], results: Path, whole: Path) -> list[str]:
    """Return a command of the list for one folder."""
    tuned, other = sorted(path.relative_to(whole) for path in whole.glob("*/toy_tune/*/seed-*"))
    stands = {HERE: results, WHOLE: whole, "TUNED": tuned, "OTHER": other}
    return [str(stands.get(word, word)) for word in command]


@pytest.mark.slow
def test_no_strange_file_ends_a_command(
    template: Path, tmp_path: Path, o2obench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "measure", lambda results: [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(template.with_name("cache")))
    monkeypatch.setenv("PATH", "/nonexistent")
    bad = []
    for number, (file, name) in enumerate(drawn(template, N)):
        results = tmp_path / "results"
        shutil.copytree(template, results)
        MUTATIONS[name](results / file)
        if number % 2:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                rehash(results / file)
        for i, command in enumerate(COMMANDS):
            if i and (i + number) % TURNS:
                continue
            said = o2obench(*words(command, results, template))
            if said.returncode not in CODES or UNEXPECTED in said.stderr or "Traceback" in said.stderr:
                about = f"{said.returncode} {said.stderr.strip()[-200:]}"
                bad.append(f"{number}: {file.name} as {name}: {COMMANDS[i]}: {about}")
        shutil.rmtree(results)
    assert not bad, "\n".join(bad)


@pytest.mark.slow
def test_no_strange_file_ends_a_process(template: Path, tmp_path: Path, o2obench_process: Command) -> None:
    for number, (file, name) in enumerate(drawn(template, N)[:: N // BY_PROCESS]):
        results = tmp_path / str(number)
        shutil.copytree(template, results)
        MUTATIONS[name](results / file)
        said = o2obench_process(*words(COMMANDS[number % 4], results, template))
        assert said.returncode in CODES, (file, name, said.stderr)
        assert UNEXPECTED not in said.stderr, (file, name, said.stderr)
        assert "Traceback" not in said.stderr, (file, name, said.stderr)
