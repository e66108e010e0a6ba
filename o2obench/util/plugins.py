"""What installed packages add through entry points."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from ..errors import UserError


def load(entry: metadata.EntryPoint) -> Any:
    """Return what an entry point names; raise UserError where it cannot be imported."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"entry point {entry.group}: {entry.name}: {entry.value} cannot be imported: {error}"
        ) from error
