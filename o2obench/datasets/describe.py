"""``o2obench data``: what data sets there are, what one holds, and whether a file is a good one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..envs.spec import find_env
from ..errors import UserError
from ..transitions import Array, Transitions, episode_returns
from ..util.files import shown
from . import minari, ogbench
from .download import recorded
from .isolated_validation import apart
from .registry import Dataset, find_dataset

HALF = 0.51
"""Of the bounds: actions that stay within are in other units, or of a very gentle policy."""
FAR = 400.0
"""Scores beyond which, on either side, units are in doubt; the best published ones are below 150."""


def where(dataset: Dataset) -> str:
    """Say where a data set is, or how it can be had."""
    if dataset.embedded:
        return "in the package"
    assert dataset.file is not None
    if dataset.name.startswith("minari:"):
        return "Minari's folder" if dataset.present else "fetch"
    if dataset.present:
        return dataset.file.name
    return "fetch" if dataset.published else "collect"


def info_text(name: str) -> str:
    """Return the facts of a data set: rows, episodes, returns and scores, ends, saturation, hash, licence."""
    dataset = find_dataset(name)
    notes = dataset.admit()
    data = dataset.load()
    returns, lengths = episode_returns(data)
    counted = "success" if dataset.env.success else "returns"
    facts = {
        "environment": dataset.env.id,
        "file": dataset.file or "made when asked for",
        "sha256": f"{dataset.sha256()} ({_trust(dataset)})",
        "rows": f"{len(data):,}",
        "episodes": f"{len(returns):,}, lengths {lengths.min()} to {lengths.max()}",
        "returns": _range(returns),
        **({} if dataset.env.success else {"scores": _range(dataset.scores.score(returns))}),
        "terminated": _share(data.terminated),
        "truncated": _share(data.truncated),
        "actions at a bound": f"{100 * float((np.abs(data.action) > 0.999).mean()):.1f} %",
        "score 0 and 100": f"{counted} {dataset.scores.ref_min:g} and {dataset.scores.ref_max:g} "
        f"({dataset.scores.source})",
        "licence": dataset.licence,
        **_papers(dataset),
        **({"made by": command} if (command := dataset.card.get("command")) else {}),
        **{f"note {i + 1}": note for i, note in enumerate([*notes, *doubts(dataset, data)])},
    }
    return "\n".join([shown(name), *(f"  {key:<20} {shown(value)}" for key, value in facts.items())])


def _papers(dataset: Dataset) -> dict[str, str]:
    """Say where Croissant metadata and the datasheet are; nothing for the toy data."""
    if not dataset.papers:
        return {}
    there = ", ".join(str(paper) for paper in dataset.papers if paper.is_file())
    return {"papers": there or f"none; `o2obench data card {dataset.name}` writes them"}


def _trust(dataset: Dataset) -> str:
    """Say what the hash of a data set was compared with."""
    if dataset.embedded:
        return "came with the package"
    entry = recorded(dataset)
    if entry is None:
        return "not verified: there is no record of a first fetch"
    same = entry.get("sha256") == dataset.sha256()
    return "as at its first fetch" if same else f"CHANGED, at its first fetch {entry.get('sha256')}"


def check_text(name: str, env: str) -> str:
    """Validate a data set, or a file for an environment; raises UserError with all that is wrong."""
    if name.lower().endswith((".hdf5", ".h5", ogbench.NPZ)) and ":" not in name:
        if not env:
            raise UserError(f"{name}: name the environment with --env, for example --env Hopper-v4")
        return "\n".join([f"{name}: good", *apart(Path(name), find_env(env))])
    dataset = find_dataset(name)
    if env and env != dataset.env.id:
        raise UserError(f"{name}: --env {env}: the environment of this data set is {dataset.env.id}")
    notes = dataset.admit()
    data = dataset.load()
    returns, _ = episode_returns(data)
    good = f"{name}: good, {len(data):,} rows, {len(returns):,} episodes"
    return "\n".join([good, *notes, *doubts(dataset, data)])


def export(name: str, root: Path) -> Path:
    """Write a data set in Minari's layout below ``root``; return its folder.

    ``o2o:hopper-medium-v0`` becomes ``o2o/hopper/medium-v0``. Raises UserError when it exists.
    """
    dataset = find_dataset(name)
    if dataset.file is None or name.startswith(("minari:", ogbench.SCHEME)):
        raise UserError(f"{name}: is not a file in D4RL's layout, nothing to export")
    task, _, kind = dataset.file.stem.removeprefix("o2o-").partition("-")
    scheme = name.partition(":")[0] if ":" in name else "d4rl"
    scores = (dataset.scores.ref_min, dataset.scores.ref_max)
    task, kind = (re.sub(r"[^A-Za-z0-9_-]+", "-", part) for part in (task, kind))
    kind = kind if re.search(r"[A-Za-z0-9]-v\d+$", kind) else f"{kind or 'data'}-v0"
    return minari.write(f"{scheme}/{task}/{kind}", root, dataset.env, dataset.columns(), scores, dataset.card)


def doubts(dataset: Dataset, data: Transitions) -> Iterator[str]:
    """Yield a line for each thing that looks as if valid data were in other units, or of another task."""
    returns, lengths = episode_returns(data)
    scores = dataset.scores.score(returns)
    farthest = float(scores[np.abs(scores).argmax()])
    if abs(farthest) > FAR and not dataset.env.success:
        yield (
            f"an episode scores {farthest:,.0f}, where the reference expert has 100: are its rewards in "
            f"other units than those of {dataset.env.id}?"
        )
    widest = float(np.abs(data.action).max())
    if widest <= HALF:
        yield (
            f"actions use {100 * widest:.0f} % of what {dataset.env.id} allows: are they scaled to other "
            "bounds than its own?"
        )
    ends = np.append(np.flatnonzero(data.episode_start)[1:] - 1, len(data) - 1)
    cut = lengths[data.truncated[ends]]
    alike = len(cut) > 1 and len(set(cut.tolist())) == 1 and cut[0] != dataset.env.horizon
    if alike and not dataset.name.startswith(ogbench.SCHEME):
        yield (
            f"all {len(cut):,} episodes that are truncated have {cut[0]:,} steps, {dataset.env.id} is played "
            f"for {dataset.env.horizon:,} here: had it another max_episode_steps?"
        )


def _share(rows: Array) -> str:
    return f"{int(rows.sum()):,} rows ({100 * float(rows.mean()):.2f} %)"


def _range(values: Array) -> str:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return (
        f"mean {values.mean():.1f}, min {values.min():.1f}, 10/50/90 % {low:.1f}/{middle:.1f}/{high:.1f}, "
        f"max {values.max():.1f}"
    )
