"""Writing and reading files so that a kill at any instant leaves the old or the new content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)


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
        if error.errno is None:
            raise
        message = os.strerror(error.errno)
        if error.errno in FULL:
            message = f"{message} ({needed:,} bytes to write, {_free(path.parent)})"
        raise OSError(error.errno, message, str(path)) from error


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free:,} free"
    except OSError:
        return "free space unknown"


def sweep(folder: Path) -> None:
    """Remove what killed processes left of unfinished writes; only the owner of ``folder`` may."""
    for temporary in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            temporary.unlink()


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with naming(file), open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value from JSON is a finite number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def read_json(path: Path, strict: bool = False) -> Any:
    """Return the JSON value of a file, or None when it is absent or corrupted.

    Also None when it cannot be read, unless ``strict``: then what hinders it is raised as OSError.
    """
    try:
        with naming(path):
            return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    except OSError:
        if strict:
            raise
        return None
