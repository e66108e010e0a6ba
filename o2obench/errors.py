"""The two ways a command can end badly, so that the command line can tell them apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user wrote cannot work; refused before anything starts (exit code 2).

    Each problem is one line: ``file:line:col: key: what is wrong; what to do``.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@contextmanager
def told_at(place: object) -> Iterator[None]:
    """Put a file, or a line of it, before what is refused."""
    try:
        yield
    except UserError as error:
        error.problems = tuple(f"{place}: {problem}" if place else problem for problem in error.problems)
        error.args = ("\n".join(error.problems),)
        raise


class MissingData(UserError):
    """Data sets that are published are not on this machine; ``names`` are all of them."""

    def __init__(self, *problems: str, names: tuple[str, ...]) -> None:
        super().__init__(*problems)
        self.names = names


class RunFailed(Exception):
    """A run could not be finished (exit code 1); its folder says why."""


class Diverged(RunFailed):
    """A number that must be finite was not: a loss, an action, a return."""


class Interrupted(Exception):
    """The run was asked to stop, saved its state and can be resumed."""


class LostLock(Exception):
    """Another process has taken this run over; nothing may be written any more."""
