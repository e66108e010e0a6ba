"""Who may import whom, held by the syntax trees; nothing flows back up the straight line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "gymnasium", "mujoco", "pandas", "seaborn", "matplotlib", "submitit", "jinja2", "h5py"}


def modules() -> list[Path]:
    return sorted([*(ROOT / "o2obench").rglob("*.py"), *(ROOT / "algorithms").glob("*.py")])


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Yield (module, whether it is imported at the top) with relative names made absolute."""
    tree = ast.parse(file.read_text())
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "algorithms":
        parts = ["o2obench", *parts]
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            names = (
                [prefix]
                if node.module and node.level == 0
                else [prefix, *(f"{prefix}.{a.name}" for a in node.names)]
            )
        for name in names:
            yield name, id(node) in top


def room(file: Path) -> str:
    parts = file.relative_to(ROOT).parts
    return (
        parts[0]
        if parts[0] == "algorithms"
        else (parts[1] if len(parts) > 2 else parts[1].removesuffix(".py"))
    )


def starts(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_import_table(file: Path) -> None:
    place = room(file)
    for name, at_top in imports(file):
        said = f"{file.relative_to(ROOT)} imports {name}"
        if starts(name, "o2obench.algorithms"):
            assert place == "algorithms", f"{said}: ask the registry"
        if place in ("algorithms", "kit") and starts(name, "o2obench"):
            allowed = (
                "o2obench.agent",
                "o2obench.config",
                "o2obench.kit",
                "o2obench.seeds",
                "o2obench.stopwatch",
                "o2obench.algorithms",
            )
            own = ("o2obench.algorithms",) if place == "algorithms" else ()
            assert name == "o2obench" or starts(name, *allowed, *own), said
        if starts(name, "o2obench.kit"):
            engine = file.name == "provenance.py" and not at_top
            assert place in ("algorithms", "kit") or engine, said
        if starts(name, "o2obench.report"):
            assert place in ("report", "cli"), said
        if starts(name, "torch"):
            edge = place == "provenance" or (place == "contract" and not at_top)
            assert place in ("algorithms", "kit") or edge, said
        if starts(name, "gymnasium", "mujoco"):
            assert place in ("env", "lockstep"), said
            assert not at_top, said
        if starts(name, "submitit"):
            assert (place, at_top) == ("launch", False), said
        if starts(name, "seaborn", "matplotlib"):
            assert (place, at_top) == ("report", False), said
        if starts(name, "pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"):
            raise AssertionError(f"{said}: nothing is ever unpickled")


def test_no_eval_and_no_unsafe_yaml() -> None:
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "yaml.unsafe_load", "yaml.full_load", "torch.load"), (
                    file
                )
                if called == "yaml.load":
                    assert "_Yaml12" in ast.unparse(node), file


def test_an_algorithm_is_only_its_difference() -> None:
    for file in (ROOT / "algorithms").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 125, file
    assert len((ROOT / "o2obench" / "train.py").read_text().splitlines()) <= 250
