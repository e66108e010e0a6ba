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
from o2obench.errors import BadInput
from o2obench.planning.plan import USUAL_TABLES, Plan
from o2obench.report import Wish, write_report
from o2obench.report.summary import find
from o2obench.runs.folder import Run, RunFolder
from tests.helpers.folders import finish, paper_plan

SUITE, DATA = "doof_table7-small", "o2o:hopper-medium-replay-v0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A finished grid: two labels, one data set, three seeds."""
    results = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        plan = paper_plan(SUITE, patch, seeds=(0, 1, 2))
    cells = tuple(cell for cell in plan.cells if cell.dataset == DATA)
    plan = replace(plan, cells=cells, figures=(), tables=USUAL_TABLES)
    finish(plan, results)
    return plan, results


class Grid:
    """A copy of the whole grid to harm; ``victim`` is the first tuning run, which has a pretraining run."""

    def __init__(self, plan: Plan, results: Path) -> None:
        self.plan, self.results = plan, results
        self.cell, self.other = [cell for cell in plan.cells if cell.label == "DOOF"][:2]
        self.victim = RunFolder(results, self.cell.run)
        assert self.cell.parent
        self.parent = RunFolder(results, self.cell.parent)

    def rows(self, folder: RunFolder | None = None) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder or self.victim).scores.read_text().splitlines()]

    def publish(self, content: str | bytes, folder: RunFolder | None = None) -> None:
        """Write other scores and vouch for them, as whoever forges DONE, too, would."""
        folder = folder or self.victim
        folder.scores.write_bytes(content.encode() if isinstance(content, str) else content)
        folder.done.unlink()
        folder.finish()

    def publish_rows(self, rows: list[dict[str, Any]]) -> None:
        self.publish("".join(json.dumps(row) + "\n" for row in rows))

    def rewrite(self, **changes: Any) -> None:
        """Change the plan; its hash fits again."""
        self.plan = replace(self.plan, **changes)
        self.plan.write(self.results)

    def with_run(self, **spec: Any) -> None:
        """Let the victim's cell rest on another computation, finished like the others."""
        old = self.plan.run(self.cell.run)
        run = Run(old.algorithm, old.dataset, old.seed, {**old.spec, **spec}, old.parent)
        stages = {**self.plan.stages, run.group: self.plan.stages[old.group]}
        others = tuple(cell for cell in self.plan.cells if cell != self.cell)
        cells = (*others, replace(self.cell, run=run.id))
        self.rewrite(runs=(*self.plan.runs, run), cells=cells, stages=stages)
        shutil.copytree(self.victim.path, self.results / run.id)
        folder = RunFolder(self.results, run.id)
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
    return lambda grid: grid.publish(change(grid.victim.scores.read_bytes()))


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
    grid.victim.scores.write_text(grid.victim.scores.read_text().replace("1", "2", 1))


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
    other = RunFolder(grid.results, grid.other.run)
    shutil.copy(other.record, grid.victim.record)
    grid.publish(grid.victim.scores.read_bytes())


def record_gone(grid: Grid) -> None:
    grid.victim.record.unlink()


def copied_over(grid: Grid) -> None:
    """Seed 1's scores under seed 0's name, with a record that fits."""
    other = RunFolder(grid.results, grid.other.run)
    grid.publish(other.scores.read_bytes())


def parent_failed(grid: Grid) -> None:
    grid.parent.done.unlink()
    grid.parent.fail("OSError: disk full")


def parent_edited(grid: Grid) -> None:
    grid.parent.scores.write_text("")


def another_start(grid: Grid) -> None:
    rows = grid.rows()
    rows[0]["returns"] = [value + 1.0 for value in rows[0]["returns"]]
    grid.publish_rows(rows)


def seed_twice(grid: Grid) -> None:
    grid.rewrite(cells=(*grid.plan.cells, grid.cell))


def other_computation(grid: Grid) -> None:
    config = grid.plan.run(grid.cell.run).spec["config"]
    grid.with_run(config={**config, "ratio": 9.0})


def other_data(grid: Grid) -> None:
    """All seeds of a label rest on another file of the same name."""
    name = grid.plan.run(grid.cell.run).spec["data"]["name"]
    grid.with_run(data={"name": name, "sha256": "f" * 64})
    label = grid.cell.label
    kept = tuple(c for c in grid.plan.cells if c.label != label or c.seed == grid.cell.seed)
    grid.rewrite(cells=kept)


def cell_without_run(grid: Grid) -> None:
    stranger = replace(grid.cell, run="a/b/00000000/seed-0")
    replace(grid.plan, suite="other", cells=(stranger,)).write(grid.results)


def a_file_for_a_folder(grid: Grid) -> None:
    shutil.rmtree(grid.victim.path)
    grid.victim.path.write_text("not a folder")


EPISODE = {"stage": "collect", "env_steps": 1, "return": 1.0, "length": 1, "terminated": False}


def episode(row: dict[str, Any]) -> Callable[[Grid], None]:
    def harm(grid: Grid) -> None:
        file = grid.victim.episodes
        file.write_text(json.dumps(row) + "\n" + file.read_text())
        grid.publish(grid.victim.scores.read_bytes())

    return harm


NOT_USED: dict[str, tuple[Callable[[Grid], None], str]] = {
    "unfinished": (unfinished, "doof: interrupted"),
    "failed": (failed, "doof: failed: RuntimeError: out of luck"),
    "diverged": (diverged, "doof: diverged: sac/q is not finite"),
    "missing": (gone, "doof: waiting"),
    "a file for a folder": (a_file_for_a_folder, "doof: waiting"),
    "edited scores": (edited, "scores.jsonl was changed after the run was finished"),
    "edited episodes": (episodes_edited, "episodes.jsonl was changed after the run was finished"),
    "DONE without files": (done_alone, "run.json is missing"),
    "DONE is no JSON": (done_is_no_json, "DONE is damaged"),
    "DONE is nested deeply": (done_is_nested, "DONE is damaged"),
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
    "NUL bytes": (content(lambda b: b.replace(b"{", b"\x00", 2)), "scores.jsonl:1: not a JSON record"),
    "nested deeply": (content(lambda b: b"[" * 100_000 + b"\n" + b), "scores.jsonl:1: not a JSON record"),
    "empty": (content(lambda b: b""), "it holds no evaluation"),
    "a row of something else": (content(lambda b: b'{"a": 1}\n' + b), "scores.jsonl:1: not an evaluation"),
    "a row twice": (keep(lambda rows: [*rows[:3], *rows[2:]]), "an evaluation stands there twice"),
    "clock backwards": (keep(lambda rows: [*rows[:2], rows[3], rows[2], *rows[4:]]), "clock runs backwards"),
    "partial curve": (keep(lambda rows: rows[:2]), "its evaluations end at step"),
    "an episode of something else": (episode({"a": 1}), "episodes.jsonl: a line is not an episode"),
    "an episode without a number": (episode(EPISODE | {"return": None}), "episodes.jsonl:1: not an episode"),
    "episodes backwards": (episode(EPISODE | {"env_steps": 10**6}), "episodes end backwards"),
    "pretraining failed": (parent_failed, "mopo: failed: OSError: disk full"),
    "pretraining edited": (parent_edited, "mopo: scores.jsonl was changed"),
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
    [page] = write_report(results, tmp_path / "out", wish=Wish(("html", "csv")))
    text = page.read_text()
    assert message in text.replace("&#39;", "'").replace("&#34;", '"')
    found = find(grid.plan, results)
    assert any(message in problem.what for problem in found.problems)
    used = {(line.label, line.dataset, seed) for line in found.lines for seed in line.seeds}
    account = found.account
    assert account["planned"] == sum(account.values()) - account["planned"], "found = used + excluded"
    assert len(used) == account["shown"]
    if name != "a seed twice":
        left = {(p.label, p.dataset, p.seed) for p in found.problems}
        assert not used & left
    else:
        assert len(used) == len(set(used)) == len(grid.plan.cells) - 1
    assert used, "the others are shown"
    assert len(found.evaluations().drop_duplicates(["label", "dataset", "seed"])) == len(used)


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
    for cell, version in zip(grid.plan.cells, ("1.0", "2.0"), strict=False):
        folder = RunFolder(grid.results, cell.run)
        record = json.loads(folder.record.read_text())
        record["compute"]["versions"] = {"numpy": version}
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
    "a cell without a run": (cell_without_run, "plans/other.json: not a plan (a cell's run is not in it)"),
    "other references": (other_references, "are not those of this version"),
    "mixed versions": (mixed_versions, "several versions of numpy: 1.0 (1 run), 2.0 (1 run), none"),
    "unequal seeds": (unequal_seeds, "seed 0 left out, not all algorithms have it everywhere"),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_does_not_belong_is_named(whole: tuple[Plan, Path], tmp_path: Path, name: str) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    grid = Grid(whole[0], results)
    harm, message = NOTED[name]
    harm(grid)
    with contextlib.suppress(BadInput):  # of another plan
        write_report(results, tmp_path / "out", wish=Wish(("html",)))
    text = (tmp_path / "out" / grid.plan.suite / "index.html").read_text()
    assert message in text.replace("&#39;", "'")


def test_a_plan_whose_hash_does_not_fit_is_refused_after_the_others_were_written(
    whole: tuple[Plan, Path], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    broken_plan(Grid(whole[0], results))
    with pytest.raises(BadInput, match=r"other\.json: not a plan"):
        write_report(results, tmp_path / "out", wish=Wish(("html",)))
    assert (tmp_path / "out" / SUITE / "index.html").exists()
    assert write_report(results, tmp_path / "out", SUITE, wish=Wish(("md",)))
    with pytest.raises(BadInput, match="no suite nothing was run"):
        write_report(results, tmp_path / "out", "nothing")


def test_logs_that_an_older_record_does_not_name_are_shown(whole: tuple[Plan, Path], tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    grid = Grid(whole[0], results)
    found = json.loads(grid.victim.done.read_text())
    named = logged(grid.plan.cells, results, ["uncertainty/mean"])
    del found["sha256"]["train.jsonl"]
    grid.victim.done.write_text(json.dumps(found))
    assert len(named) == len(logged(grid.plan.cells, results, ["uncertainty/mean"])) > 0
    edited = RunFolder(results, grid.other.run)
    edited.train.write_text(edited.train.read_text().replace("0.", "1."))
    assert len(logged(grid.plan.cells, results, ["uncertainty/mean"])) < len(named)


def test_one_seed_has_no_interval(whole: tuple[Plan, Path], tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(whole[1], results)
    grid = Grid(whole[0], results)
    grid.rewrite(cells=tuple(cell for cell in grid.plan.cells if cell.seed == 0))
    found = find(grid.plan, results)
    estimates = [line.estimate("final score") for line in found.lines]
    assert all(one is not None and one.low is None and "none" in one.interval for one in estimates)
    [page] = write_report(results, tmp_path / "out", wish=Wish(("html",)))
    assert "1 common seed is too few to rank algorithms" in page.read_text()
