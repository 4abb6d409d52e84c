"""Elementwise kernels: exponentials that are shared, short rows side by side, Adam's quotient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.nn import functional as F
from tests.unit.compile.native_harness import agree, both, hosted, parameter, program_of

pytest.importorskip("llvmlite", reason="llvmlite is not installed")


def called(compiled: Any) -> set[str]:
    """The math functions that the kernels ask for."""
    return {name for name, _ in program_of(compiled).functions}


# -- several steps in one function -----------------------------------------------------------------


def normal(x: Any) -> Any:
    """The distribution function and the density in float64."""
    cdf = np.array([0.5 * math.erfc(-v * math.sqrt(0.5)) for v in x.tolist()])
    return cdf, np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def test_gelu_and_its_slope_share_an_exponential() -> None:
    numbers = np.concatenate([np.linspace(-14, 14, 4001), [0.0, -0.0, 1e-30, -1e-30, 40, -40]])
    x = fathom.tensor(numbers.astype(np.float32))

    def step(x: Any) -> Any:
        x = x.detach().requires_grad_()
        y = F.gelu(x)
        return y.detach(), *fathom.autograd.grad(y.sum(), x)

    compiled = fathom.compile(step, backend="native")
    y, slope = (np.asarray(v, np.float64) for v in compiled(x))
    wide = x.numpy().astype(np.float64)
    cdf, density = normal(wide)
    assert np.abs(y - wide * cdf).max() < 1e-6 * np.abs(wide).max()
    assert np.abs(slope - (cdf + wide * density)).max() < 1e-6
    tail = (wide < -1) & (wide > -12)  # small results are good to their last digits, too
    np.testing.assert_allclose(y[tail], (wide * cdf)[tail], rtol=2e-5)
    assert "gauss" in called(compiled)
    assert "exp" not in called(compiled)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponential_of_a_square(dtype: str) -> None:
    x = parameter(300, dtype=dtype)
    for function in (lambda x: (-(x * x)).exp(), lambda x: (-x.square()).exp()):
        agree(function, x)
        assert "gauss" in called(both(function, x)[2])


def test_other_exponentials_stay() -> None:
    x, y = parameter(50), parameter(50, seed=1)
    agree(lambda x, y: (-(x * y)).exp(), x, y)
    agree(lambda x: (x * x).exp(), parameter(50))
    assert "gauss" not in called(both(lambda x, y: (-(x * y)).exp(), x, y)[2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mish_has_one_exponential(dtype: str) -> None:
    x = parameter(500, dtype=dtype)
    _, _, compiled = both(F.mish, x)
    assert "tanh_softplus" in called(compiled)
    assert "tanh" not in called(compiled)
    agree(F.mish, x)
    far = fathom.tensor(np.array([-1e30, -300, -90, -0.0, 0, 90, 300, 1e30], dtype))
    compiled = fathom.compile(F.mish, backend="native")
    np.testing.assert_allclose(compiled(far).numpy(), F.mish(far).numpy(), rtol=1e-6)


# -- short rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10, 16, 17, 40])
@pytest.mark.parametrize("rows", [1, 15, 16, 33, 64])
def test_cross_entropy_over_few_classes(rows: int, classes: int) -> None:
    logits = parameter(rows, classes)
    labels = np.random.default_rng(1).integers(0, classes, rows)
    labels[rows // 2] = -100 if rows > 1 else labels[0]
    target = fathom.tensor(labels)
    agree(lambda x: F.cross_entropy(x, target), logits)
    assert "log" in called(both(lambda x: F.cross_entropy(x, target), logits)[2])


@pytest.mark.parametrize("shape", [(32, 10), (4, 40)], ids=str)
def test_the_backward_pass_reuses_the_exponentials_of_the_forward_pass(
    shape: tuple[int, int],
) -> None:
    target = fathom.tensor(np.zeros(shape[0], np.int64))
    _, _, compiled = both(lambda x: F.cross_entropy(x, target), parameter(*shape))
    assert not hosted(compiled)
    written = shape[1] if shape[1] <= 16 else 1  # short rows are written out
    assert program_of(compiled).text.count("call float @fathom.exp.f32(") == written


@pytest.mark.parametrize(
    "function",
    [F.softmax, F.log_softmax, lambda x, dim: x / x.square().sum(dim, keepdims=True).sqrt()],
    ids=["softmax", "log_softmax", "unit"],
)
@pytest.mark.parametrize("shape", [(40, 3), (4, 9, 5), (16, 16), (130, 2), (20, 70)], ids=str)
def test_rows(function: Any, shape: tuple[int, ...]) -> None:
    agree(lambda x: function(x, dim=-1), parameter(*shape))


def test_short_rows_with_special_numbers() -> None:
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    x[3, 1], x[5, 2], x[7], x[9, 0], x[11] = np.nan, np.inf, -np.inf, -np.inf, 1e38
    given = fathom.tensor(x)
    for function in (F.softmax, F.log_softmax):
        compiled = fathom.compile(lambda x, f=function: f(x, dim=1), backend="native")
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(
                compiled(given).numpy(), function(given, dim=1).numpy(), rtol=1e-5, atol=1e-6
            )


# -- Adam's quotient -------------------------------------------------------------------------------


def trained(gradients: Any, compiled: bool, **options: Any) -> tuple[Any, Any]:
    """A parameter after an Adam step for each row of gradients, and the optimizer's state."""
    weight = nn.Parameter(np.linspace(-2, 2, gradients.shape[1], dtype=np.float32))
    optimizer = fathom.optim.Adam([weight], lr=0.01, **options)
    weight.grad = fathom.tensor(gradients[0])

    def update() -> None:
        optimizer.step()

    step = fathom.compile(update, backend="native") if compiled else update
    with np.errstate(all="ignore"):
        for row in gradients:
            weight.grad.numpy()[...] = row
            step()
    return weight.detach().numpy().copy(), optimizer


def test_a_hundred_steps_of_adam_agree_with_eager() -> None:
    rng = np.random.default_rng(0)
    scale = np.float32(10) ** rng.uniform(-12, 6, 1000).astype(np.float32)
    gradients = rng.normal(size=(100, 1000)).astype(np.float32) * scale
    for options in ({}, {"weight_decay": 0.01}, {"amsgrad": True}):
        eager, native = (trained(gradients, c, **options)[0] for c in (False, True))
        np.testing.assert_allclose(native, eager, rtol=1e-5, atol=1e-6)


def test_adam_with_gradients_that_are_zero_tiny_or_huge() -> None:
    row = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-38, 1e-30, 1e-20, 1e18, 1e19, -1e19, 3e38] * 3)
    gradients = np.tile(row.astype(np.float32), (3, 1))
    eager, native = (trained(gradients, c)[0] for c in (False, True))
    np.testing.assert_allclose(native, eager, rtol=1e-5)
    still = np.abs(row) == 0
    start = np.linspace(-2, 2, row.size, dtype=np.float32)
    np.testing.assert_array_equal(native[still], start[still])
    gradients[1, 4] = np.nan
    assert np.isnan(trained(gradients, True)[0][4])


@pytest.mark.parametrize("n", [5, 15, 17, 1001, 4090, 4095])
def test_a_number_does_not_depend_on_how_many_there_are(n: int) -> None:
    """The last numbers of a loop, past whole vectors, get the bits that they get inside."""

    def weights(count: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        start, slope = rng.standard_normal((2, 4096)).astype(np.float32)[:, :count]
        p = fathom.tensor(start, requires_grad=True)
        optimizer = fathom.optim.Adam([p], lr=1e-2)
        g = fathom.tensor(slope)

        @fathom.compile
        def step(g):
            optimizer.zero_grad()
            loss = (fathom.nn.functional.gelu(p) * g * p).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        for _ in range(10):
            step(g)
        return p.value()

    assert weights(n).tobytes() == weights(4096)[:n].tobytes()
