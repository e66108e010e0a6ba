"""Modules of one's own, which the command line names and nothing else does: ``--import my_envs``.

They are handed on to the processes of a launch as arguments. No suite, plan, data card or results folder can
name one.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from .files import expanded

IMPORT = "--import"
_files: dict[str, str] = {}
"""What was imported, by its module's name: a file, or the name of an installed module."""


def import_own(names: Iterable[str]) -> None:
    """Import modules by name, or by the path of a ``.py`` file; raise UserError where that cannot be done.

    A name that is not installed is looked for in the working folder.
    """
    for name in names:
        if name not in _files.values():
            _import(name)


def arguments() -> list[str]:
    """Return the arguments that make another process of ours import the same."""
    return [part for name in _files.values() for part in (IMPORT, name)]


def imported(module: str) -> object:
    """Return a module of one's own; raise UserError where the command line does not name it."""
    if module not in _files:
        raise UserError(f"{module}: not imported; name it with {IMPORT} {module}")
    return sys.modules[module]


def _import(name: str) -> None:
    file = _file(name)
    module = file.stem if file else name
    if file and file.name == "__init__.py":
        module = file.parent.name
    other = getattr(sys.modules.get(module), "__file__", "") if file else ""
    if file and (module in sys.stdlib_module_names or other not in ("", str(file))):
        raise UserError(f"{IMPORT} {name}: {module} is the name of another module; rename yours")
    folder = str((file.parent.parent if file.name == "__init__.py" else file.parent) if file else "")
    try:
        if file:
            sys.path.append(folder)  # for what it imports from beside it
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise UserError(f"{IMPORT} {name}: cannot be imported: {kind}{error}; mend it") from error
    finally:
        if file:
            sys.path.remove(folder)
    _files[module] = str(file) if file else name


def _file(name: str) -> Path | None:
    """Return the file of a module of one's own; None of an installed one."""
    given = expanded(name)
    if name.endswith(".py"):
        if not given.is_file():
            raise UserError(f"{IMPORT} {name}: not found; name a module, or the path of a .py file")
        return given.resolve()
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{IMPORT} {name}: not a module's name; name a module, or the path of a .py file")
    try:
        if importlib.util.find_spec(name):
            return None
    except (ImportError, ValueError):
        pass
    for file in (Path(f"{name}.py"), Path(name) / "__init__.py"):
        if file.is_file():
            return file.resolve()
    raise UserError(f"{IMPORT} {name}: not found, neither installed nor as {name}.py here; name its .py file")
