"""Croissant metadata and datasheets: they conform, they agree with the data, and they invent nothing."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from o2obench.datasets import papers
from o2obench.datasets.registry import find_dataset
from o2obench.errors import UserError
from o2obench.training.collect import Recipe, collect
from o2obench.util.files import sha256
from tests.conftest import Command
from tests.helpers.datasets import hopper_arrays, minari_episodes, write, write_minari

PENDULUM = "invertedpendulum-replay-v0"
PACKAGED = (
    "halfcheetah-medium-replay",
    "hopper-medium-replay",
    "hopper-replay60",
    "hopper-replay80",
    "pointmaze-medium-play",
    "walker2d-medium-replay",
)
SLOW = [pytest.param(f"o2o:{name}-v0", marks=pytest.mark.slow) for name in PACKAGED]


def loaded(file: Path) -> tuple[Any, set[str]]:
    """Return metadata as mlcroissant reads them, and its warnings; it raises where they do not conform."""
    mlcroissant = pytest.importorskip("mlcroissant")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metadata = mlcroissant.Dataset(jsonld=str(file)).metadata
    assert not metadata.ctx.issues.errors
    return metadata, metadata.ctx.issues.warnings


def own(tmp_path: Path, **card: Any) -> str:
    file = write(tmp_path / "mine.hdf5", hopper_arrays(400))
    file.with_suffix(".json").write_text(json.dumps({"environment": "Hopper-v4", **card}))
    return f"file:{file}"


@pytest.mark.parametrize("name", [PENDULUM, *SLOW])
def test_packaged_sets_have_papers_that_are_theirs(name: str, caplog: pytest.LogCaptureFixture) -> None:
    dataset = find_dataset(name)
    assert dataset.file is not None
    assert all(line.endswith(": is there") for line in papers.write(dataset)), (
        "as today's data card writes them"
    )
    with caplog.at_level(logging.WARNING):
        metadata, cautions = loaded(dataset.papers[0])
    assert not cautions
    assert not caplog.records, "the context is the standard one"
    assert metadata.conforms_to == papers.CONFORMS_TO
    [file] = metadata.file_objects
    assert (file.sha256, file.name) == (sha256(dataset.file), dataset.file.name)
    assert file.content_size == f"{dataset.file.stat().st_size} B"
    assert not metadata.record_sets
    assert metadata.name == name
    assert f"{len(dataset.load()):,} transitions" in metadata.description
    assert "o2obench data collect" in metadata.data_collection
    assert metadata.license == ["https://spdx.org/licenses/CC0-1.0.html"]
    text = dataset.papers[1].read_text()
    for heading in ("Motivation", "Composition", "Collection process", "Uses", "Distribution", "Maintenance"):
        assert f"\n## {heading}\n" in text


def test_of_a_users_own_file_nothing_is_invented(tmp_path: Path, o2obench: Command) -> None:
    name = own(tmp_path)
    assert "papers               none; `o2obench data card file:" in o2obench("data", "info", name).stdout
    done = o2obench("data", "card", name)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/mine.croissant.json: written\n{tmp_path}/mine.datasheet.md: written\n"
    text = (tmp_path / "mine.datasheet.md").read_text()
    for line in ("Purpose", "Made by", "People", "How", "Policy", "When", "Citation", "Where"):
        assert f"- {line}: {papers.UNKNOWN}." in text.replace(
            f"{papers.UNKNOWN}\n", f"{papers.UNKNOWN}.\n"
        ), line
    assert "- Licence: not known; ask who made it." in text
    assert "  - the last episode is cut off; it counts as truncated\n" in text
    assert f"  - not known: {', '.join(papers.SAID)}\n" in text
    metadata, cautions = loaded(tmp_path / "mine.croissant.json")
    assert {caution.rsplit('"', 2)[-2].rsplit("/")[-1] for caution in cautions} == {
        "citeAs",
        "datePublished",
        "version",
    }
    assert metadata.creators == []
    assert metadata.data_collection.count(papers.UNKNOWN) == 2
    assert metadata.personal_sensitive_information == [papers.UNKNOWN]
    assert str(tmp_path) not in text + (tmp_path / "mine.croissant.json").read_text()
    assert f"papers               {tmp_path}/mine.croissant.json, " in o2obench("data", "info", name).stdout


def test_what_a_card_says_is_said_in_one_line_each(tmp_path: Path) -> None:
    said = {key: f"the {key}\n# of\x1b[31m a card" for key in papers.SAID}
    papers.write(
        find_dataset(own(tmp_path, **said | {"date": "2026-01-02", "version": "1.2.0"}, licence="MIT"))
    )
    text = (tmp_path / "mine.datasheet.md").read_text()
    assert "- Policy: the policy # of\\x1b[31m a card." in text
    assert "- Licence: MIT." in text
    assert "not known" not in text
    metadata, cautions = loaded(tmp_path / "mine.croissant.json")
    assert not cautions
    assert metadata.creators[0].name.startswith("the creator # of")
    assert (metadata.version, str(metadata.date_published)[:10]) == ("1.2.0", "2026-01-02")


def test_values_that_cannot_be_meant_count_as_unsaid(tmp_path: Path) -> None:
    papers.write(
        find_dataset(own(tmp_path, creator=["x"], date="in May", collector=[1], code=7, imported="me"))
    )
    text = (tmp_path / "mine.datasheet.md").read_text()
    assert f"- Made by: {papers.UNKNOWN}." in text
    assert f"- When: {papers.UNKNOWN}." in text


def test_a_paper_that_says_something_else_stays(tmp_path: Path) -> None:
    dataset = find_dataset(own(tmp_path))
    written = papers.write(dataset)
    assert papers.write(dataset) == [line.replace("written", "is there") for line in written]
    metadata, datasheet = dataset.papers
    metadata.unlink()
    datasheet.write_text("my own words")
    with pytest.raises(UserError, match=r"mine\.datasheet\.md: exists and says something else; move it away"):
        papers.write(dataset)
    assert not metadata.exists()
    assert datasheet.read_text() == "my own words"


def test_sets_without_a_file_and_without_soundness_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pointmass-mixed-v0: is made when it is asked for; there is no file"):
        papers.write(find_dataset("pointmass-mixed-v0"))
    with pytest.raises(UserError, match=r"hopper_medium-v2\.hdf5 is missing"):
        papers.write(find_dataset("hopper-medium-v2"))
    name = own(tmp_path)
    write(tmp_path / "mine.hdf5", {**hopper_arrays(), "actions": hopper_arrays()["actions"] * 9})
    with pytest.raises(UserError, match=r"is outside \[-1, 1\]"):
        papers.write(find_dataset(name))
    assert sorted(path.name for path in tmp_path.glob("mine.*")) == ["mine.hdf5", "mine.json"]


def test_others_sets_are_described_by_what_their_papers_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write_minari(tmp_path / "own" / "hop-v0", minari_episodes())
    write(tmp_path / "data" / "hopper_medium-v2.hdf5", hopper_arrays())
    minari, d4rl = map(find_dataset, ("minari:own/hop-v0", "hopper-medium-v2"))
    for dataset in (minari, d4rl):
        papers.write(dataset)
    metadata, _ = loaded(minari.papers[0])
    assert [file.name for file in metadata.file_objects] == ["main_data.hdf5", "metadata.json"]
    metadata, cautions = loaded(d4rl.papers[0])
    assert metadata.license == ["https://spdx.org/licenses/CC-BY-4.0.html"]
    assert metadata.version == "2.0.0"
    assert ["datePublished" in caution for caution in cautions] == [True]


def test_a_collected_set_has_its_papers_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "set.hdf5"
    (tmp_path / "set.datasheet.md").write_text("of another set")
    recipe = Recipe(100, 120, 3, tmp_path / "work")
    with pytest.raises(UserError, match=r"set\.datasheet\.md: exists; a data set is never overwritten"):
        collect("PointMass-v0", "random", file, recipe, lambda: False)
    (tmp_path / "set.datasheet.md").unlink()
    collect("PointMass-v0", "random", file, recipe, lambda: False)
    assert f"{tmp_path}/set.croissant.json: written" in capsys.readouterr().out
    metadata, cautions = loaded(tmp_path / "set.croissant.json")
    assert not cautions
    assert "episodes of the untrained policy of SAC" in metadata.data_collection
    assert metadata.creators == [], "who ran the command is not known"
    assert metadata.file_objects[0].sha256 == sha256(file)
    (tmp_path / "set.datasheet.md").unlink()
    collect("PointMass-v0", "random", file, replace(recipe, if_missing=True), lambda: False)
    assert (tmp_path / "set.datasheet.md").is_file(), "what a kill left out is written by the next call"
