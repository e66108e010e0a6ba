"""Processes of this Python that import nothing from the folder they are started in."""

from __future__ import annotations

import sys

PYTHON = (sys.executable, "-P")
"""The beginning of their commands: a folder of somebody else's may hold a ``torch.py``."""
