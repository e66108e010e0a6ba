"""Writing and reading files so that a kill at any instant leaves the old or the new content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shlex
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
MOST_BYTES = 2**30
"""Of a file of a results folder; the largest are logs of a few dozen MB."""
TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.[0-9a-f]{8}\.tmp", re.DOTALL | re.ASCII)
"""What ``temporary_name`` makes."""


class NotPlain(OSError):
    """Something else than a regular file of a usual size: it is not read."""


@contextlib.contextmanager
def open_plain(
    path: Path, most: int | None = MOST_BYTES, follow: bool = False
) -> Iterator[io.BufferedReader]:
    """Open a regular file of at most ``most`` bytes for reading.

    A link, a pipe, a device or a larger file raises NotPlain, before anything is waited for. ``follow``: a
    link to a file will do, for files that users have put somewhere themselves.
    """
    with naming(path):
        _require_plain(path, path.stat() if follow else path.lstat(), most)  # opening a device may act
        flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        with open(os.open(path, flags), "rb") as file:
            _require_plain(path, os.fstat(file.fileno()), most)
            yield file


def _require_plain(path: Path, about: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise NotPlain(errno.EINVAL, f"is {kind_of(about.st_mode)}, not a file", str(path))
    if most is not None and about.st_size > most:
        raise NotPlain(errno.EFBIG, f"has {about.st_size:,} bytes, more than {most:,}", str(path))


def kind_of(mode: int) -> str:
    """Return what an entry of a folder is, in words."""
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device or a socket")


def read_plain(path: Path, most: int = MOST_BYTES, follow: bool = False) -> bytes:
    """Return the content of a regular file; see ``open_plain``."""
    with open_plain(path, most, follow) as file:
        return file.read()


def expanded(path: str | Path) -> Path:
    """Return a path as its user meant it: with ``~``, and variables of the environment, replaced.

    What is there under the very name, dollars and all, is taken as it is. Raises UserError where ``~`` stands
    for no known home.
    """
    try:
        written = Path(path).expanduser()
        return written if os.path.lexists(written) else Path(os.path.expandvars(written)).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: not a path: no home is known for its ~; write it in full") from None


def folder_of_user(variable: str, *default: str) -> Path:
    """Return the folder that an environment variable names, else the default one below the user's home.

    Who has no home has Debian's for such users, which is never there.
    """
    if os.environ.get(variable):
        return expanded(os.environ[variable])
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/nonexistent")
    return home.joinpath(*default)


def is_file(path: Path) -> bool:
    """Tell whether a path is a plain file, not a link to one."""
    return path.is_file() and not path.is_symlink()


def is_readable(path: Path) -> bool:
    """Tell whether a path is a plain file of a usual size, so that its content can be looked at."""
    return is_file(path) and path.stat().st_size <= MOST_BYTES


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def shown(name: object) -> str:
    """Return a name fit for one line on a terminal: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def as_argument(name: object) -> str:
    """Return a path as a shell takes it: quoted, and never an option."""
    text = str(name)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def make_below(root: Path, folder: Path) -> None:
    """Make ``folder``, which lies below ``root``; raise UserError where a link or a file stands in the way.

    ``root`` itself may be a link.
    """
    root.mkdir(parents=True, exist_ok=True)
    for part in (*reversed(folder.relative_to(root).parents), folder.relative_to(root)):
        step = root / part
        try:
            step.mkdir()
        except FileExistsError:
            if step != root and not is_folder(step):
                kind = kind_of(step.lstat().st_mode)
                raise UserError(f"{step}: is {kind} where a folder belongs; move it away") from None


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` for what shall get its name when it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def write_atomically(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Replace ``path`` by ``content``; readers see the whole old or the whole new file.

    ``durable`` forces the bytes to the disk first, so that the promise survives a power cut too.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = temporary_name(path)
    try:
        with naming(path, len(data)):
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def write_once(path: Path, content: str) -> bool:
    """Create ``path`` with this content unless it exists; return whether this call created it.

    Of several processes that try at the same time one wins, also on network file systems.
    """
    temporary = temporary_name(path)
    write_atomically(temporary, content)
    try:
        with naming(path, len(content)):
            os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    with naming(folder):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def usable(folder: Path) -> None:
    """Make a folder that can be written to; raise UserError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be used as a folder: {error.strerror}; name another") from None


@contextlib.contextmanager
def naming(path: Path, needed: int = 0) -> Iterator[None]:
    """Let a system error inside say that it befell ``path``; of a full disk also what was needed and free."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, NotPlain):
            raise
        message = os.strerror(error.errno)
        if error.errno in FULL:
            message = f"{message} ({needed:,} bytes to write, {_free(path.parent)})"
        raise OSError(error.errno, message, str(path)) from error


def _free(folder: Path) -> str:
    try:
        room = os.statvfs(folder)
    except OSError:
        return "free space unknown"
    if room.f_files and not room.f_favail:
        return "no file can be made any more: all inodes are in use; remove some files"
    return f"{room.f_bavail * room.f_frsize:,} free"


def sweep(folder: Path, age: float = 0.0) -> None:
    """Remove what killed processes left of unfinished writes.

    What is younger than ``age`` (seconds) stays: where others may be writing, only old files are nobody's.
    """
    for temporary in folder.iterdir():
        if TEMPORARY.fullmatch(temporary.name):
            with contextlib.suppress(OSError):
                if time.time() - temporary.lstat().st_mtime >= age:
                    temporary.unlink()


def sha256(file: Path, most: int | None = MOST_BYTES, follow: bool = False) -> str:
    """Return the SHA-256 of a regular file's content; see ``open_plain``."""
    with open_plain(file, most, follow) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value from JSON is a finite number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def read_json(path: Path, strict: bool = False, follow: bool = False) -> Any:
    """Return the JSON value of a regular file, or None when it is absent or corrupted; see ``open_plain``.

    Also None when it cannot be read, unless ``strict``: then what hinders it is raised as OSError.
    """
    try:
        return json.loads(read_plain(path, follow=follow))
    except (FileNotFoundError, NotADirectoryError, NotPlain, ValueError, RecursionError):
        return None
    except OSError:
        if strict:
            raise
        return None
