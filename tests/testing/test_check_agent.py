"""Every registered algorithm passes the checks of an agent; and the checks notice those that do not."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from o2obench import registry
from o2obench.agent import Metrics, Stage
from o2obench.kit import networks
from o2obench.kit.model_free.template import OffPolicy
from o2obench.kit.rng import Streams
from o2obench.runs.spec import FOREIGN
from o2obench.testing import check_agent

BROKEN = {"toy_breaks", "toy_diverges"}
NAMES = [name for name in registry.names() if name not in {*BROKEN, FOREIGN}]
"""Without foreign: what computes there is somebody else's, and is held to nothing."""


OF_A_TEMPLATE = {"mbpo", "iql", "rlpd", "frozen", "toy_tune"}
LONG = (
    check_agent.resume_is_straight,
    check_agent.a_state_is_a_copy,
    check_agent.neighbours_do_not_matter,
    check_agent.global_randomness_untouched,
)
"""Checks that every test run does for one of each template; make test-slow does them for all."""
CASES = [
    pytest.param(
        holds,
        name,
        marks=[pytest.mark.slow] * (holds in LONG and name not in OF_A_TEMPLATE),
        id=f"{holds.__name__}-{name}",
    )
    for holds, name in itertools.product(check_agent.CHECKS, NAMES)
]


def test_networks_with_widths_of_their_own_are_narrowed_too() -> None:
    assert {"hidden_dims", "critic_hidden_dims"} <= check_agent._declared(
        registry.algorithm("cql"), "widths"
    ).keys()


@pytest.mark.parametrize(("holds", "name"), CASES)
def test_contract(holds: Callable[[str], None], name: str) -> None:
    holds(name)


@pytest.mark.slow
def test_every_stage_and_every_model_fit_is_interrupted() -> None:
    found = check_agent.resume_is_straight("doof")
    assert found.endswith("1 model fits")
    agent = registry.algorithm("naive")
    places = check_agent.Places(agent)
    places.found = [("a", 0)] * 500 + [("a", 1)] * 3 + [("b", 0)] * 500 + [("b", 2)]
    chosen = places.chosen()
    assert {1, 501, 504, 1004} <= chosen
    assert 50 <= len(chosen) <= check_agent.INTERRUPTIONS


def test_a_stage_that_cannot_be_interrupted_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_o2o

    work = toy_o2o.ToyOffline.work

    def silent(self: Any, stage: str) -> Iterator[Metrics]:
        return iter(()) if stage == "look" else work(self, stage)

    monkeypatch.setattr(toy_o2o.ToyOffline, "work", silent)
    with pytest.raises(AssertionError, match="stage look neither yields nor takes steps"):
        check_agent.resume_is_straight("toy_offline")


# ---- seven bugs, planted in a template ------------------------------------------------------------------


def unsaved_generator(patch: pytest.MonkeyPatch) -> None:
    whole = Streams.state_dict
    patch.setattr(
        Streams, "state_dict", lambda self: {k: v for k, v in whole(self).items() if k != "real rows"}
    )


def noise_shared_between_seeds(patch: pytest.MonkeyPatch) -> None:
    """All seeds of a batch read the numbers of its first one."""
    draw = Streams._draw
    patch.setattr(
        Streams, "_draw", lambda self, *given: torch.cat([draw(self, *given)[:1]] * len(self.seeds))
    )


def trace_of_evaluation(patch: pytest.MonkeyPatch) -> None:
    act = OffPolicy.act

    def traced(self: Any, obs: Any, explore: bool) -> Any:
        self.streams.uniform("real rows", 1)
        return act(self, obs, explore)

    patch.setattr(OffPolicy, "act", traced)


def out_of_bounds(patch: pytest.MonkeyPatch) -> None:
    act = OffPolicy.act
    patch.setattr(OffPolicy, "act", lambda self, obs, explore: 1.0001 * np.sign(act(self, obs, explore)))


def drifting_clock(patch: pytest.MonkeyPatch) -> None:
    """Learning rates and schedules would go by a clock that begins again at each resume."""
    load = OffPolicy.load_state_dict
    patch.setattr(
        OffPolicy,
        "load_state_dict",
        lambda self, state: load(self, state | {"updates": state["updates"] - 1}),
    )


def state_by_reference(patch: pytest.MonkeyPatch) -> None:
    """Networks and optimisers hand out the very arrays that they learn in."""
    patch.setattr(networks, "to_array", lambda tensor: tensor.detach().numpy())


def off_by_one_resume(patch: pytest.MonkeyPatch) -> None:
    """What is left of the work is noted before it is done, so that a resume leaves an update out."""
    load = OffPolicy.load_state_dict

    def short(self: Any, state: Any) -> None:
        load(self, state)
        self.due = max(0, self.due - 1)

    patch.setattr(OffPolicy, "load_state_dict", short)


@pytest.mark.parametrize(
    ("plant", "noticed_by", "message"),
    [
        (unsaved_generator, "resume_is_straight", "differs after"),
        (noise_shared_between_seeds, "neighbours_do_not_matter", "depends on the neighbour"),
        (trace_of_evaluation, "evaluation_leaves_no_trace", "/streams/real rows"),
        (out_of_bounds, "acts_in_bounds", "outside"),
        (drifting_clock, "save_and_load", "/updates"),
        (state_by_reference, "a_state_is_a_copy", "changed with the agent"),
        (off_by_one_resume, "resume_is_straight", "differ"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_bug_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None],
    noticed_by: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.algorithm("iql")
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=message):
        getattr(check_agent, noticed_by)("iql")


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
