"""Intervals and tests for a handful of seeds."""

from __future__ import annotations

import itertools
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fathom.engine.random import Random

DRAWS = 4_000


def interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """An interval of the mean that is honest about few seeds: the wider of two, end by end.

    The expanded bootstrap percentiles of Hesterberg (2015), whose level makes up for the n - 1
    degrees of freedom, follow a skewed sample; Student's interval (1908) does not fall short when
    there are five values. Draws are fixed by the number of values, so the same values always give
    the same interval.

    >>> low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> low < 3.0 < high
    True
    """
    data = np.asarray(values, np.float64)
    if np.ptp(data) == 0:
        return float(data[0]), float(data[0])
    if not np.isfinite(data).all():
        return float("nan"), float("nan")
    n = len(data)
    picks = _picks(n)
    means = data[picks].mean(axis=1)
    wide = _student(n - 1, 0.5 + level / 2)
    tail = NormalDist().cdf(-np.sqrt(n / (n - 1)) * wide)
    low, high = np.quantile(means, [tail, 1 - tail])
    middle, reach = data.mean(), wide * data.std(ddof=1) / np.sqrt(n)
    return float(min(low, middle - reach)), float(max(high, middle + reach))


@cache
def _picks(n: int) -> NDArray[Any]:
    return Random(n).stream("bootstrap").integers(0, n, (DRAWS, n))


@cache
def _student(freedom: int, p: float) -> float:
    """The quantile of Student's t by bisection on its density's integral (Simpson)."""
    from math import gamma, pi, sqrt

    scale = gamma((freedom + 1) / 2) / (sqrt(freedom * pi) * gamma(freedom / 2)) if (
        freedom < 300
    ) else NormalDist().pdf(0)  # fmt: skip

    def cdf(t: float) -> float:
        x = np.linspace(0.0, t, 2001)
        y = scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2)
        return 0.5 + float(t / 6000 * (y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum()))

    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle) < p else (low, middle)
    return high


def sign_flip(values: ArrayLike) -> float:
    """Two-sided probability of so large a |mean| if signs were coin tosses (Fisher, 1935).

    All sign patterns up to 12 values, 4,000 drawn ones beyond.

    >>> sign_flip([1.0, 1.0, 1.0, 1.0, 1.0])
    0.0625
    """
    data = np.asarray(values, np.float64)
    n = len(data)
    if n <= 12:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    else:
        signs = Random(n).stream("signs").integers(0, 2, (DRAWS, n)) * 2.0 - 1.0
    reached = np.abs(signs @ data) >= abs(data.sum()) * (1 - 1e-12)
    return float(reached.mean()) if n <= 12 else float((reached.sum() + 1) / (DRAWS + 1))


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """The least-squares slope of y over x; take logarithms before for a power law.

    >>> round(slope([0, 1, 2], [1, 3, 5]), 12)
    2.0
    """
    return float(np.polyfit(np.asarray(x, np.float64), np.asarray(y, np.float64), 1)[0])
