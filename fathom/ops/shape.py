"""Shape operations: the same numbers, arranged otherwise. All are linear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, AxisError, DtypeError, ShapeError, mark_axes
from fathom.engine.primitive import Primitive, apply, linear
from fathom.engine.tape import Spec, sum_to
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import Axis, all_axes, one_axis, operand, sizes_of, torch_names

__all__ = [
    "broadcast_to",
    "cat",
    "concat",
    "concatenate",
    "expand",
    "expand_as",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "matrix_transpose",
    "moveaxis",
    "movedim",
    "permute",
    "ravel",
    "reshape",
    "roll",
    "squeeze",
    "stack",
    "swapaxes",
    "swapdims",
    "transpose",
    "unflatten",
    "unsqueeze",
    "view",
    "view_as",
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


def _broadcast_shape(x: Any, shape: tuple[int, ...], name: str = "broadcast_to") -> tuple[int, ...]:
    lead = len(shape) - x.ndim
    clash = [i for i, n in enumerate(x.shape) if lead < 0 or n not in (1, shape[i + lead])]
    if lead < 0 or clash or any(n < 0 for n in shape):
        raise ShapeError(
            f"{name}: shape {mark_axes(x.shape, clash)} does not fill shape {shape}",
            fix="axes must be equal or 1, compared from the right",
        )
    return shape


_broadcast_to = linear(
    "broadcast_to",
    np.broadcast_to,
    (lambda g, out, x, shape: sum_to(g, x.shape),),
    shape=_broadcast_shape,
    view=True,
    batch=_broadcast_batch,
)
_flip: Primitive = linear(
    "flip",
    lambda x, axis: x[tuple(slice(None, None, -1 if i in axis else 1) for i in range(x.ndim))],
    (lambda g, out, x, axis: apply(_flip, g, axis=axis),),
    shape=lambda x, axis: x.shape,
    view=True,
    batch="axis",
)
_roll: Primitive = linear(
    "roll",
    lambda x, shifts, axis: np.roll(x, shifts, axis),
    (lambda g, out, x, shifts, axis: apply(_roll, g, shifts=tuple(-s for s in shifts), axis=axis),),
    shape=lambda x, shifts, axis: x.shape,
    batch="axis",
)


def reshape(x: TensorLike, *shape: Any) -> Tensor:
    """The elements in another shape; one size may be -1.

    >>> import fathom
    >>> fathom.reshape(fathom.tensor([1.0, 2.0, 3.0, 4.0]), 2, -1)
    tensor([[1., 2.],
            [3., 4.]])
    """
    wanted = sizes_of(shape, "reshape")
    if min(wanted, default=0) < -1:
        raise ShapeError(f"reshape: a size below -1 in {wanted}")
    return apply(_reshape, x, shape=wanted)


view = reshape


def view_as(x: TensorLike, other: Tensor) -> Tensor:
    """x in the shape of another tensor with as many elements."""
    return reshape(x, operand(other, "view_as").shape)


def ravel(x: TensorLike) -> Tensor:
    """All elements in one axis."""
    return reshape(x, -1)


@torch_names
def unflatten(x: TensorLike, axis: int, sizes: Sequence[int]) -> Tensor:
    """One axis made several, of these sizes; one may be -1."""
    x = operand(x, "unflatten")
    where, wanted = one_axis(axis, x.ndim, "unflatten"), sizes_of((sizes,), "unflatten")
    inner = _reshape_shape(Spec(x.shape[where : where + 1], x.dtype), wanted)
    return reshape(x, (*x.shape[:where], *inner, *x.shape[where + 1 :]))


def flatten(x: TensorLike, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes `start_dim` to `end_dim` made one."""
    x = operand(x, "flatten")
    start, end = (one_axis(a, x.ndim, "flatten") for a in (start_dim, end_dim))
    if start > end:
        raise AxisError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim}")
    return reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


@torch_names
def permute(x: TensorLike, *axes: Any, axis: Any = None) -> Tensor:
    """The axes in another order: `permute(x, 2, 0, 1)` or `permute(x, (2, 0, 1))`."""
    x = operand(x, "permute")
    given = sizes_of(axes if axis is None else (tuple(axis),), "permute")
    order = tuple(one_axis(a, x.ndim, "permute") for a in given)
    if sorted(order) != list(range(x.ndim)):
        raise AxisError(f"permute: {order} is not an order of the {x.ndim} axes of {x.shape}")
    return apply(_permute, x, axes=order)


def transpose(x: TensorLike, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""
    x = operand(x, "transpose")
    a, b = one_axis(dim0, x.ndim, "transpose"), one_axis(dim1, x.ndim, "transpose")
    order = list(range(x.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return permute(x, order)


swapaxes = swapdims = transpose


def matrix_transpose(x: TensorLike) -> Tensor:
    """All axes reversed: for a matrix, rows and columns swapped (`x.T`)."""
    x = operand(x, "matrix_transpose")
    return permute(x, tuple(range(x.ndim))[::-1])


def movedim(x: TensorLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to new places, the others keeping their order.

    >>> import fathom
    >>> fathom.movedim(fathom.zeros(2, 3, 4), 0, -1).shape
    (3, 4, 2)
    """
    x = operand(x, "movedim")
    start, end = all_axes(source, x.ndim, "movedim"), all_axes(destination, x.ndim, "movedim")
    if len(start) != len(end):
        raise ArgumentError(f"movedim: {len(start)} axes cannot go to {len(end)} places")
    order = [a for a in range(x.ndim) if a not in start]
    for to, a in sorted(zip(end, start, strict=True)):
        order.insert(to, a)
    return permute(x, order)


moveaxis = movedim


def broadcast_to(x: TensorLike, shape: Shape) -> Tensor:
    """x repeated, without copying, to fill `shape`."""
    return apply(_broadcast_to, x, shape=sizes_of((shape,), "broadcast_to"))


def expand(x: TensorLike, *sizes: Any) -> Tensor:
    """PyTorch's name for `broadcast_to`; -1 keeps a size."""
    x, wanted = operand(x, "expand"), sizes_of(sizes, "expand")
    lead = len(wanted) - x.ndim
    shape = tuple(x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted))
    return broadcast_to(x, _broadcast_shape(x, shape, "expand"))


def expand_as(x: TensorLike, other: Tensor) -> Tensor:
    """x broadcast to the shape of another tensor."""
    return broadcast_to(x, operand(other, "expand_as").shape)


@torch_names
def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """Without the axes of size 1 (all of them, or those named; a named one of another size stays).

    >>> import fathom
    >>> fathom.squeeze(fathom.zeros(1, 3, 1), 0).shape
    (3, 1)
    """
    x = operand(x, "squeeze")
    chosen = all_axes(axis, x.ndim, "squeeze")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in chosen or n != 1))


@torch_names
def unsqueeze(x: TensorLike, axis: int) -> Tensor:
    """With a new axis of size 1 at `axis`."""
    x = operand(x, "unsqueeze")
    where = one_axis(axis, x.ndim + 1, "unsqueeze")
    return reshape(x, (*x.shape[:where], 1, *x.shape[where:]))


@torch_names
def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    """The elements in opposite order along the axes (all by default); shares memory.

    >>> import fathom
    >>> fathom.flip(fathom.tensor([1.0, 2.0, 3.0]), 0)
    tensor([3., 2., 1.])
    """
    x = operand(x, "flip")
    return apply(_flip, x, axis=all_axes(axis, x.ndim, "flip"))


def flipud(x: TensorLike) -> Tensor:
    """The rows in opposite order."""
    return flip(x, 0)


def fliplr(x: TensorLike) -> Tensor:
    """The columns in opposite order."""
    return flip(x, 1)


@torch_names
def roll(x: TensorLike, shifts: int | Sequence[int], axis: Axis = None) -> Tensor:
    """The elements moved along the axes, those that fall off coming in at the other end.

    Without an axis the flattened tensor is rolled and reshaped back.

    >>> import fathom
    >>> fathom.roll(fathom.tensor([1.0, 2.0, 3.0]), 1)
    tensor([3., 1., 2.])
    """
    x, steps = operand(x, "roll"), sizes_of((shifts,), "roll")
    if axis is None:
        if len(steps) != 1:
            raise ArgumentError(f"roll: {len(steps)} shifts need as many axes")
        return reshape(apply(_roll, reshape(x, -1), shifts=steps, axis=(0,)), x.shape)
    axes = all_axes(axis, x.ndim, "roll")
    if len(axes) != len(steps):
        raise ArgumentError(f"roll: {len(steps)} shifts for {len(axes)} axes")
    return apply(_roll, x, shifts=steps, axis=axes)


# -- putting together --------------------------------------------------------------------------


def _concatenate_shape(*xs: Any, axis: int, sizes: tuple[int, ...] = ()) -> tuple[int, ...]:
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


def _concatenate_transpose(
    g: Any, out: Any, *xs: Any, axis: int, sizes: tuple[int, ...] = (), index: int = 0
) -> Any:
    """The share of one part; without `sizes` all parts are as long as this one."""
    length = xs[index].shape[axis]
    start = sum(sizes[:index]) if sizes else index * length
    return g[(slice(None),) * axis + (slice(start, start + length),)]


_concatenate = linear(
    "concatenate",
    lambda *xs, axis, sizes=(): np.concatenate(xs, axis),
    (_concatenate_transpose,),
    joint=True,
    batch="axis",
    shape=_concatenate_shape,
)


def parts(tensors: Any, name: str) -> list[Any]:
    """What is to be put together, at least one."""
    if isinstance(tensors, (int, float)) or not hasattr(tensors, "__iter__"):
        raise DtypeError(f"{name}: expects a list of tensors; received {type(tensors).__name__}")
    found = [operand(p, name) for p in tensors]
    if not found:
        raise ShapeError(f"{name}: nothing to join; received an empty list")
    return found


@torch_names
def concatenate(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Parts joined along an existing axis; a part of shape (0,) is passed over, as in PyTorch.

    >>> import fathom
    >>> fathom.concatenate([fathom.tensor([1.0]), fathom.tensor([2.0, 3.0])])
    tensor([1., 2., 3.])
    """
    found = parts(tensors, "concatenate")
    found = [p for p in found if p.shape != (0,)] or found[:1]
    if any(not p.ndim for p in found):
        raise ShapeError(
            "concatenate: a single number has no axis to be joined along", fix="use stack"
        )
    where = one_axis(axis, found[0].ndim, "concatenate")
    if any(p.ndim != found[0].ndim for p in found):
        _concatenate_shape(*found, axis=where)
    return apply(_concatenate, *found, axis=where, sizes=tuple(p.shape[where] for p in found))


cat = concat = concatenate


@torch_names
def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Parts of one shape joined along a new axis.

    >>> import fathom
    >>> fathom.stack([fathom.tensor([1.0, 2.0]), fathom.tensor([3.0, 4.0])], axis=1)
    tensor([[1., 3.],
            [2., 4.]])
    """
    found = parts(tensors, "stack")
    shapes = {p.shape for p in found}
    if len(shapes) != 1:
        raise ShapeError(f"stack: the parts must have one shape; received {sorted(shapes)}")
    where = one_axis(axis, found[0].ndim + 1, "stack")
    return apply(_concatenate, *(unsqueeze(p, where) for p in found), axis=where)
