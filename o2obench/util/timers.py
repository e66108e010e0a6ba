"""Where the time of a run goes: seconds by kind of work, for timings.jsonl and ``run --profile``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PARTS = ("env", "act", "update", "model fit", "rollout", "evaluation", "durability")

_spent: defaultdict[str, float] = defaultdict(float)
_settle: Callable[[], None] | None = None


def settle_with(settle: Callable[[], None] | None) -> None:
    """Wait with ``settle`` before each reading: work on a GPU goes on after its call has returned."""
    global _settle
    _settle = settle


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Count the time of a block for ``part``; blocks do not nest."""
    began = time.perf_counter()
    try:
        yield
    finally:
        if _settle:
            _settle()
        _spent[part] += time.perf_counter() - began


def take() -> dict[str, float]:
    """Return the seconds of each part since the last reading, in milliseconds' precision."""
    seconds = {part: round(_spent[part], 3) for part in PARTS if _spent[part] >= 0.0005}
    _spent.clear()
    return seconds
