"""Kitchen as D4RL has it: 60 numbers, four tasks that are paid once, and files that pay by the same rule."""

from __future__ import annotations

import numpy as np
import pytest

from o2obench.datasets.registry import find_dataset
from o2obench.envs.kitchen import GOALS, KITCHENS, goal_of
from o2obench.envs.spec import find_env
from tests.helpers.datasets import kitchen_arrays, write

pytest.importorskip("gymnasium_robotics")


@pytest.mark.parametrize("env_id", KITCHENS)
def test_each_task_pays_once_and_all_end_the_episode(env_id: str) -> None:
    arrays = kitchen_arrays(find_env(env_id))
    assert np.flatnonzero(arrays["rewards"]).tolist() == [4, 9, 14, 19, 24, 29, 34, 39]
    assert np.flatnonzero(arrays["terminals"]).tolist() == [19, 39]
    assert (arrays["observations"][:, 30:] == goal_of(KITCHENS[env_id]).astype(np.float32)).all()
    assert find_env(env_id).horizon == 280


@pytest.mark.parametrize("kind", ["complete", "partial", "mixed"])
def test_a_file_that_pays_by_the_rule_is_admitted(kind: str) -> None:
    """In D4RL's layout, without next observations."""
    data = find_dataset(f"kitchen-{kind}-v0")
    arrays = kitchen_arrays(data.env)
    del arrays["next_observations"]
    assert data.file is not None
    write(data.file, arrays)
    assert data.load().reward.sum() == 8
    assert data.scores.score(1.0) == 25.0


def test_the_goals_are_those_of_gymnasium_robotics() -> None:
    module = pytest.importorskip("gymnasium_robotics.envs.franka_kitchen.kitchen_env")
    for task, (joints, values) in GOALS.items():
        assert np.arange(30)[joints].tolist() == module.OBS_ELEMENT_INDICES[task].tolist()
        assert values == tuple(module.OBS_ELEMENT_GOALS[task])
