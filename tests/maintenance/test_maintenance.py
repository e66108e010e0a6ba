"""Looking after a results folder: corruption is named, leftovers go, merged folders are whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from o2obench.errors import UserError
from o2obench.maintenance import doctor
from o2obench.maintenance.clean import Choice, clean
from o2obench.maintenance.doctor import Diagnosis, examine
from o2obench.maintenance.merge import merge, reuse
from o2obench.maintenance.merge_plans import unite
from o2obench.planning.plan import Plan, read_plan
from o2obench.runs import verify
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.lock import RunLock
from o2obench.runs.owner import LOCK_SECONDS
from o2obench.util.files import read_json
from tests.conftest import Command, environment
from tests.helpers.results import listing, make_results
from tests.helpers.suites import toy_plan

DRY = Choice(dry_run=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "results"
    make_results(folder)
    return folder


@pytest.fixture(autouse=True)
def _one_cache(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check data once, not for every run of every plan."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(template.with_name("cache")))


@pytest.fixture
def results(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "results"))


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the file system's abilities unmeasured: they take two processes each time."""
    monkeypatch.setattr(doctor, "measure", lambda results: [])


def runs(results: Path) -> list[RunFolder]:
    plan = read_plan(results / "plans" / "toy.json")
    return [ResultsFolder(results).run(run.id) for run in plan.runs]


def one(results: Path, algorithm: str, seed: int) -> RunFolder:
    [found] = [run for run in runs(results) if f"/{algorithm}/" in run.id and run.id.endswith(f"-{seed}")]
    return found


def last_state(run: RunFolder) -> Path:
    found = run.final_checkpoint()
    assert found is not None
    return found


def corruption(diagnosis: Diagnosis) -> list[str]:
    return [str(finding) for finding in diagnosis.findings if finding.kind == "corruption"]


def of_kind(diagnosis: Diagnosis, kind: str) -> set[str]:
    return {str(f.path.relative_to(diagnosis.folder.path)) for f in diagnosis.findings if f.kind == kind}


def age(path: Path) -> None:
    """Let a file look as if nobody had touched it for long."""
    then = path.lstat().st_mtime - 3 * LOCK_SECONDS
    os.utime(path, (then, then), follow_symlinks=False)


def dead_mark(path: Path, kind: str = f"SoftFileLease(sys.argv[1], lease_duration={LOCK_SECONDS})") -> None:
    """Leave the lock, or publish lock, of a process that was killed."""
    code = "import os, sys\nfrom filelock import SoftFileLease, SoftFileLock\n"
    code += f"lease = {kind}\n"
    code += "lease.acquire()\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.exists()


# doctor


def test_a_whole_folder_is_whole_and_nothing_is_changed(results: Path, o2obench: Command) -> None:
    before = listing(results)
    said = o2obench("doctor", results)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "6 runs: 5 done and intact, 1 unfinished" in said.stdout
    assert listing(results) == before
    value = json.loads(o2obench("doctor", results, "--json").stdout)
    assert value["whole"]
    assert value["runs"] == {"done and intact": 5, "unfinished": 1}
    assert [found["name"] for found in value["file_system"] if not found["works"]] == []
    assert {"hard links", "locks", "atomic replace"} <= {found["name"] for found in value["file_system"]}


def test_maintenance_imports_no_heavy_library(results: Path) -> None:
    code = """
import sys
from o2obench.maintenance import clean, doctor, merge
from o2obench.runs.folder import ResultsFolder
results = ResultsFolder("results")
doctor.examine(results)
clean.clean(results, clean.Choice())
merge.merge(ResultsFolder("other"), results)
heavy = {"torch", "gymnasium", "mujoco", "pandas", "matplotlib", "h5py", "pickle5"} & set(sys.modules)
raise SystemExit(f"imported {heavy}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=results.parent, env=environment())


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "evaluations.jsonl",
        "episodes.jsonl",
        "train.jsonl",
        "timings.jsonl",
        "DONE",
        "manifest",
        "arrays",
    ],
)
def test_no_flipped_bit_of_a_finished_run_goes_unnoticed(results: Path, name: str) -> None:
    run, chance = one(results, "toy_tune", 0), random.Random(name)
    parts = {"manifest": "manifest.json", "arrays": "state.safetensors"}
    file = last_state(run) / parts[name] if name in parts else run.path / name
    whole, unnoticed = file.read_bytes(), []
    for _ in range(60):
        hurt = bytearray(whole)
        hurt[chance.randrange(len(hurt))] ^= 1 << chance.randrange(8)
        file.write_bytes(hurt)
        equal = name in ("DONE", "manifest") and read_json(file) == json.loads(whole)
        if not equal and not list(verify.published(run, run.id)):
            unnoticed.append(bytes(hurt))
    assert unnoticed == []


@pytest.mark.usefixtures("no_probe")
def test_no_flipped_bit_of_a_plan_goes_unnoticed_and_no_corruption_stops_the_doctor(results: Path) -> None:
    chance, plan = random.Random(0), results / "plans" / "toy.json"
    whole, unnoticed = plan.read_bytes(), 0
    for _ in range(60):
        hurt = bytearray(whole)
        hurt[chance.randrange(len(hurt))] ^= 1 << chance.randrange(8)
        plan.write_bytes(hurt)
        unnoticed += read_json(plan) != json.loads(whole) and not list(doctor._plans(ResultsFolder(results)))
    assert unnoticed == 0
    files = sorted(path for path in results.rglob("*") if path.is_file())
    strange = [
        b"",
        b"[]",
        b"null",
        b"[" * 99_999,
        b'{"sha256": 5}',
        b'{"run": 5}',
        b"9" * 5000,
        b"\xed\xa0\x80",
    ]
    for file in files:
        before = file.read_bytes()
        file.write_bytes(chance.choice(strange))
        assert list(examine(ResultsFolder(results)).lines())
        clean(ResultsFolder(results), DRY)
        file.write_bytes(before)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def zeros(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[30:40] = bytes(10)
    file.write_bytes(content)


def link(file: Path) -> None:
    shutil.move(file, file.parents[4] / "elsewhere")
    file.symlink_to(file.parents[4] / "elsewhere")


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize("hurt", [cut, zeros, link, Path.unlink])
@pytest.mark.parametrize("name", ["run.json", "evaluations.jsonl", "DONE"])
def test_corruption_of_a_finished_run_is_named_with_what_to_do(
    results: Path, hurt: Callable[[Path], None], name: str
) -> None:
    run = one(results, "toy_tune", 0)
    hurt(run.path / name)
    found = examine(ResultsFolder(results))
    if (name, hurt) == ("DONE", Path.unlink):
        assert corruption(found) == []  # it counts as unfinished, and is
        assert found.counts["unfinished"] == 2
        return
    [line, *_] = corruption(found)
    assert f"{run.path}/{name}" in line
    assert "; remove the run's folder" in line
    assert found.counts["corrupted"] == 1
    assert not found.whole


@pytest.mark.usefixtures("no_probe")
def test_a_copied_and_a_renamed_run_are_named(results: Path) -> None:
    run = one(results, "toy_tune", 0)
    shutil.copytree(run.path, run.path.with_name("seed-7"))
    one(results, "toy_tune", 1).path.rename(run.path.with_name("seed-8"))
    lines = corruption(examine(ResultsFolder(results)))
    for seed, owner in ((7, 0), (8, 1)):
        [line] = [line for line in lines if f"seed-{seed}/run.json" in line]
        assert f"belongs to {run.id[:-1]}{owner}" in line


@pytest.mark.usefixtures("no_probe")
def test_an_unfinished_run_is_looked_into(results: Path) -> None:
    run = one(results, "toy_tune", 2)
    newest = sorted(run.checkpoint.iterdir())[-1]
    whole = listing(run.path)

    def lines_after(change: Callable[[], object]) -> list[str]:
        change()
        found = corruption(examine(ResultsFolder(results)))
        for name, content in whole.items():
            if (run.path / name).is_file():
                (run.path / name).write_bytes(content)
        return found

    train = run.train.read_bytes()
    [line] = lines_after(lambda: run.train.write_bytes(train[:-50]))
    assert "where the newest checkpoint knows" in line
    [line] = lines_after(lambda: zeros(run.train))
    assert "train.jsonl: is not what the newest checkpoint knows of it" in line
    [line] = lines_after(lambda: run.train.write_bytes(train + b'{"a": NaN}\n'))
    assert "not a JSON record; start the suite again" in line
    assert lines_after(lambda: run.train.write_bytes(train + b'{"a": 1')) == []  # a resume cuts it
    [line] = lines_after(lambda: zeros(newest / "state.safetensors"))
    assert f"{newest.name}: state.safetensors is not what was written" in line


@pytest.mark.usefixtures("no_probe")
def test_a_corrupted_or_renamed_plan_is_named(results: Path) -> None:
    plans = results / "plans"
    shutil.copy(plans / "toy.json", plans / "other.json")
    (plans / "cut.json").write_bytes((plans / "toy.json").read_bytes()[:-30])
    lines = corruption(examine(ResultsFolder(results)))
    assert any("cut.json: not a plan" in line for line in lines)
    assert any("other.json: is the plan of toy" in line for line in lines)


def litter(results: Path) -> set[str]:
    """Leave what killed processes leave; return it as paths inside the folder."""
    done, open_run = one(results, "toy_tune", 0), one(results, "toy_tune", 2)
    (done.path / ".DONE.99.0123abcd.tmp").write_text("{")
    done.failed.write_text(json.dumps({"error": "an earlier attempt", "diverged": False}))
    shutil.copytree(last_state(done), done.checkpoint / "00000000-abcd")
    dead_mark(done.lock)
    dead_mark(open_run.publish_lock, "SoftFileLock(sys.argv[1])")
    (open_run.checkpoint / "99999999-abcd").mkdir()
    (open_run.checkpoint / "99999999-abcd" / "state.safetensors").write_bytes(b"half")
    probe = results / ".doctor.99.0123abcd.tmp"
    probe.mkdir()
    (probe / "probe-old").touch()
    copy = done.path.with_name(".seed-9.99.0123abcd.tmp")
    shutil.copytree(done.path, copy)
    plan = results / "plans" / ".toy.json.99.0123abcd.tmp"
    plan.write_text("{")
    for path in (plan, probe, open_run.publish_lock):
        age(path)
    names = [done.path / ".DONE.99.0123abcd.tmp", done.failed, done.checkpoint / "00000000-abcd", done.lock]
    names += [open_run.publish_lock, open_run.checkpoint / "99999999-abcd", probe, copy, plan]
    return {str(path.relative_to(results)) for path in names}


@pytest.mark.usefixtures("no_probe")
def test_leftovers_are_named_and_are_no_corruption(results: Path) -> None:
    left = litter(results)
    found = examine(ResultsFolder(results))
    assert of_kind(found, "leftover") == left
    assert found.whole
    assert "process" in next(str(f) for f in found.findings if f.path.name == "lock")


@pytest.mark.usefixtures("no_probe")
def test_a_run_that_is_computed_is_named_with_its_owner_and_left(results: Path) -> None:
    lock = RunLock(one(results, "toy_tune", 2))
    (lock.folder.path / ".run.json.99.0123abcd.tmp").write_text("{")
    try:
        found = examine(ResultsFolder(results))
        assert found.counts["running"] == 1
        assert found.owners[lock.folder.id].pid == os.getpid()
        for choice in (DRY, Choice(unplanned=True, checkpoints=True)):
            cleaned = clean(ResultsFolder(results), choice)
            assert any(f"process {os.getpid()}" in line for line in cleaned.left)
        assert (lock.folder.path / ".run.json.99.0123abcd.tmp").exists()
        assert lock.is_held()
    finally:
        lock.release()


def test_a_file_system_that_cannot_do_what_runs_need_is_named(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object, **more: object) -> None:
        raise OSError(95, "Operation not supported")

    before = listing(results)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        found = examine(ResultsFolder(results))
    assert [ability.name for ability in found.abilities if not ability.works] == ["hard links"]
    assert any("hard links: NOT as runs need it" in line for line in found.lines())
    assert not found.whole
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        assert [ability.seen for ability in examine(ResultsFolder(results)).abilities] == [
            "nothing can be written here: Operation not supported"
        ]
    assert listing(results) == before


# clean


def test_a_dry_run_changes_nothing_and_clean_removes_what_it_named(results: Path, template: Path) -> None:
    left = litter(results)
    before = listing(results)
    would = clean(ResultsFolder(results), DRY)
    assert listing(results) == before
    assert {str(gone.path.relative_to(results)) for gone in would.removed} == left
    done = clean(ResultsFolder(results), Choice())
    assert {gone.path for gone in done.removed} == {gone.path for gone in would.removed}
    assert sum(gone.size for gone in done.removed) == sum(gone.size for gone in would.removed)
    assert listing(results) == listing(template)
    assert clean(ResultsFolder(results), Choice()).removed == []


def test_uses_add_up_to_what_lies_there(results: Path) -> None:
    litter(results)
    files = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    cleaning = clean(ResultsFolder(results), DRY)
    locks = sum(path.stat().st_size for path in results.rglob("*") if path.name in ("lock", "publish.lock"))
    assert files - locks <= cleaning.use.total() <= files
    logs = [path.stat().st_size for run in runs(results) for path in run.path.glob("*.jsonl")]
    assert cleaning.use["JSONL logs"] == sum(logs)
    assert cleaning.use["checkpoints of finished runs"] > 0
    assert cleaning.use["checkpoints of unfinished runs"] > 0


def test_last_checkpoints_go_only_where_nothing_starts_from_them(
    results: Path, tmp_path: Path, o2obench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "measure", lambda results: [])
    needed = last_state(one(results, "toy_offline", 2))
    said = o2obench("clean", results, "--checkpoints")
    assert said.returncode == 0, said.stderr
    assert "no new fine-tuning run can start from it" in said.stdout
    assert needed.exists()
    assert not last_state(one(results, "toy_offline", 0)).exists()
    found = examine(ResultsFolder(results))
    assert corruption(found) == [], "what went on purpose is no corruption"
    assert found.counts["done and intact"] == 5
    assert "4 without their last state" in found.summary
    shutil.rmtree(one(results, "toy_offline", 0).checkpoint)  # as in results/published
    assert corruption(examine(ResultsFolder(results))) == []
    merged = merge(ResultsFolder(tmp_path / "into"), ResultsFolder(results))
    assert (len(merged.copied), merged.problems) == (5, [])


def test_unplanned_runs_go_only_when_asked_and_never_all(results: Path) -> None:
    run, plan = one(results, "toy_tune", 0), read_plan(results / "plans" / "toy.json")
    replace(plan, runs=tuple(r for r in plan.runs if r.id != run.id), experiments=()).write(
        ResultsFolder(results)
    )
    assert clean(ResultsFolder(results), Choice()).use["unplanned runs"] > 0
    assert run.done.exists()
    clean(ResultsFolder(results), Choice(unplanned=True))
    assert not run.path.exists()
    assert one(results, "toy_offline", 0).done.exists()
    (results / "plans" / "toy.json").unlink()
    with pytest.raises(UserError, match="every run would go"):
        clean(ResultsFolder(results), Choice(unplanned=True))
    (results / "plans" / "toy.json").write_text("{")
    for choice in (Choice(unplanned=True), Choice(checkpoints=True)):
        with pytest.raises(UserError, match="not a plan"):
            clean(ResultsFolder(results), choice)


def test_an_empty_lock_does_not_block_a_run_for_ever(results: Path) -> None:
    run = one(results, "toy_tune", 2)
    run.lock.touch()
    assert clean(ResultsFolder(results), Choice()).removed == []
    age(run.lock)
    assert [gone.path for gone in clean(ResultsFolder(results), Choice()).removed] == [run.lock]
    assert not run.lock.exists()


def test_a_publisher_of_another_machine_is_not_taken_for_dead(results: Path) -> None:
    run = one(results, "toy_tune", 2)
    run.publish_lock.write_text("4711\nelsewhere\n")
    age(run.publish_lock)
    cleaned = clean(ResultsFolder(results), Choice())
    assert [str(gone.path) for gone in cleaned.removed] == []
    [line] = cleaned.left
    assert "process 4711, not known to be gone; remove that file if it is" in line
    assert run.publish_lock.exists()


def test_corrupted_checkpoints_stay_until_the_record_names_them(results: Path) -> None:
    run = one(results, "toy_tune", 2)
    corrupt = run.checkpoint / "00000001-abcd.corrupt"
    shutil.copytree(sorted(run.checkpoint.iterdir())[-1], corrupt)
    assert clean(ResultsFolder(results), Choice()).removed == []
    record = read_json(run.record)
    record["corruption"] = [f"corrupted checkpoints were set aside ({corrupt.name}); an older one was used"]
    run.record.write_text(json.dumps(record))
    assert [gone.path for gone in clean(ResultsFolder(results), Choice()).removed] == [corrupt]


def test_another_folder_is_refused(tmp_path: Path, o2obench: Command) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("words")
    for command in ("clean", "doctor"):
        said = o2obench(command, tmp_path / "thesis")
        assert said.returncode == 2
        assert "holds no run and no plan" in said.stderr
        assert said.stderr.count("\n") == 1
    with pytest.raises(UserError, match="holds no run"):
        merge(ResultsFolder(tmp_path / "new"), ResultsFolder(tmp_path / "thesis"))
    with pytest.raises(UserError, match="holds no run"):
        merge(ResultsFolder(tmp_path / "thesis"), ResultsFolder(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


HOSTILE = ["-rf", "a\nb", "\x1b[31m", "$(id)", "...", "seed-1 ", "lock.tmp", "é" * 80, ".x.1.0123abcd.tmp"]


def make_hostile(results: Path, outside: Path) -> None:
    """Put foreign files, hostile names, and links out of the folder everywhere."""
    done, other = one(results, "toy_tune", 0), one(results, "toy_tune", 1)
    places = [results, results / "plans", done.path.parent, done.path, done.checkpoint, last_state(done)]
    for place in places:
        for name in HOSTILE:
            (place / name).write_text("foreign")
        (place / "link").symlink_to(outside)
    (results / "evil" / "a" / "0123abcd").mkdir(parents=True)
    (results / "evil" / "a" / "0123abcd" / "seed-0").symlink_to(outside)
    (results / "evil" / "a" / "0123abcd" / ".seed-1.1.0123abcd.tmp").symlink_to(outside)
    (results / "outer").symlink_to(outside)
    os.mkfifo(done.path / "fifo")
    shutil.rmtree(other.checkpoint)
    other.checkpoint.symlink_to(outside)
    other.failed.symlink_to(outside / "FAILED")
    (other.path / "progress.json").symlink_to(outside / "progress.json")
    other.lock.symlink_to(outside / "lock")


def test_links_and_foreign_files_are_named_and_nothing_outside_is_touched(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "measure", lambda results: [])
    outside = tmp_path / "outside"
    shutil.copytree(one(results, "toy_tune", 0).path, outside)
    shutil.copytree(last_state(one(results, "toy_tune", 0)), outside / "99999999-ab")
    for name in ("FAILED", "progress.json", "lock"):
        (outside / name).write_text("{}")
    make_hostile(results, outside)
    (results / "plans" / "toy.json").rename(tmp_path / "toy.json")
    hidden = replace(read_plan(tmp_path / "toy.json"), runs=(), experiments=(), suite="hidden")
    hidden.write(ResultsFolder(results))
    before, foreign = listing(outside), {p: c for p, c in listing(results).items() if c == b"foreign"}
    found = examine(ResultsFolder(results))
    assert all("\n" not in line and "\x1b" not in line for line in found.lines())
    assert {"evil/a/0123abcd/seed-0", "outer", "-rf", "link"} <= of_kind(found, "note")
    for choice in (DRY, Choice(checkpoints=True), Choice(checkpoints=True, unplanned=True)):
        said = list(clean(ResultsFolder(results), choice).lines(choice))
        assert all("\n" not in line and "\x1b" not in line for line in said)
    assert listing(outside) == before
    assert {p: c for p, c in listing(results).items() if c == b"foreign"} == foreign
    merge(ResultsFolder(tmp_path / "fresh"), ResultsFolder(results))
    assert listing(outside) == before
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "pointmass-mixed-v0").symlink_to(outside)
    (tmp_path / "linked" / "plans").symlink_to(outside)
    with pytest.raises(UserError):
        merge(ResultsFolder(tmp_path / "linked"), ResultsFolder(results))
    assert listing(outside) == before


# merge


def part(results: Path, seeds: list[int], folder: Path) -> Path:
    """Return a results folder that holds these seeds of the runs of another."""
    plan = toy_plan(seeds=seeds)
    plan.write(ResultsFolder(folder))
    for run in plan.runs:
        shutil.copytree(results / run.id, folder / run.id)
    return folder


def test_two_halves_make_the_whole_and_a_second_merge_changes_nothing(
    results: Path, tmp_path: Path, o2obench: Command
) -> None:
    a, b = part(results, [0, 1], tmp_path / "a"), part(results, [2], tmp_path / "b")
    before, last = listing(b), one(results, "toy_tune", 2).id
    said = o2obench("merge", a, b)
    assert said.returncode == 0, said.stderr
    assert "1 runs copied, 0 were there, 1 are not finished" in said.stdout
    assert listing(b) == before
    merged = listing(a)
    assert {path: c for path, c in listing(results).items() if last not in path and "plans" not in path} == {
        path: content for path, content in merged.items() if last not in path and "plans" not in path
    }
    again = merge(ResultsFolder(a), ResultsFolder(b))
    assert (again.copied, again.plans, again.problems) == ([], [], [])
    assert listing(a) == merged


def test_finished_runs_of_another_folder_are_taken_over_and_nothing_else(
    results: Path, tmp_path: Path
) -> None:
    before, into = listing(results), ResultsFolder(tmp_path / "new")
    plan = toy_plan("toy_offline", seeds=[0, 1])
    taken = reuse(plan, into, ResultsFolder(results))
    assert sorted(taken.copied) == sorted(run.id for run in plan.runs)
    assert not taken.problems
    assert {into.run(run.id).state() for run in plan.runs} == {"done"}
    assert listing(results) == before
    assert not reuse(plan, into, ResultsFolder(results)).copied, "what is there is left alone"
    spoilt = ResultsFolder(results).run(plan.runs[0].id)
    spoilt.evaluations.write_bytes(spoilt.evaluations.read_bytes()[:-30])
    again = reuse(plan, ResultsFolder(tmp_path / "other"), ResultsFolder(results))
    assert again.copied == [run.id for run in plan.runs if run.id != spoilt.id]
    assert "was changed after the run was finished" in again.problems[0]
    with pytest.raises(UserError, match="nowhere: is no folder; name a results folder"):
        reuse(plan, into, ResultsFolder("nowhere"))


def test_a_suite_takes_runs_over_from_the_command_line(
    results: Path, tmp_path: Path, o2obench: Command
) -> None:
    suite = {"algorithms": ["toy_offline"], "datasets": ["pointmass-mixed-v0"], "seeds": [0, 1]}
    suite |= {
        "offline": {"updates": 1000, "evaluate_every": 1000},
        "online": {"steps": 120, "evaluate_every": 50},
    }
    Path("own.yaml").write_text(json.dumps({**suite, "frozen": False}))
    done = o2obench("suite", "own.yaml", "--results", "new", "--reuse", results, "--no-report")
    assert done.returncode == 0, done.stderr
    assert f"{results}: 2 finished runs taken over" in done.stdout
    assert "0 finished now, 2 were done before" in done.stdout


def strip(plan: Plan) -> Plan:
    return replace(plan, command="")


@pytest.mark.parametrize("first", [[0, 1], [2, 3], [1, 3], [0, 1, 2, 3], [3]])
def test_a_united_plan_is_that_of_all_seeds(first: list[int]) -> None:
    second = sorted({0, 1, 2, 3} - set(first)) or [1, 2]
    one, two = (toy_plan("toy_tune", "toy_offline", seeds=seeds) for seeds in (first, second))
    whole = toy_plan("toy_tune", "toy_offline", seeds=[0, 1, 2, 3])
    assert strip(unite(one, two)) == strip(whole)
    assert unite(whole, one) is whole


def test_experiments_of_other_data_and_algorithms_are_united_in_order() -> None:
    one, two = toy_plan("toy_tune", seeds=2), toy_plan("toy_tune", "toy_breaks", seeds=3)
    assert strip(unite(one, two)) == strip(two)


def test_returns_of_the_data_sets_of_both_are_kept() -> None:
    one, two = toy_plan(seeds=[0]), toy_plan(seeds=[1])
    united = unite(replace(one, data={"a": (1.0, 2.0)}), replace(two, data={"b": (3.0, 4.0)}))
    assert united.data == {"a": (1.0, 2.0), "b": (3.0, 4.0)}


def test_a_cut_of_seeds_is_said_as_long_as_it_holds() -> None:
    full = toy_plan(seeds=3)
    half = [replace(toy_plan(seeds=[s]), reduced=("seeds = 1 (full: 3)",), command="o") for s in range(3)]
    two = unite(half[0], half[1])
    assert two.reduced == ("seeds = 2 (full: 3)",)
    assert unite(two, half[2]).reduced == full.reduced == ()
    assert unite(two, half[2]).seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"title": "another"}, "title"),
        ({"reference": "toy_tune"}, "reference"),
        ({"reduced": ("online.steps = 5 (full: 9)",)}, "reduced"),
        ({"scores": {}}, ""),
    ],
)
def test_plans_of_other_suites_are_refused_before_anything_is_copied(
    results: Path, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    into = part(results, [0], tmp_path / "into")
    plan = read_plan(results / "plans" / "toy.json")
    if not why:
        [(name, reference)] = plan.scores.items()
        change, why = {"scores": {name: replace(reference, ref_max=7.0)}}, "reference scores"
    replace(plan, **change).write(ResultsFolder(results))
    before = listing(into)
    with pytest.raises(UserError, match=f"toy.json: .*differ in .*{why}"):
        merge(ResultsFolder(into), ResultsFolder(results))
    assert listing(into) == before


def test_entries_with_other_options_are_not_pooled() -> None:
    with pytest.raises(ValueError, match="other options"):
        unite(toy_plan(seeds=1, steps=120), toy_plan(seeds=[1], steps=60))


def test_a_conflict_is_named_and_nothing_of_it_copied(results: Path, tmp_path: Path) -> None:
    into = part(results, [0], tmp_path / "into")
    run = one(into, "toy_tune", 0)
    rows = run.evaluations.read_text().splitlines(keepends=True)
    run.evaluations.write_text("".join(rows[:-1]))
    run.done.unlink()
    run.finish(last_state(run).name if run.final_checkpoint() else sorted(run.checkpoint.iterdir())[-1].name)
    before = listing(run.path)
    done = merge(ResultsFolder(into), ResultsFolder(results))
    [problem] = done.problems
    assert "conflict: its evaluations differ" in problem
    assert listing(run.path) == before
    assert len(done.copied) == 3


def test_corrupted_runs_are_not_copied(results: Path, tmp_path: Path) -> None:
    run = one(results, "toy_tune", 0)
    zeros(run.evaluations)
    done = merge(ResultsFolder(tmp_path / "into"), ResultsFolder(results))
    assert [str(run.evaluations) in problem for problem in done.problems] == [True]
    assert len(done.copied) == 4
    assert not ResultsFolder(tmp_path / "into").run(run.id).path.exists()


def test_a_finished_run_takes_the_place_of_an_attempt_that_nobody_computes(
    results: Path, tmp_path: Path
) -> None:
    into, plan = part(results, [0], tmp_path / "into"), toy_plan(seeds=1)
    run = one(into, "toy_tune", 0)
    run.done.unlink()
    lock = RunLock(ResultsFolder(into).run(plan.runs[1].id))
    done = merge(ResultsFolder(into), ResultsFolder(results))
    assert any("is being computed" in problem for problem in done.problems)
    lock.release()
    assert merge(ResultsFolder(into), ResultsFolder(results)).copied == [run.id]
    assert listing(run.path) == listing(one(results, "toy_tune", 0).path)


def test_a_folder_is_not_merged_with_itself_or_its_inside(results: Path) -> None:
    for into in (results, results / "inner", results.parent):
        with pytest.raises(UserError):
            merge(ResultsFolder(into), ResultsFolder(results))


KILLS = """
import json, os, shutil, signal, sys
from pathlib import Path
from o2obench.maintenance.clean import Choice, clean
from o2obench.maintenance.merge import merge
from o2obench.planning.plan import require_plans
from o2obench.runs import inventory, verify
from o2obench.runs.folder import ResultsFolder

into = ResultsFolder("into")

CHANGES = {"os.rename", "os.mkdir", "os.link", "os.remove", "os.rmdir", "os.utime", "shutil.copyfile"}

def changes(event, arguments):
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    return event in CHANGES

def attempt(kill_at):
    child = os.fork()
    if child == 0:
        calls = iter(range(10**9))
        def hook(event, arguments):
            if changes(event, arguments) and next(calls) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        merge(into, ResultsFolder("source"))
        os._exit(0)
    return os.waitpid(child, 0)[1]

def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

def half_runs():
    for run_id in inventory.look(into).runs:
        run = into.run(run_id)
        check = verify.published if run.done.exists() else verify.unfinished
        yield from map(str, check(run, run_id))

os.fsync = lambda handle: None  # a kill, other than a power cut, does not need it
shutil.copytree("before", "into", symlinks=True)
assert attempt(-1) == 0
expected, source, kill_at, problems = tree(Path("into")), tree(Path("source")), 0, []
while True:
    shutil.rmtree("into")
    shutil.copytree("before", "into", symlinks=True)
    killed = attempt(kill_at)
    problems += half_runs()
    require_plans(into)
    if not killed:
        break
    for left in Path("into").glob("plans/.*"):
        os.utime(left, (0, 0))
    if attempt(-1) != 0:
        problems.append(f"kill {kill_at}: the repetition failed")
    clean(into, Choice())
    if tree(Path("into")) != expected:
        problems.append(f"kill {kill_at}: {set(tree(Path('into'))) ^ set(expected)}")
    kill_at += 1
if tree(Path("source")) != source:
    problems.append("the source was changed")
print(json.dumps([kill_at, problems]))
"""


@pytest.mark.slow
def test_a_merge_killed_before_any_change_leaves_no_half_run_and_can_be_repeated(
    results: Path, tmp_path: Path
) -> None:
    part(results, [0], tmp_path / "source")
    before = part(results, [1], tmp_path / "before")
    attempt = one(tmp_path / "source", "toy_tune", 0)
    shutil.rmtree(one(tmp_path / "source", "toy_offline", 0).path)
    shutil.copytree(attempt.path, before / attempt.id)
    (before / attempt.id / "DONE").unlink()
    said = subprocess.run(
        [sys.executable, "-c", KILLS], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert said.returncode == 0, said.stderr
    kills, problems = json.loads(said.stdout)
    assert problems == []
    assert kills > 40
