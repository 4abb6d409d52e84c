"""Derivatives by two routes, roots and extreme points of functions of one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fathom
from fathom.engine.errors import ArgumentError

Array = NDArray[Any]
Function = Callable[[Any], Any]
GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def value(f: Function, x: ArrayLike) -> Array:
    """f at x in float64; f takes a tensor, as every activation does.

    >>> value(fathom.tanh, 0.0).item()
    0.0
    """
    return np.asarray(f(fathom.tensor(np.asarray(x, np.float64))).value(), np.float64)


def derivative(f: Function, x: ArrayLike) -> Array:
    """f' at each x by automatic differentiation, in float64.

    >>> derivative(fathom.sigmoid, [0.0]).tolist()
    [0.25]
    """
    at = fathom.tensor(np.asarray(x, np.float64), requires_grad=True)
    f(at).sum().backward()
    return np.asarray(at.grad.value() if at.grad is not None else np.zeros(at.shape))


def difference(f: Function, x: ArrayLike, step: float = 1e-5) -> Array:
    """f' at each x by central differences: right to about step squared.

    >>> abs(difference(fathom.sigmoid, [0.0]).item() - 0.25) < 1e-10
    True
    """
    at = np.asarray(x, np.float64)
    return (value(f, at + step) - value(f, at - step)) / (2.0 * step)


def highest(f: Callable[[Array], Array], low: float, high: float) -> tuple[float, float]:
    """(x, f(x)) where f is largest on [low, high]: a fine grid, then golden section.

    >>> x, y = highest(lambda x: -((x - 0.3) ** 2), -1.0, 1.0)
    >>> round(x, 6), round(abs(y), 6)
    (0.3, 0.0)
    """
    grid = np.linspace(low, high, 20_001)
    best = int(np.argmax(f(grid)))
    a, b = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    for _ in range(60):
        left, right = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
        two = f(np.array([left, right]))
        a, b = (a, right) if two[0] > two[1] else (left, b)
    x = float(a + b) / 2.0
    return x, float(f(np.array([x]))[0])


def lowest(f: Callable[[Array], Array], low: float, high: float) -> tuple[float, float]:
    """(x, f(x)) where f is smallest on [low, high]."""
    x, y = highest(lambda at: -f(at), low, high)
    return x, -y


def root(f: Callable[[Array], Array], low: float, high: float) -> float:
    """Where f changes its sign between low and high, by bisection.

    >>> round(root(lambda x: x**2 - 2.0, 0.0, 2.0), 9)
    1.414213562
    """
    a, b = float(low), float(high)
    left = float(f(np.array([a]))[0])
    if left * float(f(np.array([b]))[0]) > 0:
        raise ArgumentError(f"the function has the same sign at {low} and {high}")
    for _ in range(200):
        middle = (a + b) / 2.0
        if float(f(np.array([middle]))[0]) * left > 0:
            a = middle
        else:
            b = middle
    return (a + b) / 2.0
