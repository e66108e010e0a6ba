"""Every random number of the project comes from a stream derived from (seed, purpose).

No stream depends on an algorithm's name or configuration, so two algorithms with one seed meet the
same start states, and no two purposes share numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit number that depends on all arguments and on nothing else."""
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the numpy stream of ``(seed, purpose)``."""
    return np.random.Generator(np.random.PCG64(derive(seed, *purpose)))
