"""SUNG: batches, candidates and pulls by uncertainty; TD3 and CQL where all three are taken away."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from o2obench.datasets.toy import mixed_data
from tests.helpers.model_free import ACT, OBS, feed, finetuned, learns, rows, trained

FEW: dict[str, Any] = {"density_hidden_dims": (32, 32), "density_updates": 20}


def made(name: str = "sung", steps: int = 0, **options: Any) -> Any:
    parent = trained("cql", cql_actions=2) if name == "sung_cql" else trained("td3_bc")
    few = {"cql_actions": 2} if name == "sung_cql" else {}
    return finetuned(name, parent, steps, **{**FEW, **few, **options})


@pytest.mark.parametrize(("online", "recent"), [(1, 1), (40, 40), (57, 57), (90, 57)])
def test_a_batch_is_split_between_the_newest_and_all_transitions(online: int, recent: int) -> None:
    """Identity 22: min(int(0.9 x 64), online ones in the window) come from the newest, the rest from all."""
    ours = made(replay_window=70, learning_starts=1000)
    feed(ours, mixed_data(500)[:online])
    drawn = ours.batches(400)
    newest, rest = drawn[..., :recent], drawn[..., recent:]
    assert ours.recent() == recent
    first = max(0, online - 70)
    assert set(newest.unique().tolist()) == {500 + i for i in range(first, online)}
    assert rest.unique().numel() > 450, "from all"
    offline = float((rest < 500).float().mean())
    assert offline == pytest.approx(500 / (500 + online), abs=0.02)


def test_one_candidate_is_the_policys_noisy_action() -> None:
    ours = made(candidates=1)
    obs = torch.randn(1, 5, OBS)
    actions, _, _ = ours.judged_candidates(obs)
    torch.testing.assert_close(ours.chosen(obs, actions, *torch.randn(2, 1, 5, 1)), actions[:, :, 0])
    mode = torch.tanh(ours.nets["actor"](obs))
    assert (actions[:, :, 0] - mode).abs().max() < 0.6
    assert not torch.equal(actions[:, :, 0], mode)


def test_without_the_pull_the_actors_gradient_is_td3s() -> None:
    ours, td3 = made(bc_weight=0.0), trained("td3_bc", bc_weight=0.0)
    for name in ("actor", "critics", "targets"):
        td3.nets[name].load_state_dict(ours.nets[name].state_dict())
    batch = rows(ours)
    draws = {"next actions": torch.randn(1, 64, ACT), "latent": torch.randn(1, 64, 2 * ACT)}
    torch.testing.assert_close(learns(ours, "actor", batch, draws), learns(td3, "actor", batch, draws))


def test_only_the_most_uncertain_transitions_are_held_to_their_actions() -> None:
    ours = made(uncertain_share=0.1)
    batch, noise = rows(ours), torch.randn(1, 64, 2 * ACT)
    action = torch.rand(1, 64, ACT) * 2 - 1
    unsure = ours.uncertainty(batch.obs, action, noise)[0].topk(6).indices
    expected = (action - batch.action).square()[0, unsure].mean()
    torch.testing.assert_close(ours.distance(action, batch, {"latent": noise})[0], expected)


def test_only_transitions_drawn_by_uncertainty_are_pushed_down() -> None:
    ours = made("sung_cql", uncertain_share=0.1)
    assert ours.pushed_count() == 6
    batch = rows(ours)
    ours.uncertainty = lambda obs, action, noise: torch.where(torch.arange(64) < 8, 30.0, 0.0)[None]
    seen = set()
    for _ in range(40):
        some = ours.pushed(batch, {"latent": None, "uncertain transitions": torch.rand(1, 64) * 2 - 1})
        assert some.obs.shape == (1, 6, OBS)
        found = (some.obs[0, :, None] == batch.obs[0, None]).all(-1).nonzero()[:, 1].tolist()
        assert len(set(found)) == 6, "without replacement"
        seen |= set(found)
    assert seen == set(range(8))


def test_a_candidate_has_a_high_first_score_and_is_drawn_by_the_second() -> None:
    ours = made(kept=3)
    actions = torch.linspace(-1, 1, 50)[None, None, :, None].expand(1, 4000, 50, ACT)
    first = torch.zeros(1, 4000, 50)
    first[..., 10:13] = 1.0
    second = torch.zeros(1, 4000, 50)
    second[..., 11] = 1.0
    chosen = ours.chosen(torch.zeros(1, 4000, OBS), actions, first, second)[0, :, 0]
    share = [float((chosen == actions[0, 0, i, 0]).float().mean()) for i in (10, 11, 12)]
    assert sum(share) == pytest.approx(1.0)
    assert share == pytest.approx([1 / (2 + 2.71828), 2.71828 / (2 + 2.71828), 1 / (2 + 2.71828)], abs=0.03)


@pytest.mark.parametrize("name", ["sung", "sung_cql"])
def test_the_density_learns_first_and_then_once_a_batch(name: str) -> None:
    ours = made(name)
    before = {key: net.flat.clone() for key, net in ours.nets.items()}
    ours.begin("density")
    for _ in ours.work("density"):
        pass
    assert ours.adams["density"].steps.tolist() == [20]
    moved = {key for key, net in ours.nets.items() if not torch.equal(net.flat, before[key])}
    assert moved == {"encoder", "decoder"}
    ours.begin("fine-tune")
    feed(ours, mixed_data(500)[:50])
    assert ours.updates == 30
    assert ours.adams["density"].steps.tolist() == [30], "counted anew"
    assert torch.equal(before["targets"], before["critics"]), "targets began as the online critics"
