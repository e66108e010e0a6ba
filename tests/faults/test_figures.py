"""The table of figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from .figures import record, table


def test_figures_become_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record("F1", "nowhere", injections=1)
    assert not list(tmp_path.iterdir()), "without a folder nothing is written"
    monkeypatch.setenv("O2O_FAULT_FIGURES", str(tmp_path))
    record("F10", "later", seconds=1.25)
    record("F2", "kills", injections=3, runs_lost=0, identical="3 of 3", seconds=2.0, kinds="two")
    record("F2", "kills", injections=4, runs_lost=0, identical="4 of 4", seconds=2.0, kinds="two")
    head, rule, first, second = table(tmp_path).splitlines()
    assert head.startswith("| figure | what  | injections | runs lost | updates lost beyond")
    assert set(rule) == {"|", "-"}
    assert [experiment.strip() for experiment in first.split("|")[1:-1]] == [
        *("F2", "kills", "4", "0", "", "4 of 4", "", "2.0", "kinds: two")
    ]
    assert second.startswith("| F10    | later")
