"""Distances: of two tensors, of all pairs of rows, and slices cut back to a length."""

from __future__ import annotations

from typing import Any

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import one_axis, operand, torch_names
from fathom.ops.checks import floats
from fathom.ops.elementwise import safe_where
from fathom.ops.lengths import vector_norm
from fathom.ops.reduce import norm
from fathom.ops.shape import unsqueeze

__all__ = ["cdist", "dist", "renorm"]


def dist(x: TensorLike, y: TensorLike, p: float = 2.0) -> Tensor:
    """The p-norm of x - y; the shapes broadcast.

    >>> import fathom
    >>> fathom.dist(fathom.tensor([1.0, 1.0]), fathom.tensor([4.0, 5.0]))
    tensor(5.)
    """
    a: Any = operand(x, "dist")
    return norm(a - operand(y, "dist"), p)


def cdist(x1: TensorLike, x2: TensorLike, p: float = 2.0, compute_mode: Any = None) -> Tensor:
    """The p-norm distances of all pairs of rows: (..., n, d), (..., m, d) -> (..., n, m).

    The differences are formed one by one and not through a matrix product, whatever
    `compute_mode`, so that near rows keep their digits.

    >>> import fathom
    >>> fathom.cdist(fathom.tensor([[0.0, 0.0]]), fathom.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[5., 1.]])
    """
    a, b = operand(x1, "cdist"), operand(x2, "cdist")
    floats("cdist", a, b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ShapeError(
            f"cdist: needs (..., n, d) and (..., m, d) of one d; received {a.shape} and {b.shape}"
        )
    if not p >= 0:
        raise ArgumentError(f"cdist: p is a number from 0; received {p!r}")
    gaps: Any = unsqueeze(a, -2) - unsqueeze(b, -3)
    return vector_norm(gaps, p, -1)


@torch_names
def renorm(x: TensorLike, p: float, axis: int, maxnorm: float) -> Tensor:
    """x with every slice along `axis` whose p-norm exceeds `maxnorm` scaled down to it.

    >>> import fathom
    >>> fathom.renorm(fathom.tensor([[3.0, 4.0], [0.3, 0.4]]), 2, 0, 1.0)
    tensor([[0.6, 0.8],
            [0.3, 0.4]])
    """
    a: Any = operand(x, "renorm")
    floats("renorm", a)
    if a.ndim < 2:
        raise ShapeError(f"renorm: needs at least two axes; received shape {a.shape}")
    if maxnorm < 0 or not p > 0:
        raise ArgumentError(f"renorm: p > 0 and maxnorm >= 0; received {p} and {maxnorm}")
    where = one_axis(axis, a.ndim, "renorm")
    size: Any = vector_norm(a, p, tuple(i for i in range(a.ndim) if i != where), True)
    return a * safe_where(size > maxnorm, lambda s: maxnorm / (s + 1e-7), size, 1.0)
