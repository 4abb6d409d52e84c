"""Indexing: picking elements, and its transpose, adding into places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fathom.engine.batching import Batched, spread
from fathom.engine.errors import ArgumentError, AxisError, DtypeError, GraphError, ShapeError
from fathom.engine.modes import tracing
from fathom.engine.primitive import TABLE, Primitive, apply, linear
from fathom.engine.tensor import Array, Tensor, TensorLike
from fathom.ops.axes import one_axis, operand, torch_names
from fathom.ops.checks import on_arrays
from fathom.ops.shape import broadcast_to, permute, reshape, unsqueeze

__all__ = [
    "argwhere",
    "gather",
    "getitem",
    "index_select",
    "masked_select",
    "narrow",
    "nonzero",
    "one_hot",
    "select",
    "take",
    "take_along_axis",
    "take_along_dim",
]


class ValuesIndices(NamedTuple):
    """What `sort`, `topk` or `max(dim=)` return: the values, and where they were found."""

    values: Any
    indices: Any


# -- x[index] ------------------------------------------------------------------------------------


def parts_of(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _is_unique(index: Any) -> bool:
    """Whether an index names no element twice: slices, numbers and masks cannot."""
    return not any(
        isinstance(p, list) or (isinstance(p, np.ndarray) and p.dtype.kind != "b")
        for p in parts_of(index)
    )


def _pick(x: Any, index: Any) -> Any:
    try:
        return x[index]
    except IndexError as error:
        raise AxisError(f"x[{_shown(index)}] on shape {x.shape}: {error}") from None


def _shown(index: Any) -> str:
    """An index as the user wrote it, arrays by their shape."""
    texts = []
    for p in parts_of(index):
        if isinstance(p, slice):
            ends = ["" if v is None else str(v) for v in (p.start, p.stop, p.step)]
            texts.append(":".join(ends[:2] if p.step is None else ends))
        elif isinstance(p, np.ndarray) and p.size > 8:
            texts.append(f"<{p.dtype} array of shape {p.shape}>")
        else:
            texts.append("..." if p is Ellipsis else str(getattr(p, "tolist", lambda p=p: p)()))
    return ", ".join(texts)


def _place(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, g.dtype)
    if _is_unique(index):
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
    shape=lambda x, index: picked_shape(x.shape, index),
)
linear(
    "putitem",
    _place,
    (lambda g, out, x, index, shape: apply(_getitem, g, index=index),),
    batch="axis",
    shape=lambda g, index, shape: shape,
)


def picked_shape(shape: tuple[int, ...], index: Any) -> tuple[int, ...]:
    """The shape of x[index], without touching any memory."""
    out: tuple[int, ...] = _pick(np.broadcast_to(np.empty(()), shape), index).shape
    return out


def is_batched(x: Any) -> bool:
    """Whether a tensor stands for one row of a batch, at some level."""
    while isinstance(x, Tensor) and not x.traced:
        if isinstance(x, Batched):
            return True
        x = x.data
    return False


def plain(index: Any) -> Any:
    """The array below a tensor that serves as an index; under trace, its stand-in."""
    if isinstance(index, Tensor):
        if (tracer := tracing()) is not None:
            tracer.adopt(index)
        index = index.storage()
    return index


def plain_index(index: Any, name: str = "x[index]") -> Any:
    """An index without tensors in it."""
    if isinstance(index, tuple):
        return tuple(plain_index(i, name) for i in index)
    if isinstance(index, Tensor):
        if is_batched(index):
            raise GraphError(
                f"{name}: under vmap every row has an index of its own here",
                fix="use take_along_axis, or x[index] with one tensor of whole numbers",
            )
        index = plain(index)
    if isinstance(index, (list, range)):
        index = np.asarray(index)
    held = isinstance(index, (np.ndarray, Tensor))
    if held and index.dtype.kind not in "iub":
        if index.size:
            raise DtypeError(
                f"{name}: an index holds whole numbers or booleans; received {index.dtype}",
                fix="index.astype(fathom.int64)",
            )
        index = index.astype(np.int64)
    if not held and not _is_basic(index):
        raise DtypeError(f"{name}: {index!r} is not an index")
    return index


def _is_basic(part: Any) -> bool:
    return part is None or part is Ellipsis or isinstance(part, slice) or hasattr(part, "__index__")


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index], as in NumPy: numbers, slices, ..., None, integer and boolean arrays.

    In x[0, :, [1, 2]] the axis of the array comes first, as in NumPy; PyTorch puts it last.

    A result of slices and numbers shares the memory of x. Under `vmap` an index may differ from
    row to row if it is one tensor of whole numbers, alone or behind full slices.

    >>> import fathom
    >>> x = fathom.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> x[:, 1], x[x > 1.5]
    (tensor([2., 4.]), tensor([2., 3., 4.]))
    """
    parts = parts_of(index)
    if is_batched(parts[-1]) and all(p == slice(None) for p in parts[:-1]):
        if parts[-1].dtype.kind in "iu":
            return take(x, parts[-1], axis=len(parts) - 1)
    return apply(_getitem, x, index=plain_index(index))


# -- along one axis ------------------------------------------------------------------------------


def whole_index(index: Any, name: str) -> Any:
    """An argument that holds indices: whole numbers, as an array, or a tensor under vmap."""
    if not is_batched(index):
        index = operand(index, name)
        index = plain(index)
    if index.dtype.kind not in "iu":
        if index.size:
            raise DtypeError(
                f"{name}: an index holds whole numbers; received {index.dtype}",
                fix="index.astype(fathom.int64)",
            )
        index = index.astype(np.int64)
    return index


def refuse_index(name: str, index: Array, axis: int, shape: Sequence[int]) -> AxisError:
    """The error for an index that points outside, with its position."""
    size = shape[axis]
    bad = (index < -size) | (index >= size)
    at = np.unravel_index(int(bad.argmax()), index.shape)
    where = tuple(int(i) for i in at)
    return AxisError(
        f"{name}: index {int(index[at])} at position {where} is out of range for axis {axis} of "
        f"shape {tuple(shape)}; valid are {-size} to {size - 1}"
    )


def _take_forward(x: Any, index: Any, axis: int) -> Any:
    try:
        return x.take(index, axis=axis)
    except IndexError:
        raise refuse_index("take", np.asarray(index), axis, x.shape) from None


def _put_forward(g: Any, index: Any, axis: int, shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, g.dtype)
    np.add.at(out, (slice(None),) * axis + (index,), g)
    return out


def _move(x: Any, start: int, count: int, to: int) -> Any:
    """`count` neighbouring axes moved so that they begin at `to` (both ways)."""
    order = [i for i in range(x.ndim) if not start <= i < start + count]
    order[to:to] = range(start, start + count)
    return permute(x, order)


def _offset(index: Any, rows: int, n: int) -> Any:
    """Indices into rows of n laid end to end, each row's own."""
    index = index + n * (index < 0)
    first = (np.arange(rows) * n).reshape((rows,) + (1,) * (index.ndim - 1))
    return reshape(index + first, -1)


def _take_batch(values: Any, flags: Any, params: Any, size: int) -> Any:
    (x, index), axis = values, params["axis"]
    if not flags[1]:
        return apply(_take, x, index, axis=axis + 1)
    x = _move(spread(x, flags[0], size), axis + 1, 1, 1)
    n, rest = x.shape[1], tuple(x.shape[2:])
    flat = apply(_take, reshape(x, (size * n, *rest)), _offset(index, size, n), axis=0)
    return _move(reshape(flat, (*index.shape, *rest)), 1, index.ndim - 1, axis + 1)


def _put_batch(values: Any, flags: Any, params: Any, size: int) -> Any:
    (g, index), axis, shape = values, params["axis"], params["shape"]
    g = spread(g, flags[0], size)
    if not flags[1]:
        return apply(_put, g, index, axis=axis + 1, shape=(size, *shape))
    g = _move(g, axis + 1, index.ndim - 1, 1)
    n, rest = shape[axis], tuple(g.shape[index.ndim :])
    flat = apply(
        _put, reshape(g, (-1, *rest)), _offset(index, size, n), axis=0, shape=(size * n, *rest)
    )
    return _move(reshape(flat, (size, n, *rest)), 1, 1, axis + 1)


_take: Primitive = linear(
    "take",
    _take_forward,
    (lambda g, out, x, index, axis: apply(_put, g, index, axis=axis, shape=x.shape), None),
    saves="other",
    batch=_take_batch,
    shape=lambda x, index, axis: (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]),
)
_put: Primitive = linear(
    "put_axis",
    _put_forward,
    (lambda g, out, x, index, axis, shape: apply(_take, g, index, axis=axis), None),
    saves="other",
    batch=_put_batch,
    shape=lambda g, index, axis, shape: shape,
)


@torch_names
def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Elements (or slices along `axis`) at `indices`, which may have any shape.

    Without an axis, x is flattened first (as in PyTorch and NumPy).

    >>> import fathom
    >>> fathom.take(fathom.tensor([10.0, 20.0, 30.0]), [[2, 0], [0, 1]])
    tensor([[30., 10.],
            [10., 20.]])
    """
    x, index = operand(x, "take"), whole_index(indices, "take")
    if axis is None:
        x, axis = reshape(x, -1), 0
    where = one_axis(axis, x.ndim, "take")
    if not x.ndim:
        x = reshape(x, 1)
    return apply(_take, x, index, axis=where)


@torch_names
def index_select(x: TensorLike, axis: int, index: TensorLike) -> Tensor:
    """The slices of x along `axis` that a vector of indices names."""
    chosen = whole_index(index, "index_select")
    if chosen.ndim > 1:
        raise ShapeError(f"index_select: the index is a vector; received shape {chosen.shape}")
    return take(x, chosen.reshape((-1,)), axis)


@torch_names
def select(x: TensorLike, axis: int, index: int) -> Tensor:
    """One slice along `axis`, which disappears: x[:, index] for axis 1."""
    x = operand(x, "select")
    return getitem(x, (slice(None),) * one_axis(axis, x.ndim, "select") + (index,))


@torch_names
def narrow(x: TensorLike, axis: int, start: int, length: int) -> Tensor:
    """`length` places along `axis` from `start` on."""
    x = operand(x, "narrow")
    where = one_axis(axis, x.ndim, "narrow")
    n = x.shape[where] if x.ndim else 0
    first = start + n if start < 0 else start
    if not (0 <= first <= n and 0 <= length <= n - first):
        raise AxisError(
            f"narrow: {length} places from {start} on do not lie in axis {where} of shape {x.shape}"
        )
    return getitem(x, (slice(None),) * where + (slice(first, first + length),))


# -- gather --------------------------------------------------------------------------------------


def along(index: Any, axis: int) -> tuple[Any, ...]:
    """The full index of NumPy for an index along one axis."""
    ndim = index.ndim
    where: list[Any] = [
        np.arange(n).reshape((1,) * k + (n,) + (1,) * (ndim - 1 - k))
        for k, n in enumerate(index.shape)
    ]
    where[axis] = index
    return tuple(where)


def _gather_forward(x: Any, index: Any, axis: int, unique: bool = False) -> Any:
    _gather_shape(x, index, axis)
    try:
        return x[along(index, axis)]
    except IndexError:
        raise refuse_index("gather", index, axis, x.shape) from None


def _add_along(g: Any, index: Any, axis: int, shape: Any, unique: bool = False) -> Any:
    out = np.zeros(shape, g.dtype)
    try:
        if unique:
            out[along(index, axis)] = g
        else:
            np.add.at(out, along(index, axis), g)
    except IndexError:
        raise refuse_index("scatter", index, axis, shape) from None
    return out


def _gather_shape(x: Any, index: Any, axis: int, unique: bool = False) -> tuple[int, ...]:
    check_fit("gather", x.shape, index.shape, axis)
    return tuple(index.shape)


def check_fit(name: str, shape: Any, index: Any, axis: int) -> None:
    """An index along an axis has as many axes, and is nowhere else longer."""
    if len(index) != len(shape):
        raise ShapeError(
            f"{name}: the index needs as many axes as the tensor; received {tuple(index)} for "
            f"shape {tuple(shape)}"
        )
    for k, (n, m) in enumerate(zip(index, shape, strict=True)):
        if n > m and k != axis:
            raise ShapeError(
                f"{name} along axis {axis}: the index {tuple(index)} is longer than the tensor "
                f"{tuple(shape)} in axis {k}"
            )


_take_along: Primitive = linear(
    "take_along_axis",
    _gather_forward,
    (
        lambda g, out, x, index, axis, unique=False: TABLE["put_along_axis"](
            g, index, axis=axis, shape=x.shape, unique=unique
        ),
        None,
    ),
    saves="other",
    batch="axis",
    shape=_gather_shape,
)
linear(
    "put_along_axis",
    _add_along,
    (
        lambda g, out, x, index, axis, shape, unique=False: apply(
            _take_along, g, index, axis=axis, unique=unique
        ),
        None,
    ),
    saves="other",
    batch="axis",
    shape=lambda g, index, axis, shape, unique=False: shape,
)


@torch_names
def gather(x: TensorLike, axis: int, index: TensorLike) -> Tensor:
    """out[i, j] = x[i, index[i, j]] along axis 1, and alike for others (PyTorch's gather).

    The index has as many axes as x, and nothing is broadcast: it may be shorter than x.

    >>> import fathom
    >>> fathom.gather(fathom.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, [[0], [1]])
    tensor([[1.],
            [4.]])
    """
    x, chosen = operand(x, "gather"), whole_index(index, "gather")
    where = one_axis(axis, x.ndim, "gather")
    if not x.ndim:
        return reshape(gather(reshape(x, 1), 0, chosen.reshape((-1,))), tuple(chosen.shape))
    return apply(_take_along, x, chosen, axis=where)


@torch_names
def take_along_axis(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Elements of x at `indices` along `axis`; the other axes broadcast (NumPy's name)."""
    x, index = operand(x, "take_along_axis"), whole_index(indices, "take_along_axis")
    if axis is None:
        x, index, axis = reshape(x, -1), index.reshape((-1,)), 0
    where = one_axis(axis, x.ndim, "take_along_axis")
    if index.ndim != x.ndim:
        check_fit("take_along_axis", x.shape, index.shape, where)
    try:
        shape = list(np.broadcast_shapes(
            (*x.shape[:where], 1, *x.shape[where + 1 :]),
            (*index.shape[:where], 1, *index.shape[where + 1 :]),
        ))  # fmt: skip
    except ValueError:
        raise ShapeError(
            f"take_along_axis: shapes {x.shape} and {index.shape} do not broadcast beside axis "
            f"{where}"
        ) from None
    for n, value in ((x.shape[where], "x"), (index.shape[where], "index")):
        shape[where] = n
        if value == "x":
            x = x if x.shape == tuple(shape) else broadcast_to(x, tuple(shape))
        else:
            index = index if index.shape == tuple(shape) else broadcast_to(index, tuple(shape))
    return apply(_take_along, x, index, axis=where)


take_along_dim = take_along_axis


def pick_along(x: Any, index: Any, axis: int, keepdims: bool) -> tuple[Any, Any]:
    """The values at distinct indices along an axis, and the indices, with or without the axis."""
    if not x.ndim:
        return x, index
    if not is_batched(index):
        index = plain(index)
    values: Any = apply(_take_along, x, index, axis=axis, unique=True)
    if not keepdims and index.shape[axis] == 1:
        rest = (*index.shape[:axis], *index.shape[axis + 1 :])
        values, index = reshape(values, rest), reshape(index, rest)
    array = not isinstance(index, Tensor) or index.traced
    if isinstance(values, Tensor) and not values.traced and array:
        index = Tensor(index)
    return values, index


# -- places --------------------------------------------------------------------------------------


def concrete(x: Any, name: str) -> Array:
    """The array of a tensor whose values decide the shape of the result."""
    if is_batched(x):
        raise GraphError(
            f"{name}: under vmap the shape of the result would differ from row to row",
            fix="use where or masked_fill, which keep the shape",
        )
    x = operand(x, name)
    array: Array = x.value() if isinstance(x, Tensor) else x
    return array


def nonzero(x: TensorLike, as_tuple: bool = False) -> Any:
    """The places of the elements that are not zero: (n, ndim), or a tuple of one vector an axis.

    >>> import fathom
    >>> fathom.nonzero(fathom.tensor([[0.0, 5.0], [7.0, 0.0]]))
    tensor([[0, 1],
            [1, 0]])
    """
    array = concrete(x, "nonzero")
    found = array.reshape(array.shape or (1,)).nonzero()
    if as_tuple:
        return tuple(Tensor(i) for i in found)
    return Tensor(np.stack(found, axis=-1)[:, : array.ndim])


def argwhere(x: TensorLike) -> Tensor:
    """The places of the elements that are not zero, one row each: (n, ndim)."""
    return nonzero(x)


def masked_select(x: TensorLike, mask: TensorLike) -> Tensor:
    """The elements of x where the mask holds, as a vector; both broadcast.

    >>> import fathom
    >>> fathom.masked_select(fathom.tensor([1.0, 2.0, 3.0]), [True, False, True])
    tensor([1., 3.])
    """
    x, chosen = operand(x, "masked_select"), mask_of(mask, "masked_select")
    chosen = concrete(chosen, "masked_select")
    try:
        shape = np.broadcast_shapes(x.shape, chosen.shape)
    except ValueError:
        raise ShapeError(
            f"masked_select: mask {chosen.shape} does not broadcast with shape {x.shape}"
        ) from None
    return getitem(broadcast_to(x, shape), np.broadcast_to(chosen, shape))


def mask_of(mask: Any, name: str) -> Any:
    """An argument that holds booleans."""
    mask = operand(mask, name)
    if mask.dtype.kind != "b":
        raise DtypeError(
            f"{name}: a mask holds booleans; received {mask.dtype}", fix="compare first: x > 0"
        )
    return mask


def one_hot(labels: TensorLike, num_classes: int = -1) -> Tensor:
    """A vector of zeros with a one at the label, for every label: (...) -> (..., num_classes).

    int64, as in PyTorch; -1 takes the largest label for the last class.

    >>> import fathom
    >>> fathom.one_hot([2, 0])
    tensor([[0, 0, 1],
            [1, 0, 0]])
    """
    index = whole_index(operand(labels, "one_hot"), "one_hot")
    if num_classes == -1:
        if not index.size:
            raise ArgumentError("one_hot: num_classes is needed when there are no labels")
        num_classes = int(concrete(index, "one_hot").max()) + 1
    on_arrays(_check_classes, index, classes=num_classes)
    hit: Any = unsqueeze(index, -1) == np.arange(num_classes)
    return hit.astype(np.int64) if isinstance(hit, Tensor) else Tensor(hit.astype(np.int64))


def _check_classes(labels: Any, classes: int) -> Any:
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise AxisError(
            f"one_hot: labels run from 0 to {classes - 1}; received {labels.min()} to "
            f"{labels.max()}"
        )
    return labels
