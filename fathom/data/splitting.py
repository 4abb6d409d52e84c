"""Which rows go to training, validation and test: seeded, stratified, exact in number."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fathom.data._checks import counted, number
from fathom.engine.errors import ArgumentError, DataError
from fathom.engine.random import Random

Rows = NDArray[np.int64]
T = TypeVar("T")
PARTS = ("train", "validation", "test")


class Splits(NamedTuple, Generic[T]):
    """The three parts of a data set; a part that was not asked for has no rows.

    >>> Splits("a", "b", "c").test
    'c'
    """

    train: T
    validation: T
    test: T


def split_rows(
    n: int,
    labels: NDArray[Any] | None,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> Splits[Rows]:
    """Row numbers of the three parts: disjoint, together all n, in shuffled order.

    With `labels` (one per row) every class is divided in the same proportions: its count in
    each part differs from the exact share by less than one row. The sizes of the parts come
    from the fractions by largest remainder, and a fraction above 0 gets at least one row.

    Raises `ArgumentError` for fractions below 0 or with a sum of 1 or more, and `DataError`
    when there are fewer rows than parts.

    >>> parts = split_rows(10, None, validation=0.1, test=0.2, seed=0)
    >>> [len(part) for part in parts]
    [7, 1, 2]
    >>> sorted(np.concatenate(parts).tolist()) == list(range(10))
    True
    """
    sizes = part_sizes(n, validation, test)
    order = Random(seed).stream("split").permutation(n)
    if labels is None:
        train, held, rest = np.split(order, np.cumsum(sizes)[:2])
        return Splits(train, held, rest)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = apportion(counts, sizes)  # (classes, 3)
    by_class = order[np.argsort(codes[order], kind="stable")]
    part = np.empty(n, np.int64)
    part[by_class] = np.repeat(np.tile(np.arange(3), len(counts)), shares.ravel())
    train, held, rest = (order[part[order] == i] for i in range(3))
    return Splits(train, held, rest)


def part_sizes(n: int, validation: float, test: float) -> NDArray[np.int64]:
    """Rows in (train, validation, test); they add up to n.

    >>> part_sizes(442, 0.1, 0.2).tolist()
    [310, 44, 88]
    """
    validation = number(validation, "validation", least=0.0)
    test = number(test, "test", least=0.0)
    if validation + test >= 1:
        raise ArgumentError(
            f"validation and test must leave rows to train on; received validation={validation:g}, "
            f"test={test:g}, which is {validation + test:g} of them",
            fix="take fractions with a sum below 1, such as validation=0.1, test=0.2",
        )
    fractions = np.array([1 - validation - test, validation, test])
    wanted = int((fractions > 0).sum())
    if n < wanted:
        names = " + ".join(name for name, f in zip(PARTS, fractions, strict=True) if f > 0)
        raise DataError(
            f"{counted(n, 'row')} cannot be split into {wanted} parts ({names})",
            fix="give more rows, or set validation=0 or test=0",
        )
    sizes = _largest_remainder(fractions * n, n)
    while ((sizes == 0) & (fractions > 0)).any():
        sizes[np.argmax((sizes == 0) & (fractions > 0))] += 1
        sizes[np.argmax(sizes)] -= 1
    return sizes


def _largest_remainder(quotas: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    quotas = np.round(quotas, 9)  # 0.29 * 100 is 28.999999999999996
    sizes = np.floor(quotas).astype(np.int64)
    order = np.argsort(np.round(sizes - quotas, 9), kind="stable")  # a tie goes to training
    sizes[order[: total - sizes.sum()]] += 1
    return sizes


def apportion(counts: Rows, sizes: Rows) -> Rows:
    """Divide classes of `counts` rows over parts of `sizes` rows: (classes, parts).

    Row sums are `counts`, column sums are `sizes`, and each entry is the exact share rounded
    down or up ("controlled rounding", Cox 1987): every class first rounds up where its
    remainders are largest, then single rows move between parts until the sizes fit.

    >>> apportion(np.array([50, 50, 50]), np.array([105, 15, 30])).tolist()
    [[35, 5, 10], [35, 5, 10], [35, 5, 10]]
    """
    n = int(counts.sum())
    product = counts[:, None] * sizes[None, :]
    floor, remainder = product // n, product % n
    places = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1)
    up = places < remainder.sum(axis=1, keepdims=True) // n
    excess = (floor + up).sum(axis=0) - sizes
    while excess.any():
        for source, target in _path(up, remainder, excess):
            row = _cheapest(up, remainder, source, target)
            up[row, source], up[row, target] = False, True
            excess[source] -= 1
            excess[target] += 1
    return np.asarray(floor + up, np.int64)


def _movable(up: NDArray[np.bool_], remainder: Rows, a: int, b: int) -> NDArray[np.bool_]:
    return up[:, a] & ~up[:, b] & (remainder[:, b] > 0)


def _cheapest(up: NDArray[np.bool_], remainder: Rows, a: int, b: int) -> int:
    rows = np.flatnonzero(_movable(up, remainder, a, b))
    return int(rows[np.argmin(remainder[rows, a] - remainder[rows, b])])


def _path(up: NDArray[np.bool_], remainder: Rows, excess: Rows) -> list[tuple[int, int]]:
    """The moves, one or by way of the third part, that take a row from too full to too empty."""
    pairs = [(a, b) for a in range(3) for b in range(3) if excess[a] > 0 > excess[b]]
    routes = [[(a, b)] for a, b in pairs] + [[(a, 3 - a - b), (3 - a - b, b)] for a, b in pairs]
    for route in routes:
        if all(_movable(up, remainder, a, b).any() for a, b in route):
            return route
    raise DataError("the classes could not be divided over the parts")  # pragma: no cover
