"""This Python: its processes, which import nothing from where they start, and its environment variables."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

PYTHON = (sys.executable, "-P")
"""The beginning of their commands: a folder of somebody else's may hold a ``torch.py``."""


@contextlib.contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Give an environment variable another value for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
