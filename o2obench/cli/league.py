"""The league: ``league check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..runs.folder import ResultsFolder
from ..util.files import shown
from .app import App, app
from .options import AsJson, Folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..analysis.league import LeagueCheck

MOST = 20
"""So many of the runs that break a rule are named; the rest is counted."""
league_app = App(help="The standing protocol: see docs/league.md.", no_args_is_help=True)
app.add_typer(league_app, name="league")


@league_app.command("check")
def league_check(results: Folder = Path("results"), as_json: AsJson = False) -> None:
    """Hold a results folder against every rule of the league; exit code 1 where one is broken."""
    from ..analysis.league import check_league
    from .progress import busy, console
    from .tables import league_table

    with busy(f"reading every file of {results}"):
        check = check_league(ResultsFolder(results))
    if as_json:
        print(json.dumps(check.to_json(), indent=1))
    else:
        print("\n".join(map(shown, _lines(check))))
        console().print(league_table(check))
    if not check.holds:
        raise typer.Exit(1)


def _lines(check: LeagueCheck) -> Iterator[str]:
    """Yield every rule with yes or no and what breaks it, and the runs that diverged."""
    for rule in check.rules:
        yield f"{'no ' if rule.broken_by else 'yes'} {rule.says}"
        yield from _few(rule.broken_by)
    if check.diverged:
        yield "diverged; such a run has ended, and scores 0 from there on:"
        yield from _few(check.diverged)


def _few(names: tuple[str, ...]) -> Iterator[str]:
    yield from (f"      {name}" for name in names[:MOST])
    if len(names) > MOST:
        yield f"      and {len(names) - MOST:,} more ({len(names):,})"
