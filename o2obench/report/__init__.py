"""Reports: a pure function of plans and run folders; no clock, no network, no unseeded random number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..planning.plan import Plan, no_suite
from ..runs.folder import ResultsFolder
from ..util.config import nearest
from . import cache, warnings
from .options import DEFAULT, FORMATS, ReportOptions

if TYPE_CHECKING:
    from ..analysis.external import ExternalResult

__all__ = ["FORMATS", "ReportOptions", "write_report", "write_runs"]


def write_report(
    results: ResultsFolder, out: Path, suite: str = "", options: ReportOptions = DEFAULT
) -> list[Path]:
    """Write ``out/<suite>/`` for every suite (or one) and return the pages, ``index.html`` each.

    ``out/index.html`` lists all suites whose pages are there.

    What was made from the same before and is as it was written is not made again (``cache``).

    Raises UserError when no suite was run in ``results`` or an option cannot be met, and, after the others
    were written, when a plan that was asked for cannot be read.
    """
    for name in options.formats:
        if name not in FORMATS:
            raise UserError(f"--format {name}: not known; {nearest(name, FORMATS)}")
    around = warnings.look(results)
    chosen = [plan for plan in around.plans if not suite or plan.suite == suite]
    broken = [problem for problem in around.broken if not suite or f"plans/{suite}.json" in problem]
    if not chosen and not broken:
        raise no_suite(results, suite, [plan.suite for plan in around.plans])
    methods = {experiment.method for plan in chosen for experiment in plan.experiments}
    if options.reference and options.reference not in methods:
        raise UserError(
            f"--reference {options.reference}: no suite here has it; {nearest(options.reference, methods)}"
        )
    external: tuple[ExternalResult, ...] = ()
    if options.external:
        from ..analysis.external import read_external

        external = read_external(options.external, chosen)
    pages = [_page(plan, results, out / plan.suite, around, options, external) for plan in chosen]
    if "html" in options.formats and pages:
        from .page import write_list

        write_list(out)
    if broken:
        raise UserError(*(f"{results}/{problem}" for problem in broken))
    return pages


def write_runs(plan: Plan, results: ResultsFolder, out: Path, options: ReportOptions = DEFAULT) -> Path:
    """Write ``out/runs/`` of a plan that no suite has (``analysis.from_runs``) and return its page."""
    from .page import write_page

    write_page(plan, results, out / plan.suite, warnings.NOTHING_AROUND, options)
    return out / plan.suite / "index.html"


def _page(
    plan: Plan,
    results: ResultsFolder,
    out: Path,
    around: warnings.Surroundings,
    options: ReportOptions,
    external: Sequence[ExternalResult],
) -> Path:
    request = [
        [*options.formats, options.refresh],
        options.command(plan.suite),
        [(result.name, result.file, result.sha256) for result in external],
    ]
    surroundings = [around.broken, around.unplanned, around.foreign]
    made_from = cache.key(plan, results, request, surroundings)
    if not cache.holds(out, made_from):
        from .page import write_page

        cache.write(out, made_from, write_page(plan, results, out, around, options, external))
    return out / "index.html" if "html" in options.formats else out
