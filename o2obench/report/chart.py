"""The fine-tuning curves as the page's script draws them: numbers by method, on one data set or on all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..analysis.inference import BY_T, estimated, mean_of
from ..analysis.measures import median_of_three
from ..analysis.statistics import mean_curve
from ..transitions import Array
from .colours import GREY, Line, lines_of
from .format import mean
from .summary import CONTROL, MethodResult, RunMetrics, Summary

ALL = "all data sets"


def charts(summary: Summary) -> dict[str, dict[str, Any]]:
    """Return the chart of every data set that has fine-tuning curves, and one of all where there are some.

    Each holds ``title``, ``alt`` (what the chart says, in words), ``order`` (methods, the best first),
    ``series`` (method -> one curve), ``offline`` (the curves of pretrainings over updates), ``parts`` (runs
    that are not finished). A curve has steps, updates, hours, mean, low and high at each evaluation, the same
    three of three-point medians, n, colour, dash, ``control``: whether it never learns, and ``sure``: whether
    low to high is an interval, not the seeds' range.
    """
    each = {dataset: chart for dataset in summary.datasets if (chart := _of_dataset(summary, dataset))}
    if len(each) > 1 and (together := _together(summary)):
        return {ALL: together, **each}
    return each


def _of_dataset(summary: Summary, dataset: str) -> dict[str, Any] | None:
    lines = lines_of(summary.plan)
    results = [result for result in summary.on(dataset) if result.is_online]
    series = {
        result.method: {**curve, "control": result.algorithm == CONTROL}
        for result in results
        if (curve := _curve(result.runs, lines[result.method])) is not None
    }
    parts = [
        {
            "method": part.method,
            "seed": part.seed,
            "state": part.state,
            **_clocks(part.fine_tuning.env_steps, part.fine_tuning.updates),
            "mean": _short(part.fine_tuning.scores),
            "colour": lines[part.method][0],
        }
        for part in summary.parts
        if part.dataset == dataset
    ]
    if not series and not parts:
        return None
    results = [result for result in results if result.method in series]
    leads = {result.method: _lead(summary, result) for result in results}
    order = sorted(leads, key=lambda method: -leads[method])
    return {
        "title": dataset,
        "alt": f"Fine-tuning curves on {dataset}. {summary.in_words(dataset)}",
        "order": order,
        "series": series,
        "offline": list(_offline(summary, dataset)),
        "parts": parts,
    }


def _lead(summary: Summary, result: MethodResult) -> float:
    values = list(result.of(summary.lead).values())
    return mean(values) if values else float("-inf")


def _curve(runs: Sequence[RunMetrics], line: Line) -> dict[str, Any] | None:
    """Return the mean of runs at the evaluations that all of them have; None where there is no curve."""
    held = [run for run in runs if run.fine_tuning and len(run.fine_tuning.scores) > 1]
    if not held:
        return None
    places = [_places(run.fine_tuning.env_steps) for run in held if run.fine_tuning]
    common = [place for place in places[0] if all(place in other for other in places[1:])]
    rows = [[of[place] for place in common] for of in places]

    def table(columns: Sequence[Array]) -> Array:
        return np.array([column[row] for column, row in zip(columns, rows, strict=True)])

    tuned = [run.fine_tuning for run in held if run.fine_tuning]
    scores = table([own.scores for own in tuned])
    smoothed = table([median_of_three(own.scores) for own in tuned])
    hours = table([run.clock for run in held if run.clock is not None])
    return {
        **_clocks(np.array([step for step, _ in common]), table([own.updates for own in tuned]).mean(axis=0)),
        "hours": _short(hours.mean(axis=0)),
        **_band(scores, ""),
        **_band(smoothed, "3"),
        "n": len(held),
        "colour": line[0],
        "dash": line[1],
        "sure": mean_curve(scores).low is not None,
    }


def _places(env_steps: Array) -> dict[tuple[int, int], int]:
    """Return where each evaluation stands, by its step and by how many stood there before it."""
    seen: dict[int, int] = {}
    places = {}
    for row, step in enumerate(env_steps.tolist()):
        places[step, seen.setdefault(step, 0)] = row
        seen[step] += 1
    return places


def _clocks(env_steps: Array, updates: Array) -> dict[str, list[float]]:
    return {"steps": _short(env_steps), "updates": _short(updates)}


def _band(scores: Array, suffix: str) -> dict[str, list[float]]:
    """Return mean and interval of scores (seeds, points); the seeds' range where there is no interval."""
    band = mean_curve(scores)
    low = scores.min(axis=0) if band.low is None else band.low
    high = scores.max(axis=0) if band.high is None else band.high
    named = {"mean": band.value, "low": low, "high": high}
    return {f"{name}{suffix}": _short(values) for name, values in named.items()}


def _short(values: Array) -> list[float]:
    """Return as many digits as a reader can use."""
    return [float(f"{value:.5g}") for value in np.asarray(values, float).tolist()]


def _offline(summary: Summary, dataset: str) -> Iterator[dict[str, Any]]:
    """Yield the curve of each pretraining over its updates, once, however many methods start from it."""
    rows = summary.evaluations(dataset)
    rows = rows[(rows.phase == "offline") & (rows.pretraining != "")]
    for name, own in rows.groupby("pretraining", sort=False):
        once = own.drop_duplicates(["seed", "updates"], keep="last")
        wide = once.pivot(index="updates", columns="seed", values="score").dropna()
        if len(wide) > 1:
            yield {
                "name": str(name),
                "updates": _short(wide.index.to_numpy()),
                "mean": _short(wide.to_numpy().mean(axis=1)),
                "colour": GREY,
            }


def _together(summary: Summary) -> dict[str, Any] | None:
    """Return the mean over all data sets, of the methods that are compared on all of them."""
    lines, series = lines_of(summary.plan), {}
    compared = summary.comparison.scores
    for method, common in compared.items():
        at = summary.at_steps(method, common)
        if len(at) > 1:
            estimates = [estimated(mean_of(scores), len(scores.seeds), BY_T) for scores in at.values()]
            value = _short(np.array([e.value for e in estimates]))
            low, high = (
                _short(np.array([e.value if bound is None else bound for e, bound in bounds]))
                for bounds in (
                    [(e, e.low) for e in estimates],
                    [(e, e.high) for e in estimates],
                )
            )
            series[method] = {
                "steps": _short(np.array(list(at))),
                **{"mean": value, "low": low, "high": high},
                **{"n": len(common.seeds), "colour": lines[method][0], "dash": lines[method][1]},
                "sure": estimates[0].low is not None,
                "control": method == CONTROL,
            }
    if not series:
        return None
    order = sorted(series, key=lambda method: -float(compared[method].values.mean()))
    alt = f"Fine-tuning curves, mean of {len(summary.comparison.datasets)} data sets. {summary.in_words()}"
    return {"title": ALL, "alt": alt, "order": order, "series": series, "offline": [], "parts": []}
