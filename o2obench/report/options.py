"""What a reader wants of a report beyond what its suite asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

FORMATS = ("html", "md", "tex", "csv", "svg", "pdf", "png")
"""What a report can be written as; svg is what the page holds, too."""
Watch = Callable[[Sequence[Any], str], Iterable[Any]]
"""Shows how far a loop over items is, under a name, and yields the items."""


def unwatched(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Show nothing."""
    del what
    return items


@dataclass(frozen=True)
class Wish:
    """How to write a report.

    Attributes:
        formats: Some of FORMATS.
        reference: The label that others are compared with; default: the first ``naive``, else ``frozen``.
        pairs: Whether to compare all pairs in a table, too.
        beside: Curves of others, ``name=file.csv`` each; see ``peers``.
        watch: Shows the progress.
    """

    formats: tuple[str, ...] = FORMATS
    reference: str = ""
    pairs: bool = False
    beside: tuple[str, ...] = ()
    watch: Watch = unwatched

    def command(self, suite: str) -> str:
        """Return the command that writes this report of a suite again."""
        words = [f"o2obench report results/ --suite {suite}"]
        words += [f"--reference {quote(self.reference)}"] if self.reference else []
        words += ["--pairs"] if self.pairs else []
        words += [f"--with {quote(text)}" for text in self.beside]
        return " ".join(words)


USUAL = Wish()
