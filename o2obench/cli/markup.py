"""Text for rich that stands as it is: what comes from files is neither markup nor acts on a terminal."""

from __future__ import annotations

from rich import markup

from ..util.files import shown


def escape(text: object) -> str:
    """Return a text whose brackets are no markup and whose lines hold what can be printed only."""
    return markup.escape("\n".join(map(shown, str(text).split("\n"))))
