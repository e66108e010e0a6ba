"""Tables as values: what a cell says, the number behind it, how sure it is; ``writers`` writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..analysis.inference import FEWEST, MARGIN, Estimate, Mark, mean_over_seeds
from .format import DASH, interval, listed, of_asked, spread
from .metrics import START, Metric, metric_of
from .summary import MethodResult, Summary


@dataclass(frozen=True)
class Column:
    """A column: its heading, the unit of its numbers, and which direction is better ("" for neither)."""

    name: str
    unit: str = ""
    better: str = ""
    text: bool = False


@dataclass(frozen=True)
class Value:
    """A cell: what it says, the number it is sorted by, its interval, and how it stands to the best."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    interval: str = ""
    mark: Mark | None = None
    lacking: bool = False
    beside: str = ""
    """What stands small below it."""

    @property
    def sign(self) -> str:
        """How it stands to the best, as a sign; the best itself is bold."""
        return SIGNS.get(self.mark, "") if self.mark else ""

    @property
    def parts(self) -> tuple[str, str]:
        """The number and what stands in brackets after it."""
        number, bracket, rest = self.text.partition(" [" if " [" in self.text else " (")
        return number, f"{bracket}{rest}"


@dataclass(frozen=True)
class Row:
    """A row: whose it is (for filters), its cells, and a line below it."""

    method: str
    dataset: str
    cells: tuple[Value, ...]
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table: the name of its files, what it shows, how to read it, and its rows."""

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()


SIGNS: Mapping[Mark, str] = {"lower": "\N{DOWNWARDS ARROW}", "equal": "\N{ALMOST EQUAL TO}", "undecided": "?"}


RANGES = (
    f"In brackets: 95 % t interval over seeds; in parentheses, below {FEWEST} seeds: least to greatest seed. "
)


def marked(result: MethodResult, name: str, marks: Mapping[str, Mark]) -> Value:
    """Return a metric of a method with how it stands to the best."""
    return replace(number(result, metric_of(name), n=True), mark=marks.get(result.method))


def caption(marked: Mapping[str, Mapping[str, Mark]]) -> str:
    """Say what the marks mean, and how many of each there are."""
    counts = Counter(mark for marks in marked.values() for mark in marks.values())
    if not counts:
        return ""
    words: dict[Mark, str] = {
        "lower": "lower (t test, Holm within a data set, p < 0.05)",
        "equal": f"equal (90 % interval of the difference within {MARGIN:g} points)",
        "undecided": "undecided",
    }
    marks = ", ".join(f"{SIGNS[mark]} {text}: {counts[mark]}" for mark, text in words.items())
    return (
        f"Bold: the highest mean. Against it {marks}; differences are paired where both start from the same "
        "pretraining runs. "
    )


def starts(summary: Summary) -> str:
    """Say that methods start from different pretrainings, where they do."""
    if not summary.starts_differ:
        return ""
    names = listed(summary.pretrainings)
    return (
        f"Methods start from different pretrainings ({names}): compare what they gain, not where they end. "
    )


def number(result: MethodResult, metric: Metric, n: bool = False) -> Value:
    """Return a metric of a method, mean over seeds; with ``n``, how many seeds where some are missing."""
    values = list(result.of(metric.name).values())
    if not values or (metric.name == START and not result.is_online):
        return Value(DASH)
    shown = over_seeds(values, metric.form)
    if n and len(values) < result.asked:
        shown = replace(shown, text=f"{shown.text}, n = {of_asked(len(values), result.asked)}")
    return shown


def _value(text: str, e: Estimate) -> Value:
    return Value(text, e.value, e.low, e.high, e.n, e.interval)


def over_seeds(values: Iterable[float], form: str = "{:.1f}") -> Value:
    """Return the mean of numbers, one for each seed, and how sure it is."""
    values = [float(value) for value in values]
    if not values:
        return Value(DASH)
    estimate = mean_over_seeds(values)
    return _value(spread(values, estimate, form), estimate)


def estimated_cell(estimate: Estimate, form: str = "{:.1f}") -> Value:
    """Return an estimate with its interval."""
    return _value(interval(estimate, form), estimate)


def seeds_shown(n: int, asked: int) -> Value:
    """Return how many seeds are shown, of how many where some are missing."""
    return Value(of_asked(n, asked), n, lacking=n < asked)


def whole(value: int | None) -> Value:
    """Return a count; a dash where there is none."""
    return Value(DASH) if value is None else Value(f"{value:,}", value)


def score_cell(value: float | None) -> Value:
    """Return a score; n/a where there is none."""
    return Value("n/a") if value is None else Value(f"{value:.1f}", value)


def better(name: str) -> str:
    """Return which direction of a metric is better: higher, lower or neither."""
    return {True: "higher", False: "lower", None: ""}[metric_of(name).higher_is_better]
