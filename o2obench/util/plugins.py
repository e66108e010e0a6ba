"""What installed packages add through entry points."""

from __future__ import annotations

import functools
from collections.abc import Collection
from importlib import metadata
from typing import Any

from ..errors import UserError


def load(entry: metadata.EntryPoint, own: Collection[str] = ()) -> Any:
    """Return what an entry point names; raise UserError naming the package where that cannot be had.

    So it is for the names in ``own``, those of what is built in, and for a name that two packages give: a
    run's identity holds the name, and the same name must mean the same code.
    """
    about, package = f"entry point {entry.group}: {entry.name}", _package(entry)
    packages = _packages(entry.group, entry.name)
    if entry.name in own:
        raise UserError(
            f"{about}: the package {package} gives the name of what is built in; uninstall it, or rename its "
            "entry"
        )
    if len(packages) > 1:
        raise UserError(f"{about}: is given by {' and '.join(packages)}; uninstall all but one")
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
        raise UserError(
            f"{about}: {entry.value} cannot be imported: {kind}{error}; mend or uninstall the "
            f"package {package}"
        ) from error


def entry_points(group: str) -> dict[str, metadata.EntryPoint]:
    """Return what installed packages add to a group; raise UserError naming one whose list cannot be read."""
    try:
        return {entry.name: entry for entry in metadata.entry_points(group=group)}
    except Exception as error:
        for package in metadata.distributions():
            try:
                package.entry_points  # noqa: B018  (reading it is the test)
            except Exception:  # noqa: BLE001  (whatever the parser raises)
                raise UserError(
                    f"the package {package.name}: its entry_points.txt cannot be read; mend or uninstall it"
                ) from error
        raise


@functools.cache
def _packages(group: str, name: str) -> list[str]:
    """Return the packages that give a name; looking through all that is installed takes a while."""
    return [_package(entry) for entry in metadata.entry_points(group=group, name=name)]


def _package(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module
