"""Golden files: what a report of made-up numbers looks like, word for word; rewrite with --update-golden."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from o2obench.planning.plan import Plan
from o2obench.planning.report_items import USUAL_TABLES
from o2obench.report import ReportOptions, write_report
from o2obench.runs.folder import ResultsFolder
from tests.helpers.folders import finish, paper_plan

GOLDEN = Path(__file__).parents[1] / "golden" / "report"
DATASETS = ("hopper-medium-v2", "walker2d-medium-v2")
FILES = (
    "index.html",
    "report.md",
    "tables.csv",
    "lead.tex",
    "final.tex",
    "scores.tex",
    "measures.tex",
    "improvement.tex",
)


def planned(monkeypatch: pytest.MonkeyPatch, seeds: int) -> Plan:
    chosen = {"seeds": tuple(range(seeds)), "datasets": DATASETS}
    plan = paper_plan("mujoco_all", monkeypatch, algorithms=("frozen", "naive", "comou"), **chosen)
    data = {"hopper-medium-v2": (1500.0, 3200.0)}
    return replace(plan, figures=(), tables=USUAL_TABLES, data=data, suite=f"golden-{seeds}")


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_report_reads_as_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update_golden: bool, seeds: int
) -> None:
    plan = planned(monkeypatch, seeds)
    lost = plan.experiments[-1].run
    finish(plan, tmp_path / "results", without=(lost,))
    write_report(
        ResultsFolder(tmp_path / "results"), tmp_path, options=ReportOptions(("html", "md", "tex", "csv"))
    )
    for name in FILES:
        text = (tmp_path / plan.suite / name).read_text()
        if name == "index.html":  # style and script change often, and have tests of their own
            text = re.sub(r"(<style>|<script>).*?(</style>|</script>)", r"\1\2", text, flags=re.DOTALL)
            text = re.sub(r"sha256-[^']+", "sha256-", text)
        golden = GOLDEN / str(seeds) / name
        if update_golden:
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(text)
        assert text == golden.read_text(), f"{golden.name} has changed; look at it, then --update-golden"


def test_nothing_is_ranked_below_five_seeds() -> None:
    few = (GOLDEN / "3" / "improvement.tex").read_text()
    assert "mean rank" not in few
    assert r"\textbf" not in (GOLDEN / "3" / "scores.tex").read_text(), "a single evaluation has no best"
