"""No file stays behind that an environment's package writes to make one."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

PACKAGES = ("gymnasium_robotics", "ogbench")
"""They write a maze's model for MuJoCo to load, and leave it in the machine's temporary folder."""


@contextlib.contextmanager
def without_leftovers(entry_point: Any) -> Iterator[None]:
    """Give these packages, told by what Gymnasium calls, a temporary folder that is gone afterwards."""
    if not str(entry_point).startswith(PACKAGES):
        yield
        return
    usual = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = usual
