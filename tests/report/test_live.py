"""What a report shows of runs that are not finished, of films, and of all suites together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from o2obench.planning.plan import Plan
from o2obench.report import ReportOptions, write_report
from o2obench.report.chart import charts
from o2obench.report.headline import unfinished
from o2obench.report.metrics import AREA
from o2obench.report.summary import summarise
from o2obench.report.sweeps import sweeps, tuning
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.spec import film_name
from tests.helpers.folders import finish, paper_plan
from tests.helpers.suites import toy_plan

DATA = "pointmass-mixed-v0"
HTML = ReportOptions(("html",))


def interrupted(folder: RunFolder, rows: int) -> None:
    """Leave a run as a kill would: its first evaluations, one line cut, no DONE."""
    lines = folder.evaluations.read_text().splitlines(keepends=True)
    folder.evaluations.write_text("".join(lines[:rows]) + lines[rows][:15])
    folder.done.unlink()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    made = toy_plan("toy_tune", "toy_breaks", seeds=4, steps=1000)
    finish(made, tmp_path / "results")
    return made


def test_a_run_that_is_not_finished_is_drawn_and_never_counted(plan: Plan, tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path / "results")
    before = summarise(plan, results).by_name["toy_tune", DATA]
    victim = next(one for one in plan.experiments if (one.method, one.seed) == ("toy_tune", 3))
    interrupted(results.run(victim.run), rows=5)
    found = summarise(plan, results)
    [part] = found.parts
    assert (part.method, part.seed, part.state) == ("toy_tune", 3, "interrupted")
    assert len(part.fine_tuning.scores) == 5, "the cut line is no evaluation"
    counted = found.by_name["toy_tune", DATA]
    assert counted.of(AREA) == {seed: value for seed, value in before.of(AREA).items() if seed != 3}
    assert not counted.diverged
    chart = charts(found)[DATA]
    assert chart["series"]["toy_tune"]["n"] == 3
    [drawn] = chart["parts"]
    assert drawn["mean"] == pytest.approx(part.fine_tuning.scores, rel=1e-4)
    assert unfinished(found) == "1 run not finished: drawn dotted, never counted"
    [page] = write_report(results, tmp_path / "out", options=HTML)
    assert "1 run not finished: drawn dotted, never counted" in page.read_text()
    assert "interrupted" in page.read_text()


def test_nothing_is_told_of_parts_where_all_is_finished(plan: Plan, tmp_path: Path) -> None:
    found = summarise(plan, ResultsFolder(tmp_path / "results"))
    assert (found.parts, unfinished(found)) == ((), "")


def test_a_curve_stands_over_hours_where_times_are_noted(plan: Plan, tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path / "results")
    chart = charts(summarise(plan, results))[DATA]["series"]["toy_tune"]
    assert len(chart["hours"]) == len(chart["steps"]) == len(chart["updates"]) == len(chart["mean"])
    assert chart["hours"] == sorted(chart["hours"])
    assert chart["low"][3] < chart["mean"][3] < chart["high"][3]
    assert chart["sure"]


def test_films_of_render_are_taken_into_the_page(plan: Plan, tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path / "results")
    run = next(one.run for one in plan.experiments if (one.method, one.seed) == ("toy_tune", 0))
    out = tmp_path / "out" / plan.suite
    out.mkdir(parents=True)
    (out / film_name(run)).write_bytes(b"GIF89a film")
    [page] = write_report(results, tmp_path / "out", options=HTML)
    assert 'src="data:image/gif;base64,R0lGODlhIGZpbG0="' in page.read_text()
    assert f'alt="toy_tune on {DATA}, one episode"' in page.read_text()


def test_all_suites_stand_in_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, out = ResultsFolder(tmp_path / "results"), tmp_path / "out"
    chosen = {"seeds": (0, 1), "algorithms": ("frozen", "comou")}
    plans = [
        paper_plan(name, monkeypatch, datasets=(dataset,), **chosen)
        for name, dataset in (("mujoco_all", "hopper-medium-v2"), ("comou_fig3", "walker2d-medium-v2"))
    ]
    for one in plans:
        finish(one, tmp_path / "results")
    write_report(results, out, options=HTML)
    text = (out / "index.html").read_text()
    for one in plans:
        assert f'href="{one.suite}/index.html"' in text
        about = json.loads((out / one.suite / ".made.json").read_text())["about"]
        assert (about["shown"], about["planned"]) == (len(one.experiments), len(one.experiments))
        assert about["leader"] in text
        assert about["headline"].split(";")[0][:40] in text
    shutil.rmtree(out / plans[0].suite)
    write_report(results, out, plans[1].suite, options=HTML)
    assert plans[0].suite + "/index.html" not in (out / "index.html").read_text(), "a page that is gone"


def test_a_suite_that_sweeps_options_has_its_price(tmp_path: Path) -> None:
    rates = {"toy_tune": {"rate": [0.1, 0.2, 0.3, 0.4], "label": "rate {rate}"}}
    results = ResultsFolder(tmp_path / "results")
    for seeds, priced in ((5, True), (4, False)):
        shutil.rmtree(results.path, ignore_errors=True)
        plan = toy_plan(rates, seeds=seeds, steps=1000)
        finish(plan, results.path)
        found = summarise(plan, results)
        [sweep] = sweeps(found)
        assert sweep.methods == ("rate 0.1", "rate 0.2", "rate 0.3", "rate 0.4")
        assert set(sweep.sensitivity) == {"rate"}
        assert bool(sweep.prices) is priced
        table = tuning(found)
        assert [row.cells[2].text for row in table.rows] == (["1", "2", "3", "4"] if priced else ["n/a"])
        if priced:
            assert sweep.prices[0].env_steps >= 1000
            assert sweep.prices[0].score == pytest.approx(
                sum(sum(r.of(AREA).values()) for r in found.method_results if r.method in sweep.methods) / 20
            )
    three = {"toy_tune": {"rate": [0.1, 0.2, 0.3], "label": "rate {rate}"}}
    fewer = toy_plan(three, seeds=5, steps=1000)
    finish(fewer, tmp_path / "fewer")
    assert tuning(summarise(fewer, ResultsFolder(tmp_path / "fewer"))).rows == ()
