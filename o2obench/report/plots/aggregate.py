"""The figures over all data sets: aggregates, profiles, improvement, the grid of curves, ablations.

All of them compare algorithms on their common seeds. Those that stand for an interval are left out below 5
seeds, and say so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...analysis import statistics
from ...analysis.inference import FEW, FEWEST, NEWCOMBE, Estimate, probability_of_improvement
from ...analysis.statistics import Statistic
from ...analysis.tuning import UNSET
from ..colours import PALETTE, lines_of
from ..format import count
from ..summary import Summary, on_common_steps
from ..sweeps import sweeps
from .curves import band_kind, draw_external
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
    share_legend,
)

FOR_CURVES = 2_000
"""Bootstrap draws of a curve's band: nobody sees their noise, and there is an interval at every step."""
SHOWN: dict[Statistic, str] = {
    "mean": "mean ↑",
    "median": "median ↑",
    "iqm": "IQM ↑",
    "optimality_gap": "optimality gap ↓",
}


def too_few(summary: Summary) -> str:
    """Return why a figure of intervals is left out, or nothing."""
    n = summary.comparison.n
    return (
        f"left out, intervals need {FEW} seeds that all algorithms share; here {count(n, 'seed')}"
        if n < FEW
        else ""
    )


def aggregates(summary: Summary, _: str, target: Target) -> Drawing | str | None:
    """Draw mean, median, IQM and optimality gap with their intervals, a row for each algorithm."""
    compared = summary.comparison
    if len(compared.datasets) < 2:
        return None
    if too_few(summary):
        return too_few(summary)
    plt, names = prepared(), list(compared.scores)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, sharey=True, figsize=(10.5, 0.9 + 0.34 * len(names)))
        for axis, (statistic, title) in zip(axes, SHOWN.items(), strict=True):
            for place, name in enumerate(reversed(names)):
                for artist in _bar(
                    axis, place, summary.aggregated[name][statistic], lines_of(summary.plan)[name][0]
                ):
                    belongs(artist, summary.methods, name)
            axis.set_title(title, loc="left", fontsize=9, color="#555555")
            axis.set_yticks(range(len(names)), list(reversed(names)))
            axis.use_sticky_edges = False
            for tick in axis.get_yticklabels():
                belongs(tick, summary.methods, tick.get_text())
            axis.grid(True, axis="x")
        finish(figure, _said(summary, summary.compared), w_pad=0.8)
        return Drawing(save(figure, target, summary.methods), _kind(summary))


def profiles(summary: Summary, _: str, target: Target) -> Drawing | str | None:
    """Draw the share of runs above each score."""
    compared = summary.comparison
    if len(compared.scores) < 2:
        return None
    if too_few(summary):
        return too_few(summary)
    every = np.concatenate([scores.values.ravel() for scores in compared.scores.values()])
    least, most = float(every.min()), float(every.max())
    at = np.linspace(least - 0.05 * (most - least), most, 81)
    plt = prepared()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.4, 3.6))
        for name, scores in compared.scores.items():
            band = statistics.performance_profile(scores, at)
            _line(axis, summary, name, at, band.value, band.low, band.high)
        axis.set(xlabel=f"{summary.lead} s", ylabel="share of runs above s", ylim=(0, 1.02))
        _finish(figure, axis, _said(summary, f"performance profiles of {summary.compared}"))
        return Drawing(save(figure, target, summary.methods), _kind(summary, "pointwise"))


def improvement(summary: Summary, _: str, target: Target) -> Drawing | str | None:
    """Draw how likely a run of each method scores above one of its reference, on the same data set."""
    compared = summary.comparison.scores
    against = {name: reference for name in compared if (reference := summary.reference_of(name)) in compared}
    if not against:
        return None
    if too_few(summary):
        return too_few(summary)
    plt, names = prepared(), list(reversed(against))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.4, 1.0 + 0.36 * len(names)))
        for place, name in enumerate(names):
            estimate = probability_of_improvement(compared[name], compared[against[name]])
            for artist in _bar(axis, place, estimate, lines_of(summary.plan)[name][0]):
                belongs(artist, summary.methods, name)
        axis.axvline(0.5, color="#555555", lw=1, linestyle=":")
        several = len(set(against.values())) > 1
        labels = [f"{name} over {against[name]}" if several else name for name in names]
        axis.set_yticks(range(len(names)), labels)
        for tick, name in zip(axis.get_yticklabels(), names, strict=True):
            belongs(tick, summary.methods, name)
        whom = "the frozen control of each" if several else next(iter(against.values()))
        axis.set(xlim=(0, 1), xlabel=f"P(a run scores above one of {whom})")
        axis.grid(True, axis="x")
        finish(figure, _said(summary, summary.compared))
        note = f"Intervals: {NEWCOMBE}; seeds of both count as independent."
        return Drawing(save(figure, target, summary.methods), note)


def efficiency(summary: Summary, _: str, target: Target) -> Drawing | str | None:
    """Draw the IQM over data sets and seeds at each step that all runs were evaluated at."""
    compared = summary.comparison
    if len(compared.datasets) < 2:
        return None
    plt = prepared()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.4, 3.6))
        for name, scores in compared.scores.items():
            at = summary.at_steps(name, scores)
            if len(at) > 1:
                band = statistics.sample_efficiency(at, "iqm", FOR_CURVES)
                _line(axis, summary, name, band.x, band.value, band.low, band.high)
        axis.set(xlabel="environment steps", ylabel="IQM of normalised scores")
        _finish(figure, axis, _said(summary, "while fine-tuning"))
        return Drawing(
            save(figure, target, summary.methods), _kind(summary, f"pointwise, {FOR_CURVES:,} draws")
        )


def curves(summary: Summary, _: str, target: Target) -> Drawing | str | None:
    """Draw the learning curves of all data sets in a grid, online part only."""
    plt, datasets = (
        prepared(),
        [d for d in summary.datasets if any(li.is_online and li.runs for li in summary.on(d))],
    )
    if len(datasets) < 2:
        return None
    across = min(3, len(datasets))
    down = -(-len(datasets) // across)
    fewest = min(len(li.runs) for li in summary.method_results if li.is_online and li.runs)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            down, across, squeeze=False, figsize=(3.6 * across + 1.4, 0.7 + 2.4 * down)
        )
        for axis in axes.flat[len(datasets) :]:
            axis.set_axis_off()
        for axis, dataset in zip(axes.flat, datasets, strict=False):
            last = 0.0
            for label in summary.online_methods:
                line = summary.by_name.get((label, dataset))
                runs = [run.fine_tuning for run in line.runs if run.fine_tuning] if line else []
                steps, scores = on_common_steps(runs)
                if len(steps) > 1:
                    last = max(last, steps[-1])
                    low, high = scores.min(axis=0), scores.max(axis=0)
                    if fewest >= FEWEST:
                        band = statistics.mean_curve(scores)
                        low, high = band.low, band.high
                    _line(axis, summary, label, steps, scores.mean(axis=0), low, high)
            draw_external(axis, summary, dataset, last)
            axis.set_title(dataset, loc="left", fontsize=9, color="#555555")
            axis.grid(True, axis="y")
            axis.locator_params(axis="x", nbins=5)
        for axis in axes[:, 0]:
            axis.set_ylabel("normalised score")
        for axis in axes[-1]:
            axis.set_xlabel("environment steps")
        room = share_legend(figure, axes.flat)
        how = f"at least {count(fewest, 'seed')}; line: mean, band: {band_kind(fewest)}"
        finish(figure, heading(summary.plan, "Learning curves", how), w_pad=0.8, **room)
        return Drawing(save(figure, target, summary.methods))


def ablation(summary: Summary, _: str, target: Target) -> Drawing | str | None:
    """Draw the leading metric against the one option in which labels of an algorithm differ."""
    names = dict.fromkeys(experiment.algorithm for experiment in summary.plan.experiments)
    swept = {name: sweep for name in names if (sweep := _swept(summary, name))}
    if not swept or not any(line.runs for line in summary.method_results if line.algorithm in swept):
        return None
    plt = prepared()
    small: dict[str, Any] = {"alpha": 0.35, "markersize": 3.5, "mew": 0}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(swept), squeeze=False, figsize=(max(6.4, 4.2 * len(swept)), 3.4))
        for axis, (algorithm, (option, labels)) in zip(axes[0], swept.items(), strict=True):
            for i, dataset in enumerate(summary.datasets):
                colour = f"C{i}"
                means = []
                for place, label in enumerate(labels.values()):
                    line = summary.by_name.get((label, dataset))
                    values = list(line.of(summary.lead).values()) if line else []
                    axis.plot([place] * len(values), values, "o", color=colour, **small)
                    means.append(float(np.mean(values)) if values else np.nan)
                axis.plot(range(len(labels)), means, "-o", color=colour, label=dataset, lw=1.6, markersize=6)
            axis.set_xticks(range(len(labels)), list(labels))
            axis.set(xlabel=option, ylabel=summary.lead)
            axis.set_title(algorithm, loc="left", fontsize=9, color="#555555")
            axis.grid(True, axis="y")
        axes[0][-1].legend(**beside())
        finish(figure, heading(summary.plan, "One option swept", "large: mean over seeds, small: each seed"))
        return Drawing(save(figure, target))


def tuning(summary: Summary, _: str, target: Target) -> Drawing | str | None:
    """Draw what the best of k random settings scores on other seeds, over the steps spent on trying."""
    priced = [sweep for sweep in sweeps(summary) if sweep.prices]
    if not priced:
        return None
    plt = prepared()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.4, 3.2))
        for place, sweep in enumerate(priced):
            steps, scores, low, high = zip(
                *((price.env_steps, price.score, price.low, price.high) for price in sweep.prices),
                strict=True,
            )
            colour, name = PALETTE[place % len(PALETTE)], f"{sweep.name} on {sweep.dataset}"
            axis.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
            axis.plot(steps, scores, "-o", color=colour, label=name, lw=1.6, markersize=4)
        axis.set(xlabel="environment steps spent on trying", ylabel=f"{summary.lead} on other seeds")
        _finish(
            figure, axis, heading(summary.plan, "The price of tuning", "band: the seeds that were chosen on")
        )
        note = "Each point: one more setting tried on one seed; the best by its last evaluation is taken."
        return Drawing(save(figure, target), note)


def _swept(summary: Summary, algorithm: str) -> tuple[str, dict[str, str]] | None:
    """Return the one option in which an algorithm's labels differ, and the label of each value."""
    configs = {
        experiment.method: summary.plan.run(experiment.run).spec.config
        for experiment in summary.plan.experiments
        if experiment.algorithm == algorithm and experiment.dataset == summary.datasets[0]
    }
    keys = {key for config in configs.values() for key in config}
    differ = [
        key for key in sorted(keys) if len({str(config.get(key, UNSET)) for config in configs.values()}) > 1
    ]
    if len(configs) < 3 or len(differ) != 1:
        return None
    return differ[0], {str(config.get(differ[0], UNSET)): label for label, config in configs.items()}


def _line(axis: Any, summary: Summary, name: str, x: Any, y: Any, low: Any, high: Any) -> None:
    colour, dash = lines_of(summary.plan)[name]
    if low is not None and high is not None:
        axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0, label=BAND + name)
    axis.plot(x, y, color=colour, linestyle=dash, lw=1.8, label=name)


def _bar(axis: Any, place: float, estimate: Estimate, colour: Any) -> list[Any]:
    """Draw an interval and the value in it; return what was drawn."""
    drawn = [axis.vlines(estimate.value, place - 0.33, place + 0.33, color="#222222", lw=1.6)]
    if estimate.low is not None and estimate.high is not None:
        drawn += axis.barh(
            place, estimate.high - estimate.low, left=estimate.low, height=0.5, color=colour, alpha=0.45
        )
    return drawn


def _finish(figure: Any, axis: Any, title: str) -> None:
    axis.grid(True)
    axis.legend(**beside())
    finish(figure, title)


def _said(summary: Summary, subject: str) -> str:
    compared = summary.comparison
    whole = f"{count(len(compared.datasets), 'data set')}, {subject}"
    return heading(summary.plan, whole, f"n = {compared.n} common seeds")


def _kind(summary: Summary, more: str = "") -> str:
    n = summary.comparison.n
    left_out = f" {'; '.join(summary.comparison.left_out)}." if summary.comparison.left_out else ""
    if n < FEW:
        return f"Fewer than {FEW} common seeds: no interval.{left_out}"
    return f"Intervals: 95 % bootstrap over seeds{', ' if more else ''}{more}.{left_out}"
