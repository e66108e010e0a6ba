"""Fetch data sets: D4RL's and OGBench's from their public addresses, Minari's through Minari.

A download goes on where it broke off. D4RL and OGBench publish no checksums: the size and SHA-256 of each
file are written to ``fetched.json`` beside it when it is first fetched, and hold from then on.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import SoftFileLease

from ..errors import UserError
from ..util.files import is_file, kind_of, read_json, sha256, sync_folder, write_atomically
from . import minari, ogbench, validation
from .isolated_validation import admit
from .registry import Dataset, find_dataset

D4RL = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
"""D4RL's public address; $O2OBENCH_D4RL_URL names a mirror."""
OGBENCH = "https://rail.eecs.berkeley.edu/datasets/ogbench"
"""OGBench's public address; $O2OBENCH_OGBENCH_URL names a mirror."""
LOCK = "fetched.json"
CHUNK = 2**20
ATTEMPTS, STALL_SECONDS = 4, 30.0
LOCK_SECONDS = 60.0
"""After so many seconds without a sign of life another process may take a download over."""


class _Broken(Exception):
    """The connection broke off; what has come can be kept."""


def fetch(data: Dataset, offline: bool = False, say: Callable[[str], None] = print) -> None:
    """Bring a published data set to this machine, or check the one that is here.

    Raises UserError when it cannot be had, saying why and where to put the file by hand; the name of the
    data set never stands on a file that is not whole and good.
    """
    if data.file is None or data.embedded:
        say(f"{data.name}: came with the package")
        return
    offline = offline or bool(os.environ.get("O2OBENCH_OFFLINE"))
    if data.name.startswith("minari:"):
        _fetch_minari(data, offline, say)
        return
    data.file.parent.mkdir(parents=True, exist_ok=True)
    part = data.file.with_name(f".{data.file.name}.part")
    for path in (part, data.file.with_name(LOCK), lock := data.file.with_name(f".{data.file.name}.lock")):
        if os.path.lexists(path) and not is_file(path):
            raise UserError(f"{path}: is {kind_of(path.lstat().st_mode)}, not a file; remove it")
    with SoftFileLease(lock, lease_duration=LOCK_SECONDS):
        if data.file.is_file():
            _accept(data, data.file, say)
            return
        address = url(data)
        if offline:
            raise UserError(
                f"dataset {data.name}: {data.file} is missing and this is offline; "
                f"{data.by_hand(f'at {data.file}')}"
            )
        _download(data, address, part, say)
        try:
            _accept(data, part, say)
        except UserError as error:
            part.unlink(missing_ok=True)
            raise UserError(*(p.replace(str(part), f"{address}") for p in error.problems)) from None
        os.replace(part, data.file)
        sync_folder(data.file.parent)


def _fetch_minari(data: Dataset, offline: bool, say: Callable[[str], None]) -> None:
    """Let Minari bring one of its data sets, which passes validation before it may stay."""
    assert data.file is not None
    name = data.name.removeprefix("minari:")
    if not data.present:
        if offline:
            raise UserError(
                f"dataset {data.name}: {data.file} is missing and this is offline; {data.remedy()}"
            )
        minari.fetch(name, minari.root_folder())
        try:
            find_dataset(data.name).admit()
        except UserError:
            shutil.rmtree(minari.root_folder() / name)
            raise
    fetched = find_dataset(data.name)
    fetched.admit()
    say(f"{data.name}: {data.file}, {data.file.stat().st_size:,} bytes, {fetched.sha256()[:12]}")


def url(data: Dataset) -> str:
    """Return a data set's address; raise UserError for one that nobody publishes."""
    if data.name.startswith(ogbench.SCHEME):
        assert data.file is not None
        return f"{os.environ.get('O2OBENCH_OGBENCH_URL', OGBENCH).rstrip('/')}/{data.file.name}"
    if not data.published:
        raise UserError(f"dataset {data.name}: is not one of D4RL's; {data.remedy()}")
    base = os.environ.get("O2OBENCH_D4RL_URL", D4RL).rstrip("/")
    return f"{base}/{data.scores.folder}/{data.scores.file}"


def recorded(data: Dataset) -> dict[str, Any] | None:
    """Return what was written down when the file was first fetched: bytes, sha256, url."""
    assert data.file is not None
    return _records(data.file.with_name(LOCK)).get(data.file.name)


def _records(file: Path) -> dict[str, dict[str, Any]]:
    """Return what was written down of all first fetches; raise UserError where that cannot be read."""
    records = read_json(file) if os.path.lexists(file) else {}
    if not isinstance(records, dict) or not all(isinstance(entry, dict) for entry in records.values()):
        raise UserError(f"{file}: is corrupted; it records first fetches: mend it, or remove it")
    return records


def _accept(data: Dataset, file: Path, say: Callable[[str], None]) -> None:
    """Check a whole file against the record, or read it through and write its record."""
    assert data.file is not None
    size, digest = file.stat().st_size, sha256(file, validation.LARGEST, follow=True)
    entry = recorded(data)
    if entry is not None:
        if entry.get("sha256") != digest:
            raise UserError(
                f"{data.file}: SHA-256 is {digest[:12]} ({size} bytes), {LOCK} recorded "
                f"{str(entry.get('sha256'))[:12]} ({entry.get('bytes')} bytes) at its first fetch; if its "
                f"publisher has changed it on purpose, remove its entry from {data.file.with_name(LOCK)}"
            )
        say(f"{data.name}: {data.file} is the file of its first fetch ({digest[:12]})")
        return
    admit(file, data.env, digest)
    records = _records(data.file.with_name(LOCK))
    records[data.file.name] = {"bytes": size, "sha256": digest, "url": url(data)}
    write_atomically(data.file.with_name(LOCK), json.dumps(records, indent=1, sort_keys=True) + "\n")
    say(f"{data.name}: {data.file}, {size:,} bytes, {digest[:12]} recorded in {LOCK} (no hash is published)")


def _download(data: Dataset, address: str, part: Path, say: Callable[[str], None]) -> None:
    """Write the whole file to ``part``, in several attempts if need be, each going on from the last."""
    why = ""
    for attempt in range(ATTEMPTS):
        try:
            _attempt(address, part, say)
        except urllib.error.HTTPError as error:
            why = f"the server answers {error.code} {error.reason}"
            if error.code == 416:  # what we have is longer than what there is
                part.unlink(missing_ok=True)
            elif error.code < 500:
                break
        except (_Broken, OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
        else:
            return
        if attempt + 1 < ATTEMPTS:
            say(f"{data.name}: {why}; trying again")
    note = f", {part.stat().st_size:,} bytes are kept and will not be fetched again" if part.exists() else ""
    raise UserError(
        f"dataset {data.name}: {address}: {why}{note}; try again, or {data.by_hand(f'at {data.file}')}"
    )


def _attempt(address: str, part: Path, say: Callable[[str], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer:
        if have and answer.status != 206:
            have = 0  # the server begins anew, and so do we
        length = answer.headers.get("Content-Length")
        whole = have + int(length) if length else None
        with open(part, "r+b" if have else "wb") as file:
            file.seek(have)
            while chunk := _read(answer, have, whole):
                file.write(chunk)
                if (have + len(chunk)) * 10 // (whole or 1) > have * 10 // (whole or 1):
                    say(f"{address}: {have + len(chunk):,} of {whole or 0:,} bytes")
                have += len(chunk)
            file.flush()
            os.fsync(file.fileno())
    if whole is not None and have < whole:
        raise _Broken(f"broke off after {have:,} of {whole:,} bytes")


def _read(answer: Any, have: int, whole: int | None) -> bytes:
    try:
        chunk: bytes = answer.read1(CHUNK)
    except TimeoutError:
        raise _Broken(f"sends nothing any more after {have:,} of {whole or 0:,} bytes") from None
    return chunk
