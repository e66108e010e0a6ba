"""The figures that show single runs of a data set: what was lost and where it ended, every seed's curve."""

from __future__ import annotations

import numpy as np

from ...transitions import Array
from ..colours import lines_of
from ..metrics import FINAL, LOSS, WINDOW
from ..summary import Summary
from .style import (
    BAND,
    STYLE,
    Drawing,
    Target,
    belongs,
    beside,
    finish,
    heading,
    prepared,
    save,
    seeds_of,
)

MOST = 12
"""Algorithms in small multiples; more would be too small to read."""


def lost(summary: Summary, dataset: str, target: Target) -> Drawing | str | None:
    """Draw what each run lost on the way against where it ended; good is top left."""
    lines = [line for line in summary.on(dataset) if line.of(LOSS) and line.of(FINAL)]
    if not lines:
        return None
    ends = WINDOW if all(line.of(WINDOW) for line in lines) else FINAL
    plt = prepared()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.4, 3.5))
        for line in lines:
            colour, _ = lines_of(summary.plan)[line.method]
            fell, ended = line.of(LOSS), line.of(ends)
            x, y = zip(*((fell[seed], ended[seed]) for seed in fell if seed in ended), strict=True)
            axis.scatter(x, y, s=16, color=colour, alpha=0.45, linewidths=0, label=BAND + line.method)
            middle = (sum(x) / len(x), sum(y) / len(y))
            axis.scatter(*middle, s=70, color=[colour], edgecolors="white", label=line.method)
        axis.set(xlabel="loss on the way: points of score per step, below the start", ylabel=ends)
        axis.grid(True)
        axis.legend(**beside())
        n = seeds_of(len(line.of(LOSS)) for line in lines)
        finish(figure, heading(summary.plan, dataset, f"{n}; large: mean, small: each seed"))
        note = "Top left is best: nothing lost while learning, a high end."
        return Drawing(save(figure, target, summary.methods), note)


def _ends_of_pauses(clock: Array) -> Array:
    """Tell which rows to draw: of those at one clock (learning without a step) first and last."""
    same = np.diff(clock) == 0
    kept: Array = np.logical_not(np.append(False, same) & np.append(same, False))
    return kept


def seeds(summary: Summary, dataset: str, target: Target) -> Drawing | str | None:
    """Draw every seed's own curve, a panel for each algorithm: what a mean and a band hide."""
    lines = [line for line in summary.on(dataset) if line.is_online and line.runs and line.env_steps]
    if not lines:
        return None
    shown = lines[:MOST]
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    plt = prepared()
    with plt.rc_context(STYLE):
        size = (max(6.0, 2.6 * across + 0.4), 0.6 + 1.9 * down)
        figure, axes = plt.subplots(down, across, squeeze=False, sharex=True, sharey=True, figsize=size)
        for axis in axes.flat[len(shown) :]:
            axis.set_axis_off()
        for axis, line in zip(axes.flat, shown, strict=False):
            colour, _ = lines_of(summary.plan)[line.method]
            belongs(axis, summary.methods, line.method)
            for run in line.runs:
                if (online := run.fine_tuning) is not None:
                    of = f"seed {run.seed}"
                    kept = _ends_of_pauses(online.env_steps)
                    at, scores = online.env_steps[kept], online.scores[kept]
                    axis.plot(at, scores, color=colour, lw=1, alpha=0.8, label=of)
            axis.set_title(f"{line.method}  (n = {line.n})", loc="left", fontsize=8, color="#555555")
            axis.grid(True, axis="y")
            axis.locator_params(axis="x", nbins=4)
        for axis in axes[:, 0]:
            axis.set_ylabel("score")
        for axis in axes.flat[: len(shown)][-across:]:  # the lowest of each column
            axis.set_xlabel("environment steps")
            axis.tick_params(labelbottom=True)
        finish(figure, heading(summary.plan, dataset, "each seed"), w_pad=0.6)
        omitted = len(lines) - len(shown)
        note = f"{omitted} more algorithms are not drawn." if omitted else ""
        return Drawing(save(figure, target, summary.methods), note)
