"""Text from the files of a results folder acts nowhere: not as a program's option, not on a terminal."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from o2obench.errors import UserError
from o2obench.launch import jobs
from o2obench.launch.status import status
from o2obench.planning.expand import read_suite
from o2obench.planning.plan import read_plan
from o2obench.runs.folder import ResultsFolder
from o2obench.runs.lock import RunLock
from o2obench.util.files import write_atomically
from tests.conftest import Command
from tests.helpers.suites import toy_plan

RED = "\x1b[31mred"


def test_only_ids_of_jobs_reach_the_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scancel = tmp_path / "bin" / "scancel"
    scancel.parent.mkdir()
    scancel.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nprintf "\\033[31mno" >&2\n')
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scancel.parent}:{os.environ['PATH']}")
    results = ResultsFolder(tmp_path / "results")
    strange: dict[str, Any] = {"--user=root": ["a"], "7;8": [], "13": "text", "14_x": [], "-9": [], "٣": []}
    noted = {"12_0": ["a"], **strange}
    jobs.note_submitted(results, "toy", noted)
    assert jobs.submitted(results, "toy") == {"12_0": ["a"]}
    assert jobs.cancel(results, "toy") == [r"SLURM jobs 12: \x1b[31mno"]
    assert (tmp_path / "asked").read_text() == "12\n"


def test_cancel_ends_no_launcher_of_another_suite(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path)
    with jobs.announced(results, "toy.more"):
        assert jobs.cancel(results, "toy") == []
        assert jobs.cancel(results, "t*") == []
    note = {"host": f"{socket.gethostname()}{RED}", "pid": os.getpid(), "began": "0"}
    file = results.jobs / f"toy.{note['host']}.{note['pid']}.json"
    write_atomically(file, json.dumps(note))
    [line] = jobs.cancel(results, "toy")
    assert "\x1b" not in line


def test_what_files_say_is_escaped_before_a_terminal_sees_it(tmp_path: Path, o2obench: Command) -> None:
    plan, results = toy_plan("toy_offline", seeds=3), ResultsFolder(tmp_path / "[/x]")
    plan.write(results)
    failed, begun, linked = (results.run(run.id) for run in plan.runs)
    failed.make()
    failed.fail(f"{RED}\x07\n[/x]")
    begun.make()
    begun.record.write_text("{}")
    begun.progress.write_text(json.dumps({"stage": RED, "done": 1, "total": "many", "unit": "\n[/y]"}))
    linked.path.parent.mkdir(exist_ok=True)
    linked.path.symlink_to(tmp_path)
    lock = RunLock(begun)
    shown = {run.state: run for run in status(plan, results)}
    assert failed.failure() == r"\x1b[31mred\x07\n[/x]"
    assert shown["running"].doing == r"\x1b[31mred 1 \n[/y]"
    said = o2obench("status", results.path)
    lock.release()
    assert said.returncode == 0, said.stderr
    assert "\x1b[31mred" not in said.stdout + said.stderr
    assert "\x07" not in said.stdout


def test_a_plan_that_holds_what_acts_on_a_terminal_is_refused(tmp_path: Path, o2obench: Command) -> None:
    results, plan = ResultsFolder(tmp_path / "results"), toy_plan(seeds=1)
    for change in ({"title": RED}, {"command": "\r"}, {"reduced": (RED,)}):
        file = replace(plan, **change).write(results)
        with pytest.raises(UserError, match="act on a terminal"):
            read_plan(file)
        said = o2obench("status", results.path)
        assert (said.returncode, "\x1b" in said.stderr) == (2, False)


def test_a_title_is_one_line(tmp_path: Path) -> None:
    assert toy_plan(seeds=1, title=" Toys,\n two\tlines\n").title == "Toys, two lines"
    with pytest.raises(UserError, match="title: holds characters that cannot be printed"):
        toy_plan(seeds=1, title=RED)


@pytest.mark.parametrize("name", ["-rf", "a$(id)", "a;b", "a{b}", "a\\b", "a%b", "a\nb", ".hidden", "a'b"])
def test_a_suite_whose_name_would_act_somewhere_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text("algorithms: [toy_offline]\ndatasets: [pointmass-mixed-v0]\n")
    with pytest.raises(UserError, match="cannot be the name of a suite") as refused:
        read_suite(file)
    assert "\n" not in str(refused.value)


def test_errors_are_escaped(tmp_path: Path, o2obench: Command) -> None:
    said = o2obench("status", tmp_path / RED)
    assert said.returncode == 2
    assert "\x1b" not in said.stderr
