"""How numbers are written in reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from ..analysis.inference import Estimate

DASH = "\N{EN DASH}"


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


def geometric(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values, as ratios want it; 0 where one of them is 0."""
    return math.exp(mean([math.log(value) for value in values])) if min(values) > 0 else 0.0


def number(
    values: Iterable[float], form: str = "{:.1f}", middle: Callable[[Sequence[float]], float] = mean
) -> str:
    """Return ``mean (least to greatest)``; for one seed the value alone, for none a dash."""
    values = list(values)
    if not values:
        return DASH
    text = written(middle(values), form)
    if len(values) == 1:
        return text
    return f"{text} ({written(min(values), form)} to {written(max(values), form)})"


def written(value: float, form: str) -> str:
    """Return a number as text; what rounds to zero has no sign."""
    text = form.format(value)
    return text.lstrip("+-") if not text.strip("+-0.,%") else text


def spread(values: Sequence[float], estimate: Estimate, form: str) -> str:
    """Return the mean and how sure it is: ``[low, high]`` of an interval, else the seeds' range."""
    if estimate.low is None or estimate.high is None:
        return number(values, form)
    return interval(estimate, form)


def interval(estimate: Estimate, form: str = "{:.1f}") -> str:
    """Return ``value [low, high]``, or the value alone where there is no interval."""
    text = written(estimate.value, form)
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{written(estimate.low, form)}, {written(estimate.high, form)}]"


def count(many: int, noun: str) -> str:
    """Return ``1 run`` or ``3 runs``."""
    return f"{many:,} {noun}" if many == 1 else f"{many:,} {noun}s"


def of_asked(n: int, asked: int) -> str:
    """Return ``5``, or ``4 of 5`` where some are missing."""
    return f"{n}" if n == asked else f"{n} of {asked}"


def listed(names: Iterable[object]) -> str:
    """Return ``a, b and c``."""
    words = [str(name) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
