"""Building and cutting by whole matrices: blocks, columns, powers, coordinates of triangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, AxisError, ShapeError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import all_axes, one_axis, operand, shape_of, torch_names, whole
from fathom.ops.cumulate import cumprod
from fathom.ops.index import getitem, whole_index
from fathom.ops.rounding import floor_divide, remainder
from fathom.ops.shape import (
    broadcast_to,
    concatenate,
    flip,
    parts,
    permute,
    reshape,
    transpose,
    unsqueeze,
)
from fathom.ops.tiling import hstack, split

__all__ = [
    "block_diag",
    "column_stack",
    "dsplit",
    "dstack",
    "hsplit",
    "rot90",
    "t",
    "tensor_split",
    "tril_indices",
    "triu_indices",
    "unravel_index",
    "vander",
    "vsplit",
]


def t(x: TensorLike) -> Tensor:
    """A matrix with rows and columns swapped; vectors and numbers stay as they are."""
    x = operand(x, "t")
    if x.ndim > 2:
        raise ShapeError(
            f"t: transposes matrices; received shape {x.shape}", fix="x.mT, or x.transpose(i, j)"
        )
    return transpose(x, 0, 1) if x.ndim == 2 else x


def rot90(x: TensorLike, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """x turned by 90 degrees k times, from the first of two axes towards the second.

    >>> import fathom
    >>> fathom.rot90(fathom.tensor([[1, 2], [3, 4]]))
    tensor([[2, 4],
            [1, 3]])
    """
    x, turns = operand(x, "rot90"), whole(k, "rot90", "k") % 4
    axes = all_axes(tuple(dims), x.ndim, "rot90")
    if len(axes) != 2 or x.ndim < 2:
        raise AxisError(f"rot90: dims names two axes; received {dims} for shape {x.shape}")
    if turns % 2 == 0:
        return flip(x, axes) if turns else flip(x, ())
    order = list(range(x.ndim))
    order[axes[0]], order[axes[1]] = axes[1], axes[0]
    return permute(flip(x, axes[1] if turns == 1 else axes[0]), order)


# -- together ------------------------------------------------------------------------------------


def block_diag(*tensors: TensorLike) -> Tensor:
    """A matrix with the given ones along its diagonal; a vector is one row, a number 1 x 1.

    >>> import fathom
    >>> fathom.block_diag(fathom.tensor([[1, 2]]), fathom.tensor([[3], [4]]))
    tensor([[1, 2, 0],
            [0, 0, 3],
            [0, 0, 4]])
    """
    blocks = [operand(b, "block_diag") for b in tensors]
    if not blocks:
        return Tensor(np.zeros((1, 0), np.float32))
    if any(b.ndim > 2 for b in blocks):
        raise ShapeError(f"block_diag: expects matrices; received {[b.shape for b in blocks]}")
    blocks = [reshape(b, (1, -1)) if b.ndim < 2 else b for b in blocks]
    width, start, rows = sum(b.shape[1] for b in blocks), 0, []
    for b in blocks:
        n, m = b.shape
        before, after = (np.zeros((n, k), b.dtype) for k in (start, width - start - m))
        rows.append(concatenate([before, b, after], 1))
        start += m
    return concatenate(rows, 0)


def column_stack(tensors: Sequence[TensorLike]) -> Tensor:
    """Parts joined side by side, vectors as columns."""
    found = [reshape(p, (-1, 1)) if p.ndim < 2 else p for p in parts(tensors, "column_stack")]
    return hstack(found)


def dstack(tensors: Sequence[TensorLike]) -> Tensor:
    """Parts joined along a third axis: (n,) counts as (1, n, 1), (n, m) as (n, m, 1)."""
    found = [
        reshape(p, (1, -1, 1)) if p.ndim < 2 else unsqueeze(p, 2) if p.ndim == 2 else p
        for p in parts(tensors, "dstack")
    ]
    return concatenate(found, 2)


def _powers(x: Any, count: int) -> Any:
    """1, x, x^2, ... along a new last axis, with derivatives that are exact at zeros."""
    ones = np.ones((*x.shape, min(count, 1)), x.dtype)
    if count < 2:
        return broadcast_to(unsqueeze(x, -1) * 0 + 1, (*x.shape, 1)) if count else ones
    factors = broadcast_to(unsqueeze(x, -1), (*x.shape, count - 1))
    return concatenate([ones, cumprod(factors, -1)], -1)


def vander(x: TensorLike, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of a vector as columns, the highest (N - 1) first: a Vandermonde matrix.

    >>> import fathom
    >>> fathom.vander(fathom.tensor([2.0, 3.0]), 3)
    tensor([[4., 2., 1.],
            [9., 3., 1.]])
    """
    x = operand(x, "vander")
    if x.ndim != 1:
        raise ShapeError(f"vander: needs a vector; received shape {x.shape}")
    out = powers(x, N, "vander")
    return out if increasing else flip(out, 1)


def powers(x: Any, N: int | None, name: str = "linalg.vander") -> Tensor:
    """x to the power of 0 ... N - 1 (as many as x is long by default), along a new last axis."""
    x = operand(x, name)
    if not x.ndim:
        raise ShapeError(f"{name}: needs at least one axis; received a single number")
    count = x.shape[-1] if N is None else whole(N, name, "N")
    if count < 0:
        raise ArgumentError(f"{name}: N counts columns; received {N}")
    return _powers(x, count)


# -- apart ---------------------------------------------------------------------------------------


@torch_names
def tensor_split(x: TensorLike, sections: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """So many parts of nearly equal size along `axis`, or the parts between given places.

    >>> import fathom
    >>> fathom.tensor_split(fathom.arange(5), 2)
    (tensor([0, 1, 2]), tensor([3, 4]))
    """
    x = operand(x, "tensor_split")
    where = one_axis(axis, x.ndim, "tensor_split")
    if not x.ndim:
        raise ShapeError("tensor_split: a single number has no axis to be cut along")
    n = x.shape[where]
    if hasattr(sections, "__index__"):
        count = whole(sections, "tensor_split", "sections")
        if count < 1:
            raise ArgumentError(f"tensor_split: needs at least one part; received {count}")
        return split(x, [n // count + (i < n % count) for i in range(count)], where)
    places = [whole(i, "tensor_split", "each place") for i in sections]
    lead = (slice(None),) * where
    ends = [*places, None]
    return tuple(getitem(x, (*lead, slice(a, b))) for a, b in zip([0, *places], ends, strict=True))


def _even(name: str, x: Any, sections: Any, axis: int, least: int) -> tuple[Tensor, ...]:
    x = operand(x, name)
    if x.ndim < least:
        raise ShapeError(f"{name}: needs {least} axes or more; received shape {x.shape}")
    if hasattr(sections, "__index__") and (sections < 1 or x.shape[axis] % sections):
        raise ShapeError(
            f"{name}: axis {axis} of shape {x.shape} does not fall into {sections} equal parts",
            fix="tensor_split makes parts of nearly equal size",
        )
    return tensor_split(x, sections, axis)


def hsplit(x: TensorLike, sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Equal parts side by side, or the parts between given columns (of a vector, elements)."""
    x = operand(x, "hsplit")
    return _even("hsplit", x, sections, 0 if x.ndim == 1 else 1, 1)


def vsplit(x: TensorLike, sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Equal parts on top of each other, or the parts between given rows."""
    return _even("vsplit", x, sections, 0, 2)


def dsplit(x: TensorLike, sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Equal parts along the third axis, or the parts between given places."""
    return _even("dsplit", x, sections, 2, 3)


# -- coordinates ---------------------------------------------------------------------------------


def unravel_index(indices: TensorLike, shape: Any) -> tuple[Tensor, ...]:
    """The coordinates of indices into a flattened tensor of `shape`: one tensor for each axis.

    >>> import fathom
    >>> fathom.unravel_index(fathom.tensor([5]), (2, 3))
    (tensor([1]), tensor([2]))
    """
    index, sizes = whole_index(indices, "unravel_index"), shape_of((shape,), "unravel_index")
    array = index.value() if isinstance(index, Tensor) else index
    total = math.prod(sizes)
    if array.size and not -total <= array.min() <= array.max() < total:
        raise AxisError(f"unravel_index: an index lies outside the {total} elements of {sizes}")
    rest: Any = index if isinstance(index, Tensor) else Tensor(index)
    rest, found = remainder(rest, total) if total else rest, []
    for n in reversed(sizes):
        found.append(remainder(rest, n))
        rest = floor_divide(rest, n)
    return tuple(reversed(found))


def _corner(name: str, row: int, col: int, offset: int) -> tuple[int, int, int]:
    rows, columns = shape_of((row, col), name)
    return rows, columns, whole(offset, name, "offset")


def tril_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """The places of the lower triangle of (row, col), row by row: (2, n).

    >>> import fathom
    >>> fathom.tril_indices(2, 2)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    n, m, k = _corner("tril_indices", row, col, offset)
    return Tensor(np.stack(np.tril_indices(n, k, m)).astype(np.int64))


def triu_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """The places of the upper triangle of (row, col), row by row: (2, n)."""
    n, m, k = _corner("triu_indices", row, col, offset)
    return Tensor(np.stack(np.triu_indices(n, k, m)).astype(np.int64))
