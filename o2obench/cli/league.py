"""The league: ``league check | add | reference``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from ..analysis.league_reference import METHODS
    from ..report.format import listed
    from .progress import busy, console
    from .tables import bands_table, league_table

    with busy(f"reading every file of {results}"):
        check = check_league(ResultsFolder(results))
    if as_json:
        print(json.dumps(check.to_json(), indent=1))
    else:
        print("\n".join(map(shown, _lines(check))))
        console().print(league_table(check))
        if check.bands:
            console().print(bands_table(check.bands))
        else:
            print(f"reference bands: this package has none yet of {listed(METHODS)}")
    if not check.holds:
        raise typer.Exit(1)


@league_app.command("add")
def league_add(
    results: Annotated[Path, typer.Argument(help="The results folder that holds the submitted method.")],
    to: Annotated[Path, typer.Option(help="The league's results folder.")] = Path("results/published"),
) -> None:
    """Put what a results folder holds beside the members into the league, if it keeps the rules."""
    from ..analysis.league import submission
    from ..maintenance.merge import add
    from .progress import busy

    source, league = ResultsFolder(results), ResultsFolder(to)
    with busy(f"reading every file of {results}"):
        plan = submission(source, league)
        added = add(league, source, plan)
    methods = ", ".join(dict.fromkeys(shown(experiment.method) for experiment in plan.experiments))
    if added.copied or added.plans:
        print(f"{methods}: added to {shown(league)}, {len(added.copied)} runs copied")
    else:
        print(f"{methods}: in {shown(league)} already, nothing was changed")


@league_app.command("reference")
def league_reference(
    results: Annotated[Path, typer.Argument(help="The league's results folder.")],
    to: Annotated[Path, typer.Option(help="The file.")] = Path("suites/league_reference.json"),
) -> None:
    """Write the members' values that `league check` makes reference bands of."""
    from ..analysis.league import references
    from ..analysis.league_reference import write_references
    from .progress import busy

    with busy(f"reading every file of {results}"):
        values = references(ResultsFolder(results))
    write_references(values, to)
    print(f"{shown(to)}: {len(values)} measures of members")


def _lines(check: LeagueCheck) -> Iterator[str]:
    """Yield every rule with yes or no and what breaks it, and the runs that diverged."""
    for rule in check.rules:
        yield f"no  {rule.says}; {rule.remedy}" if rule.broken_by else f"yes {rule.says}"
        yield from _few(rule.broken_by)
    if check.diverged:
        yield "diverged; such a run has ended, and scores 0 from there on:"
        yield from _few(check.diverged)


def _few(names: tuple[str, ...]) -> Iterator[str]:
    yield from (f"      {name}" for name in names[:MOST])
    if len(names) > MOST:
        yield f"      and {len(names) - MOST:,} more ({len(names):,})"
