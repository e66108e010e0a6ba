"""The measures of one fine-tuning run: by hand, by their properties, and where they do not apply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o2obench.analysis import measures as M
from o2obench.analysis.measures import FineTuning, Rate, Reached
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
    return FineTuning(steps, learns * 20 * steps, np.array(scores, float), int(steps[-1]), ends, of_episodes)


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
    assert M.drop(FALLS) == 35
    assert M.collapse(FALLS) is True
    back = M.steps_to_recover(FALLS)
    assert back is not None
    assert back.steps == pytest.approx(5000 + 1000 * 2 / 3), "between 58 and 61"
    assert not back.censored
    assert M.steps_to_nearly(FALLS, best_final=80) == Reached(7200, censored=False), "72 between 70 and 80"
    assert M.steps_to_nearly(FALLS, best_final=60) == Reached(0, censored=False)
    assert M.steps_to_nearly(FALLS, best_final=100) == Reached(8000, censored=True)
    assert M.area(FALLS) == pytest.approx((60 / 2 + 50 + 20 + 25 + 40 + 58 + 61 + 70 + 80 / 2) / 8)
    assert M.improvement_per_1000_steps(FALLS) == pytest.approx(20 / 8)
    assert M.roughness(FALLS) == pytest.approx((40 + 60 - 20) / 8)
    assert (M.final(FALLS), M.change(FALLS)) == (80, 20)


def test_what_never_comes_back_is_censored_where_the_run_ends() -> None:
    assert M.steps_to_recover(run(60, 20, 20, 30, 40)) == Reached(4000, censored=True)


def test_one_bad_evaluation_is_no_drop_but_two_are_or_the_last() -> None:
    assert M.drop(run(60, 61, 5, 62, 63)) == 0
    assert M.drop(run(60, 61, 5, 6, 63, 64)) == 54
    assert M.drop(run(60, 61, 62, 63, 5)) == 55


def test_only_the_first_20000_steps_count_as_the_online_start() -> None:
    late = [50.0] * 22 + [0.0] * 3
    assert M.drop(run(*late)) == 0
    assert M.drop(run(*late, every=500)) == 50


@pytest.mark.parametrize(
    ("start", "fallen", "collapsed"),
    [(40, 26, False), (40, 25, False), (40, 24, True), (100, 71, False), (100, 69, True), (-5, -21, True)],
)
def test_a_collapse_exceeds_15_points_and_30_percent(start: float, fallen: float, collapsed: bool) -> None:
    assert M.collapse(run(start, fallen, fallen, fallen, start)) is collapsed


def test_the_rate_counts_runs_that_have_an_answer() -> None:
    steady = run(50, 50, 50)
    rate = M.collapse_rate([FALLS, steady, steady, apart(1.0, 1.0)])
    assert rate == Rate(1, 3)
    assert M.collapse_rate([apart(1.0)]) is None
    assert M.collapse_rate([]) is None


def test_regret_is_weighted_by_the_length_of_episodes() -> None:
    trained = run(50, 50, 50, episodes=[(100, 10.0), (1000, 40.0), (2000, 60.0)])
    assert M.regret(trained, 50) == pytest.approx((100 * 40 + 900 * 10 - 1000 * 10) / 2000)
    assert M.regret(run(50, 50, 50), 50) is None


def test_late_is_the_mean_over_the_last_tenth_of_the_steps() -> None:
    assert M.late(run(*range(11))) == 9.5
    assert M.late(run(*[50.0] * 18, 60, 90, 20)) == pytest.approx((75 + 55) / 2)
    ended = replace(run(*range(11)), budget=20_000)
    assert M.late(ended) is None


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
        M.drop,
        M.area,
        M.improvement_per_1000_steps,
        M.roughness,
        M.late,
        M.collapse,
        M.steps_to_recover,
    ):
        assert measure(other) is None
    assert M.steps_to_nearly(other, 80) is None
    assert M.final(other) == other.scores[-1]


def test_one_row_has_no_change_and_a_final_score() -> None:
    assert (M.final(run(50)), M.change(run(50)), M.score_at(run(50), 0)) == (50, None, 50)


def test_regret_holds_for_who_collects_first_and_learns_afterwards() -> None:
    one = apart(60.0)
    with_episodes = FineTuning(
        one.env_steps, one.updates, one.scores, one.budget, np.array([9]), np.array([5.0])
    )
    assert M.regret(with_episodes, 50) == 45


def test_an_area_needs_the_whole_budget() -> None:
    whole = run(1, 2, 3)
    assert M.area(FineTuning(whole.env_steps, whole.updates, whole.scores, 9000)) is None


def test_too_sparse_evaluations_show_no_drop() -> None:
    assert M.drop(run(50, 10, 10, every=25_000)) is None


def test_a_share_of_nothing_is_not_timed() -> None:
    assert M.steps_to_nearly(FALLS, 0) is None


def test_what_is_learned_after_the_steps_does_not_bend_the_curve_over_steps() -> None:
    steps, updates = np.array([0, 0, 1000, 2000, 2000]), np.array([0, 5, 10, 20, 99])
    both = FineTuning(steps, updates, np.array([50.0, 0, 60, 70, 95]), 2000)
    assert M.drop(both) == 0
    assert M.area(both) == 60
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
    with pytest.raises(ValueError, match=fault):
        FineTuning(steps, updates, scores, 10, *episodes)


# Properties


@quick
@given(st.floats(-50, 150, allow_subnormal=False), st.integers(3, 30), st.booleans())
def test_a_constant_curve_loses_and_gains_nothing(score: float, rows: int, learns: bool) -> None:
    still = run(*[score] * rows, learns=learns, episodes=[(10, score), (500, score)])
    for measure in (M.drop, M.improvement_per_1000_steps, M.roughness, M.change):
        assert measure(still) == 0
    assert M.regret(still, score) == pytest.approx(0, abs=1e-9)
    assert M.collapse(still) is False
    assert M.steps_to_recover(still) == Reached(0, censored=False)
    assert M.area(still) == pytest.approx(score)


@quick
@given(curves)
def test_a_rising_curve_drops_nowhere_and_is_smooth(scores: list[float]) -> None:
    rising = run(*sorted(scores))
    assert M.drop(rising) == 0
    assert M.roughness(rising) == pytest.approx(0, abs=1e-9)
    assert M.roughness(run(*sorted(scores, reverse=True))) == pytest.approx(0, abs=1e-9)
    assert M.steps_to_recover(rising) == Reached(0, censored=False)
    assert M.steps_to_nearly(rising, 1e6) == Reached(int(rising.env_steps[-1]), censored=True)


@quick
@given(curves, st.integers(-30, 30), st.sampled_from([0.5, 2.0, 3.0]))
def test_measures_shift_and_stretch_with_the_scores(scores: list[float], shift: int, factor: float) -> None:
    one, other = run(*scores), run(*[factor * score + shift for score in scores])
    for measure in (M.drop, M.improvement_per_1000_steps, M.roughness, M.change):
        assert value(measure(other)) == pytest.approx(factor * value(measure(one)), abs=1e-9)
    assert value(M.area(other)) == pytest.approx(factor * value(M.area(one)) + shift, abs=1e-9)
    assert M.steps_to_recover(other) == M.steps_to_recover(one)
    assert M.regret(run(1, 1, 1, episodes=[(9, factor * 7 + shift)]), shift) == pytest.approx(-factor * 7)


@quick
@given(curves)
def test_bounds_and_relations(scores: list[float]) -> None:
    one = run(*scores)
    assert 0 <= value(M.drop(one)) <= scores[0] - min(scores)
    assert min(scores) - 1e-9 <= value(M.area(one)) <= max(scores) + 1e-9
    assert value(M.roughness(one)) >= 0
    back = M.steps_to_recover(one)
    assert back is not None
    assert (back.steps == 0) == (M.drop(one) == 0)
    assert value(M.improvement_per_1000_steps(one)) * (len(scores) - 1) == pytest.approx(
        value(M.change(one)), abs=1e-9
    )
    assert M.score_at(one, one.budget) == M.final(one)


@quick
@given(st.integers(-50, 50), st.integers(-5, 5), st.sets(st.integers(1, 39), max_size=20), st.integers(0, 20))
def test_a_straight_line_is_measured_alike_however_it_is_evaluated(
    start: int, slope: int, left_out: set[int], mark: int
) -> None:
    whole = run(*(start + slope * i for i in range(41)), every=500)
    kept = np.array([i not in left_out for i in range(41)])
    sparse = replace(
        whole, env_steps=whole.env_steps[kept], updates=whole.updates[kept], scores=whole.scores[kept]
    )
    for measure in M.MEASURES:
        assert value(measure.of(sparse)) == pytest.approx(value(measure.of(whole)), abs=1e-9), measure.name
    assert M.collapse(sparse) == M.collapse(whole)
    assert value(M.score_at(sparse, 1000 * mark)) == pytest.approx(value(M.score_at(whole, 1000 * mark)))
    for times in (M.steps_to_recover, lambda line: M.steps_to_nearly(line, 37.0)):
        reached, expected = times(sparse), times(whole)
        assert reached is not None
        assert expected is not None
        assert reached.censored == expected.censored
        assert reached.steps == pytest.approx(expected.steps)


@quick
@given(curves, st.sampled_from([10, 100]))
def test_a_longer_clock_changes_rates_and_times_only(scores: list[float], every: int) -> None:
    one, slower = run(*scores, every=every), run(*scores, every=2 * every)
    for measure in (M.drop, M.area, M.roughness, M.change, M.final):
        assert measure(slower) == pytest.approx(measure(one))
    assert value(M.improvement_per_1000_steps(slower)) == pytest.approx(
        value(M.improvement_per_1000_steps(one)) / 2
    )
    fast, slow = (M.steps_to_recover(each) for each in (one, slower))
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
    better, worse = run(50, 60, 70, 80, 90), run(50, 20, 10, 30, 40)
    for measure in M.MEASURES:
        assert measure.unit.startswith("score")
        if measure.of is not M.late:
            assert (value(measure.of(better)) > value(measure.of(worse))) is measure.higher_is_better


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
        clocks = (run.env_steps, run.updates, none)
        return Evaluations(none, *clocks, 10 * run.scores, none, none, "", None, played)

    scores = Reference("d", "e", 0.0, 1000.0, "", "", "")
    own = evaluated(FALLS, returns=[100.0, 300.0], ends=[100, 200])
    experiment = Experiment("naive", "naive", "d", 0, "run", "parent")
    tuned = M.fine_tuning_of(Shown(experiment, own, None, is_online=True), scores, 8000)
    assert M.drop(tuned) == 35
    assert M.regret(tuned, 60) == 40
    from_scratch = M.fine_tuning_of(
        Shown(replace(experiment, parent=None), own, None, is_online=True), scores, 8000
    )
    assert M.regret(from_scratch, 60) is None, "there was no policy to hold its episodes against"
    still = replace(own, env_steps=0 * own.env_steps)
    alone = Shown(replace(experiment, parent=None), still, None, is_online=False)
    assert M.change(M.fine_tuning_of(alone, scores, 0)) is None
