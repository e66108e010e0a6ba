"""``o2obench data``: what data sets there are, what one holds, and whether a file is a good one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..envs.spec import find_env
from ..errors import UserError
from ..transitions import Array, Transitions
from ..util.files import read_json
from . import minari
from .download import recorded
from .isolated_validation import apart
from .registry import Dataset, find_dataset


def where(found: Dataset) -> str:
    """Say where a data set is, or how it can be had."""
    if found.embedded:
        return "in the package"
    assert found.file is not None
    if found.name.startswith("minari:"):
        return "Minari's folder" if found.present else "fetch"
    if found.present:
        return found.file.name
    return "fetch" if found.scores.folder else "collect"


def info_text(name: str) -> str:
    """Return the facts of a data set: rows, episodes, returns and scores, ends, saturation, hash, licence."""
    found = find_dataset(name)
    notes = found.admit()
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
        "terminated": _share(data.terminated),
        "truncated": _share(data.truncated),
        "actions at a bound": f"{100 * float((np.abs(data.action) > 0.999).mean()):.1f} %",
        "score 0 and 100": f"returns {found.scores.ref_min:g} and {found.scores.ref_max:g} "
        f"({found.scores.source})",
        "licence": _licence(found),
        **({"made by": command} if (command := card(found).get("command")) else {}),
        **{f"note {i + 1}": note for i, note in enumerate(notes)},
    }
    return "\n".join([name, *(f"  {key:<20} {value}" for key, value in facts.items())])


def card(found: Dataset) -> dict[str, object]:
    """Return the data card beside a data set's file, empty where there is none."""
    value = read_json(found.file.with_suffix(".json")) if found.file else None
    return value if isinstance(value, dict) else {}


def _licence(found: Dataset) -> str:
    if found.scores.folder:
        return "CC BY 4.0 (D4RL)"
    if found.file is None:
        return "CC0-1.0"
    return str(card(found).get("licence") or "not known; ask who made it")


def _trust(found: Dataset) -> str:
    """Say what the hash of a data set was compared with."""
    if found.embedded:
        return "came with the package"
    entry = recorded(found)
    if entry is None:
        return "not verified: there is no record of a first fetch"
    same = entry.get("sha256") == found.sha256()
    return "as at its first fetch" if same else f"CHANGED, at its first fetch {entry.get('sha256')}"


def check_text(name: str, env: str) -> str:
    """Validate a data set, or a file for an environment; raises UserError with all that is wrong."""
    if name.lower().endswith((".hdf5", ".h5")) and ":" not in name:
        if not env:
            raise UserError(f"{name}: name the environment with --env, for example --env Hopper-v4")
        return "\n".join([f"{name}: good", *apart(Path(name), find_env(env))])
    found = find_dataset(name)
    if env and env != found.env.id:
        raise UserError(f"{name}: --env {env}: the environment of this data set is {found.env.id}")
    notes = found.admit()
    data = found.load()
    returns, _ = episode_returns(data)
    return "\n".join([f"{name}: good, {len(data):,} rows, {len(returns):,} episodes", *notes])


def export(name: str, root: Path) -> Path:
    """Write a data set in Minari's layout below ``root``; return its folder.

    ``o2o:hopper-medium-v0`` becomes ``o2o/hopper/medium-v0``. Raises UserError when it exists.
    """
    found = find_dataset(name)
    if found.file is None or name.startswith("minari:"):
        raise UserError(f"{name}: is not a file in D4RL's layout, nothing to export")
    task, _, kind = found.file.stem.removeprefix("o2o-").partition("-")
    scheme = name.partition(":")[0] if ":" in name else "d4rl"
    scores = (found.scores.ref_min, found.scores.ref_max)
    task, kind = (re.sub(r"[^A-Za-z0-9_-]+", "-", part) for part in (task, kind))
    kind = kind if re.search(r"[A-Za-z0-9]-v\d+$", kind) else f"{kind or 'data'}-v0"
    return minari.write(f"{scheme}/{task}/{kind}", root, found.env, found.columns(), scores, card(found))


def episode_returns(data: Transitions) -> tuple[Array, Array]:
    """Return raw return and length of every episode, the last and possibly cut one included."""
    starts = np.flatnonzero(data.episode_start)
    returns = np.add.reduceat(data.reward.astype(np.float64), starts)
    return returns, np.diff([*starts, len(data)])


def _share(rows: Array) -> str:
    return f"{int(rows.sum()):,} rows ({100 * float(rows.mean()):.2f} %)"


def _range(values: Array) -> str:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return (
        f"mean {values.mean():.1f}, min {values.min():.1f}, 10/50/90 % {low:.1f}/{middle:.1f}/{high:.1f}, "
        f"max {values.max():.1f}"
    )
