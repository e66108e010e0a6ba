"""Storage faults: whatever the disk does, a run goes on to the same bytes or says by name what is wrong.

The sweeps run in a process of their own that forks a child for each fault (``sweep.py``).
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from o2obench.analysis.results import logged, parts, table_of
from o2obench.datasets import isolated_validation
from o2obench.datasets import registry as datasets
from o2obench.errors import LostLock, RunFailed, UserError
from o2obench.runs import checkpoint
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.jsonl import JsonlLog, LogMark, valid_lines, with_checksum
from o2obench.runs.lock import Busy
from o2obench.runs.writer import RunWriter
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.files import read_json, usable, write_atomically
from tests.conftest import PLUGIN, environment

from . import toy
from .figures import record
from .flips import as_numbers, flip_everywhere, in_new_data

ROOT = Path(__file__).parents[2]
MOUNT = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'


def on_a_disk(folder: Path, options: str) -> list[str]:
    """Return the words before a command that give it a disk of its own in memory, mounted on ``folder``."""
    return ["unshare", "-rm", "sh", "-c", MOUNT, options, str(folder)]


@functools.cache
def can_mount() -> bool:
    """Tell whether a disk of our own can be had without privileges."""
    if shutil.which("unshare") is None:
        return False
    tried = [*on_a_disk(Path("/mnt"), "size=64k"), "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.fixture
def own_disk() -> None:
    if not can_mount():
        pytest.skip("needs unshare -rm and tmpfs")


def sweep(kind: str, folder: Path, points: int, size: str = "64m") -> dict[str, Any]:
    """Run a sweep in a process of its own, hold it against its promises, and return its figures."""
    command = on_a_disk(folder, f"size={size}") if can_mount() else []  # in memory it is faster, too
    command += [sys.executable, "-m", "tests.faults.sweep", kind, str(folder), "--points", str(points)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=with_tests(), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("wrong") == []
    assert found["ended"] > 0, "nothing was hit"
    return found


def with_tests() -> dict[str, str]:
    """Return the environment of a process that imports these tests."""
    return {**environment(), "PYTHONPATH": os.pathsep.join((str(PLUGIN), str(ROOT)))}


@pytest.fixture
def strace() -> None:
    if not can_trace():
        pytest.skip("needs strace, allowed to watch its own children")


@functools.cache
def can_trace() -> bool:
    """Ask in a process of its own: the answer takes a fork."""
    code = "from tests.faults.syscalls import available; raise SystemExit(not available())"
    return subprocess.run([sys.executable, "-c", code], env=with_tests(), check=False).returncode == 0


@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP"])
@pytest.mark.usefixtures("strace")
def test_a_packaged_set_is_read_where_the_file_system_has_no_locks(error: str) -> None:
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=flock"]
    command = [sys.executable, "-m", "o2obench", "data", "check", "invertedpendulum-replay-v0"]
    done = subprocess.run(
        [*strace, "-e", f"inject=flock:error={error}", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(),
    )
    assert "good" in done.stdout, done.stderr


# ---- F2, ST-1, ST-2: every call that writes ----------------------------------------------------------------


def test_some_writing_calls_of_python_fail_or_are_the_last(tmp_path: Path) -> None:
    assert sweep("calls", tmp_path, 30)["injections"] == 30


@pytest.mark.faults
def test_every_writing_call_of_python_fails_or_is_the_last(tmp_path: Path) -> None:
    record("F2", "every writing call of Python: KILL, ENOSPC, EIO", **sweep("calls", tmp_path, 0))


@pytest.mark.faults
@pytest.mark.usefixtures("strace")
def test_every_writing_system_call_fails_or_is_the_last(tmp_path: Path) -> None:
    record("F2", "every writing system call: KILL, ENOSPC, EIO", **sweep("syscalls", tmp_path, 0))


@pytest.mark.faults
@pytest.mark.usefixtures("strace")
def test_interrupted_calls_and_stale_handles(tmp_path: Path) -> None:
    record("ST-2", "system calls: ESTALE, EINTR", **sweep("interruptions", tmp_path, 200))


def test_too_few_file_handles_end_a_run_by_name(tmp_path: Path) -> None:
    record("ST-2", "0 to 7 file handles", **sweep("few-handles", tmp_path, 8))


# ---- F8: a full disk ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_disk")
def test_a_full_disk_ends_a_run_by_name_and_harms_nothing(tmp_path: Path) -> None:
    assert sweep("full-disk", tmp_path, 6, size="1m")["ended"] >= 5


@pytest.mark.faults
@pytest.mark.usefixtures("own_disk")
def test_a_disk_full_at_40_levels(tmp_path: Path) -> None:
    record("F8", "fill levels of a small disk", **sweep("full-disk", tmp_path, 40, size="1m"))


def test_a_full_disk_says_what_was_needed_and_free(tmp_path: Path) -> None:
    with (
        mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OSError, match=r"No space left on device \(10 bytes to write, [\d,]+ free\): '.*/x'"),
    ):
        write_atomically(tmp_path / "x", "0123456789")
    assert not list(tmp_path.iterdir())


def test_the_words_of_safetensors_become_a_system_error_with_its_path(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "state.safetensors"
    with pytest.raises(FileNotFoundError, match=rf"\[Errno 2\].*{re.escape(str(missing))}"):
        checkpoint.write_arrays(missing, {})


# ---- F4: flipped bits --------------------------------------------------------------------------------------


def test_60_flipped_bits_are_named_or_without_effect(tmp_path: Path) -> None:
    assert flip_everywhere(tmp_path, 60).silent == []


@pytest.mark.faults
def test_1000_flipped_bits_are_named_or_without_effect(tmp_path: Path) -> None:
    found = flip_everywhere(tmp_path, 1000, seed=1)
    record("F4", "flipped bits in all that is read back", **as_numbers(found))
    assert found.silent == []


@pytest.mark.faults
def test_flipped_bits_in_data_that_nobody_knows(tmp_path: Path) -> None:
    found = in_new_data(tmp_path, 20)
    record("F4", "flipped bits in a data set of unknown hash", **as_numbers(found))
    assert found.silent == []


def test_an_edited_verdict_on_data_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = datasets.find_dataset("invertedpendulum-replay-v0")
    assert found.file is not None
    looked = mock.Mock(return_value=["a note"])
    monkeypatch.setattr(isolated_validation, "apart", looked)
    for _ in range(2):
        assert isolated_validation.admit(found.file, found.env, "0" * 64) == ["a note"]
    assert looked.call_count == 1
    [verdict] = isolated_validation.cache_folder().iterdir()
    verdict.write_text(verdict.read_text().replace("a note", "b note"))
    assert isolated_validation.admit(found.file, found.env, "0" * 64) == ["a note"]


# ---- ST-3, ST-4: what an unfinished run finds --------------------------------------------------------------


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two chains: one finished, of the other the fine-tuning run is unfinished."""
    folder = tmp_path_factory.mktemp("grounds")
    with toy.settled():
        toy.compute(folder / "done")
        toy.plan().write(ResultsFolder(folder / "done"))
        toy.compute_in_part(folder / "part", breaths=29)
        yield folder


@pytest.fixture
def part(grounds: Path, tmp_path: Path) -> RunFolder:
    """An unfinished fine-tuning run."""
    shutil.copytree(grounds / "part", tmp_path / "part")
    return ResultsFolder(tmp_path / "part").run(toy.plan().runs[1].id)


def resume(part: RunFolder, grounds: Path) -> list[str]:
    """Go on with the run, compare it with the undisturbed one, and return what it says was corrupted."""
    execute([toy.plan().runs[1]], ResultsFolder(part.path.parents[3]), Options())
    assert toy.final_bytes(part.path.parents[3]) == toy.final_bytes(grounds / "done")
    assert part.corruption() == ""
    corruption: list[str] = read_json(part.record)["corruption"]
    return corruption


CUTS = (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


@pytest.mark.parametrize("cut", [*CUTS, -1, -2])
@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
def test_a_cut_checkpoint_is_set_aside_by_name(part: RunFolder, grounds: Path, name: str, cut: float) -> None:
    newest = checkpoint.numbered(part.checkpoint)[-1]
    content = (newest / name).read_bytes()
    (newest / name).write_bytes(content[: int(cut) if cut < 0 else int(cut * len(content))])
    said = f"checkpoint/{newest.name}.corrupt was set aside: an older state was used"
    assert resume(part, grounds) == [said]


def test_without_any_whole_checkpoint_a_run_says_that_it_began_again(part: RunFolder, grounds: Path) -> None:
    for target in checkpoint.numbered(part.checkpoint):
        (target / "state.safetensors").write_bytes(b"")
    corruption = resume(part, grounds)
    assert len(corruption) == 2
    assert all("began again from zero" in line for line in corruption)


def test_what_was_said_of_corruption_outlives_later_resumes(part: RunFolder, grounds: Path) -> None:
    for target in checkpoint.numbered(part.checkpoint):
        (target / "state.safetensors").write_bytes(b"")
    with mock.patch.object(checkpoint, "save", side_effect=[mock.DEFAULT, OSError(5, "once")]) as save:
        save.return_value = part.checkpoint
        with pytest.raises(OSError, match="once"):
            execute([toy.plan().runs[1]], ResultsFolder(part.path.parents[3]), Options())
    corruption = resume(part, grounds)
    assert len(corruption) == 2
    assert all("began again from zero" in line for line in corruption)


@pytest.mark.parametrize("error", [24, 116], ids=["EMFILE", "ESTALE"])
def test_a_checkpoint_that_cannot_be_read_is_not_corrupted(
    part: RunFolder, grounds: Path, error: int
) -> None:
    before = sorted(path.name for path in part.checkpoint.iterdir())
    unreadable = mock.patch("o2obench.runs.checkpoint.load_file", side_effect=OSError(error, "out of reach"))
    with unreadable, pytest.raises(OSError, match=rf"\[Errno {error}\].*{part.checkpoint}"):
        execute([toy.plan().runs[1]], ResultsFolder(part.path.parents[3]), Options())
    assert sorted(path.name for path in part.checkpoint.iterdir()) == before
    assert f"[Errno {error}]" in part.failure()
    assert resume(part, grounds) == []


def test_arrays_that_safetensors_cannot_open_are_not_absent(part: RunFolder, grounds: Path) -> None:
    newest = checkpoint.numbered(part.checkpoint)[-1]
    unopened = mock.patch(
        "o2obench.runs.checkpoint.load_file", side_effect=FileNotFoundError("No such file: x")
    )
    with unopened, pytest.raises(OSError, match=rf"\[Errno 5\].*{newest}"):
        checkpoint.read(newest)
    assert resume(part, grounds) == []


@pytest.mark.parametrize("name", ["evaluations", "train"])
def test_a_log_changed_before_its_mark_is_named_and_written_again(
    part: RunFolder, grounds: Path, name: str
) -> None:
    file: Path = getattr(part, name)
    file.write_bytes(file.read_bytes().replace(b"5", b"6", 1))
    assert [line.partition(":")[0] for line in resume(part, grounds)] == [f"{name}.jsonl was corrupted"]


def torn_tails(step: int) -> list[bytes]:
    """Return what a kill, a power cut or a second writer may leave behind the last checkpoint."""
    row = b'{"stage": "fine-tune", "env_steps": 14, "updates": 10, "returns": [1.0, 2.0]}\n'
    torn = [row[:cut] for cut in range(1, len(row), step)]
    return [*torn, row, row + row, b"\0" * 64, b"\0" * 64 + b"\n", row + b"\0" * 8 + row, b"\n\n"]


@pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.faults)])
def test_what_stands_behind_the_checkpoint_is_dropped(part: RunFolder, grounds: Path, step: int) -> None:
    tails = torn_tails(step)
    for tail in tails:
        again = ResultsFolder(part.path.parents[3].with_name("again")).run(part.id)
        shutil.rmtree(again.path.parents[3], ignore_errors=True)
        shutil.copytree(part.path.parents[3], again.path.parents[3])
        for file in (again.evaluations, again.episodes, again.train):
            with open(file, "ab") as log:
                log.write(tail)
        assert resume(again, grounds) == []
    record("ST-4", f"tails behind the checkpoint, step {step}", injections=len(tails), not_identical=0)


@pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.faults)])
def test_a_last_line_cut_before_the_mark_is_computed_again(part: RunFolder, grounds: Path, step: int) -> None:
    content = part.train.read_bytes()
    last = len(content) - content[:-1].rfind(b"\n") - 1
    cuts = range(1, last + 1, step)
    for cut in cuts:
        again = ResultsFolder(part.path.parents[3].with_name("again")).run(part.id)
        shutil.rmtree(again.path.parents[3], ignore_errors=True)
        shutil.copytree(part.path.parents[3], again.path.parents[3])
        again.train.write_bytes(content[:-cut])
        assert resume(again, grounds) == ["train.jsonl was corrupted: an older state was used"]
    record("ST-4", f"last line cut before the mark, step {step}", injections=len(cuts), not_identical=0)


def test_torn_timings_are_named_and_the_whole_lines_kept(part: RunFolder, grounds: Path) -> None:
    whole = [row for _, row in valid_lines(part.timings)]
    part.timings.write_bytes(part.timings.read_bytes() + b"\0" * 40 + b'\n{"seconds": 1')
    [said] = resume(part, grounds)
    assert said.startswith("timings.jsonl was corrupted")
    assert [row for _, row in valid_lines(part.timings)][: len(whole)] == whole


def test_run_json_of_an_unfinished_run_has_a_copy_in_the_checkpoint(part: RunFolder, grounds: Path) -> None:
    text = part.record.read_text()
    part.record.write_text(text.replace('"threads": 1', '"threads": 3'))
    [said] = resume(part, grounds)
    assert said.startswith("run.json was corrupted")
    assert read_json(part.record)["compute"]["threads"] == 1


def test_a_second_writer_is_noticed_before_a_run_is_published(part: RunFolder, grounds: Path) -> None:
    begin = RunWriter.begin

    def with_a_guest(self: Any, saved: Any) -> None:
        begin(self, saved)
        part.evaluations.write_bytes(b"{}\n")

    guest = mock.patch.object(RunWriter, "begin", with_a_guest)
    with guest, pytest.raises(RunFailed, match="somebody else"):
        execute([toy.plan().runs[1]], ResultsFolder(part.path.parents[3]), Options())
    assert not part.done.exists()
    assert resume(part, grounds)


def test_records_carry_checksums(tmp_path: Path) -> None:
    log = JsonlLog(tmp_path / "j")
    for k in range(3):
        log.append(with_checksum({"seconds": k}))
    log.close()
    assert log.mark().truncated(log.path) == log.path.read_bytes()
    assert LogMark(3, "0").truncated(log.path) is None
    log.path.write_bytes(log.path.read_bytes().replace(b'"seconds": 1', b'"seconds": 7') + b"torn")
    assert [row["seconds"] for _, row in valid_lines(log.path)] == [0, 2]


# ---- corrupted finished runs -------------------------------------------------------------------------


@pytest.fixture
def done(grounds: Path, tmp_path: Path) -> Path:
    shutil.copytree(grounds / "done", tmp_path / "done")
    return tmp_path / "done"


def test_nothing_of_a_corrupted_run_is_shown(done: Path) -> None:
    plan = toy.plan()
    offline, tune = (ResultsFolder(done).run(run.id) for run in plan.runs)
    assert len(logged(plan.experiments, ResultsFolder(done), ["norm"]))
    tune.train.write_bytes(tune.train.read_bytes().replace(b"1", b"2", 1))
    rows, [problem] = table_of(plan, ResultsFolder(done))
    assert rows.empty
    assert problem.what == "toy_tune: train.jsonl was changed after the run was finished"
    assert logged(plan.experiments, ResultsFolder(done), ["norm"]).empty
    offline.timings.write_bytes(b"\0\n")
    assert parts(plan.runs, ResultsFolder(done))  # does not fall over


def test_a_parent_that_cannot_be_read_is_not_corrupted(done: Path) -> None:
    plan = toy.plan()
    shutil.rmtree(done / plan.runs[1].id)
    out_of_reach = mock.patch(
        "o2obench.runs.folder.sha256", side_effect=OSError(116, "Stale file handle", "run.json")
    )
    with out_of_reach, pytest.raises(OSError, match=r"\[Errno 116\] Stale file handle: 'run.json'"):
        execute([plan.runs[1]], ResultsFolder(done), Options())
    execute([plan.runs[1]], ResultsFolder(done), Options())
    with out_of_reach:
        _, [problem] = table_of(plan, ResultsFolder(done))
    assert problem.what == "toy_tune: could not be read: Stale file handle"


@pytest.mark.parametrize("name", ["DONE", "run.json"])
def test_an_error_while_reading_a_parent_is_named(done: Path, name: str) -> None:
    offline, tune = toy.plan().runs
    shutil.rmtree(done / tune.id)
    bad, opened = ResultsFolder(done).run(offline.id).path / name, os.open

    def failing(path: Any, *arguments: Any, **more: Any) -> int:
        if path == bad:
            raise OSError(5, "Input/output error")
        return opened(path, *arguments, **more)

    with mock.patch("os.open", failing), pytest.raises(OSError, match=r"\[Errno 5\]"):
        execute([tune], ResultsFolder(done), Options())
    assert "[Errno 5] Input/output error" in ResultsFolder(done).run(tune.id).failure()


def test_a_finished_run_without_a_file_is_named(done: Path) -> None:
    ResultsFolder(done).run(toy.plan().runs[1].id).train.unlink()
    _, [problem] = table_of(toy.plan(), ResultsFolder(done))
    assert problem.what == "toy_tune: train.jsonl is missing"


def test_a_renamed_checkpoint_is_not_handed_over(done: Path) -> None:
    folder = ResultsFolder(done).run(toy.plan().runs[0].id)
    last = folder.final_checkpoint()
    assert last is not None
    other = last.with_name("00000001-abcd")
    state = checkpoint.read(last)
    assert state is not None
    checkpoint.save(folder.checkpoint, 1, {"agent": state["agent"]}, "abcd")
    folder.done.write_text(folder.done.read_text().replace(last.name, other.name))
    shutil.rmtree(done / toy.plan().runs[1].id)
    with pytest.raises(RunFailed, match="its state is missing or corrupted"):
        execute([toy.plan().runs[1]], ResultsFolder(done), Options())


def test_a_run_whose_done_is_seen_late_is_not_touched(done: Path) -> None:
    """On a network file system a file that another machine wrote may not be seen for a while."""
    for late in range(1, 3):
        before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
        with seen_late("DONE", late):
            execute([toy.plan().runs[1]], ResultsFolder(done), Options())
        assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file()} == before


def seen_late(name: str, times: int) -> Any:
    """Let ``exists`` of files of this name say no a few times, until the folder was written to."""
    exists, left = Path.exists, iter(range(times))

    def late(self: Path, *arguments: Any, **named: Any) -> bool:
        written_to = (self.parent / "publish.lock").is_file()
        if self.name == name and not written_to and next(left, None) is not None:
            return False
        return exists(self, *arguments, **named)

    return mock.patch.object(Path, "exists", late)


@pytest.mark.parametrize("name", ["lock", "publish_lock"])
def test_a_lock_that_nobody_lived_to_sign_holds_nothing_up(part: RunFolder, grounds: Path, name: str) -> None:
    lock: Path = getattr(part, name)
    lock.write_bytes(b"")
    with mock.patch("o2obench.runs.lock.UNSIGNED_SECONDS", 0.2):
        if name == "lock":
            with pytest.raises(Busy):  # its maker may be about to sign it
                execute([toy.plan().runs[1]], ResultsFolder(part.path.parents[3]), Options())
            time.sleep(0.3)
        assert resume(part, grounds) == []


# ---- ST-5: folders that move, vanish or cannot be written to -----------------------------------------------


def test_a_results_folder_can_be_moved(done: Path, part: RunFolder, grounds: Path) -> None:
    rows, _ = table_of(toy.plan(), ResultsFolder(done))
    elsewhere = done.with_name("else where")
    done.rename(elsewhere)
    assert table_of(toy.plan(), ResultsFolder(elsewhere))[0].equals(rows)
    moved = part.path.parents[3].rename(done.with_name("part elsewhere"))
    assert resume(ResultsFolder(moved).run(part.id), grounds) == []


def test_a_run_whose_folder_vanishes_stops_with_its_name(part: RunFolder) -> None:
    def vanish() -> bool:
        shutil.rmtree(part.path, ignore_errors=True)
        return False

    with pytest.raises(LostLock, match=rf"{part.path}: its folder is gone"):
        execute([toy.plan().runs[1]], ResultsFolder(part.path.parents[3]), Options(), stop=vanish)
    assert not part.path.exists()


@pytest.mark.usefixtures("own_disk")
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from o2obench.util.files import usable\n"
        "usable(Path(sys.argv[1]))"
    )
    command = [*on_a_disk(tmp_path, "ro"), sys.executable, "-c", code, str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert f"UserError: {tmp_path}: cannot be used as a folder: Read-only file system" in refused.stderr


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used as a folder: Not a directory"):
        usable(tmp_path / "file" / "results")
