"""Mean and best return of a data set's episodes: read once for each file, then known by its hash."""

from __future__ import annotations

import contextlib
import json

from ..errors import UserError
from ..transitions import episode_returns
from ..util.files import is_number, read_json, write_atomically
from .isolated_validation import cache_folder
from .registry import Dataset


def mean_and_best(dataset: Dataset) -> tuple[float, float] | None:
    """Return mean and best raw return of the episodes; None where they are not here or success counts."""
    if not dataset.present or dataset.env.success:
        return None
    try:
        file = cache_folder().with_name("returns") / f"{dataset.sha256()[:32]}-{dataset.env.id}.json"
        cached = read_json(file)
        if isinstance(cached, list) and len(cached) == 2 and all(map(is_number, cached)):
            return float(cached[0]), float(cached[1])
        returns, _ = episode_returns(dataset.load())
    except (OSError, UserError):
        return None
    both = (float(returns.mean()), float(returns.max()))
    with contextlib.suppress(OSError):  # a folder that cannot be written to: read again next time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(both) + "\n")
    return both
