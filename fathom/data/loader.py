"""`DataLoader`: arrays in batches, one gather per array and batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.data._checks import counted, whole
from fathom.engine.errors import ArgumentError, DataError
from fathom.engine.random import Random, current

Array = NDArray[Any]
Inputs = Array | tuple[Array, ...]


class DataLoader:
    """Batches of rows, in order or freshly shuffled at each pass.

    Yields `(x, y)` with up to `batch_size` rows, or `(x, y, w)` when `sample_weight` is given;
    `y` is None if there are no targets, and `x` is a tuple if a tuple of arrays was given. In
    order, the batches are views of the arrays; shuffled, contiguous copies. The order of a
    pass is the next draw of the stream "shuffle" of `rng` (the current `Random` without one).

    Raises `DataError` when the arrays have different lengths or no rows, `ArgumentError` for an
    unusable `batch_size`.

    >>> loader = DataLoader(np.arange(5), np.arange(5) * 10, batch_size=2)
    >>> [(x.tolist(), y.tolist()) for x, y in loader]
    [([0, 1], [0, 10]), ([2, 3], [20, 30]), ([4], [40])]
    >>> len(loader), len(DataLoader(np.arange(5), batch_size=2, drop_last=True))
    (3, 2)
    """

    def __init__(
        self,
        x: Inputs,
        y: Array | None = None,
        batch_size: int = 32,
        shuffle: bool = False,
        drop_last: bool = False,
        rng: Random | None = None,
        sample_weight: Array | None = None,
    ) -> None:
        self.batch_size = whole(batch_size, "batch_size")
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        if rng is not None and not isinstance(rng, Random):
            raise ArgumentError(
                f"rng must be a Random; received {rng!r}", fix="rng=Random(0), with 0 as the seed"
            )
        self.rng = rng
        self.x: Inputs = tuple(map(np.asarray, x)) if isinstance(x, tuple) else np.asarray(x)
        self.y = None if y is None else np.asarray(y)
        self.sample_weight = None if sample_weight is None else np.asarray(sample_weight)
        self.rows = _common_length(self._named())
        if len(self) == 0:
            raise ArgumentError(
                f"drop_last leaves no batch: {counted(self.rows, 'row')}, batch_size {batch_size}",
                fix=f"take batch_size <= {self.rows}, or drop_last=False",
            )

    def _named(self) -> dict[str, Array]:
        named: dict[str, Array] = {}
        if isinstance(self.x, tuple):
            named |= {f"x[{i}]": array for i, array in enumerate(self.x)}
        else:
            named["x"] = self.x
        extra = {"y": self.y, "sample_weight": self.sample_weight}
        return named | {name: array for name, array in extra.items() if array is not None}

    def __len__(self) -> int:
        """Batches in one pass."""
        full, rest = divmod(self.rows, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        order = None
        if self.shuffle:
            rng = current() if self.rng is None else self.rng
            order = rng.stream("shuffle").permutation(self.rows)
        for i in range(len(self)):
            rows = slice(i * self.batch_size, min((i + 1) * self.batch_size, self.rows))
            yield self._batch(rows if order is None else order[rows])

    def _batch(self, rows: slice | NDArray[np.int64]) -> tuple[Any, ...]:
        x: Inputs
        if isinstance(self.x, tuple):
            x = tuple(_take(array, rows) for array in self.x)
        else:
            x = _take(self.x, rows)
        y = None if self.y is None else _take(self.y, rows)
        if self.sample_weight is None:
            return x, y
        return x, y, _take(self.sample_weight, rows)

    def __repr__(self) -> str:
        order = "shuffled" if self.shuffle else "in order"
        return f"DataLoader({self.rows} rows, {len(self)} batches of {self.batch_size}, {order})"


def _take(array: Array, rows: slice | NDArray[np.int64]) -> Array:
    return array[rows] if isinstance(rows, slice) else np.take(array, rows, axis=0)


def _common_length(named: dict[str, Array]) -> int:
    if not named:
        raise DataError("x is an empty tuple: there is nothing to load")
    for name, array in named.items():
        if array.ndim == 0:
            raise DataError(f"{name} is a single value; expected an array with a row per example")
    first, rows = next((name, len(array)) for name, array in named.items())
    for name, array in named.items():
        if len(array) != rows:
            raise DataError(f"{first} has {counted(rows, 'row')}, but {name} has {len(array)}")
    if rows == 0:
        raise DataError(f"{first} has no rows: there is nothing to load")
    return rows
