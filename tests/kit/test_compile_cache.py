"""The folder of compiled code that processes share: entries are whole, and a broken one stops nobody."""

from __future__ import annotations

import hashlib
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from o2obench.kit import compile_cache
from o2obench.kit.compile_cache import FOLDER, CompileCache

STEP = """
import torch
torch.set_num_threads(1)
from o2obench.kit import compile
compile.use_compiler(True)
def step(x, w):
    y = torch.nn.functional.silu(x @ w) + 1
    w.add_(0.1 * y.sum(0))
    return y.exp().sum(-1)
x, w = torch.arange(512.0).view(32, 16) / 512, torch.arange(256.0).view(16, 16) / 256
with torch.no_grad():
    result = compile.compiled(step)(x, w)
print(*result.tolist(), *w.flatten().tolist())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path / "compiled"))
    return tmp_path / "compiled"


def compiled_by(folder: Path, content: bytes = b"code") -> CompileCache:
    """Publish a file as a process does that has compiled it, and end that process."""
    cache = CompileCache(folder)
    cache.open()
    assert cache.private
    (cache.private / "ab").mkdir(exist_ok=True)
    (cache.private / "ab" / "kernel.so").write_bytes(content)
    (cache.private / "locks").mkdir(exist_ok=True)
    (cache.private / "locks" / "kernel.lock").touch()
    cache.publish()
    return cache


def opened(folder: Path) -> dict[str, bytes]:
    cache = CompileCache(folder)
    cache.open()
    assert cache.private
    assert os.environ[FOLDER] == str(cache.private)
    files = (path for path in cache.private.rglob("*") if path.is_file())
    return {str(path.relative_to(cache.private)): path.read_bytes() for path in files}


def test_a_process_begins_with_what_others_have_published(folder: Path) -> None:
    assert opened(folder) == {}
    compiled_by(folder)
    assert opened(folder) == {"ab/kernel.so": b"code"}
    assert not CompileCache(folder).seeded


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_a_damaged_file_counts_as_missing_and_is_replaced(folder: Path, damage: str) -> None:
    compiled_by(folder)
    (file,) = (path for path in (folder / "published").rglob("*") if path.is_file())
    whole = file.read_bytes()
    broken = {"empty": b"", "cut": whole[:10], "flipped": bytes([whole[0] ^ 1]) + whole[1:]}[damage]
    file.write_bytes(broken)
    assert opened(folder) == {}
    assert file.read_bytes() == broken, "nobody empties the shared folder"
    compiled_by(folder)
    assert file.read_bytes() == whole


def test_what_is_published_stays_unless_it_has_to_be_replaced(folder: Path) -> None:
    compiled_by(folder)
    cache = compiled_by(folder, b"other")
    assert opened(folder) == {"ab/kernel.so": b"code"}
    cache.open()
    assert cache.private
    (cache.private / "ab" / "kernel.so").write_bytes(b"other")
    cache.publish(replace=True)
    assert opened(folder) == {"ab/kernel.so": b"other"}


def test_private_folders_of_the_dead_are_removed_and_those_of_the_living_stay(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    host = socket.gethostname()
    names = {f"private-{host}-{int(done.stdout)}": False, f"private-{host}-{os.getppid()}": True}
    names |= {"private-elsewhere-1": True, "mine": True}
    for name in names:
        (folder / name).mkdir(parents=True)
    opened(folder)
    assert {name: (folder / name).exists() for name in names} == names


@pytest.mark.parametrize("problem", ["others may write", "a link", "a file"])
def test_a_folder_that_is_not_this_users_alone_is_not_used(folder: Path, problem: str) -> None:
    compiled_by(folder)
    if problem == "others may write":
        folder.chmod(0o777)
    else:
        folder.rename(folder.with_name("elsewhere"))
        folder.symlink_to("elsewhere") if problem == "a link" else folder.touch()
    cache = CompileCache(folder)
    cache.open()
    assert cache.private
    assert folder not in cache.private.parents
    assert not any(cache.private.iterdir())
    cache.publish()


def test_code_of_another_kind_of_processor_is_another_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    here = compile_cache.fingerprint()
    assert here == compile_cache.fingerprint()
    monkeypatch.setattr(platform, "machine", lambda: "riscv128")
    assert compile_cache.fingerprint() != here


def run(check: bool = True) -> str:
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_a_process_that_meets_a_broken_entry_compiles_it_anew(folder: Path) -> None:
    """Its checksum holds, but it cannot be loaded: torch fails in the middle of its own reading."""
    wanted = run()
    libraries = list((folder / "published").rglob("*.so"))
    assert libraries
    for library in libraries:
        library.write_bytes(hashlib.sha256(b"").digest())
    assert run() == wanted
    assert all(len(library.read_bytes()) > 1000 for library in libraries), "and mends it for others"
    assert not list(folder.glob("private-*"))


@pytest.mark.faults
def test_kills_inside_the_compiler_leave_nothing_that_stops_others(folder: Path) -> None:
    """Four processes that share the folder, killed with their compilers at 20 instants; all end alike."""
    wanted, instants = "", random.Random(0)
    for _ in range(20):
        running = [
            subprocess.Popen([sys.executable, "-c", STEP], stdout=subprocess.DEVNULL, start_new_session=True)
            for _ in range(4)
        ]
        time.sleep(instants.uniform(4.0, 20.0))
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    outputs = [
        subprocess.Popen([sys.executable, "-c", STEP], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    results = {process.communicate()[0] for process in outputs}
    wanted = run()
    assert results == {wanted}
    assert wanted.strip()
