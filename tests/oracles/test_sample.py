"""Random operations: distributions, gradients, streams."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from fathom.nn import functional as F

torch = pytest.importorskip("torch")
stats = pytest.importorskip("scipy.stats")

MASKED = {
    "dropout": (20, 30),
    "dropout1d": (20, 30, 4),
    "dropout2d": (20, 30, 2, 3),
    "dropout3d": (10, 30, 2, 1, 3),
    "alpha_dropout": (20, 30),
    "feature_alpha_dropout": (20, 30, 4),
}


def ones(name: str) -> ft.Tensor:
    return ft.tensor(np.ones(MASKED[name]), requires_grad=True)


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_takes_the_values_it_takes_in_pytorch(name: str) -> None:
    torch.manual_seed(0)
    with ft.seed(0):
        ours = getattr(F, name)(ones(name), 0.3, training=True).detach().numpy()
    theirs = getattr(torch.nn.functional, name)(
        torch.ones(MASKED[name], dtype=torch.float64), 0.3, training=True
    ).numpy()
    np.testing.assert_allclose(np.unique(ours.round(9)), np.unique(theirs.round(9)), rtol=1e-7)
    share = (ours == ours.max()).mean() if "alpha" not in name else (ours > 0).mean()
    assert share == pytest.approx(0.7, abs=0.08)
    if name not in ("dropout", "alpha_dropout"):  # whole channels
        flat = ours.reshape(*ours.shape[:2], -1)
        assert (flat == flat[:, :, :1]).all()


@pytest.mark.parametrize("name", MASKED)
def test_the_mask_is_a_constant_of_the_derivative(name: str) -> None:
    x = ft.tensor(np.random.default_rng(0).standard_normal(MASKED[name]), requires_grad=True)

    def forward(v):
        with ft.seed(3):
            return getattr(F, name)(v, 0.4, training=True)

    y = forward(x)
    y.backward(np.ones(y.shape))
    slope = forward(x.detach() + 1.0).numpy() - forward(x.detach()).numpy()
    np.testing.assert_allclose(x.grad.numpy(), slope, atol=1e-12)
    t = np.random.default_rng(1).standard_normal(x.shape)
    np.testing.assert_allclose(ft.func.jvp(forward, (x,), (t,))[1].numpy(), slope * t, atol=1e-12)


@pytest.mark.parametrize("name", MASKED)
def test_nothing_happens_in_eval_mode_or_with_p_0(name: str) -> None:
    x = ones(name)
    assert getattr(F, name)(x, 0.5, training=False) is x
    assert getattr(F, name)(x, 0.0, training=True) is x
    assert (getattr(F, name)(x, 1.0, training=True).detach().numpy() == 0).all()


@pytest.mark.parametrize("name", MASKED)
def test_same_seed_same_mask_and_dtype(name: str) -> None:
    x = ones(name).detach().float()
    masks = []
    for _ in range(2):
        with ft.seed(5) as rng:
            masks.append(getattr(F, name)(x, 0.5, training=True))
            assert rng.stream("dropout").index == 1
    assert masks[0].dtype == np.float32
    assert (masks[0].numpy() == masks[1].numpy()).all()


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    with ft.seed(0):
        x = ft.randn(200_000, dtype=np.float64)
        for f in (F.alpha_dropout,):
            y = f(x, 0.3, training=True)
    assert y.mean().item() == pytest.approx(0, abs=0.02)
    assert y.var().item() == pytest.approx(1, abs=0.03)


def test_normal_is_reparameterized() -> None:
    mean = ft.tensor(np.array([1.0, -2.0]), requires_grad=True)
    std = ft.tensor(np.array([0.5, 3.0]), requires_grad=True)
    with ft.seed(0):
        x = ft.normal(mean, std, size=(50_000, 2))
    noise = (x.detach().numpy() - mean.detach().numpy()) / std.detach().numpy()
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.01
    x.sum().backward()
    np.testing.assert_allclose(mean.grad.numpy(), [50_000] * 2)
    np.testing.assert_allclose(std.grad.numpy(), noise.sum(0), rtol=1e-9)


def test_normal_shapes_and_dtypes() -> None:
    assert ft.normal(0.0, 1.0, size=(2, 3)).shape == (2, 3)
    assert ft.normal(0.0, 1.0, size=(2, 3)).dtype == np.float32
    assert ft.normal(ft.zeros(2, 1), ft.ones(3)).shape == (2, 3)
    assert ft.normal(ft.zeros(2), 1.0).dtype == np.float32
    assert ft.normal(ft.tensor(np.zeros(2)), 1.0).dtype == np.float64


def test_bernoulli_has_no_gradient() -> None:
    p = ft.tensor(np.linspace(0, 1, 5).repeat(10_000), requires_grad=True)
    with ft.seed(0):
        x = ft.bernoulli(p)
    assert not x.requires_grad and x.dtype == p.dtype
    rates = x.numpy().reshape(5, -1).mean(1)
    np.testing.assert_allclose(rates, [0, 0.25, 0.5, 0.75, 1], atol=0.02)
    assert rates[0] == 0 and rates[-1] == 1


@pytest.mark.parametrize("replacement", [False, True])
def test_multinomial_follows_its_weights(replacement: bool) -> None:
    w = np.array([1.0, 0.0, 3.0, 6.0])
    with ft.seed(0):
        first = ft.multinomial(np.tile(w, (20_000, 1)), 2, replacement).numpy()
        assert ft.multinomial(w, 3).shape == (3,)
    rates = np.bincount(first[:, 0], minlength=4) / len(first)
    np.testing.assert_allclose(rates, w / w.sum(), atol=0.02)
    if not replacement:
        assert (first[:, 0] != first[:, 1]).all()


def test_gumbel_softmax() -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.7]]))
    x = ft.tensor(np.repeat(logits, 20_000, 0), requires_grad=True)
    with ft.seed(0):
        soft = F.gumbel_softmax(x, tau=0.7)
    with ft.seed(0):
        hard = F.gumbel_softmax(x, tau=0.7, hard=True)
    np.testing.assert_allclose(soft.detach().numpy().sum(1), 1)
    np.testing.assert_allclose(hard.detach().numpy().mean(0), [0.1, 0.2, 0.7], atol=0.02)
    assert set(np.unique(hard.detach().numpy())) == {0.0, 1.0}
    u = np.random.default_rng(0).standard_normal(x.shape)
    a, b = (ft.autograd.grad(y, x, u)[0].numpy() for y in (soft, hard))
    np.testing.assert_allclose(a, b)  # straight through


def test_attention_dropout_draws_from_the_stream() -> None:
    x = ft.ones(2, 3, 4)
    with ft.seed(0) as rng:
        out = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
        assert rng.stream("dropout").index == 1
    assert set(np.unique(out.numpy().round(5))) <= {np.float32(round(k / 1.5, 5)) for k in range(4)}


BAD = [
    (lambda: F.dropout(ft.ones(2), 1.5), "probability in [0, 1]"),
    (lambda: F.dropout2d(ft.ones(2, 2), 0.5), "(n, c, *spatial)"),
    (lambda: F.alpha_dropout(ft.ones(2), -0.1, True), "probability"),
    (lambda: ft.bernoulli(ft.tensor([1.5])), "received 1.5"),
    (lambda: ft.normal(0.0, ft.tensor([-1.0])), "std must be >= 0"),
    (lambda: ft.normal(ft.zeros(2), ft.ones(3)), "do not broadcast"),
    (lambda: ft.multinomial([1.0, 0.0], 2), "replacement=True"),
    (lambda: ft.multinomial([-1.0, 2.0], 1), "must be >= 0"),
    (lambda: F.gumbel_softmax(ft.ones(2), tau=0), "tau must be > 0"),
]


@pytest.mark.parametrize(("call", "text"), BAD, ids=[t for _, t in BAD])
def test_errors_teach(call, text) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert isinstance(caught.value, ft.FathomError)
    assert text in str(caught.value)
