"""`league add`: a submitted method joins a league, whole or not at all; older protocols stay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from o2obench.analysis.league import check_league, submission
from o2obench.errors import UserError
from o2obench.maintenance.merge import add, merge
from o2obench.planning.plan import Plan, read_plan
from o2obench.report import ReportOptions, write_report
from o2obench.runs.folder import ResultsFolder
from tests.conftest import Command
from tests.helpers.folders import finish
from tests.helpers.league import ADDED, ENTRY, LEAGUE, MASS, MAZE, edit, id_of, plan_of, small_league

NEWER = LEAGUE.replace("protocol: 1", "protocol: 2").replace("rate: 0.2", "rate: 0.25")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultsFolder:
    """The members, computed."""
    small_league(tmp_path, monkeypatch)
    folder = ResultsFolder(tmp_path / "published")
    finish(replace(plan_of(tmp_path), figures=()), folder.path)
    return folder


@pytest.fixture
def theirs(tmp_path: Path, published: ResultsFolder) -> ResultsFolder:
    """Another folder, with a method beside the members."""
    folder = ResultsFolder(tmp_path / "theirs")
    finish(plan_of(tmp_path, ADDED), folder.path)
    return folder


def files(folder: ResultsFolder) -> dict[str, bytes]:
    found = (path for path in folder.path.rglob("*") if path.is_file())
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in found}


def added_runs(plan: Plan) -> set[str]:
    return {experiment.run for experiment in plan.experiments if experiment.method == "submitted"}


def test_a_method_joins_and_a_second_call_changes_nothing(
    tmp_path: Path, published: ResultsFolder, theirs: ResultsFolder, o2obench: Command
) -> None:
    before, source = files(published), files(theirs)
    done = o2obench("league", "add", theirs.path, "--to", published.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"submitted: added to {published}, 4 runs copied\n"
    after, united = files(published), read_plan(published.plan_file("league"))
    assert {name: after[name] for name in before if "plans" not in name} == {
        name: content for name, content in before.items() if "plans" not in name
    }
    new = {str(Path(name).parent) for name in after.keys() - before.keys()}
    assert new == added_runs(plan_of(tmp_path, ADDED)) == added_runs(united)
    members = [("mine", MASS), ("mine", MAZE), ("other", MASS), ("frozen", MASS), ("frozen", MAZE)]
    assert united.verified == tuple(members)
    assert united.tuning_runs == {"submitted": 7}
    assert check_league(published).holds
    again = o2obench("league", "add", theirs.path, "--to", published.path)
    assert again.stdout == f"submitted: in {published} already, nothing was changed\n"
    assert (files(published), files(theirs)) == (after, source)


def test_the_members_need_not_be_there_but_what_it_starts_from(
    tmp_path: Path, published: ResultsFolder
) -> None:
    alone = LEAGUE.replace("  - toy_tune: {label: mine}\n", "").replace(f"rate: 0.2, datasets: [{MASS}]", "")
    text = alone.replace("toy_tune: {, label: other}", ENTRY.partition("- ")[2])
    theirs = ResultsFolder(tmp_path / "theirs")
    finish(plan_of(tmp_path, text), theirs.path)
    assert {e.method for e in submission(theirs, published).experiments} == {"submitted"}
    assert len(add(published, theirs, submission(theirs, published)).copied) == 4
    parent = plan_of(tmp_path).run(id_of(plan_of(tmp_path), "mine", MAZE, 1)).parent
    assert parent
    shutil.rmtree(theirs.run(parent).path)
    with pytest.raises(UserError, match="every run has ended"):
        submission(theirs, published)


def test_a_pretraining_that_others_show_is_not_touched_where_it_differs(
    tmp_path: Path, published: ResultsFolder, theirs: ResultsFolder
) -> None:
    parent = read_plan(theirs.plan_file("league")).run(id_of(plan_of(tmp_path), "mine", MASS, 0)).parent
    assert parent
    rows = theirs.run(parent).evaluations.read_text().splitlines(keepends=True)
    theirs.run(parent).evaluations.write_text("".join(rows[1:]))
    edit(theirs.run(parent))
    before = files(published)
    assert len(add(published, theirs, submission(theirs, published)).copied) == 4
    assert files(published)[f"{parent}/evaluations.jsonl"] == before[f"{parent}/evaluations.jsonl"]


@pytest.mark.parametrize(
    ("old", "new", "rule", "remedy"),
    [
        ("protocol: 1", "protocol: 2", "the protocol is this package's, 1", "start the suite again"),
        ("steps: 60", "steps: 80", "all runs have the league's budgets", "keep offline and online"),
        (
            ", tuning_runs: 7",
            "",
            "declares the runs that its options were chosen by: submitted",
            "tuning_runs",
        ),
        ("seeds: 2", "seeds: 1", "every method has 2 seeds", "--seeds"),
    ],
)
def test_a_broken_rule_is_refused_with_its_remedy(
    tmp_path: Path, published: ResultsFolder, o2obench: Command, old: str, new: str, rule: str, remedy: str
) -> None:
    theirs, before = ResultsFolder(tmp_path / "theirs"), files(published)
    finish(plan_of(tmp_path, ADDED.replace(old, new)), theirs.path)
    done = o2obench("league", "add", theirs.path, "--to", published.path)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert f"{theirs}: a rule is broken: " in line
    assert rule in line
    assert remedy in line.rpartition(";")[2]
    assert files(published) == before


def test_runs_of_changed_code_are_refused(
    tmp_path: Path, published: ResultsFolder, theirs: ResultsFolder
) -> None:
    plan = plan_of(tmp_path, ADDED)
    code = {"version": "0", "commit": "1", "dirty": True}
    edit(theirs.run(id_of(plan, "other", MASS, 0)), code=code)
    assert submission(theirs, published), "a member's run is not submitted"
    edit(theirs.run(id_of(plan, "submitted", MASS, 0)), code=code)
    with pytest.raises(UserError, match=r"no run was computed from changed code: .*; remove it, and"):
        submission(theirs, published)


def test_what_holds_no_submission_or_no_league_is_refused(
    tmp_path: Path, published: ResultsFolder, theirs: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"no method beside the members; add yours to a copy of league\.yaml"):
        submission(published, theirs)
    with pytest.raises(UserError, match="no suite league was run here"):
        submission(theirs, ResultsFolder(tmp_path / "nowhere"))
    small_league(tmp_path, monkeypatch, NEWER)
    with pytest.raises(UserError, match="is of protocol 1, this package's is 2; merge the members"):
        submission(theirs, published)


def test_another_method_of_the_same_label_is_refused(tmp_path: Path, published: ResultsFolder) -> None:
    for name, text in (("a", ADDED), ("b", ADDED.replace("rate: 0.3", "rate: 0.35"))):
        finish(plan_of(tmp_path, text), tmp_path / name)
    one, two = ResultsFolder(tmp_path / "a"), ResultsFolder(tmp_path / "b")
    add(published, one, submission(one, published))
    before = files(published)
    with pytest.raises(UserError, match=r"submitted on .* has other options, data or versions"):
        add(published, two, submission(two, published))
    assert files(published) == before


def test_a_run_that_cannot_be_copied_leaves_the_plan_as_it_was(
    tmp_path: Path, published: ResultsFolder, theirs: ResultsFolder
) -> None:
    plan, before = submission(theirs, published), published.plan_file("league").read_bytes()
    target = published.run(id_of(plan_of(tmp_path, ADDED), "submitted", MAZE, 1)).path
    target.parent.mkdir(parents=True)
    target.write_text("a file in its place")
    with pytest.raises(UserError, match="is no folder, the run cannot be copied"):
        add(published, theirs, plan)
    assert published.plan_file("league").read_bytes() == before
    target.unlink()
    assert add(published, theirs, plan).plans, "and can be completed"


def test_a_run_that_diverged_comes_along(
    tmp_path: Path, published: ResultsFolder, theirs: ResultsFolder
) -> None:
    run = id_of(plan_of(tmp_path, ADDED), "submitted", MASS, 1)
    theirs.run(run).done.unlink()
    theirs.run(run).failed.write_text(json.dumps({"error": "not finite", "diverged": True}))
    assert run in add(published, theirs, submission(theirs, published)).copied
    assert published.run(run).state() == "diverged"
    assert check_league(published).diverged == (run,)
    again = add(published, theirs, submission(theirs, published))
    assert (again.copied, again.plans) == ([], [])
    theirs.run(run).failed.unlink()
    theirs.run(run).finish()
    [problem] = merge(published, theirs).problems
    assert "conflict: its outcomes differ" in problem
    assert published.run(run).state() == "diverged"


def test_what_it_starts_from_is_what_the_league_calls_so(tmp_path: Path, published: ResultsFolder) -> None:
    """Else it would stand beside the control of another pretraining."""
    theirs = ResultsFolder(tmp_path / "theirs")
    changed = ADDED.replace("offline:", "overrides: {toy_offline: {rate: 0.7}}\noffline:")
    finish(plan_of(tmp_path, changed), theirs.path)
    with pytest.raises(UserError, match=r"members and their pretrainings .*give what was changed a label"):
        submission(theirs, published)
    own = ENTRY.replace("rate: 0.3", "from: {toy_offline: {rate: 0.7}, label: own}")
    own += "\n  - frozen: {from: toy_offline, label: frozen}"
    finish(plan_of(tmp_path, ADDED.replace(ENTRY, own)), tmp_path / "own")
    plan = submission(ResultsFolder(tmp_path / "own"), published)
    assert {e.method for e in plan.experiments} == {"submitted", "frozen (own)"}
    assert add(published, ResultsFolder(tmp_path / "own"), plan).plans
    assert {row.kind for row in check_league(published).rows if "own" in row.method} == {"submitted"}


# ---- older protocols -----------------------------------------------------------------------------------


def test_an_older_protocol_keeps_its_rows_in_a_table_of_their_own(
    tmp_path: Path, published: ResultsFolder, theirs: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(published, theirs, submission(theirs, published))
    small_league(tmp_path, monkeypatch, NEWER)
    finish(replace(plan_of(tmp_path, NEWER), figures=()), tmp_path / "newer")
    old = read_plan(published.plan_file("league"))
    merge(published, ResultsFolder(tmp_path / "newer"))
    kept, new = (read_plan(published.plan_file(name)) for name in ("league-protocol-1", "league"))
    assert (kept.experiments, kept.verified, kept.heading) == (old.experiments, old.verified, kept.suite)
    assert (new.protocol, {e.method for e in new.experiments}) == (2, {"mine", "other", "frozen"})
    assert "protocol" not in str(check_league(published).rules[0].broken_by)
    pages = write_report(published, tmp_path / "out", options=ReportOptions(("html",)))
    assert [page.parent.name for page in pages] == ["league-protocol-1", "league"]
    assert "(an older protocol) <small>protocol 1</small></h1>" in pages[0].read_text()
    assert "protocol 1 is closed" in pages[0].read_text()
    listing = (tmp_path / "out" / "index.html").read_text()
    assert listing.index('href="league/') < listing.index('href="league-protocol-1/')


def test_an_older_protocol_joins_those_that_were_kept(tmp_path: Path, published: ResultsFolder) -> None:
    into = ResultsFolder(tmp_path / "into")
    plan_of(tmp_path, seeds=(0,)).write(into)
    plan_of(tmp_path, NEWER).write(into)
    assert sorted(file.stem for file in into.plan_files()) == ["league", "league-protocol-1"]
    merge(into, published)
    assert read_plan(into.plan_file("league-protocol-1")).seeds == (0, 1)
    assert read_plan(into.plan_file("league")).protocol == 2
    other = ResultsFolder(tmp_path / "other")
    plan_of(tmp_path, seeds=(0,)).write(other)
    merge(other, into)
    assert read_plan(other.plan_file("league-protocol-1")).seeds == (0, 1)
    assert read_plan(other.plan_file("league")).protocol == 2


def test_nothing_older_is_started_over_a_newer_protocol(tmp_path: Path) -> None:
    into = ResultsFolder(tmp_path / "into")
    plan_of(tmp_path, NEWER).write(into)
    with pytest.raises(UserError, match=r"league\.json: is of protocol 2, this one is of 1; name another"):
        plan_of(tmp_path).write(into)


def test_rows_that_were_kept_are_never_overwritten(tmp_path: Path) -> None:
    into = ResultsFolder(tmp_path / "into")
    plan_of(tmp_path).write(into)
    plan_of(tmp_path, seeds=(0,)).kept().write(into)
    before = files(into)
    with pytest.raises(
        UserError, match=r"league-protocol-1\.json: lacks methods of protocol 1; move it away"
    ):
        plan_of(tmp_path, NEWER).write(into)
    assert files(into) == before
