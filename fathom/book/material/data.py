"""Data that several questions train on, small and ready."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom.data.splitting import split_rows

Array = NDArray[Any]


class Parts(NamedTuple):
    """Rows to learn from and rows to be judged by."""

    x: Array
    y: Array
    test_x: Array
    test_y: Array


@cache
def digits(test: float = 0.3, seed: int = 0) -> Parts:
    """The 8 x 8 digits, scaled to [0, 1]: (1258, 64) float32 and (539, 64).

    >>> digits().x.shape
    (1258, 64)
    """
    data = fathom.data.load("digits")
    rows = split_rows(len(data.x), data.y, validation=0.0, test=test, seed=seed)
    x, y = (data.x / 16.0).astype(np.float32), np.asarray(data.y, np.int64)
    return Parts(x[rows.train], y[rows.train], x[rows.test], y[rows.test])


def accuracy(model: Any, x: Array, y: Array) -> float:
    """Share of rows whose largest output is the label's."""
    with fathom.no_grad():
        said = model.eval()(fathom.tensor(x)).value()
    return float((said.argmax(axis=1) == y).mean())
