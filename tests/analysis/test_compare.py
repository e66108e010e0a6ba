"""Comparisons: differences are paired, what makes them meaningless is refused, few seeds give no verdict."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from o2obench.analysis.compare import ALL, Choice, Comparison, Row, compare, verdict
from o2obench.analysis.diff import difference
from o2obench.errors import UserError
from o2obench.planning.plan import Plan, read_plan
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.spec import DataSource
from tests.conftest import Command, environment
from tests.helpers.folders import finish, paper_plan
from tests.helpers.suites import toy_plan

STEPS = 1000


def plan(seeds: int = 6, **extra: Any) -> Plan:
    return toy_plan("toy_offline", "toy_tune", seeds=seeds, steps=STEPS, **extra)


def rewrite(folder: RunFolder, change: Callable[[dict[str, Any]], None], first: int = 0) -> None:
    """Change the rows of evaluations.jsonl from ``first`` on, and publish the run again."""
    rows = [json.loads(line) for line in folder.evaluations.read_text().splitlines()]
    for row in rows[first:]:
        change(row)
    folder.evaluations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.done.unlink()
    folder.finish()


def lower(results: Path, by: float, algorithm: str = "toy_tune", noise: float = 0.0) -> None:
    """Lower the scores of a method after its first row, each seed a little differently."""
    found = read_plan(results / "plans" / "toy.json")
    for experiment in (experiment for experiment in found.experiments if experiment.algorithm == algorithm):
        refs = found.scores[experiment.dataset]
        loss = (by + noise * (-1) ** experiment.seed) / 100 * (refs.ref_max - refs.ref_min)

        def change(row: dict[str, Any], loss: float = loss) -> None:
            row["returns"] = [value - loss for value in row["returns"]]

        rewrite(ResultsFolder(results).run(experiment.run), change, first=1)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal folders of six seeds."""
    finish(plan(), tmp_path / "a")
    return tmp_path / "a", Path(shutil.copytree(tmp_path / "a", tmp_path / "b"))


def row(found: Comparison, method: str, measure: str = "final score", dataset: str = "") -> Row:
    pair = next(pair for pair in found.pairs if pair.b.method == method)
    return next(r for r in pair.rows if r.measure == measure and dataset in ("", r.dataset))


def test_equal_folders_differ_in_nothing(two: tuple[Path, Path]) -> None:
    found = compare(ResultsFolder(two[0]), ResultsFolder(two[1]), Choice())
    assert [pair.b.method for pair in found.pairs] == ["toy_offline", "toy_tune"]
    for pair in found.pairs:
        assert pair.notes == ("both sides are the same computation (equal identity)",)
        assert not pair.unpaired
        for one in pair.rows:
            assert (one.difference.value, one.difference.low, one.difference.n) == (0.0, 0.0, 6)
    assert not found.worse
    assert {one.measure for one in found.pairs[0].rows} == {"final score"}, "what never interacts has an end"
    assert [pair.decision.verdict for pair in found.pairs] == ["no verdict", "same"]
    assert found.pairs[0].decision.why == "there is no area on both sides"


def test_differences_are_paired_and_a_regression_is_found(two: tuple[Path, Path]) -> None:
    lower(two[1], by=5.0, noise=1.0)
    found = compare(ResultsFolder(two[0]), ResultsFolder(two[1]), Choice())
    worse = row(found, "toy_tune")
    assert worse.difference.value == pytest.approx(-5.0)
    assert [b - a for *_, a, b in worse.by_run] == pytest.approx([-6.0, -4.0] * 3)
    assert np.mean([a for *_, a, _ in worse.by_run]) == pytest.approx(worse.a)
    assert worse.difference.low is not None
    assert worse.difference.high is not None
    theirs = scipy.stats.ttest_1samp([-6.0, -4.0] * 3, 0).confidence_interval()
    assert (worse.difference.low, worse.difference.high) == pytest.approx(tuple(theirs))
    [pair] = found.worse
    assert (pair.b.method, pair.decision.measure) == ("toy_tune", "area")
    assert "toy_tune: worse by area" in "\n".join(verdict(found))
    back = compare(ResultsFolder(two[1]), ResultsFolder(two[0]), Choice())
    assert [pair.decision.verdict for pair in back.pairs] == ["no verdict", "not worse"]


def test_another_measure_decides_and_a_margin_is_tolerated(two: tuple[Path, Path]) -> None:
    lower(two[1], by=60.0, noise=1.0)
    folders = (ResultsFolder(two[0]), ResultsFolder(two[1]))
    only = Choice(algorithms=("toy_tune",), measures=("final score", "collapse"))
    found = compare(*folders, replace(only, decide="final score"))
    assert [one.measure for one in found.pairs[0].rows] == ["final score", "collapse"]
    assert row(found, "toy_tune", "collapse").b == 1.0
    assert len(found.worse) == len(compare(*folders, replace(only, decide="collapse")).worse) == 1
    tolerant = compare(*folders, replace(only, decide="final score", margin=65.0))
    assert (tolerant.worse, tolerant.pairs[0].decision.verdict) == ([], "not worse")
    assert "worse by more than 65" in verdict(tolerant)[-1]
    for wrong, message in (
        (replace(only, decide="final"), "--decide final: not known; did you mean final score"),
        (replace(only, margin=-1.0), "--margin -1: a finite number of 0 or more"),
    ):
        with pytest.raises(UserError, match=message):
            compare(*folders, wrong)


def test_a_steady_loss_without_spread_is_decided_by_its_sign(two: tuple[Path, Path]) -> None:
    lower(two[1], by=5.0)
    [pair] = compare(ResultsFolder(two[0]), ResultsFolder(two[1]), Choice()).worse
    assert pair.decision.p == pytest.approx(0.0, abs=1e-6)


def test_every_method_that_is_looked_at_makes_each_verdict_stricter(tmp_path: Path) -> None:
    rates = {"toy_tune": {"rate": [0.1, 0.2, 0.3, 0.4], "label": "rate {rate}"}}
    finish(toy_plan(rates, seeds=6, steps=STEPS), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    lower(tmp_path / "b", by=1.0, noise=1.1)
    folders = (ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "b"))
    alone = compare(*folders, Choice(algorithms=("rate 0.1",))).pairs[0].decision
    among = compare(*folders, Choice()).pairs[0].decision
    assert alone.p is not None
    assert (alone.verdict, among.verdict) == ("worse", "not worse")
    assert among.p == pytest.approx(4 * alone.p)


def test_below_five_seeds_there_is_no_verdict(tmp_path: Path) -> None:
    finish(plan(4), tmp_path / "a")
    finish(plan(4), tmp_path / "b")
    lower(tmp_path / "b", by=50.0)
    found = compare(ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "b"), Choice())
    assert row(found, "toy_tune").difference.value == pytest.approx(-50.0)
    assert not found.worse
    assert len(found.undecided) == 2
    assert verdict(found)[1] == "toy_tune: no verdict by area (fewer than 5 common seeds, 4 seeds)"


def test_two_labels_of_one_folder(tmp_path: Path) -> None:
    rates = {"toy_tune": {"rate": [0.1, 0.2], "label": "rate {rate}"}}
    finish(toy_plan(rates, seeds=5, steps=STEPS), tmp_path / "a")
    choice = Choice(of="rate 0.2", against="rate 0.1")
    [pair] = compare(ResultsFolder(tmp_path / "a"), None, choice).pairs
    assert (pair.a.method, pair.b.method) == ("rate 0.1", "rate 0.2")
    assert pair.notes == ("option rate: 0.1 in A, 0.2 in B",)
    assert pair.rows[0].difference.low is not None
    for wrong, message in (
        (Choice(), "one folder needs two labels"),
        (replace(choice, against="rate 0.2"), "one folder needs two labels"),
        (replace(choice, of="rate 0.3"), "--of rate 0.3: no such label .*did you mean rate 0.2?"),
        (replace(choice, algorithms=("toy",), of="", against=""), "one folder needs"),
        (replace(choice, measures=("final",)), "--measures final: not known"),
    ):
        with pytest.raises(UserError, match=message):
            compare(ResultsFolder(tmp_path / "a"), None, wrong)
    with pytest.raises(UserError, match="compared with itself"):
        compare(ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "a"), Choice())
    with pytest.raises(UserError, match="--algorithms toy: not in these folders"):
        compare(ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "a"), Choice(algorithms=("toy",)))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"steps": 500}, "budget.online_steps is 1000 in A, 500 in B"),
        (
            {"offline": {"updates": 2000, "evaluate_every": 1000}},
            "pretraining's budget.offline_updates is 1000 in A",
        ),
        ({"online": {"steps": STEPS, "evaluate_every": 25}}, "protocol.steps is 50 in A, 25 in B"),
    ],
)
def test_unlike_is_refused(tmp_path: Path, extra: dict[str, Any], message: str) -> None:
    finish(toy_plan("toy_tune", seeds=5, steps=STEPS), tmp_path / "a")
    finish(toy_plan("toy_tune", seeds=5, **{"steps": STEPS, **extra}), tmp_path / "b")
    with pytest.raises(UserError, match=message) as refused:
        compare(ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "b"), Choice())
    assert all("only like can be compared" in problem for problem in refused.value.problems)


def test_other_data_and_reference_scores_are_refused(tmp_path: Path) -> None:
    one = toy_plan("toy_offline", seeds=5)
    finish(one, tmp_path / "a")
    name = "pointmass-mixed-v0"
    refs = {name: replace(one.scores[name], ref_max=50.0)}
    finish(replace(one, scores=refs), tmp_path / "b")
    with pytest.raises(UserError, match=r"the reference scores are .* to .* in A, .* to 50 in B"):
        compare(ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "b"), Choice())
    data = DataSource(name, "1" * 64)
    runs = [replace(run, spec=replace(run.spec, data=data)) for run in one.runs]
    ids = {old.id: new.id for old, new in zip(one.runs, runs, strict=True)}
    experiments = [replace(experiment, run=ids[experiment.run]) for experiment in one.experiments]
    stages = {runs[0].group: one.stages[one.runs[0].group]}
    schedules = {runs[0].group: one.schedules[one.runs[0].group]}
    other = replace(one, runs=tuple(runs), experiments=tuple(experiments), stages=stages, schedules=schedules)
    finish(other, tmp_path / "c")
    with pytest.raises(UserError, match=r"data's SHA-256 is .* in A, 111111111111 in B"):
        compare(ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "c"), Choice())


def test_what_cannot_be_paired_is_named(tmp_path: Path) -> None:
    finish(plan(6), tmp_path / "a")
    finish(plan(7), tmp_path / "b")
    experiments = {
        experiment.seed: experiment for experiment in plan(7).experiments if experiment.method == "toy_tune"
    }
    failed, edited = (ResultsFolder(tmp_path / "b").run(experiments[seed].run) for seed in (1, 2))
    failed.done.unlink()
    failed.fail("RuntimeError: out of luck")
    edited.evaluations.write_text("")
    found = compare(
        ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "b"), Choice(algorithms=("toy_tune",))
    )
    assert found.pairs[0].unpaired == (
        "pointmass-mixed-v0 seed 6: only planned in B",
        "pointmass-mixed-v0 seed 1: B: toy_tune: failed: RuntimeError: out of luck",
        "pointmass-mixed-v0 seed 2: B: toy_tune: evaluations.jsonl was changed after the run was finished",
    )
    assert (row(found, "toy_tune").difference.n, found.pairs[0].decision.verdict) == (4, "same")
    shutil.rmtree(tmp_path / "b" / "pointmass-mixed-v0")
    with pytest.raises(UserError, match="nothing can be paired"):
        compare(ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "b"), Choice())


def test_all_data_sets_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("hopper-medium-v2", "walker2d-medium-v2")
    paper = paper_plan(
        "mujoco_all", monkeypatch, datasets=names, seeds=range(5), algorithms=("naive", "frozen")
    )
    finish(paper, tmp_path / "a")
    methods = list(dict.fromkeys(experiment.method for experiment in paper.experiments))
    found = compare(ResultsFolder(tmp_path / "a"), None, Choice(of=methods[1], against=methods[0]))
    method = found.pairs[0].b.method
    parts = [row(found, method, dataset=name).difference.value for name in names]
    whole = row(found, method, dataset=ALL)
    assert whole.difference.value == pytest.approx(np.mean(parts))
    assert len(whole.by_run) == 10
    assert whole.difference.n == 5


def test_the_command(two: tuple[Path, Path], o2obench: Command) -> None:
    same = o2obench("compare", *two)
    assert same.returncode == 0, same.stderr
    assert "toy_tune: same by area (all values are equal, 6 seeds)" in same.stdout
    assert o2obench("compare", *two, "--require-verdict").returncode == 3, "one method has no area"
    assert o2obench("compare", *two, "--require-verdict", "--algorithms", "toy_tune").returncode == 0
    assert "1,000 online steps, evaluated every 50 steps" in same.stdout
    lower(two[1], by=5.0, noise=1.0)
    worse = o2obench("compare", *two, "--json", "--algorithms", "toy_tune", "--measures", "final score")
    assert worse.returncode == 1, worse.stderr
    told = json.loads(worse.stdout)
    assert told["worse"] == 1
    assert told["pairs"][0]["decision"]["verdict"] == "worse"
    bad = o2obench("compare", two[0])
    assert bad.returncode == 2
    assert len(bad.stderr.strip().splitlines()) == 1


def test_tables_and_comparisons_come_without_torch() -> None:
    modules = "o2obench.cli, o2obench.analysis.export, o2obench.analysis.diff, o2obench.analysis.compare"
    code = f"import sys, {modules}; sys.exit(bool({{'torch', 'gymnasium'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), timeout=60).returncode == 0


# two runs


def test_what_differs_between_two_runs(tmp_path: Path, o2obench: Command) -> None:
    rates = {"toy_tune": {"rate": [0.1, 0.2], "label": "rate {rate}"}}
    found = toy_plan(rates, seeds=2, steps=STEPS)
    finish(found, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    one, other = (tmp_path / "a" / experiment.run for experiment in found.experiments if experiment.seed == 0)
    twin = tmp_path / "b" / found.experiments[0].run
    nothing = difference(one, twin)
    assert (nothing.differs, nothing.parted) == ((), ())
    assert nothing.equal == {"evaluations.jsonl": 11, "episodes.jsonl": 1}
    rates_differ = difference(one, other)
    assert [(d.kind, d.what, d.a, d.b) for d in rates_differ.differs] == [("option", "rate", 0.1, 0.2)]

    def change(row: dict[str, Any]) -> None:
        row["returns"][0] += 1.0

    rewrite(ResultsFolder(twin.parent).run(twin.name), change, first=3)
    record = json.loads((twin / "run.json").read_text())
    record["compute"]["threads"] = 2
    record["corruption"] = ["timings.jsonl was corrupted"]
    (twin / "run.json").write_text(json.dumps(record))
    parted = difference(one, twin)
    assert [(d.kind, d.what) for d in parted.differs] == [
        ("provenance", "compute.threads"),
        ("provenance", "corruption"),
    ]
    [first] = parted.parted
    assert (first.log, first.line, parted.equal["evaluations.jsonl"]) == ("evaluations.jsonl", 4, 3)
    done = o2obench("diff", one, twin)
    assert done.returncode == 0, done.stderr
    assert "evaluations.jsonl, line 4" in done.stdout
    assert "episodes.jsonl: all 1 lines are equal" in done.stdout
    assert json.loads(o2obench("diff", one, other, "--json").stdout)["differs"][0]["what"] == "rate"
    wrong = o2obench("diff", one, tmp_path)
    assert wrong.returncode == 2
    assert "is not a run's folder" in wrong.stderr
