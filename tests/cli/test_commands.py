"""The command line as its users meet it: exit codes, one-line errors, imports, resume by re-running."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from o2obench import __version__, registry
from o2obench.cli.progress import dry_run_table
from o2obench.cli.tables import runs_table
from o2obench.planning.expand import read_suite
from o2obench.planning.plan import read_plans
from o2obench.runs.folder import ResultsFolder
from tests.conftest import Command, environment
from tests.helpers.folders import finish
from tests.helpers.suites import toy_plan

SUITE = """\
title: Toys
algorithms: [{algorithms}]
datasets: [pointmass-mixed-v0]
seeds: 2
offline: {{updates: {updates}, evaluate_every: 1000}}
online: {{steps: 60, evaluate_every: 20}}
frozen: false
"""


def write_suite(folder: Path, algorithms: str = "toy_tune", updates: int = 1000) -> Path:
    file = folder / "toys.yaml"
    file.write_text(SUITE.format(algorithms=algorithms, updates=updates))
    return file


def states(results: Path) -> dict[str, str]:
    [plan] = read_plans(ResultsFolder(results))
    return {f"{run.algorithm} {run.seed}": ResultsFolder(results).run(run.id).state() for run in plan.runs}


def test_a_suite_runs_reports_and_is_skipped_the_second_time(
    tmp_path: Path, o2obench: Command, o2obench_process: Command
) -> None:
    suite = write_suite(tmp_path)
    first = o2obench_process("suite", suite)
    assert first.returncode == 0, first.stderr
    assert "4 finished now" in first.stdout
    assert f"o2obench suite {suite}" in (tmp_path / "reports" / "toys" / "report.md").read_text()
    assert "report: reports/toys/index.html" in first.stdout
    assert set(states(tmp_path / "results").values()) == {"done"}
    second = o2obench("suite", suite)
    assert "0 finished now, 4 were done before" in second.stdout
    more = o2obench("suite", suite, "--seeds", "3", "--no-report")
    assert "2 finished now, 4 were done before" in more.stdout
    status = o2obench("status", "results")
    assert "6 done" in status.stdout


@pytest.mark.slow
def test_a_failed_run_stops_only_its_children_and_makes_the_exit_code_1(
    tmp_path: Path, o2obench: Command
) -> None:
    done = o2obench("suite", write_suite(tmp_path, "toy_breaks, toy_tune"))
    assert done.returncode == 1
    assert "RuntimeError: broken on purpose" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert all(
        "Traceback" in log.read_text() for log in (tmp_path / "results").rglob("toy_breaks/*/*/log.txt")
    )
    found = states(tmp_path / "results")
    assert found["toy_breaks 0"] == found["toy_breaks 1"] == "failed"
    assert found["toy_tune 0"] == found["toy_tune 1"] == "done"
    page = (tmp_path / "reports" / "toys" / "index.html").read_text()
    assert "broken on purpose" in page
    assert "0 of 2" in page


def test_dry_run_starts_nothing(tmp_path: Path, o2obench: Command) -> None:
    done = o2obench("suite", write_suite(tmp_path), "--dry-run")
    assert done.returncode == 0
    assert "4 runs, about" in done.stdout
    assert not (tmp_path / "results").exists()


def test_a_forecast_is_no_shorter_than_a_run_and_what_it_starts_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = read_suite(write_suite(tmp_path, "frozen", updates=120000))
    for jobs, forecast in ((1, "about 50 min"), (2, "about 25 min"), (500, "about 25 min")):
        dry_run_table(plan, ResultsFolder(tmp_path / "results"), jobs)
        assert f"4 runs, {forecast} with {jobs} at once" in capsys.readouterr().out, "120,000 at 80 a second"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("suite", "quik"), "suite quik: not known; did you mean quick?"),
        (("suite", "nowhere.yaml"), "nowhere.yaml: no such suite file"),
        (("run", "naiv", "pointmass-mixed-v0"), "algorithm naiv: not known; did you mean naive?"),
        (("run", "toy_tune", "hoper-medium-v2"), "did you mean hopper-medium-v2?"),
        (
            ("run", "toy_tune", "pointmass-mixed-v0", "--set", "rate=fast"),
            "--set rate=fast: toy_tune.rate: input",
        ),
        (("run", "toy_tune", "pointmass-mixed-v0", "--set", "rat=1"), "unknown key; did you mean rate?"),
        (
            ("run", "naive", "pointmass-mixed-v0", "--set", "mopo.penalty_coe=1"),
            "--set mopo.penalty_coe=1: mopo.penalty_coe: unknown key; did you mean penalty_coef?",
        ),
        (
            ("run", "naive", "pointmass-mixed-v0", "--set", "mbpo.penalty_coef=1"),
            "--set mbpo.penalty_coef=1: naive starts from mopo, not from mbpo",
        ),
        (
            ("run", "mopo", "hopper-medium-v2", "--offline"),
            "hopper_medium-v2.hdf5 is missing; `o2obench data fetch",
        ),
        (
            ("run", "toy_tune", "pointmass-mixed-v0", "--device", "gpu"),
            "--device gpu: has to be cpu, cuda or",
        ),
        (
            ("run", "toy_tune", "pointmass-mixed-v0", "--device", "cuda"),
            "--device cuda: no GPU was found here",
        ),
        (("suite", "smoke", "--launcher", "slurm"), "no sbatch was found here"),
        (("report", "empty"), "empty: no suite was run here (found: none)"),
        (("status", "empty"), "empty: no suite was run here (found: none)"),
        (("data", "info", "hoper"), "dataset hoper: not known, no reference scores"),
        (("data", "check", "x.hdf5"), "x.hdf5: name the environment with --env"),
        (("check", "nave"), "algorithm nave: not known"),
        (("new", "Bad-Name"), "new Bad-Name: the name must be lower-case letters"),
        (("new", "mopo"), "new mopo: an algorithm of this name exists"),
        (("suite", "smoke", "--results", "/dev/null"), "/dev/null: cannot be used as a folder"),
        (("suite", "smoke", "--seeds", "0-99999999999"), "--seeds 0-99999999999: expected a number of seeds"),
        (("suite", "smoke", "--seeds", "x"), "--seeds x: expected a number of seeds"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, o2obench: Command, arguments: tuple[str, ...], message: str
) -> None:
    tools = tmp_path / "tools"  # neither a GPU's driver nor a scheduler
    tools.mkdir()
    done = o2obench(*arguments, PATH=str(tools), CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "algorithms: [frozen]\ndatasets:\n  - pointmas-mixed-v0\n",
            "my.yaml:3:5: dataset pointmas-mixed-v0: not",
        ),
        (
            "algorithms:\n  - frozen\n  - naiv: {learning_starts: 5}\ndatasets: [pointmass-mixed-v0]\n",
            "my.yaml:3:5: algorithm",
        ),
        (
            "algorithms:\n  - frozne\ndatasets: [pointmass-mixed-v0]\n",
            "my.yaml:2:5: algorithm frozne: not known",
        ),
    ],
)
def test_an_unknown_name_is_refused_where_it_stands(
    tmp_path: Path, o2obench: Command, text: str, message: str
) -> None:
    (tmp_path / "my.yaml").write_text(text)
    done = o2obench("suite", "my.yaml", "--dry-run")
    assert done.returncode == 2
    assert done.stderr.startswith(message), done.stderr


def test_a_single_run_says_its_scores_and_what_it_cannot_learn(tmp_path: Path, o2obench: Command) -> None:
    done = o2obench("run", "toy_tune", "pointmass-mixed-v0", "--updates", "1000", "--steps", "40")
    assert done.returncode == 0, done.stderr
    assert "caution: toy_tune: evaluated at its ends only: every 1,000 steps, it takes 40" in done.stdout
    assert done.stdout.count("    score ") == 2, "the pretraining's and its own"
    (tmp_path / "short.yaml").write_text(
        "algorithms: [naive, odt_finetune: {learning_starts: 400}]\ndatasets: [pointmass-mixed-v0]\n"
        "online: {steps: 500, evaluate_every: 100}\n"
    )
    shown = o2obench("suite", "short.yaml", "--dry-run").stdout
    assert "caution: naive: learns nothing: learning_starts = 1,000, steps = 500" in shown
    assert "caution: odt_finetune" not in shown, "how many updates it does is not known beforehand"
    assert "mopo (pretraining)" in shown


@pytest.mark.parametrize(
    "arguments", [("--debug", "suite", "quik"), ("suite", "quik", "--debug"), ("suite", "--debug", "--jbos")]
)
def test_debug_shows_the_traceback_wherever_it_stands(
    o2obench_process: Command, arguments: tuple[str, ...]
) -> None:
    done = o2obench_process(*arguments)
    assert "Traceback" in done.stderr
    assert done.returncode == 1
    without = o2obench_process(*(argument for argument in arguments if argument != "--debug"))
    assert "Traceback" not in without.stderr
    assert without.returncode == 2


@pytest.mark.slow
def test_nobody_reads_on(o2obench_process: Command) -> None:
    command = f"{sys.executable} -m o2obench list | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment())
    assert done.stdout.startswith("Algorithms")
    assert not done.stderr


def test_a_terminal_shows_what_a_command_is_busy_with(o2obench: Command) -> None:
    quiet = o2obench("data", "info", "pointmass-mixed-v0")
    assert not quiet.stderr
    watched = o2obench("data", "info", "pointmass-mixed-v0", TTY_COMPATIBLE="1")
    assert "reading pointmass-mixed-v0" in watched.stderr
    assert "0:00:0" in watched.stderr
    assert watched.stdout == quiet.stdout, "the output is left alone"


def test_the_version(o2obench: Command) -> None:
    assert o2obench("--version").stdout == f"o2obench {__version__}\n"


def test_the_help_of_a_suite_has_groups(o2obench: Command) -> None:
    shown = o2obench("suite", "--help").stdout
    groups = [line.split()[1:-1] for line in shown.splitlines() if line.startswith("╭─")]
    assert [" ".join(words).rstrip("─ ") for words in groups] == [
        *("Arguments", "Options", "What is computed", "Launch", "SLURM", "How it is computed")
    ]
    slurm = shown[shown.index("─ SLURM ─") :]
    assert "--partition" in slurm
    assert "--jobs" not in slurm


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("o2obench info na", ["naive"]),
        ("o2obench suite mujoco_all-", ["mujoco_all-small"]),
        ("o2obench data info point", ["pointmass-mixed-v0", "pointmaze-play-v0"]),
        ("o2obench render toy_o", ["toy_offline:0"]),
    ],
)
def test_completion_offers_names(
    tmp_path: Path, o2obench_process: Command, words: str, offered: list[str]
) -> None:
    toy_plan("toy_offline", seeds=1).write(ResultsFolder(tmp_path / "results"))
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = o2obench_process(_O2OBENCH_COMPLETE="complete_bash", **asked)
    assert done.stdout.split() == offered


def test_list_names_algorithms_suites_and_data(o2obench: Command) -> None:
    text = o2obench("list").stdout
    for line in ("mopo ", "toy_tune ", "quick ", "pointmass-mixed-v0 "):
        assert line in text


@pytest.mark.slow
def test_interrupt_saves_and_the_same_command_goes_on(tmp_path: Path, o2obench: Command) -> None:
    suite = write_suite(tmp_path, updates=25000)
    command = [sys.executable, "-m", "o2obench", "suite", str(suite), "--jobs", "2"]
    launcher = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    _wait_for(lambda: len(list(tmp_path.rglob("progress.json"))) == 2)
    launcher.send_signal(signal.SIGINT)
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert "Interrupted; the same command goes on from here." in out
    assert set(states(tmp_path / "results").values()) == {"interrupted", "waiting"}
    assert len(list(tmp_path.rglob("manifest.json"))) >= 2, "both workers saved"
    again = o2obench("suite", suite, "--no-report")
    assert again.returncode == 0
    assert set(states(tmp_path / "results").values()) == {"done"}
    straight = o2obench("suite", suite, "--results", "straight", "--no-report")
    assert straight.returncode == 0
    [plan] = read_plans(ResultsFolder(tmp_path / "results"))
    for run in plan.runs:
        one, two = (
            ResultsFolder(tmp_path / name).run(run.id).evaluations.read_bytes()
            for name in ("results", "straight")
        )
        assert one == two


@pytest.mark.slow
def test_workers_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, updates=500000)
    command = [sys.executable, "-m", "o2obench", "suite", str(suite), "--jobs", "1"]
    launcher = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
    _wait_for(lambda: bool(list(tmp_path.rglob("progress.json"))))
    launcher.kill()
    launcher.wait()
    _wait_for(lambda: not list(tmp_path.rglob("progress.json")), 15)
    assert "interrupted" in states(tmp_path / "results").values()


@pytest.mark.slow
def test_a_worker_that_dies_without_a_word_is_recorded(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, updates=500000)
    command = [sys.executable, "-m", "o2obench", "suite", str(suite), "--jobs", "1", "--no-report"]
    launcher = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    _wait_for(lambda: bool(list(tmp_path.rglob("progress.json"))))

    def killed_for_good() -> bool:
        found = subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True)
        for worker in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)
        return bool(list(tmp_path.rglob("FAILED")))

    try:
        _wait_for(killed_for_good)
    finally:
        launcher.send_signal(signal.SIGINT)
        out, _ = launcher.communicate(timeout=60)
    failed = [file.read_text() for file in tmp_path.rglob("FAILED")]
    assert any("was killed by signal 9" in text for text in failed), (failed, out)


def _wait_for(true: object, seconds: float = 60.0) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_board_of_many_runs_shows_the_telling_ones() -> None:
    from dataclasses import replace

    from rich.console import Console

    from o2obench.launch.status import RunStatus

    one = RunStatus("r", "a", "pointmass-mixed-v0", 0, "done", "", 1.0, 1.0, 0.0, 50.0, "", "")
    runs = [one] * 50 + [replace(one, state="failed", error="out of luck"), replace(one, state="running")]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(runs_table(toy_plan(), runs, "footer", limit=5))
    text = console.export_text()
    assert "out of luck" in text
    assert "running" in text
    assert "and 47 more runs" in text
    assert text.index("footer") < text.index("method"), (
        "the time left stands above, where nothing pushes it away"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_board_fits_its_terminal_with_bars_and_spark_lines(width: int) -> None:
    from rich.console import Console

    from o2obench.launch.status import RunStatus

    def at_work(seed: int) -> RunStatus:
        numbers = (400.0, 1000.0, 1.0, 50.0)
        scores = tuple(float(i * (seed + 1)) for i in range(12))
        name = "SAC from CQL (offline share online, warm-up 5000) and a name that goes on"
        return RunStatus("r", name, "o2o:hopper-replay60-v0", seed, "running", "", *numbers, "", "", scores)

    board = Console(width=width, height=24, record=True, file=io.StringIO())
    board.print(runs_table(toy_plan(), [at_work(seed) for seed in range(8)], "2 min left", 16, width))
    lines = board.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 24
    rows = [line for line in lines if "running" in line and "\u2502" in line]
    assert len(rows) == 8, "no row wraps"
    assert all("40%" in row and "10 min" in row and "\u2588" in row and "50.0" in row for row in rows)


def test_a_report_and_a_picture_of_single_runs(tmp_path: Path, o2obench: Command) -> None:
    rates = {"toy_tune": {"rate": [0.1, 0.2], "label": "rate {rate}"}}
    plan = toy_plan(rates, seeds=2, steps=1000)
    finish(plan, tmp_path / "results")
    (tmp_path / "results" / "plans" / "toy.json").unlink(missing_ok=True)  # as of `o2obench run`: no suite
    runs = [str(ResultsFolder(tmp_path / "results").run(one.run).path) for one in plan.experiments]
    done = o2obench("report", *runs, "--out", tmp_path / "out", "--format", "html,md")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "runs" / "report.md").read_text().replace("\\", "")
    groups = {plan.run(one.run).group[:8] for one in plan.experiments}
    assert len(groups) == 2
    assert all(f"toy_tune {group}" in text for group in groups), "other options, another method"
    picture = o2obench("plot", runs[0], runs[1], "--out", tmp_path / "curves.png")
    assert picture.returncode == 0, picture.stderr
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    for words, told in (
        (("report", *runs, "--suite", "toy"), "--suite: belongs to the report of a results folder"),
        (("plot", runs[0], "--out", tmp_path / "curves.gif"), "a picture ends in .png, .pdf or .svg"),
        (("report", "toy_tune:9", "--results", tmp_path / "results"), "toy_tune:9: no run in"),
    ):
        wrong = o2obench(*words)
        assert wrong.returncode == 2
        assert told in wrong.stderr
        assert len(wrong.stderr.strip().splitlines()) == 1


def test_runs_of_an_earlier_version_are_shown_as_their_plan_has_them(
    tmp_path: Path, o2obench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = toy_plan("toy_tune", seeds=2, steps=1000)
    finish(plan, tmp_path / "results")
    plan.write(ResultsFolder(tmp_path / "results"))
    runs = [str(ResultsFolder(tmp_path / "results").run(one.run).path) for one in plan.experiments]
    monkeypatch.setattr(registry, "versions", lambda algorithm: {algorithm: 99})
    shown = o2obench("plot", *runs, "--out", tmp_path / "curves.png")
    assert shown.returncode == 0, shown.stderr
    (tmp_path / "results" / "plans" / "toy.json").unlink()
    refused = o2obench("plot", *runs, "--out", tmp_path / "curves.png")
    assert ": planned with" in refused.stderr


def test_a_watched_report_is_made_until_nothing_runs(
    tmp_path: Path, o2obench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(toy_plan("toy_tune", seeds=2, steps=1000), tmp_path / "results")
    states = iter([True, True, False])
    monkeypatch.setattr("o2obench.launch.status.is_going_on", lambda *_: next(states))
    monkeypatch.setattr("o2obench.cli.analyse.WATCH_EVERY", 0.01)
    done = o2obench("report", tmp_path / "results", "--out", tmp_path / "out", "--format", "html", "--watch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 4
    page = (tmp_path / "out" / "toy" / "index.html").read_text()
    assert 'http-equiv="refresh"' not in page, "the last one stays as it is"
