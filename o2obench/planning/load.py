"""Suite files by name or path, read on top of those they are like."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from ..errors import UserError
from ..util.config import Located, merge, nearest, read_yaml


def suite_names() -> list[str]:
    """Return the names of the suites that come with the package."""
    files = (f.name for f in resources.files("o2obench.suites").iterdir())
    return sorted(name[:-5] for name in files if name.endswith(".yaml") and not name.startswith("_"))


def find_suite(name: str) -> Path:
    """Return the file of a suite given by name or path; raise UserError when there is none."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UserError(f"{name}: no such suite file; give a path or a name from `o2obench list`")
        return Path(name)
    if name not in suite_names() and ("/" in name or "." in name):
        raise UserError(f"{name}: no suite file: its name ends in .yaml")
    if name not in suite_names():
        raise UserError(f"suite {name}: not known; {nearest(name, suite_names())}")
    return Path(str(resources.files("o2obench.suites").joinpath(f"{name}.yaml")))


def is_packaged(file: Path) -> bool:
    """Tell whether a file is one of the package's own suites."""
    return file.stem in suite_names() and find_suite(file.stem).resolve() == file.resolve()


def read_layers(file: Path, above: tuple[Path, ...] = ()) -> Located:
    """Read a suite file on top of those it names by ``like: other`` or ``like: [one, two]``, key by key.

    These lie beside it or come with the package; ``above`` are the files that led here.
    """
    own, way = read_yaml(file), (*above, file.resolve())
    if above and not isinstance(own.value, dict):
        raise UserError(f"{own.at(())}: expected keys of a suite")
    if not isinstance(own.value, dict) or "like" not in own.value:
        return own
    named = own.value["like"]
    names = [named] if isinstance(named, str) else named
    if not (names and isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError(f"{own.at(('like',))}: like: expected a suite's name, or a list of names")
    layers = []
    for name in names:
        where = own.at(("like",))
        if not re.fullmatch(r"[\w .+=@()-]+", name) or name.startswith("."):
            raise UserError(f"{where}: like: {name!r} is not a suite's name; it has no folder and no ending")
        place = file.with_name(f"{name}.yaml")
        if not (place.is_file() or name in suite_names()):
            raise UserError(f"{where}: like: {name}: not known; {nearest(name, suite_names())}")
        other = place if place.is_file() else find_suite(name)
        if other.resolve() in way:
            raise UserError(f"{where}: like: {name} is like this file in turn; leave one of the two out")
        layers.append(read_layers(other, way))
    value = {key: item for key, item in own.value.items() if key != "like"}
    return merge(*layers, Located(value, own.where))
