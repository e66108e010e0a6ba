"""Reports: a pure function of plans and run folders; no clock, no network, no unseeded random number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput
from ..planning.plan import Plan
from ..util.config import nearest
from . import cache, warnings
from .options import FORMATS, USUAL, Wish

if TYPE_CHECKING:
    from ..analysis.external import Peer

__all__ = ["FORMATS", "Wish", "write_report"]


def write_report(results: Path, out: Path, suite: str = "", wish: Wish = USUAL) -> list[Path]:
    """Write ``out/<suite>/`` for every suite (or one) and return the pages, ``index.html`` each.

    What was made from the same before and is as it was written is not made again (``stamp``).

    Raises BadInput when no suite was run in ``results`` or a wish cannot be met, and, after the others were
    written, when a plan that was asked for cannot be read.
    """
    for name in wish.formats:
        if name not in FORMATS:
            raise BadInput(f"--format {name}: not known; {nearest(name, FORMATS)}")
    around = warnings.look(results)
    chosen = [plan for plan in around.plans if not suite or plan.suite == suite]
    broken = [problem for problem in around.broken if not suite or f"plans/{suite}.json" in problem]
    if not chosen and not broken:
        found = ", ".join(plan.suite for plan in around.plans) or "none"
        wanted = f"no suite {suite}" if suite else "no suite"
        raise BadInput(f"{results}: {wanted} was run here (found: {found}); start one with `o2obench suite`")
    labels = {cell.label for plan in chosen for cell in plan.cells}
    if wish.reference and wish.reference not in labels:
        raise BadInput(
            f"--reference {wish.reference}: no suite here has it; {nearest(wish.reference, labels)}"
        )
    peers: tuple[Peer, ...] = ()
    if wish.beside:
        from ..analysis.external import read_peers

        peers = read_peers(wish.beside, chosen)
    pages = [_page(plan, results, out / plan.suite, around, wish, peers) for plan in chosen]
    if broken:
        raise BadInput(*(f"{results}/{problem}" for problem in broken))
    return pages


def _page(
    plan: Plan, results: Path, out: Path, around: warnings.Surroundings, wish: Wish, peers: Sequence[Peer]
) -> Path:
    asked = [wish.formats, wish.command(plan.suite), [(peer.name, peer.file, peer.sha256) for peer in peers]]
    known = [around.broken, around.unplanned, around.foreign]
    made_from = cache.key(plan, results, asked, known)
    if not cache.holds(out, made_from):
        from .page import write_page

        write_page(plan, results, out, around, wish, peers)
        cache.write(out, made_from)
    return out / "index.html" if "html" in wish.formats else out
