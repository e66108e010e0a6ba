"""Tables: every number is that of a log, nothing is dropped silently, equal folders give equal bytes."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import o2obench
from o2obench.analysis.export import BOOL, COLUMNS, FLOAT, INT, RUN, TEXT, collect, export
from o2obench.errors import UserError
from o2obench.planning.plan import Plan, read_plan
from o2obench.report import write_report
from o2obench.runs.folder import ResultsFolder, RunFolder
from o2obench.runs.jsonl import read_jsonl
from tests.conftest import Command
from tests.helpers.folders import finish
from tests.helpers.suites import toy_plan

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture
def results(two_seeds: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_seeds, tmp_path / "results"))


def plan(results: Path) -> Plan:
    return read_plan(results / "plans" / "toy.json")


def tables(folder: Path) -> dict[str, list[dict[str, str]]]:
    found = {}
    for name in COLUMNS:
        with open(folder / f"{name}.csv", newline="") as file:
            found[name] = list(csv.DictReader(file))
    return found


def test_what_a_killed_export_or_report_left_goes_with_the_next(results: Path, tmp_path: Path) -> None:
    for write, out in ((export, tmp_path / "out"), (write_report, tmp_path / "page")):
        folder = out if write is export else out / "toy"
        folder.mkdir(parents=True)
        old, young, other = (
            folder / name
            for name in (".runs.csv.77.0badcafe.tmp", ".runs.csv.78.0badcafe.tmp", "mine.77.0badcafe.tmp")
        )
        for file in (old, young, other):
            file.write_text("half")
        for file in (old, other):
            os.utime(file, (1, 1))
        write(ResultsFolder(results), out)
        assert not old.exists()
        assert young.exists(), "somebody may be writing it"
        assert other.exists(), "nobody here gives files such a name"


def test_every_number_is_that_of_a_log(results: Path, tmp_path: Path) -> None:
    lines = export(ResultsFolder(results), tmp_path / "out")
    assert len(lines) == len(COLUMNS)
    found = tables(tmp_path / "out")
    assert {name: list(rows[0]) for name, rows in found.items()} == {n: list(c) for n, c in COLUMNS.items()}
    assert len(found["runs"]) == len(plan(results).runs) == 4
    for run in plan(results).runs:
        folder, refs = ResultsFolder(results).run(run.id), plan(results).scores[run.dataset]
        own = {name: [row for row in rows if row["run"] == run.id] for name, rows in found.items()}
        [about] = own["runs"]
        assert about["state"] == folder.state()
        if about["state"] != "done":
            assert [row["what"] for row in own["problems"]] == ["toy_tune: interrupted"]
            assert [name for name in own if own[name]] == ["runs", "problems"]
            assert about["hours"] == about["env_steps"] == ""
            continue
        for row, true in zip(own["evaluations"], read_jsonl(folder.evaluations), strict=True):
            mean = sum(true["returns"]) / len(true["returns"])
            assert float(row["mean_return"]) == mean
            assert float(row["score"]) == refs.score(mean)
            assert int(row["episodes"]) == len(true["returns"])
            assert (row["stage"], int(row["env_steps"])) == (true["stage"], true["env_steps"])
            assert row["phase"] == ("online" if run.parent else "offline")
        for row, true in zip(own["episodes"], read_jsonl(folder.episodes), strict=True):
            assert float(row["return"]) == true["return"]
            assert row["terminated"] == str(true["terminated"])
        for row, true in zip(own["metrics"], read_jsonl(folder.train), strict=True):
            assert (row["name"], float(row["value"])) == ("norm", true["norm"])
        assert int(about["updates"]) == int(own["evaluations"][-1]["updates"])
        assert float(about["hours"]) > 0


def test_the_same_folders_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(ResultsFolder(results), tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def corrupted(folder: RunFolder) -> str:
    folder.evaluations.write_text(folder.evaluations.read_text()[:-40])
    return "toy_offline: evaluations.jsonl was changed after the run was finished"


def no_log(folder: RunFolder) -> str:
    folder.train.write_text("{}\nnot JSON\n")
    folder.done.unlink()
    folder.finish()
    return "toy_offline: a file of this run is corrupted; see `o2obench doctor`"


def gone(folder: RunFolder) -> str:
    shutil.rmtree(folder.path)
    return "toy_offline: waiting"


@pytest.mark.parametrize("harm", [corrupted, no_log, gone])
def test_what_gives_no_rows_is_named(results: Path, harm: Any) -> None:
    first = plan(results).runs[0]
    what = harm(ResultsFolder(results).run(first.id))
    found = collect(ResultsFolder(results)).rows
    assert [row["what"] for row in found["problems"] if row["run"] == first.id] == [what]
    for name in ("evaluations", "episodes", "metrics"):
        assert first.id not in {row["run"] for row in found[name]}
    assert first.id in {row["run"] for row in found["runs"]}


def test_runs_that_no_suite_names_are_told(results: Path) -> None:
    run = plan(results).runs[0]
    shutil.copytree(results / run.id, (results / run.id).with_name("seed-7"))
    [told] = [
        row for row in collect(ResultsFolder(results)).rows["problems"] if row["run"].endswith("seed-7")
    ]
    assert told["what"].startswith("no suite names this run")
    assert not any(
        "seed-7" in str(row["run"]) for row in collect(ResultsFolder(results), "toy").rows["problems"]
    )


def test_pretraining_runs_have_a_name_and_formulas_do_not_run(tmp_path: Path) -> None:
    entry = {"toy_tune": {"rate": [0.1], "label": "=cmd({rate})"}}
    finish(toy_plan(entry, seeds=1, steps=1000), tmp_path / "results")
    export(ResultsFolder(tmp_path / "results"), tmp_path / "out")
    found = tables(tmp_path / "out")
    assert [row["method"] for row in found["runs"]] == ["toy_offline (pretraining)", "'=cmd(0.1)"]
    scores = [float(row["score"]) for row in found["episodes"]]
    assert len(scores) == 1
    assert collect(ResultsFolder(tmp_path / "results")).frame("runs").method.tolist()[1] == "=cmd(0.1)"


def test_parquet_holds_the_same(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    for name in ("a", "b"):
        export(ResultsFolder(results), tmp_path / name, formats=("csv", "parquet"))
    for name, columns in COLUMNS.items():
        found = pd.read_parquet(tmp_path / "a" / f"{name}.parquet")
        assert {column: str(kind) for column, kind in found.dtypes.items()} == columns
        assert len(found) == len(tables(tmp_path / "a")[name])
        one, other = ((tmp_path / each / f"{name}.parquet").read_bytes() for each in ("a", "b"))
        assert one == other
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "a" / "evaluations.parquet"),
        collect(ResultsFolder(results)).frame("evaluations"),
    )


def test_bad_input_is_refused_before_anything_is_written(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, o2obench: Command
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="--format xlsx: not known"):
        export(ResultsFolder(results), out, formats=("xlsx",))
    with pytest.raises(UserError, match="lies in the results folder"):
        export(ResultsFolder(results), results / "tables")
    with pytest.raises(UserError, match="no suite quick was run here"):
        export(ResultsFolder(results), out, "quick")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'o2obench\[parquet\]'"):
        export(ResultsFolder(results), out, formats=("csv", "parquet"))
    assert not out.exists()
    done = o2obench("export", results, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "problems.csv: 1 rows" in done.stdout


def test_the_table_of_the_public_interface(results: Path) -> None:
    with pytest.warns(UserWarning, match="1 runs are left out"):
        found = o2obench.load_results(str(results))
    columns = (
        "suite, method, algorithm, pretraining, dataset, seed, phase, stage, env_steps, updates, episodes"
    )
    columns += ", mean_return, score"
    assert list(found.columns) == columns.split(", ")
    assert columns in PAGE.read_text().replace("\n", " ")
    assert found.attrs["problems"] == ["toy: toy_tune, pointmass-mixed-v0, seed 1: toy_tune: interrupted"]
    tuned = found[found.method == "toy_tune"]
    assert set(tuned.phase) == {"offline", "online"}
    with pytest.raises(UserError, match="no suite"):
        o2obench.load_results(results / "plans")


def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "results"
    found = toy_plan("toy_tune", seeds=3, steps=1000)
    object.__setattr__(found, "suite", "quick")
    finish(found, folder)
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 5
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["ends"]) == 3
    last = json.loads(
        ResultsFolder(folder).run(found.experiments[0].run).evaluations.read_text().splitlines()[-1]
    )
    mean = sum(last["returns"]) / len(last["returns"])
    assert names["ends"].iloc[0] == found.scores["pointmass-mixed-v0"].score(mean)


def described() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every table of the page, by the first word before it, with its columns and their types."""
    kinds = {"text": TEXT, "integer": INT, "number": FLOAT, "yes/no": BOOL}
    *parts, last = PAGE.read_text().split("\n| column |")
    for before, rows in zip(parts, [*parts[1:], last], strict=True):
        name = before.strip().splitlines()[-1].split(",")[0].strip("`:")
        cells = re.findall(r"^\| `(\w+)` \| ([\w/]+) \|", rows, flags=re.MULTILINE)
        yield name, {column: kinds[kind] for column, kind in cells}


def test_the_page_describes_every_column() -> None:
    found = dict(described())
    assert found.pop("In every table") == RUN
    assert {name: {**RUN, **columns} for name, columns in found.items()} == COLUMNS
