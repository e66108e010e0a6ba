"""The command line: ``o2obench suite | run | status | report | list | data | doctor | check | new`` and more.

Exit codes: 0 all done, 1 a run failed, 2 bad input, 130 interrupted (143: a suite, by SIGTERM). Heavy
libraries are imported by the commands that need them.
"""

from __future__ import annotations

import sys

from ..errors import Interrupted, RunFailed, UserError
from ..util.files import shown
from . import algorithms, analyse, datasets, maintain, run
from .app import app

PARTS = [part.__name__ for part in (run, analyse, maintain, algorithms, datasets)]
"""Where commands are written, in the order in which the help lists them."""
app.registered_commands.sort(key=lambda command: PARTS.index(str(command.callback.__module__)))


def main() -> None:
    """Run the command line; bad input is one line per problem and exit code 2."""
    try:
        app()
    except UserError as error:
        _fail(error, 2)
    except (Interrupted, KeyboardInterrupt) as error:
        _fail(error if str(error) else "interrupted; the same command goes on from here", 130)
    except RunFailed as error:
        _fail(error, 1)
    except Exception as error:  # noqa: BLE001  (the last resort: one line instead of a traceback)
        _fail(f"{type(error).__name__}: {error} (o2obench --debug shows where)", 1)


def _fail(problem: object, code: int) -> None:
    if "--debug" in sys.argv:
        raise
    print("\n".join(map(shown, str(problem).split("\n"))), file=sys.stderr)
    raise SystemExit(code)
