"""Names to algorithms: a file in algorithms/ is enough, other packages use an entry point.

A module is imported only when its algorithm is asked for, so a missing optional dependency of one
algorithm does not touch the others.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from .agent import Agent
from .errors import BadInput
from .util.config import Located, merge, nearest, read_yaml

PACKAGE = "o2obench.algorithms"
GROUP = "o2obench.algorithms"


def names() -> list[str]:
    """Return the names of all algorithms, sorted: ours by file name, others by entry point."""
    try:
        files = resources.files(PACKAGE).iterdir()
    except ModuleNotFoundError:
        raise BadInput(
            "the package o2obench.algorithms is not installed; run `pip install -e .` in the checkout "
            "(and set PYTHONSAFEPATH=1 for `python -m`)"
        ) from None
    ours = [file.name[:-3] for file in files if file.name.endswith(".py") and file.name[0] != "_"]
    return sorted({*ours, *_others()})


@functools.cache
def _others() -> dict[str, metadata.EntryPoint]:
    """Return the algorithms of other packages; looking through all that is installed takes a while."""
    return {entry.name: entry for entry in metadata.entry_points(group=GROUP)}


def algorithm(name: str) -> type[Agent[Any]]:
    """Return the agent class of this name; raise BadInput when there is none or it cannot be imported."""
    if name in _others():
        return _checked(name, _others()[name].load())
    if name not in names():
        raise BadInput(f"algorithm {name}: not known; {nearest(name, names())}")
    try:
        module = importlib.import_module(f"{PACKAGE}.{name}")
    except ImportError as error:
        raise BadInput(f"algorithm {name}: cannot be imported: {error}") from error
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Agent) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise BadInput(f"algorithm {name}: its file must define one Agent class, it defines {len(found)}")
    return _checked(name, found[0])


def options_file(agent: type[Agent[Any]], name: str) -> Located:
    """Return the algorithm's ``configs/<name>.yaml`` (beside its module), empty when it has none.

    ``like: other`` takes over the other file's rows; a row of the same name is laid over the other's.
    """
    module = inspect.getsourcefile(agent)
    file = Path(module or "").with_name("configs") / f"{name}.yaml"
    own = read_yaml(file) if file.is_file() else Located({})
    if "like" not in own.value:
        return own
    if not isinstance(own.value["like"], str):
        raise BadInput(f"{own.at(('like',))}: like: expected an algorithm's name")
    other = options_file(algorithm(own.value["like"]), own.value["like"])
    rows = merge(other.child("datasets"), own.child("datasets") if "datasets" in own.value else Located({}))
    where = {place: at for place, at in own.where.items() if place[:1] != ("datasets",)}
    where |= {("datasets", *place): at for place, at in rows.where.items()}
    return Located({**own.value, "datasets": rows.value}, where)


def summary(name: str) -> str:
    """Return the first sentence of the algorithm's documentation."""
    agent = algorithm(name)
    text = inspect.getdoc(inspect.getmodule(agent)) or inspect.getdoc(agent) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def _checked(name: str, value: Any) -> type[Agent[Any]]:
    if not (inspect.isclass(value) and issubclass(value, Agent)):
        raise BadInput(f"algorithm {name}: {value!r} is not a class derived from o2obench.Agent")
    return value
