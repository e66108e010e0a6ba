"""What one run did from the online start on, each as one number: did it collapse, how fast did it improve?

Final scores say where a run ended, not how: a method that falls to zero and climbs back looks like one that
never fell. Here every run is reduced to scalars, one function per question, all of the same ``FineTuning``.
They are computed per run and only then averaged over seeds (``statistics``), because a band around a mean
curve hides what single runs did. Evaluations need not stand at even steps: between two of them a curve is the
straight line, so how densely a straight piece was evaluated changes no measure.

None means "not applicable". ``docs/measures.md`` lists all of them, when each does not apply, and why each is
read beside ``frozen``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..transitions import Array

if TYPE_CHECKING:
    from ..datasets.reference_scores import Reference
    from .results import Shown

WINDOW = 20_000
"""Environment steps after the online start in which a fall counts as the online start's."""
LEAST_COLLAPSE, COLLAPSED_SHARE = 15.0, 0.3
"""A collapse loses more than this many points and more than this share of the score at the online start."""
NEARLY = 0.9
"""The share of the best final score whose reaching is timed."""
LAST_SHARE = 0.1
"""The end of the budget over which a run's level is averaged."""
FEWEST = 3
"""Evaluations below which there is no curve."""
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
    episode_ends: Array = field(default_factory=_none)
    episode_scores: Array = field(default_factory=_none)

    def __post_init__(self) -> None:
        rows, episodes = len(self.scores), len(self.episode_scores)
        faults = {
            "no evaluation": not rows,
            "columns differ in length": {len(self.env_steps), len(self.updates)} != {rows},
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
        if _learns_only_apart(self):
            return None
        steps, first = np.unique(self.env_steps, return_index=True)
        early = steps <= min(WINDOW, self.budget)
        if len(steps) < FEWEST or early.sum() < 2:
            return None
        scores = self.scores[first]
        return Curve(steps, scores, _median_of_three(scores), min(WINDOW, int(steps[-1])))


@dataclass(frozen=True, eq=False)
class Curve:
    """A run's learning curve over environment steps, one evaluation for each clock."""

    steps: Array
    scores: Array
    smoothed: Array
    window: int
    """Steps after the online start in which a fall counts as the online start's."""

    @cached_property
    def worst(self) -> tuple[float, float]:
        """The step of the least smoothed score within the window, and that score."""
        steps = np.append(self.steps[self.steps < self.window], self.window)
        scores = np.interp(steps, self.steps, self.smoothed)
        return float(steps[scores.argmin()]), float(scores.min())

    def mean(self, begin: float, end: float) -> float:
        """Return the mean score over the steps from ``begin`` to ``end``, by trapezoids."""
        inner = self.steps[(self.steps > begin) & (self.steps < end)]
        steps = np.concatenate([[begin], inner, [end]])
        return float(np.trapezoid(np.interp(steps, self.steps, self.scores), steps) / (end - begin))

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


@dataclass(frozen=True)
class Rate:
    """In how many of ``n`` runs something happened."""

    count: int
    n: int


def fine_tuning_of(result: Shown, scores: Reference, budget: int) -> FineTuning:
    """Return an experiment's run from the online start on; of a run that never interacts its last evaluation.

    Episodes are those of fine-tuning runs: one from scratch has no policy at the online start to hold them
    against.
    """
    own, of = result.own, slice(None) if result.is_online else slice(-1, None)
    whole = FineTuning(own.env_steps[of], own.updates[of], scores.score(own.mean_returns[of]), budget)
    if not result.experiment.parent:
        return whole
    played = own.played
    return replace(whole, episode_ends=played.env_steps, episode_scores=scores.score(played.returns))


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
    if mark > run.env_steps[-1] and not _learned_after_its_last_step(run):
        return None
    last = int((run.env_steps <= mark).nonzero()[0][-1])
    around = slice(last, last + 2)
    return float(np.interp(mark, run.env_steps[around], run.scores[around]))


def late(run: FineTuning) -> float | None:
    """Return the mean score over the last tenth of the budget; None also when evaluations end before it."""
    curve = run.curve
    if curve is None or curve.steps[-1] < run.budget:
        return None
    return curve.mean((1 - LAST_SHARE) * run.budget, run.budget)


# What is lost after the online start


def drop(run: FineTuning) -> float | None:
    """Return the transfer drop, how far the score falls below the online start in the first 20,000 steps.

    ``s(0) - min over t <= min(20,000, budget) of smoothed(t)``, the online start among them: never negative.
    """
    curve = run.curve
    return None if curve is None else float(curve.smoothed[0] - curve.worst[1])


def collapse(run: FineTuning) -> bool | None:
    """Return whether the run collapsed: ``drop > max(15, 0.3 s(0))``."""
    fell = drop(run)
    return None if fell is None else fell > max(LEAST_COLLAPSE, COLLAPSED_SHARE * float(run.scores[0]))


def collapse_rate(runs: Iterable[FineTuning]) -> Rate | None:
    """Return in how many runs there was a collapse; runs without an answer are not counted."""
    answers = [answer for answer in map(collapse, runs) if answer is not None]
    return Rate(sum(answers), len(answers)) if answers else None


def steps_to_recover(run: FineTuning) -> Reached | None:
    """Return the first step after the worst point of ``drop`` at which smoothed(t) >= s(0) again.

    0 when nothing was lost; censored at the last evaluation when the score never comes back.
    """
    curve = run.curve
    if curve is None:
        return None
    return curve.reached(float(curve.smoothed[0]), after=curve.worst[0])


# How fast it gains


def steps_to_nearly(run: FineTuning, best_final: float) -> Reached | None:
    """Return the first step at which smoothed(t) >= 0.9 of the best final score among the methods.

    Args:
        run: The run.
        best_final: The greatest mean final score of a method on this data set, the same for all runs.

    Returns:
        The step, censored at the last evaluation; None also when ``best_final`` is not positive, since a
        share of it means nothing then.
    """
    curve = run.curve
    if curve is None or best_final <= 0:
        return None
    return curve.reached(NEARLY * best_final)


def area(run: FineTuning) -> float | None:
    """Return the area under the curve over the budget: the mean score while fine-tuning.

    ``1 / budget * integral of s(t) dt`` by trapezoids. None also when evaluations end before the budget.
    """
    curve = run.curve
    if curve is None or curve.steps[-1] < run.budget:
        return None
    return curve.mean(0, run.budget)


def improvement_per_1000_steps(run: FineTuning) -> float | None:
    """Return points gained per 1,000 environment steps, from the online start to the last step."""
    curve = run.curve
    if curve is None:
        return None
    return float((curve.scores[-1] - curve.scores[0]) / curve.steps[-1] * 1000)


def regret(run: FineTuning, reference: float) -> float | None:
    """Return what interacting cost: how far training episodes scored below a reference, on average.

    ``1 / T * sum over episodes of length_e * (reference - score_e)``, T their total length: a cost per step.
    Negative when training itself scored above the reference.

    Args:
        run: The run.
        reference: A score; that at the online start asks what not fine-tuning would have saved.
    """
    if not len(run.episode_ends):
        return None
    lengths = np.diff(run.episode_ends, prepend=0)
    return float(np.average(reference - run.episode_scores, weights=lengths))


def roughness(run: FineTuning) -> float | None:
    """Return how much the curve goes back and forth, in points per evaluation.

    ``(sum of |s_i - s_(i-1)| - |s_n - s_0|) / n``: the total variation less the net change.
    """
    curve = run.curve
    if curve is None:
        return None
    moves = np.diff(curve.scores)
    return float((np.abs(moves).sum() - abs(moves.sum())) / len(moves))


# Over several runs


@dataclass(frozen=True)
class Measure:
    """A measure that needs nothing but the run, as a table shows it."""

    name: str
    unit: str
    higher_is_better: bool
    of: Callable[[FineTuning], float | None]


MEASURES = (
    Measure("final score", "score", True, final),
    Measure("change", "score", True, change),
    Measure("mean of the last tenth", "score", True, late),
    Measure("transfer drop", "score", False, drop),
    Measure("area under the curve", "score", True, area),
    Measure("improvement per 1,000 steps", "score / 1,000 steps", True, improvement_per_1000_steps),
    Measure("roughness", "score / evaluation", False, roughness),
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


def _median_of_three(scores: Array) -> Array:
    """Replace each inner score by the median of it and its neighbours.

    The ends stay: the online start and the end of a stage are evaluated on more episodes than what lies
    between.
    """
    inner = np.sort([scores[:-2], scores[1:-1], scores[2:]], axis=0)[1]
    return np.concatenate([scores[:1], inner, scores[-1:]])


def _learns_only_apart(run: FineTuning) -> bool:
    """Return whether the policy changes, but only while the environment stands still.

    ``frozen`` never changes, which is no reason to leave it out: it is what the others are held against.
    """
    interacting, learning = np.diff(run.env_steps) > 0, np.diff(run.updates) > 0
    return bool(learning.any() and not (learning & interacting).any())


def _learned_after_its_last_step(run: FineTuning) -> bool:
    at_the_end = run.updates[run.env_steps == run.env_steps[-1]]
    return bool(at_the_end[-1] > at_the_end[0])
