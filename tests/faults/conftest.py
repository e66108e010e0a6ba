"""A command server for the fault tests; locks expire after seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .processes import Server


@pytest.fixture(scope="session")
def _one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(lock_seconds=2.0, folder=tmp_path_factory.mktemp("outputs"))
    yield one
    one.close()


@pytest.fixture
def server(_one_server: Server) -> Iterator[Server]:
    yield _one_server
    _one_server.clean()
