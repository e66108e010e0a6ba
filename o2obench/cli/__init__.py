"""The command line: ``o2obench suite | run | status | report | list | data | doctor | check | new`` and more.

Exit codes: 0 all done, 1 a run failed or the machine did (a full disk), 2 bad input, 130 interrupted (143: a
suite, by SIGTERM). Heavy libraries are imported by the commands that need them.
"""

from __future__ import annotations

import errno
import sys
from collections import deque

from ..errors import Interrupted, RunFailed, UserError
from ..util.files import FULL, shown
from . import algorithms, analyse, datasets, league, maintain, run
from .app import DEBUG, NAME, UsageError, app

ANYWHERE = ("--import", "--terminal")
"""Options of all commands that may stand behind the command, too; ``--debug`` is another."""
PARTS = [part.__name__ for part in (run, analyse, maintain, algorithms, datasets, league)]
"""Where commands are written, in the order in which the help lists them."""
app.registered_commands.sort(key=lambda command: PARTS.index(str(command.callback.__module__)))

REMEDIES = {
    **dict.fromkeys(FULL, "make room there, and start the same command again"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "name a place that you may use, or get the right to"
    ),
    **dict.fromkeys(
        (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP),
        "something else stands there or nothing does; name another place",
    ),
    errno.ENAMETOOLONG: "name a shorter one",
}
"""What to do about errors of the system, by number."""


def main() -> None:
    """Run the command line; bad input is one line per problem and exit code 2."""
    arguments = _common_first([argument for argument in sys.argv[1:] if argument != DEBUG])
    try:
        code = app(arguments, prog_name=NAME, standalone_mode=False)
    except UsageError as error:
        _fail(_usage(error), 2)
    except UserError as error:
        _fail(error, 2)
    except (Interrupted, KeyboardInterrupt) as error:
        _fail(error if str(error) else "interrupted; the same command goes on from here", 130)
    except RunFailed as error:
        _fail(error, 1)
    except OSError as error:
        _fail(_system_error(error), 1)
    except Exception as error:  # noqa: BLE001  (the last resort: one line instead of a traceback)
        _fail(f"{type(error).__name__}: {error} ({NAME} {DEBUG} shows where)", 1)
    raise SystemExit(code)


def _common_first(arguments: list[str]) -> list[str]:
    """Return the arguments with the options of all commands, which may stand anywhere, before the command."""
    first, rest, words = list[str](), list[str](), deque(arguments)
    while words:
        word = words.popleft()
        if word == "--":
            return [*first, *rest, word, *words]
        if word.partition("=")[0] not in ANYWHERE:
            rest.append(word)
            continue
        first.append(word)
        if "=" not in word and words:
            first.append(words.popleft())
    return first + rest


def _usage(error: UsageError) -> str:
    """Return in one line what was wrong with the words of a command; of a command alone, its help."""
    context, problem = getattr(error, "ctx", None), error.format_message()
    if context is None or "\n" in problem or not problem:
        return problem
    return f"{context.command_path}: {problem[0].lower()}{problem[1:]} (`{context.command_path} --help`)"


def _system_error(error: OSError) -> str:
    """Return in one line which file or folder the system refused, why, and what to do."""
    remedy = REMEDIES.get(error.errno or 0, f"{NAME} {DEBUG} shows where")
    return f"{error.filename or type(error).__name__}: {error.strerror or error}; {remedy}"


def _fail(problem: object, code: int) -> None:
    if DEBUG in sys.argv:
        raise
    lines = problem.problems if isinstance(problem, UserError) else str(problem).split("\n")
    for line in filter(None, lines):
        print(shown(line), file=sys.stderr)
    raise SystemExit(code)
