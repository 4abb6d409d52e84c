"""Parts of matrices: diagonals and triangles. All are linear, on the last two axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import AxisError, ShapeError
from fathom.engine.primitive import Primitive, apply, linear
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import one_axis
from fathom.ops.checks import need_axes, need_matrix, operand
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import broadcast_to, permute

__all__ = [
    "diag",
    "diag_embed",
    "diagonal",
    "trace",
    "tril",
    "triu",
]


def _length(rows: int, columns: int, offset: int) -> int:
    """Elements on a diagonal."""
    return max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))


def _embed(x: Any, offset: int, size: tuple[int, int]) -> Any:
    out = np.zeros((*x.shape[:-1], *size), x.dtype)
    i = np.arange(x.shape[-1])
    out[..., i + max(0, -offset), i + max(0, offset)] = x
    return out


_diagonal: Primitive = linear(
    "diagonal",
    lambda x, offset: np.diagonal(x, offset, -2, -1).copy(),
    (lambda g, out, x, offset: apply(_placed, g, offset=offset, size=tuple(x.shape[-2:])),),
    shape=lambda x, offset: (*x.shape[:-2], _length(x.shape[-2], x.shape[-1], offset)),
    batch="native",
)
_placed: Primitive = linear(
    "diagonal_embed",
    _embed,
    (lambda g, out, x, offset, size: apply(_diagonal, g, offset=offset),),
    shape=lambda x, offset, size: (*x.shape[:-1], *size),
    batch="native",
)
_tril: Primitive = linear(
    "tril",
    lambda x, offset: np.tril(x, offset),
    (lambda g, out, x, offset: apply(_tril, g, offset=offset),),
    shape=lambda x, offset: x.shape,
    batch="native",
)
_triu: Primitive = linear(
    "triu",
    lambda x, offset: np.triu(x, offset),
    (lambda g, out, x, offset: apply(_triu, g, offset=offset),),
    shape=lambda x, offset: x.shape,
    batch="native",
)


def diagonal(x: TensorLike, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two axes, as a new last axis; `offset` > 0 lies above it.

    >>> import fathom
    >>> fathom.diagonal(fathom.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 4.])
    """
    a = operand(x)
    need_matrix("diagonal", a)
    i, j = (one_axis(d, a.ndim, "diagonal") for d in (dim1, dim2))
    if i == j:
        raise AxisError(f"diagonal: dim1 and dim2 are both axis {i}; they must differ")
    rest = [k for k in range(a.ndim) if k not in (i, j)]
    return apply(_diagonal, permute(a, (*rest, i, j)), offset=int(offset))


def diag_embed(x: TensorLike, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices of zeros with the last axis of x on a diagonal: (..., n) -> (..., n, n)."""
    a = operand(x)
    if not a.ndim:
        raise ShapeError("diag_embed: needs at least one axis; received a single number")
    n, rank = a.shape[-1] + abs(offset), a.ndim + 1
    i, j = (one_axis(d, rank, "diag_embed") for d in (dim1, dim2))
    if i == j:
        raise AxisError(f"diag_embed: dim1 and dim2 are both axis {i}; they must differ")
    out = apply(_placed, a, offset=int(offset), size=(n, n))
    order: list[int] = []
    rest = iter(range(rank - 2))
    for k in range(rank):
        order.append(rank - 2 if k == i else rank - 1 if k == j else next(rest))
    return permute(out, order)


def diag(x: TensorLike, diagonal: int = 0) -> Tensor:
    """A vector as a diagonal matrix, or the diagonal of a matrix.

    >>> import fathom
    >>> fathom.diag(fathom.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [0., 2.]])
    """
    a = operand(x)
    need_axes("diag", "the argument", a, (1, 2), "(n,) or (n, m)")
    if a.ndim == 1:
        return diag_embed(a, diagonal)
    return apply(_diagonal, a, offset=int(diagonal))


def trace(x: TensorLike) -> Tensor:
    """The sum of the diagonal of a matrix."""
    a = operand(x)
    need_axes("trace", "the argument", a, (2,), "(n, m)")
    return sum_(apply(_diagonal, a, offset=0))


def tril(x: TensorLike, diagonal: int = 0) -> Tensor:
    """The lower triangle; elements above the given diagonal become 0."""
    a = operand(x)
    need_matrix("tril", a)
    return apply(_tril, a, offset=int(diagonal))


def triu(x: TensorLike, diagonal: int = 0) -> Tensor:
    """The upper triangle; elements below the given diagonal become 0."""
    a = operand(x)
    need_matrix("triu", a)
    return apply(_triu, a, offset=int(diagonal))


def eye_like(x: Any) -> Any:
    """Unit matrices in the shape and dtype of x (..., n, n)."""
    one = Tensor(np.eye(x.shape[-1], dtype=x.dtype))
    return broadcast_to(one, x.shape) if x.ndim > 2 else one


def diagonals(x: Any) -> Any:
    """The main diagonals of the last two axes."""
    return apply(_diagonal, x, offset=0)


def as_diagonal(x: Any) -> Any:
    """Diagonal matrices of the last axis."""
    return apply(_placed, x, offset=0, size=(x.shape[-1],) * 2)
