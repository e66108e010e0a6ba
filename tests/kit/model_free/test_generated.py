"""EDIS and CFDG: what batches are made of, when the generator is renewed, what guides it; IQL as a case."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from o2obench import registry
from o2obench.datasets.toy import mixed_data
from o2obench.kit.model_free.energies import ACTION, DYNAMICS, OBS
from o2obench.transitions import stack_steps
from tests.helpers.model_free import agent, feed, finetuned, trained, work

GENERATOR: dict[str, Any] = {
    **{"generator_updates": 5, "generator_rows": 40, "generator_chunk": 16, "generator_steps": 8},
    **{"generator_width": 16, "generator_embedding": 8, "generator_blocks": 2, "generator_every": 25},
}
ENERGY: dict[str, Any] = {
    **{"energy_hidden_dims": (16,), "energy_updates": 2, "energy_batch": 6, "energy_levels": 4},
    **{"energy_negatives": 3},
}


def parent(name: str = "iql") -> Any:
    options: dict[str, Any] = {"cql_actions": 2} if name == "cal_ql" else {}
    return trained(name, 20, **options)


def made(name: str, steps: int = 30, **options: Any) -> Any:
    of = {**GENERATOR, **({} if name == "cfdg" else ENERGY), **({"cql_actions": 2} if name == "edis" else {})}
    return finetuned(name, parent("cal_ql" if name == "edis" else "iql"), steps, **{**of, **options})


@pytest.mark.parametrize(("name", "replay_data"), [("cfdg", "union"), ("edis_iql", "online")])
def test_without_made_transitions_it_is_iql(name: str, replay_data: str) -> None:
    options = {"utd_ratio": 2, "beta": 3.0}
    own = made(name, 40, synthetic_share=0.0, **options)
    base = finetuned("iql_finetune", parent(), 40, replay_data=replay_data, **options)
    for part, net in base.nets.items():
        torch.testing.assert_close(own.nets[part].flat, net.flat, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["cfdg", "edis_iql", "edis"])
def test_it_is_renewed_when_learning_begins_and_then_at_times(name: str) -> None:
    learning, renewed = made(name, 0), list[int]()
    for i in range(80):
        feed(learning, mixed_data(500)[i : i + 1])
        if learning.renewals > len(renewed):
            renewed.append(i + 1)
        assert not any(learning.left.values())
    assert renewed == [21, 46, 71], "after 20 steps, and every 25"


def test_every_renewal_begins_a_new_generator_and_standardises_anew() -> None:
    learning = made("cfdg", 21)
    first, mean = learning.generator.flat.clone(), learning.row_mean.clone()
    learning.left["updates"] = 0
    learning.replay.online += 1
    learning._begin_renewal()
    assert not torch.equal(first, learning.generator.flat)
    assert not torch.equal(mean, learning.row_mean)
    assert (learning.generator_adam.steps == 0).all()
    known = learning.as_rows(learning.replay.take(torch.arange(522)))
    torch.testing.assert_close(learning.row_mean[0, 0], known.mean(0))
    torch.testing.assert_close(learning.row_std[0, 0], known.std(0) + 1e-6)


@pytest.mark.parametrize(("name", "share"), [("cfdg", 1 / 3), ("edis_iql", 0.5), ("edis", 0.2)])
def test_a_batch_has_its_share_of_made_transitions(name: str, share: float) -> None:
    learning = made(name)
    rows = learning.batches(4)
    begins = int(learning.replay.extra_base[0])
    is_made = rows >= begins
    assert (is_made.sum(-1) == int(share * 64)).all()
    places = is_made[0, 0].nonzero().flatten()
    assert places.diff().float().std() < 1.0, "evenly spread"
    if name == "cfdg":
        of_online = (rows >= begins + 40).sum(-1)
        assert (of_online == round(0.8 * 21)).all()
    else:
        real = rows[~is_made]
        assert ((real >= learning.replay.offline) & (real < begins)).all(), "what is real is online"


@pytest.mark.parametrize("name", ["cfdg", "edis_iql"])
def test_made_transitions_are_no_ends_and_lie_where_the_data_do(name: str) -> None:
    learning = made(name, 30, generator_updates=400, generator_steps=24, generator_width=32)
    begins = int(learning.replay.extra_base[0])
    rows = learning.replay.take(torch.arange(begins, begins + learning.extra_rows()))
    assert (rows.terminated == 0).all()
    assert (rows.action.abs() <= 1).all()
    assert (rows.reward != 0).all(), "all places are filled"
    data = mixed_data(500)
    for ours, theirs in ((rows.obs, data.obs), (rows.next_obs, data.next_obs)):
        lived = torch.from_numpy(theirs)
        assert ((ours.mean(0) - lived.mean(0)).abs() < 1.5 * lived.std(0)).all()
        assert (ours.std(0) < 3.0 * lived.std(0)).all()


# ---- energies ----------------------------------------------------------------------------------------


def test_equal_energies_cost_the_logarithm_of_those_compared() -> None:
    learning = made("edis_iql")
    flat = torch.zeros_like(learning.energies.flat)
    positives = learning.positives()
    negatives = learning.negatives(positives, [0])
    loss = learning.contrast(flat, 0, positives, negatives[0])
    assert loss.item() == pytest.approx(3 * math.log(4)), "three energies, one positive and three negatives"


def test_negatives_hold_what_their_energy_is_given() -> None:
    learning = made("edis_iql")
    positives, last = learning.positives(), learning.config.generator_steps
    given = positives.repeat_interleave(3, 2)
    found = learning.negatives(positives, [0, last])[last]  # no noise is left on what is held
    torch.testing.assert_close(found[:, ACTION, :, :4], given[:, ACTION, :, :4])
    torch.testing.assert_close(found[:, DYNAMICS, :, :6], given[:, DYNAMICS, :, :6])
    for kind, begin in ((OBS, 0), (ACTION, 4), (DYNAMICS, 6)):
        assert not torch.isclose(found[:, kind, :, begin:], given[:, kind, :, begin:]).any()


def test_positives_of_the_action_s_energy_have_the_policy_s_actions() -> None:
    learning = made("edis_iql")
    positives = learning.positives()
    s = slice(0, 4)
    torch.testing.assert_close(positives[:, ACTION, :, s], positives[:, OBS, :, s])
    torch.testing.assert_close(positives[:, DYNAMICS], positives[:, OBS])
    assert not torch.isclose(positives[:, ACTION, :, 4:6], positives[:, OBS, :, 4:6]).all()


def test_cal_ql_s_floor_is_left_out() -> None:
    learning = made("edis")
    assert "raised" in vars(type(learning))
    q = -torch.rand((1, 2, 3 * 2 * 64), generator=torch.Generator().manual_seed(0))
    values, (lifted,) = learning.raised(q, learning.replay.take(torch.arange(64)[None]))
    torch.testing.assert_close(values, q)
    assert lifted == 0


def test_an_energy_pushes_its_own_numbers_only_and_no_further_than_the_most() -> None:
    learning = made("edis_iql")
    x = torch.randn((1, 9, 11), generator=torch.Generator().manual_seed(0))
    parts = {"guide_obs": slice(0, 4), "guide_action": slice(4, 6), "guide_dynamics": slice(7, 11)}
    none = dict.fromkeys(parts, 0.0)
    for name, part in parts.items():
        learning.config = learning.config.model_copy(update={**none, name: 1.0})
        pushed = learning.guide(x, 3)
        own = torch.zeros(11, dtype=torch.bool)
        own[part] = True
        assert (pushed[..., ~own] == 0).all()
        assert (pushed[..., own] != 0).any()
    learning.config = learning.config.model_copy(update={**none, "guide_obs": 1.0})
    step = 1e-2 * learning.guide(x, 3)
    with torch.no_grad():
        before, after = (learning.energy(at, 3)[:, OBS] for at in (x, x - step))
    assert (after <= before + 1e-6).all(), "down the energy"
    learning.config = learning.config.model_copy(update=dict.fromkeys(parts, 1e6))
    assert learning.guide(x, 3).norm(dim=-1).max().item() == pytest.approx(10 * math.sqrt(11), rel=1e-3)


def test_without_guidance_rows_are_the_generator_s() -> None:
    learning = made("edis_iql", guide_obs=0.0, guide_action=0.0, guide_dynamics=0.0)
    state = learning.streams.state_dict()
    ours = learning.made(0, 12)
    learning.streams.load_state_dict(state)
    *_, plain = learning.generator.steps(learning.fresh(12), 8, learning.denoise)
    torch.testing.assert_close(ours, plain, rtol=0, atol=0)


# ---- labels ----------------------------------------------------------------------------------------


def test_labels_tell_where_transitions_come_from_and_are_left_out_at_times() -> None:
    learning = made("cfdg", label_dropout=0.0)
    places = torch.tensor([[0, 499, 500, 529]])
    assert learning.told(places).tolist() == [[0, 0, 1, 1]]
    learning.config = learning.config.model_copy(update={"label_dropout": 1.0})
    assert learning.told(places).tolist() == [[2, 2, 2, 2]]
    learning.config = learning.config.model_copy(update={"label_dropout": 0.1})
    share = (learning.told(torch.zeros((1, 5000), dtype=torch.int64)) == 2).float().mean()
    assert share.item() == pytest.approx(0.1, abs=0.02)


def test_guidance_weighs_with_and_without_the_label() -> None:
    learning, rows = made("cfdg", guidance=0.0), {}
    label, flat = torch.ones((1, 12), dtype=torch.int64), learning.average
    state = learning.streams.state_dict()
    for w in (0.0, 1.0):
        learning.config = learning.config.model_copy(update={"guidance": w})
        learning.streams.load_state_dict(state)
        rows[w] = learning.made(1, 12)
    learning.streams.load_state_dict(state)
    *_, told = learning.generator.steps(
        learning.fresh(12), 8, lambda x, s: learning.generator.denoised(x, s, label, flat)
    )
    torch.testing.assert_close(rows[0.0], told, rtol=0, atol=0)
    learning.streams.load_state_dict(state)

    def directions(x: Any, sigma: Any) -> Any:
        told, untold = (x - learning.generator.denoised(x, sigma, of, flat) for of in (label, None))
        return x - (2.0 * told - untold)

    *_, pushed = learning.generator.steps(learning.fresh(12), 8, directions)
    torch.testing.assert_close(rows[1.0], pushed, rtol=1e-3, atol=1e-3)


# ---- resume ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cfdg", "edis"])
def test_a_renewal_that_is_interrupted_goes_on(name: str) -> None:
    whole, half = made(name, 20), made(name, 20)
    step = mixed_data(500)[20:21]
    for learning in (whole, half):
        learning.observe(stack_steps([step[0]]))
    work(whole)
    yields = 0
    while any(half.left.values()) or half.due:
        for _ in half.work(""):
            yields += 1
            break
        again = agent(registry.algorithm(name), mixed_data(500), **half.config.model_dump())
        again.load_state_dict(half.state_dict())
        half = again
    assert yields > 4
    torch.testing.assert_close(half.replay.rows, whole.replay.rows, rtol=0, atol=0)
    for part, net in whole.nets.items():
        torch.testing.assert_close(half.nets[part].flat, net.flat, rtol=0, atol=0)
