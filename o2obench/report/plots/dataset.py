"""One picture of a data set: what its episodes return, how they end, and where its states lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...datasets.registry import find_dataset
from ...transitions import Array, episode_returns
from .style import STYLE, prepared

SHOWN = 100_000


def plot(name: str, file: Path) -> None:
    """Write the picture of a data set to ``file`` (.png, .pdf or .svg)."""
    plt, dataset = prepared(), find_dataset(name)
    data = dataset.load()
    returns, lengths = episode_returns(data)
    counted = "return" if dataset.env.success else "score"  # where success counts, a return has no score
    values = returns if dataset.env.success else dataset.scores.score(returns)
    with plt.rc_context(STYLE):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
        left.hist(values, bins=40, color="#0072b2")
        left.axvline(values.mean(), color="#d55e00", label=f"mean {values.mean():.1f}")
        left.axvline(values.max(), color="#d55e00", linestyle=":", label=f"best {values.max():.1f}")
        left.set(xlabel=f"{counted} of an episode", ylabel="episodes", title=f"{len(returns):,} episodes")
        left.legend(frameon=False)
        ended = data.terminated[np.cumsum(lengths) - 1]
        both = [lengths[ended], lengths[~ended]]
        labels = [f"terminated ({ended.sum():,})", f"truncated ({(~ended).sum():,})"]
        middle.hist(both, bins=40, stacked=True, color=["#cc79a7", "#56b4e9"], label=labels)
        middle.set(xlabel="length of an episode (steps)", ylabel="episodes", title="How episodes end")
        middle.legend(frameon=False)
        rows = np.linspace(0, len(data) - 1, min(len(data), SHOWN)).astype(int)
        points, share = principal(data.obs, rows)
        drawn = right.hexbin(*points.T, gridsize=50, bins="log", cmap="viridis", linewidths=0.1)
        starts, _ = principal(data.obs, np.flatnonzero(data.episode_start), rows)
        right.plot(*starts[:300].T, ".", color="#d55e00", markersize=3, label="first states")
        right.set(
            xlabel=f"first component ({share[0]:.0%} of the variance)",
            ylabel=f"second ({share[1]:.0%})",
            title="States, two principal components",
        )
        right.legend(framealpha=0.9, edgecolor="none", loc="upper right")
        figure.colorbar(drawn, ax=right, label="rows", format="{x:g}")
        figure.suptitle(f"{name}: {len(data):,} rows of {dataset.env.id}")
        figure.savefig(file, dpi=150, metadata={"Software": None} if file.suffix == ".png" else None)
        plt.close(figure)


def principal(obs: Array, rows: Array, fit: Array | None = None) -> tuple[Array, Array]:
    """Project rows of standardised observations on the two directions of largest variance.

    Args:
        obs: Observations (all, obs_dim).
        rows: Which to project.
        fit: Which to find the directions from; ``rows`` if None.

    Returns:
        Points (rows, 2) and the shares of the variance in both directions (2,).
    """
    sample = obs[rows if fit is None else fit].astype(np.float64)
    mean, deviation = sample.mean(axis=0), sample.std(axis=0)
    deviation[deviation < 1e-8] = 1.0
    variances, directions = np.linalg.eigh(np.cov(((sample - mean) / deviation).T))
    axes = directions[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    return ((obs[rows] - mean) / deviation) @ axes, variances[::-1][:2] / variances.sum()
