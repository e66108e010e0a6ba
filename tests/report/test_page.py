"""The page in a real browser: the first screen, curves, filters, the address, contrast, hostile names."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from o2obench.report import ReportOptions, write_report
from o2obench.runs.folder import ResultsFolder
from tests.helpers.folders import finish, paper_plan

pytestmark = pytest.mark.slow

EVIL = "<script>document.title='evil'</script>\"><img src=http://example.invalid/x onerror=alert(1)></title>"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
DATASETS = ("hopper-medium-v2", "walker2d-medium-v2")
Opener = Callable[..., Page]

CONTRAST = """
(pairs) => pairs.map(([front, back]) => {
  const rgb = (text) => { const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = text; const hex = canvas.fillStyle;
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255); };
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (text) => { const [r, g, b] = rgb(text).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
})
"""
"""The contrast of pairs of colours, as WCAG 2.2 defines it."""


def written(folder: Path, suite: str, seeds: int, datasets: tuple[str, ...], evil: str = "") -> Path:
    """Write the page of a fabricated results folder; one method may have a hostile name."""
    with pytest.MonkeyPatch.context() as patch:
        plan = paper_plan(suite, patch, seeds=tuple(range(seeds)), datasets=datasets)
    if evil:
        experiments = tuple(
            replace(one, method=EVIL if one.method == evil else one.method) for one in plan.experiments
        )
        plan = replace(plan, figures=("curves", "drop"), experiments=experiments, title=EVIL)
    finish(plan, folder / "results")
    [page] = write_report(ResultsFolder(folder / "results"), folder / "out", options=ReportOptions(("html",)))
    return page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two data sets whose one algorithm has a hostile name."""
    return written(tmp_path_factory.mktemp("hostile"), "doof_table3", 2, DATASETS, evil="DOOF")


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of one data set, eight methods and five seeds."""
    return written(tmp_path_factory.mktemp("usual"), "mujoco_all", 5, DATASETS[:1])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium; it never reaches for the network."""
    found = shutil.which("chromium")
    if found is None:
        required = "chromium" in os.environ.get("O2O_REQUIRE", "")
        (pytest.fail if required else pytest.skip)("chromium is not there")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Return what opens a page, ``width`` and ``scheme`` as asked; complaints and requests fail the test."""
    contexts, complaints = [], list[str]()

    def open_page(
        page: Path, width: int = 1400, height: int = 900, scheme: Any = "light", state: str = ""
    ) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "data:")) else complaints.append(request.url)
            ),
        )
        tab.goto(page.as_uri() + state)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def bottom(tab: Page, selector: str) -> float:
    """Return where an element ends, in pixels from the top of the page."""
    box = tab.locator(selector).first.bounding_box()
    assert box is not None
    return box["y"] + box["height"]


# The answer


def test_the_answer_stands_above_the_fold(usual: Path, opened: Opener) -> None:
    tab = opened(usual)
    text = tab.locator("p.headline").inner_text()
    rows = tab.locator("table[data-table=lead] tr.main")
    first = rows.first.locator("td").first.inner_text()
    assert text.startswith(first), "the headline names the method that stands first"
    assert len(re.findall(r"\d+\.\d", text)) >= 2
    assert rows.count() == 8
    assert bottom(tab, "table[data-table=lead]") < 900
    plot = tab.locator("figure.chart svg").first.bounding_box()
    assert plot is not None
    assert plot["width"] >= 700
    assert 900 - plot["y"] >= 200, "200 px of the curves"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_nothing_scrolls_sideways(
    usual: Path, hostile: Path, opened: Opener, width: int, scheme: str
) -> None:
    for page in (usual, hostile):
        tab = opened(page, width=width, scheme=scheme)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.locator("figure.chart path.curve").count() >= 2
        first = tab.locator("table[data-table=lead], table[data-table=lead_all]").first.locator("td").first
        assert first.evaluate("cell => getComputedStyle(cell).position") == "sticky"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_their_ground(usual: Path, opened: Opener, scheme: str) -> None:
    tab = opened(usual, scheme=scheme)
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    curves = tab.locator("path.curve").evaluate_all("all => all.map(one => one.getAttribute('stroke'))")
    assert len(set(curves)) >= 6
    assert min(tab.evaluate(CONTRAST, [[colour, ground] for colour in curves])) >= 3
    words = [
        "p.headline",
        "p.kind",
        "table[data-table=lead] td span",
        "th",
        ".reduced summary",
        "nav a",
        ".controls legend",
    ]
    ink = [
        tab.locator(one).first.evaluate("e => getComputedStyle(e).color")
        for one in words
        if tab.locator(one).count()
    ]
    assert min(tab.evaluate(CONTRAST, [[colour, ground] for colour in ink])) >= 4.5


def test_a_method_has_one_colour_in_all_suites(tmp_path: Path, usual: Path, opened: Opener) -> None:
    other = written(tmp_path, "comou_fig3", 2, DATASETS[:1])

    def colours(page: Path) -> dict[str, str]:
        pairs = (
            opened(page)
            .locator("path.curve")
            .evaluate_all("all => all.map(one => [one.dataset.method, one.getAttribute('stroke')])")
        )
        return {method: colour for method, colour in pairs}

    both = colours(usual), colours(other)
    shared = both[0].keys() & both[1].keys()
    assert {"naive (online)", "naive (union)", "mbpo", "frozen"} <= shared
    assert {name: both[0][name] for name in shared} == {name: both[1][name] for name in shared}


# Curves, toggles and the address


def test_hovering_and_toggles_change_values_and_address(usual: Path, opened: Opener) -> None:
    tab = opened(usual)
    values, curves = tab.locator("figure.chart .values").first, tab.locator("path.curve")
    at_the_end = values.inner_text()
    assert "at 100,000 environment steps" in at_the_end
    assert re.search(r"\[\d+\.\d, \d+\.\d\]\s+n 5", at_the_end), "values, intervals and n"
    plot = tab.locator("figure.chart .plot").first.bounding_box()
    assert plot is not None
    tab.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2)
    assert values.inner_text() != at_the_end
    tab.get_by_label("updates").first.check()
    assert "x=updates" in tab.url
    assert "updates after the online start" in tab.locator("figure.chart").first.inner_text()
    before = curves.first.get_attribute("d")
    tab.get_by_label("median of 3").first.check()
    assert "median=1" in tab.url
    assert "medians of 3" in values.inner_text()
    assert curves.first.get_attribute("d") != before
    shown = curves.count()
    tab.locator(".filters summary").click()
    tab.get_by_role("checkbox", name="moore", exact=True).uncheck()
    assert (curves.count(), tab.locator("tr[data-method=moore]:visible").count()) == (shown - 1, 0)
    again = opened(usual, state=tab.url[tab.url.index("#") :])
    assert again.locator("path.curve").count() == shown - 1
    assert again.locator("figure.chart .values").first.inner_text() == values.inner_text()
    again.get_by_label("hours").first.check()
    assert "Nothing moves along this axis" in again.locator("figure.chart").first.inner_text(), (
        "no times are noted"
    )


def test_a_chart_is_read_by_keyboard_and_in_words(usual: Path, opened: Opener) -> None:
    tab = opened(usual)
    chart = tab.locator("figure.chart").first
    told = chart.get_attribute("aria-label") or ""
    assert told.startswith("Fine-tuning curves on hopper-medium-v2. By area, highest first: ")
    assert re.search(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", told)
    others = tab.locator("figure[data-stem]").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert len(others) >= 3
    assert all("By area, highest first: " in other for other in others), "each figure states the result"
    chart.focus()
    tab.keyboard.press("ArrowRight")
    assert "at 0 environment steps" in chart.inner_text()
    tab.keyboard.press("ArrowRight")
    assert "at 0 environment steps" not in chart.inner_text()
    assert tab.locator("figure:not([tabindex])").count() == 0


def test_one_may_choose_the_data_of_the_first_chart(hostile: Path, opened: Opener) -> None:
    tab = opened(hostile)
    choice = tab.locator("[data-choose]")
    assert choice.evaluate("box => [...box.options].map((one) => one.value)") in (
        ["all data sets", *DATASETS],
        [*DATASETS],
    )
    before = tab.locator("path.curve").first.get_attribute("d")
    choice.select_option(DATASETS[1])
    assert tab.locator("path.curve").first.get_attribute("d") != before
    assert "walker2d" in tab.url


def test_sorting_zoom_and_values_of_figures_work(usual: Path, opened: Opener) -> None:
    tab = opened(usual)
    tab.locator("details.more summary").first.click()
    heading = tab.locator("table[data-table=scores] th button", has_text="final")
    column = (
        "() => { const t = document.querySelector('table[data-table=scores]');"
        "const i = [...t.tHead.rows[0].cells].findIndex((c) => c.textContent.startsWith('final'));"
        "return [...t.querySelectorAll('tr.main')].map((r) => [+r.cells[i].dataset.value, r.dataset.method,"
        " r.nextElementSibling.dataset.method]); }"
    )
    heading.click()
    down = tab.evaluate(column)
    heading.click()
    assert [row[0] for row in down] == sorted((row[0] for row in down), reverse=True)
    assert [row[0] for row in tab.evaluate(column)] == sorted(row[0] for row in down)
    assert all(row[1] == row[2] for row in down), "a row keeps its line of seeds"
    figure = tab.locator("figure[data-stem=drop-hopper-medium-v2]")
    figure.click()
    assert "large" in (figure.get_attribute("class") or "")
    box = figure.locator("svg").bounding_box()
    assert box is not None
    assert box["width"] <= 1400
    assert box["height"] <= 900, "zoom that fits"
    tab.keyboard.press("Escape")
    assert "large" not in (figure.get_attribute("class") or "")


# Names and the policy


def test_hostile_names_are_text(hostile: Path, opened: Opener) -> None:
    tab = opened(hostile)
    assert tab.locator("h1").inner_text() == EVIL
    assert (
        tab.locator("table[data-table=lead_all], table[data-table=lead]").first.inner_text().count(EVIL) == 1
    )
    assert tab.locator("img").count() == 0
    assert tab.locator("script").count() == 3
    tab.locator("figure.chart").first.focus()
    assert not tab.title().startswith("evil")


def test_the_policy_allows_the_pages_own_script_alone(usual: Path, tmp_path: Path, browser: Browser) -> None:
    copy = tmp_path / "copy.html"
    copy.write_text(usual.read_text().replace("</body>", "<script>document.body.id = 'in'</script></body>"))
    complaints = list[str]()
    tab = browser.new_page()
    tab.on("console", lambda message: complaints.append(message.text))
    tab.goto(copy.as_uri())
    assert tab.locator("body#in").count() == 0
    assert any("Content Security Policy" in text for text in complaints)
    tab.close()
