"""Reference bands: what our members score, and where the mean of so many seeds of others is expected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from o2obench.analysis import league_reference
from o2obench.analysis.inference import weighted_mean, width_at
from o2obench.analysis.league import check_league, references
from o2obench.analysis.league_reference import write_references
from o2obench.errors import UserError
from o2obench.runs.folder import ResultsFolder
from tests.conftest import Command
from tests.helpers.folders import finish
from tests.helpers.league import LEAGUE, MASS, MAZE, edit, id_of, plan_of, small_league

FIVE = LEAGUE.replace("seeds: 2", "seeds: 5")


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultsFolder:
    """Our members, with a file of references of two of them."""
    small_league(tmp_path, monkeypatch, FIVE)
    monkeypatch.setattr(league_reference, "METHODS", ("mine", "other"))
    monkeypatch.setattr(league_reference, "reference_file", lambda: tmp_path / "reference.json")
    folder = ResultsFolder(tmp_path / "ours")
    finish(plan_of(tmp_path, FIVE), folder.path)
    return folder


def test_our_own_runs_lie_in_their_bands(tmp_path: Path, ours: ResultsFolder, o2obench: Command) -> None:
    done = o2obench("league", "check", ours.path)
    assert "reference bands: this package has none yet" in done.stdout
    assert check_league(ours).bands == ()
    file = tmp_path / "reference.json"
    done = o2obench("league", "reference", ours.path, "--to", file)
    assert done.stdout == f"{file}: 6 measures of members\n"
    bands = check_league(ours).bands
    places = [("mine", MASS), ("mine", MAZE), ("other", MASS)]
    assert [(b.method, b.dataset, b.measure) for b in bands] == [
        (*place, measure) for place in places for measure in ("area", "last window")
    ]
    for band in bands:
        assert (band.n, band.ours.n, band.inside) == (5, 5, True)
        assert band.mean == pytest.approx(band.ours.value)
        assert band.low is not None
        assert band.ours.low is not None
        assert band.ours.value - band.low == pytest.approx(2**0.5 * (band.ours.value - band.ours.low))
    done = o2obench("league", "check", ours.path)
    assert "Does this set-up compute what ours does?" in done.stdout
    assert done.stdout.count("inside") == 6
    assert json.loads(o2obench("league", "check", ours.path, "--json").stdout)["bands"][0]["inside"] is True


def test_another_set_up_lies_outside_and_one_without_the_member_has_no_band(
    tmp_path: Path, ours: ResultsFolder
) -> None:
    write_references(references(ours), tmp_path / "reference.json")
    theirs, plan = ResultsFolder(tmp_path / "theirs"), plan_of(tmp_path, FIVE)
    finish(plan, theirs.path, without=(MAZE,))
    for seed in range(5):
        run = theirs.run(id_of(plan, "mine", MASS, seed))
        rows = [json.loads(line) for line in run.evaluations.read_text().splitlines()]
        for row in rows[1:]:
            row["returns"] = [value + 1000.0 for value in row["returns"]]
        run.evaluations.write_text("".join(json.dumps(row) + "\n" for row in rows))
        edit(run)
    found = {(b.method, b.dataset): b for b in check_league(theirs).bands if b.measure == "area"}
    assert {place: band.inside for place, band in found.items()} == {
        ("mine", MASS): False,
        ("mine", MAZE): None,
        ("other", MASS): True,
    }
    assert (found["mine", MAZE].n, found["mine", MAZE].low, found["mine", MAZE].ours.n) == (0, None, 5)


def test_a_band_is_of_seeds_that_count_and_of_today_s_computation(
    tmp_path: Path, ours: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, FIVE)
    edit(ours.run(id_of(plan, "other", MASS, 1)), mismatch=["torch"])
    values = references(ours)
    assert {len(v.values) for v in values if v.dataset == MASS} == {4}, "of all members on its data"
    assert {len(v.values) for v in values if v.dataset == MAZE} == {5}
    write_references(values, tmp_path / "reference.json")
    small_league(tmp_path, monkeypatch, FIVE.replace("{label: mine}", "{rate: 0.6, label: mine}"))
    assert {band.method for band in check_league(ours).bands} == {"other"}
    with pytest.raises(UserError, match=r"no seed of .* counts"):
        references(ResultsFolder(empty_league(tmp_path)))


def empty_league(tmp_path: Path) -> Path:
    plan_of(tmp_path, FIVE).write(ResultsFolder(tmp_path / "empty"))
    return tmp_path / "empty"


def test_a_file_that_is_none_is_refused(tmp_path: Path, ours: ResultsFolder) -> None:
    (tmp_path / "reference.json").write_text('[{"method": "mine"}]')
    with pytest.raises(UserError, match="not the league's references"):
        check_league(ours)


def test_the_package_s_own_references_are_of_its_members() -> None:
    """There may be none yet."""
    assert {values.method for values in league_reference.read_references()} <= {*league_reference.METHODS}


@pytest.mark.parametrize(("n", "others"), [(5, 5), (5, 3), (3, 10)])
def test_a_prediction_holds_the_mean_of_others_as_often_as_it_says(n: int, others: int) -> None:
    draw, hits = np.random.default_rng(0), 0
    for _ in range(4000):
        ours, theirs = draw.normal(40, 7, n), draw.normal(40, 7, others)
        low, high = weighted_mean([(1.0, ours)]).prediction(n, others)
        hits += low <= theirs.mean() <= high
    assert hits / 4000 == pytest.approx(0.95, abs=0.012)


def test_the_expected_width_is_that_of_the_interval_where_n_is_the_same() -> None:
    values = [31.0, 44.0, 38.5, 40.0, 29.0]
    low, high = weighted_mean([(1.0, np.array(values))]).interval()
    assert width_at(values, 5) == pytest.approx(high - low)
    assert width_at(values, 20) == pytest.approx(
        2 * stats.t.ppf(0.975, 19) * np.std(values, ddof=1) / 20**0.5
    )
