"""Compiled code on disk, shared by a user's processes on one kind of machine, each entry whole.

A process compiles in a private folder that begins with what has been published, and publishes what it has
compiled, file by file, by renaming, each with its checksum. So a process that is killed inside the compiler
leaves nothing but its private folder, which the next one removes; a published file that is damaged counts as
missing and is replaced. Where the compiler fails all the same over what others published, the process goes on
in a fresh private folder. The shared folder is never emptied.

It does not lie in the results folder: these files are code, and a results folder may come from somebody else.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ..util.files import write_atomically

FOLDER = "TORCHINDUCTOR_CACHE_DIR"
"""By this variable torch's compiler is told its folder; where a user has set it, that is the shared one."""
PRIVATE = re.compile(r"private-(?P<host>.+)-(?P<pid>\d+)")
LOCKS = "locks"
DIGEST = hashlib.sha256().digest_size


class CompileCache:
    """The shared folder ``root`` and this process's private one."""

    def __init__(self, root: Path) -> None:
        self.root, self.published = root, root / "published"
        self.private: Path | None = None
        self.seeded = False
        """Whether the private folder holds files that another process published."""

    def open(self) -> None:
        """Compile in a private folder that holds what is published; where that cannot be, in an empty one."""
        try:
            _own(self.root)
            self._remove_those_of_the_dead()
            self.private = self.root / f"private-{socket.gethostname()}-{os.getpid()}"
            shutil.rmtree(self.private, ignore_errors=True)
            self.private.mkdir()
            for file, name in _files(self.published):
                content = _read(file)
                if content is not None:
                    (self.private / name).parent.mkdir(parents=True, exist_ok=True)
                    (self.private / name).write_bytes(content)
                    self.seeded = True
        except OSError:
            self.renew()
        else:
            self._use(self.private)

    def renew(self) -> None:
        """Go on in a fresh private folder, outside of the shared one."""
        self.private, self.seeded = Path(tempfile.mkdtemp(prefix="o2obench-compiled-")), False
        self._use(self.private)

    def publish(self, replace: bool = False) -> None:
        """Show others what this process has compiled; ``replace``: also where a whole file is there."""
        assert self.private
        with contextlib.suppress(OSError):  # a full or read-only disk: others compile for themselves
            _own(self.root)
            for file, name in _files(self.private):
                target = self.published / name
                if replace or _read(target) is None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    content = file.read_bytes()
                    write_atomically(target, content + hashlib.sha256(content).digest())

    def _use(self, private: Path) -> None:
        os.environ[FOLDER] = str(private)
        atexit.register(shutil.rmtree, private, ignore_errors=True)

    def _remove_those_of_the_dead(self) -> None:
        for path in self.root.iterdir():
            found = PRIVATE.fullmatch(path.name)
            if found and found["host"] == socket.gethostname() and not _alive(int(found["pid"])):
                shutil.rmtree(path, ignore_errors=True)


@functools.cache
def shared() -> CompileCache:
    """Return this process's cache, opened: for this user, this kind of processor, Python and torch."""
    cache = CompileCache(Path(os.environ.get(FOLDER) or _of_user() / "o2obench" / "compiled" / fingerprint()))
    cache.open()
    return cache


def fingerprint() -> str:
    """Return a short name of all that compiled code depends on: processor, Python and torch."""
    about = [platform.machine(), platform.python_version(), metadata.version("torch")]
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as cpuinfo:
        about += sorted({line for line in cpuinfo if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def _of_user() -> Path:
    """Return the folder of this user's caches; one in the temporary folder where there is no home."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"o2obench-{os.getuid()}"


def _own(folder: Path) -> None:
    """Make the folder, or raise OSError where others could have put code into it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder}: not this user's alone")


def _files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield every whole file and its name in the folder; none where there is no folder."""
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if name.parts[0] != LOCKS and not file.name.startswith(".") and file.is_file():
            yield file, name


def _read(file: Path) -> bytes | None:
    """Return a published file's content; None where there is none, or where it is damaged."""
    try:
        whole = file.read_bytes()
    except OSError:
        return None
    content, digest = whole[:-DIGEST], whole[-DIGEST:]
    return content if hashlib.sha256(content).digest() == digest else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
