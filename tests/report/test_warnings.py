"""Defective results folders: each is named on the page by its own cause, none is used, none stops others."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from o2obench.analysis.results import logged
from o2obench.errors import UserError
from o2obench.planning.plan import Plan
from o2obench.planning.report_items import USUAL_TABLES
from o2obench.report import ReportOptions, write_report
from o2obench.report.summary import summarise
from o2obench.runs.folder import ResultsFolder, RunFolder
from tests.helpers.folders import finish, paper_plan

SUITE, DATA = "doof_table7-small", "o2o:hopper-medium-replay-v0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A finished grid: two methods, one data set, three seeds."""
    results = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        plan = paper_plan(SUITE, patch, seeds=(0, 1, 2))
    experiments = tuple(experiment for experiment in plan.experiments if experiment.dataset == DATA)
    plan = replace(plan, experiments=experiments, figures=(), tables=USUAL_TABLES)
    finish(plan, results)
    return plan, results


class Grid:
    """A copy of the whole grid to harm; ``victim`` is the first run that starts from a pretraining run."""

    def __init__(self, plan: Plan, results: Path) -> None:
        self.plan, self.results = plan, results
        self.experiment, self.other = [
            experiment for experiment in plan.experiments if experiment.method == "DOOF"
        ][:2]
        self.victim = ResultsFolder(results).run(self.experiment.run)
        assert self.experiment.parent
        self.parent = ResultsFolder(results).run(self.experiment.parent)

    def rows(self, folder: RunFolder | None = None) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder or self.victim).evaluations.read_text().splitlines()]

    def publish(self, content: str | bytes, folder: RunFolder | None = None) -> None:
        """Write other scores and vouch for them, as whoever forges DONE, too, would."""
        folder = folder or self.victim
        folder.evaluations.write_bytes(content.encode() if isinstance(content, str) else content)
        folder.done.unlink()
        folder.finish()

    def publish_rows(self, rows: list[dict[str, Any]]) -> None:
        self.publish("".join(json.dumps(row) + "\n" for row in rows))

    def rewrite(self, **changes: Any) -> None:
        """Change the plan; its hash fits again."""
        self.plan = replace(self.plan, **changes)
        self.plan.write(ResultsFolder(self.results))

    def with_run(self, **spec: Any) -> None:
        """Let the victim's experiment rest on another computation, finished like the others."""
        old = self.plan.run(self.experiment.run)
        run = replace(old, spec=replace(old.spec, **spec))
        stages = {**self.plan.stages, run.group: self.plan.stages[old.group]}
        schedules = {**self.plan.schedules, run.group: self.plan.schedules[old.group]}
        others = tuple(experiment for experiment in self.plan.experiments if experiment != self.experiment)
        experiments = (*others, replace(self.experiment, run=run.id))
        self.rewrite(runs=(*self.plan.runs, run), experiments=experiments, stages=stages, schedules=schedules)
        shutil.copytree(self.victim.path, self.results / run.id)
        folder = ResultsFolder(self.results).run(run.id)
        record = json.loads(folder.record.read_text())
        folder.record.write_text(json.dumps({**record, "run": run.to_json(), "identity": run.identity}))
        rows = self.rows()
        rows[-1]["returns"][0] += 1e-9
        self.publish("".join(json.dumps(row) + "\n" for row in rows), folder)


def returns(change: Callable[[list[Any]], list[Any]], row: int = -1) -> Callable[[Grid], None]:
    def harm(grid: Grid) -> None:
        rows = grid.rows()
        rows[row]["returns"] = change(rows[row]["returns"])
        grid.publish_rows(rows)

    return harm


def keep(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Grid], None]:
    return lambda grid: grid.publish_rows(change(grid.rows()))


def content(change: Callable[[bytes], bytes]) -> Callable[[Grid], None]:
    return lambda grid: grid.publish(change(grid.victim.evaluations.read_bytes()))


def unfinished(grid: Grid) -> None:
    grid.victim.done.unlink()


def failed(grid: Grid) -> None:
    grid.victim.done.unlink()
    grid.victim.fail("RuntimeError: out of luck")


def diverged(grid: Grid) -> None:
    grid.victim.done.unlink()
    grid.victim.fail("sac/q is not finite", diverged=True)


def gone(grid: Grid) -> None:
    shutil.rmtree(grid.victim.path)


def edited(grid: Grid) -> None:
    grid.victim.evaluations.write_text(grid.victim.evaluations.read_text().replace("1", "2", 1))


def episodes_edited(grid: Grid) -> None:
    grid.victim.episodes.write_text("")


def done_alone(grid: Grid) -> None:
    for file in grid.victim.path.iterdir():
        if file.name != "DONE":
            file.unlink()


def done_is_no_json(grid: Grid) -> None:
    grid.victim.done.write_bytes(b"\x00\x00")


def done_is_nested(grid: Grid) -> None:
    grid.victim.done.write_text("[" * 100_000)


def record_of_another(grid: Grid) -> None:
    other = ResultsFolder(grid.results).run(grid.other.run)
    shutil.copy(other.record, grid.victim.record)
    grid.publish(grid.victim.evaluations.read_bytes())


def record_gone(grid: Grid) -> None:
    grid.victim.record.unlink()


def copied_over(grid: Grid) -> None:
    """Seed 1's scores under seed 0's name, with a record that fits."""
    other = ResultsFolder(grid.results).run(grid.other.run)
    for name in ("episodes", "train"):
        getattr(grid.victim, name).write_bytes(getattr(other, name).read_bytes())
    grid.publish(other.evaluations.read_bytes())


def parent_failed(grid: Grid) -> None:
    grid.parent.done.unlink()
    grid.parent.fail("OSError: disk full")


def parent_edited(grid: Grid) -> None:
    grid.parent.evaluations.write_text("")


def another_start(grid: Grid) -> None:
    rows = grid.rows()
    rows[0]["returns"] = [value + 1.0 for value in rows[0]["returns"]]
    grid.publish_rows(rows)


def seed_twice(grid: Grid) -> None:
    grid.rewrite(experiments=(*grid.plan.experiments, grid.experiment))


def other_computation(grid: Grid) -> None:
    config = grid.plan.run(grid.experiment.run).spec.config
    grid.with_run(config={**config, "ratio": 9.0})


def other_data(grid: Grid) -> None:
    """All seeds of a method rest on another file of the same name."""
    data = grid.plan.run(grid.experiment.run).spec.data
    assert data is not None
    grid.with_run(data=replace(data, sha256="f" * 64))
    method = grid.experiment.method
    kept = tuple(c for c in grid.plan.experiments if c.method != method or c.seed == grid.experiment.seed)
    grid.rewrite(experiments=kept)


def experiment_without_run(grid: Grid) -> None:
    stranger = replace(grid.experiment, run="a/b/00000000/seed-0")
    replace(grid.plan, suite="other", experiments=(stranger,)).write(ResultsFolder(grid.results))


def a_file_for_a_folder(grid: Grid) -> None:
    shutil.rmtree(grid.victim.path)
    grid.victim.path.write_text("not a folder")


EPISODE = {"stage": "collect", "env_steps": 1, "return": 1.0, "length": 1, "terminated": False}


def episode(row: dict[str, Any]) -> Callable[[Grid], None]:
    def harm(grid: Grid) -> None:
        file = grid.victim.episodes
        file.write_text(json.dumps(row) + "\n" + file.read_text())
        grid.publish(grid.victim.evaluations.read_bytes())

    return harm


NOT_USED: dict[str, tuple[Callable[[Grid], None], str]] = {
    "unfinished": (unfinished, "doof: interrupted"),
    "failed": (failed, "doof: failed: RuntimeError: out of luck"),
    "diverged": (diverged, "doof: diverged: sac/q is not finite"),
    "missing": (gone, "doof: waiting"),
    "a file for a folder": (a_file_for_a_folder, "/seed-0: is a file where a folder belongs"),
    "edited scores": (edited, "evaluations.jsonl was changed after the run was finished"),
    "edited episodes": (episodes_edited, "episodes.jsonl was changed after the run was finished"),
    "DONE without files": (done_alone, "run.json is missing"),
    "DONE is no JSON": (done_is_no_json, "DONE is corrupted"),
    "DONE is nested deeply": (done_is_nested, "DONE is corrupted"),
    "record of another run": (record_of_another, "run.json belongs to another run"),
    "record gone": (record_gone, "run.json is missing"),
    "copied over": (copied_over, "one of both is a copy"),
    "NaN": (returns(lambda r: [math.nan, *r[1:]]), "a return is not finite"),
    "infinite": (returns(lambda r: [math.inf, *r[1:]]), "a return is not finite"),
    "a text for a number": (returns(lambda r: ["7", *r[1:]]), "not an evaluation"),
    "no episode": (returns(lambda r: []), "not an evaluation"),
    "too few episodes at the end": (returns(lambda r: r[:10]), "its last evaluation has 10 episodes"),
    "too few episodes on the way": (returns(lambda r: r[:3], row=2), "an evaluation of 3 episodes"),
    "truncated": (content(lambda b: b[:-40]), "its last line is cut off"),
    "NUL bytes": (content(lambda b: b.replace(b"{", b"\x00", 2)), "evaluations.jsonl:1: not a JSON record"),
    "nested deeply": (
        content(lambda b: b"[" * 100_000 + b"\n" + b),
        "evaluations.jsonl:1: not a JSON record",
    ),
    "empty": (content(lambda b: b""), "it holds no evaluation"),
    "a row of something else": (
        content(lambda b: b'{"a": 1}\n' + b),
        "evaluations.jsonl:1: not an evaluation",
    ),
    "a row twice": (keep(lambda rows: [*rows[:3], *rows[2:]]), "an evaluation stands there twice"),
    "clock backwards": (keep(lambda rows: [*rows[:2], rows[3], rows[2], *rows[4:]]), "clock runs backwards"),
    "partial curve": (keep(lambda rows: rows[:2]), "its evaluations end at step"),
    "an episode of something else": (episode({"a": 1}), "episodes.jsonl:1: not an episode"),
    "an episode without a number": (episode(EPISODE | {"return": None}), "episodes.jsonl:1: not an episode"),
    "episodes backwards": (episode(EPISODE | {"env_steps": 10**6}), "episodes end backwards"),
    "pretraining failed": (parent_failed, "mopo: failed: OSError: disk full"),
    "pretraining edited": (parent_edited, "mopo: evaluations.jsonl was changed"),
    "another start": (another_start, "does not start where its pretraining run ended"),
    "a seed twice": (seed_twice, "the seed stands in the plan twice"),
    "another computation": (other_computation, "computes something else than seed 1 (config.ratio)"),
    "other data": (other_data, "was trained on other data of this name"),
}


@pytest.mark.parametrize("name", NOT_USED)
def test_a_defective_run_is_named_and_left_out(whole: tuple[Plan, Path], tmp_path: Path, name: str) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    grid = Grid(whole[0], results)
    harm, message = NOT_USED[name]
    harm(grid)
    [page] = write_report(ResultsFolder(results), tmp_path / "out", options=ReportOptions(("html", "csv")))
    text = page.read_text()
    assert message in text.replace("&#39;", "'").replace("&#34;", '"')
    found = summarise(grid.plan, ResultsFolder(results))
    assert any(message in problem.what for problem in found.problems)
    used = {(line.method, line.dataset, seed) for line in found.method_results for seed in line.seeds}
    account = found.account
    assert account["planned"] == sum(account.values()) - account["planned"], "found = used + excluded"
    assert len(used) == account["shown"]
    if name != "a seed twice":
        left = {(p.method, p.dataset, p.seed) for p in found.problems}
        assert not used & left
    else:
        assert len(used) == len(set(used)) == len(grid.plan.experiments) - 1
    assert used, "the others are shown"
    assert len(found.evaluations().drop_duplicates(["method", "dataset", "seed"])) == len(used)


def foreign(grid: Grid) -> None:
    (grid.victim.path / "notes.txt").write_text("mine")


def copied(grid: Grid) -> None:
    shutil.copytree(grid.victim.path, grid.victim.path.with_name("seed-0 (copy)"))


def copied_as_a_seed(grid: Grid) -> None:
    shutil.copytree(grid.victim.path, grid.victim.path.with_name("seed-77"))


def broken_plan(grid: Grid) -> None:
    text = (grid.results / "plans" / f"{grid.plan.suite}.json").read_text()
    (grid.results / "plans" / "other.json").write_text(text.replace('"title": "', '"title": "Not ', 1))


def other_references(grid: Grid) -> None:
    scores = {name: replace(one, ref_max=one.ref_max + 1) for name, one in grid.plan.scores.items()}
    grid.rewrite(scores=scores)


def mixed_versions(grid: Grid) -> None:
    for experiment, version in zip(grid.plan.experiments, ("1.0", "2.0"), strict=False):
        computed_with(grid, experiment.run, versions={"numpy": version})


def mixed_engines(grid: Grid) -> None:
    computed_with(grid, grid.plan.experiments[0].run, engine=2)


def computed_with(grid: Grid, run: str, **compute: Any) -> None:
    folder = ResultsFolder(grid.results).run(run)
    record = json.loads(folder.record.read_text())
    record["compute"] |= compute
    folder.record.write_text(json.dumps(record))
    folder.done.unlink()
    folder.finish()


def unequal_seeds(grid: Grid) -> None:
    gone(grid)


NOTED: dict[str, tuple[Callable[[Grid], None], str]] = {
    "a foreign file": (foreign, "notes.txt: a foreign file in a run's folder, not used"),
    "a copy": (copied, "seed-0 (copy): not a part of a results folder, not used"),
    "a copy as a seed": (copied_as_a_seed, "seed-77: a run of no readable plan, not used"),
    "a broken plan": (broken_plan, "plan not read: plans/other.json: not a plan (its contents were changed)"),
    "an experiment without a run": (
        experiment_without_run,
        "plans/other.json: not a plan (an experiment's run is not in it)",
    ),
    "other references": (other_references, "are not those of this version"),
    "mixed versions": (mixed_versions, "several versions of numpy: 1.0 (1 run), 2.0 (1 run), none"),
    "mixed engines": (mixed_engines, "seeds are compared across engines, which round differently: 1 ("),
    "unequal seeds": (unequal_seeds, "seed 0 left out, not all methods have it everywhere"),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_does_not_belong_is_named(whole: tuple[Plan, Path], tmp_path: Path, name: str) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    grid = Grid(whole[0], results)
    harm, message = NOTED[name]
    harm(grid)
    with contextlib.suppress(UserError):  # of another plan
        write_report(ResultsFolder(results), tmp_path / "out", options=ReportOptions(("html",)))
    text = (tmp_path / "out" / grid.plan.suite / "index.html").read_text()
    assert message in text.replace("&#39;", "'")


def test_a_plan_whose_hash_does_not_fit_is_refused_after_the_others_were_written(
    whole: tuple[Plan, Path], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    broken_plan(Grid(whole[0], results))
    with pytest.raises(UserError, match=r"other\.json: not a plan"):
        write_report(ResultsFolder(results), tmp_path / "out", options=ReportOptions(("html",)))
    assert (tmp_path / "out" / SUITE / "index.html").exists()
    assert write_report(ResultsFolder(results), tmp_path / "out", SUITE, options=ReportOptions(("md",)))
    with pytest.raises(UserError, match="no suite nothing was run"):
        write_report(ResultsFolder(results), tmp_path / "out", "nothing")


def test_logs_that_an_older_record_does_not_name_are_shown(whole: tuple[Plan, Path], tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    grid = Grid(whole[0], results)
    found = json.loads(grid.victim.done.read_text())
    named = logged(grid.plan.experiments, ResultsFolder(results), ["uncertainty/mean"])
    del found["sha256"]["train.jsonl"]
    grid.victim.done.write_text(json.dumps(found))
    assert len(named) == len(logged(grid.plan.experiments, ResultsFolder(results), ["uncertainty/mean"])) > 0
    edited = ResultsFolder(results).run(grid.other.run)
    edited.train.write_text(edited.train.read_text().replace("0.", "1."))
    assert len(logged(grid.plan.experiments, ResultsFolder(results), ["uncertainty/mean"])) < len(named)


def test_seeds_of_a_saturated_task_that_play_alike_are_no_copies(
    whole: tuple[Plan, Path], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    grid = Grid(whole[0], results)
    other = ResultsFolder(results).run(grid.other.run)
    grid.victim.episodes.write_bytes(other.episodes.read_bytes())
    grid.publish(other.evaluations.read_bytes())
    found = summarise(grid.plan, ResultsFolder(results))
    assert not [problem for problem in found.problems if "copy" in problem.what], "they learned otherwise"


def test_one_seed_has_no_interval(whole: tuple[Plan, Path], tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    grid = Grid(whole[0], results)
    grid.rewrite(
        experiments=tuple(experiment for experiment in grid.plan.experiments if experiment.seed == 0)
    )
    found = summarise(grid.plan, ResultsFolder(results))
    estimates = [line.estimate("final score") for line in found.method_results]
    assert all(one is not None and one.low is None and "none" in one.interval for one in estimates)
    [page] = write_report(ResultsFolder(results), tmp_path / "out", options=ReportOptions(("html",)))
    assert "(1 seed on 1 data set)" in page.read_text()
