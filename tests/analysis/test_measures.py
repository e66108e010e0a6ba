"""The measures of one fine-tuning run: by hand, by their properties, and where they do not apply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o2obench.analysis import measures as M
from o2obench.analysis.measures import FineTuning, Reached
from o2obench.analysis.results import Shown
from o2obench.datasets.reference_scores import Reference
from o2obench.planning.plan import Experiment
from o2obench.runs.read import Episodes, Evaluations

quick = settings(max_examples=60, deadline=None)
curves = st.lists(st.integers(-20, 120).map(float), min_size=3, max_size=15)


def run(*scores: float, every: int = 1000, learns: bool = True, episodes: Any = ()) -> FineTuning:
    """A run that is evaluated every so many steps, up to its budget; episodes are (end, score)."""
    steps = every * np.arange(len(scores))
    ends, of_episodes = np.array(episodes, float).reshape(-1, 2).T
    trained = {"episode_ends": ends, "episode_scores": of_episodes}
    return FineTuning(steps, learns * 20 * steps, np.array(scores, float), int(steps[-1]), **trained)


def apart(*after: float, collected: int = 3) -> FineTuning:
    """A run that collects without learning and then learns without the environment."""
    steps = [1000 * i for i in range(collected + 1)] + [1000 * collected] * len(after)
    updates = [0] * (collected + 1) + [500 * (i + 1) for i in range(len(after))]
    scores = [50.0] * (collected + 1) + list(after)
    return FineTuning(np.array(steps), np.array(updates), np.array(scores), 1000 * collected)


FALLS = run(60, 50, 20, 25, 40, 58, 61, 70, 80)
"""Smoothed: 60, 50, 25, 25, 40, 58, 61, 70, 80."""

# By hand


def test_a_fall_and_its_recovery_by_hand() -> None:
    assert M.maximum_drawdown(FALLS) == 35, "from 60 to the smoothed 25; without spread there is no noise"
    back = M.recovery(FALLS)
    assert back is not None
    assert back.steps == pytest.approx(5000 + 1000 * 2 / 3), "between 58 and 61"
    assert not back.censored
    assert M.steps_to(FALLS, 75) == Reached(7500, censored=False), "between 70 and 80"
    assert M.steps_to(FALLS, 50) == Reached(0, censored=False)
    assert M.steps_to(FALLS, 100) == Reached(8000, censored=True)
    mean = (60 / 2 + 50 + 20 + 25 + 40 + 58 + 61 + 70 + 80 / 2) / 8
    assert M.area(FALLS) == pytest.approx(mean)
    assert M.area_above_start(FALLS) == pytest.approx(mean - 60)
    assert M.improvement_per_1000_steps(FALLS) == pytest.approx(20 / 8)
    assert (M.final(FALLS), M.change(FALLS)) == (80, 20)


def test_what_never_comes_back_is_censored_where_the_run_ends() -> None:
    assert M.recovery(run(60, 20, 20, 30, 40)) == Reached(4000, censored=True)


def test_there_is_no_recovery_from_less_than_five_points() -> None:
    assert M.recovery(run(60, 56, 56, 56, 60)) is None
    assert M.recovery(run(60, 54, 54, 54, 60)) == Reached(4000, censored=False)


def test_one_bad_evaluation_is_no_drawdown_but_two_are_or_the_last() -> None:
    assert M.maximum_drawdown(run(60, 61, 5, 62, 63)) == 0
    assert M.maximum_drawdown(run(60, 61, 5, 6, 63, 64)) == 54, "smoothed: 60, 60, 6, 6, 63, 64"
    assert M.maximum_drawdown(run(60, 61, 62, 63, 5)) == 57, "the ends are not smoothed"


def test_loss_on_the_way_is_weighted_by_the_length_of_episodes_and_signed() -> None:
    trained = run(50, 50, 50, episodes=[(100, 10.0), (1000, 40.0), (2000, 60.0)])
    assert M.loss_on_the_way(trained) == pytest.approx((100 * 40 + 900 * 10 - 1000 * 10) / 2000)
    assert M.loss_on_the_way(trained, start=60) == pytest.approx(10 + value(M.loss_on_the_way(trained)))
    assert M.loss_on_the_way(run(50, 50, 50)) is None


def test_the_last_window_is_the_mean_over_the_last_fifth_of_the_steps() -> None:
    assert M.last_window(run(*range(11))) == 9
    assert M.last_window(run(*[50.0] * 8, 60, 90, 20)) == pytest.approx((75 + 55) / 2)
    assert M.last_window(run(*range(9))) is None, "the window begins at step 6,400: two evaluations"
    assert M.last_window(replace(run(*range(11)), budget=20_000)) is None, "evaluations end before it"


def test_who_learns_after_the_last_step_is_measured_by_the_end_of_that_stage() -> None:
    learner = apart(*np.arange(10.0))
    assert M.area(learner) is None
    assert M.last_window(learner) == 8, "updates 4,000 to 5,000: scores 7, 8 and 9"
    assert M.last_window(apart(60.0, 70.0)) is None, "two evaluations"


# What extremes of a noisy curve must not say


def noisy(level: float, spread: float, evaluations: int, seed: int, episodes: int = 10) -> FineTuning:
    """A run of constant mean whose episodes vary by ``spread``."""
    drawn = np.random.default_rng(seed).normal(level, spread, (evaluations + 1, episodes))
    steps = np.arange(evaluations + 1) * 1000
    return FineTuning(
        steps,
        steps,
        drawn.mean(axis=1),
        int(steps[-1]),
        np.full(evaluations + 1, episodes),
        drawn.std(axis=1, ddof=1),
    )


@pytest.mark.parametrize("evaluations", [10, 20, 80])
def test_noise_alone_neither_collapses_nor_draws_down(evaluations: int) -> None:
    """A mean of 20.7 with swings of 15 at an evaluation: nothing happens, however often one looks."""
    runs = [noisy(20.7, 15 * np.sqrt(10), evaluations, seed) for seed in range(200)]
    assert abs(np.mean([value(M.maximum_drawdown(one)) for one in runs])) < 2.0
    least = [20.7 - one.scores.min() for one in runs]
    assert np.mean(least) > 20, "what the least score alone would call a fall"
    steady = [M.collapse(replace(one, scores=np.append(20.7, one.scores[1:]))) for one in runs]
    assert np.mean([bool(one) for one in steady]) < 0.25, "a window of few evaluations is noisy, too"


def test_collapses_do_not_grow_with_the_number_of_evaluations() -> None:
    rates = []
    for evaluations in (10, 20, 80):
        runs = [noisy(20.7, 15 * np.sqrt(10), evaluations, seed) for seed in range(200)]
        held = [M.collapse(replace(one, scores=np.append(20.7, one.scores[1:]))) for one in runs]
        rates.append(np.mean([bool(one) for one in held]))
    assert rates[0] >= rates[1] >= rates[2]
    assert rates[2] < 0.02


def test_a_fall_from_a_later_height_is_a_drawdown() -> None:
    assert M.maximum_drawdown(run(17.7, 50, 89.6, 89.6, 40, 16.9, 16.9)) == pytest.approx(72.7)


@pytest.mark.parametrize(
    ("start", "end", "collapsed"),
    [(40, 19, True), (40, 21, False), (20, 9, True), (19.9, 0, None), (-5, -21, None)],
)
def test_a_collapse_ends_below_half_of_a_start_worth_losing(
    start: float, end: float, collapsed: bool | None
) -> None:
    assert M.collapse(run(start, *[end] * 10)) is collapsed
    assert M.collapse(run(start, *[end] * 7, *[start] * 3)) in (False, None), "it came back"


def test_the_noise_of_a_method_is_that_of_its_own_episodes() -> None:
    assert M.noise(noisy(50, 30, 400, seed=0)) == pytest.approx(30 / np.sqrt(10), rel=0.05)
    assert M.noise(FALLS) is None


def test_a_diverged_run_scores_0_from_there_on() -> None:
    until = replace(run(40, 50, 60), budget=8000)
    lost = M.diverged(until)
    assert M.area(lost) == pytest.approx((45 * 1000 + 55 * 1000) / 8000, abs=0.01)
    assert (M.last_window(lost), M.collapse(lost), M.final(lost)) == (0, True, 0)


def test_scores_between_two_evaluations_lie_on_their_line() -> None:
    assert [M.score_at(FALLS, mark) for mark in (0, 900, 1000, 2500, 8000)] == [60, 51, 50, 22.5, 80]
    assert M.score_at(FALLS, 8001) is None


def test_who_learns_apart_is_compared_after_its_last_stage() -> None:
    decoupled = apart(55.0, 70.0, 90.0, collected=3)
    assert [M.score_at(decoupled, mark) for mark in (2000, 3000, 100_000)] == [50, 90, 90]
    assert (M.final(decoupled), M.change(decoupled)) == (90, 40)
    without_steps = apart(55.0, 80.0, collected=0)
    assert M.score_at(without_steps, 10_000) == 80


# Where a measure does not apply


@pytest.mark.parametrize("other", [apart(60.0, 70.0), apart(60.0, collected=0), run(50), run(50, 60)])
def test_no_curve_no_measure_of_it(other: FineTuning) -> None:
    for measure in (
        M.maximum_drawdown,
        M.area,
        M.area_above_start,
        M.improvement_per_1000_steps,
        M.recovery,
    ):
        assert measure(other) is None
    assert M.steps_to(other, 80) is None
    assert M.final(other) == other.scores[-1]


def test_one_row_has_no_change_and_a_final_score() -> None:
    assert (M.final(run(50)), M.change(run(50)), M.score_at(run(50), 0)) == (50, None, 50)


def test_loss_on_the_way_holds_for_who_collects_first_and_learns_afterwards() -> None:
    one = replace(apart(60.0), episode_ends=np.array([9]), episode_scores=np.array([5.0]))
    assert M.loss_on_the_way(one) == 45


def test_an_area_needs_the_whole_budget() -> None:
    whole = run(1, 2, 3)
    assert M.area(FineTuning(whole.env_steps, whole.updates, whole.scores, 9000)) is None


def test_what_is_learned_after_the_steps_does_not_bend_the_curve_over_steps() -> None:
    steps, updates = np.array([0, 0, 1000, 2000, 2000]), np.array([0, 5, 10, 20, 99])
    both = FineTuning(steps, updates, np.array([50.0, 0, 60, 70, 95]), 2000)
    assert M.maximum_drawdown(both) == 0
    assert M.area(both) is None, "an area would leave the last stage out"
    assert M.improvement_per_1000_steps(both) == 10
    assert M.score_at(both, 9000) == 95


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        (([], [], []), "no evaluation"),
        (([0, 1], [0], [1.0]), "columns differ in length"),
        (([0, 1], [0, 1], [1.0, np.nan]), "a score is not finite"),
        (([0, 1], [0, 1], [1.0, np.inf]), "a score is not finite"),
        (([1, 2], [0, 1], [1.0, 1.0]), "the first evaluation is not the online start"),
        (([0, 2, 1], [0, 1, 2], [1.0, 1.0, 1.0]), "steps run backwards"),
        (([0, 1, 2], [0, 2, 1], [1.0, 1.0, 1.0]), "updates run backwards"),
        (([0, 11], [0, 1], [1.0, 1.0]), "steps exceed the budget"),
        (([0], [0], [1.0], [3], []), "episode columns differ in length"),
        (([0], [0], [1.0], [3, 3], [1.0, 1.0]), "episodes end backwards"),
        (([0], [0], [1.0], [11], [1.0]), "steps exceed the budget"),
        (([0], [0], [1.0], [3], [np.nan]), "a score is not finite"),
    ],
)
def test_what_are_no_rows_of_a_run_is_refused(columns: tuple[list[float], ...], fault: str) -> None:
    steps, updates, scores, *episodes = (np.array(column) for column in columns)
    ends, of_episodes = episodes or (np.empty(0), np.empty(0))
    with pytest.raises(ValueError, match=fault):
        FineTuning(steps, updates, scores, 10, episode_ends=ends, episode_scores=of_episodes)
    with pytest.raises(ValueError, match="columns differ in length"):
        FineTuning(np.zeros(2), np.zeros(2), np.zeros(2), 10, evaluated_on=np.ones(1), deviations=np.ones(2))


# Properties


@quick
@given(st.floats(-50, 150, allow_subnormal=False), st.integers(11, 30), st.booleans())
def test_a_constant_curve_loses_and_gains_nothing(score: float, rows: int, learns: bool) -> None:
    still = run(*[score] * rows, learns=learns, episodes=[(10, score), (500, score)])
    for measure in (M.maximum_drawdown, M.improvement_per_1000_steps, M.change, M.loss_on_the_way):
        assert value(measure(still)) == pytest.approx(0, abs=1e-9)
    assert M.collapse(still) is (False if score >= M.LEAST_START else None)
    assert M.recovery(still) is None
    assert (M.area(still), M.last_window(still)) == pytest.approx((score, score))


@quick
@given(curves)
def test_a_rising_curve_draws_down_nowhere(scores: list[float]) -> None:
    rising = run(*sorted(scores))
    assert M.maximum_drawdown(rising) == 0
    assert M.recovery(rising) is None
    assert M.steps_to(rising, 1e6) == Reached(int(rising.env_steps[-1]), censored=True)


@quick
@given(curves, st.integers(-30, 30), st.sampled_from([0.5, 2.0, 3.0]))
def test_measures_shift_and_stretch_with_the_scores(scores: list[float], shift: int, factor: float) -> None:
    one, other = run(*scores), run(*[factor * score + shift for score in scores])
    for measure in (
        M.maximum_drawdown,
        M.improvement_per_1000_steps,
        M.area_above_start,
        M.change,
    ):
        assert value(measure(other)) == pytest.approx(factor * value(measure(one)), abs=1e-9)
    assert value(M.area(other)) == pytest.approx(factor * value(M.area(one)) + shift, abs=1e-9)
    lost = run(shift, 1, 1, episodes=[(9, factor * 7 + shift)])
    assert M.loss_on_the_way(lost) == pytest.approx(-factor * 7)


@quick
@given(curves)
def test_bounds_and_relations(scores: list[float]) -> None:
    one = run(*scores)
    assert 0 <= value(M.maximum_drawdown(one)) <= max(scores) - min(scores)
    assert min(scores) - 1e-9 <= value(M.area(one)) <= max(scores) + 1e-9
    back = M.recovery(one)
    assert (back is None) == (min(M.median_of_three(one.scores)) >= scores[0] - M.TOLERANCE)
    assert value(M.improvement_per_1000_steps(one)) * (len(scores) - 1) == pytest.approx(
        value(M.change(one)), abs=1e-9
    )
    assert M.score_at(one, one.budget) == M.final(one)


@quick
@given(st.integers(-50, 50), st.integers(-5, 5), st.sets(st.integers(1, 34), max_size=20), st.integers(0, 20))
def test_a_straight_line_is_measured_alike_however_it_is_evaluated(
    start: int, slope: int, left_out: set[int], mark: int
) -> None:
    line = run(*(start + slope * i for i in range(41)), every=500, episodes=[(90, 1.0), (99, 3.0)])
    kept = np.array([i not in left_out for i in range(41)])
    sparse = replace(
        line, env_steps=line.env_steps[kept], updates=line.updates[kept], scores=line.scores[kept]
    )
    for measure in M.MEASURES:
        assert value(measure.of(sparse)) == pytest.approx(value(measure.of(line)), abs=1e-9), measure.name
    assert M.collapse(sparse) == M.collapse(line)
    assert value(M.score_at(sparse, 1000 * mark)) == pytest.approx(value(M.score_at(line, 1000 * mark)))
    for times in (M.recovery, lambda line: M.steps_to(line, 37.0)):
        reached, expected = times(sparse), times(line)
        assert (reached is None) == (expected is None)
        if reached is not None and expected is not None:
            assert reached.censored == expected.censored
            assert reached.steps == pytest.approx(expected.steps)


@quick
@given(curves, st.sampled_from([10, 100]))
def test_a_longer_clock_changes_rates_and_times_only(scores: list[float], every: int) -> None:
    one, slower = run(*scores, every=every), run(*scores, every=2 * every)
    for measure in (M.maximum_drawdown, M.area, M.change, M.final):
        assert measure(slower) == pytest.approx(measure(one))
    assert value(M.improvement_per_1000_steps(slower)) == pytest.approx(
        value(M.improvement_per_1000_steps(one)) / 2
    )
    fast, slow = (M.steps_to(each, 60.0) for each in (one, slower))
    assert fast is not None
    assert slow is not None
    assert slow.steps == pytest.approx(2 * fast.steps)
    assert slow.censored == fast.censored


def value(measured: float | None) -> float:
    assert measured is not None
    return measured


# Over several runs, and from tables


def test_every_measure_names_its_unit_and_direction() -> None:
    assert len({measure.name for measure in M.MEASURES}) == len(M.MEASURES)
    better = run(50, *range(55, 110, 5), episodes=[(90, 60.0)])
    worse = run(50, 60, *range(40, 30, -1), episodes=[(90, 40.0)])
    for measure in M.MEASURES:
        assert measure.unit.startswith("score")
        assert (value(measure.of(better)) > value(measure.of(worse))) is measure.higher_is_better, measure


@pytest.mark.parametrize(
    ("policy", "mean", "best", "prior"),
    [
        (60, 30, 70, "policy"),
        (30, 30, 70, "comparable"),
        (34.9, 30, 31, "comparable"),
        (35.1, 30, 31, "policy"),
        (38, 30, 120, "comparable"),
        (40, 30, 120, "policy"),
        (10, 30, 70, "data"),
        (24.9, 30, 30, "data"),
    ],
)
def test_the_better_prior(policy: float, mean: float, best: float, prior: str) -> None:
    assert M.regime(policy, mean, best) == prior


@pytest.mark.parametrize(("mean", "best"), [(30, 29), (np.nan, 50), (30, np.inf)])
def test_no_prior_from_impossible_scores(mean: float, best: float) -> None:
    with pytest.raises(ValueError, match=r"below the mean|not finite"):
        M.regime(50, mean, best)


def test_a_run_from_what_was_read() -> None:
    def evaluated(run: M.FineTuning, *, returns: list[float], ends: list[int]) -> Evaluations:
        none, played = (
            np.empty(0),
            Episodes(np.array([""] * len(ends), object), np.array(ends), *2 * [np.array(returns)]),
        )
        clocks = (run.env_steps, run.updates, np.full(len(run.scores), 10))
        returns_of = (10 * run.scores, 10 * np.ones(len(run.scores)))
        return Evaluations(none, *clocks, *returns_of, none, none, "", None, played)

    scores = Reference("d", "e", 0.0, 1000.0, "", "", "")
    own = evaluated(FALLS, returns=[100.0, 300.0], ends=[100, 200])
    experiment = Experiment("naive", "naive", "d", 0, "run", "parent")
    tuned = M.fine_tuning_of(Shown(experiment, own, None, is_online=True), scores, 8000)
    assert M.last_window(tuned) == M.last_window(FALLS)
    assert tuned.deviations == pytest.approx(np.ones(9))
    assert M.noise(tuned) == pytest.approx(1 / np.sqrt(10))
    assert M.loss_on_the_way(tuned) == 40
    from_scratch = M.fine_tuning_of(
        Shown(replace(experiment, parent=None), own, None, is_online=True), scores, 8000
    )
    assert M.loss_on_the_way(from_scratch) is None, "there was no policy to hold its episodes against"
    still = replace(own, env_steps=0 * own.env_steps)
    alone = Shown(replace(experiment, parent=None), still, None, is_online=False)
    assert M.change(M.fine_tuning_of(alone, scores, 0)) is None
