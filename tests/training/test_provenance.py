"""What run.json says of the code: whether it is that of its commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from o2obench.training import provenance


def test_only_changes_of_code_make_a_checkout_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        user = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", tmp_path, *user, *arguments], check=True, capture_output=True)

    module = tmp_path / "o2obench" / "training" / "provenance.py"
    files = (module, tmp_path / "algorithms" / "a.py", tmp_path / "docs" / "a.md")
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    monkeypatch.setattr(provenance, "__file__", str(module))
    (tmp_path / "o2obench" / "new.py").write_text("untracked\n")
    states = [provenance.code()["dirty"]]
    for file in reversed(files):
        file.write_text("2\n")
        states.append(provenance.code()["dirty"])
        file.write_text("1\n")
    assert states == [False, False, True, True]
