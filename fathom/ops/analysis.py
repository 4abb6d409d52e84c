"""A function of one number looked at numerically: extrema, zeros, limits, monotone pieces."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fathom.engine.tensor import Array

Function = Callable[[Array], Array]


@dataclass(frozen=True)
class Extremum:
    """A minimum or maximum inside the range looked at."""

    x: float
    value: float
    kind: str


@dataclass(frozen=True)
class Analysis:
    """What `Formula.analyse` finds."""

    extrema: tuple[Extremum, ...]
    zeros: tuple[float, ...]
    left_limit: float  # as x -> -inf; nan if there is none
    right_limit: float
    left_slope: float  # of the function as x -> -inf
    right_slope: float
    pieces: tuple[tuple[float, float, str], ...]  # (from, to, "rising" | "falling" | "flat")

    @property
    def monotone(self) -> bool:
        """Whether it never falls, or never rises."""
        kinds = {kind for _, _, kind in self.pieces} - {"flat"}
        return len(kinds) <= 1


def analyse(f: Function, slope: Function, low: float, high: float) -> Analysis:
    """Look at f on [low, high] (float64) and at both ends of the line."""
    x = np.linspace(low, high, 20001)
    with np.errstate(all="ignore"):
        y = np.broadcast_to(f(x), x.shape)
        signs = np.sign(np.where(np.abs(_at(slope, x)) < 1e-14, 0.0, _at(slope, x)))
    return Analysis(
        _extrema(f, slope, x, signs),
        _zeros(f, x, y),
        _limit(f, -1.0),
        _limit(f, 1.0),
        _limit(slope, -1.0),
        _limit(slope, 1.0),
        _pieces(x, signs),
    )


def _at(f: Function, x: Any) -> Array:
    return np.broadcast_to(f(np.asarray(x, np.float64)), np.shape(x))


def _bisect(f: Function, low: float, high: float) -> float:
    """Where f changes sign between low and high, to the last bit."""
    left = float(_at(f, low)) > 0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if (float(_at(f, middle)) > 0) == left:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _extrema(f: Function, slope: Function, x: Array, signs: Array) -> tuple[Extremum, ...]:
    found = []
    live = np.flatnonzero(signs)
    for a, b in pairwise(live):
        if signs[a] != signs[b]:
            place = _bisect(slope, float(x[a]), float(x[b]))
            kind = "maximum" if signs[a] > 0 else "minimum"
            found.append(Extremum(place, float(_at(f, place)), kind))
    return tuple(found)


def _zeros(f: Function, x: Array, y: Array) -> tuple[float, ...]:
    exact = [float(v) for v in x[y == 0]]
    if len(exact) > 100:  # zero on a whole stretch
        exact = [exact[0], exact[-1]]
    crossing = np.flatnonzero(y[:-1] * y[1:] < 0)
    return tuple(sorted(exact + [_bisect(f, float(x[i]), float(x[i + 1])) for i in crossing]))


def _limit(f: Function, sign: float) -> float:
    """The value f settles at far out; +-inf where it grows without end, nan where neither."""
    with np.errstate(all="ignore"):
        far = _at(f, sign * 10.0 ** np.arange(1, 9)).astype(np.float64)
    tail = far[~np.isnan(far)][-3:]
    if len(tail) < 3:
        return math.nan
    if np.ptp(tail) <= 1e-6 * max(1.0, float(np.abs(tail).max())) and np.isfinite(tail).all():
        return float(tail[-1])
    growing = abs(tail[2]) > abs(tail[1]) or np.isinf(tail[2])
    return math.copysign(math.inf, tail[2]) if growing else math.nan


def _pieces(x: Array, signs: Array) -> tuple[tuple[float, float, str], ...]:
    names = {1: "rising", -1: "falling", 0: "flat"}
    cuts = [0, *(np.flatnonzero(np.diff(signs)) + 1).tolist(), len(x) - 1]
    pieces: list[tuple[float, float, str]] = []
    for a, b in pairwise(cuts):
        kind = names[int(signs[a])]
        if b - a <= 1 and kind == "flat":
            continue  # a single point between two pieces
        if pieces and pieces[-1][2] == kind:
            pieces[-1] = (pieces[-1][0], float(x[b]), kind)
        else:
            pieces.append((float(x[a]), float(x[b]), kind))
    return tuple(pieces)
