"""What questions measure with."""

import numpy as np
import pytest

import fathom
from fathom.book.material import calculus, signal, speed
from fathom.engine.errors import ArgumentError


@pytest.mark.parametrize("f", [fathom.tanh, fathom.sigmoid, fathom.exp, fathom.sin])
def test_two_routes_to_a_derivative_agree(f: object) -> None:
    x = np.linspace(-2, 2, 41)
    np.testing.assert_allclose(calculus.derivative(f, x), calculus.difference(f, x), atol=1e-9)


def test_extremes_and_roots() -> None:
    x, y = calculus.lowest(lambda v: (v - 0.7) ** 2 + 2, -3, 3)
    assert (x, y) == pytest.approx((0.7, 2.0), abs=1e-6)
    assert calculus.root(np.cos, 0, 3) == pytest.approx(np.pi / 2, abs=1e-12)
    with pytest.raises(ArgumentError, match="same sign"):
        calculus.root(np.cosh, -1, 1)


def test_he_keeps_the_second_moment_of_relu() -> None:
    rng = np.random.default_rng(0)
    seen = signal.through(fathom.relu, rng, depth=15, width=256, rule="he")
    assert 0.4 < seen.second[-1] / seen.second[0] < 2.5
    assert 0.3 < seen.alive.mean() < 0.7


def test_sigmoid_vanishes_and_residual_does_not() -> None:
    plain = signal.through(fathom.sigmoid, np.random.default_rng(0), rule="xavier")
    linked = signal.through(fathom.sigmoid, np.random.default_rng(0), rule="xavier", residual=True)
    assert plain.backward_ratio < 1e-6 < linked.backward_ratio


def test_gradient_is_that_of_the_tape() -> None:
    """Two layers by hand: d(sum c h2)/dz1 = W2 (c f'(z2)) f'(z1)."""
    rng = np.random.default_rng(3)
    seen = signal.through(fathom.tanh, rng, depth=2, width=5, rule="xavier", batch=3)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 5))
    w1, w2 = (signal.weights("xavier", 5, rng) for _ in range(2))
    h1 = np.tanh(x @ w1)
    h2 = np.tanh(h1 @ w2)
    back = rng.standard_normal((3, 5)) * (1 - h2**2)
    first = (back @ w2.T) * (1 - h1**2)
    np.testing.assert_allclose(seen.gradient, [np.linalg.norm(first), np.linalg.norm(back)])


def test_ratio_of_times_is_about_the_work() -> None:
    found = speed.ratio(lambda: sum(range(40_000)), lambda: sum(range(1_000)), rounds=3)
    assert found.mean > 1 and found.n == 3
