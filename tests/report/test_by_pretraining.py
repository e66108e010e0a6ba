"""The report where methods start from different pretrainings: each beside the control of its own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from o2obench.planning.plan import Plan, read_plan
from o2obench.report import ReportOptions, answer, cells, tables, write_report, writers
from o2obench.report.cells import Table
from o2obench.report.colours import lines_of
from o2obench.report.format import DASH
from o2obench.report.metrics import AREA, CHANGE, FINAL, GAINED, LOSS, START
from o2obench.report.plots.curves import curves
from o2obench.report.plots.style import Target
from o2obench.report.summary import Summary, summarise
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.jsonl import last_record
from o2obench.runs.spec import Run
from tests.helpers import folders
from tests.helpers.suites import toy_plan

DATA = "pointmass-mixed-v0"
FAST = {"from": {"toy_offline": {"rate": 0.2}, "label": "fast"}}
LEVELS = {"toy_offline": 20.0, "fast": 60.0}
"""The score at which each pretraining ends."""
GAINS = {"slow": 10.0, "quick": 4.0, "frozen (toy_offline)": -1.0, "frozen (fast)": 2.0, "sac": 35.0}
"""What each method adds until its end; of the controls it is noise, and of SAC all that it has."""
TWO: tuple[Any, ...] = ({"toy_tune": {"label": "slow"}}, {"toy_tune": {**FAST, "label": "quick"}})


@pytest.fixture(autouse=True)
def _known_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_scores", known_scores)


def known_scores(plan: Plan, run: Run, draw: Any, parent: RunFolder) -> Iterator[dict[str, Any]]:
    """Rise straight to a pretraining's level, or from there by the gain of the method; seeds add theirs."""
    refs, stages = plan.scores[DATA], plan.stages[run.group]
    shown = [one for one in plan.experiments if run.id in (one.run, one.parent)]
    start = LEVELS.get(next((one.pretraining for one in shown if one.pretraining), ""), 0.0)
    gain = GAINS.get(plan.method(run), 10.0)
    steps = updates = 0

    def row(stage: str, score: float, episodes: int) -> dict[str, Any]:
        level = refs.ref_min + (score + run.seed) / 100 * (refs.ref_max - refs.ref_min)
        return {"stage": stage, "env_steps": steps, "updates": updates, "returns": episodes * [level]}

    if run.parent:
        yield {**row("start", start, 50), "returns": (last_record(parent.evaluations) or {})["returns"]}
    elif stages[0].env_steps:
        yield row("start", 0.0, 50)
    for stage in stages:
        for part in range(1, folders.EVERY + 1) if stage.env_steps or stage.updates else (folders.EVERY,):
            steps += stage.env_steps // folders.EVERY
            updates += stage.updates // folders.EVERY
            share = part / folders.EVERY
            offline = not stage.env_steps
            score = share * start if offline else start + share * gain
            yield row(stage.name, score, 50 if part == folders.EVERY else 10)


def made(folder: Path, *algorithms: Any, seeds: int = 5, **extra: Any) -> Summary:
    """Return what a fabricated results folder says."""
    plan = toy_plan(*algorithms, seeds=seeds, steps=200, **{"frozen": True, **extra})
    folders.finish(plan, folder)
    summary = summarise(plan, ResultsFolder(folder))
    assert summary.problems == ()
    return summary


def column(table: Table, method: str, name: str) -> cells.Value:
    """Return a method's cell."""
    [row] = [row for row in table.rows if row.method == method]
    return row.cells[[one.name for one in table.columns].index(name)]


def text(table: Table) -> list[tuple[str, ...]]:
    return [tuple(cell.text for cell in row.cells) for row in table.rows]


def test_every_method_is_read_beside_the_control_of_its_own_pretraining(tmp_path: Path) -> None:
    found = made(tmp_path, *TWO)
    assert found.methods == ("slow", "quick", "frozen (toy_offline)", "frozen (fast)")
    for method, control, own in (("slow", "frozen (toy_offline)", 11.0), ("quick", "frozen (fast)", 2.0)):
        line = found.by_name[method, DATA]
        assert found.control_of(line) is found.by_name[control, DATA]
        assert found.reference_of(method) == control
        for name in (CHANGE, FINAL):
            beside = found.beside_control(line, name)
            assert beside is not None
            assert beside.value == pytest.approx(own), "against the other it is 8, 5, -32 or 45"
    for control in ("frozen (toy_offline)", "frozen (fast)"):
        assert found.control_of(found.by_name[control, DATA]) is None
    shown = tables.improvement(found)
    assert shown.title == "Against the own control"
    against = {method: column(shown, method, "difference").value for method in ("slow", "quick")}
    assert against == pytest.approx({"slow": 11.0 / 2, "quick": 2.0 / 2}), "areas of straight lines"
    assert column(shown, "frozen (fast)", "difference").value is None
    on_the_way = tables.measures(found, DATA)
    name = "improvement per 1,000 steps"
    values = {method: line.of(name) for (method, _), line in found.by_name.items()}
    differences = [values["quick"][seed] - values["frozen (fast)"][seed] for seed in range(5)]
    assert column(on_the_way, "quick", name).beside.startswith(f"{np.mean(differences):+.1f} ")


def test_numbers_in_files_are_paired_alike(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(writers.runs_csv(made(tmp_path, *TWO)))))
    ends = [row for row in rows if row["metric"] == FINAL]
    difference = {(row["method"], int(row["seed"])): row["difference"] for row in ends}
    assert [float(difference["slow", seed]) for seed in range(5)] == pytest.approx(5 * [11.0])
    assert [float(difference["quick", seed]) for seed in range(5)] == pytest.approx(5 * [2.0])
    assert difference["frozen (fast)", 0] == ""


def test_neither_order_nor_name_makes_a_control(tmp_path: Path) -> None:
    asked = {"frozen": {**FAST, "label": "never learns"}}
    decoy = {"toy_breaks": {"label": "frozen"}}
    found = made(tmp_path, asked, decoy, TWO[1], TWO[0])
    control = {one.method: found.reference_of(one.method) for one in found.method_results}
    assert control == {
        "never learns": "",
        "frozen": "frozen (toy_offline)",
        "quick": "never learns",
        "slow": "frozen (toy_offline)",
        "frozen (toy_offline)": "",
    }
    assert found.by_name["frozen (toy_offline)", DATA].automatic
    assert not found.by_name["never learns", DATA].automatic


def test_what_was_gained_leads_where_starts_differ_and_a_line_says_so(tmp_path: Path) -> None:
    found = made(tmp_path, *TWO)
    told = "Methods start from different pretrainings (toy_offline and fast): compare what they gain, not "
    final, lead = tables.final(found), answer.lead(found, DATA)
    assert (found.lead, final.title) == (GAINED, "Area above the start")
    [row] = final.rows
    names = [one.name for one in final.columns]
    assert row.cells[names.index("slow")].value == pytest.approx(5.0)
    assert row.cells[names.index("quick")].value == pytest.approx(2.0)
    assert [one.name for one in lead.columns][2:4] == [GAINED, AREA]
    assert lead.rows[0].method == "slow", "quick ends higher and gained less"
    assert column(lead, "slow", GAINED).mark == "best"
    assert column(lead, "quick", AREA).mark == "best"
    for table in (final, lead, tables.scores(found, DATA)):
        assert table.note.startswith(told)
    assert tables.improvement(found).note.startswith("Areas above the start")
    assert {m: held.values.mean() for m, held in found.comparison.scores.items()} == pytest.approx(
        {method: GAINS[method] / 2 for method in found.methods}
    )


def test_areas_lead_where_all_start_alike(tmp_path: Path) -> None:
    found = made(tmp_path, TWO[0], "toy_breaks")
    assert (found.lead, tables.final(found).title) == (AREA, "Area under the fine-tuning curve")
    for shown in (tables.final(found), tables.scores(found, DATA), tables.improvement(found)):
        assert "different pretrainings" not in shown.note
    assert [one.name for one in answer.lead(found, DATA).columns] == [
        *("method", "start", AREA, "last window", LOSS, "collapsed")
    ]


def test_every_pretraining_has_one_row_of_what_fine_tuning_starts_from(tmp_path: Path) -> None:
    more = {"toy_tune": {**FAST, "rate": 0.01, "label": "quick, too"}}
    shown = tables.regimes(made(tmp_path, *TWO, more, "toy_offline"))
    assert [row[:2] for row in text(shown)] == [(DATA, "toy_offline"), (DATA, "fast")]
    assert [row.cells[2].value for row in shown.rows] == pytest.approx([22.0, 62.0])


def drawn(found: Summary, folder: Path) -> dict[str, list[list[float]]]:
    """Return the offline panel's curves by name, as the page has them."""
    drawing = curves(found, DATA, Target(folder / "curves", ("svg",)))
    assert drawing is not None
    held: dict[str, list[list[float]]] = {}
    for series in drawing.panels[0]["series"]:
        assert series["label"] not in held, "a pretraining is drawn once"
        held[series["label"]] = [series["x"], series["y"]]
    return held


def test_every_pretraining_has_one_learning_curve(tmp_path: Path) -> None:
    more = {"toy_tune": {**FAST, "rate": 0.01, "label": "quick, too"}}
    offline = drawn(made(tmp_path / "a", *TWO, more, seeds=2), tmp_path)
    assert list(offline) == ["toy_offline", "fast"]
    assert [curve[1][-1] for curve in offline.values()] == pytest.approx([20.5, 60.5])


def test_a_pretraining_that_is_a_method_too_is_drawn_once(tmp_path: Path) -> None:
    offline = drawn(made(tmp_path / "a", "toy_offline", TWO[1], TWO[0], seeds=2), tmp_path)
    assert list(offline) == ["toy_offline", "fast"]


def test_no_two_controls_are_drawn_alike(tmp_path: Path) -> None:
    lines = lines_of(made(tmp_path, *TWO, seeds=1).plan)
    assert len({lines[name] for name in ("frozen (toy_offline)", "frozen (fast)")}) == 2
    assert lines["frozen (toy_offline)"][0] == lines["frozen (fast)"][0] != lines["slow"][0]


def test_offline_methods_are_not_mixed_into_one_curve(tmp_path: Path) -> None:
    sweep = {"toy_offline": {"rate": [0.1, 0.3], "label": "rate {rate}"}}
    offline = drawn(made(tmp_path / "a", sweep, seeds=2), tmp_path)
    assert list(offline) == ["rate 0.1", "rate 0.3"]


def test_what_starts_from_nothing_is_compared_with_the_reference_and_has_no_change(tmp_path: Path) -> None:
    found = made(tmp_path, TWO[0], "sac", report={"reference": "slow"})
    sac = found.by_name["sac", DATA]
    assert sac.of(START)
    assert sac.of(CHANGE) == {}
    assert found.control_of(sac) is None
    assert (found.reference, found.reference_of("sac"), found.reference_of("slow")) == ("slow", "slow", "")
    shown = tables.improvement(found)
    assert shown.title == "Against slow"
    assert column(shown, "sac", "difference").value == pytest.approx(35.0 / 2 - 25.0)
    scores = tables.scores(found, DATA)
    assert column(scores, "slow", "change").value == pytest.approx(10.0)
    assert column(scores, "sac", "change") == cells.Value(DASH)
    rows = csv.DictReader(io.StringIO(writers.scores_csv(found)))
    changes = {row["method"]: row["change"] for row in rows}
    assert changes == {"slow": "10.0000", "sac": "", "frozen": "10.0000"}


def test_without_a_reference_what_starts_from_nothing_is_compared_with_nothing(tmp_path: Path) -> None:
    found = made(tmp_path, TWO[0], "sac")
    assert found.reference_of("sac") == ""
    assert column(tables.improvement(found), "sac", "difference").value is None
    assert column(tables.improvement(found), "slow", "difference").value is not None


def test_what_starts_from_nothing_is_compared_by_its_area_where_gains_lead(tmp_path: Path) -> None:
    found = made(tmp_path, *TWO, "sac", report={"reference": "slow"})
    shown = tables.improvement(found)
    assert column(shown, "quick", "difference").value == pytest.approx(2.0 - 5.0)
    cell = column(shown, "sac", "difference")
    assert cell.value == pytest.approx(35.0 / 2 - 25.0)
    assert cell.beside == "area"
    assert column(shown, "sac", "mean rank").text == DASH
    assert column(shown, "sac", "n").value == 5
    assert shown.left_out == (f"left out, no area above the start on {DATA}: sac",)
    lead = answer.lead(found, DATA)
    assert lead.rows[-1].method == "sac", "what has no leading metric stands last"
    assert column(lead, "sac", GAINED).text == DASH
    assert column(lead, "sac", AREA).value == pytest.approx(2.0 + 35.0 / 2)


def test_without_controls_nothing_stands_beside(tmp_path: Path) -> None:
    found = made(tmp_path, *TWO, frozen=False)
    assert [found.control_of(one) for one in found.method_results] == [None, None]
    assert "frozen" not in tables.measures(found, DATA).note
    assert tables.improvement(found).rows == ()


def test_the_page_says_it_all(tmp_path: Path) -> None:
    made(tmp_path / "results", *TWO, seeds=2)
    results = ResultsFolder(tmp_path / "results")
    assert read_plan(results.plan_file("toy")).experiments[-1].automatic
    write_report(results, tmp_path / "out", options=ReportOptions(formats=("html", "md")))
    for name in ("index.html", "report.md"):
        page = (tmp_path / "out" / "toy" / name).read_text().replace("\\", "")
        assert "Methods start from different pretrainings (toy_offline and fast)" in page
        for method in ("slow", "quick", "frozen (toy_offline)", "frozen (fast)"):
            assert method in page
