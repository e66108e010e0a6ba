"""OPT: collect, train new critics to learn online, then blend; with the old ones alone it is TD3."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from o2obench.datasets.toy import mixed_data
from o2obench.kit.replay import halves
from o2obench.transitions import stack_steps
from tests.helpers.model_free import feed, finetuned, learns, noise, rows, trained

META_DRAWS = noise("next actions")


def made(steps: int = 0, **options: Any) -> Any:
    return finetuned("opt", trained("td3_bc"), steps, **{"meta_updates": 30, **options})


def in_meta_stage(**options: Any) -> Any:
    ours = made(**options)
    feed(ours, mixed_data(500)[:20])
    ours.begin("meta")
    return ours


def test_without_an_inner_step_the_gradient_is_that_of_both_errors() -> None:
    """Identity 23: L_off + s L_on, s = min(L_off, L_on) / L_on."""
    ours = in_meta_stage(inner_lr=1e-30)
    batch = rows(ours)
    flat = ours.nets["new_critics"].flat.clone().requires_grad_()
    noise = META_DRAWS["next actions"].chunk(2, 1)
    errors = []
    for half, part in zip(halves(batch), noise, strict=True):
        action = ours.target_action(half, {"next actions": part})
        y = half.reward + 0.99 * (1 - half.terminated) * ours.q("new targets", half.next_obs, action).amin(1)
        errors.append(
            ((ours.q("new_critics", half.obs, half.action, flat) - y[:, None]) ** 2).mean(-1).sum(-1)
        )
    scale = (torch.minimum(*errors) / errors[1]).detach()
    [expected] = torch.autograd.grad((errors[0] + scale * errors[1]).sum(), [flat])
    torch.testing.assert_close(learns(ours, "new_critics", batch, META_DRAWS), expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_passes_through_the_inner_step() -> None:
    """It is that of plain autograd, second order; without the second order it would be another."""
    ours = in_meta_stage(inner_lr=0.05)
    batch = rows(ours)
    (offline, online), (y_offline, y_online) = halves(batch), ours.new_target(batch, META_DRAWS).chunk(2, 1)
    found = learns(ours, "new_critics", batch, META_DRAWS)
    for second_order in (True, False):
        psi = ours.nets["new_critics"].flat.clone().requires_grad_()
        before = ours.error(psi, offline, y_offline)
        [inner] = torch.autograd.grad(before.sum(), [psi], create_graph=second_order, retain_graph=True)
        after = ours.error(psi - 0.05 * inner, online, y_online)
        scale = (torch.minimum(before, after) / after).detach()
        [expected] = torch.autograd.grad((before + scale * after).sum(), [psi])
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6) == second_order


def test_the_online_term_never_exceeds_the_offline_one() -> None:
    ours = in_meta_stage()
    batch = rows(ours)
    y = ours.new_target(batch, META_DRAWS)
    loud = torch.cat([y[:, :32], y[:, 32:] + 100.0], 1)
    flat = ours.nets["new_critics"].flat
    offline = ours.error(flat, halves(batch)[0], loud[:, :32])
    assert float(ours.meta_loss(flat, batch, loud)[0]) == pytest.approx(2.0 * float(offline), rel=1e-4)


def test_the_old_critics_alone_are_td3() -> None:
    """Identity 23, second part: share 0 leaves the old critics' gradient; TD3's, but for its scale."""
    ours, td3 = made(blend_from=0.0, blend_to=0.0), trained("td3_bc", bc_weight=0.0)
    for name in ("actor", "critics", "targets", "target actor"):
        td3.nets[name].load_state_dict(ours.nets[name].state_dict())
    batch = rows(ours)
    q = td3.q("critics", batch.obs, torch.tanh(td3.nets["actor"](batch.obs)))[:, 0]
    expected = learns(td3, "actor", batch, META_DRAWS) * q.abs().mean() / 2.5
    torch.testing.assert_close(learns(ours, "actor", batch, META_DRAWS), expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        learns(ours, "critics", batch, META_DRAWS), learns(td3, "critics", batch, META_DRAWS)
    )


def test_each_stage_moves_what_is_its_own() -> None:
    ours = made(learning_starts=20, utd_ratio=2)
    ours.begin("collect")
    before = {name: net.flat.clone() for name, net in ours.nets.items()}
    feed(ours, mixed_data(500)[:20])
    assert all(torch.equal(net.flat, before[name]) for name, net in ours.nets.items()), "nothing learns"
    ours.begin("meta")
    for _ in ours.work("meta"):
        pass
    moved = {name for name, net in ours.nets.items() if not torch.equal(net.flat, before[name])}
    assert moved == {"new_critics", "new targets"}
    assert (ours.clock, ours.updates) == (30, 0)
    assert torch.all(ours.priorities.weights.flatten(1)[:, :500] == 1.0)
    ours.begin("fine-tune")
    for i in range(20, 50):
        ours.observe(stacked(i))
        for _ in ours.work("fine-tune"):
            pass
    assert ours.updates == 60
    assert {name for name, net in ours.nets.items() if torch.equal(net.flat, before[name])} == set()
    assert ours.adams["new_critics"].steps.tolist() == [90], "it keeps its moments"
    assert ours.adams["critics"].steps.tolist() == [60], "they began anew"


def test_the_policy_learns_from_the_batch_and_the_ratio_from_both_kinds() -> None:
    """The rows behind a batch are for the density ratio alone."""
    ours = made(learning_starts=20, policy_every=1)
    feed(ours, mixed_data(500)[:30])
    rows_read: dict[str, int] = {}
    for part in ("critics", "new_critics", "actor", "ratio"):
        loss = getattr(ours, f"{part}_loss")

        def noted(flat: Any, batch: Any, *more: Any, part: str = part, loss: Any = loss) -> Any:
            rows_read[part] = batch.reward.shape[1]
            return loss(flat, batch, *more)

        setattr(ours, f"{part}_loss", noted)
    ours.observe(stacked(30))
    for _ in ours.work("fine-tune"):
        pass
    assert rows_read == {"critics": 64, "new_critics": 64, "actor": 64, "ratio": 128}


def stacked(i: int) -> Any:
    return stack_steps([mixed_data(500)[i]])


def test_the_new_critics_share_rises_evenly_after_the_collection() -> None:
    ours = made(blend_from=0.2, blend_to=0.8, blend_until=60, learning_starts=20)
    seen = []
    for i in range(80):
        ours.observe(stacked(i))
        ours.due = 0
        seen.append(float(ours.now["blend"]))
    expected = [0.2 + 0.6 * min(1.0, max(0.0, (i + 1 - 20) / 40)) for i in range(80)]
    assert seen == pytest.approx(expected)
