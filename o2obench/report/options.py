"""Options of `o2obench report`, beyond what a suite asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

FORMATS = ("html", "md", "tex", "csv", "svg", "pdf", "png")
"""What a report can be written as; svg is what the page holds, too."""
Watch = Callable[[Sequence[Any], str], Iterable[Any]]
"""Shows how far a loop over items is, under a name, and yields the items."""


def unwatched(items: Sequence[Any], label: str) -> Iterable[Any]:
    """Show nothing."""
    del label
    return items


@dataclass(frozen=True)
class ReportOptions:
    """How to write a report.

    Attributes:
        formats: Some of FORMATS.
        reference: The method that others are compared with; default: the suite's.
        pairs: Whether to compare all pairs in a table, too.
        external: Curves of others, ``name=file.csv`` each; see ``analysis.external``.
        watch: Shows the progress.
        refresh: Seconds after which an open page loads itself again; 0: never.
    """

    formats: tuple[str, ...] = FORMATS
    reference: str = ""
    pairs: bool = False
    external: tuple[str, ...] = ()
    watch: Watch = unwatched
    refresh: int = 0

    def command(self, suite: str) -> str:
        """Return the command that writes this report of a suite again."""
        words = [f"o2obench report results/ --suite {suite}"]
        words += [f"--reference {quote(self.reference)}"] if self.reference else []
        words += ["--pairs"] if self.pairs else []
        words += [f"--with {quote(text)}" for text in self.external]
        return " ".join(words)


DEFAULT = ReportOptions()
