"""GELU, Swish and Mish in plain NumPy: values, slopes and bends from their closed forms.

Nothing here uses Fathom's formulas or its tape, so it is a route of its own. The error function
is the C library's (`math.erf`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Curve = Callable[[Array], Array]


def normal_density(x: Array) -> Array:
    """The density of N(0, 1).

    >>> round(float(normal_density(np.array(0.0))), 6)
    0.398942
    """
    return np.asarray(np.exp(-0.5 * np.square(x)) / math.sqrt(2.0 * math.pi))


def normal_share(x: Array) -> Array:
    """Phi(x): the share of N(0, 1) below x, by the error function.

    >>> normal_share(np.array([0.0])).tolist()
    [0.5]
    """
    flat = [0.5 * math.erfc(-v / math.sqrt(2.0)) for v in np.ravel(x)]
    return np.array(flat).reshape(np.shape(x))


def normal_share_summed(x: Array) -> Array:
    """Phi(x) again, by Gauss-Legendre rules over the density from 0 to x: no error function.

    >>> round(float(normal_share_summed(np.array([2.0]))[0]), 12)
    0.977249868052
    """
    nodes, weights = np.polynomial.legendre.leggauss(80)
    at = np.asarray(x, np.float64)[..., None] * (nodes + 1.0) / 2.0
    return 0.5 + np.asarray(x) / 2.0 * (normal_density(at) @ weights)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow.

    >>> logistic(np.array([0.0, -800.0])).tolist()
    [0.5, 0.0]
    """
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(x))))


@dataclass(frozen=True)
class Shape:
    """A function of one number with its first two derivatives."""

    value: Curve
    slope: Curve
    bend: Curve


def _mish_inside(x: Array) -> tuple[Array, Array, Array]:
    """t = tanh(softplus(x)) and its first two derivatives."""
    t, s = np.tanh(np.logaddexp(0.0, x)), logistic(x)
    u = 1.0 - t * t
    return t, u * s, u * (s * (1.0 - s) - 2.0 * t * s * s)


def _swish_bend(x: Array) -> Array:
    s = logistic(x)
    return np.asarray(s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s)))


SHAPES: dict[str, Shape] = {
    "gelu": Shape(
        lambda x: x * normal_share(x),
        lambda x: normal_share(x) + x * normal_density(x),
        lambda x: normal_density(x) * (2.0 - x * x),
    ),
    "swish": Shape(
        lambda x: x * logistic(x),
        lambda x: logistic(x) * (1.0 + x * (1.0 - logistic(x))),
        _swish_bend,
    ),
    "mish": Shape(
        lambda x: x * _mish_inside(x)[0],
        lambda x: _mish_inside(x)[0] + x * _mish_inside(x)[1],
        lambda x: 2.0 * _mish_inside(x)[1] + x * _mish_inside(x)[2],
    ),
}


def sign_changes(f: Curve, low: float, high: float, points: int = 20_001) -> int:
    """How often f changes its sign on a grid; values of exactly 0 are passed over.

    >>> sign_changes(np.sin, 1.0, 10.0)
    3
    """
    signs = np.sign(f(np.linspace(low, high, points)))
    signs = signs[signs != 0]
    return int((signs[1:] != signs[:-1]).sum())
