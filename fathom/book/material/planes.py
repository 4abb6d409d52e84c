"""Planes between two classes: sets with a known margin, and a perceptron written apart.

The perceptron here shares no line with `fathom.models.Perceptron`, so the two are independent
routes to the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fathom.book.evidence import Routes
from fathom.book.figure import Line
from fathom.book.text import T
from fathom.models import linearly_separable

Array = NDArray[Any]


class Planted(NamedTuple):
    """Rows, labels -1 and 1, and the plane w . x + b = 0 (w of length 1) they were drawn around."""

    x: Array
    y: Array
    w: Array
    b: float


def planted(
    rng: np.random.Generator, rows: int, inputs: int, margin: float, b: float = 0.0
) -> Planted:
    """Rows evenly from the unit ball, none nearer to the plane than `margin`, both classes.

    >>> data = planted(np.random.default_rng(0), 50, 2, 0.1)
    >>> bool((data.y * (data.x @ data.w) >= 0.1).all())
    True
    """
    w = rng.standard_normal(inputs)
    w /= np.linalg.norm(w)
    kept = np.zeros((0, inputs))
    while len(kept) < rows:
        draw = rng.standard_normal((4 * rows, inputs))
        draw *= (rng.random(len(draw)) ** (1 / inputs) / np.linalg.norm(draw, axis=1))[:, None]
        kept = np.vstack([kept, draw[np.abs(draw @ w + b) >= margin]])
        if len(kept) >= rows and abs(np.sign(kept[:rows] @ w + b).sum()) == rows:
            kept = kept[:0]
    x = kept[:rows]
    return Planted(x, np.where(x @ w + b > 0, 1.0, -1.0), w, b)


@dataclass(frozen=True)
class Lesson:
    """A perceptron's run: where it ended, (b, w) after each correction, and the rows corrected."""

    w: Array
    b: float
    path: Array
    wrong: tuple[int, ...]
    epochs: int
    converged: bool


def learn(
    x: Any, y: Any, *, rate: float = 1.0, start: Any = None, difference: bool = False,
    levels: tuple[int, int] = (-1, 1), bias: bool = True, epochs: int = 1000,
) -> Lesson:  # fmt: skip
    """The rule as textbooks print it, w += rate y x; or with `difference` rate (y - prediction) x.

    y : -1 and 1. levels : what the difference counts the two classes as. start : (b, w), else 0.

    >>> learn([[0, 0], [0, 1], [1, 0], [1, 1]], [-1, -1, -1, 1]).epochs
    6
    """
    rows, labels = np.asarray(x, np.float64), [int(v) for v in np.asarray(y)]
    state = np.zeros(rows.shape[1] + 1) if start is None else np.array(start, np.float64)
    w, b = state[1:], float(state[0])
    path = [state.copy()]
    wrong: list[int] = []
    for epoch in range(1, epochs + 1):
        before = len(wrong)
        for i, row in enumerate(rows):
            said = 1 if float(row @ w) + b > 0 else -1
            if said == labels[i]:
                continue
            right, wrongly = levels[labels[i] > 0], levels[said > 0]
            gap = right - wrongly if difference else labels[i]
            w = w + rate * gap * row
            b = b + rate * gap * bias
            wrong.append(i)
            path.append(np.append(b, w))
        if len(wrong) == before:
            return Lesson(w, b, np.array(path), tuple(wrong), epoch, True)
    return Lesson(w, b, np.array(path), tuple(wrong), epochs, False)


def found_by_search(x: Any, y: Any, reach: int = 3) -> bool:
    """Whether a unit with whole weights of -reach to reach tells the classes of (n, d) apart.

    For functions of up to three bits that is the same as being linearly separable (their smallest
    whole weights do not exceed 2: Muroga, 1971).

    >>> corners = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> found_by_search(corners, [0, 0, 0, 1]), found_by_search(corners, [0, 1, 1, 0])
    (True, False)
    """
    rows, fires = np.asarray(x, np.float64), np.asarray(y) > 0
    sums = np.array(list(product(range(-reach, reach + 1), repeat=rows.shape[1]))) @ rows.T
    low = np.where(fires, sums, np.inf).min(axis=1)
    high = np.where(fires, -np.inf, sums).max(axis=1)
    return bool((low > high).any())


def separable(x: Any, y: Any) -> Routes:
    """1 where a plane separates, else 0: by a linear program, and by searching whole weights.

    >>> dict(separable([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]))
    {'linear program': 0.0, 'search of weights': 0.0}
    """
    return Routes({
        "linear program": float(bool(linearly_separable(x, y))),
        "search of weights": float(found_by_search(x, y)),
    })  # fmt: skip


def dots(name: T, x: Array) -> Line:
    """The rows of (n, 2) as markers.

    >>> dots(T("corners", "角"), np.eye(2)).points
    True
    """
    return Line(name, x[:, 0], x[:, 1], points=True)
