"""Tables and figures of papers: a suite that names one shows it, from folders alone, with what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from o2obench.analysis.results import diagnoses
from o2obench.errors import UserError
from o2obench.planning import expand as suites
from o2obench.planning.plan import read_plan
from o2obench.planning.report_items import FIGURES, TABLES, USUAL_FIGURES, USUAL_TABLES
from o2obench.report import tables, write_report
from o2obench.report.format import DASH
from o2obench.report.plots.curves import learns_apart
from o2obench.report.plots.paper_figures import PAPER_FIGURES, PaperFigure, paper_figures
from o2obench.report.plots.registry import EACH, OVERALL
from o2obench.report.plots.training_logs import relative_error
from o2obench.report.summary import summarise
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.spec import digest
from o2obench.util.config import read_yaml
from tests.conftest import environment
from tests.helpers.folders import diagnosed, finish, paper_plan
from tests.helpers.suites import toy_plan

SMALL = "o2o:hopper-medium-replay-v0"


def texts(paper_figure: PaperFigure) -> list[tuple[str, ...]]:
    return [tuple(cell.text for cell in row.cells) for row in paper_figure.table.rows]


# ---- how a suite asks -----------------------------------------------------------------------------------


def test_every_name_has_its_maker() -> None:
    assert {*EACH, *OVERALL, *PAPER_FIGURES} >= set(FIGURES)
    assert {*tables.TABLES, *tables.EACH, *PAPER_FIGURES} == set(TABLES)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("{figures: [curves, explorr]}", "report.figures.1: explorr is not known; did you mean explorer?"),
        ("{tables: [distance_unifrm]}", "report.tables.0: distance_unifrm is not known; did you mean dist"),
        ("{figure: [curves]}", "report.figure: unknown key; did you mean figures?"),
    ],
)
def test_an_unknown_name_is_refused_where_it_stands(tmp_path: Path, asked: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"algorithms: [toy_tune]\ndatasets: [pointmass-mixed-v0]\nreport: {asked}\n")
    with pytest.raises(UserError) as refused:
        suites.expand(read_yaml(file), "mine")
    assert message in str(refused.value)
    assert "mine.yaml:3:" in str(refused.value)


def test_the_plan_keeps_what_was_asked_and_what_is_not_known_is_refused(tmp_path: Path) -> None:
    plan = toy_plan("toy_tune", report={"figures": ["curves"], "tables": ["kinds", "scores"]})
    file = plan.write(ResultsFolder(tmp_path))
    assert (read_plan(file).figures, read_plan(file).tables) == (("curves",), ("kinds", "scores"))
    value = json.loads(file.read_text())
    del value["sha256"]
    usual = {**value, "figures": [*USUAL_FIGURES], "tables": USUAL_TABLES}
    file.write_text(json.dumps({**usual, "sha256": digest(usual)}))
    assert (read_plan(file).figures, read_plan(file).tables) == (tuple(USUAL_FIGURES), USUAL_TABLES)
    strange = {**value, "tables": ["stories"]}
    file.write_text(json.dumps({**strange, "sha256": digest(strange)}))
    with pytest.raises(UserError, match="stories is not known"):
        read_plan(file)


@pytest.mark.parametrize("small", ["", "-small"])
def test_the_papers_suites_ask_for_their_own(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {
        "doof_fig3_explorer": {"explorer"},
        "doof_table2_distance": {"distance_uniform"},
        "doof_table6_distance": {"distance_rollout"},
        "doof_table7": {"kinds"},
        "moore_fig4_uncertainty": {"uncertainty"},
    }
    for name, own in asked.items():
        data = () if small else ("hopper-medium-replay-v2",)
        plan = paper_plan(f"{name}{small}", monkeypatch, seeds=(0,), datasets=data)
        assert {*plan.figures, *plan.tables} - {*USUAL_FIGURES, *USUAL_TABLES} == own, name


# ---- DOOF ------------------------------------------------------------------------------------------------


def test_the_explorer_beside_the_offline_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = paper_plan("doof_fig3_explorer-small", monkeypatch, seeds=(0, 1))
    finish(plan, tmp_path / "results")
    found = paper_figures(summarise(plan, ResultsFolder(tmp_path / "results")))["explorer"]
    assert [row[1] for row in texts(found)] == [f"DOOF ratio {ratio}" for ratio in (0.0, 0.25, 0.5, 1.0, 2.0)]
    experiment = next(one for one in plan.experiments if one.method == "DOOF ratio 0.25")
    folder = ResultsFolder(tmp_path / "results").run(experiment.run)
    played = [json.loads(line) for line in folder.episodes.read_text().splitlines()]
    own = [row["return"] for row in played if row["stage"] == "collect"]
    start = json.loads(folder.evaluations.read_text().splitlines()[0])["returns"]
    one = found.seeds[(found.seeds.method == experiment.method) & (found.seeds.seed == experiment.seed)].iloc[
        0
    ]
    score = plan.scores[SMALL].score
    assert one.episodes == len(own) == 10
    assert one.explorer == pytest.approx(score(sum(own) / len(own)))
    assert one.offline == pytest.approx(score(sum(start) / len(start)))
    assert one.greedy == pytest.approx(45.0 + 3.0 * experiment.seed - 2.5), "judged by its mean action"
    without = found.seeds[found.seeds.method == "DOOF ratio 0.0"]
    assert without.greedy.tolist() == without.offline.tolist(), "it collects with the offline policy"

    assert texts(found)[0][4] == "0.0 (0.0 to 0.0)", "its change"
    replace(plan, figures=("explorer",)).write(ResultsFolder(tmp_path / "results"))
    (page,) = write_report(ResultsFolder(tmp_path / "results"), tmp_path / "out")
    assert "What the explorer returns" in page.read_text()
    assert {"explorer.csv", "explorer.svg", "explorer.pdf", "explorer.png"} <= {
        file.name for file in page.parent.iterdir()
    }
    assert (
        "![What the explorer returns (DOOF Fig. 3)](explorer.png)" in (page.parent / "report.md").read_text()
    )
    (again,) = write_report(ResultsFolder(tmp_path / "results"), tmp_path / "again")
    for file in page.parent.iterdir():
        assert file.read_bytes() == (again.parent / file.name).read_bytes(), file.name


def test_edited_episodes_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = paper_plan("doof_fig3_explorer-small", monkeypatch, seeds=(0,))
    finish(plan, tmp_path)
    file = ResultsFolder(tmp_path).run(plan.experiments[0].run).episodes
    file.write_text(file.read_text().replace("1", "2"))
    found = paper_figures(summarise(plan, ResultsFolder(tmp_path)))["explorer"]
    assert [row[1] for row in texts(found)] == [f"DOOF ratio {r}" for r in (0.25, 0.5, 1.0, 2.0)]


@pytest.mark.slow
def test_errors_before_and_after_as_diagnose_kept_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = paper_plan("doof_table2_distance-small", monkeypatch, seeds=(0, 1))
    finish(plan, tmp_path / "results")
    nothing = paper_figures(summarise(plan, ResultsFolder(tmp_path / "results")))["distance_uniform"]
    assert not nothing.table.rows
    group = plan.experiments[0].run.rpartition("/")[0]
    assert nothing.commands[0] == f"o2obench diagnose results/{group}/seed-{{0,1}}"
    assert len(nothing.commands) == 4, "one for each ratio"
    (page,) = write_report(ResultsFolder(tmp_path / "results"), tmp_path / "out")
    assert nothing.commands[0] in page.read_text()
    assert "is not diagnosed" in (page.parent / "report.md").read_text()
    diagnosed(plan, tmp_path / "results", before=2.0, after=0.5)
    found = paper_figures(summarise(plan, ResultsFolder(tmp_path / "results")))["distance_uniform"]
    assert not found.table.left_out
    assert "frozen" in {experiment.method for experiment in plan.experiments if experiment.automatic}
    assert "frozen" not in {*found.seeds.method, *(row[1] for row in texts(found))}, "nobody asked for it"
    (again,) = write_report(ResultsFolder(tmp_path / "results"), tmp_path / "out")
    assert "fine-tuned model" in (again.parent / "distance_uniform.svg").read_text()
    assert texts(found)[0] == (
        *(SMALL, "DOOF ratio 0.25", "2", "0.525"),
        *("0.26 (0.25 to 0.28)", "0.26 (0.25 to 0.28)", DASH, DASH, "2"),
    )


def test_a_diagnosis_of_another_checkpoint_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = paper_plan("doof_table6_distance-small", monkeypatch, seeds=(0,))
    finish(plan, tmp_path)
    diagnosed(plan, tmp_path)
    assert diagnoses(plan, ResultsFolder(tmp_path))[1] == [], (
        "the checkpoint was removed: nothing speaks against it"
    )
    folder = ResultsFolder(tmp_path).run(plan.experiments[0].run)
    folder.done.unlink()
    folder.finish("00000001")
    target = folder.checkpoint / "00000001"
    target.mkdir(parents=True)
    model: dict[str, Any] = {"values": {"agent": {"model": {}}}}
    (target / "manifest.json").write_text(json.dumps({"sha256": "another", **model}))
    assert diagnoses(plan, ResultsFolder(tmp_path))[1] == [plan.experiments[0]]
    (target / "manifest.json").write_text(json.dumps({"sha256": "a", **model}))
    assert diagnoses(plan, ResultsFolder(tmp_path))[1] == []
    folder.diagnosis.unlink()
    assert diagnoses(plan, ResultsFolder(tmp_path))[1] == [plan.experiments[0]]
    (target / "manifest.json").write_text(json.dumps({"sha256": "a", "values": {"agent": {}}}))
    assert diagnoses(plan, ResultsFolder(tmp_path))[1] == [], "without a model there is nothing to diagnose"


def test_printed_ratios_stand_beside_ours_at_the_full_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = paper_plan("doof_table6_distance", monkeypatch, datasets=("hopper-medium-v2",))
    finish(plan, tmp_path)
    diagnosed(plan, tmp_path)
    first = texts(paper_figures(summarise(plan, ResultsFolder(tmp_path)))["distance_rollout"])[0]
    assert first[-3:] == ("0.18", "0.70", "5"), "0.172 / 0.962 and 6.119 / 8.770"


def test_means_over_tasks_are_paired_and_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (*(f"{task}-random-v2" for task in ("halfcheetah", "hopper", "walker2d")), "hopper-medium-v2")
    plan = paper_plan("doof_table7", monkeypatch, datasets=names, algorithms=("doof",))
    lost = next(
        experiment
        for experiment in plan.experiments
        if (experiment.method, experiment.dataset) == ("DOOF", "hopper-random-v2")
    )
    finish(plan, tmp_path, without=(lost.run,))
    made = summarise(plan, ResultsFolder(tmp_path))
    found = paper_figures(made)["kinds"]
    of = {(row[0], row[2]): row for row in texts(found)}
    assert of["random", "DOOF"][1] == "halfcheetah, hopper, walker2d"
    assert of["random", "DOOF"][-1] == "4 of 5"
    assert (of["medium", "DOOF"][1], of["medium", "DOOF"][-1]) == ("hopper", "5")
    assert found.table.left_out == ("DOOF, random: not all seeds of hopper-random-v2 are finished",)
    kept = found.seeds[(found.seeds.kind == "random") & (found.seeds.method == "DOOF")]
    assert kept.seed.tolist() == [1, 2, 3, 4], "a seed without one of its tasks is left out"
    single = [line for line in made.method_results if line.method == "DOOF" and "random" in line.dataset]
    finals = [line.final[line.seeds.index(2)] for line in single]
    assert kept[kept.seed == 2].final.item() == pytest.approx(sum(finals) / 3)
    said = {(row.algorithm, row.dataset, row.stage): row.score for row in found.printed}
    assert said["DOOF", "random", "offline"] == "24.5"
    assert said["DOOF", "random", "off-300k"] == "34.7"
    assert "medium" not in {row.dataset for row in found.printed}, "theirs is a mean over three tasks"
    assert ("IQL", "random", "offline") not in said, "lost in the source, recomputed, not printed"


# ---- MOORe -----------------------------------------------------------------------------------------------


def test_the_relative_error_is_a_change_per_step_over_a_reward_per_step() -> None:
    rows = pd.DataFrame(
        [
            ("m", 0, step, "uncertainty/mean", u)
            for step, u in ((0, 0.5), (250, 0.3), (1250, 0.2), (3500, 0.6))
        ],
        columns=["method", "seed", "env_steps", "name", "value"],
    )
    played = pd.DataFrame(
        [("m", 0, 400, 800.0, 400), ("m", 0, 1000, 600.0, 600), ("m", 0, 2000, 4000.0, 1000)],
        columns=["method", "seed", "env_steps", "return", "length"],
    )
    found = relative_error(rows, played)
    assert found.value.tolist() == pytest.approx([0.2 / 1.4, 0.1 / 4.0, 0.4 / 4.0]), "1,400 in 1,000 steps"
    assert relative_error(rows, played[:0]).empty


def test_how_the_penalty_fades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = paper_plan("moore_fig4_uncertainty-small", monkeypatch, seeds=(0,))
    finish(plan, tmp_path / "results")
    (page,) = write_report(ResultsFolder(tmp_path / "results"), tmp_path / "out")
    assert "How the penalty fades (MOORe Fig. 4)" in page.read_text()
    svg = (page.parent / "uncertainty-o2o-hopper-medium-replay-v0.svg").read_text()
    assert "reward per step" in svg
    assert "median" in svg


# ---- curves over updates ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_curves_stand_over_updates_where_a_method_learns_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = paper_plan("doof_table7-small", monkeypatch, seeds=(0,))
    together = paper_plan("moore_fig4_uncertainty-small", monkeypatch, seeds=(0,))
    assert learns_apart(apart, {"DOOF"})
    assert not learns_apart(apart, {"frozen"})
    assert not learns_apart(together, {"moore"})
    finish(apart, tmp_path / "results")
    (page,) = write_report(ResultsFolder(tmp_path / "results"), tmp_path / "out")
    drawn = "".join(file.read_text() for file in page.parent.glob("curves-*.svg"))
    assert "updates after the online start" in drawn
    assert "doof_control</text>" in drawn, "which takes no step"


@pytest.mark.slow
def test_a_report_computes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh process: no torch, no simulator."""
    plan = replace(paper_plan("doof_table2_distance-small", monkeypatch, seeds=(0,)), figures=())
    finish(plan, tmp_path / "results")
    diagnosed(plan, tmp_path / "results")
    code = (
        "import sys; from pathlib import Path; from o2obench.report import write_report; "
        "from o2obench.runs.folder import ResultsFolder; "
        "write_report(ResultsFolder(Path('results')), Path('out')); "
        "print([name for name in ('torch', 'mujoco', 'gymnasium') if name in sys.modules])"
    )
    done: Any = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert done.stdout.strip() == "[]", done.stderr
