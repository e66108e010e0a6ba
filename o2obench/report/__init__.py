"""Reports: a pure function of plans and run folders; no clock, no network, no random number."""

from __future__ import annotations

from pathlib import Path

from ..results import plans
from .page import write_page


def write_report(results: Path, out: Path, suite: str = "") -> list[Path]:
    """Write ``out/<suite>/`` for every suite (or one) and return the pages, ``index.html`` each.

    Raises BadInput when no suite was run in ``results``.
    """
    return [write_page(plan, results, out / plan.suite) for plan in plans(results, suite)]
