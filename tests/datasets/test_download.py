"""Fetching from a server that truncates, stalls, lies and fails; and the record that holds afterwards."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from o2obench.datasets import download as fetching
from o2obench.datasets import registry as datasets
from o2obench.datasets.download import fetch, recorded, with_data
from o2obench.datasets.registry import Dataset
from o2obench.errors import UserError
from o2obench.planning.expand import expand
from o2obench.planning.plan import Plan
from o2obench.util.config import Located
from tests.helpers.datasets import hopper_file

NAME = "hopper-medium-v2"


class Server:
    """A loopback server whose answers the test scripts, one behaviour per request, the last for ever."""

    def __init__(self, content: bytes) -> None:
        self.content, self.script, self.heads = content, ["good"], True
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                behaviour = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                outer.asked.append(self.headers.get("Range"))
                outer.answer(self, behaviour)

            def do_HEAD(self) -> None:
                if outer.heads:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(outer.content)))
                    self.end_headers()
                else:
                    self.send_error(501)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/mirror"

    def answer(self, request: BaseHTTPRequestHandler, behaviour: str) -> None:
        if behaviour.isdigit():
            request.send_error(int(behaviour))
            return
        body, asked = self.content, request.headers.get("Range")
        if behaviour == "html":
            body = b"<html>moved</html>" * 500
        start = int(asked[6:-1]) if asked and behaviour != "no ranges" else 0
        if start >= len(body) and asked:
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        part = body[start:]
        if behaviour in ("cut", "stall", "no ranges then cut"):
            part = part[: len(part) // 2]
        request.wfile.write(part)
        request.wfile.flush()
        if behaviour == "stall":
            time.sleep(1.0)
        if behaviour in ("cut", "stall"):
            request.close_connection = True


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    found = Server(hopper_file(tmp_path / "source.hdf5"))
    monkeypatch.setenv("O2OBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("O2OBENCH_D4RL_URL", found.url)
    monkeypatch.setattr(fetching, "STALL_SECONDS", 0.3)
    yield found
    found.http.shutdown()
    found.http.server_close()


FILE = "hopper_medium-v2.hdf5"


def hopper() -> Dataset:
    return datasets.find_dataset(NAME)


def left(data: Dataset) -> list[str]:
    assert data.file is not None
    return sorted(path.name for path in data.file.parent.iterdir() if not path.name.endswith(".lock"))


def quietly(text: str) -> None:
    pass


def test_a_file_is_fetched_checked_and_recorded(server: Server) -> None:
    data = hopper()
    fetch(data, say=quietly)
    assert data.file is not None
    assert data.file.read_bytes() == server.content
    entry = recorded(data)
    assert entry
    assert entry["sha256"] == data.sha256()
    assert entry["bytes"] == len(server.content)
    assert entry["url"].endswith("/mirror/gym_mujoco_v2/hopper_medium-v2.hdf5")
    assert left(data) == ["fetched.json", "hopper_medium-v2.hdf5"]
    fetch(data, say=quietly)
    assert len(server.asked) == 1, "a file that is here is not fetched again"


@pytest.mark.parametrize(
    "script",
    [
        ["cut", "good"],
        ["cut", "cut", "cut", "good"],
        ["stall", "good"],
        ["500", "503", "good"],
        ["cut", "no ranges"],
        ["cut", "500", "stall", "good"],
    ],
    ids=" ".join,
)
def test_what_breaks_off_is_gone_on_with(server: Server, script: list[str]) -> None:
    server.script = list(script)
    data = hopper()
    fetch(data, say=quietly)
    assert data.file is not None
    assert data.file.read_bytes() == server.content
    if script[0] in ("cut", "stall"):
        assert any(server.asked[1:]), "the second request did not ask for the rest only"


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("404", "404"),
        ("500", "500"),
        ("html", "web page"),
    ],
)
def test_what_cannot_be_had_is_said_and_leaves_no_file(server: Server, behaviour: str, said: str) -> None:
    server.script = [behaviour]
    data = hopper()
    with pytest.raises(UserError, match=said):
        fetch(data, say=quietly)
    assert "hopper_medium-v2.hdf5" not in left(data)
    assert recorded(data) is None
    server.script = ["good"]
    fetch(data, say=quietly)
    assert data.present


def test_a_server_that_always_breaks_off_keeps_what_came_for_the_next_call(server: Server) -> None:
    server.script = ["cut"]
    data = hopper()
    with pytest.raises(UserError, match="will not be fetched again"):
        fetch(data, say=quietly)
    server.script = ["good"]
    fetch(data, say=quietly)
    assert server.asked[-1] is not None
    assert data.present


def test_a_file_that_changed_since_its_first_fetch_is_refused(server: Server, tmp_path: Path) -> None:
    data = hopper()
    fetch(data, say=quietly)
    assert data.file is not None
    data.file.unlink()
    server.content = hopper_file(tmp_path / "other.hdf5", rows=2000)
    with pytest.raises(UserError, match="recorded"):
        fetch(data, say=quietly)
    assert left(data) == ["fetched.json"]


@pytest.mark.parametrize(
    "name", [".hopper_medium-v2.hdf5.part", "fetched.json", ".hopper_medium-v2.hdf5.lock"]
)
@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder"])
def test_what_is_no_file_is_not_written_through(server: Server, name: str, kind: str, tmp_path: Path) -> None:
    data = hopper()
    assert data.file is not None
    outside = tmp_path / "outside"
    outside.write_text("mine")
    place = data.file.with_name(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], None]]
    makers = {"a link": lambda: place.symlink_to(outside), "a pipe": lambda: os.mkfifo(place)}
    makers.get(kind, place.mkdir)()
    with pytest.raises(UserError, match=f"{re.escape(name)}: is {kind}, not a file; remove it"):
        fetch(data, say=quietly)
    assert outside.read_text() == "mine"
    assert not data.file.exists()


@pytest.mark.parametrize("content", ["[1]", '{"other.hdf5": {"sha256": "aa"', '{"other.hdf5": 1}'])
def test_records_of_first_fetches_are_not_lost(server: Server, content: str) -> None:
    data = hopper()
    assert data.file is not None
    record = data.file.with_name("fetched.json")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(content)
    with pytest.raises(UserError, match=r"fetched\.json: is corrupted; it records first fetches"):
        fetch(data, say=quietly)
    assert record.read_text() == content


def test_a_longer_leftover_is_thrown_away(server: Server) -> None:
    data = hopper()
    assert data.file is not None
    data.file.parent.mkdir(parents=True)
    data.file.with_name(f".{data.file.name}.part").write_bytes(b"x" * (len(server.content) + 10))
    fetch(data, say=quietly)
    assert data.file.read_bytes() == server.content


def test_offline_says_where_to_put_the_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"offline; put the file at .*hopper_medium-v2.hdf5"):
        fetch(hopper(), offline=True, say=quietly)
    monkeypatch.setenv("O2OBENCH_OFFLINE", "1")
    with pytest.raises(UserError, match="offline"):
        fetch(hopper(), say=quietly)
    assert not server.asked


def test_a_file_put_there_by_hand_is_recorded_after_its_check(server: Server) -> None:
    data = hopper()
    assert data.file is not None
    data.file.parent.mkdir(parents=True)
    data.file.write_bytes(b"not HDF5")
    with pytest.raises(UserError, match="not an HDF5 file"):
        fetch(data, say=quietly)
    data.file.write_bytes(server.content)
    fetch(data, say=quietly)
    assert recorded(data)
    assert not server.asked


def test_a_file_is_fetched_where_the_file_system_has_no_locks(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    fetch(hopper(), say=quietly)
    assert hopper().present


def test_two_fetches_at_once_download_once(server: Server) -> None:
    data = hopper()
    threads = [threading.Thread(target=fetch, args=(data, False, quietly)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1
    assert json.loads((data.file.parent / "fetched.json").read_text()) if data.file else False


SUITE = {
    "algorithms": ["bc"],
    "datasets": [NAME],
    "seeds": [0],
    "offline": {"updates": 20, "evaluate_every": 20},
}


def test_a_suite_fetches_what_is_missing_and_says_how_much(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = ["cut", "good"]

    def read() -> Plan:
        return expand(Located(SUITE), "own")

    plan = with_data(read)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"missing, to be fetched: {NAME} ({len(server.content) / 1000:.1f} kB)"
    assert any("trying again" in line for line in said)
    assert [run.dataset for run in plan.runs] == [NAME]
    asked = len(server.asked)
    assert with_data(read).runs == plan.runs
    assert len(server.asked) == asked, "what is here is not asked for"


def test_nothing_is_fetched_offline(server: Server) -> None:
    with pytest.raises(UserError, match="missing"):
        with_data(lambda: expand(Located(SUITE), "own"), offline=True)
    assert not server.asked


def test_a_disk_that_is_too_small_is_refused_before_anything_is_fetched(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(UserError, match=r"are to be fetched, 1 bytes are free; make room"):
        with_data(lambda: expand(Located(SUITE), "own"))
    assert not server.asked


def test_a_server_that_tells_no_size_is_asked_for_the_file(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.heads = False
    with_data(lambda: expand(Located(SUITE), "own"))
    assert f"to be fetched: {NAME}\n" in capsys.readouterr().out
