"""The report: a pure function of plans and folders that hides nothing."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from o2obench.analysis.results import table_of
from o2obench.planning.plan import Plan
from o2obench.report import write_report
from o2obench.report.plots import style
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.training.options import Options
from o2obench.training.runner import execute
from tests.helpers.suites import toy_plan


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    results = tmp_path_factory.mktemp("results")
    plan = toy_plan(
        {"toy_tune": {"rate": [0.1, 0.2], "label": "<script>alert({rate})</script>"}}, "toy_offline"
    )
    for run in plan.runs:
        execute([run], ResultsFolder(results), Options())
    plan.write(ResultsFolder(results))
    return plan, results


def copy(computed: tuple[Plan, Path], to: Path) -> tuple[Plan, Path]:
    import shutil

    shutil.copytree(computed[1], to / "results")
    return computed[0], to / "results"


def test_the_same_folders_give_the_same_bytes(computed: tuple[Plan, Path], tmp_path: Path) -> None:
    _, results = computed
    for name in ("a", "b"):
        write_report(ResultsFolder(results), tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    suffixes = {".html", ".md", ".tex", ".csv", ".svg", ".pdf", ".png", ".json"}
    assert {file.suffix for file in files} == suffixes
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_the_page_is_self_contained_and_shows_names_as_text(
    computed: tuple[Plan, Path], tmp_path: Path
) -> None:
    [page] = write_report(ResultsFolder(computed[1]), tmp_path)

    class Seen(HTMLParser):
        tags: list[str] = []  # noqa: RUF012
        outside: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)
            self.outside += [
                v for k, v in attrs if k in ("src", "href") and v and v.startswith(("http", "//"))
            ]

    seen = Seen()
    seen.feed(page.read_text())
    assert seen.tags.count("script") == 3, "two data islands and the page's own"
    assert not seen.outside
    assert "&lt;script&gt;alert(0.1)&lt;/script&gt;" in page.read_text()
    assert "default-src 'none'" in page.read_text()


def test_numbers_of_the_table_are_those_of_the_folders(computed: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, results = computed
    rows, problems = table_of(plan, ResultsFolder(results))
    assert not problems
    experiment = plan.experiments[0]
    last = json.loads(ResultsFolder(results).run(experiment.run).evaluations.read_text().splitlines()[-1])
    own = rows[(rows.method == experiment.method) & (rows.seed == experiment.seed)]
    assert own.mean_return.iloc[-1] == pytest.approx(sum(last["returns"]) / 50)
    assert own.episodes.iloc[-1] == 50
    assert set(own.phase) == {"offline", "online"}
    write_report(ResultsFolder(results), tmp_path)
    csv = (tmp_path / "toy" / "scores.csv").read_text().splitlines()
    assert len(csv) == 1 + len(plan.experiments)


def unfinished(folder: RunFolder) -> None:
    folder.done.unlink()


def edited(folder: RunFolder) -> None:
    folder.evaluations.write_text(folder.evaluations.read_text().replace("1", "2", 1))


def gone(folder: RunFolder) -> None:
    import shutil

    shutil.rmtree(folder.path)


def failed(folder: RunFolder) -> None:
    folder.done.unlink()
    folder.fail("RuntimeError: out of luck")


def diverged(folder: RunFolder) -> None:
    folder.done.unlink()
    folder.fail("sac/q after 500 updates is not finite", diverged=True)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (unfinished, "toy_tune: interrupted"),
        (edited, "toy_tune: evaluations.jsonl was changed after the run was finished"),
        (gone, "toy_tune: waiting"),
        (failed, "toy_tune: failed: RuntimeError: out of luck"),
        (diverged, "toy_tune: diverged: sac/q after 500 updates is not finite"),
    ],
)
def test_what_cannot_be_used_is_named_and_left_out(
    computed: tuple[Plan, Path], tmp_path: Path, harm: Any, message: str
) -> None:
    plan, results = copy(computed, tmp_path)
    experiment = plan.experiments[0]
    harm(ResultsFolder(results).run(experiment.run))
    rows, problems = table_of(plan, ResultsFolder(results))
    assert [problem.what for problem in problems] == [message]
    own = rows[(rows.method == experiment.method) & (rows.seed == experiment.seed)]
    assert own.empty
    [page] = write_report(ResultsFolder(results), tmp_path / "out")
    assert message.split(": ", 1)[1] in page.read_text()
    assert "1 of 2" in page.read_text()


def test_a_reduced_suite_says_so_everywhere(tmp_path: Path) -> None:
    plan = toy_plan("toy_offline", seeds=3, reduced={"seeds": 1})
    for run in plan.runs:
        execute([run], ResultsFolder(tmp_path / "results"), Options())
    plan.write(ResultsFolder(tmp_path / "results"))
    write_report(ResultsFolder(tmp_path / "results"), tmp_path / "out")
    for name in ("index.html", "report.md", "scores.csv", "curves.csv"):
        assert "seeds = 1 (full: 3)" in (tmp_path / "out" / "toy" / name).read_text(), name


def test_a_standing_protocol_says_its_version(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path / "results")
    for protocol in (3, None):
        toy_plan(title="t", protocol=protocol).write(results)
        [page] = write_report(results, tmp_path / "out")
        texts = page.read_text(), page.with_name("report.md").read_text()
        headings = ("<h1>t <small>protocol 3</small></h1>", "# toy, protocol 3: t\n")
        assert [heading in text for heading, text in zip(headings, texts, strict=True)] == 2 * [
            bool(protocol)
        ]


def test_a_report_before_any_run_is_done_says_so(tmp_path: Path) -> None:
    toy_plan().write(ResultsFolder(tmp_path / "results"))
    [page] = write_report(ResultsFolder(tmp_path / "results"), tmp_path / "out")
    assert "No run of this suite is finished yet." in page.read_text()


def test_printed_numbers_stand_beside_ours_only_at_their_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from o2obench.datasets.registry import Dataset
    from o2obench.planning.expand import read_suite
    from o2obench.planning.load import find_suite
    from o2obench.planning.schema import Selection
    from o2obench.report.paper_scores import beside, printed

    monkeypatch.setattr(Dataset, "present", True)
    monkeypatch.setattr(Dataset, "sha256", lambda self: "0" * 64)
    monkeypatch.setattr(Dataset, "admit", lambda self: [])
    name = "halfcheetah-medium-v2"
    table3 = read_suite(find_suite("doof_table3"), Selection(datasets=(name,)))
    found = {(row.algorithm, row.stage): row for row in beside(table3, [name])[name]}
    assert found["DOOF", "offline"].score == "70.5"
    assert found["DOOF", "off-300k"].score == "92.5"
    assert found["MOPO", "offline"].deviation == "4.2"
    assert any(row.doubtful for row in printed())
    longer = read_suite(find_suite("comou_fig4"), Selection(datasets=(name,)))
    assert {row.stage for row in beside(longer, [name])[name]} == {"offline"}, "100,000 steps are not 10,000"
    both = read_suite(find_suite("mujoco_all"), Selection(datasets=(name,)))
    assert beside(both, [name]) == beside(table3, [name]), "DOOF takes 10,000 steps there, too"
    small = read_suite(find_suite("doof_table3-small"), Selection(seeds=(0,)))
    assert beside(small, ["o2o:hopper-medium-replay-v0", "hopper-medium-replay-v2"]) == {}
    table3.write(ResultsFolder(tmp_path / "results"))
    (page,) = write_report(ResultsFolder(tmp_path / "results"), tmp_path / "out")
    assert "Printed in papers" in page.read_text()
    assert "DOOF" in (page.parent / "report.md").read_text()


def test_a_title_wider_than_its_figure_goes_on_in_a_second_line() -> None:
    plt = style.prepared()
    for what, lines in (("narrow", 1), ("a data set's very long name " * 2, 2)):
        figure, _ = plt.subplots(figsize=(6, 3))
        style.finish(figure, f"{what}   (n = 5 seeds; line: mean, band: least to greatest)")
        head = figure._suptitle.get_text().split("\n")
        assert len(head) == lines
        assert head[-1].endswith("(n = 5 seeds; line: mean, band: least to greatest)")
        assert figure._suptitle.get_window_extent().width <= figure.bbox.width
        plt.close(figure)
