"""What the command line says of algorithms, suites and data sets."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from o2obench import registry
from o2obench.agent import Config
from o2obench.cli.info import meaning, range_text
from tests.conftest import Command


def test_an_algorithms_options_rows_and_page(o2obench: Command) -> None:
    shown = o2obench("info", "naive").stdout
    assert shown.startswith("naive: Naive fine-tuning")
    assert "starts from   mopo, unless `from:` names another pretraining, of which it needs actor" in shown
    assert "docs/algorithms/naive.md" in shown
    rows = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in rows["gamma"].split("│")[2:5]] == ["0.99", "number 0 to 1", "Discount."]
    assert "rollout_length: [20, 150, 1, 15]" in rows["hopper-*"]
    assert "like" not in rows, "CoMoU takes over naive's rows"
    assert "hopper-*" in o2obench("info", "comou").stdout


def test_an_algorithm_without_options_has_no_table(o2obench: Command) -> None:
    shown = o2obench("info", "frozen").stdout
    assert "starts from   mopo" in shown
    assert "┃" not in shown


def test_every_option_of_ours_has_a_meaning() -> None:
    ours = [name for name in registry.names() if not name.startswith("toy_")]
    assert len(ours) > 20
    silent = {
        f"{name}.{option}"
        for name in ours
        for option in registry.algorithm(name).Config.model_fields
        if not meaning(registry.algorithm(name).Config, option)
    }
    assert not silent


class Options(Config):
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    rate: Annotated[float, Field(gt=0)] = 0.1
    block: Annotated[int, Field(ge=0, multiple_of=5)] = 5
    widths: tuple[Annotated[int, Field(gt=0)], ...] = (3,)
    schedule: tuple[int, int] = (0, 1)
    which: Literal["one", "other"] | None = None
    whether: bool = False


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("share", "number 0 to 1"),
        ("rate", "number > 0"),
        ("block", "whole number >= 0, multiple of 5"),
        ("widths", "list of: whole number > 0"),
        ("schedule", "2 of: whole number"),
        ("which", "one or other or null"),
        ("whether", "true or false"),
    ],
)
def test_ranges_in_words(option: str, text: str) -> None:
    assert range_text(Options.model_json_schema()["properties"][option]) == text


def test_the_list_of_what_is_here(o2obench: Command) -> None:
    shown = o2obench("list", "--available").stdout
    assert "not on this machine" not in shown
    for line in ("  quick ", "  mujoco_all-small ", "  pointmass-mixed-v0 ", "  naive "):
        assert line in shown, line
    for line in ("  mujoco_all ", "  hopper-medium-v2 "):
        assert line not in shown, line
        assert line in o2obench("list").stdout, line
