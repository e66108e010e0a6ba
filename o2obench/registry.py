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
from types import ModuleType
from typing import Any

from .agent import Agent
from .errors import UserError
from .util.config import Located, merge, nearest, read_yaml
from .util.plugins import entry_points, load

PACKAGE = "o2obench.algorithms"
GROUP = "o2obench.algorithms"


def names() -> list[str]:
    """Return the names of all algorithms, sorted: ours by file name, others by entry point."""
    return sorted({*_ours(), *_others()})


def _ours() -> set[str]:
    """Return the names of the algorithms that are built in."""
    try:
        files = resources.files(PACKAGE).iterdir()
    except ModuleNotFoundError:
        raise UserError(
            "the package o2obench.algorithms is not installed; run `pip install -e .` in the checkout "
            "(and set PYTHONSAFEPATH=1 for `python -m`)"
        ) from None
    return {file.name[:-3] for file in files if file.name.endswith(".py") and file.name[0] != "_"}


@functools.cache
def _others() -> dict[str, metadata.EntryPoint]:
    """Return the algorithms of other packages; looking through all that is installed takes a while."""
    return entry_points(GROUP)


def algorithm(name: str) -> type[Agent[Any]]:
    """Return the agent class of this name; raise UserError when there is none or it cannot be imported."""
    if name in _others():
        return _checked(name, load(_others()[name], own=_ours()))
    if name not in names():
        raise UserError(f"algorithm {name}: not known; {nearest(name, names())}")
    try:
        module = importlib.import_module(f"{PACKAGE}.{name}")
    except ImportError as error:
        raise UserError(f"algorithm {name}: cannot be imported: {error}") from error
    agents = _agents_in(module)
    if len(agents) != 1:
        raise UserError(f"algorithm {name}: its file must define one Agent class, it defines {len(agents)}")
    return _checked(name, agents[0])


def versions(name: str) -> dict[str, int]:
    """Return the versions in a run's identity: the algorithm's own, and ``kit/PART`` for each shared part.

    Those of its base classes count too. A part may be called as an algorithm is, such as SAC; the prefix
    keeps the two apart.
    """
    agent, parts = algorithm(name), dict[str, int]()
    for base in reversed(agent.__mro__):
        parts |= vars(base).get("kit_versions", {})
    return {name: agent.version, **{f"kit/{part}": number for part, number in parts.items()}}


def options_file(agent: type[Agent[Any]], name: str, above: tuple[str, ...] = ()) -> Located:
    """Return the algorithm's ``configs/<name>.yaml`` (beside its module), empty when it has none.

    ``like: other`` takes over the other file's rows; a row of the same name is laid over the other's.
    ``above`` are the names that led here.
    """
    module = inspect.getsourcefile(agent)
    file = Path(module or "").with_name("configs") / f"{name}.yaml"
    own = read_yaml(file) if file.is_file() else Located({})
    parts = own.value if isinstance(own.value, dict) else {"": own.value}
    for key in parts.keys() - {"like"}:
        if key not in ("default", "datasets") or not isinstance(parts[key], dict):
            raise UserError(
                f"{own.at((key,))}: expected `default: {{...}}`, `datasets: {{...}}` or `like: NAME`"
            )
    if "like" not in own.value:
        return own
    like = own.value["like"]
    if not isinstance(like, str):
        raise UserError(f"{own.at(('like',))}: like: expected an algorithm's name")
    if like in (name, *above):
        raise UserError(f"{own.at(('like',))}: like: {like} is like {name} in turn; leave one of the two out")
    other = options_file(algorithm(like), like, (*above, name))
    theirs, ours = (
        file.child("datasets") if "datasets" in file.value else Located({}) for file in (other, own)
    )
    rows = merge(theirs, ours)
    where = {place: at for place, at in own.where.items() if place[:1] != ("datasets",)}
    where |= {("datasets", *place): at for place, at in rows.where.items()}
    return Located({**own.value, "datasets": rows.value}, where)


def summary(name: str) -> str:
    """Return the first sentence about an algorithm: its module's, its class's where a module has several."""
    agent = algorithm(name)
    module = inspect.getmodule(agent)
    alone = module is not None and len(_agents_in(module)) == 1
    text = (inspect.getdoc(module) if alone else "") or inspect.getdoc(agent) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def _agents_in(module: ModuleType) -> list[type[Agent[Any]]]:
    """Return the agent classes that a module defines."""
    values = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Agent)]
    return [value for value in values if value.__module__ == module.__name__]


def _checked(name: str, value: Any) -> type[Agent[Any]]:
    if not (inspect.isclass(value) and issubclass(value, Agent)):
        raise UserError(f"algorithm {name}: {value!r} is not a class derived from o2obench.Agent")
    return value
