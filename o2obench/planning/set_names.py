"""How a suite names data sets: ``{a,b}`` written out, and ``*`` among those that it has."""

from __future__ import annotations

import fnmatch
import itertools
import math
import re
from collections.abc import Collection, Iterator

from ..datasets.registry import canonical
from ..errors import UserError
from ..util.config import nearest
from .schema import MOST_EXPERIMENTS


def braces(pattern: str) -> Iterator[str]:
    """Expand ``{a,b}-{c,d}`` to all combinations."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    if math.prod(map(len, choices)) > MOST_EXPERIMENTS:
        raise UserError(
            f"{pattern[:20]}...: stands for over {MOST_EXPERIMENTS:,} data sets; name those you mean"
        )
    yield from ("".join(part.strip() for part in choice) for choice in itertools.product(*choices))


def matching(pattern: str, datasets: Collection[str]) -> Iterator[str]:
    """Yield the data sets that a pattern means; raise UserError where a part of it means none."""
    for name in map(canonical, braces(pattern)):
        means = [dataset for dataset in datasets if dataset == name or fnmatch.fnmatchcase(dataset, name)]
        if not means:
            raise UserError(f"{name}: none of this suite's data sets; {nearest(name, datasets)}")
        yield from means
