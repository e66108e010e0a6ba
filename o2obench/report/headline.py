"""The sentence at the top of a report: which method fine-tunes best, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.inference import FEWEST, difference_of, holm
from .format import count, listed, mean, written
from .metrics import AREA, GAINED, LOSS, START, WINDOW, metric_of
from .summary import CONTROL, Comparison, Summary


def unfinished(summary: Summary) -> str:
    """Say how many runs have begun and are not done; empty where there are none."""
    running = [part for part in summary.parts if part.state != "diverged"]
    return f"{count(len(running), 'run')} not finished: drawn dotted, never counted" if running else ""


LEADS = {
    AREA: "has the highest mean score on the way, an area of",
    GAINED: "gains most on the way,",
    WINDOW: "ends highest,",
}


def headline(summary: Summary) -> str:
    """Say which method fine-tunes best, by how much, what it loses, and from which it can be told."""
    shown, planned = summary.account["shown"], summary.account["planned"]
    if not shown:
        return "No run of this suite is finished yet."
    part = "" if shown == planned else f" {shown:,} of {planned:,} runs are shown."
    metric = next((name for name, compared in summary.comparisons.items() if compared.scores), "")
    if not metric:
        return f"No method has a fine-tuning curve that could be compared.{part}"
    compared = summary.comparisons[metric]
    means = {method: float(scores.values.mean()) for method, scores in compared.scores.items()}
    order = sorted(means, key=lambda method: -means[method])
    learning = [method for method in order if not _is_control(summary, method)]
    best = (learning or order)[0]
    idle = (
        f"No method beats its frozen pretraining; of those that learn, {best}" if best != order[0] else best
    )
    started, ended, lost = (_mean_of(summary, best, name) for name in (START, WINDOW, LOSS))
    form = metric_of(metric).form
    text = f"{idle} {LEADS[metric]} {written(means[best], form)} (start {started:.1f})"
    if lost is not None:
        side = "below" if lost > 0 else "above"
        text += f", and its training episodes scored {abs(lost):.1f} {side} the start"
    highest = summary.comparisons[WINDOW].scores if metric != WINDOW else {}
    if best in highest and ended is not None:
        last = max(highest, key=lambda method: float(highest[method].values.mean()))
        top = f"; highest there is {last}, {highest[last].values.mean():.1f}"
        other = top if last != best else ", the highest there, too"
        text += f". Over the last 20 % of the steps it stands at {ended:.1f}{other}"
    others = [method for method in order if method != best]
    if others:
        text += f". {_told_apart(compared, best, others)}"
    n = f"{count(compared.n, 'seed')} on {count(len(compared.datasets), 'data set')}"
    return f"{text} ({n}).{part}"


def _is_control(summary: Summary, method: str) -> bool:
    return any(r.method == method and r.algorithm == CONTROL for r in summary.method_results)


def _mean_of(summary: Summary, method: str, name: str) -> float | None:
    """Return the mean of a metric over all runs of a method; None where none has it."""
    own = (result for result in summary.method_results if result.method == method)
    values = [value for result in own for value in result.of(name).values()]
    return mean(values) if values else None


MOST_NAMES = 3


def _told_apart(compared: Comparison, best: str, others: Sequence[str]) -> str:
    """Say from which methods a t test tells the best one, on all data sets together, and from which not."""
    if compared.n < FEWEST:
        return f"Below {FEWEST} seeds nobody can tell methods apart"
    scores = compared.scores
    p_values = holm({name: difference_of(scores[best], scores[name]).p_differs() for name in others})
    apart = [name for name in others if p_values[name] < 0.05]
    alike = [name for name in others if name not in apart]
    told = f"A t test tells it from {_names(apart)}" if apart else "No t test tells it from another method"
    return f"{told}, not from {_names(alike)}" if apart and alike else told


def _names(methods: Sequence[str]) -> str:
    """Return ``a, b and c``, or how many more there are."""
    more = len(methods) - MOST_NAMES
    return listed(methods if more <= 1 else [*methods[:MOST_NAMES], f"{more} more"])
