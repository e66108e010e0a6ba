"""The tutorial, run as a reader would run it; only `pip install -e` is replaced by what it writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import PLUGIN, Command

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.mark.slow
def test_the_tutorial(o2obench_process: Command, tmp_path: Path) -> None:
    methods = dict(zip(("cautious", "regressed", "plain_iql"), blocks("python"), strict=True))
    row, suite = blocks("yaml")
    rows = {"cautious": row, "regressed": "", "plain_iql": ""}
    path = str(PLUGIN)
    for command in [line[2:] for block in blocks("console") for line in block.splitlines()]:
        program, *arguments = command.split()
        if program == "pip":
            package = tmp_path / arguments[-1]
            name = package.name.removeprefix("o2obench-").replace("-", "_")
            assert len(methods[name].splitlines()) <= 60
            install(package, name, methods[name], rows[name])
            path = f"{package}:{path}"
            (tmp_path / "my.yaml").write_text(suite)
            continue
        assert program == "o2obench"
        done = o2obench_process(*arguments, PYTHONPATH=path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    page = (tmp_path / "reports" / "my" / "report.md").read_text()
    for label in ("frozen", "naive", "cautious 10", "cautious 1000"):
        assert label in page
    assert "Nothing: every run of the plan is finished" in page


def install(package: Path, name: str, method: str, row: str) -> None:
    """Fill a package of one's own in, and do what ``pip install -e`` does."""
    (package / f"o2obench_{name}" / f"{name}.py").write_text(method)
    (package / f"o2obench_{name}" / "configs" / f"{name}.yaml").write_text(row)
    entry = re.search(r'"o2obench.algorithms"\]\n(.*)\n', (package / "pyproject.toml").read_text())
    assert entry, "the scaffold registers the algorithm"
    info = package / f"o2obench_{name}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[o2obench.algorithms]\n{entry[1].replace(chr(34), '')}\n")


def test_every_algorithm_has_a_page_with_a_command() -> None:
    from o2obench import registry

    names = [name for name in registry.names() if not name.startswith("toy_")]
    for name in names:
        page = (PAGE.parent / "algorithms" / f"{name}.md").read_text()
        assert f"o2obench run {name} " in page
        assert f"algorithms/{name}.md" in (PAGE.parent / "algorithms.md").read_text()


def test_the_page_on_suites_names_all_keys_figures_and_tables(tmp_path: Path) -> None:
    from o2obench.planning.expand import read_suite
    from o2obench.planning.report_items import FIGURES, TABLES
    from o2obench.planning.schema import SuiteFile

    page = PAGE.with_name("suites.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "my.yaml").write_text(example)
    plan = read_suite(tmp_path / "my.yaml")
    assert len(plan.experiments) == 4 * 2 * 5
    keys = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert keys == [*SuiteFile.model_fields, "like"]
    figures, tables = page.split("**Figures**")[1].split("**Tables**")
    assert re.findall(r"`(\w+)`", figures) == list(FIGURES)
    assert re.findall(r"`(\w+)`", tables) == list(TABLES)
