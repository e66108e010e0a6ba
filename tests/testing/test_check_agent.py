"""Every registered algorithm passes the checks of an agent; and the checks notice those that do not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from o2obench import registry
from o2obench.agent import Metrics, Stage
from o2obench.testing import check_agent

BROKEN = {"toy_breaks", "toy_diverges"}
NAMES = [name for name in registry.names() if name not in BROKEN]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("holds", check_agent.CHECKS, ids=lambda check: check.__name__)
def test_contract(holds: Callable[[str], None], name: str) -> None:
    holds(name)


def break_toy(monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any) -> None:
    import toy_o2o

    check_agent._pretrained.cache_clear()
    monkeypatch.setattr(toy_o2o.Toy, attribute, value)


def test_a_life_that_needs_more_than_it_takes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_o2o

    def stages(cls: Any, config: Any, budget: Any) -> tuple[Stage, ...]:
        return (Stage("fine-tune", budget.online_steps // 2, 1),)

    monkeypatch.setattr(toy_o2o.ToyTune, "stages", classmethod(stages))
    with pytest.raises(AssertionError, match="becomes"):
        check_agent.a_life_fits_the_steps_it_takes("toy_tune")


def test_out_of_bounds_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    break_toy(monkeypatch, "act", lambda self, obs, explore: 3 * obs[..., :2])
    with pytest.raises(AssertionError, match="outside"):
        check_agent.acts_in_bounds("toy_tune")


def test_a_trace_of_evaluation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(self: Any, obs: Any, explore: bool) -> Any:
        self.noise[0].normal()
        return np.tanh(obs @ self.weights).astype(np.float32)

    break_toy(monkeypatch, "act", act)
    with pytest.raises(AssertionError, match="changed by an evaluation: /noise"):
        check_agent.evaluation_leaves_no_trace("toy_tune")


def test_global_randomness_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    break_toy(monkeypatch, "observe", lambda self, step: np.random.normal())  # noqa: NPY002
    with pytest.raises(AssertionError, match="a global random state was moved"):
        check_agent.global_randomness_untouched("toy_tune")


def test_a_forgotten_part_of_the_state_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_o2o

    whole = toy_o2o.Toy.load_state_dict

    def forgetful(self: Any, state: Any) -> None:
        kept = copy.deepcopy(self.noise)
        whole(self, state)
        self.noise = kept

    break_toy(monkeypatch, "load_state_dict", forgetful)
    with pytest.raises(AssertionError, match="differs after"):
        check_agent.resume_is_straight("toy_tune")


def test_coupled_seeds_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_o2o

    def work(self: Any, stage: str) -> Iterator[Metrics]:
        self.weights = self.weights + 1e-6 * self.weights.mean()
        yield {}

    monkeypatch.setattr(toy_o2o.ToyTune, "work", work)
    with pytest.raises(AssertionError, match=r"depends on the neighbour: .*/weights"):
        check_agent.neighbours_do_not_matter("toy_tune")


def test_updates_that_do_nothing_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_o2o

    monkeypatch.setattr(toy_o2o.ToyTune, "work", lambda self, stage: iter(()))
    with pytest.raises(AssertionError, match="none was done"):
        check_agent.updates_change_weights("toy_tune")
