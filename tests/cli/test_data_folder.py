"""``--data-folder``: whatever commands bring or make lies in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command


def test_nothing_is_written_outside_the_data_folder(
    tmp_path: Path, o2obench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    (tmp_path / "home").mkdir()
    flags = ["--kind", "random", "--rows", "200", "--steps", "2"]
    said = o2obench("--data-folder", tmp_path / "here", "data", "collect", "hopper", *flags)
    assert said.returncode == 0, said.stderr
    assert not list((tmp_path / "home").iterdir())
    assert (tmp_path / "here" / "minari" / "o2o" / "hopper" / "random-v0").is_dir()
