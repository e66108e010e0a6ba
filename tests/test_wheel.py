"""The wheel holds everything: installed alone, away from the checkout, it lists and runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_lists_and_runs_without_the_checkout(tmp_path: Path) -> None:
    source = tmp_path / "source"
    kept = shutil.ignore_patterns(".git", ".venv", "results", "reports", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=kept)
    run(
        *(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            tmp_path,
            source,
        ),
        cwd=tmp_path,
    )
    [wheel] = tmp_path.glob("o2obench-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    run(sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", site, wheel, cwd=tmp_path)
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    where = run(python, "-c", "import o2obench; print(o2obench.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(tmp_path / "venv"), where
    text = run(python, "-m", "o2obench", "list", cwd=tmp_path, PYTHONSAFEPATH="1")
    for name in (
        "mopo ",
        "frozen ",
        "naive ",
        "mbpo ",
        "quick ",
        "smoke ",
        "invertedpendulum-replay-v0 ",
    ):
        assert name in text, text
    assert "invertedpendulum-replay-v0   InvertedPendulum-v4, embedded" in text
    smoke = (
        "run",
        "sac",
        "pointmass-mixed-v0",
        "--steps",
        "10",
        "--every",
        "5",
        "--set",
        "learning_starts=5",
    )
    run(python, "-m", "o2obench", *smoke, cwd=tmp_path, PYTHONSAFEPATH="1")
    assert list((tmp_path / "results").rglob("DONE"))
    run(python, "-m", "o2obench", "report", "sac:0", "--format", "html,md", cwd=tmp_path, PYTHONSAFEPATH="1")
    assert (tmp_path / "reports" / "runs" / "index.html").is_file()
    files = (file.relative_to(ROOT) for file in (ROOT / "o2obench").rglob("*") if file.is_file())
    lacking = [str(file) for file in files if file.suffix != ".pyc" and not (site / file).exists()]
    assert lacking == [], "the wheel holds every file of the package"
