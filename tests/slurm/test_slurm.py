"""A real SLURM, brought up here and taken down: grids, failures, time limits, preemption, scancel."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from o2obench.launch import jobs
from o2obench.planning.plan import read_plans
from o2obench.runs.folder import ResultsFolder
from tests.conftest import environment

pytestmark = pytest.mark.slurm
HERE = Path(__file__).parent
PROFILE = """
launcher: slurm
time: {time}
memory_gb: 0.3
signal_seconds: 30
poll_seconds: 1
folder: {folder}
"""
SUITE = """
algorithms: [{algorithms}]
datasets: [pointmass-mixed-v0]
seeds: {seeds}
offline: {{updates: 1000, evaluate_every: 1000}}
online: {{steps: 120, evaluate_every: 50}}
frozen: false
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Bring SLURM up for this file; yield the environment of its users."""
    required = "slurm" in os.environ.get("O2O_REQUIRE", "")
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        if required:
            pytest.fail("SLURM is required here: it takes root and Debian's packages")
        pytest.skip("bringing SLURM up takes root and Debian's packages")
    root = Path(tempfile.mkdtemp(prefix="o2obench-slurm-"))
    root.chmod(0o755)  # the database and munge are users of their own
    try:
        with open(root / "up.log", "w") as log:  # a file: the daemons would keep a pipe open
            up = subprocess.run(["bash", HERE / "up.sh", root], stdout=log, stderr=log, timeout=300)
        assert up.returncode == 0, (root / "up.log").read_text()
        daemons = [int(file.read_text()) for file in (root / "run").glob("*.pid")]
        yield environment(SLURM_CONF=str(root / "etc" / "slurm.conf"), TOY_PAUSE="0")
    finally:
        subprocess.run(["bash", HERE / "down.sh", root], timeout=120, stdout=subprocess.DEVNULL)
    assert not [pid for pid in daemons if _lives(pid)], "a daemon was left behind"
    shutil.rmtree(root)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Grid:
    """A suite on its way through SLURM, in a folder of its own."""

    def __init__(
        self,
        root: Path,
        cluster: dict[str, str],
        algorithms: str = "toy_tune",
        seeds: int = 1,
        time: int = 10,
        pause: float = 0.0,
    ) -> None:
        root.mkdir(exist_ok=True)
        self.root, self.results = root, root / "results"
        self.launcher: subprocess.Popen[str]
        self.environment = {**cluster, "TOY_PAUSE": str(pause)}
        (root / "site.yaml").write_text(PROFILE.format(time=time, folder=root / "submitit"))
        (root / "grid.yaml").write_text(SUITE.format(algorithms=algorithms, seeds=seeds))

    def command(self, *more: str) -> list[str]:
        where = ["--results", str(self.results), "--out", str(self.root / "reports")]
        suite = [str(self.root / "grid.yaml"), *where, "--launcher", str(self.root / "site.yaml")]
        return [sys.executable, "-m", "o2obench", "suite", *suite, *more]

    def start(self, *more: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(*more), env=self.environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*more), env=self.environment, capture_output=True, text=True, timeout=300
        )

    def states(self) -> dict[str, str]:
        [plan] = read_plans(ResultsFolder(self.results))
        return {run.id: ResultsFolder(self.results).run(run.id).state() for run in plan.runs}

    def job_of(self, run: str) -> str:
        """Return the array task that computes a run."""
        return next(
            job for job, runs in jobs.submitted(ResultsFolder(self.results), "grid").items() if run in runs
        )

    def slurm(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    def final_bytes(self) -> list[bytes]:
        [plan] = read_plans(ResultsFolder(self.results))
        return [ResultsFolder(self.results).run(run.id).evaluations.read_bytes() for run in plan.runs]


@pytest.fixture(scope="module")
def straight(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return what one seed of the toys gives without SLURM."""
    grid = Grid(tmp_path_factory.mktemp("straight"), cluster)
    local = ["suite", str(grid.root / "grid.yaml"), "--results", str(grid.results), "--no-report"]
    subprocess.run([sys.executable, "-m", "o2obench", *local], env=cluster, check=True, timeout=120)
    return grid.final_bytes()


@pytest.fixture(scope="module", autouse=True)
def slow(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """Start what needs more time than its limit at the beginning of the file; a test asks for its end."""
    grid = Grid(tmp_path_factory.mktemp("slow"), cluster, time=1, pause=0.45)
    grid.launcher = grid.start()
    yield grid
    grid.launcher.kill()
    grid.launcher.communicate()


def test_a_grid_goes_through_arrays(cluster: dict[str, str], tmp_path: Path) -> None:
    grid = Grid(tmp_path / "grid", cluster, seeds=3)
    shown = grid.run("--dry-run", "--parallel", "2").stdout
    done = grid.run("--parallel", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(grid.states().values()) == {"done"}
    submitted = sorted((grid.root / "submitit").rglob("*_submission.sh"))
    assert len(submitted) == 2, "the pretraining runs, and those that start from them"
    scripts = [file.read_text() for file in submitted]
    assert "aftercorr" in scripts[1]
    assert "--array=0-2%2" in scripts[0]
    _assert_shown(shown, scripts[0])
    assert stat.S_IMODE((grid.root / "submitit").stat().st_mode) == 0o700
    assert not list(grid.results.rglob("*.pkl")), "nothing that can be unpickled lies among the results"
    again = grid.run()
    assert again.returncode == 0
    assert "0 array tasks submitted" in again.stdout


def test_missing_data_are_collected_by_a_job_even_if_it_is_killed(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    here, other = ({**cluster, "O2OBENCH_DATA": str(tmp_path / name)} for name in ("here", "other"))
    grid = Grid(tmp_path / "grid", here)
    suite = grid.root / "grid.yaml"
    text = suite.read_text().replace("pointmass-mixed-v0", '"o2o:pointmaze-umaze-play-v0"')
    suite.write_text(f"{text}collect: {{rows: 60_000}}\n")
    launcher = grid.start()
    collecting = _running(grid, "collect")
    grid.slurm("scontrol", "requeue", grid.job_of(collecting))  # SIGTERM, then SIGKILL
    out, _ = launcher.communicate(timeout=250)
    assert launcher.returncode == 0, out + _logs(grid)
    assert set(grid.states().values()) == {"done"}
    scripts = [file.read_text() for file in (grid.root / "submitit").rglob("*_submission.sh")]
    assert len(scripts) == 3, "the collection, the pretraining on it, and what starts from that"
    assert sum("--dependency=after" in script for script in scripts) == 2
    alone = [sys.executable, "-m", "o2obench", "data", "collect", "pointmaze-umaze", "--kind", "play"]
    subprocess.run([*alone, "--rows", "60000"], env=other, check=True, timeout=120)
    assert len({file.read_bytes() for file in tmp_path.glob("*/pointmaze-umaze-play-v0.hdf5")}) == 1


def _assert_shown(shown: str, script: str) -> None:
    """The dry run prints the script that is submitted, but for the folder's name."""
    lines = {line.split("/submitit/")[0] for line in script.splitlines()}
    missing = lines - {line.split("/submitit/")[0] for line in shown.splitlines()}
    assert not missing, missing


def test_a_failing_run_fails_alone(cluster: dict[str, str], tmp_path: Path) -> None:
    grid = Grid(tmp_path / "grid", cluster, algorithms="toy_tune, toy_breaks")
    done = grid.run()
    assert done.returncode == 1
    assert "broken on purpose" in done.stdout
    assert sorted(grid.states().values()) == ["done", "done", "failed"]


def test_a_preempted_task_is_queued_again(
    cluster: dict[str, str], tmp_path: Path, straight: list[bytes]
) -> None:
    grid = Grid(tmp_path / "grid", cluster, pause=0.1)
    launcher = grid.start()
    tune = _running(grid, "toy_tune")
    grid.slurm("scancel", "--signal=USR2", grid.job_of(tune))  # the warning before a preemption
    _wait_for(lambda: "Requeued job" in _logs(grid), "it is queued again")
    assert list(ResultsFolder(grid.results).run(tune).checkpoint.glob("*/manifest.json")), "it had saved"
    _running(grid, "toy_tune")
    grid.slurm("scontrol", "requeue", grid.job_of(tune))  # no warning: SIGTERM, then SIGKILL
    out, _ = launcher.communicate(timeout=200)
    assert launcher.returncode == 0, out + _logs(grid)
    assert grid.final_bytes() == straight


def test_cancelled_tasks_are_noticed_and_submitted_again(cluster: dict[str, str], tmp_path: Path) -> None:
    grid = Grid(tmp_path / "grid", cluster, seeds=2, pause=1.0)
    launcher = grid.start("--parallel", "1")
    running = _running(grid, "toy_tune")
    [pending] = [run for run in grid.states() if "toy_tune" in run and run != running]
    grid.slurm("scancel", grid.job_of(running))
    grid.slurm("scancel", grid.job_of(pending))  # leaves no trace anywhere in SLURM
    out, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == 1, out
    assert "stopped from outside" in out
    assert grid.states()[running] in ("interrupted", "stale"), "it had saved"
    grid.environment["TOY_PAUSE"] = "0"
    again = grid.run()
    assert "2 array tasks submitted" in again.stdout
    assert again.returncode == 0, again.stdout + again.stderr
    assert set(grid.states().values()) == {"done"}


def test_cancel_ends_the_jobs_of_a_suite(cluster: dict[str, str], tmp_path: Path) -> None:
    grid = Grid(tmp_path / "grid", cluster, pause=1.0)
    assert grid.run("--no-wait").returncode == 0
    tune = _running(grid, "toy_tune")
    job = grid.job_of(tune)
    said = grid.slurm(sys.executable, "-m", "o2obench", "cancel", str(grid.results))
    assert "cancelled" in said
    _wait_for(lambda: job not in grid.slurm("squeue", "--noheader", "--array", "--format=%i"), "it is gone")
    assert grid.states()[tune] in ("interrupted", "stale")


def test_a_refused_submission_says_why(cluster: dict[str, str], tmp_path: Path) -> None:
    grid = Grid(tmp_path / "grid", cluster)
    done = grid.run("--partition", "nowhere")
    assert done.returncode == 1
    assert "SLURM refused an array" in done.stderr
    assert "partition" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_longer_than_its_time_limit_is_finished(slow: Grid, straight: list[bytes]) -> None:
    out, _ = slow.launcher.communicate(timeout=300)
    assert slow.launcher.returncode == 0, out + _logs(slow)
    assert "Requeued job" in _logs(slow)
    assert slow.final_bytes() == straight


def _running(grid: Grid, algorithm: str) -> str:
    """Wait until some run of an algorithm is under way and has shown progress; return its id."""

    def found() -> list[str]:
        if not (grid.results / "plans").exists():
            return []
        at_work = [run for run, state in grid.states().items() if state == "running" and algorithm in run]
        return [run for run in at_work if ResultsFolder(grid.results).run(run).progress.exists()]

    _wait_for(lambda: bool(found()), f"{algorithm} runs")
    return found()[0]


def _logs(grid: Grid) -> str:
    return "\n".join(file.read_text() for file in sorted((grid.root / "submitit").rglob("*.out")))


def _wait_for(true: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.2)
