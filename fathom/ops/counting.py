"""Counting and looking up: distinct values, bins, places in a sorted order."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.batching import spread
from fathom.engine.errors import ArgumentError, DtypeError, ShapeError
from fathom.engine.primitive import TABLE, apply, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import one_axis, operand, whole
from fathom.ops.elementwise import astype
from fathom.ops.index import concrete, take, take_along_axis
from fathom.ops.shape import reshape

__all__ = [
    "bincount",
    "bucketize",
    "histc",
    "searchsorted",
    "unique",
]


def bincount(x: TensorLike, weights: TensorLike | None = None, minlength: int = 0) -> Tensor:
    """How often each number from 0 occurs in a vector of whole numbers, at least `minlength` long.

    With weights, the sum of the weights of each number.

    >>> import fathom
    >>> fathom.bincount(fathom.tensor([0, 2, 2]))
    tensor([1, 0, 2])
    """
    array, least = concrete(x, "bincount"), whole(minlength, "bincount", "minlength")
    if array.dtype.kind not in "iu" and array.size:
        raise DtypeError(f"bincount: counts whole numbers; received {array.dtype}")
    if array.ndim != 1 or (array.size and array.min() < 0) or least < 0:
        raise ArgumentError(
            f"bincount: needs a vector of numbers from 0, and minlength from 0; received shape "
            f"{array.shape} and {minlength}"
        )
    array = array.astype(np.int64)
    if weights is None:
        return Tensor(np.bincount(array, minlength=least))
    w = operand(weights, "bincount")
    if w.shape != array.shape:
        raise ShapeError(f"bincount: {array.shape[0]} numbers, but weights of shape {w.shape}")
    if w.dtype.kind != "f":
        w = astype(w, np.float64)
    size = max(least, int(array.max()) + 1 if array.size else 0)
    return TABLE["put_axis"](w, array, axis=0, shape=(size,))


def histc(x: TensorLike, bins: int = 100, min: float = 0.0, max: float = 0.0) -> Tensor:
    """How many elements fall into each of `bins` equal parts of [min, max]; no gradient.

    With min = max the range of the elements is taken. What lies outside, and nan, is not counted.

    >>> import fathom
    >>> fathom.histc(fathom.tensor([1.0, 2.0, 1.0]), bins=4, min=0, max=3)
    tensor([0., 2., 1., 0.])
    """
    array, count = concrete(x, "histc").reshape(-1), whole(bins, "histc", "bins")
    if array.dtype.kind != "f":
        raise DtypeError(f"histc: needs floats; received {array.dtype}", fix="x.float(), bincount")
    if count < 1 or not min <= max:
        raise ArgumentError(f"histc: needs bins >= 1 and min <= max; received {bins}, {min}, {max}")
    low, high = float(min), float(max)
    if low == high and array.size:
        low, high = float(array.min()), float(array.max())
    if low == high:
        low, high = low - 1, high + 1
    if not np.isfinite(high - low):
        raise ArgumentError(f"histc: the range from {low} to {high} is not finite")
    inside = array[(array >= low) & (array <= high)]
    place = ((inside - low) / (high - low) * count).astype(np.int64)
    return Tensor(np.bincount(np.minimum(place, count - 1), minlength=count).astype(array.dtype))


def unique(
    x: TensorLike,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements in ascending order; with `dim`, the distinct slices along it.

    `return_inverse` adds where each element of x stands among them, `return_counts` how often
    each occurs. The result is sorted whether asked for or not. Of equal elements the gradient
    goes to the first.

    >>> import fathom
    >>> fathom.unique(fathom.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    array, a = concrete(x, "unique"), operand(x, "unique")
    axis = None if dim is None else one_axis(dim, a.ndim, "unique")
    _, first, inverse, counts = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, axis=axis,
        equal_nan=False,
    )  # fmt: skip
    values = take(a, first, axis)
    if not return_inverse and not return_counts:
        return values
    place = inverse.reshape(array.shape if axis is None else -1)
    extras = [(return_inverse, place), (return_counts, counts)]
    return (values, *(Tensor(found.astype(np.int64)) for wanted, found in extras if wanted))


# -- places in a sorted order --------------------------------------------------------------------


def _search_forward(sequence: Any, values: Any, right: bool) -> Any:
    side: Any = "right" if right else "left"
    if sequence.ndim == 1:
        return np.searchsorted(sequence, values, side)
    rows = sequence.reshape(-1, sequence.shape[-1])
    wanted = values.reshape(len(rows), -1)
    found = [np.searchsorted(s, v, side) for s, v in zip(rows, wanted, strict=True)]
    return np.array(found, np.int64).reshape(values.shape)


def _search_batch(values: Any, flags: Any, params: Any, size: int) -> Any:
    sequence, wanted = values
    if not flags[0] and sequence.ndim == 1:
        return apply(_search, sequence, wanted, **params)
    sequence, wanted = (spread(v, f, size) for v, f in zip(values, flags, strict=True))
    if sequence.ndim > 2:
        return apply(_search, sequence, wanted, **params)
    flat = apply(_search, sequence, reshape(wanted, (size, -1)), **params)
    return reshape(flat, wanted.shape)


_search = general(
    "searchsorted",
    _search_forward,
    shape=lambda sequence, values, right: values.shape,
    batch=_search_batch,
)


def searchsorted(
    sorted_sequence: TensorLike,
    values: TensorLike,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: TensorLike | None = None,
) -> Tensor:
    """Where each value would go into a sorted sequence: before its equals, or behind (`right`).

    The sequence is a vector, or has the leading axes of the values and is searched row by row.
    `sorter` holds the indices that sort it.

    >>> import fathom
    >>> fathom.searchsorted(fathom.tensor([1.0, 3.0, 5.0]), fathom.tensor([3.0, 6.0]))
    tensor([1, 3])
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ArgumentError(f"searchsorted: side is 'left' or 'right'; received {side!r}")
    sequence = operand(sorted_sequence, "searchsorted")
    wanted = operand(values, "searchsorted")
    if sorter is not None:
        sequence = take_along_axis(sequence, sorter, -1)
    if not sequence.ndim or (sequence.ndim > 1 and sequence.shape[:-1] != wanted.shape[:-1]):
        raise ShapeError(
            f"searchsorted: the sequence is a vector, or shares all axes but the last with the "
            f"values; received {sequence.shape} and {wanted.shape}"
        )
    found: Any = apply(_search, sequence, wanted, right=right or side == "right")
    return astype(found, np.int32) if out_int32 else found


def bucketize(
    x: TensorLike, boundaries: TensorLike, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """Into which of the buckets between sorted boundaries each element falls.

    A boundary itself belongs to the bucket below it, with `right` to the one above.

    >>> import fathom
    >>> fathom.bucketize(fathom.tensor([0.5, 1.0, 7.0]), fathom.tensor([1.0, 5.0]))
    tensor([0, 0, 2])
    """
    edges = operand(boundaries, "bucketize")
    if edges.ndim != 1:
        raise ShapeError(f"bucketize: the boundaries are a vector; received shape {edges.shape}")
    return searchsorted(edges, x, out_int32=out_int32, right=right)
