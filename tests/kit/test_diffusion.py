"""The diffusion model against its paper: factors, levels, and the sampler on distributions that are known."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from o2obench.kit import diffusion as D
from o2obench.kit.networks import Adam, gradients


def model(labels: int = 0, width: int = 3, **sizes: int) -> D.Diffusion:
    shape = {"embedding": 16, "hidden": 32, "blocks": 2, **sizes}
    return D.Diffusion("toy", (0, 1), width, labels, **shape, device="cpu")


def draws(seed: int, *shape: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


def test_without_noise_a_row_stays_as_it_is() -> None:
    x = draws(0, 2, 5, 3)()
    torch.testing.assert_close(model().denoised(x, torch.full((2, 5, 1), 1e-5)), x, rtol=1e-4, atol=1e-4)


def test_the_loss_is_that_of_the_network_on_standardised_targets() -> None:
    """The paper's two ways of writing it (eq. 8) are one: weight x |D - x|^2 = |F - target|^2."""
    made, (x, noise) = model(), (draws(i, 2, 6, 3)() for i in range(2))
    log_sigma = draws(3, 2, 6, 1)()
    sigma = (-1.2 + 1.2 * log_sigma).exp()
    noised = x + sigma * noise
    skip, out = 1.0 / (sigma**2 + 1.0), sigma / (sigma**2 + 1.0).sqrt()
    network = (made.denoised(noised, sigma) - skip * noised) / out
    expected = (network - (x - skip * noised) / out).square().mean((1, 2))
    torch.testing.assert_close(
        made.loss(made.flat, x, noise, log_sigma, None), expected, rtol=1e-4, atol=1e-4
    )


def test_levels_are_the_paper_s() -> None:
    levels = D.Diffusion.levels(18)
    assert levels[0] == pytest.approx(80.0)
    assert levels[-2:] == [pytest.approx(0.002), 0.0]
    assert all(a > b for a, b in itertools.pairwise(levels))
    middle = (80 ** (1 / 7) + 9 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert levels[9] == pytest.approx(middle)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (2.0, 0.3)])
def test_with_the_exact_denoiser_of_a_normal_its_rows_are_drawn(mean: float, std: float) -> None:
    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        return (std**2 * x + sigma**2 * mean) / (std**2 + sigma**2)

    *_, rows = model().steps(draws(0, 2, 4000, 3), 64, exact)
    assert rows.mean().item() == pytest.approx(mean, abs=4 * std / 150)
    assert rows.std().item() == pytest.approx(std, rel=0.05), "fresh noise is 0.3 % too wide, by design"


def test_two_heaps_are_learnt_and_told_apart_by_label() -> None:
    made = model(labels=2, width=2)
    adam, generator = Adam([made.flat]), torch.Generator().manual_seed(0)
    scales = adam.schedule([3e-3] * 500)
    for scale in scales:
        label = torch.randint(0, 2, (2, 128), generator=generator)
        x = torch.where(label[..., None] > 0, 1.0, -1.0) + 0.1 * torch.randn((2, 128, 2), generator=generator)
        noise, log_sigma = (torch.randn((2, 128, n), generator=generator) for n in (2, 1))
        told = torch.where(torch.rand((2, 128), generator=generator) < 0.2, 2, label)

        def loss(flat: Tensor, of: Any = (x, noise, log_sigma, told)) -> tuple[Tensor, Tensor]:
            values = made.loss(flat, *of)
            return values.sum(), values

        step, _ = gradients(loss, [made.flat])
        adam.step(step, scale)
    for kind, heap in ((0, -1.0), (1, 1.0)):

        def told_so(x: Tensor, sigma: Tensor, kind: int = kind) -> Tensor:
            return made.denoised(x, sigma, torch.full(x.shape[:2], kind))

        *_, rows = made.steps(draws(1, 2, 200, 2), 32, told_so)
        assert ((rows - heap).abs() < 0.6).float().mean() > 0.9
    *_, rows = made.steps(draws(2, 2, 400, 2), 32, made.denoised)
    near = [((rows - heap).abs().amax(-1) < 0.6).float().mean().item() for heap in (-1.0, 1.0)]
    assert min(near) > 0.25
    assert sum(near) > 0.85


def test_what_is_not_told_is_none() -> None:
    made, x, sigma = model(labels=2), draws(0, 2, 5, 3)(), torch.full((2, 5, 1), 0.5)
    untold = made.denoised(x, sigma, torch.full((2, 5), 2))
    torch.testing.assert_close(untold, made.denoised(x, sigma), rtol=0, atol=0)
    assert not torch.allclose(untold, made.denoised(x, sigma, torch.zeros((2, 5), dtype=torch.int64)))


def test_what_is_held_stays_and_a_guide_pushes() -> None:
    made = model()

    def hold(x: Tensor, level: int) -> Tensor:
        return torch.cat([torch.full_like(x[..., :1], 7.0), x[..., 1:]], -1)

    *_, held = made.steps(draws(0, 2, 50, 3), 16, made.denoised, hold=hold)
    assert (held[..., 0] == 7.0).all()
    *_, free = made.steps(draws(0, 2, 50, 3), 16, made.denoised)
    *_, same = made.steps(draws(0, 2, 50, 3), 16, made.denoised, guide=lambda x, level: torch.zeros_like(x))
    torch.testing.assert_close(free, same, rtol=0, atol=0)
    *_, pushed = made.steps(draws(0, 2, 50, 3), 16, made.denoised, guide=lambda x, level: torch.ones_like(x))
    assert (pushed < free).float().mean() > 0.99, "steps go down what the guide says"
    assert len(list(made.steps(draws(0, 2, 50, 3), 16, made.denoised))) == 17
