"""Indexing: picking elements, and its transpose, adding into places."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import AxisError, DtypeError, ShapeError
from fathom.engine.primitive import TABLE, Primitive, apply, linear
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import one_axis, torch_names

__all__ = [
    "getitem",
    "take_along_axis",
]


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(p, (np.ndarray, list)) for p in parts)


def _pick(x: Any, index: Any) -> Any:
    return x[index]


def _place(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, g.dtype)
    if _is_basic(index):
        out[index] = g
    else:
        np.add.at(out, index, g)
    return out


_getitem: Primitive = linear(
    "getitem",
    _pick,
    (lambda g, out, x, index: TABLE["putitem"](g, index=index, shape=x.shape),),
    view=True,
    batch="axis",
)
linear("putitem", _place, (lambda g, out, x, index, shape: apply(_getitem, g, index=index),))


def _plain_index(index: Any) -> Any:
    """An index without tensors in it."""
    if isinstance(index, tuple):
        return tuple(_plain_index(i) for i in index)
    if isinstance(index, Tensor):
        index = index.value()
    if isinstance(index, list):
        index = np.asarray(index)
    if isinstance(index, np.ndarray) and index.dtype.kind not in "iub":
        if index.size:
            raise DtypeError(f"an index holds whole numbers or booleans; received {index.dtype}")
        index = index.astype(np.int64)
    return index


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index], as in NumPy: numbers, slices, ..., None, integer and boolean arrays."""
    try:
        return apply(_getitem, x, index=_plain_index(index))
    except (ShapeError, DtypeError, IndexError) as error:
        if isinstance(error, AxisError):
            raise
        reason = getattr(error, "message", str(error)).removeprefix("getitem: ")
        raise AxisError(
            f"x[{index!r}] on shape {x.shape}: {reason.split(' (arguments')[0]}"
        ) from None


_take_along: Primitive = linear(
    "take_along_axis",
    lambda x, index, axis: np.take_along_axis(x, index, axis),
    (
        lambda g, out, x, index, axis: TABLE["put_along_axis"](g, index, axis=axis, shape=x.shape),
        None,
    ),
    saves="in",
    batch="axis",
)


def _add_along(g: Any, index: Any, axis: int, shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, g.dtype)
    where = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    where[axis] = index
    np.add.at(out, tuple(where), g)
    return out


linear(
    "put_along_axis",
    _add_along,
    (lambda g, out, x, index, axis, shape: apply(_take_along, g, index, axis=axis), None),
    saves="in",
    batch="axis",
)


@torch_names
def take_along_axis(x: Tensor, indices: TensorLike, axis: int) -> Tensor:
    """Elements of x at `indices` along `axis`; the other axes go along (PyTorch's gather)."""
    index = _plain_index(indices)
    return apply(_take_along, x, index, axis=one_axis(axis, x.ndim, "take_along_axis"))
