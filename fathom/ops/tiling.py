"""Taking apart and repeating: split, unbind, tile, windows, grids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.primitive import Primitive, apply, linear
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import one_axis, operand, shape_of, torch_names, whole
from fathom.ops.index import take, whole_index
from fathom.ops.shape import broadcast_to, concatenate, parts, reshape, stack

__all__ = [
    "chunk",
    "hstack",
    "meshgrid",
    "repeat",
    "repeat_interleave",
    "sliding_windows",
    "split",
    "tile",
    "unbind",
    "vstack",
]


# -- apart ---------------------------------------------------------------------------------------
# The pieces are views of x; their gradients are joined into one array, not padded one by one.


def _pieces(x: Any, axis: int, sizes: tuple[int, ...]) -> tuple[Any, ...]:
    lead, ends = (slice(None),) * axis, [0, *accumulate(sizes)]
    return tuple(x[(*lead, slice(a, b))] for a, b in pairwise(ends))


def _slices(x: Any, axis: int) -> tuple[Any, ...]:
    lead = (slice(None),) * axis
    return tuple(x[(*lead, i, ...)] for i in range(x.shape[axis]))


def _join(g: tuple[Any, ...], out: Any, x: Any, axis: int, sizes: tuple[int, ...]) -> Any:
    def zeros(n: int) -> Any:
        return np.zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype)

    return concatenate([zeros(n) if p is None else p for p, n in zip(g, sizes, strict=True)], axis)


def _pile(g: tuple[Any, ...], out: Any, x: Any, axis: int) -> Any:
    zeros = np.zeros((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype)
    return stack([zeros if p is None else p for p in g], axis)


_split: Primitive = linear("split", _pieces, (_join,), view=True, batch="axis")
_unbind: Primitive = linear("unbind", _slices, (_pile,), view=True, batch="axis")


@torch_names
def split(x: TensorLike, size: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Pieces of `size` along `axis` (the last may be smaller), or of the sizes in a list.

    The pieces share the memory of x. Raises `ShapeError` if the sizes do not add up.

    >>> import fathom
    >>> fathom.split(fathom.tensor([1.0, 2.0, 3.0]), 2)
    (tensor([1., 2.]), tensor([3.]))
    """
    x = operand(x, "split")
    where = one_axis(axis, x.ndim, "split")
    n = x.shape[where] if x.ndim else 0
    if isinstance(size, (list, tuple)):
        sizes = list(shape_of((size,), "split"))
        if sum(sizes) != n or not x.ndim:
            raise ShapeError(
                f"split: sizes {sizes} add up to {sum(sizes)}, but axis {where} of shape {x.shape} "
                f"has {n}"
            )
    else:
        step = whole(size, "split", "size")
        if step < 1 or not x.ndim:
            raise ArgumentError(f"split: size must be 1 or more; received {size} on {x.shape}")
        sizes = [min(step, n - start) for start in range(0, n, step)] or [0]
    return apply(_split, x, axis=where, sizes=tuple(sizes))


@torch_names
def chunk(x: TensorLike, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size along `axis`; the last may be smaller."""
    x, count = operand(x, "chunk"), whole(chunks, "chunk", "chunks")
    where = one_axis(axis, x.ndim, "chunk")
    if count < 1 or not x.ndim:
        raise ArgumentError(f"chunk: chunks must be 1 or more; received {chunks} on {x.shape}")
    n = x.shape[where]
    if n == 0:
        return split(x, [0] * count, where)
    return split(x, -(-n // count), where)


@torch_names
def unbind(x: TensorLike, axis: int = 0) -> tuple[Tensor, ...]:
    """All slices along `axis`, which disappears."""
    x = operand(x, "unbind")
    where = one_axis(axis, x.ndim, "unbind")
    if not x.ndim:
        raise ShapeError("unbind: a single number has no axis to be taken apart along")
    return apply(_unbind, x, axis=where) if x.shape[where] else ()


def hstack(tensors: Sequence[TensorLike]) -> Tensor:
    """Parts joined side by side: along axis 1, vectors along axis 0."""
    found = [reshape(p, 1) if not p.ndim else p for p in parts(tensors, "hstack")]
    return concatenate(found, 0 if found[0].ndim == 1 else 1)


def vstack(tensors: Sequence[TensorLike]) -> Tensor:
    """Parts joined on top of each other: along axis 0, a vector as one row."""
    found = [reshape(p, (1, -1)) if p.ndim < 2 else p for p in parts(tensors, "vstack")]
    return concatenate(found, 0)


# -- repetition ----------------------------------------------------------------------------------


def tile(x: TensorLike, *dims: Any) -> Tensor:
    """x laid side by side, `dims` times along its last axes: NumPy's and PyTorch's `tile`.

    >>> import fathom
    >>> fathom.tile(fathom.tensor([1.0, 2.0]), (2, 2))
    tensor([[1., 2., 1., 2.],
            [1., 2., 1., 2.]])
    """
    x, times = operand(x, "tile"), shape_of(dims, "tile")
    times = (1,) * (x.ndim - len(times)) + times
    shape = (1,) * (len(times) - x.ndim) + tuple(x.shape)
    between = tuple(size for n in shape for size in (1, n))
    filled = tuple(size for t, n in zip(times, shape, strict=True) for size in (t, n))
    out = tuple(t * n for t, n in zip(times, shape, strict=True))
    return reshape(broadcast_to(reshape(x, between), filled), out)


def repeat(x: TensorLike, *sizes: Any) -> Tensor:
    """PyTorch's `Tensor.repeat`: `tile` with a number for every axis (NumPy's is another)."""
    x, times = operand(x, "repeat"), shape_of(sizes, "repeat")
    if len(times) < x.ndim:
        raise ShapeError(
            f"repeat: {len(times)} numbers of times for the {x.ndim} axes of shape {x.shape}",
            fix="give one for each axis, or use tile or repeat_interleave",
        )
    return tile(x, times)


@torch_names
def repeat_interleave(x: TensorLike, repeats: Any, axis: int | None = None) -> Tensor:
    """Every slice along `axis` several times in a row; without an axis x is flattened.

    `repeats` is one number, or one for each slice.

    >>> import fathom
    >>> fathom.repeat_interleave(fathom.tensor([1.0, 2.0]), [2, 1])
    tensor([1., 1., 2.])
    """
    x, times = operand(x, "repeat_interleave"), whole_index(repeats, "repeat_interleave")
    times = times.value() if isinstance(times, Tensor) else times
    if axis is None:
        x, axis = reshape(x, -1), 0
    where = one_axis(axis, x.ndim, "repeat_interleave")
    n = x.shape[where] if x.ndim else 1
    if times.ndim > 1 or times.size not in (1, n) or (times < 0).any():
        raise ShapeError(
            f"repeat_interleave: repeats is one number from 0, or {n} for axis {where} of shape "
            f"{x.shape}; received {times.tolist()}"
        )
    return take(x, np.repeat(np.arange(n), times), where)


# -- windows and grids ---------------------------------------------------------------------------


def _windows_forward(x: Any, axis: int, size: int, step: int) -> Any:
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis)
    return windows[(slice(None),) * axis + (slice(None, None, step),)]


def _windows_shape(x: Any, axis: int, size: int, step: int) -> tuple[int, ...]:
    count = (x.shape[axis] - size) // step + 1
    return (*x.shape[:axis], count, *x.shape[axis + 1 :], size)


def _overlap_add(g: Any, axis: int, step: int, shape: tuple[int, ...]) -> Any:
    """Windows added up where they overlap."""
    out = np.zeros(shape, g.dtype)
    lead, count = (slice(None),) * axis, g.shape[axis]
    for k in range(g.shape[-1]):
        out[(*lead, slice(k, k + step * (count - 1) + 1, step))] += g[..., k]
    return out


_windows: Primitive = linear(
    "sliding_windows",
    _windows_forward,
    (lambda g, out, x, axis, size, step: apply(_overlap, g, axis=axis, step=step, shape=x.shape),),
    shape=_windows_shape,
    view=True,
    batch="axis",
)
_overlap: Primitive = linear(
    "overlap_add",
    _overlap_add,
    (
        lambda g, out, x, axis, step, shape: apply(
            _windows, g, axis=axis, size=x.shape[-1], step=step
        ),
    ),
    shape=lambda g, axis, step, shape: shape,
    batch="axis",
)


def sliding_windows(x: TensorLike, dimension: int, size: int, step: int = 1) -> Tensor:
    """All windows of `size` along an axis, `step` apart; the window is a new last axis.

    PyTorch's `Tensor.unfold`. The windows share the memory of x.

    >>> import fathom
    >>> fathom.sliding_windows(fathom.tensor([1.0, 2.0, 3.0, 4.0]), 0, 3)
    tensor([[1., 2., 3.],
            [2., 3., 4.]])
    """
    x, name = operand(x, "sliding_windows"), "sliding_windows"
    where = one_axis(dimension, x.ndim, name)
    size, step = whole(size, name, "size"), whole(step, name, "step")
    n = x.shape[where] if x.ndim else 0
    if not 0 < size <= n or step < 1:
        raise ShapeError(
            f"{name}: windows of {size}, {step} apart, do not fit axis {where} of shape {x.shape}"
        )
    return apply(_windows, x, axis=where, size=size, step=step)


def meshgrid(*tensors: TensorLike, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of all points of a grid: one tensor for each vector.

    `indexing` "ij" runs through the vectors in order; "xy" swaps the first two axes.

    >>> import fathom
    >>> rows, columns = fathom.meshgrid(fathom.arange(2), fathom.arange(3))
    >>> columns
    tensor([[0, 1, 2],
            [0, 1, 2]])
    """
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    vectors = parts(given, "meshgrid")
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f"meshgrid: indexing is 'ij' or 'xy'; received {indexing!r}")
    if any(v.ndim > 1 for v in vectors):
        raise ShapeError(f"meshgrid: expects vectors; received {[v.shape for v in vectors]}")
    order = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        order[:2] = 1, 0
    sizes = [vectors[i].size for i in order]
    out = []
    for i, v in enumerate(vectors):
        ones = [1] * len(vectors)
        ones[order.index(i)] = v.size
        out.append(broadcast_to(reshape(v, ones), sizes))
    return tuple(out)
