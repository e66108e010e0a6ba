"""A fixture of tests that read files."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

from o2obench.datasets import isolated_validation


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call what a child would; that it is one is held by other tests of each reader."""

    def call(file: Path, function: str, *arguments: str) -> list[str]:
        lines: list[str] = pkgutil.resolve_name(function)(file, *arguments)
        return lines

    monkeypatch.setattr(isolated_validation, "in_child", call)
