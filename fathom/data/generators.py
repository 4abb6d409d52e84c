"""Small problems made to order: gates, clouds, moons, spirals, curves.

Every generator draws from the stream "data" of `Random(seed)`: the same arguments give the same
bytes. `noise` is the standard deviation of what is added, in the units of the axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fathom.data._checks import number, whole
from fathom.data.dataset import Dataset
from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.random import Random, Stream

Points = NDArray[np.float64]
LICENCE = "generated; free of rights"

# Outputs for the inputs (0, 0), (0, 1), (1, 0), (1, 1).
GATES: dict[str, tuple[int, int, int, int]] = {
    "xor": (0, 1, 1, 0),
    "and": (0, 0, 0, 1),
    "or": (0, 1, 1, 1),
    "nand": (1, 1, 1, 0),
    "nor": (1, 0, 0, 0),
    "xnor": (1, 0, 0, 1),
}

# Name: the function and the interval it is drawn on.
CURVES: dict[str, tuple[Callable[[Points], Points], float, float]] = {
    "sine": (np.sin, -np.pi, np.pi),
    "cosine": (np.cos, -np.pi, np.pi),
    "step": (lambda x: np.where(x >= 0, 1.0, 0.0), -1.0, 1.0),
    "abs": (np.abs, -1.0, 1.0),
    "sinc": (lambda x: np.sinc(x / np.pi), -10.0, 10.0),
    "polynomial": (lambda x: x**3 - x, -1.5, 1.5),
    "gaussian": (lambda x: np.exp(-(x**2)), -3.0, 3.0),
    "sawtooth": (lambda x: x - np.floor(x), -2.0, 2.0),
}


def gates(kind: str = "xor") -> Dataset:
    """The four rows of a logic gate: "xor", "and", "or", "nand", "nor" or "xnor".

    >>> data = gates("xor")
    >>> data.x.tolist(), data.y.tolist()
    ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0])
    """
    if kind not in GATES:
        raise ArgumentError(f"unknown gate {kind!r}", fix=suggest(str(kind), GATES))
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)
    y = np.array(GATES[kind])
    return _classes(kind, x, y, f"Truth table of the logic gate {kind.upper()}.", ("a", "b"))


def xor_cloud(n: int = 400, noise: float = 0.25, seed: int = 0) -> Dataset:
    """XOR with noise: clouds around (±1, ±1); class 1 where the signs of the centre differ.

    >>> data = xor_cloud(n=8, noise=0.0)
    >>> bool(((data.x[:, 0] != data.x[:, 1]) == (data.y == 1)).all())
    True
    """
    n, noise, stream = _start(n, noise, seed, classes=4)
    corner = np.arange(n) % 4
    x = np.stack([corner // 2, corner % 2], axis=1).astype(np.float64) * 2 - 1
    y = np.array(GATES["xor"])[corner]
    return _cloud("xor_cloud", x, y, noise, stream, "XOR as four clouds of points.")


def moons(n: int = 400, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Two interleaved half circles of radius 1.

    >>> moons(n=100)
    Dataset(moons: 100 rows, 2 features, 2 classes)
    """
    n, noise, stream = _start(n, noise, seed)
    y = np.arange(n) % 2
    angle = np.pi * _spread(y)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.where(y[:, None] == 0, upper, np.array([1.0, 0.5]) - upper)
    return _cloud("moons", x, y, noise, stream, "Two interleaved half circles.")


def circles(n: int = 400, noise: float = 0.05, seed: int = 0, factor: float = 0.5) -> Dataset:
    """A circle of radius 1 (class 0) around one of radius `factor` (class 1).

    >>> radius = np.hypot(*circles(n=100, noise=0.0, factor=0.3).x.T)
    >>> round(float(radius.min()), 3), round(float(radius.max()), 3)
    (0.3, 1.0)
    """
    factor = number(factor, "factor", least=0.0, most=1.0)
    n, noise, stream = _start(n, noise, seed)
    y = np.arange(n) % 2
    angle = 2 * np.pi * _spread(y)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.where(y == 0, 1.0, factor)[:, None]
    return _cloud("circles", x, y, noise, stream, "A circle inside a circle.")


def spirals(
    n: int = 400, noise: float = 0.02, seed: int = 0, classes: int = 2, turns: float = 1.5
) -> Dataset:
    """Spiral arms, one a class, that wind `turns` times from the centre to radius 1.

    >>> spirals(n=300, classes=3)
    Dataset(spirals: 300 rows, 2 features, 3 classes)
    """
    classes = whole(classes, "classes", least=2)
    turns = number(turns, "turns", least=0.0)
    n, noise, stream = _start(n, noise, seed, classes)
    y = np.arange(n) % classes
    radius = 0.05 + 0.95 * _spread(y)
    angle = 2 * np.pi * (turns * radius + y / classes)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
    return _cloud("spirals", x, y, noise, stream, "Arms of a spiral, one for each class.")


def blobs(
    n: int = 400,
    noise: float = 1.0,
    seed: int = 0,
    classes: int = 3,
    features: int = 2,
    centers: ArrayLike | None = None,
) -> Dataset:
    """Round clouds, one a class, around `centers` (classes, features).

    Without `centers` they are drawn evenly from the cube between -5 and 5.

    >>> blobs(n=90, noise=0.0, centers=[[0, 0], [3, 4]]).x.max(axis=0).tolist()
    [3.0, 4.0]
    """
    if centers is None:
        classes, features = whole(classes, "classes", 2), whole(features, "features")
        stream = Random(seed).stream("data")
        middle = stream.uniform((classes, features), -5.0, 5.0, np.float64)
    else:
        middle = _numbers(centers)
        if middle.ndim != 2 or len(middle) < 2 or not np.isfinite(middle).all():
            raise ArgumentError(
                "centers must be finite numbers of shape (classes, features), at least 2 classes; "
                f"received shape {middle.shape}"
            )
    n, noise, stream = _start(n, noise, seed, len(middle), drawn=1)
    y = np.arange(n) % len(middle)
    return _cloud("blobs", middle[y], y, noise, stream, "Round clouds of points.")


def checkerboard(n: int = 400, noise: float = 0.0, seed: int = 0, cells: int = 4) -> Dataset:
    """Points spread evenly over [-1, 1]² with the colours of a board of `cells` x `cells`.

    `noise` moves the points after they have been coloured.

    >>> checkerboard(n=100, cells=2).classes
    ('0', '1')
    """
    cells = whole(cells, "cells", least=2)
    n, noise, stream = _start(n, noise, seed)
    x = stream.uniform((n, 2), -1.0, 1.0, np.float64)
    y = np.floor((x + 1) / 2 * cells).astype(np.int64).sum(axis=1) % 2
    return _cloud("checkerboard", x, y, noise, stream, f"A board of {cells} x {cells} squares.")


def curve(
    kind: str = "sine",
    n: int = 200,
    noise: float = 0.1,
    seed: int = 0,
    low: float | None = None,
    high: float | None = None,
) -> Dataset:
    """A function of one variable at n evenly spaced points from `low` to `high`, with noise.

    `kind` is one of "sine", "cosine", "step", "abs", "sinc" (sin x / x), "polynomial" (x³ - x),
    "gaussian" (exp -x²) or "sawtooth"; each has an interval of its own unless told.

    >>> data = curve("abs", n=3, noise=0.0)
    >>> data.x.ravel().tolist(), data.y.tolist()
    ([-1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    """
    if kind not in CURVES:
        raise ArgumentError(f"unknown curve {kind!r}", fix=suggest(str(kind), CURVES))
    function, *interval = CURVES[kind]
    low = number(interval[0] if low is None else low, "low")
    high = number(interval[1] if high is None else high, "high")
    if low >= high:
        raise ArgumentError(f"low must be below high; received low={low:g}, high={high:g}")
    n, noise, stream = _start(n, noise, seed, classes=1)
    x = np.linspace(low, high, n)
    y = function(x) + stream.normal((n,), std=noise, dtype=np.float64)
    return Dataset(
        kind,
        x[:, None].astype(np.float32),
        y.astype(np.float32),
        "regression",
        ("x",),
        target_name="y",
        description=f"The function {kind} from {low:g} to {high:g}, noise {noise:g}.",
        licence=LICENCE,
    )


def _numbers(values: ArrayLike) -> Points:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"centers must be rows of numbers, all as long: {error}") from error


def _start(
    n: int, noise: float, seed: int, classes: int = 2, drawn: int = 0
) -> tuple[int, float, Stream]:
    stream = Random(seed).stream("data")
    stream.index = drawn
    return whole(n, "n", least=classes), number(noise, "noise", least=0.0), stream


def _spread(y: NDArray[Any]) -> Points:
    """For each row its place, from 0 to 1, among the rows of its class."""
    place = np.zeros(len(y))
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        place[rows] = np.linspace(0.0, 1.0, len(rows))
    return place


def _cloud(
    name: str, x: Points, y: NDArray[Any], noise: float, stream: Stream, description: str
) -> Dataset:
    x = x + stream.normal(x.shape, std=noise, dtype=np.float64)
    order = stream.permutation(len(x))
    return _classes(name, x[order], y[order], description)


def _classes(
    name: str, x: Points, y: NDArray[Any], description: str, names: Sequence[str] = ()
) -> Dataset:
    labels = tuple(str(label) for label in range(int(y.max()) + 1))
    return Dataset(
        name,
        x.astype(np.float32),
        y,
        "classification",
        tuple(names),
        classes=labels,
        target_name="class",
        description=description,
        licence=LICENCE,
    )
