"""The learning curves of a data set: offline left of the online start, online right of it.

Where a method learns without interacting, environment steps do not show when; then the same curves stand
beside it over updates.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ...analysis.external import ExternalResult, shared_curve
from ...analysis.inference import FEWEST
from ...analysis.statistics import mean_curve
from ...planning.plan import Plan
from ..colours import DASHES, GREY, Line, lines_of
from ..summary import Summary
from .style import (
    BAND,
    STYLE,
    Drawing,
    Target,
    beside,
    finish,
    heading,
    legend_of,
    prepared,
    save,
    seeds_of,
)


def curves(summary: Summary, dataset: str, target: Target) -> Drawing | None:
    """Draw means over seeds with a band, whose kind the title names."""
    plan, own = summary.plan, summary.evaluations(dataset)
    if own.empty:
        return None
    plt = prepared()
    seeds = own.groupby("method").seed.nunique().tolist()
    fewest = min(seeds)
    sure = fewest >= FEWEST
    offline, online = (own[own.phase == phase] for phase in ("offline", "online"))
    panels = ["offline"] if len(offline) else []
    panels += ["env_steps"] if len(online) else []
    panels += ["updates"] if learns_apart(plan, set(online.method)) else []
    with plt.rc_context(STYLE):
        widths = [1 if name == "offline" else 2 for name in panels]
        size = (11.5 if "updates" in panels else 8.4, 3.5)
        figure, axes = plt.subplots(
            *(1, len(panels)), sharey=True, squeeze=False, width_ratios=widths, figsize=size
        )
        for axis, name in zip(axes[0], panels, strict=True):
            if name == "offline":
                _offline(axis, offline.assign(name=_offline_names(plan, offline)), sure)
            else:
                _online(axis, online, lines_of(plan), name, sure)
            if name == "env_steps":
                unit, _ = _unit(online.env_steps)
                draw_external(axis, summary, dataset, online.env_steps.max(), unit)
        shown = legend_of(axes[0][len(offline) > 0 :])
        order = [*summary.methods, *(external_label(external, dataset) for external in summary.external)]
        if shown:
            ordered = sorted(shown, key=lambda label: order.index(label))
            axes[0][-1].legend([shown[label] for label in ordered], ordered, **beside())
        axes[0][0].set_ylabel("normalised score")
        how = f"{seeds_of(seeds)}; line: mean, band: {band_kind(fewest)}"
        finish(figure, heading(plan, dataset, how), w_pad=0.6)
        return Drawing(save(figure, target, summary.methods))


GREYS = (("#222222", "--"), ("#777777", "-."), ("#444444", ":"))
"""How curves of others are drawn: no colour of ours, never solid."""


def external_label(external: ExternalResult, dataset: str) -> str:
    """Return what a legend says of others' runs."""
    return f"{external.name} (not ours, n = {external.on(dataset).seed.nunique()})"


def draw_external(axis: Any, summary: Summary, dataset: str, until: float, unit: int = 1) -> None:
    """Draw what others brought in, up to our last step: their mean, least to greatest seed around it."""
    for place, external in enumerate(summary.external):
        steps, scores = shared_curve(external.on(dataset), until)
        if len(steps):
            colour, dash = GREYS[place % len(GREYS)]
            label = external_label(external, dataset)
            axis.fill_between(
                steps / unit, scores.min(axis=0), scores.max(axis=0), color=colour, alpha=0.08, lw=0
            )
            axis.plot(steps / unit, scores.mean(axis=0), color=colour, linestyle=dash, label=label, lw=1.6)


def learns_apart(plan: Plan, labels: set[str]) -> bool:
    """Tell whether one of these fine-tuning methods has updates in a stage without the environment."""
    tuned = {
        plan.run(experiment.run).group
        for experiment in plan.experiments
        if experiment.parent and experiment.method in labels
    }
    return any(stage.updates and not stage.env_steps for group in tuned for stage in plan.stages[group])


def band_kind(n: int) -> str:
    """Return what the band around a mean over n seeds is."""
    return "least to greatest seed" if n < FEWEST else "95 % t interval, pointwise"


def _offline_names(plan: Plan, rows: pd.DataFrame) -> pd.Series[str]:
    """Return the pretraining that each row shows, also where it is a method of its own; else the method."""
    called = {
        experiment.parent: experiment.pretraining for experiment in plan.experiments if experiment.parent
    }
    alone = {
        experiment.method: called.get(experiment.run, experiment.method)
        for experiment in plan.experiments
        if not experiment.parent
    }
    return rows.pretraining.where(rows.pretraining != "", rows.method.map(alone))


def _offline(axis: Any, rows: pd.DataFrame, sure: bool) -> None:
    """Draw each pretraining once, however many methods start from it."""
    unit, words = _unit(rows.updates)
    for place, (name, own) in enumerate(rows.groupby("name", sort=False)):
        once = own.drop_duplicates(["seed", "stage", "updates", "mean_return"])
        _band(axis, once, "updates", (GREY, DASHES[place % len(DASHES)]), str(name), unit, sure)
    if rows.name.nunique() > 1:
        axis.legend(frameon=False, fontsize=7, loc="upper left")
    axis.set_xlabel(f"offline updates{words}")
    axis.set_title("offline", loc="left", fontsize=9, color="#555555")
    axis.margins(x=0.02)
    axis.grid(True, axis="y")


ONLINE = {
    "env_steps": ("online", "environment steps"),
    "updates": ("the same, over updates", "updates after the online start"),
}


def _online(axis: Any, rows: pd.DataFrame, lines: dict[str, Line], x: str, sure: bool) -> None:
    """Draw the methods that move along ``x``: one that takes no step has no curve over steps."""
    title, name = ONLINE[x]
    unit, words = _unit(rows[x])
    for label, own in rows.groupby("method", sort=False):
        if own[x].nunique() > 1:
            _band(axis, own, x, lines[str(label)], str(label), unit, sure)
    axis.set_xlabel(f"{name}{words}")
    axis.set_title(title, loc="left", fontsize=9, color="#555555")
    axis.margins(x=0.02)
    axis.grid(True, axis="y")


def _band(axis: Any, rows: pd.DataFrame, x: str, line: Line, label: str, unit: int, sure: bool) -> None:
    """Draw the mean over the seeds at the clocks that all of them have reached, and a band around it.

    The band is the pointwise interval of the mean where all lines of the figure have one (``sure``), else it
    goes from the least to the greatest seed.

    What changes while a clock stands still is a vertical line there, from the first to the last row.
    """
    colour, dash = line
    ends = [rows.drop_duplicates(["seed", x], keep=end).assign(end=end) for end in ("first", "last")]
    wide = pd.concat(ends).pivot(index=[x, "end"], columns="seed", values="score").sort_index().dropna()
    at, values = wide.index.get_level_values(x) / unit, wide.to_numpy()
    low, high = values.min(axis=1), values.max(axis=1)
    if sure:
        band = mean_curve(values.T)
        assert band.low is not None
        assert band.high is not None
        low, high = band.low, band.high
    axis.fill_between(at, low, high, color=colour, alpha=0.15, lw=0, label=BAND + label)
    above = 3 if colour == GREY else 2  # the control is never hidden
    axis.plot(at, values.mean(axis=1), color=colour, linestyle=dash, label=label, lw=1.8, zorder=above)


def _unit(clock: Any) -> tuple[int, str]:
    """Return the unit of an axis and how to say it."""
    return (1000, " (thousands)") if clock.max() > 20_000 else (1, "")
