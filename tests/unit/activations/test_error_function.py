"""erf and erfc, on which GELU stands: both precisions, all ranges, the borders of the pieces."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fathom
from fathom import activations as A
from fathom.ops import special


def ulps(ours: np.ndarray, exact: np.ndarray) -> float:
    """The largest relative error in units of the last place of 1."""
    apart = np.abs(ours.astype(np.float64) - exact) / np.abs(exact)
    return float(apart.max() / np.finfo(ours.dtype).eps)


def points(dtype, low: float, high: float) -> np.ndarray:
    small = np.geomspace(1e-30, 0.6, 2000)
    border = np.nextafter(special._NEAR_ZERO, [0.0, 1.0])
    return np.concatenate([np.linspace(low, high, 9001), small, -small, border]).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "far", "most"), [(np.float32, 9.0, 4.0), (np.float64, 26.0, 7.0)]
)
def test_to_the_last_bits(dtype, far, most):
    x = points(dtype, -6.0, 6.0)
    x = x[x != 0]
    assert ulps(fathom.erf(x), np.array([math.erf(v) for v in x.tolist()])) < 3.0
    x = points(dtype, -6.0, far)
    out = fathom.erfc(x)
    assert out.dtype == dtype
    assert ulps(out, np.array([math.erfc(v) for v in x.tolist()])) < most


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_special_values(dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 40.0, -40.0], dtype)
    erf, erfc = fathom.erf(x), fathom.erfc(x)
    assert erf.dtype == erfc.dtype == dtype
    np.testing.assert_array_equal(erf, [0, 0, 1, -1, np.nan, 1, -1])
    assert np.signbit(erf[1]) and not np.signbit(erf[0])
    np.testing.assert_array_equal(erfc, [1, 1, 0, 2, np.nan, 0, 2])


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (3, 50_001), (2, 1, 3)])
def test_any_shape_in_pieces(shape):
    x = fathom.random.Random(0).stream("x").normal(shape) * 2
    for f in (fathom.erf, fathom.erfc):
        out = f(x)
        assert out.shape == shape
        rows = np.ascontiguousarray(out).reshape(-1)
        flat = np.array([f(v) for v in x.reshape(-1)[::997]]).reshape(-1)
        np.testing.assert_array_equal(rows[::997], flat)
    np.testing.assert_array_equal(fathom.erf(x.T), fathom.erf(x).T)


def test_odd_and_complementary():
    x = np.linspace(-5, 5, 4001)
    np.testing.assert_array_equal(fathom.erf(-x), -fathom.erf(x))
    np.testing.assert_allclose(fathom.erf(x) + fathom.erfc(x), 1.0, rtol=1e-15)


def test_gelu_in_float32():
    x = np.linspace(-5, 5, 5000).astype(np.float32)  # x Phi(x), relative even in the left tail
    exact = np.array([0.5 * v * math.erfc(-v / math.sqrt(2.0)) for v in x.tolist()])
    np.testing.assert_allclose(A.gelu(x), exact, rtol=5e-6)
    assert np.abs(A.gelu(x) - exact).max() < 5e-7
