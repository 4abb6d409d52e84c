"""Mean and variance of ELU and SELU under a normal input, in closed form and by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def cumulative(x: float) -> float:
    """The normal distribution function.

    >>> cumulative(0.0)
    0.5
    """
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def elu_numpy(x: Any, alpha: float = 1.0) -> Any:
    """ELU in NumPy.

    >>> elu_numpy(np.array([2.0, -100.0]), 0.5).tolist()
    [2.0, -0.5]
    """
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def elu_moments(
    mean: float = 0.0, variance: float = 1.0, *, alpha: float = 1.0, scale: float = 1.0
) -> tuple[float, float]:
    """(mean, variance) of scale * elu(x, alpha) for x ~ N(mean, variance).

    E[e^(kx); x < 0] = e^(k m + k^2 v / 2) Phi(-(m + k v) / s) gives every term.

    >>> round(elu_moments()[0], 4)
    0.1605
    """
    m, v, s = mean, variance, math.sqrt(variance)
    above, density = cumulative(m / s), math.exp(-m * m / (2 * v)) / math.sqrt(2 * math.pi)
    below = 1.0 - above
    one = math.exp(m + v / 2) * cumulative(-(m + v) / s)
    two = math.exp(2 * m + 2 * v) * cumulative(-(m + 2 * v) / s)
    first = m * above + s * density + alpha * (one - below)
    second = (v + m * m) * above + m * s * density + alpha**2 * (two - 2 * one + below)
    return scale * first, scale**2 * (second - first**2)


@cache
def _rule(points: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(points)


def normal_moments(
    f: Callable[[Array], Any], mean: float = 0.0, variance: float = 1.0, points: int = 300
) -> tuple[float, float]:
    """(mean, variance) of f(x) for x ~ N(mean, variance), f smooth but for a kink at 0.

    Gauss-Legendre rules on both sides of 0, out to 12 standard deviations.

    >>> exact, found = elu_moments(), normal_moments(lambda x: np.where(x > 0, x, np.expm1(x)))
    >>> max(abs(a - b) for a, b in zip(exact, found)) < 1e-12
    True
    """
    nodes, weights = _rule(points)
    s = math.sqrt(variance)
    low, high = min(mean - 12 * s, -1e-9), max(mean + 12 * s, 1e-9)
    x = np.concatenate([low * (1 - nodes) / 2, high * (1 + nodes) / 2])
    mass = np.concatenate([weights * -low / 2, weights * high / 2])
    mass = mass * np.exp(-((x - mean) ** 2) / (2 * variance)) / (s * math.sqrt(2 * math.pi))
    y = np.asarray(f(x), np.float64)
    first = float(mass @ y)
    return first, float(mass @ (y - first) ** 2)
