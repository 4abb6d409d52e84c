"""Several values into one place: scatter_reduce, and index_put.

Elements that fall into one place get a lane each; the product, maximum or minimum over the lanes
then has derivatives of every order, exact at zeros, with ties sharing evenly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import DtypeError, ShapeError
from fathom.engine.primitive import TABLE
from fathom.engine.tensor import Array, Tensor, TensorLike
from fathom.ops.axes import operand, torch_names
from fathom.ops.checks import one_of
from fathom.ops.cumulate import prod
from fathom.ops.elementwise import where
from fathom.ops.index import along, concrete
from fathom.ops.reduce import amax, amin
from fathom.ops.rounding import floor_divide
from fathom.ops.shape import concatenate, unsqueeze
from fathom.ops.writing import At, prepare, scatter_add

__all__ = ["index_put", "scatter_reduce"]

_WAYS = {"prod": prod, "amax": amax, "amin": amin}


def _ranks(places: Array) -> Array:
    """For every element how many before it fall into the same place."""
    order = places.argsort(kind="stable")
    ordered = places[order]
    fresh = np.ones(len(places), bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    counter = np.arange(len(places))
    ranks = np.empty(len(places), np.int64)
    ranks[order] = counter - np.maximum.accumulate(np.where(fresh, counter, 0))
    return ranks


def _neutral(reduce: str, dtype: np.dtype[Any]) -> Any:
    """What changes nothing under a product, a maximum or a minimum."""
    if reduce == "prod":
        return 1
    if dtype.kind == "f":
        return -np.inf if reduce == "amax" else np.inf
    if dtype.kind == "b":
        return reduce == "amin"
    return np.iinfo(dtype).min if reduce == "amax" else np.iinfo(dtype).max


def _in_lanes(x: Any, source: Any, index: Array, axis: int, reduce: str, count: Any) -> Any:
    """x and whatever falls into each of its places, one above the other."""
    grid = np.broadcast_arrays(*along(index + x.shape[axis] * (index < 0), axis))
    flat = np.ravel_multi_index(tuple(i.reshape(-1) for i in grid), x.shape)
    ranks = _ranks(flat).reshape(index.shape)
    lanes = np.full((int(count.max(initial=0)), *x.shape), _neutral(reduce, x.dtype), x.dtype)
    filled = At(Tensor(lanes))[(ranks, *grid)].set(source)
    return _WAYS[reduce](concatenate([unsqueeze(x, 0), filled], 0), 0)


@torch_names
def scatter_reduce(
    x: TensorLike, axis: int, index: TensorLike, src: TensorLike, reduce: str, *,
    include_self: bool = True,
) -> Tensor:  # fmt: skip
    """x with the sum, prod, mean, amax or amin of all src[i, j] that go to out[index[i, j], j].

    That is along axis 0, and alike for others. `include_self` lets the elements of x take part;
    without it they stay only where nothing is written.

    >>> import fathom
    >>> source = fathom.tensor([1.0, 2.0, 3.0])
    >>> fathom.scatter_reduce(fathom.ones(2), 0, [0, 0, 1], source, "prod")
    tensor([2., 3.])
    """
    name = "scatter_reduce"
    one_of(name, "reduce", reduce, ("sum", "prod", "mean", "amax", "amin"))
    a, place, chosen, source = prepare(name, x, axis, concrete(index, name), src)
    if not a.ndim:
        raise ShapeError(f"{name}: a single number has no axis", fix="x.reshape(1)")
    if isinstance(source, (int, float)):
        source = np.full(chosen.shape, source, a.dtype)
    ones = np.ones(chosen.shape, np.int64)
    count = TABLE["put_along_axis"].forward(ones, chosen, axis=place, shape=tuple(a.shape))
    if not include_self:
        blank = 0 if reduce in ("sum", "mean") else _neutral(reduce, a.dtype)
        a = where(count > 0, np.asarray(blank, a.dtype), a)
    if reduce not in ("sum", "mean"):
        return _in_lanes(a, source, np.asarray(chosen), place, reduce, count)
    total: Any = scatter_add(a, place, chosen, source)
    if reduce == "sum":
        return total
    share = np.maximum(count + include_self, 1).astype(a.dtype)
    return total / share if a.dtype.kind == "f" else floor_divide(total, share)


def index_put(x: TensorLike, indices: Any, values: TensorLike, accumulate: bool = False) -> Tensor:
    """x with x[indices] = values, or with the values added there (`accumulate`).

    `indices` is a tuple, one for each axis; None takes a whole axis.

    >>> import fathom
    >>> x = fathom.zeros(3)
    >>> fathom.index_put(x, (fathom.tensor([0, 0]),), fathom.ones(2), accumulate=True)
    tensor([2., 0., 0.])
    """
    a = operand(x, "index_put")
    if not isinstance(indices, (tuple, list)):
        raise DtypeError(
            f"index_put: indices is a tuple of tensors; received {type(indices).__name__}",
            fix="one index for each axis: (rows, columns)",
        )
    place = At(a)[tuple(slice(None) if i is None else i for i in indices)]
    return place.add(values) if accumulate else place.set(values)
