"""``o2obench data``: what a data set is, and whether a file is a good one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..agent import Transitions
from ..env import find_env
from ..errors import BadInput
from . import Dataset, find, names
from .fetch import recorded
from .hdf5 import read_transitions


def list_text() -> str:
    """Return one line per known data set: environment, reference scores, where it is."""
    lines = []
    for known in names():
        found = find(known)
        refs = found.scores
        where = "embedded" if found.embedded else str(found.file)
        lines.append(
            f"{known:<30} {found.env.id:<26} 0 = {refs.ref_min:g}, 100 = {refs.ref_max:g}, "
            f"{'' if found.present else 'missing: '}{where}"
        )
    return "\n".join(lines)


def info_text(name: str) -> str:
    """Return the facts of a data set: rows, episodes, returns and scores, ends, saturation, hash."""
    found = find(name)
    data = found.load()
    returns, lengths = episode_returns(data)
    scores = found.scores.score(returns)
    facts = {
        "environment": found.env.id,
        "file": found.file or "made when asked for",
        "sha256": f"{found.sha256()} ({_trust(found)})",
        "rows": f"{len(data):,}",
        "episodes": f"{len(returns):,}, lengths {lengths.min()} to {lengths.max()}",
        "returns": _range(returns),
        "scores": _range(scores),
        "terminated": f"{int(data.terminated.sum()):,} rows, truncated {int(data.truncated.sum()):,}",
        "actions at a bound": f"{100 * float((np.abs(data.action) > 0.999).mean()):.1f} %",
        "score 0 and 100": f"returns {found.scores.ref_min:g} and {found.scores.ref_max:g} "
        f"({found.scores.source})",
    }
    return "\n".join([name, *(f"  {key:<20} {value}" for key, value in facts.items())])


def _trust(found: Dataset) -> str:
    """Say what the hash of a data set was compared with."""
    if found.embedded:
        return "came with the package"
    entry = recorded(found)
    if entry is None:
        return "not verified: not fetched by o2obench, and D4RL publishes no hash"
    same = entry.get("sha256") == found.sha256()
    return "as at its first fetch" if same else f"CHANGED, at its first fetch {entry.get('sha256')}"


def check_text(name: str, env: str) -> str:
    """Check a data set, or a file for an environment; raises BadInput when something is wrong."""
    if name.endswith((".hdf5", ".h5")):
        if not env:
            raise BadInput(f"{name}: name the environment with --env, for example --env Hopper-v4")
        data = read_transitions(Path(name), find_env(env))
    else:
        data = find(name).load()
    returns, _ = episode_returns(data)
    return f"{name}: good, {len(data):,} rows, {len(returns):,} episodes"


def episode_returns(data: Transitions) -> tuple[np.ndarray, np.ndarray]:
    """Return raw return and length of every episode, the last and possibly cut one included."""
    starts = np.flatnonzero(data.episode_start)
    returns = np.add.reduceat(data.reward.astype(np.float64), starts)
    return returns, np.diff([*starts, len(data)])


def _range(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return (
        f"mean {values.mean():.1f}, min {values.min():.1f}, 10/50/90 % {low:.1f}/{middle:.1f}/{high:.1f}, "
        f"max {values.max():.1f}"
    )
