"""A figure of the family's own for the report; a suite asks for it by the name of its entry point."""

from __future__ import annotations

from o2obench.report.colours import lines_of
from o2obench.report.plots.style import (
    STYLE,
    Drawing,
    Target,
    beside,
    finish,
    heading,
    prepared,
    save,
    seeds_of,
)
from o2obench.report.summary import Summary

DRAWN = "batch/reward"
"""The name under which the agents log it."""


def priority(summary: Summary, dataset: str, target: Target) -> Drawing | str:
    """What toy_refine imitates.

    The mean reward of a batch while it learns; a text where no run has logged any.
    """
    rows = summary.logged((DRAWN,), dataset)
    if rows.empty:
        return "no run drew transitions by priority"
    plt = prepared()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.0))
        for method, (colour, dash) in lines_of(summary.plan).items():
            mean = rows[rows.method == method].groupby("env_steps").value.mean()
            if len(mean):
                axis.plot(mean.index, mean, color=colour, linestyle=dash, label=method)
        axis.set(xlabel="environment steps", ylabel="reward of a batch")
        axis.legend(**beside())
        n = seeds_of(rows.groupby("method").seed.nunique().tolist())
        finish(figure, heading(summary.plan, dataset, f"{n}; mean"))
        return Drawing(save(figure, target, summary.methods), "Higher: it imitates what paid more.")
