"""Reports: a pure function of plans and run folders; no clock, no network, no unseeded random number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import nearest
from ..errors import BadInput
from . import guards
from .page import FORMATS, write_page

__all__ = ["FORMATS", "write_report"]


def write_report(results: Path, out: Path, suite: str = "", formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write ``out/<suite>/`` for every suite (or one) and return the pages, ``index.html`` each.

    Raises BadInput when no suite was run in ``results``, and, after the others were written, when a plan that
    was asked for cannot be read.
    """
    for name in formats:
        if name not in FORMATS:
            raise BadInput(f"--format {name}: not known; {nearest(name, FORMATS)}")
    around = guards.look(results)
    chosen = [plan for plan in around.plans if not suite or plan.suite == suite]
    broken = [problem for problem in around.broken if not suite or f"plans/{suite}.json" in problem]
    if not chosen and not broken:
        found = ", ".join(plan.suite for plan in around.plans) or "none"
        wanted = f"no suite {suite}" if suite else "no suite"
        raise BadInput(f"{results}: {wanted} was run here (found: {found}); start one with `o2obench suite`")
    pages = [write_page(plan, results, out / plan.suite, around, formats) for plan in chosen]
    if broken:
        raise BadInput(*(f"{results}/{problem}" for problem in broken))
    return pages
