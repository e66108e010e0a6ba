"""What one run did from the online start on, each as one number: what did it cost, how far did it come?

Final scores say where a run ended, not how: a method that falls to zero and climbs back looks like one that
never fell. Here every run is reduced to scalars, one function per question, all of the same ``FineTuning``.
They are computed per run and only then averaged over seeds (``inference``), because a band around a mean
curve hides what single runs did. Evaluations need not stand at even steps: between two of them a curve is the
straight line, so how densely a straight piece was evaluated changes no measure.

None means "not applicable". ``docs/measures.md`` lists all of them, and when each does not apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..transitions import Array

if TYPE_CHECKING:
    from ..datasets.reference_scores import Reference
    from ..runs.read import Evaluations
    from .results import Shown

LAST_SHARE = 0.2
"""The end of a run, a share of its steps, over which its level is averaged: the last window."""
FEWEST = 3
"""Evaluations below which there is no curve, and no window."""
COLLAPSED_SHARE, LEAST_START = 0.5, 20.0
"""Collapsed: the last window is below this share of the start. A start below 20 has little to lose."""
TOLERANCE = 5.0
"""Points below the start that are no loss yet."""
LEVELS = (25.0, 50.0, 75.0, 100.0)
"""Scores whose reaching is timed, the same for all methods, data sets and suites."""
NOISE_CURVES = 1_000
LEAD, LEAD_SHARE = 5.0, 0.1
"""How far policy and data must differ: points, or a share of the way from the data's mean to its best."""


def _none() -> Array:
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class FineTuning:
    """One run from the online start on, in the order in which things happened.

    Attributes:
        env_steps: Environment steps at each evaluation (rows,); the first is the online start, 0.
        updates: Policy updates at each evaluation (rows,).
        scores: Normalised score of each evaluation (rows,), averaged over its episodes.
        budget: Environment steps the run may take.
        evaluated_on: Episodes of each evaluation (rows,).
        deviations: Standard deviation of their scores (rows,); 0 where there is one episode.
        episode_ends: Environment steps at which training episodes ended (episodes,).
        episode_scores: Normalised scores of those episodes (episodes,), exploration included.

    Raises:
        ValueError: There is no row, lengths differ, a clock runs backwards or past the budget, or a score
            is not finite.
    """

    env_steps: Array
    updates: Array
    scores: Array
    budget: int
    evaluated_on: Array = field(default_factory=_none)
    deviations: Array = field(default_factory=_none)
    episode_ends: Array = field(default_factory=_none)
    episode_scores: Array = field(default_factory=_none)

    def __post_init__(self) -> None:
        rows, episodes = len(self.scores), len(self.episode_scores)
        columns = {len(self.env_steps), len(self.updates)}
        spreads = {len(self.evaluated_on), len(self.deviations)}
        faults = {
            "no evaluation": not rows,
            "columns differ in length": columns != {rows} or spreads not in ({rows}, {0}),
            "episode columns differ in length": len(self.episode_ends) != episodes,
            "the first evaluation is not the online start": rows and self.env_steps[0] != 0,
            "steps run backwards": (np.diff(self.env_steps) < 0).any(),
            "updates run backwards": (np.diff(self.updates) < 0).any(),
            "episodes end backwards": (np.diff(self.episode_ends, prepend=0) <= 0).any(),
            "steps exceed the budget": (np.append(self.env_steps, self.episode_ends) > self.budget).any(),
            "a score is not finite": not np.isfinite(np.append(self.scores, self.episode_scores)).all(),
        }
        wrong = [fault for fault, holds in faults.items() if holds]
        if wrong:
            raise ValueError(f"not the rows of one run after the online start: {', '.join(wrong)}")

    @cached_property
    def curve(self) -> Curve | None:
        """The curve while interacting; None where it would not show any learning, or too little."""
        steps, first = np.unique(self.env_steps, return_index=True)
        if self.learns_apart or len(steps) < FEWEST:
            return None
        return Curve(steps, self.scores[first])

    @cached_property
    def learns_apart(self) -> bool:
        """Whether the policy changes, but only while the environment stands still.

        ``frozen`` never changes, which is no reason to leave it out: it is what the others are held against.
        """
        interacting, learning = np.diff(self.env_steps) > 0, np.diff(self.updates) > 0
        return bool(learning.any() and not (learning & interacting).any())

    @cached_property
    def last_stage(self) -> Curve | None:
        """Where a method learns after its last step, the curve over the updates it makes there; else None."""
        at_the_end = self.env_steps == self.env_steps[-1]
        updates = self.updates[at_the_end]
        if updates[-1] == updates[0]:
            return None
        made, last = np.unique(updates[::-1], return_index=True)
        return Curve(made - made[0], self.scores[at_the_end][::-1][last])


@dataclass(frozen=True, eq=False)
class Curve:
    """A learning curve, one evaluation for each clock: environment steps, or updates in a stage without."""

    steps: Array
    scores: Array

    @cached_property
    def smoothed(self) -> Array:
        """The scores as three-point medians."""
        return median_of_three(self.scores)

    @property
    def worst(self) -> tuple[float, float]:
        """The step of the least smoothed score, and that score."""
        i = int(self.smoothed.argmin())
        return float(self.steps[i]), float(self.smoothed[i])

    def mean(self, begin: float, end: float) -> float:
        """Return the mean score over the steps from ``begin`` to ``end``, by trapezoids."""
        inner = self.steps[(self.steps > begin) & (self.steps < end)]
        steps = np.concatenate([[begin], inner, [end]])
        return float(np.trapezoid(np.interp(steps, self.steps, self.scores), steps) / (end - begin))

    def last_window(self, end: float) -> float | None:
        """Return the mean over the last 20 % of the way to ``end``; None with under 3 evaluations there."""
        begin = (1 - LAST_SHARE) * end
        enough = (self.steps >= begin).sum() >= FEWEST and self.steps[-1] >= end
        return self.mean(begin, end) if enough else None

    def reached(self, level: float, after: float = 0.0) -> Reached:
        """Return the first step from ``after`` on at which the smoothed score is ``level`` or more."""
        steps = np.concatenate([[after], self.steps[self.steps > after]])
        scores = np.interp(steps, self.steps, self.smoothed)
        if not (scores >= level).any():
            return Reached(float(steps[-1]), censored=True)
        i = int((scores >= level).argmax())
        between = slice(max(i - 1, 0), i + 1)  # rises from below the level, or stands at the first step
        return Reached(float(np.interp(level, scores[between], steps[between])), censored=False)


@dataclass(frozen=True)
class Reached:
    """When something was reached; ``censored``: it was not, until ``steps``, where the run ended."""

    steps: float
    censored: bool


def fine_tuning_of(result: Shown, scores: Reference, budget: int) -> FineTuning:
    """Return an experiment's run from the online start on; of a run that never interacts its last evaluation.

    Episodes are those of fine-tuning runs: one from scratch has no policy at the online start to hold them
    against.
    """
    own = result.own
    whole = rows_of(own, scores, budget, 0 if result.is_online else -1)
    if not result.experiment.parent:
        return whole
    played = own.played
    return replace(whole, episode_ends=played.env_steps, episode_scores=scores.score(played.returns))


def rows_of(own: Evaluations, scores: Reference, budget: int, first: int = 0) -> FineTuning:
    """Return a run's evaluations from the ``first`` on as normalised scores, without training episodes."""
    normalised = scores.score(own.mean_returns)
    deviations = scores.score(own.mean_returns + own.deviations) - normalised
    columns = (own.env_steps, own.updates, normalised, own.episodes, deviations)
    env_steps, updates, of_run, episodes, spread = (column[first:] for column in columns)
    return FineTuning(env_steps, updates, of_run, budget, episodes, spread)


def diverged(until: FineTuning) -> FineTuning:
    """Return a run that diverged as if it had gone on with the random policy's score, 0, to its budget."""
    begin, end = int(until.env_steps[-1]) + 1, until.budget
    steps = np.unique(np.linspace(min(begin, end), end, 101).astype(np.int64))
    zeros = np.zeros(len(steps))
    return FineTuning(
        np.append(until.env_steps, steps),
        np.append(until.updates, np.full(len(steps), until.updates[-1])),
        np.append(until.scores, zeros),
        until.budget,
    )


# Where it ends, and where it stands on the way


def final(run: FineTuning) -> float:
    """Return the score of the last evaluation; never the best one."""
    return float(run.scores[-1])


def change(run: FineTuning) -> float | None:
    """Return the final score minus the score at the online start; None without a later evaluation."""
    return float(run.scores[-1] - run.scores[0]) if len(run.scores) > 1 else None


def score_at(run: FineTuning, mark: int) -> float | None:
    """Return the score at ``mark`` environment steps; between two evaluations on the line that joins them.

    Of several evaluations at that step the last counts. A run that stops interacting before the mark and then
    learns without the environment is compared as it is after its last stage: it spent fewer steps, not more.
    Any other run that ends before the mark has no score there: None.
    """
    if mark > run.env_steps[-1] and run.last_stage is None:
        return None
    last = int((run.env_steps <= mark).nonzero()[0][-1])
    around = slice(last, last + 2)
    return float(np.interp(mark, run.env_steps[around], run.scores[around]))


def area(run: FineTuning) -> float | None:
    """Return the area under the curve over the budget: the mean score while fine-tuning.

    ``1 / budget * integral of s(t) dt`` by trapezoids. None also when evaluations end before the budget, and
    for a method that learns after its last step, whose curve does not show what it learns.
    """
    curve = run.curve
    if curve is None or curve.steps[-1] < run.budget or run.last_stage is not None:
        return None
    return curve.mean(0, run.budget)


def area_above_start(run: FineTuning) -> float | None:
    """Return the area less the score at the online start: what fine-tuning gained on average on the way."""
    mean = area(run)
    return None if mean is None else mean - float(run.scores[0])


def last_window(run: FineTuning) -> float | None:
    """Return the mean score over the last 20 % of the steps, where at least 3 evaluations stand.

    A method that learns after its last step is measured over the last 20 % of the updates it makes there.
    """
    if run.last_stage is not None:
        return run.last_stage.last_window(float(run.last_stage.steps[-1]))
    return run.curve.last_window(run.budget) if run.curve else None


def improvement_per_1000_steps(run: FineTuning) -> float | None:
    """Return points gained per 1,000 environment steps, from the online start to the last step."""
    curve = run.curve
    if curve is None:
        return None
    return float((curve.scores[-1] - curve.scores[0]) / curve.steps[-1] * 1000)


def steps_to(run: FineTuning, level: float) -> Reached | None:
    """Return the first step at which smoothed(t) is a score of ``level`` or more, censored at the end."""
    return run.curve.reached(level) if run.curve else None


# What is lost on the way


def loss_on_the_way(run: FineTuning, start: float | None = None) -> float | None:
    """Return what interacting cost: how far training episodes scored below the start, on average per step.

    ``sum over episodes of length_e * (start - score_e) / sum of lengths``, signed: negative when training
    itself scored above the start. None where there is no training episode.

    Args:
        run: The run.
        start: The score that not fine-tuning would have kept; None: the run's own at the online start.
    """
    if not len(run.episode_ends):
        return None
    start = float(run.scores[0]) if start is None else start
    lengths = np.diff(run.episode_ends, prepend=0)
    return float(np.average(start - run.episode_scores, weights=lengths))


def noise(run: FineTuning) -> float | None:
    """Return the standard error of an evaluation of this run, from the spread of its own episodes.

    The spread is pooled over evaluations; the error is that of an evaluation of the usual number of episodes.
    """
    spread = _spread(run)
    return None if spread is None else spread / math.sqrt(float(np.median(run.evaluated_on)))


def maximum_drawdown(run: FineTuning) -> float | None:
    """Return the most that the score falls below its highest value so far, less what noise alone makes of it.

    Scores are three-point medians. Noise: the mean over 1,000 curves of a constant score whose evaluations
    vary as the run's own episodes do. More evaluations make both larger, and the difference does not grow.
    """
    curve = run.curve
    if curve is None:
        return None
    spread, (_, first) = _spread(run) or 0.0, np.unique(run.env_steps, return_index=True)
    if not spread:
        return float(_drawdown(curve.scores))
    return float(_drawdown(curve.scores)) - spread * _noise_drawdown(tuple(run.evaluated_on[first].tolist()))


def collapse(run: FineTuning) -> bool | None:
    """Return whether the last window lies below half of the start; None below a start of 20."""
    end = last_window(run)
    if end is None or run.scores[0] < LEAST_START:
        return None
    return end < COLLAPSED_SHARE * float(run.scores[0])


def recovery(run: FineTuning) -> Reached | None:
    """Return the first step after its worst point at which smoothed(t) >= s(0) again, censored at the end.

    None where the worst point lies no more than 5 points below the start: nothing was lost.
    """
    curve = run.curve
    if curve is None or curve.worst[1] >= curve.scores[0] - TOLERANCE:
        return None
    return curve.reached(float(curve.scores[0]), after=curve.worst[0])


# Over several runs


@dataclass(frozen=True)
class Measure:
    """A measure that needs nothing but the run, as a table shows it."""

    name: str
    unit: str
    higher_is_better: bool
    of: Callable[[FineTuning], float | None]


MEASURES = (
    Measure("area", "score", True, area),
    Measure("area above the start", "score", True, area_above_start),
    Measure("last window", "score", True, last_window),
    Measure("final score", "score", True, final),
    Measure("change", "score", True, change),
    Measure("loss on the way", "score", False, loss_on_the_way),
    Measure("maximum drawdown", "score", False, maximum_drawdown),
    Measure("improvement per 1,000 steps", "score / 1,000 steps", True, improvement_per_1000_steps),
)


Prior = Literal["policy", "data", "comparable"]


def regime(pretrained_score: float, data_mean_score: float, data_best_score: float) -> Prior:
    """Name the better prior knowledge that fine-tuning starts from: the pretrained policy or the data.

    Where the policy is better, fine-tuning has to keep the policy; where the data are better, it has to keep
    using the data; where they are comparable, either may do (three regimes, arXiv:2510.01460). The policy
    is set against the *mean* of the data, what the data's collectors scored. Scores differ when they lie
    apart by more than 5 points and by more than 10 % of the way from the data's mean to its best episode:
    in data of mixed quality the mean is a blurred mark.

    Args:
        pretrained_score: Score at the online start, averaged over seeds.
        data_mean_score: Mean score of the data's episodes.
        data_best_score: Score of their best episode.

    Raises:
        ValueError: A score is not finite, or the best episode lies below the mean.
    """
    if not np.isfinite([pretrained_score, data_mean_score, data_best_score]).all():
        raise ValueError("a score is not finite")
    if data_best_score < data_mean_score:
        raise ValueError(f"the best episode ({data_best_score:g}) is below the mean ({data_mean_score:g})")
    lead = pretrained_score - data_mean_score
    if abs(lead) <= max(LEAD, LEAD_SHARE * (data_best_score - data_mean_score)):
        return "comparable"
    return "policy" if lead > 0 else "data"


# The curve


def median_of_three(scores: Array) -> Array:
    """Replace each inner score (..., points) by the median of it and its neighbours.

    The ends stay: the online start and the end of a stage are evaluated on more episodes than what lies
    between.
    """
    inner = np.sort([scores[..., :-2], scores[..., 1:-1], scores[..., 2:]], axis=0)[1]
    return np.concatenate([scores[..., :1], inner, scores[..., -1:]], axis=-1)


def _drawdown(scores: Array) -> Array:
    """Return the most that smoothed scores (..., points) fall below their highest value so far (...,)."""
    smoothed = median_of_three(scores)
    return np.asarray((np.maximum.accumulate(smoothed, axis=-1) - smoothed).max(axis=-1))


@lru_cache(maxsize=1024)
def _noise_drawdown(evaluated_on: tuple[int, ...]) -> float:
    """Return the mean drawdown of noise of unit spread an episode, over evaluations of so many episodes."""
    draws = np.random.default_rng(0).standard_normal((NOISE_CURVES, len(evaluated_on)))
    return float(_drawdown(draws / np.sqrt(evaluated_on)).mean())


def _spread(run: FineTuning) -> float | None:
    """Return the standard deviation of episodes within an evaluation; None where no evaluation has two."""
    weights = np.maximum(run.evaluated_on - 1, 0)
    if not weights.sum():
        return None
    return float(np.sqrt(np.average(run.deviations**2, weights=weights)))
