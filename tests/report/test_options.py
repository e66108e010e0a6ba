"""What a reader asks for beyond the suite: curves of others, another reference, all pairs; made only once."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from o2obench.analysis.external import ends, read_external, shared_curve
from o2obench.errors import UserError
from o2obench.planning.plan import Plan
from o2obench.report import ReportOptions, cache, page, write_report
from o2obench.report.options import DEFAULT
from o2obench.report.summary import summarise
from o2obench.runs.folder import ResultsFolder
from tests.helpers.folders import finish, paper_plan

DATASETS = ("hopper-medium-v2", "walker2d-medium-v2")
TEXT = ("csv", "md")


def planned(monkeypatch: pytest.MonkeyPatch, seeds: int = 3) -> Plan:
    return paper_plan(
        *("mujoco_all", monkeypatch),
        seeds=tuple(range(seeds)),
        algorithms=("frozen", "naive", "comou"),
        datasets=DATASETS,
    )


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Path]:
    plan = replace(planned(monkeypatch), figures=("curves",))
    finish(plan, tmp_path / "results")
    return plan, tmp_path / "results"


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text())))


# ---- curves of others ------------------------------------------------------------------------------------

THEIRS = "env_steps,score,seed,dataset\n" + "".join(
    f"{step},{10 * seed + step / 1000},{seed},hopper-medium-v2\n"
    for seed in (3, 7)
    for step in (0, 50_000, 10_000)
)


def test_curves_of_others_stand_beside_ours_and_never_in_them(
    grid: tuple[Plan, Path], tmp_path: Path
) -> None:
    plan, results = grid
    file = tmp_path / "theirs.csv"
    file.write_text(THEIRS)
    for name, options in (("without", DEFAULT), ("with", ReportOptions(external=(f"WSRL={file}",)))):
        write_report(
            *(ResultsFolder(results), tmp_path / name),
            options=replace(options, formats=(*TEXT, "html", "svg")),
        )
    without, beside = (tmp_path / name / plan.suite for name in ("without", "with"))
    for name in ("scores.csv", "runs.csv", "curves.csv"):
        assert (without / name).read_bytes() == (beside / name).read_bytes(), name
    ours = rows_of(without / "tables.csv")
    theirs = [row for row in rows_of(beside / "tables.csv") if row not in ours]
    assert {row["table"] for row in theirs} == {"beside"}
    assert {row["method"] for row in theirs} == {"WSRL"}
    said = {row["metric"]: float(row["value"]) for row in theirs if row["unit"] == "score"}
    assert said["last"] == pytest.approx(50 + 10 * 5)
    assert said["at 10,000 steps"] == pytest.approx(10 + 10 * 5), "rows come in any order"
    svg = (beside / "curves-hopper-medium-v2.svg").read_text()
    assert "WSRL (not ours, n = 2)" in svg
    assert "WSRL" not in (beside / "curves-walker2d-medium-v2.svg").read_text()
    text = (beside / "index.html").read_text()
    assert "Curves of others" in text
    assert "theirs.csv, SHA-256" in text
    assert f"--with WSRL={file}" in text


def test_a_mark_that_not_all_of_their_seeds_reached_has_no_score(
    grid: tuple[Plan, Path], tmp_path: Path
) -> None:
    plan, results = grid
    file = tmp_path / "theirs.csv"
    file.write_text(THEIRS.replace("50000,80.0,3", "9000,80.0,3").replace("10000,40.0,3", "8000,40.0,3"))
    write_report(ResultsFolder(results), tmp_path, options=ReportOptions(TEXT, external=(f"x={file}",)))
    named = {
        row["metric"] for row in rows_of(tmp_path / plan.suite / "tables.csv") if row["table"] == "beside"
    }
    assert named == {"env steps"}, "nor has the end, which is another for each"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "env_steps,seed,dataset\n0,0,hopper-medium-v2\n",
            ":1: no column score; it needs env_steps, score, seed",
        ),
        ("env_steps,score,seed\n0,1,0\n", ":1: no column dataset; it needs env_steps, score, seed, dataset"),
        (THEIRS.replace("7,hop", "7.5,hop", 1), ":5: seed: 7.5 is not a whole number from 0 on"),
        (THEIRS.replace("0,30", "-1,30", 1), ":2: env_steps: -1 is not a whole number from 0 on"),
        (THEIRS.replace("30.0", "nan"), ":2: score: nan is not a finite normalised score"),
        (THEIRS.replace("30.0", ""), ":2: score: nothing is not a finite normalised score"),
        (
            THEIRS.replace("3,hopper", "3,hoper", 1),
            ":2: dataset: hoper-medium-v2 is in no suite here; did you",
        ),
        (THEIRS.replace("0,30.0", "10000,30.0", 1), "step 10,000 of seed 3 stands there twice"),
        ("env_steps,score,seed,dataset\n", "holds no evaluation"),
        ("\x00\x01\n", "no column"),
        (THEIRS.replace("30.0", "30.0,9", 1), ":2: has more cells than the header"),
        ("env_steps,score,seed,dataset,score\n", ":1: column score stands there twice"),
        (THEIRS.replace("30.0", "1_0", 1), ":2: score: 1_0 is not a finite"),
    ],
)
def test_files_of_others_are_refused_by_line(
    grid: tuple[Plan, Path], tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "theirs.csv"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        write_report(ResultsFolder(grid[1]), tmp_path / "out", options=ReportOptions(external=(f"x={file}",)))
    assert message in str(refused.value)
    assert str(file) in str(refused.value)
    assert not (tmp_path / "out").exists(), "before anything was written"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("theirs.csv",), "write it as name=file.csv"),
        (("x=nowhere.csv",), "cannot be read: No such file or directory"),
        (("CoMoU (online)=a.csv",), "is an algorithm of the suite"),
    ],
)
def test_names_of_others_are_refused(grid: tuple[Plan, Path], asked: tuple[str, ...], message: str) -> None:
    plan, _ = grid
    own = next(experiment.method for experiment in plan.experiments if experiment.algorithm == "comou")
    asked = tuple(text.replace("CoMoU (online)", own) for text in asked)
    with pytest.raises(UserError, match=message):
        read_external(asked, [plan])


def test_one_data_set_needs_no_column_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(monkeypatch)
    plan = replace(
        plan,
        experiments=tuple(experiment for experiment in plan.experiments if experiment.dataset == DATASETS[0]),
    )
    file = tmp_path / "theirs.csv"
    file.write_text("\N{ZERO WIDTH NO-BREAK SPACE}seed,env_steps,score\n0,0,5\n0,1000,6.5\n")
    [external] = read_external([f"x={file}"], [plan])
    assert external.on(DATASETS[0]).score.tolist() == [5.0, 6.5]
    with pytest.raises(UserError, match="x is named twice"):
        read_external([f"x={file}"] * 2, [plan])


def test_scores_at_different_steps_are_never_averaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(monkeypatch)
    plan = replace(plan, experiments=tuple(e for e in plan.experiments if e.dataset == DATASETS[0]))
    file = tmp_path / "theirs.csv"
    file.write_text("seed,env_steps,score\n0,0,10\n0,60,16\n1,0,11\n1,60,17\n2,0,12\n2,20,14\n")
    rows = read_external([f"x={file}"], [plan])[0].on(DATASETS[0])
    assert ends(rows) == [], "one of them ends earlier"
    assert ends(rows, 30) == []
    assert ends(rows, 10) == pytest.approx([11.0, 12.0, 13.0]), "the line between two evaluations"
    assert ends(rows[rows.seed < 2]) == [16.0, 17.0]


def test_a_curve_that_goes_on_longer_is_cut_where_ours_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn to its end it would press ours flat."""
    plan = planned(monkeypatch)
    plan = replace(plan, experiments=tuple(e for e in plan.experiments if e.dataset == DATASETS[0]))
    file = tmp_path / "theirs.csv"
    file.write_text("seed,env_steps,score\n0,0,10\n0,60,16\n0,1000,900\n1,0,12\n1,60,18\n1,1000,900\n")
    rows = read_external([f"x={file}"], [plan])[0].on(DATASETS[0])
    steps, scores = shared_curve(rows, 30)
    assert steps.tolist() == [0, 30]
    assert scores.tolist() == [[10, 13], [12, 15]]
    assert shared_curve(rows, 1000)[0].tolist() == [0, 60, 1000]
    assert shared_curve(rows, 60)[0].tolist() == [0, 60]


def test_scores_that_look_like_shares_are_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(monkeypatch)
    plan = replace(plan, experiments=tuple(e for e in plan.experiments if e.dataset == DATASETS[0]))
    file = tmp_path / "theirs.csv"
    for scores, doubt in (((0.2, 0.9), "ours are times 100"), ((0.2, 9.0), "")):
        file.write_text("seed,env_steps,score\n" + "".join(f"0,{i},{s}\n" for i, s in enumerate(scores)))
        assert (read_external([f"x={file}"], [plan])[0].doubt() != "") == bool(doubt)


@pytest.mark.parametrize(
    "text",
    [
        "seed;env_steps;score\n0;0;5\n0;1000;6.5\n",
        "seed\tenv_steps\tscore\n0\t0\t5\n0\t1000\t6.5\n",
        "Seed, Env_Steps, Score\n0,0.0,5\n0, 1000.0, 6.5\n",
    ],
)
def test_usual_ways_to_write_a_csv_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    plan = planned(monkeypatch)
    plan = replace(plan, experiments=tuple(e for e in plan.experiments if e.dataset == DATASETS[0]))
    file = tmp_path / "theirs.csv"
    file.write_text(text)
    [external] = read_external([f"x={file}"], [plan])
    assert external.on(DATASETS[0])[["env_steps", "score"]].to_numpy().tolist() == [[0, 5.0], [1000, 6.5]]


# ---- who is compared with whom ---------------------------------------------------------------------------


def test_others_are_compared_with_whom_a_reader_names(grid: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, results = grid
    assert summarise(plan, ResultsFolder(results)).reference not in ("frozen", None)
    write_report(ResultsFolder(results), tmp_path, options=ReportOptions(TEXT, reference="frozen"))
    text = (tmp_path / plan.suite / "report.md").read_text()
    assert "### Against frozen" in text
    with pytest.raises(UserError, match="--reference frozn: no suite here has it; did you mean frozen"):
        write_report(ResultsFolder(results), tmp_path, options=ReportOptions(TEXT, reference="frozn"))


def test_all_pairs_agree_with_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(planned(monkeypatch, 5), figures=())
    finish(plan, tmp_path / "results")
    write_report(
        ResultsFolder(tmp_path / "results"),
        tmp_path,
        options=ReportOptions(TEXT, reference="frozen", pairs=True),
    )
    rows = rows_of(tmp_path / plan.suite / "tables.csv")
    methods = [one for one in dict.fromkeys(one.method for one in plan.experiments) if one != "frozen"]
    against = {
        row["method"]: row for row in rows if row["table"] == "improvement" and row["metric"] == "difference"
    }
    pairs = [row for row in rows if row["table"] == "pairs" and row["metric"] == "difference"]
    assert len(pairs) == len(methods) * (len(methods) + 1) / 2
    assert {row["method"] for row in pairs} <= {"frozen", *methods}
    first = [float(row["value"]) for row in pairs if row["method"] == "frozen"]
    assert sorted(first) == pytest.approx(sorted(-float(against[method]["value"]) for method in methods))


# ---- made once -------------------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_made_again(
    grid: tuple[Plan, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, results = grid
    out, made = tmp_path / "out", list[str]()
    write = page.write_page

    def counted(*arguments: Any) -> None:
        made.append("made")
        write(*arguments)

    monkeypatch.setattr(page, "write_page", counted)

    def again(formats: tuple[str, ...] = TEXT) -> int:
        before = len(made)
        write_report(ResultsFolder(results), out, options=ReportOptions(formats))
        return len(made) - before

    def content() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted((out / plan.suite).iterdir())}

    assert again() == 1
    first = content()
    assert again() == 0
    (out / plan.suite / cache.NAME).unlink()
    assert again() == 1, "what notes it can be deleted"
    assert content() == first, "without changing a byte"
    assert again(("csv",)) == 1, "other formats"
    assert again() == 1
    (out / plan.suite / "scores.csv").write_text("edited")
    assert again() == 1, "an output was edited"
    assert content() == first
    folder = ResultsFolder(results).run(plan.experiments[0].run)
    with open(folder.timings, "a") as file:
        file.write('{"seconds": 5, "parts": {}}\n')
    assert again() == 1, "what a run cost"
    (folder.path / "notes.txt").write_text("mine")
    assert again() == 1, "a foreign file"
    assert "notes.txt" in (out / plan.suite / "report.md").read_text()
    (folder.path / "empty").mkdir()
    assert again() == 1, "a foreign folder, though it is empty"
    (out / plan.suite / "mine").mkdir()
    assert again() == 0, "a folder of the reader's own beside the page"
    folder.evaluations.write_bytes(folder.evaluations.read_bytes().replace(b"1", b"2", 1))
    assert again() == 1, "a run's files"
    assert "was changed after the run was finished" in (out / plan.suite / "report.md").read_text()
    folder.done.unlink()
    assert again() == 1, "a run's state"
    monkeypatch.setattr(cache, "_program", lambda: ["another version"])
    assert again() == 1, "the program"
    assert again() == 0
