"""Shape operations: the same numbers, arranged otherwise. All are linear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import AxisError, ShapeError
from fathom.engine.primitive import apply, broadcast_shape, linear
from fathom.engine.tape import sum_to
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import Axis, one_axis, torch_names

__all__ = [
    "broadcast_to",
    "concatenate",
    "expand",
    "flatten",
    "matrix_transpose",
    "permute",
    "reshape",
    "squeeze",
    "stack",
    "transpose",
    "unsqueeze",
]


Shape = Sequence[int]


def _reshape_shape(x: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    known = math.prod(n for n in shape if n != -1)
    if shape.count(-1) > 1:
        raise ShapeError(f"reshape: only one size may be -1; received {shape}")
    if -1 in shape and known and x.size % known == 0:
        return tuple(x.size // known if n == -1 else n for n in shape)
    if math.prod(shape) != x.size or -1 in shape:
        raise ShapeError(
            f"reshape: {x.size} elements of shape {x.shape} do not fill shape {shape}",
            fix="let one size be -1 and it is worked out",
        )
    return shape


_reshape = linear(
    "reshape",
    lambda x, shape: np.reshape(x, shape),
    (lambda g, out, x, shape: reshape(g, x.shape),),
    shape=_reshape_shape,
    view=True,
    batch="axis",
)

_permute = linear(
    "permute",
    lambda x, axes: np.transpose(x, axes),
    (lambda g, out, x, axes: permute(g, tuple(np.argsort(axes).tolist())),),
    shape=lambda x, axes: tuple(x.shape[a] for a in axes),
    view=True,
    batch="axis",
)


def _broadcast_batch(values: Any, flags: Any, params: Any, size: int) -> Any:
    x, shape = values[0], params["shape"]
    ones = (1,) * (len(shape) - x.ndim + 1)
    return broadcast_to(reshape(x, (size, *ones, *x.shape[1:])), (size, *shape))


_broadcast_to = linear(
    "broadcast_to",
    np.broadcast_to,
    (lambda g, out, x, shape: sum_to(g, x.shape),),
    shape=lambda x, shape: broadcast_shape(x, np.empty(shape)),
    view=True,
    batch=_broadcast_batch,
)


def _sizes(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """`f(2, 3)` and `f((2, 3))` alike."""
    if len(sizes) == 1 and not hasattr(sizes[0], "__index__"):
        sizes = tuple(sizes[0])
    return tuple(n.__index__() for n in sizes)


def reshape(x: TensorLike, *shape: Any) -> Tensor:
    """The elements in another shape; one size may be -1.

    >>> import fathom
    >>> fathom.reshape(fathom.tensor([1.0, 2.0, 3.0, 4.0]), 2, -1)
    tensor([[1., 2.],
            [3., 4.]])
    """
    return apply(_reshape, x, shape=_sizes(shape))


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes `start_dim` to `end_dim` made one."""
    start, end = (one_axis(a, x.ndim, "flatten") for a in (start_dim, end_dim))
    if start > end:
        raise AxisError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim}")
    return reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def permute(x: Tensor, *axes: Any) -> Tensor:
    """The axes in another order."""
    order = tuple(one_axis(a, x.ndim, "permute") for a in _sizes(axes))
    if sorted(order) != list(range(x.ndim)):
        raise AxisError(f"permute: {order} is not an order of the {x.ndim} axes of {x.shape}")
    return apply(_permute, x, axes=order)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""
    a, b = one_axis(dim0, x.ndim, "transpose"), one_axis(dim1, x.ndim, "transpose")
    order = list(range(x.ndim))
    order[a], order[b] = order[b], order[a]
    return permute(x, order)


def matrix_transpose(x: Tensor) -> Tensor:
    """All axes reversed: for a matrix, rows and columns swapped (`x.T`)."""
    return permute(x, tuple(range(x.ndim))[::-1])


def broadcast_to(x: TensorLike, shape: Shape) -> Tensor:
    """x repeated, without copying, to fill `shape`."""
    return apply(_broadcast_to, x, shape=tuple(shape))


def expand(x: Tensor, *sizes: Any) -> Tensor:
    """PyTorch's name for `broadcast_to`; -1 keeps a size."""
    wanted = _sizes(sizes)
    lead = len(wanted) - x.ndim
    shape = tuple(x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted))
    return broadcast_to(x, shape)


@torch_names
def squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    """Without the axes of size 1 (all of them, or those named)."""
    if axis is None:
        chosen = set(range(x.ndim))
    else:
        axes = (axis,) if hasattr(axis, "__index__") else tuple(axis)
        chosen = {one_axis(a, x.ndim, "squeeze") for a in axes}  # type: ignore[arg-type]
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in chosen or n != 1))


@torch_names
def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """With a new axis of size 1 at `axis`."""
    where = one_axis(axis, x.ndim + 1, "unsqueeze")
    return reshape(x, (*x.shape[:where], 1, *x.shape[where:]))


# -- putting together --------------------------------------------------------------------------


def _concatenate_shape(*xs: Any, axis: int) -> tuple[int, ...]:
    first = xs[0].shape
    for i, x in enumerate(xs):
        clash = x.ndim != len(first) or any(
            n != m for k, (n, m) in enumerate(zip(x.shape, first, strict=True)) if k != axis
        )
        if clash:
            raise ShapeError(
                f"concatenate along axis {axis}: part 0 has shape {first}, part {i} {x.shape}; "
                "all other axes must agree"
            )
    return (*first[:axis], sum(x.shape[axis] for x in xs), *first[axis + 1 :])


def _concatenate_transpose(g: Any, out: Any, *xs: Any, axis: int, index: int = 0) -> Any:
    start = sum(x.shape[axis] for x in xs[:index])
    where = (slice(None),) * axis + (slice(start, start + xs[index].shape[axis]),)
    return g[where]


_concatenate = linear(
    "concatenate",
    lambda *xs, axis: np.concatenate(xs, axis),
    (_concatenate_transpose,),
    joint=True,
    batch="axis",
    shape=_concatenate_shape,
)


@torch_names
def concatenate(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Parts joined along an existing axis.

    >>> import fathom
    >>> fathom.concatenate([fathom.tensor([1.0]), fathom.tensor([2.0, 3.0])])
    tensor([1., 2., 3.])
    """
    parts = list(tensors)
    if not parts:
        raise ShapeError("concatenate: nothing to join; received an empty list")
    parts = [p if isinstance(p, (Tensor, np.ndarray)) else Tensor(p) for p in parts]
    where = one_axis(axis, parts[0].ndim, "concatenate")  # type: ignore[union-attr]
    return apply(_concatenate, *parts, axis=where)


@torch_names
def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Parts of one shape joined along a new axis."""
    parts = [p if isinstance(p, (Tensor, np.ndarray)) else Tensor(p) for p in tensors]
    shapes = {p.shape for p in parts}
    if len(shapes) != 1:
        raise ShapeError(f"stack: the parts must have one shape; received {sorted(shapes)}")
    return concatenate([unsqueeze(p, axis) for p in parts], axis)  # type: ignore[arg-type]
