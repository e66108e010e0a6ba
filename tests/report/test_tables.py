"""Summary and tables: marks, bold, hostile names; every figure by its name, twice the same bytes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from o2obench.analysis.inference import mean_over_seeds
from o2obench.analysis.scores import rectangle
from o2obench.analysis.statistics import aggregates, mean_curve
from o2obench.datasets.registry import find_dataset as find_data
from o2obench.datasets.statistics import mean_and_best
from o2obench.planning.plan import Plan
from o2obench.planning.report_items import USUAL_FIGURES
from o2obench.report import ReportOptions, answer, cells, tables, write_report, writers
from o2obench.report.format import interval, number
from o2obench.report.headline import headline
from o2obench.report.metrics import AREA, FINAL, at, metric_of
from o2obench.report.summary import Failures, MethodResult, Summary, summarise
from o2obench.runs.folder import ResultsFolder
from tests.helpers.folders import finish, paper_plan

DATASETS = ("hopper-medium-v2", "walker2d-medium-v2")


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, seeds: int, *algorithms: str) -> Summary:
    chosen = {"algorithms": algorithms or None, "datasets": DATASETS}
    plan = paper_plan("mujoco_all", monkeypatch, seeds=tuple(range(seeds)), **chosen)
    finish(plan, folder)
    return summarise(plan, ResultsFolder(folder))


def last_scores(plan: Plan, results: Path, method: str, dataset: str) -> list[float]:
    experiments = [one for one in plan.experiments if (one.method, one.dataset) == (method, dataset)]
    folders = [ResultsFolder(results).run(one.run) for one in experiments]
    files = [folder.evaluations.read_text().splitlines() for folder in folders]
    return [float(plan.scores[dataset].score(np.mean(json.loads(lines[-1])["returns"]))) for lines in files]


def test_numbers_come_from_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = made(tmp_path, monkeypatch, 2, "frozen", "comou", "doof")
    line = found.by_name["comou", DATASETS[0]]
    assert line.final == pytest.approx(last_scores(found.plan, tmp_path, "comou", DATASETS[0]))
    frozen = found.by_name["frozen", DATASETS[0]]
    beside = found.beside_control(line, FINAL)
    assert beside is not None
    assert beside.value == pytest.approx(np.mean(line.final) - np.mean(frozen.final))
    assert found.control_of(line) is frozen
    assert (found.reference, found.reference_of("comou")) == ("", "frozen"), (
        "no naive fine-tuning in this plan"
    )


def test_a_method_that_stops_interacting_is_compared_at_its_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(tmp_path, monkeypatch, 2, "comou", "doof")
    doof, comou = (found.by_name[name, DATASETS[0]] for name in ("doof", "comou"))
    mark = at(10_000)
    assert list(doof.of(mark).values()) == pytest.approx(list(doof.final))
    assert list(comou.of(mark).values()) != pytest.approx(list(comou.final))


def test_the_best_stands_first_and_the_others_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(tmp_path, monkeypatch, 5, "frozen", "comou", "moore")
    levels = {"frozen": 40.0, "comou": 90.0, "moore": 88.0}
    sway = (-1.0, 1.0, 0.0, -1.0, 1.0)

    def shifted(result: MethodResult) -> MethodResult:
        level, noise = levels.get(result.method, 0.0), 60.0 if result.method == "moore" else 1.0
        runs = [
            replace(run, values={**run.values, AREA: level + noise * sway[run.seed]}) for run in result.runs
        ]
        return replace(result, runs=tuple(runs))

    shown = replace(found, method_results=tuple(map(shifted, found.method_results)))
    table = answer.lead(shown, DATASETS[0])
    assert [row.method for row in table.rows] == ["comou", "moore", "frozen"]
    place = [column.name for column in table.columns].index(AREA)
    assert [row.cells[place].mark for row in table.rows] == ["best", "undecided", "lower"]
    assert [row.cells[place].sign for row in table.rows] == ["", "?", "\N{DOWNWARDS ARROW}"]
    [row, other] = tables.final(shown).rows
    assert {cell.mark for cell in row.cells[1:]} == {"best", "undecided", "lower"}
    alone = replace(shown, method_results=tuple(r for r in shown.method_results if r.dataset == DATASETS[1]))
    assert tables.final(alone).rows[0].cells == other.cells, "a data set changes no other row"


def test_failures_have_exact_intervals_and_diverged_runs_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"algorithms": ("frozen", "comou"), "datasets": DATASETS[:1]}
    plan = paper_plan("mujoco_all", monkeypatch, seeds=tuple(range(5)), **chosen)
    finish(plan, tmp_path)
    lost = next(one for one in plan.experiments if one.method == "comou" and one.seed == 3)
    folder = ResultsFolder(tmp_path).run(lost.run)
    rows = folder.evaluations.read_text().splitlines(keepends=True)
    folder.evaluations.write_text("".join(rows[: len(rows) // 2]) + rows[-1][:20])  # cut in a line
    folder.done.unlink()
    folder.fail("Diverged: the loss is NaN", diverged=True)
    found = summarise(plan, ResultsFolder(tmp_path))
    comou = found.by_name["comou", DATASETS[0]]
    assert (len(comou.runs), len(comou.diverged)) == (4, 1)
    assert len(comou.of(AREA)) == 4, "never among the means"
    collapsed = sum(comou.of("collapse").values())
    assert comou.failures == Failures(int(collapsed) + 1, 5)
    table = answer.lead(found, DATASETS[0])
    names = [column.name for column in table.columns]
    row = next(row for row in table.rows if row.method == "comou")
    both = row.cells[names.index("area, diverged as 0")]
    assert both.n == 5
    assert (both.value or 0) < (row.cells[names.index(AREA)].value or 0)
    assert row.cells[-1].text == f"{comou.failures.count} of 5"
    assert Failures(0, 5).interval[1] == pytest.approx(0.522, abs=1e-3)
    assert "comou on hopper-medium-v2, seed 3: comou: diverged: Diverged: the loss is NaN" in found.lacking


def test_the_headline_names_the_best_and_what_it_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(tmp_path, monkeypatch, 5, "frozen", "comou")
    best = max(found.comparison.scores, key=lambda name: found.comparison.scores[name].values.mean())
    text = headline(found)
    assert text.startswith(f"{best} ")
    assert f"{found.comparison.scores[best].values.mean():.1f}" in text
    assert "its training episodes scored" in text
    assert "(5 seeds on 2 data sets)" in text


def test_data_sets_that_show_one_run_are_one_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("hopper-medium-v2", "hopper-medium-replay-v2")
    chosen = {"algorithms": ("frozen", "mbpo"), "datasets": names}
    plan = paper_plan("mujoco_all", monkeypatch, seeds=tuple(range(5)), **chosen)
    finish(plan, tmp_path)
    found = summarise(plan, ResultsFolder(tmp_path)).comparison
    assert found.scores["mbpo"].clusters in ((0, 0), (1, 1))
    assert len(set(found.scores["frozen"].clusters)) == 2


@pytest.mark.slow
def test_every_usual_figure_is_drawn_twice_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = made(tmp_path / "results", monkeypatch, 5, "frozen", "naive")
    replace(found.plan, figures=tuple(f for f in USUAL_FIGURES if f != "ablation")).write(
        ResultsFolder(tmp_path / "results")
    )
    for name in ("a", "b"):
        write_report(
            ResultsFolder(tmp_path / "results"), tmp_path / name, options=ReportOptions(("html", "svg"))
        )
    a, b = (tmp_path / name / found.plan.suite for name in ("a", "b"))
    drawn = {file.stem.removeprefix("overall-").partition("-")[0] for file in a.glob("*.svg")}
    assert drawn == {*USUAL_FIGURES} - {"ablation", "diagnostics"} | ({"diagnostics"} & drawn)
    for file in a.iterdir():
        assert file.read_bytes() == (b / file.name).read_bytes(), file.name


HOSTILE = [
    "=cmd|' /C calc'!A0",
    "\\input{/etc/passwd}",
    "$x_{1$",
    "a & b % c # d",
    "x\x1b[31m\u202e",
    "a|b`c`<b>",
]


@pytest.mark.slow
def test_hostile_names_are_text_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = paper_plan(
        "mujoco_all", monkeypatch, seeds=(0, 1), algorithms=("frozen", "naive", "comou"), datasets=DATASETS
    )
    names = dict(
        zip(dict.fromkeys(experiment.method for experiment in plan.experiments), HOSTILE, strict=False)
    )
    extra = {method: HOSTILE[i] for i, method in enumerate(names)}
    plan = replace(
        plan,
        experiments=tuple(
            replace(experiment, method=extra[experiment.method]) for experiment in plan.experiments
        ),
    )
    finish(plan, tmp_path / "results")
    [page] = write_report(
        ResultsFolder(tmp_path / "results"),
        tmp_path,
        options=ReportOptions(("html", "md", "tex", "csv", "svg")),
    )
    rows = list(csv.reader(io.StringIO((page.parent / "scores.csv").read_text())))
    assert not any(cell[:1] in ("=", "@") for row in rows for cell in row)
    curves = list(csv.reader(io.StringIO((page.parent / "curves.csv").read_text())))
    assert not any(cell[:1] in ("=", "@") for row in curves for cell in row)
    text = (page.parent / "scores.tex").read_text()
    assert r"\input" not in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    assert "<b>" not in (page.parent / "report.md").read_text()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_in_a_table(name: str) -> None:
    value = cells.Value(name, 1.0)
    one = cells.Table("t", name, name, (cells.Column(name, text=True),), (cells.Row(name, name, (value,)),))
    tex = writers.latex([one], "t", (name,))
    read = [line for line in tex.splitlines() if not line.startswith("%")]
    assert r"\input{" not in "\n".join(read)
    assert "\x1b" not in tex + writers.markdown(one) + writers.tables_csv([one], (name,))
    assert "\n" not in writers.markdown(one).splitlines()[2]
    body = tex.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert body.count("&") == body.count(r"\&"), "no column comes from a name"
    assert body.count("$") == body.count(r"\$"), "no mathematics comes from a name"


def test_letters_beyond_ascii_are_kept_in_latex() -> None:
    names = ("Müller", "Mu\u0308ller", "β 0.5 Δt", "方法", "≥ 1 λ")
    rows = tuple(cells.Row("d", name, (cells.Value(name, 1.0),)) for name in names)
    tex = writers.latex([cells.Table("t", "t", "", (cells.Column("method", text=True),), rows)], "t", ())
    written = [line.removesuffix(r" \\") for line in tex.split(r"\midrule")[1].strip().splitlines()]
    assert written[:5] == ["Müller", "Müller", r"$\beta$ 0.5 $\Delta$t", "方法", r"$\geq$ 1 $\lambda$"]
    assert "% Holds ü 方 法:" in tex
    assert "?" not in tex


def test_data_sets_whose_names_differ_in_signs_only_have_figures_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = paper_plan(
        "mujoco_all", monkeypatch, seeds=(0, 1), algorithms=("frozen", "comou"), datasets=DATASETS
    )
    finish(plan, tmp_path / "results")
    alike = dict(zip(DATASETS, ("file:a b.hdf5", "file:a:b.hdf5"), strict=True))
    experiments = tuple(replace(one, dataset=alike[one.dataset]) for one in plan.experiments)
    scores = {alike[name]: reference for name, reference in plan.scores.items()}
    renamed = replace(plan, experiments=experiments, scores=scores, data={}, figures=("curves",))
    renamed.write(ResultsFolder(tmp_path / "results"))
    [page] = write_report(
        ResultsFolder(tmp_path / "results"), tmp_path, options=ReportOptions(("html", "svg"))
    )
    figures = sorted(file.name for file in page.parent.glob("curves-*.svg"))
    assert len(figures) == 2
    first, second = ((page.parent / name).read_bytes() for name in figures)
    assert first != second, "each data set its own"


def test_titles_and_names_are_text_in_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = paper_plan("mujoco_all", monkeypatch, seeds=(0,), algorithms=("frozen",), datasets=DATASETS[:1])
    plan = replace(plan, title="<b>loud</b> [link](http://example.invalid) *stars*")
    finish(plan, tmp_path / "results")
    write_report(ResultsFolder(tmp_path / "results"), tmp_path, options=ReportOptions(("md",)))
    first = (tmp_path / plan.suite / "report.md").read_text().splitlines()[0]
    assert first.endswith(r"&lt;b>loud&lt;/b> \[link\](http://example.invalid) \*stars\*")


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert number([-0.01], "{:+.1f}") == "0.0"
    assert number([-0.06], "{:+.1f}") == "-0.1"
    assert interval(mean_over_seeds([-0.01] * 5), "{:.1f}") == "0.0 [0.0, 0.0]"


def test_the_mean_over_seeds_is_that_of_the_aggregates() -> None:
    values = np.random.default_rng(0).normal(60, 15, 8)
    mine = mean_over_seeds(list(values))
    assert mine == aggregates(rectangle(("a", i, v) for i, v in enumerate(values)))["mean"]
    band = mean_curve(np.stack([values, values + 1.0], axis=1))
    assert band.low is not None
    assert band.high is not None
    assert (band.low[0], band.high[0]) == pytest.approx((mine.low, mine.high))
    assert band.high[1] == pytest.approx(band.high[0] + 1.0)


def test_plans_know_what_their_data_return(monkeypatch: pytest.MonkeyPatch) -> None:
    data = find_data("invertedpendulum-replay-v0")
    both = mean_and_best(data)
    assert both is not None
    assert both[0] < both[1] <= 1000.0
    monkeypatch.setattr(type(data), "load", lambda self: pytest.fail("known by its hash"))
    assert mean_and_best(data) == both


def test_marks_that_repeat_the_final_score_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(tmp_path, monkeypatch, 2, "frozen", "comou")
    heads = [column.name for column in tables.scores(found, DATASETS[0]).columns]
    assert "at 10,000 steps" in heads
    assert "at 100,000 steps" not in heads
    assert metric_of(at(10_000)).unit == "score"
