"""The page in a real browser: no error, no request, names as text; sorting, filters, zoom and values work."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from o2obench.report import ReportOptions, write_report
from o2obench.runs.folder import ResultsFolder
from tests.helpers.folders import finish, paper_plan

EVIL = "<script>document.title='evil'</script>\"><img src=http://example.invalid/x onerror=alert(1)></title>"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"),
)
DATASETS = ("hopper-medium-v2", "walker2d-medium-v2")
DRIVER = """
const said = {}, all = (query) => [...document.querySelectorAll(query)];
const table = document.querySelector("table[data-table=scores]"), final = [...table.tHead.rows[0].cells]
  .findIndex((cell) => cell.textContent.startsWith("final"));
const column = () => [...table.querySelectorAll("tr.main")].map((row) => +row.cells[final].dataset.value);
const pairs = () => [...table.querySelectorAll("tr.main")]
  .map((row) => [row.dataset.method, row.nextElementSibling.dataset.method]);
const press = () => table.tHead.rows[0].cells[final].querySelector("button").click();
press(); said.down = column();
press(); said.up = column(); said.pairs = pairs();
const shown = (query) => all(query).filter((one) => one.offsetParent !== null).length;
const tick = (value) => all(".filters input").find((box) => box.value === value).click();
const lines = () => all(".series-0").filter((one) => one.style.display !== "none").length;
said.rows = [shown("tr[data-method=frozen]")]; said.lines = [lines()];
said.sections = [shown("section[data-dataset]")];
tick("frozen"); tick("walker2d-medium-v2");
said.rows.push(shown("tr[data-method=frozen]")); said.lines.push(lines());
said.sections.push(shown("section[data-dataset]"));
tick("frozen"); tick("walker2d-medium-v2");
said.rows.push(shown("tr[data-method=frozen]"));
const figure = document.querySelector("figure[data-stem=curves-hopper-medium-v2]");
figure.click(); said.large = figure.classList.contains("large");
document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
said.small = !figure.classList.contains("large");
const box = figure.querySelector("svg").getBoundingClientRect();
const place = JSON.parse(document.getElementById("panels").textContent)["curves-hopper-medium-v2"][1].box;
const at = (i) => [box.left + box.width * place[i], box.top + box.height * place[i + 1]];
const [x0, y0] = at(0), [x1, y1] = at(2);
figure.dispatchEvent(new PointerEvent("pointermove", { clientX: (x0 + x1) / 2, clientY: (y0 + y1) / 2 }));
said.tip = document.getElementById("tip").textContent;
said.images = all("img").length; said.scripts = all("script").length; said.title = document.title;
said.requests = performance.getEntriesByType("resource").map((one) => one.name);
document.body.dataset.said = JSON.stringify(said);
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two data sets whose one algorithm has a hostile name."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        plan = paper_plan("doof_table3", patch, seeds=(0, 1), datasets=DATASETS)
    experiments = tuple(
        replace(experiment, method=EVIL if experiment.method == "DOOF" else experiment.method)
        for experiment in plan.experiments
    )
    plan = replace(plan, figures=("curves", "efficiency"), experiments=experiments, title=EVIL)
    finish(plan, folder / "results")
    [page] = write_report(ResultsFolder(folder / "results"), folder / "out", options=ReportOptions(("html",)))
    return page


def opened(page: Path, profile: Path) -> tuple[str, str]:
    """Return the page's document after its scripts, and what the browser complained about."""
    found = shutil.which("chromium")
    if found is None:
        required = "chromium" in os.environ.get("O2O_REQUIRE", "")
        (pytest.fail if required else pytest.skip)("chromium is not there")
    command = [str(found), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def driven(page: Path, folder: Path) -> tuple[dict[str, Any], str]:
    """Open a copy of the page with a script at its end that the copy's policy allows."""
    digest = base64.b64encode(hashlib.sha256(DRIVER.encode()).digest()).decode()
    text = page.read_text().replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    copy = folder / "copy.html"
    copy.write_text(text.replace("</body>", f"<script>{DRIVER}</script></body>"))
    dom, complaints = opened(copy, folder / "profile")
    said = re.search(r'data-said="([^"]*)"', dom)
    assert said, complaints or dom[-2000:]
    return json.loads(html.unescape(said[1])), complaints


def test_a_browser_opens_the_page_without_a_complaint(page: Path, tmp_path: Path) -> None:
    dom, complaints = opened(page, tmp_path)
    assert not complaints
    assert html.escape(EVIL, quote=False).replace("&amp;", "&") in dom.replace("&quot;", '"')


def test_sorting_filters_zoom_and_values_work(page: Path, tmp_path: Path) -> None:
    said, complaints = driven(page, tmp_path)
    assert not complaints
    assert said["down"] == sorted(said["down"], reverse=True)
    assert said["up"] == sorted(said["up"])
    assert all(mine == below for mine, below in said["pairs"]), "a row keeps its line of seeds"
    assert said["rows"][0] == said["rows"][2] > said["rows"][1] == 0
    assert said["lines"][0] > said["lines"][1] == 0
    assert said["sections"] == [2, 1]
    assert said["large"]
    assert said["small"]
    assert said["tip"].startswith("environment steps")
    assert "frozen" in said["tip"]
    assert EVIL in said["tip"], "the name as text"
    assert (said["images"], said["scripts"], said["requests"]) == (0, 3, [])
    assert "evil" not in said["title"].removeprefix(EVIL)


def test_the_policy_allows_the_pages_own_script_alone(page: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.html"
    copy.write_text(page.read_text().replace("</body>", "<script>document.body.id = 'in'</script></body>"))
    dom, complaints = opened(copy, tmp_path / "profile")
    assert 'id="in"' not in dom
    assert "Content Security Policy" in complaints
