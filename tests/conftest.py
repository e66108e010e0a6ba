"""Fixtures: the toy plug-in is installed for every test and every process that a test starts."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from o2obench.cli import main

PLUGIN = Path(__file__).parent / "plugin"
sys.path.insert(0, str(PLUGIN))
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_threads] = "1"
importlib.import_module("submitit")
"""Its import sets logging up and closes the handlers that are there: absl's, with a stream of pytest's."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's data and from the checkout's results."""
    monkeypatch.setenv("O2OBENCH_DATA", str(tmp_path / "data"))
    for server in ("O2OBENCH_D4RL_URL", "O2OBENCH_OGBENCH_URL"):
        monkeypatch.setenv(server, "http://127.0.0.1:9/nobody")
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path / "ogbench"))
    monkeypatch.setenv("PYTHONPATH", str(PLUGIN))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
        sys.modules["torch"].manual_seed(0)  # what a test draws without a generator is the same in every run


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of toys, two seeds, the last run interrupted; made once, to be copied."""
    from tests.helpers.results import make_results

    folder = tmp_path_factory.mktemp("two-seeds") / "results"
    make_results(folder, seeds=2)
    return folder


@pytest.fixture
def o2obench() -> Command:
    """Run the command line in this process, which has loaded its libraries already; runs get their own."""

    def run(*arguments: str | Path, **options: str) -> subprocess.CompletedProcess[str]:
        command = ["o2obench", *map(str, arguments)]
        out, err, code = io.StringIO(), io.StringIO(), 0
        inside = patch.dict(os.environ, environment(**options), clear=True)
        with inside, patch.object(sys, "argv", command), redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def o2obench_process() -> Command:
    """Run the command line in a process of its own."""

    def run(*arguments: str | Path, **options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "o2obench", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment(**options),
        )

    return run


def environment(**extra: str) -> dict[str, str]:
    """Return the environment for a child process: the plug-in, one thread, no current folder on the path."""
    return {**os.environ, "PYTHONPATH": str(PLUGIN), "PYTHONSAFEPATH": "1", "COLUMNS": "200", **extra}
