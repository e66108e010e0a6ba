"""Fetch data sets: D4RL's and OGBench's from their public addresses, Minari's through Minari.

A suite's missing sets are fetched before it starts (``fetch_all``). A download goes on where it broke off.
D4RL and OGBench publish no checksums: the size and SHA-256 of each file are written to ``fetched.json``
beside it when it is first fetched, and hold from then on.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from filelock import SoftFileLease

from ..errors import MissingData, UserError
from ..util.files import is_file, kind_of, read_json, sha256, sync_folder, write_atomically
from . import minari, ogbench, validation
from .isolated_validation import admit
from .registry import Dataset, canonical, find_dataset, minari_id

D4RL = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
"""D4RL's public address; $O2OBENCH_D4RL_URL names a mirror."""
OGBENCH = "https://rail.eecs.berkeley.edu/datasets/ogbench"
"""OGBench's public address; $O2OBENCH_OGBENCH_URL names a mirror."""
LOCK = "fetched.json"
CHUNK = 2**20
ATTEMPTS, STALL_SECONDS = 4, 30.0
LOCK_SECONDS = 60.0
"""After so many seconds without a sign of life another process may take a download over."""


T = TypeVar("T")
Say = Callable[[str], None]
Show = Callable[[str, int, int | None], None]
"""Shows how far a download is: its address, bytes here, bytes in all (None: not told)."""


class _Broken(Exception):
    """The connection broke off; what has come can be kept."""


def by_tenths(say: Say) -> Show:
    """Return what says a line for each tenth of a download."""
    told: dict[str, int] = {}

    def show(address: str, have: int, whole: int | None) -> None:
        tenths = have * 10 // (whole or 1)
        if whole and tenths > told.setdefault(address, tenths):
            told[address] = tenths
            say(f"{address}: {have:,} of {whole:,} bytes")

    return show


def is_offline(offline: bool) -> bool:
    """Tell whether the network is not to be touched: by the flag, or $O2OBENCH_OFFLINE."""
    return offline or bool(os.environ.get("O2OBENCH_OFFLINE"))


@contextmanager
def plainly() -> Iterator[tuple[Say, Show]]:
    """Print what is said, and a line for each tenth of a download."""
    yield print, by_tenths(print)


def with_data(
    read: Callable[[], T],
    offline: bool = False,
    progress: Callable[[], AbstractContextManager[tuple[Say, Show]]] = plainly,
) -> T:
    """Return what ``read`` returns, after fetching the data sets that it misses.

    Raises MissingData where this is offline.
    """
    try:
        return read()
    except MissingData as missing:
        if is_offline(offline):
            raise
        names = missing.names
    with progress() as (say, show):
        fetch_all(names, say, show)
    return read()


def fetch_all(names: Sequence[str], say: Say, show: Show) -> None:
    """Fetch data sets that are missing, after saying how large they are.

    Raises UserError, with nothing fetched, where a server cannot be reached or the disk is too small; after
    the last, naming all that could not be had. What has come is kept, and the next call goes on from there.
    """
    sizes = {name: _size(find_dataset(name)) for name in names if not name.startswith("minari:")}
    told = [f"{name} ({_decimal(size)})" if (size := sizes.get(name)) else name for name in names]
    total = sum(filter(None, sizes.values()))
    say(f"missing, to be fetched: {', '.join(told)}{f'; {_decimal(total)} in all' if len(names) > 1 else ''}")
    for folder in {file.parent for name in sizes if (file := find_dataset(name).file)}:
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < total:
            raise UserError(
                f"{folder}: {_decimal(total)} are to be fetched, {_decimal(free)} are free; make room, or "
                "name another folder in O2OBENCH_DATA"
            )
    problems = list[str]()
    for name in names:
        try:
            fetch_named(name, say=say, show=show)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)


def _decimal(size: int) -> str:
    """Return a number of bytes with its unit: 2.9 GB."""
    amount, units = float(size), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.{0 if units[0] == 'bytes' else 1}f} {units[0]}"


def _size(data: Dataset) -> int | None:
    """Return how many bytes the server says a file has, None where it does not say.

    Raises UserError where it cannot be reached.
    """
    address = url(data)
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer:
            return int(answer.headers.get("Content-Length") or 0) or None
    except urllib.error.HTTPError:
        return None  # fetching says what it is
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or error or type(error).__name__
        own = ", or run on this project's own sets (--data o2o)" if data.scores.folder else ""
        raise UserError(
            f"{urlsplit(address).hostname} cannot be reached ({why}); `o2obench data fetch` where it can, "
            f"and {data.by_hand('here')}{own}"
        ) from None


def fetch_named(name: str, offline: bool = False, say: Say = print, show: Show | None = None) -> None:
    """Fetch a data set by its name; of Minari's, any that its server has."""
    name = canonical(name)
    if name.startswith("minari:"):
        _fetch_minari(name, is_offline(offline), say)
    else:
        fetch(find_dataset(name), offline, say, show)


def fetch(data: Dataset, offline: bool = False, say: Say = print, show: Show | None = None) -> None:
    """Bring a published data set to this machine, or check the one that is here.

    Raises UserError when it cannot be had, saying why and where to put the file by hand; the name of the
    data set never stands on a file that is not whole and good.
    """
    if data.file is None or data.embedded:
        say(f"{data.name}: came with the package")
        return
    offline = is_offline(offline)
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
        _download(data, address, part, say, show or by_tenths(say))
        try:
            _accept(data, part, say)
        except UserError as error:
            part.unlink(missing_ok=True)
            raise UserError(*(p.replace(str(part), f"{address}") for p in error.problems)) from None
        os.replace(part, data.file)
        sync_folder(data.file.parent)


def _fetch_minari(name: str, offline: bool, say: Say) -> None:
    """Let Minari bring one of its data sets, which passes validation before it may stay."""
    rest = minari_id(name)
    file = minari.main_file(rest)
    if not file.is_file():
        if offline:
            raise UserError(
                f"dataset {name}: {file} is missing and this is offline; name Minari's folder in "
                f"{minari.FOLDER}"
            )
        minari.fetch(rest, minari.root_folder())
        try:
            find_dataset(name).admit()
        except UserError:
            shutil.rmtree(minari.root_folder() / rest)
            raise
    fetched = find_dataset(name)
    fetched.admit()
    say(f"{name}: {file}, {file.stat().st_size:,} bytes, {fetched.sha256()[:12]}")


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


def _accept(data: Dataset, file: Path, say: Say) -> None:
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


def _download(data: Dataset, address: str, part: Path, say: Say, show: Show) -> None:
    """Write the whole file to ``part``, in several attempts if need be, each going on from the last."""
    why = ""
    for attempt in range(ATTEMPTS):
        try:
            _attempt(address, part, show)
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


def _attempt(address: str, part: Path, show: Show) -> None:
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
                have += len(chunk)
                show(address, have, whole)
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
