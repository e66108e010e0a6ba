"""The page of a standing protocol: whose each row is, how it was tuned, what more seeds would change."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from o2obench.report import ReportOptions, write_report
from o2obench.runs.folder import ResultsFolder
from tests.helpers.folders import finish
from tests.helpers.league import ADDED, ENTRY, MASS, MAZE, edit, id_of, plan_of, small_league
from tests.helpers.suites import toy_plan

FIVE = ADDED.replace("seeds: 2", "seeds: 5")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a league with a submitted method, and of another suite."""
    folder = tmp_path_factory.mktemp("league")
    results = ResultsFolder(folder / "results")
    with pytest.MonkeyPatch.context() as patch:
        small_league(folder, patch, FIVE.replace(ENTRY, ""))
        plan = replace(plan_of(folder, FIVE), figures=())
    finish(plan, results.path)
    edit(results.run(id_of(plan, "mine", MASS, 2)), code={"version": "0", "commit": "1", "dirty": True})
    other = toy_plan(seeds=3, offline={"updates": 2000, "evaluate_every": 1000})
    finish(replace(other, figures=()), results.path)
    write_report(results, folder / "out", options=ReportOptions(("html", "md", "csv", "tex")))
    return folder / "out"


def cells(html: str, table: str, dataset: str) -> dict[str, list[str]]:
    """Return the text of the rows of a table by method."""
    [body] = re.findall(
        rf'data-table="{table}">.*?(?=</table>)', html[html.index(f'">{dataset}</h2>') :], re.S
    )[:1]
    rows = re.findall(r'<tr class="main" data-method="(.*?)".*?>(.*?)</tr>', body)
    return {
        method: [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)]
        for method, row in rows
    }


def test_each_row_says_whose_it_is_and_how_it_was_tuned(out: Path) -> None:
    page = (out / "league" / "index.html").read_text()
    rows = cells(page, "lead", MASS)
    assert {method: row[1:3] for method, row in rows.items()} == {
        "mine": ["verified (1)", "\N{EN DASH}"],
        "other": ["verified (1)", "\N{EN DASH}"],
        "frozen": ["verified (1)", "\N{EN DASH}"],
        "submitted": ["submitted (1)", "7"],
    }
    assert "| submitted | submitted (1) | 7 |" in (out / "league" / "report.md").read_text()
    assert "submitted & submitted (1) & 7 &" in (out / "league" / "lead.tex").read_text()
    assert "verified" not in (out / "toy" / "index.html").read_text()
    dirty = [line for line in re.findall("<li>(.*?)</li>", page) if "does not count" in line]
    assert len(dirty) == 1
    assert "seed-2" in dirty[0]


def test_what_more_seeds_would_change_is_marked_as_expected(out: Path) -> None:
    page = (out / "league" / "index.html").read_text()
    assert "What more seeds would change: expected widths of intervals" in page
    assert "What more seeds" not in (out / "toy" / "index.html").read_text()
    lines = list(csv.DictReader((out / "league" / "tables.csv").read_text().splitlines()))

    def number(table: str, metric: str, name: str) -> float:
        [found] = [
            line[name]
            for line in lines
            if (line["table"], line["dataset"], line["method"], line["metric"])
            == (table, MAZE, "mine", metric)
        ]
        return float(found)

    width = number("lead", "area", "high") - number("lead", "area", "low")
    assert number("more_seeds", "area, 5 seeds", "value") == pytest.approx(width, rel=1e-4)
    assert width > 1.9 * number("more_seeds", "area, 20 seeds", "value")


def test_the_list_of_suites_leads_with_the_league(out: Path) -> None:
    page = (out / "index.html").read_text()
    league, other = (page.index(f'href="{name}/index.html"') for name in ("league", "toy"))
    assert league < page.index('<td class="text">submitted</td><td class="text">submitted (1)</td>') < other
    assert page.index("<h2>Other suites</h2>") < other
    assert page.count('href="league/') == 1


def test_a_list_without_a_league_is_what_it_was(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path / "results")
    finish(toy_plan(seeds=3), results.path)
    write_report(results, tmp_path / "out", options=ReportOptions(("html",)))
    assert "<h2>" not in (tmp_path / "out" / "index.html").read_text()
