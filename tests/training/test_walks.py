"""Walks through mazes: deterministic, resumable, and data sets with cards like any other."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from o2obench.datasets.registry import find_dataset
from o2obench.envs.mazes import MAZES
from o2obench.envs.spec import find_env
from o2obench.errors import Interrupted, UserError
from o2obench.training.collect import Recipe, collect
from o2obench.training.walks import walk

SPEC = find_env("PointMaze-UMaze-v0")


def never() -> bool:
    return False


@pytest.mark.parametrize("kind", ["play", "diverse"])
def test_a_walk_that_was_interrupted_ends_as_one_that_was_not(kind: str, tmp_path: Path) -> None:
    straight = walk(SPEC, kind, 1500, 3, tmp_path / "straight", never)
    while True:
        calls = itertools.count()
        try:
            broken = walk(SPEC, kind, 1500, 3, tmp_path / "broken", lambda: next(calls) == 2)  # noqa: B023
        except Interrupted:
            continue
        break
    assert broken.keys() == straight.keys()
    assert all(np.array_equal(broken[key], straight[key]) for key in straight)
    other = walk(SPEC, kind, 1500, 4, tmp_path / "straight", never)
    assert not np.array_equal(other["actions"], straight["actions"])


def test_play_has_the_tasks_goal_and_diverse_any() -> None:
    maze = MAZES[SPEC.id]
    goals = {}
    for kind in ("play", "diverse"):
        arrays = walk(SPEC, kind, 3000, 0, Path("nowhere"), never)
        goals[kind] = {maze.cell(obs[4:]) for obs in arrays["observations"]}
        ended = arrays["terminals"] | arrays["timeouts"]
        assert ended[-1]
        assert (arrays["rewards"] == arrays["terminals"]).all()
    assert goals["play"] == {maze.goal}
    assert len(goals["diverse"]) > 3


def test_a_set_is_one_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("O2OBENCH_DATA", str(tmp_path))
    file = collect("pointmaze-umaze", "play", None, Recipe(2000, 1, 0, tmp_path / "work"), never)
    data = find_dataset("o2o:pointmaze-umaze-play-v0")
    assert data.file == file
    assert not [note for note in data.admit() if "one step" in note]
    assert data.scores.score(1.0) == 100.0
    card = json.loads(file.with_suffix(".json").read_text())
    assert card["collector"] == {
        "controller": "shortest way by proportion and derivative",
        "action_noise": 0.5,
        "walks_to_the_goal": 0.1,
    }
    assert card["command"] == "o2obench data collect pointmaze-umaze --kind play --rows 2000 --seed 0"
    assert len(data.load()) == 2000
    with pytest.raises(
        UserError, match=r"play: is walked through mazes only \(PointMaze-UMaze-v0.*Hopper-v4"
    ):
        collect("hopper", "play", None, Recipe(10, 1, 0, tmp_path / "work"), never)
