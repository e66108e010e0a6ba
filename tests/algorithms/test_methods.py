"""CoMoU, MOORe, DOOF: identities with the template, exact mixes, closed forms, the paper's claim on a toy.

The numbers T9 to T17 are those of docs/algorithms.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from o2obench import registry
from o2obench.agent import Agent, Budget, Task, stack_seeds, take_seed
from o2obench.datasets.registry import find_dataset
from o2obench.datasets.toy import mixed_data
from o2obench.envs.episode import Interaction, transition
from o2obench.envs.pointmass import left_the_field
from o2obench.envs.spec import find_env
from o2obench.errors import UserError
from o2obench.kit.model_based import ensemble
from o2obench.kit.model_based.ensemble import Prediction, nll
from o2obench.kit.model_based.model_change import bound, kl
from o2obench.testing import check_agent
from o2obench.transitions import Transitions, stack_steps

SMALL: dict[str, Any] = {
    "rollout_batch_size": 200,
    "max_model_epochs": 2,
    "steps_per_model_epoch": 3,
    "utd_ratio": 2,
    "learning_starts": 20,
    "model_train_freq": 20,
    "batch_size": 32,
    "holdout": 20,
}


def agent(name: str, data: Transitions | None = None, steps: int = 60, **options: Any) -> Any:
    cls = registry.algorithm(name)
    task = Task(4, 2, 50, (0,), left_the_field, Budget(1000, steps))
    return cls(task, cls.Config.model_validate(options), mixed_data(500) if data is None else data)


@pytest.fixture(scope="module")
def pretrained() -> Any:
    mopo = agent(
        "mopo",
        rollout_batch_size=200,
        max_model_epochs=2,
        batch_size=32,
        holdout=20,
        penalty_coef=0.5,
    )
    mopo.begin("model")
    for _ in mopo.work("model"):
        pass
    return mopo.pretrained_state()


def tuned(name: str, pretrained: Any, *, steps: int = 60, **options: Any) -> Any:
    """Return an agent after ``steps`` steps from the pretraining run."""
    made = agent(name, **{**SMALL, **options})
    made.warm_start([pretrained])
    return live(made, steps)


def live(made: Agent[Any], steps: int, stage: str = "fine-tune") -> Any:
    life = Interaction(find_env(check_agent.ENV), 0)
    made.begin(stage)
    done(made, stage)
    for _ in range(steps):
        step, _ = life.step(made.act(life.obs[None, None], explore=True)[0, 0])
        made.observe(stack_steps([step]))
        done(made, stage)
    return made


def done(made: Agent[Any], stage: str) -> None:
    for _ in made.work(stage):
        pass


def assert_same(one: Agent[Any], other: Agent[Any]) -> None:
    """Everything that the two hand over is equal, bit for bit, and they did learn."""
    assert one.updates == other.updates > 0
    left, right = check_agent.leaves(one.pretrained_state()), check_agent.leaves(other.pretrained_state())
    assert left.keys() == right.keys()
    for place, value in left.items():
        assert np.array_equal(value, right[place]), place


# ---- identities ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_t10_comou_with_full_trust_is_naive_fine_tuning(pretrained: Any) -> None:
    naive = tuned("naive", pretrained)
    assert_same(tuned("comou", pretrained, trust=1.0), naive)
    with pytest.raises(AssertionError):
        assert_same(tuned("comou", pretrained, trust=0.5), naive)


@pytest.mark.slow
def test_moore_with_its_priority_held_at_one_is_the_template_on_the_union(pretrained: Any) -> None:
    same: dict[str, Any] = {"penalty_coef": 0.5, "rollout_length": (0, 1, 5, 5)}
    union = tuned("naive", pretrained, replay_data="union", **same)
    assert_same(tuned("moore", pretrained, sampling="uniform", **same), union)
    assert_same(tuned("moore", pretrained, sampling="moore", alpha=1.0, **same), union)
    with pytest.raises(AssertionError):
        assert_same(tuned("moore", pretrained, alpha=0.5, **same), union)


# ---- MOORe --------------------------------------------------------------------------------------------


@functools.cache
def _moore(options: tuple[tuple[str, Any], ...]) -> Any:
    return agent("moore", steps=5000, **{**SMALL, **dict(options)})


def moore_at(steps: int, **options: Any) -> Any:
    made = _moore(tuple(options.items()))
    made.replay.online = steps
    return made


def share(made: Any) -> float:
    return float(made.offline_ratio(made.replay.offline, made.replay.online))


def test_t9_the_share_of_offline_rows() -> None:
    offline = 500
    for alpha in (0.1, 1.0, 4.0):
        for steps in (1, 250, 1000, 1001, 2500):
            epoch = math.ceil(steps / 1000)
            expected = offline / (offline + alpha * epoch * steps)
            assert share(moore_at(steps, alpha=alpha)) == pytest.approx(expected, abs=1e-12)
    assert moore_at(0).priority() == moore_at(1000).priority() == 1.0, "t begins at 1, constant in an epoch"
    assert moore_at(1001).priority() == 0.5
    shares = [share(moore_at(steps)) for steps in range(1, 4000, 37)]
    assert shares == sorted(shares, reverse=True)
    assert share(moore_at(1000, alpha=1e-9)) > 0.999
    assert share(moore_at(1000, alpha=1e9)) < 0.001
    assert [share(moore_at(500, sampling=s)) for s in ("uniform", "half", "online")] == [
        0.5,
        0.5,
        0.0,
    ]
    assert [share(moore_at(0, sampling=s)) for s in ("moore", "half", "online")] == [1.0] * 3


def test_t9_two_levels_are_the_same_law_as_weights_per_row() -> None:
    made = moore_at(2000, alpha=2.0)
    draws = made._real_index("starts", 400_000)[0].numpy()
    weights = np.r_[np.full(500, made.priority()), np.ones(2000)]
    rows = np.r_[np.arange(500), made.replay.online_base[0].item() + np.arange(2000)]
    assert np.isin(draws, rows).all()
    counts = np.array([np.bincount(np.searchsorted(rows, draws), minlength=2500)]).ravel()
    expected = len(draws) * weights / weights.sum()
    chi = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi - 2499) < 5 * math.sqrt(2 * 2499)


@pytest.mark.slow
def test_t9_held_out_rows_are_weighted_alike(pretrained: Any) -> None:
    made = tuned("moore", pretrained, steps=40, alpha=0.5)
    fit = made._new_training()
    counts = fit.data.offline_train.shape[1], fit.data.online_train.shape[1]
    assert counts == (480, 32)
    assert fit.data.share == made.offline_ratio(*counts), "by the rows that are trained on"
    assert fit.data.share == pytest.approx(480 * 2 / (480 * 2 + 32))
    offline, online = fit._error_on(fit.data.offline_held), fit._error_on(fit.data.online_held)
    share = fit.data.share
    assert torch.allclose(fit.held_out_error(), share * offline + (1 - share) * online)
    for by, weight in (("half", 0.5), ("online", 0.0)):
        other = tuned("moore", pretrained, steps=40, alpha=0.5, holdout_weights=by)
        fit = other._new_training()
        assert fit.data.share == share, "what is trained on stays"
        offline, online = fit._error_on(fit.data.offline_held), fit._error_on(fit.data.online_held)
        assert torch.allclose(fit.held_out_error(), weight * offline + (1 - weight) * online)
        assert other.held_out_ratio(480, 0) == 1.0


def test_moore_learns_from_the_first_step_where_it_is_told_to(pretrained: Any) -> None:
    made = agent("moore", **{**SMALL, "learning_starts": 0})
    made.warm_start([pretrained])
    live(made, 5)
    assert made.updates == 10


def test_an_unknown_sampling_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling"):
        agent("moore", sampling="prioritised")


# ---- CoMoU --------------------------------------------------------------------------------------------


def predictions(count: int, generator: int = 0, dtype: torch.dtype = torch.float64) -> list[Prediction]:
    random = torch.Generator().manual_seed(generator)
    shape = (1, 7, 16, 5)
    return [
        Prediction(*(torch.randn(shape, generator=random, dtype=dtype) for _ in range(2)))
        for _ in range(count)
    ]


@functools.cache
def _comou(trust: float) -> Any:
    return agent("comou", **{**SMALL, "trust": trust})


def comou(old: Prediction, trust: float) -> Any:
    """Return an agent whose former model predicts ``old``."""
    _comou(trust).predict_before = lambda inputs: old
    return _comou(trust)


@pytest.mark.parametrize("trust", [0.02, 0.1, 0.5, 0.9])
def test_t12_the_loss_is_data_and_kl_in_one_expression(trust: float) -> None:
    old, new = predictions(2)
    y = torch.randn(new.mean.shape, dtype=torch.float64)
    loss = comou(old, trust).model_loss(new, y, y)
    each = (new.mean - y).square() * (-new.log_var).exp() + new.log_var
    textbook = trust * each + (1 - trust) * (2 * kl(old, new) + old.log_var + 1)
    assert torch.allclose(trust * loss, textbook.mean((-2, -1)), rtol=1e-10)
    assert torch.equal(comou(old, 1.0).model_loss(new, y, y), nll(new, y, y))


def test_t11_at_the_old_model_only_the_data_pull() -> None:
    (old,) = predictions(1)
    y = torch.randn(old.mean.shape, dtype=torch.float64)

    def gradient(loss: Callable[[Prediction], Tensor]) -> list[Tensor]:
        new = Prediction(old.mean.clone().requires_grad_(), old.log_var.clone().requires_grad_())
        return list(torch.autograd.grad(loss(new).sum(), [new.mean, new.log_var]))

    assert float(kl(old, old).abs().max()) == 0.0
    assert max(float(g.abs().max()) for g in gradient(lambda new: kl(old, new))) < 1e-6
    both = gradient(lambda new: comou(old, 0.3).model_loss(new, y, y))
    data = gradient(lambda new: nll(new, y, y))
    assert all(torch.allclose(b, d) for b, d in zip(both, data, strict=True))


@pytest.mark.parametrize("trust", [0.05, 0.1, 0.5])
def test_t11_at_the_old_model_a_step_is_naive_tunings(pretrained: Any, trust: float) -> None:
    """Weight decay and the pull on the bounds included: a model that fits the data stays (Theorem 2.2)."""

    def step(name: str, **options: Any) -> list[Tensor]:
        made = agent(name, **{**SMALL, **options})
        made.warm_start([pretrained])
        for tensor, now in zip(made.model_before, made._model_tensors(), strict=True):
            tensor.copy_(now)
        batch = made.replay.take(torch.arange(64).expand(1, 7, 64))
        inputs, y = made.model.inputs(batch.obs, batch.action), ensemble.target(batch)
        parameters = [tensor.clone().requires_grad_() for tensor in made.model.parameters()]
        loss = made.model.loss(made.model.predict(inputs, parameters), y, inputs).sum()
        return list(torch.autograd.grad(loss + made.model.regulariser(*parameters), parameters))

    for held, free in zip(step("comou", trust=trust), step("naive"), strict=True):
        assert torch.allclose(held, free, rtol=1e-5, atol=1e-6 * float(free.abs().max()))


@pytest.mark.slow
def test_trained_again_and_again_on_the_same_data_the_model_stays_unbiased() -> None:
    """25 trainings on stationary data: the weights grow, as in naive tuning, and the variances' floor holds.

    With the loss undivided the weights shrink and the floor rises twice as far: weight decay and the pull on
    the bounds weigh ten times as much against the data as they should.
    """
    data = find_dataset("o2o:hopper-medium-replay-v0")
    transitions = data.load()[:20_000]

    def made(name: str, **options: Any) -> Any:
        cls: Any = registry.algorithm(name)
        task = Task(11, 3, 1000, (0,), data.env.terminal, Budget(1000, 1000))
        small = {"model_hidden_dims": (64,) * 4, "rollout_batch_size": 100}
        return cls(task, cls.Config.model_validate(small | options), transitions)

    def floor_and_weights(of: Any) -> tuple[float, float]:
        squares = sum(float(weight.square().sum()) for weight, _ in of.model.net.layers())
        return float(of.model.min_log_var.mean()), squares

    pretrained = made("mopo", max_model_epochs=40)
    pretrained.begin("model")
    for _ in pretrained.work("model"):
        pass
    before, after = floor_and_weights(pretrained), []
    for factor in (1.0, 0.1):
        comou, random = made("comou", trust=0.1), torch.Generator().manual_seed(0)
        comou.model.load_learned(pretrained.model.learned())
        comou.model.loss = functools.partial(scaled, comou.model_loss, factor)
        for _ in range(25):
            for tensor, now in zip(comou.model_before, comou._model_tensors(), strict=True):
                tensor.copy_(now)
            rows = torch.randint(16_000, (100, 1, 7, 256), generator=random)
            comou.model.learn(comou.replay, rows, [2e-4] * len(rows), None)
        after.append(floor_and_weights(comou))
    divided, undivided = after
    assert divided[0] - before[0] < 0.7 * (undivided[0] - before[0]), (before, after)
    assert divided[1] > 1.02 * before[1] > 1.04 * undivided[1], (before, after)


def scaled(loss: Callable[..., Tensor], factor: float, *given: Any) -> Tensor:
    return factor * loss(*given)


@pytest.mark.parametrize("trust", [0.1, 0.5, 0.8])
def test_t13_the_best_gaussian_is_the_mixtures(trust: float) -> None:
    """Mean and variance of trust * data + (1 - trust) * old; the variance grows with the surprise."""
    m, v, old_mean, old_var = 2.0, 0.3, -1.0, 0.5
    old = Prediction(torch.full((1, 1, 2, 1), old_mean), torch.full((1, 1, 2, 1), math.log(old_var)))
    y = m + math.sqrt(v) * torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1)
    mean = trust * m + (1 - trust) * old_mean
    variance = trust * v + (1 - trust) * old_var + trust * (1 - trust) * (m - old_mean) ** 2
    best = [torch.tensor(mean), torch.tensor(math.log(variance))]
    mu, log_var = (value.clone().requires_grad_() for value in best)
    shape = (1, 1, 2, 1)
    loss = comou(old, trust).model_loss(Prediction(mu.expand(shape), log_var.expand(shape)), y, y)
    gradients = torch.autograd.grad(loss.sum(), [mu, log_var])
    assert max(float(gradient.abs()) for gradient in gradients) < 1e-5
    now, error = old, m - old_mean
    for _ in range(30):  # refreshed updates close the same share of the gap each time
        now, error = best_gaussian(now, trust, y), error * (1 - trust)
        assert m - float(now.mean.mean()) == pytest.approx(error, abs=1e-3)
    assert float(now.log_var.mean().exp()) == pytest.approx(v, abs=1e-3 + 9 * (1 - trust) ** 30)


def best_gaussian(old: Prediction, trust: float, y: Tensor) -> Prediction:
    """Minimise the loss over one Gaussian (float64, Newton's way)."""
    start = [old.mean.double().mean(), old.log_var.double().mean()]
    mu, log_var = (value.clone().requires_grad_() for value in start)
    old = Prediction(old.mean.double(), old.log_var.double())
    optimiser = torch.optim.LBFGS(
        [mu, log_var], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        new = Prediction(mu.expand(y.shape), log_var.expand(y.shape))
        loss = torch.as_tensor(comou(old, trust).model_loss(new, y.double(), y).sum())
        mu.grad, log_var.grad = torch.autograd.grad(loss, [mu, log_var])
        return loss

    optimiser.step(closure)
    return Prediction(mu.detach().expand(y.shape), log_var.detach().expand(y.shape))


def test_t14_sampling_from_the_mixture_gives_the_same_gradient() -> None:
    """Reading R3, plain NLL on targets from data or old model: the error falls like the root of 1/n."""
    random = torch.Generator().manual_seed(3)
    old_mean, old_std, y, trust = -0.5, 0.7, 1.5, 0.3
    mean, log_var = torch.tensor(0.2), torch.tensor(-0.4)

    def gradient(targets: Tensor, squares: Tensor) -> Tensor:
        return torch.stack(
            [2 * (mean - targets.mean()) * (-log_var).exp(), 1 - squares.mean() * (-log_var).exp()]
        )

    shape = (1, 1, 1, 1)
    old = Prediction(torch.full(shape, old_mean), torch.full(shape, 2 * math.log(old_std)))
    here = [value.clone().requires_grad_() for value in (mean, log_var)]
    loss = comou(old, trust).model_loss(
        Prediction(*(v.expand(shape) for v in here)), torch.full(shape, y), mean
    )
    exact, errors = trust * torch.stack(torch.autograd.grad(loss.sum(), here)), []
    for n in (1_000, 100_000):
        tries = []
        for _ in range(30):
            from_data = torch.rand(n, generator=random) < trust
            drawn = torch.where(from_data, y, old_mean + old_std * torch.randn(n, generator=random))
            tries.append((gradient(drawn, (drawn - mean) ** 2) - exact).norm())
        errors.append(float(torch.stack(tries).mean()))
    assert 6 < errors[0] / errors[1] < 16, "a hundred times the samples, a tenth of the error"


def test_t15_the_exact_mixture_is_bounded_and_its_gaussian_moves_like_a_logarithm() -> None:
    random = np.random.default_rng(0)
    for trust in (0.1, 0.5, 0.9):
        for _ in range(50):
            old, data = random.dirichlet(np.ones(6)), random.dirichlet(0.1 * np.ones(6))
            new = trust * data + (1 - trust) * old
            assert (old * np.log(old / new)).sum() <= bound(trust) + 1e-12
            assert 0.5 * np.abs(old - new).sum() <= trust
    variance, moved = 0.05, []
    former = Prediction(*torch.zeros(2, 1, 1, 2, 1, dtype=torch.float64).unbind())
    for distance in (5.0, 20.0, 100.0):
        y = distance + math.sqrt(variance) * torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1)
        fitted = [best_gaussian(former, trust, y) for trust in (0.5, 1.0)]
        moved.append([float(kl(former, new).mean()) for new in fitted])
    assert moved[1] == pytest.approx((2.31, 4008), rel=5e-3)
    assert moved[2][0] - moved[1][0] == pytest.approx(math.log(5), abs=0.05), "like log m"
    assert moved[2][1] / moved[1][1] == pytest.approx(25, rel=0.01), "like m^2"


def test_t16_the_old_copy_is_a_copy(pretrained: Any) -> None:
    made = tuned("comou", pretrained, steps=25)
    before = [tensor.clone() for tensor in made.model_before]
    kept = made.predict_before(torch.zeros(1, 1, 3, 6)).mean
    made.model.net.flat += 1.0
    made.model.max_log_var -= 0.3
    made.model.scale_mean += 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, made.model_before, strict=True))
    assert torch.equal(kept, made.predict_before(torch.zeros(1, 1, 3, 6)).mean)
    refitted = agent("comou", **{**SMALL, "refit_scaler": True})
    refitted.warm_start([pretrained])
    live(refitted, 25)
    obs, action = torch.randn(1, 1, 5, 4), torch.randn(1, 1, 5, 2)
    *parameters, mean, std = refitted.model_before
    raw = (torch.cat([obs, action], -1) - mean) / std
    again = refitted.predict_before(refitted.model.inputs(obs, action))
    assert torch.allclose(again.mean, refitted.model.predict(raw, parameters).mean, atol=1e-4)


@pytest.mark.slow
def test_t16_the_copy_is_taken_once_a_training(pretrained: Any) -> None:
    """Not once for ever, which would be another anchor, and not again inside a training."""
    made, copies = tuned("comou", pretrained, steps=25, steps_per_model_epoch=30), []
    for _ in range(2):
        wanted = [tensor.clone() for tensor in made._model_tensors()]
        made.due_training, yields = True, 0
        for _ in made._train_model():
            yields += 1
            assert all(torch.equal(*pair) for pair in zip(wanted, made.model_before, strict=True))
        assert yields > 1
        copies.append(wanted)
    assert not torch.equal(copies[0][0], copies[1][0]), "the first training moved the model"


def test_t16_a_copy_at_every_gradient_step_would_be_naive_tuning(
    pretrained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong reading: its KL has no gradient, and Adam does not see a factor before the data's."""
    monkeypatch.setattr(ensemble, "BOUND_WEIGHT", 0.0)
    plain = {**SMALL, "model_weight_decay": (0.0,) * 5}

    def trained(name: str, refresh: bool, **options: Any) -> Tensor:
        made = agent(name, **{**plain, **options})
        made.warm_start([pretrained])
        for tensor, now in zip(made.model_before, made._model_tensors(), strict=True):
            tensor.copy_(now)
        index = torch.randint(500, (15, 1, 7, 32), generator=torch.Generator().manual_seed(0))
        for some in index:
            if refresh:
                for tensor, now in zip(made.model_before, made._model_tensors(), strict=True):
                    tensor.copy_(now)
            made.model.learn(made.replay, some[None], [1e-3], None)
        return torch.as_tensor(made.model.net.flat)

    naive = trained("naive", False)
    refreshed, held = trained("comou", True, trust=0.2), trained("comou", False, trust=0.2)
    far = float((held - naive).norm())
    assert float((refreshed - naive).norm()) < 0.05 * far


# ---- DOOF ---------------------------------------------------------------------------------------------

DOOF: dict[str, Any] = {
    "rollout_batch_size": 300,
    "max_model_epochs": 2,
    "batch_size": 256,
    "holdout": 20,
    "penalty_coef": 0.5,
    "rollout_length": (0, 1, 2, 2),
    "explorer_updates": 30,
    "policy_updates": 40,
    "uncertain_transitions": 64,
}


def doof(pretrained: Any, **options: Any) -> Any:
    made = agent("doof", **{**DOOF, **options})
    made.warm_start([pretrained])
    return made


def networks(made: Any) -> dict[str, Any]:
    """Return a copy of every network's weights: both learners' and the model's."""
    state = {
        "tuned": made.sac.networks(),
        "explorer": made.explorer.networks(),
        "model": made.model.learned(),
    }
    return {place: np.array(value, copy=True) for place, value in check_agent.leaves(state).items()}


def equal(one: dict[str, Any], other: dict[str, Any], part: str, of: str = "") -> bool:
    left = {k.split(f"/{part}", 1)[1]: v for k, v in one.items() if k.startswith(f"/{part}/")}
    right = {k.split(f"/{of or part}", 1)[1]: v for k, v in other.items() if k.startswith(f"/{of or part}/")}
    assert left.keys() == right.keys()
    assert left
    return all(np.array_equal(v, right[k]) for k, v in left.items())


def test_t17_a_life_of_doof(pretrained: Any) -> None:
    made = doof(pretrained)
    assert [stage.name for stage in made._stages()] == ["explorer", "collect", "dynamics", "policy"]
    offline = networks(made)
    made.begin("explorer")
    assert equal(networks(made), offline, "explorer", of="tuned"), "the explorer begins as MOPO's policy"
    done(made, "explorer")
    explored = networks(made)
    assert not equal(explored, offline, "explorer", of="tuned")
    assert equal(explored, offline, "tuned")
    assert equal(explored, offline, "model")
    live(made, 60, "collect")
    assert made.replay.online == 60
    collected = networks(made)
    assert all(equal(collected, explored, part) for part in ("tuned", "explorer", "model")), "nothing learns"
    made.begin("dynamics")
    done(made, "dynamics")
    tuned_model = networks(made)
    assert not equal(tuned_model, collected, "model")
    assert equal(tuned_model, offline, "tuned"), "step 5 begins as MOPO's policy, not the explorer's"
    made.begin("policy")
    assert int(made.replay.fill.max()) == 0, "no rows of the offline model are left"
    done(made, "policy")
    final = networks(made)
    assert not equal(final, offline, "tuned")
    assert equal(final, tuned_model, "model")
    assert made.updates == 70
    obs = np.zeros((1, 3, 4), np.float32)
    made.begin("explorer")
    assert np.array_equal(made.act(obs, explore=False), made.sac.act(torch.zeros(1, 3, 4), None).numpy())


def test_t17_the_mixes_of_appendix_b(pretrained: Any) -> None:
    made = doof(pretrained)
    online, ring = made.replay.online_base.item(), made.replay.model_base.item()
    extra = made.replay.extra_base.item()
    assert online + 60 == ring < extra == len(made.replay.rows) - 1 - 64

    def mix(rows: Tensor) -> tuple[int, int, int, int]:
        made_here = (ring <= rows) & (rows < extra)
        kinds = (rows < 500, (rows >= online) & (rows < ring), rows >= extra, made_here)
        counts = torch.stack([kind.sum(-1) for kind in kinds], -1).reshape(-1, 4)
        assert (counts == counts[0]).all(), "the same in every batch"
        return tuple(counts[0].tolist())

    made.begin("explorer")
    done(made, "explorer")
    assert mix(made._batches(5)) == (6, 0, 6, 244)
    assert mix(made.rollout_starts(100)) == (50, 0, 50, 0)
    live(made, 60, "collect")
    made.begin("dynamics")
    fit = made._new_training()
    fit.start()
    seen, new = [], []
    for _ in range(20):
        fit._shuffle()
        assert mix(fit.order.unflatten(-1, (-1, 256))) == (128, 128, 0, 0)
        halves = fit.order.unflatten(-1, (-1, 2, 128))
        seen.append(halves[:, 0, :, 0])
        new.append(halves[:, 0, :, 1].flatten().sort().values)
    assert fit.data.size == 2 * 48, "a pass traverses the new training transitions once"
    assert all(torch.equal(rows, new[0]) for rows in new), "a member's bootstrap of the new transitions stays"
    assert len(torch.cat(seen).unique()) > 450, (
        "offline transitions are drawn anew: in 20 passes nearly all of 480"
    )
    done(made, "dynamics")
    made.begin("policy")
    done(made, "policy")
    assert mix(made._batches(5)) == (6, 0, 0, 250)
    assert mix(made.rollout_starts(100)) == (50, 50, 0, 0)


def test_t17_who_gets_the_bonus(pretrained: Any) -> None:
    made = doof(pretrained, ratio=2.0)
    made.begin("explorer")
    rows = made.replay.take(made.replay.extra_base[:, None] + torch.arange(64))
    inputs = made.model.inputs(rows.obs, rows.action).unsqueeze(1)
    bonus = made.model.uncertainty(made.model.predict(inputs))
    obs = made.replay.take(torch.arange(500)[None]).obs[0]
    match = [(obs == row).all(-1).nonzero()[0].item() for row in rows.obs[0]]
    plain = made.replay.take(torch.tensor(match)[None]).reward
    assert torch.allclose(rows.reward - plain, 2.0 * 0.5 * bonus, atol=1e-5)
    for reading, expected in (("bonus", -1.0), ("penalty", 0.5), ("raw", 0.0)):
        other = doof(pretrained, ratio=2.0, explorer_reward=reading)
        other.step = "explorer"
        assert other.penalty_coef() == expected
        other.step = "policy"
        assert other.penalty_coef() == 0.5


def test_doof_with_a_negative_bonus_explores_by_mopos_rewards(pretrained: Any) -> None:
    """lambda_on = -lambda_off: the explorer's model transitions are MOPO's, bit for bit."""
    same = {key: DOOF[key] for key in ("penalty_coef", "rollout_length", "rollout_batch_size")}
    made, mopo, twin = doof(pretrained), agent("mopo", **same), agent("mopo", **same)
    mopo.warm_start([pretrained])
    made.config = made.config.model_copy(update={"ratio": -1.0})
    made.begin("explorer")
    made.rollout_starts = twin.rollout_starts
    for one in (made, mopo):
        one.due_rollout = 300
        for _ in one._roll_out():
            pass
    fill = int(made.replay.fill[0])
    assert fill == int(mopo.replay.fill[0]) > 300
    ours, theirs = (one.replay.rows[one.replay.model_base[0] :][:fill] for one in (made, mopo))
    assert torch.equal(ours, theirs)


def test_doof_anneals_the_actor_in_step_5_as_mopo_does(pretrained: Any) -> None:
    mopo: Any = registry.algorithm("mopo")
    for name in ("doof", "doof_control"):
        made = agent(name, **{**DOOF, "policy_updates": 4000})
        made.warm_start([pretrained])
        done_before = 0 if name == "doof_control" else DOOF["explorer_updates"]
        made.updates = done_before
        if name == "doof":
            made.begin("collect")
            assert made.rates(3999) == (1e-4, 3e-4, 1e-4)
        made.begin("policy")
        budget = Budget(4000, 0)
        offline = mopo(Task(4, 2, 50, (0,), left_the_field, budget), mopo.Config(), mixed_data(500))
        for k in (0, 999, 1000, 2500, 3999):
            assert made.rates(done_before + k) == offline.rates(k)
        assert made.rates(done_before + 3999)[0] < 0.2 * made.rates(done_before)[0]


def test_doof_options_change_its_life(pretrained: Any) -> None:
    assert [s.name for s in doof(pretrained, ratio=0.0)._stages()] == ["collect", "dynamics", "policy"]
    cls = registry.algorithm("doof")
    paper = [(s.name, s.env_steps, s.updates) for s in cls.stages(cls.Config(), Budget(3_000_000, 100_000))]
    assert paper == [
        ("explorer", 0, 50_000),
        ("collect", 10_000, 0),
        ("dynamics", 0, 0),
        ("policy", 0, 300_000),
    ]
    two = doof(pretrained, rounds=2)._stages()
    assert [s.name for s in two][4:] == ["explorer 2", "collect 2", "dynamics 2", "policy 2"]
    assert [s.env_steps for s in two] == [0, 30, 0, 0] * 2
    plain = doof(pretrained, ratio=0.0)
    live(plain, 1, "collect")
    assert equal(networks(plain), networks(plain), "explorer", of="tuned"), "MOPO's policy collects"
    control = agent("doof_control", **{k: v for k, v in DOOF.items()})
    assert [(s.name, s.env_steps) for s in control._stages()] == [("policy", 0)]
    control.warm_start([pretrained])
    control.begin("policy")
    done(control, "policy")
    assert control.updates == 40
    assert set(control._batches(3)[0, 0, :6].tolist()) <= set(range(500))


# ---- the claim of CoMoU, on a toy system ----------------------------------------------------------------

CHOICES = np.array(
    [[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [0.7, 0.7], [-0.7, 0.7], [0.7, -0.7], [-0.7, -0.7]]
)


def two_halves(s: Any, a: Any, random: np.random.Generator, noise: float = 0.02) -> Any:
    """Linear and Gaussian in each half: s' = s + 0.3 a + noise, and a drift where s_1 > 0.

    The offline transitions show the half without the drift only.
    """
    drift = np.where(s[..., :1] > 0, 1.0, 0.0) * np.array([-0.3, 0.8])
    return s + 0.3 * a + drift + noise * random.normal(size=s.shape)


def toy_agent(name: str, seed: int, data: Transitions, **options: Any) -> Any:
    cls = registry.algorithm(name)
    task = Task(2, 2, 100, (seed,), lambda obs, action, n: (n > 1e9).any(-1), Budget(1000, 4000))
    small: dict[str, Any] = {
        "model_hidden_dims": (32, 32),
        "model_weight_decay": (0.0,) * 3,
        "rollout_batch_size": 10,
    }
    return cls(task, cls.Config.model_validate({**small, **options}), data)


def toy_score(made: Any, starts: Any) -> float:
    """Steer to the origin by the model, one step ahead: 100 is what the true system allows, 0 any choice."""
    a = CHOICES[:, None] + 0.0 * starts
    s = np.broadcast_to(starts, a.shape)
    obs, action = (torch.tensor(x.reshape(1, -1, 2), dtype=torch.float32) for x in (s, a))
    mean = (
        made.model.predict(made.model.inputs(obs, action).unsqueeze(1)).mean[0][made.model.elites[0]].mean(0)
    )
    chosen = (mean[:, :2] + obs[0]).abs().sum(-1).reshape(len(CHOICES), -1).argmin(0).numpy()
    true = -np.abs(two_halves(s, a, np.random.default_rng(0), 0.0)).sum(-1)
    got, best = true[chosen, np.arange(len(starts))].mean(), true.max(0).mean()
    return float(100 * (got - true.mean()) / (best - true.mean()))


@pytest.mark.slow
def test_online_refits_on_250_rows_collapse_and_comou_does_not() -> None:
    """Same seeds, same rows: the first 250 come from a small unknown region, later ones from everywhere."""
    for seed in range(3):
        random = np.random.default_rng(seed)
        s, a = random.uniform(-1, 1, (2000, 2)), random.uniform(-1, 1, (2000, 2))
        s[:, 0] = -np.abs(s[:, 0])
        n = two_halves(s, a, random)
        flags = np.zeros(2000, bool)
        s32, a32, reward, n32 = (x.astype(np.float32) for x in (s, a, -np.abs(n).sum(-1), n))
        data = Transitions(s32, a32, reward, n32, flags, flags, flags)
        mopo = toy_agent("mopo", seed, data, max_model_epochs=40, model_lr=3e-3)
        mopo.begin("model")
        done(mopo, "model")
        starts = random.uniform(-1, 1, (500, 2))
        starts[:, 0] = -np.abs(starts[:, 0])
        curves, moved = {}, {}
        for name in ("naive", "comou"):
            passes = {"steps_per_model_epoch": None, "model_lr_warmup_steps": 0}  # over the rows, as MBPO
            made = toy_agent(name, seed, data, learning_starts=0, **passes)
            rows = np.random.default_rng(seed + 100)
            made.model.load_learned(mopo.pretrained_state()["model"])
            curves[name] = [toy_score(made, starts)]
            for update in range(8):
                for _ in range(250):
                    wide = rows.uniform(-1, 1, (2, 2))
                    near = np.array([[0.3, 0.0], [0.0, 0.0]]) + rows.normal(size=(2, 2)) * [[0.05], [0.3]]
                    s1, a1 = wide if update else np.clip(near, -1, 1)
                    n1 = two_halves(s1, a1, rows)
                    row = transition(s1, a1, -float(np.abs(n1).sum()), n1, (False, False, False))
                    made.replay.append(stack_steps([row]))
                made.due_training = True
                for metrics in made._train_model():
                    if not update and metrics:
                        moved[name] = float(metrics["model_change/offline/kl"][0])
                curves[name].append(toy_score(made, starts))
        falls = {name: -min(np.diff(curve)) for name, curve in curves.items()}
        assert falls["naive"] > 15, (seed, curves)
        assert falls["comou"] < 5, (seed, curves)
        assert moved["naive"] > 20 * moved["comou"], (seed, moved)
        assert curves["comou"][-1] > curves["naive"][-1] - 5, (seed, curves)


# ---- what is logged ------------------------------------------------------------------------------------


def test_every_tuning_logs_how_far_the_model_moved(pretrained: Any) -> None:
    for name in ("naive", "comou"):
        made = agent(name, **SMALL)
        made.warm_start([pretrained])
        logged: dict[str, Any] = {}
        life = Interaction(find_env(check_agent.ENV), 0)
        for _ in range(25):
            step, _ = life.step(made.act(life.obs[None, None], explore=True)[0, 0])
            made.observe(stack_steps([step]))
            for metrics in made.work("fine-tune"):
                logged |= metrics
        for source in ("offline", "online"):
            assert logged[f"model_change/{source}/kl"][0] >= 0.0
            assert logged[f"model_change/{source}/kl_max"][0] >= logged[f"model_change/{source}/kl_95"][0]
            assert logged[f"held_out/{source}/mse"][0] > 0.0
        assert logged["uncertainty/q20"][0] <= logged["uncertainty/q50"][0] <= logged["uncertainty/q80"][0]
        assert logged["rollout/length"][0] == 1.0
        assert 3 <= logged["model/elites_kept"][0] <= 5, "two sets of 5 of 7 share at least 3"


def test_what_the_papers_plot_is_logged(pretrained: Any) -> None:
    def logged(made: Any, steps: int, *stages: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        life = Interaction(find_env(check_agent.ENV), 0)
        made.warm_start([pretrained])
        for stage in stages:
            made.begin(stage)
            for metrics in made.work(stage):
                found |= metrics
            for _ in range(steps if stage in ("fine-tune", "collect") else 0):
                step, _ = life.step(made.act(life.obs[None, None], explore=True)[0, 0])
                made.observe(stack_steps([step]))
                for metrics in made.work(stage):
                    found |= metrics
        return found

    moore = logged(agent("moore", **{**SMALL, "alpha": 4.0}), 25, "fine-tune")
    assert moore["replay/offline_priority"][0] == 0.25
    assert 0 < moore["replay/offline_ratio"][0] < 1
    comou = logged(agent("comou", **{**SMALL, "trust": 0.1}), 25, "fine-tune")
    assert comou["model_change/bound"][0] == pytest.approx(-math.log(0.9))
    seen = logged(agent("doof", **DOOF), 60, "explorer", "collect", "dynamics")
    for source in ("online", "offline"):
        assert seen[f"model_before/{source}/uncertainty_mean"][0] > 0, (
            "of collected transitions, by the offline model"
        )


@pytest.mark.slow
def test_a_pack_saved_inside_a_model_training_goes_on(pretrained: Any) -> None:
    """Cut into seeds and joined again at every yield, also within a fit; alone each seed goes its own way."""

    def made(seeds: tuple[int, ...]) -> Any:
        cls = registry.algorithm("comou")
        task = Task(4, 2, 50, seeds, left_the_field, Budget(1000, 60))
        one = cls(task, cls.Config.model_validate({**SMALL, "steps_per_model_epoch": 30}), mixed_data(500))
        one.warm_start([pretrained] * len(seeds))
        return one

    def lived(cut: bool) -> Any:
        pack, inside = made((0, 1)), 0
        lives = [Interaction(find_env(check_agent.ENV), seed) for seed in (0, 1)]
        for _ in range(25):
            obs = np.stack([life.obs for life in lives])[:, None]
            actions = pack.act(obs, explore=True)[:, 0]
            pack.observe(stack_steps([life.step(a)[0] for life, a in zip(lives, actions, strict=True)]))
            work = pack.work("fine-tune")
            while next(work, None) is not None:
                if cut:
                    inside += pack.training is not None
                    states = [take_seed(pack.state_dict(), i) for i in range(2)]
                    for i, state in enumerate(states):
                        made((i,)).load_state_dict(state)
                    pack = made((0, 1))
                    pack.load_state_dict(stack_seeds(states))
                    work = pack.work("fine-tune")
        assert inside > 0 or not cut
        return pack

    assert_same(lived(cut=True), lived(cut=False))


def test_an_option_can_take_another_algorithms_value() -> None:
    from o2obench.planning.expand import expand
    from o2obench.util.config import Located

    grid = {"algorithms": [{"naive": {"penalty_coef": "mopo"}}], "datasets": ["o2o:hopper-medium-replay-v0"]}
    plan = expand(Located(grid), "one")
    assert {run.spec.config["penalty_coef"] for run in plan.runs if run.algorithm == "naive"} == {2.5}
    with pytest.raises(UserError, match="penalty_coef"):
        expand(Located({**grid, "algorithms": [{"naive": {"penalty_coef": "mop"}}]}), "one")
