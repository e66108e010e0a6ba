"""gymnasium-robotics, the extra ``robotics``: its environments by the ids that it registers."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import UserError


def register(env_id: str) -> None:
    """Let Gymnasium know the environments of gymnasium-robotics; raise UserError where it is not installed.

    ``env_id`` is what needs them, for the message.
    """
    import gymnasium

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it warns of its hands when it is imported
            import gymnasium_robotics
    except ImportError:
        raise UserError(
            f"{env_id}: gymnasium-robotics is not installed; pip install 'o2obench[robotics]'"
        ) from None
    gymnasium.register_envs(gymnasium_robotics)


def plain_arguments(
    spec: Mapping[str, Any], place: str, entry_point: str, known: Collection[str]
) -> dict[str, Any]:
    """Return the arguments of a described environment, whose entry point is compared and never called.

    Args:
        spec: Gymnasium's description of an environment, as somebody's file holds it.
        place: Where it stands, for the message.
        entry_point: A pattern of what gymnasium-robotics registers.
        known: The arguments that are understood.

    Raises:
        UserError: The entry point is another one, or an argument is not known.
    """
    named = spec.get("entry_point")
    if not (isinstance(named, str) and re.fullmatch(entry_point, named)):
        raise UserError(f"{place}.entry_point: {named!r:.80}, expected gymnasium-robotics' own")
    arguments = spec.get("kwargs") or {}
    if not isinstance(arguments, dict):
        raise UserError(f"{place}.kwargs: expected an object, found a {type(arguments).__name__}")
    unknown = sorted(arguments.keys() - set(known))
    if unknown:
        raise UserError(
            f"{place}.kwargs: {', '.join(unknown)[:80]}: not known; known are {', '.join(sorted(known))}"
        )
    return arguments
